// Problem families of the dense ops: matrix products, convolutions, pointwise.

#include <utility>

#include "problems.h"
#include "reid/engine/op_args_rate.h"

namespace reid::test {
namespace {

void matmul_as(const ProblemLine& line, bool other_sums, Sweep& sweep) {
  using F = Field<GemmArgs>;
  GemmArgs a{};
  a.m = line.at("m"), a.n = line.at("n"), a.k = line.at("k");
  a.transpose_a = line.get("ta", 0) != 0, a.transpose_b = line.get("tb", 0) != 0, a.accumulate = line.get("add", 0) != 0;
  a.other_sums = other_sums;
  Problem<Gemm> p{.args = a, .fields = {}, .bound = {}, .exact_on_integers = true};
  p.fields = {{"a", F::input, &GemmArgs::a, a.transpose_a ? Shape{a.k, a.m} : Shape{a.m, a.k}},
              {"b", F::input, &GemmArgs::b, a.transpose_b ? Shape{a.n, a.k} : Shape{a.k, a.n}},
              {"c", a.accumulate ? F::wide_both : F::wide_output, &GemmArgs::c, {a.m, a.n}}};
  p.bound = sum_bound(p, static_cast<double>((other_sums ? 6 : 1) * (a.k + 1)));  // products of parts are six terms
  check_problem(p, line, sweep);
}
void matmul(const ProblemLine& line, Sweep& sweep) {
  for (const bool other_sums : {false, true}) matmul_as(line, other_sums, sweep);
}

// In the extents that kernels take.
void repeated(const ProblemLine& line, Sweep& sweep) {
  using F = Field<RepeatedProductArgs>;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    RepeatedProductArgs a{};
    a.tiles = line.at("tiles"), a.rounds = line.at("rounds"), a.m = RepeatedProduct::kM, a.n = RepeatedProduct::kN;
    a.k = RepeatedProduct::depth(dtype);
    Problem<RepeatedProduct> p{.args = a, .fields = {}, .bound = {}, .exact_on_integers = true};
    p.fields = {{"a", F::input, &RepeatedProductArgs::a, {a.m, a.k}},
                {"b", F::input, &RepeatedProductArgs::b, {a.k, a.n}},
                {"c", F::wide_output, &RepeatedProductArgs::c, {a.tiles, a.m, a.n}}};
    p.bound = sum_bound(p, static_cast<double>(a.k * a.rounds + 1));
    check_problem(p, line, sweep);
  }
}

ConvShape conv_shape(const ProblemLine& line) {
  ConvShape s{
      .n = line.at("n"), .h = line.at("h"), .w = line.at("w"), .c = line.at("c"), .k = line.at("k"), .r = line.at("r"), .s = line.at("s")};
  const int64_t stride = line.get("stride", 1), pad = line.get("pad", 0), dilation = line.get("dilation", 1);
  s.stride[0] = stride, s.stride[1] = line.get("stride_w", stride);
  s.pad[0] = pad, s.pad[1] = line.get("pad_w", pad);
  s.dilation[0] = dilation, s.dilation[1] = line.get("dilation_w", dilation);
  s.groups = line.get("groups", 1);
  return s;
}

// Every element with the largest bound of its output: other sums than the definition's mix neighboring outputs.
Bound largest_bound(Bound bound) {
  return [bound](const Values& inputs, const Values& oracle) {
    Values bounds = bound(inputs, oracle);
    for (auto& [name, values] : bounds) {
      if (!values.empty()) std::fill(values.begin(), values.end(), *std::max_element(values.begin(), values.end()));
    }
    return bounds;
  };
}

// Of the sums of d = dx over rows of `channels`, and of d z. Errors of single d are independent and add up by their squares: twice what
// bounds.dx allows one, and five times half a unit of bf16 (2^-9 = 2^15 u), whose even spread has a deviation of 0.58: about eight
// deviations of either. The sum's own roundings are as in sum_bound, with a few of z.
void bound_sums(Values& bounds, const Values& in, const Values& oracle, int64_t channels, DType dtype) {
  const auto at = [](const Values& v, const char* name, int64_t i) { return v.at(name)[static_cast<size_t>(i)]; };
  const auto count = static_cast<int64_t>(oracle.at("dx").size());
  const double terms = 4 * std::sqrt(static_cast<double>(count / channels)) + 12, rounding = dtype == DType::bf16 ? 0x1p15 : 0;
  for (int64_t c = 0; c < channels; ++c) {
    const double inverse = 1 / std::sqrt(at(in, "variance", c) + 1e-5);
    double off = 0, off_dot = 0, sum = 0, dot = 0;  // squares of errors, and magnitudes
    for (int64_t i = c; i < count; i += channels) {
      const double d = std::abs(at(oracle, "dx", i)), z = std::abs(at(in, "norm_x", i) - at(in, "mean", c)) * inverse;
      const double e = d == 0 ? 0 : 2 * at(bounds, "dx", i) + 5 * rounding * d;
      off += e * e, off_dot += e * e * z * z;
      sum += d, dot += d * (std::abs(at(in, "norm_x", i)) + std::abs(at(in, "mean", c))) * inverse;
    }
    bounds["dbeta"][static_cast<size_t>(c)] = std::sqrt(off) + terms * sum;
    bounds["dgamma"][static_cast<size_t>(c)] = std::sqrt(off_dot) + terms * dot;
  }
}

// The data's gradient that a norm before the convolution turns to its own sums.
void norm_sums_problem(Problem<ConvBackwardData> p, const Shape& x, const ProblemLine& line, Sweep& sweep) {
  using A = ConvBackwardDataArgs;
  using F = Field<A>;
  const Shape channels{x[3]};
  p.exact_on_integers = false;
  p.args.norm.eps = 1e-5;
  p.fields.push_back({"norm_x", F::input, [](A& a, void* data) { a.norm.x = data; }, x});
  p.fields.push_back({"norm_y", F::input, [](A& a, void* data) { a.norm.y = data; }, x});
  p.fields.push_back({"mean", F::wide_input, [](A& a, void* data) { a.norm.mean = data; }, channels});
  p.fields.push_back({"variance", F::wide_input, [](A& a, void* data) { a.norm.variance = data; }, channels, Content::positive});
  p.fields.push_back({"dgamma", F::wide_output, [](A& a, void* data) { a.norm.dgamma = data; }, channels});
  p.fields.push_back({"dbeta", F::wide_output, [](A& a, void* data) { a.norm.dbeta = data; }, channels});
  const double window = static_cast<double>(p.args.shape.r * p.args.shape.s * (p.args.shape.k / p.args.shape.groups));
  const Bound products = sum_bound(p, window + 1);
  for (const DType dtype : {DType::f32, DType::bf16}) {
    p.bound = [=](const Values& in, const Values& oracle) {
      Values bounds = products(in, oracle);
      bound_sums(bounds, in, oracle, x[3], dtype);
      return bounds;
    };
    if (dtype == DType::f32 || line.get("bf16", 0) != 0) check_problem_in(dtype, p, line, sweep);
  }
}

void conv_problems(const ConvShape& s, const ProblemLine& line, Sweep& sweep) {
  // Minimal filtering's transforms add the roundings of their 36 positions.
  const auto allowed = [&](auto problem, double terms) {
    return s.other_sums ? largest_bound(sum_bound(problem, terms + 36)) : sum_bound(problem, terms);
  };
  const Shape x{s.n, s.h, s.w, s.c}, w{s.k, s.r, s.s, s.c / s.groups}, y{s.n, s.p(), s.q(), s.k};
  const double window = static_cast<double>(s.r * s.s);
  {
    using A = ConvForwardArgs;
    Problem<ConvForward> p{.args = {}, .fields = {}, .bound = {}, .exact_on_integers = !s.other_sums};
    p.args.shape = s;
    p.fields = {{"x", Field<A>::input, &A::x, x}, {"w", Field<A>::input, &A::w, w}, {"y", Field<A>::output, &A::y, y}};
    p.bound = allowed(p, window * static_cast<double>(s.c / s.groups));
    check_problem(p, line, sweep);
  }
  {
    using A = ConvBackwardDataArgs;
    Problem<ConvBackwardData> p{.args = {}, .fields = {}, .bound = {}, .exact_on_integers = !s.other_sums};
    p.args.shape = s;
    p.fields = {{"dy", Field<A>::input, &A::dy, y}, {"w", Field<A>::input, &A::w, w}, {"dx", Field<A>::output, &A::dx, x}};
    p.bound = allowed(p, window * static_cast<double>(s.k / s.groups));
    check_problem(p, line, sweep);
    if (line.get("add", 0) != 0) {
      p.fields.push_back({"addend", Field<A>::input, &A::addend, x});
      p.bound = allowed(p, window * static_cast<double>(s.k / s.groups) + 1);
      check_problem(p, line, sweep);
      norm_sums_problem(p, x, line, sweep);
    }
  }
  {
    using A = ConvBackwardWeightArgs;
    Problem<ConvBackwardWeight> p{.args = {}, .fields = {}, .bound = {}, .exact_on_integers = !s.other_sums};
    p.args.shape = s;
    p.fields = {{"x", Field<A>::input, &A::x, x}, {"dy", Field<A>::input, &A::dy, y}, {"dw", Field<A>::wide_output, &A::dw, w}};
    p.bound = allowed(p, static_cast<double>(s.n * s.p() * s.q()));
    check_problem(p, line, sweep);
  }
}

void conv(const ProblemLine& line, Sweep& sweep) {
  ConvShape s = conv_shape(line);
  const auto preferred = [&] {
    return std::string_view(Registry::pick<ConvForward>(DeviceType::cpu, {nullptr, nullptr, nullptr, s, DType::f32}).name);
  };
  const std::string_view defined = preferred();
  conv_problems(s, line, sweep);
  s.other_sums = true;
  if (preferred() == defined) return;
  const bool references = std::exchange(sweep.references, false);  // they have run already
  conv_problems(s, line, sweep);
  sweep.references = references;
}

// --- statistics taken by a convolution ---

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

// One implementation: y has the bits of the convolution alone, and the statistics are right, alone in memory and, asked to repeat them, the
// same in every way.
std::string wrong_behind(const Impl<ConvForward>& impl, Device device, ConvForwardArgs args, const Tensor& y,
                         const std::vector<NormWindow>& windows, bool repeat) {
  constexpr int64_t kGuard = 64;
  constexpr double kGuardValue = -7;
  std::vector<Tensor> memory;  // mean, variance of each window, between guards
  const auto place = [&](const NormWindow& w) -> void* {
    memory.push_back(Tensor::full({w.groups * w.count + 2 * kGuard}, kGuardValue, DType::f32, device));
    return static_cast<float*>(memory.back().raw()) + kGuard;
  };
  const auto values = [](const Tensor& t) { return detail::read(t.to(Device{}).raw(), t.numel(), t.dtype()); };
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
  if (first[0] != alone) return "y differs from the convolution's alone";
  for (size_t i = 0; i < windows.size(); ++i) {
    std::string wrong = wrong_statistics(alone, windows[i], inner(first[2 * i + 1]), inner(first[2 * i + 2]));
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

// How many of the emulated kernels take them.
int64_t statistics_in(DType dtype, const ProblemLine& line, Sweep& sweep) {
  const ConvShape s = conv_shape(line);
  int64_t takers = 0;
  for (const auto& [device, impl] : tried<ConvForward>()) {
    for (const Fill fill : {Fill::integers, Fill::normal}) {
      const std::string id = detail::only("conv_statistics", impl.name, fill, dtype, line);
      if (!detail::wanted(id)) continue;
      Tensor x = Tensor::empty({s.n, s.h, s.w, s.c}, dtype), w = Tensor::empty({s.k, s.r, s.s, s.c / s.groups}, dtype);
      detail::fill(line.text + "x", Content::any, fill, x.shape(), dtype, x.raw());
      detail::fill(line.text + "w", Content::any, fill, w.shape(), dtype, w.raw());
      if (line.get("offset", 0) != 0) fill_offset(s, x, w);
      const Tensor there = x.to(device), filters = w.to(device), y = Tensor::empty({s.n, s.p(), s.q(), s.k}, dtype, device);
      const ConvForwardArgs args{.x = there.raw(), .w = filters.raw(), .y = y.raw(), .shape = s, .dtype = dtype};
      if (impl.refuses && impl.refuses(args)) continue;
      const std::string wrong =
          detail::found([&] { return wrong_behind(impl, device, args, y, windows_of(s, line), fill == Fill::normal); });
      if (wrong == "refused") continue;
      takers += emulated(impl.name) && fill == Fill::normal;
      ++sweep.ran[str("conv_statistics ", impl.name, " ", dtype)];
      if (!wrong.empty()) detail::report(id, wrong);
    }
  }
  return takers;
}

// With conv's keys and those of windows_of. f32, bf16: how many of the emulated kernels must take them. offset: see fill_offset.
void conv_statistics(const ProblemLine& line, Sweep& sweep) {
  if (!sweep.runs) return;
  initialize();
  const auto kernels = tried<ConvForward>();
  const bool counts = std::ranges::any_of(kernels, [](const auto& k) { return emulated(k.second.name); }) && !std::getenv("REID_ONLY");
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const int64_t takers = statistics_in(dtype, line, sweep);
    if (counts) CHECK_MESSAGE(takers == line.at(name_of(dtype)), line.text, ": ", takers, " emulated kernels take statistics in ", dtype);
  }
}

void codes(const ProblemLine& line, Sweep& sweep) {
  using A = CodeProductsArgs;
  // The order of all roundings is part of the definition.
  Problem<CodeProducts> p{.args = {}, .fields = {}, .bound = [](const Values&, const Values&) { return Values(); }};
  p.args.m = line.at("m"), p.args.n = line.at("n"), p.args.k = line.at("k");
  p.fields = {{"a", Field<A>::input, &A::a, {p.args.m, p.args.k}, Content::any, DType::i16},
              {"b", Field<A>::input, &A::b, {p.args.n, p.args.k}, Content::any, DType::i16},
              {"scale_a", Field<A>::input, &A::scale_a, {p.args.m}, Content::any, DType::f32},
              {"scale_b", Field<A>::input, &A::scale_b, {p.args.n}, Content::any, DType::f32},
              {"c", Field<A>::output, &A::c, {p.args.m, p.args.n}, Content::any, DType::f32}};
  check_problem(p, line, sweep);
}

// Nothing may be rounded: outputs are inputs or zero.
Values no_error(const Values&, const Values& oracle) {
  Values bounds = oracle;
  for (auto& [name, values] : bounds) std::fill(values.begin(), values.end(), 0.0);
  return bounds;
}

void pointwise(const ProblemLine& line, Sweep& sweep) {
  const int64_t count = line.at("count");
  {
    using A = ReluArgs;
    Problem<Relu> p{
        .args = {}, .fields = {{"x", Field<A>::input, &A::x, {count}}, {"y", Field<A>::output, &A::y, {count}}}, .bound = no_error};
    p.args.count = count;
    check_problem(p, line, sweep);
  }
  {
    using A = ReluBackwardArgs;
    Problem<ReluBackward> p{.args = {}, .fields = {}, .bound = no_error};
    p.args.count = count;
    p.fields = {
        {"dy", Field<A>::input, &A::dy, {count}}, {"y", Field<A>::input, &A::y, {count}}, {"dx", Field<A>::output, &A::dx, {count}}};
    check_problem(p, line, sweep);
  }
  using A = AddScaledArgs;
  Problem<AddScaled> p{.args = {}, .fields = {}, .bound = {}, .exact_on_integers = true, .in_place = {{"y", "a"}, {"y", "b"}}};
  p.args.count = count;
  p.args.scale = line.real("scale", 1);
  p.fields = {{"a", Field<A>::input, &A::a, {count}}, {"b", Field<A>::input, &A::b, {count}}, {"y", Field<A>::output, &A::y, {count}}};
  p.exact_on_integers = p.args.scale == std::floor(p.args.scale);
  p.bound = [scale = std::abs(p.args.scale)](const Values& in, const Values&) {
    Values bounds{{"y", in.at("a")}};
    // A rounded scale, its product and the sum.
    for (size_t i = 0; i < in.at("a").size(); ++i) bounds["y"][i] = 2 * std::abs(in.at("a")[i]) + 4 * scale * std::abs(in.at("b")[i]);
    return bounds;
  };
  check_problem(p, line, sweep);
}

void bias(const ProblemLine& line, Sweep& sweep) {
  const int64_t rows = line.at("rows"), columns = line.at("columns");
  {
    using A = BiasAddArgs;
    Problem<BiasAdd> p{.args = {}, .fields = {}, .bound = {}, .exact_on_integers = true, .in_place = {{"y", "x"}}};
    p.args.rows = rows, p.args.columns = columns;
    p.fields = {{"x", Field<A>::input, &A::x, {rows, columns}},
                {"bias", Field<A>::wide_input, &A::bias, {columns}},
                {"y", Field<A>::output, &A::y, {rows, columns}}};
    p.bound = sum_bound(p, 1);
    check_problem(p, line, sweep);
  }
  using A = ColumnSumArgs;
  Problem<ColumnSum> p{.args = {}, .fields = {}, .bound = {}, .exact_on_integers = true};
  p.args.rows = rows, p.args.columns = columns;
  p.fields = {{"x", Field<A>::input, &A::x, {rows, columns}}, {"y", Field<A>::wide_output, &A::y, {columns}}};
  p.bound = sum_bound(p, static_cast<double>(rows));
  check_problem(p, line, sweep);
}

void cast(const ProblemLine& line, Sweep& sweep) {
  using A = CastArgs;
  const int64_t count = line.at("count");
  for (const auto& [from, to] : {std::pair{DType::f32, DType::bf16}, {DType::bf16, DType::f32}}) {
    // The rounding is the definition.
    Problem<Cast> p{.args = {}, .fields = {}, .bound = [](const Values&, const Values&) { return Values(); }};
    p.args.count = count, p.args.from = from, p.args.to = to;
    p.fields = {{"x", Field<A>::input, &A::x, {count}, Content::any, from}, {"y", Field<A>::output, &A::y, {count}, Content::any, to}};
    check_problem(p, line, sweep);
  }
}

}  // namespace

Families dense_families() {
  return {{"matmul", matmul}, {"repeated", repeated},   {"conv", conv}, {"conv_statistics", conv_statistics},
          {"codes", codes},   {"pointwise", pointwise}, {"bias", bias}, {"cast", cast}};
}

}  // namespace reid::test
