// Problem families of convolutions that do more with their results on the way to memory: take statistics of them, or have them pass a
// norm. With error bounds.

#include "problems.h"

namespace reid::test {
namespace {

std::vector<double> values(const Tensor& t) { return detail::read(t.to(Device{}).raw(), t.numel(), t.dtype()); }

// --- statistics ---

// Windows of y's channels: [0, instance) with each image a group, if any; the others with `norm_groups` groups of images.
std::vector<NormWindow> windows_of(const ConvShape& s, const ProblemLine& line) {
  const int64_t rows = s.n * s.p() * s.q(), instance = line.get("instance", 0), groups = line.get("norm_groups", 1);
  std::vector<NormWindow> windows;
  if (instance > 0) windows.push_back({s.n, rows / s.n, s.k, 0, instance});
  windows.push_back({groups, rows / groups, s.k, instance, s.k - instance});
  return windows;
}

// x and w of a 1x1 convolution whose results are 129 to 248 and, in one pixel of 128, 1 more: exact in bf16, and their squares in f32, but
// the square of a mean is rounded by up to a quarter of the variance.
void fill_offset(const ConvShape& s, Tensor& x, Tensor& w) {
  const Tensor wide_x = Tensor::zeros(x.shape(), DType::f32), wide_w = Tensor::zeros(w.shape(), DType::f32);
  for (int64_t i = 0; i < s.n * s.h * s.w; ++i)
    wide_x.data<float>()[i * s.c] = 1, wide_x.data<float>()[i * s.c + 1] = i % 128 == 5 ? 1.0f : 0.0f;
  for (int64_t k = 0; k < s.k; ++k) {
    wide_w.data<float>()[k * s.c] = static_cast<float>(129 + k % 120), wide_w.data<float>()[k * s.c + 1] = 1;
  }
  x = ops::cast(wide_x, x.dtype()), w = ops::cast(wide_w, w.dtype());
}

// What is wrong with statistics of y, which is exact: they are those of what was stored. With u = 2^-24:
// Merging m values takes log2 m <= `levels` roundings of a mean on the way of each, each of at most u times the mean there: what comes out
// is off by e = (4 sqrt(levels) + 4) u rms(y) (as in sum_bound). The squares of differences of means are then wrong by 2 d e + e^2 for
// a difference d; all of them together, weighted, are the variance v, a level's weights at most 1: 2 sqrt(levels v) e + levels e^2, beside
// the roundings of the sum itself.
std::string wrong_statistics(const std::vector<double>& y, const NormWindow& w, const std::vector<double>& mean,
                             const std::vector<double>& variance) {
  const auto length = static_cast<double>(w.length);
  // 128 rows of a block; 64 slices; within them the row blocks in order.
  const double levels = 7 + 6 + std::ceil(length / (64 * 64)), spread = 4 * std::sqrt(levels) + 4, u = 0x1p-24;
  for (int64_t i = 0; i < w.groups * w.count; ++i) {
    double m = 0, v = 0;
    const auto each = [&](auto f) {
      for (int64_t l = 0; l < w.length; ++l) f(y[static_cast<size_t>((i / w.count * w.length + l) * w.channels + w.first + i % w.count)]);
    };
    each([&](double value) { m += value / length; });
    each([&](double value) { v += (value - m) * (value - m) / length; });
    const double e = spread * u * std::sqrt(m * m + v), around = 2 * std::sqrt(levels * v) * e + levels * e * e + (spread + 8) * u * v;
    const double got_m = mean[static_cast<size_t>(i)], got_v = variance[static_cast<size_t>(i)];
    if (!(std::abs(got_m - m) <= e)) return str("mean ", i, ": ", got_m, ", expected ", m, " within ", e);
    if (!(std::abs(got_v - v) <= around)) return str("variance ", i, ": ", got_v, ", expected ", v, " within ", around);
  }
  return "";
}

// Loose ones (VendorAllows) are of sums in f32 in any order, of values that may not be rounded yet: each by half an ulp of bf16.
std::string wrong_loose_statistics(const std::vector<double>& y, const NormWindow& w, DType dtype, const std::vector<double>& mean,
                                   const std::vector<double>& variance) {
  const auto length = static_cast<double>(w.length);
  const double share = (4 * std::sqrt(length) + 4) * 0x1p-24 + (dtype == DType::bf16 ? 0x1p-9 : 0);
  for (int64_t c = 0; c < w.count; ++c) {
    double m = 0, q = 0;
    for (int64_t l = 0; l < w.length; ++l) {
      const double value = y[static_cast<size_t>(l * w.channels + w.first + c)];
      m += value / length, q += value * value / length;
    }
    const double e = share * std::sqrt(q), around = (2 * share + share * share) * q + 2 * std::abs(m) * e + e * e;
    const double got_m = mean[static_cast<size_t>(c)], got_v = variance[static_cast<size_t>(c)];
    if (!(std::abs(got_m - m) <= e)) return str("mean ", c, ": ", got_m, ", expected ", m, " within ", e);
    if (!(std::abs(got_v - (q - m * m)) <= around)) return str("variance ", c, ": ", got_v, ", expected ", q - m * m, " within ", around);
  }
  return "";
}

// A library of somebody else's, whose statistics are loose: with them y may come of another engine, which adds in another order.
bool loose(const Impl<ConvForward>& impl) { return std::string_view(impl.name).ends_with("cudnn"); }

// One implementation: y has the bits of the convolution alone, and the statistics are right, alone in memory and, asked to repeat them, the
// same in every way.
std::string wrong_taken(const Impl<ConvForward>& impl, Device device, ConvForwardArgs args, const Tensor& y,
                        const std::vector<NormWindow>& windows, bool repeat) {
  constexpr int64_t kGuard = 64;
  constexpr double kGuardValue = -7;
  std::vector<Tensor> memory;  // mean, variance of each window, between guards
  const auto place = [&](const NormWindow& w) -> void* {
    memory.push_back(Tensor::full({w.groups * w.count + 2 * kGuard}, kGuardValue, DType::f32, device));
    return static_cast<float*>(memory.back().raw()) + kGuard;
  };
  const auto inner = [](const std::vector<double>& all) { return std::vector<double>(all.begin() + kGuard, all.end() - kGuard); };
  const auto run = [&](const ConvForwardArgs& a) {
    y.fill(std::numeric_limits<double>::quiet_NaN());
    impl.run(a, current_stream(device));
    return values(y);
  };
  const std::vector<double> alone = run(args);
  for (size_t i = 0; i < windows.size(); ++i) {
    void *mean = place(windows[i]), *variance = place(windows[i]);
    args.statistics[i] = {.x = y.raw(), .mean = mean, .variance = variance, .window = windows[i], .dtype = args.dtype};
  }
  if (impl.refuses && impl.refuses(args)) return "refused";
  const auto taken = [&] {
    std::vector<std::vector<double>> all{run(args)};
    for (const Tensor& t : memory) all.push_back(values(t)), t.fill(kGuardValue);
    return all;
  };
  const std::vector<std::vector<double>> first = taken();
  if (first[0] != alone && !(loose(impl) && repeat)) return "y differs from the convolution's alone";
  for (size_t i = 0; i < windows.size(); ++i) {
    const std::vector<double> mean = inner(first[2 * i + 1]), variance = inner(first[2 * i + 2]);
    std::string wrong = loose(impl) ? wrong_loose_statistics(first[0], windows[i], args.dtype, mean, variance)
                                    : wrong_statistics(first[0], windows[i], mean, variance);
    if (!wrong.empty()) return wrong;
  }
  for (size_t i = 1; i < first.size(); ++i) {
    for (int64_t g = 0; g < kGuard; ++g) {
      const bool intact =
          first[i][static_cast<size_t>(g)] == kGuardValue && first[i][first[i].size() - 1 - static_cast<size_t>(g)] == kGuardValue;
      if (!intact) return "wrote outside of the statistics' memory";
    }
  }
  return !repeat ? "" : detail::in_other_ways(impl.name, [&] { return taken() == first ? "" : std::string("other bits "); });
}

// --- a norm ---

struct Norm {
  Tensor mean, variance, gamma, beta, residual;  // [K] f32; residual like y, or undefined
};

Norm norm_of(const ProblemLine& line, Fill fill, const ConvShape& s, DType dtype) {
  const auto filled = [&](const char* name, const Shape& shape, DType type, Content content = Content::any) {
    Tensor t = Tensor::empty(shape, type);
    detail::fill(line.text + name, content, fill, shape, type, t.raw());
    return t;
  };
  const Shape channels{s.k};
  return {filled("mean", channels, DType::f32), filled("variance", channels, DType::f32, Content::positive),
          filled("gamma", channels, DType::f32), filled("beta", channels, DType::f32),
          line.get("residual", 0) != 0 ? filled("residual", {s.n, s.p(), s.q(), s.k}, dtype) : Tensor()};
}

// Whether what is stored may come of a value from low to high.
template <class T>
bool rounded_from(double low, double high, double stored) {
  return stored >= double{static_cast<T>(low)} && stored <= double{static_cast<T>(high)};
}

// Against what the norm makes of the convolution's own result in double; f32 rounds seven times on the way.
std::string wrong_finish(const std::vector<double>& alone, const std::vector<double>& got, const Norm& n, bool relu, DType dtype) {
  const std::vector<double> mean = values(n.mean), variance = values(n.variance), gamma = values(n.gamma), beta = values(n.beta);
  const std::vector<double> residual = n.residual.defined() ? values(n.residual) : std::vector<double>(alone.size());
  for (size_t i = 0; i < alone.size(); ++i) {
    const size_t c = i % mean.size();
    const double scale = gamma[c] / std::sqrt(variance[c] + 1e-5), value = (alone[i] - mean[c]) * scale + beta[c] + residual[i];
    const double reach = (std::abs(alone[i]) + std::abs(mean[c])) * std::abs(scale) + std::abs(beta[c]) + std::abs(residual[i]);
    const auto passed = [&](double v) { return relu ? std::max(v, 0.0) : v; };
    const double low = passed(value - 8 * 0x1p-24 * reach), high = passed(value + 8 * 0x1p-24 * reach);
    const bool right = dtype == DType::bf16 ? rounded_from<bf16>(low, high, got[i]) : rounded_from<float>(low, high, got[i]);
    if (!right) return str("y[", i, "]: got ", got[i], ", expected ", low, " to ", high, ", rounded");
  }
  return "";
}

// One implementation: "refused", "", or what is wrong; asked to repeat, in every way.
std::string wrong_finished(const Impl<ConvForward>& impl, Device device, ConvForwardArgs args, const Tensor& y, const Norm& n, bool relu,
                           bool repeat) {
  const auto run = [&](const ConvForwardArgs& a) {
    y.fill(std::numeric_limits<double>::quiet_NaN());
    impl.run(a, current_stream(device));
    return values(y);
  };
  const std::vector<double> alone = run(args);
  const Tensor mean = n.mean.to(device), variance = n.variance.to(device), gamma = n.gamma.to(device), beta = n.beta.to(device);
  const Tensor residual = n.residual.defined() ? n.residual.to(device) : Tensor();
  args.finish = {mean.raw(), variance.raw(), gamma.raw(), beta.raw(), residual.raw(), 1e-5, relu};
  if (impl.refuses && impl.refuses(args)) return "refused";
  ConvForwardArgs both = args;
  both.statistics[0].x = args.y;
  if (emulated(impl.name) && !impl.refuses(both)) return "would also take statistics, which no kernel can";
  const std::vector<double> first = run(args);
  const std::string wrong = wrong_finish(alone, first, n, relu, args.dtype);
  if (!wrong.empty() || !repeat) return wrong;
  return detail::in_other_ways(impl.name, [&] { return run(args) == first ? "" : std::string("other bits "); });
}

// --- both ---

// Says of one implementation's call what is wrong, "" or "refused".
using Trial = std::function<std::string(const Impl<ConvForward>&, Device, const ConvForwardArgs&, const Tensor& y, Fill)>;

// Every implementation on both fills. -> how many of the emulated kernels take it.
int64_t takers_in(DType dtype, const ProblemLine& line, const Trial& wrong_in, Sweep& sweep) {
  const ConvShape s = conv_shape(line);
  int64_t takers = 0;
  for (const auto& one : tried<ConvForward>()) {
    const Device device = one.first;
    const Impl<ConvForward>& impl = one.second;
    for (const Fill fill : {Fill::integers, Fill::normal}) {
      const std::string id = detail::only(line.family.c_str(), impl.name, fill, dtype, line);
      if (!detail::wanted(id)) continue;
      Tensor x = Tensor::empty({s.n, s.h, s.w, s.c}, dtype), w = Tensor::empty({s.k, s.r, s.s, s.c / s.groups}, dtype);
      detail::fill(line.text + "x", Content::any, fill, x.shape(), dtype, x.raw());
      detail::fill(line.text + "w", Content::any, fill, w.shape(), dtype, w.raw());
      if (line.get("offset", 0) != 0) fill_offset(s, x, w);
      const Tensor there = x.to(device), filters = w.to(device), y = Tensor::empty({s.n, s.p(), s.q(), s.k}, dtype, device);
      const ConvForwardArgs args{.x = there.raw(), .w = filters.raw(), .y = y.raw(), .shape = s, .dtype = dtype};
      if (impl.refuses && impl.refuses(args)) continue;
      const std::string wrong = detail::found([&] { return wrong_in(impl, device, args, y, fill); });
      if (wrong == "refused") continue;
      takers += emulated(impl.name) && !loose(impl) && fill == Fill::normal;
      ++sweep.ran[str(line.family, " ", impl.name, " ", dtype)];
      if (!wrong.empty()) detail::report(id, wrong);
    }
  }
  return takers;
}

// With conv's keys. f32, bf16: how many of the emulated kernels must take it. offset: see fill_offset.
void check_behind(const ProblemLine& line, const Trial& wrong_in, Sweep& sweep) {
  if (!sweep.runs) return;
  initialize();
  const auto kernels = tried<ConvForward>();
  const bool counts = std::ranges::any_of(kernels, [](const auto& k) { return emulated(k.second.name); }) && !std::getenv("REID_ONLY");
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t takers = takers_in(dtype, line, wrong_in, sweep);
    if (counts) CHECK_MESSAGE(takers == line.at(name_of(dtype)), line.text, ": ", takers, " emulated kernels take it in ", dtype);
  }
}

// With the keys of windows_of.
void conv_statistics(const ProblemLine& line, Sweep& sweep) {
  const std::vector<NormWindow> windows = windows_of(conv_shape(line), line);
  check_behind(
      line,
      [&](const Impl<ConvForward>& impl, Device device, const ConvForwardArgs& args, const Tensor& y, Fill fill) {
        return wrong_taken(impl, device, args, y, windows, fill == Fill::normal);
      },
      sweep);
}

// With residual and relu.
void conv_finish(const ProblemLine& line, Sweep& sweep) {
  const bool relu = line.get("relu", 0) != 0;
  check_behind(
      line,
      [&](const Impl<ConvForward>& impl, Device device, const ConvForwardArgs& args, const Tensor& y, Fill fill) {
        return wrong_finished(impl, device, args, y, norm_of(line, fill, args.shape, args.dtype), relu, fill == Fill::normal);
      },
      sweep);
}

}  // namespace

Families behind_families() { return {{"conv_statistics", conv_statistics}, {"conv_finish", conv_finish}}; }

}  // namespace reid::test
