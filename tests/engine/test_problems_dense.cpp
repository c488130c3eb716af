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
  const Shape bits{x[0] * x[1] * x[2], x[3] / 8};
  p.fields.push_back({"positive", F::input, [](A& a, void* data) { a.norm.positive = data; }, bits, Content::any, DType::u8});
  p.adjust = [bits](Run& run, DType) {
    auto* const byte = static_cast<uint8_t*>(run.memory.at("positive").data());
    Rng rng(11);
    for (int64_t i = 0; i < bits.numel(); ++i) byte[i] = static_cast<uint8_t>(rng.below(256));
  };
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
      if (s.c % 8 == 0) norm_sums_problem(p, x, line, sweep);
    }
  }
  {
    using A = ConvBackwardWeightArgs;
    Problem<ConvBackwardWeight> p{.args = {}, .fields = {}, .bound = {}, .exact_on_integers = !s.other_sums};
    p.args.shape = s;
    p.fields = {{"x", Field<A>::input, &A::x, x}, {"dy", Field<A>::input, &A::dy, y}, {"dw", Field<A>::wide_output, &A::dw, w}};
    p.bound = allowed(p, static_cast<double>(s.n * s.p() * s.q()));
    check_problem(p, line, sweep);
    if (line.get("add", 0) != 0) {
      p.args.accumulate = true;
      p.fields.back().kind = Field<A>::wide_both;
      p.bound = allowed(p, static_cast<double>(s.n * s.p() * s.q()) + 1);
      check_problem(p, line, sweep);
    }
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

Families dense_families() {
  return {{"matmul", matmul},       {"repeated", repeated}, {"conv", conv}, {"codes", codes},
          {"pointwise", pointwise}, {"bias", bias},         {"cast", cast}};
}

}  // namespace reid::test
