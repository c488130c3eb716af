// Problem family of convolutions whose result passes a norm on its way to memory.

#include "problems.h"

namespace reid::test {
namespace {

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

std::vector<double> values(const Tensor& t) { return detail::read(t.to(Device{}).raw(), t.numel(), t.dtype()); }

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
std::string wrong_behind(const Impl<ConvForward>& impl, Device device, ConvForwardArgs args, const Tensor& y, const Norm& n, bool relu,
                         bool repeat) {
  const auto run = [&](const ConvForwardArgs& a) {
    y.fill(std::numeric_limits<double>::quiet_NaN());
    impl.run(a, current_stream(device));
    return values(y);
  };
  const std::vector<double> alone = run(args);
  const Tensor mean = n.mean.to(device), variance = n.variance.to(device), gamma = n.gamma.to(device), beta = n.beta.to(device);
  const Tensor residual = n.residual.defined() ? n.residual.to(device) : Tensor();
  args.finish = {.mean = mean.raw(),
                 .variance = variance.raw(),
                 .gamma = gamma.raw(),
                 .beta = beta.raw(),
                 .residual = residual.raw(),
                 .eps = 1e-5,
                 .relu = relu};
  if (impl.refuses && impl.refuses(args)) return "refused";
  ConvForwardArgs both = args;
  both.statistics[0].x = args.y;
  if (emulated(impl.name) && !impl.refuses(both)) return "would also take statistics, which no kernel can";
  const std::vector<double> first = run(args);
  const std::string wrong = wrong_finish(alone, first, n, relu, args.dtype);
  if (!wrong.empty() || !repeat) return wrong;
  return detail::in_other_ways(impl.name, [&] { return run(args) == first ? "" : std::string("other bits "); });
}

// How many of the emulated kernels finish.
int64_t finished_in(DType dtype, const ProblemLine& line, Sweep& sweep) {
  const ConvShape s = conv_shape(line);
  int64_t takers = 0;
  for (const auto& one : tried<ConvForward>()) {
    const Device device = one.first;
    const Impl<ConvForward>& impl = one.second;
    for (const Fill fill : {Fill::integers, Fill::normal}) {
      const std::string id = detail::only("conv_finish", impl.name, fill, dtype, line);
      if (!detail::wanted(id)) continue;
      Tensor x = Tensor::empty({s.n, s.h, s.w, s.c}, dtype), w = Tensor::empty({s.k, s.r, s.s, s.c / s.groups}, dtype);
      detail::fill(line.text + "x", Content::any, fill, x.shape(), dtype, x.raw());
      detail::fill(line.text + "w", Content::any, fill, w.shape(), dtype, w.raw());
      const Norm norm = norm_of(line, fill, s, dtype);
      const Tensor there = x.to(device), filters = w.to(device), y = Tensor::empty({s.n, s.p(), s.q(), s.k}, dtype, device);
      const ConvForwardArgs args{.x = there.raw(), .w = filters.raw(), .y = y.raw(), .shape = s, .dtype = dtype};
      if (impl.refuses && impl.refuses(args)) continue;
      const bool relu = line.get("relu", 0) != 0;
      const std::string wrong = detail::found([&] { return wrong_behind(impl, device, args, y, norm, relu, fill == Fill::normal); });
      if (wrong == "refused") continue;
      takers += emulated(impl.name) && fill == Fill::normal;
      ++sweep.ran[str("conv_finish ", impl.name, " ", dtype)];
      if (!wrong.empty()) detail::report(id, wrong);
    }
  }
  return takers;
}

// With conv's keys, residual and relu. f32, bf16: how many of the emulated kernels must finish.
void conv_finish(const ProblemLine& line, Sweep& sweep) {
  if (!sweep.runs) return;
  initialize();
  const auto kernels = tried<ConvForward>();
  const bool counts = std::ranges::any_of(kernels, [](const auto& k) { return emulated(k.second.name); }) && !std::getenv("REID_ONLY");
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t takers = finished_in(dtype, line, sweep);
    if (counts) CHECK_MESSAGE(takers == line.at(name_of(dtype)), line.text, ": ", takers, " emulated kernels finish in ", dtype);
  }
}

}  // namespace

Families finish_families() { return {{"conv_finish", conv_finish}}; }

}  // namespace reid::test
