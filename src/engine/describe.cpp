// What each op's arguments are called, and their shapes.

#include <algorithm>

#include "reid/engine/registry.h"

#include "reid/engine/op_args_fused.h"
#include "reid/engine/op_args_pixels.h"
#include "reid/engine/op_args_rate.h"

namespace reid {

namespace {

void describe_conv(Visitor& v, const ConvShape& s) {
  v.attribute("stride_h", static_cast<double>(s.stride[0]));
  v.attribute("stride_w", static_cast<double>(s.stride[1]));
  v.attribute("pad_h", static_cast<double>(s.pad[0]));
  v.attribute("pad_w", static_cast<double>(s.pad[1]));
  v.attribute("dilation_h", static_cast<double>(s.dilation[0]));
  v.attribute("dilation_w", static_cast<double>(s.dilation[1]));
  v.attribute("groups", static_cast<double>(s.groups));
  v.attribute("other_sums", s.other_sums);
}
Shape x_shape(const ConvShape& s) { return {s.n, s.h, s.w, s.c}; }
Shape w_shape(const ConvShape& s) { return {s.k, s.r, s.s, s.c / s.groups}; }
Shape y_shape(const ConvShape& s) { return {s.n, s.p(), s.q(), s.k}; }

void describe_window(Visitor& v, const NormWindow& w) {
  v.attribute("first", static_cast<double>(w.first));
  v.attribute("count", static_cast<double>(w.count));
}
Shape x_shape(const NormWindow& w) { return {w.groups, w.length, w.channels}; }
Shape statistics_shape(const NormWindow& w) { return {w.groups, w.count}; }
void describe_slice(Visitor& v, const NormSlice& s, DType dtype) {
  if (s.window.count == 0) return;
  v.input("mean", s.mean, statistics_shape(s.window), wide(dtype));
  v.input("variance", s.variance, statistics_shape(s.window), wide(dtype));
  v.input("gamma", s.gamma, {s.window.count}, wide(dtype));
  v.input("beta", s.beta, {s.window.count}, wide(dtype));
  describe_window(v, s.window);
}

int64_t flat_extent(const Segment* segments, int64_t count) {
  int64_t extent = 0;
  for (int64_t i = 0; i < count; ++i) extent = std::max(extent, segments[i].offset + segments[i].count);
  return extent;
}

void describe_behind(Visitor& v, const StepBehind& b, void* g, const Shape& flat, DType dtype) {
  if (b.average) {
    v.attribute("average_momentum", b.momentum);
    v.output("average", b.average, flat, dtype);
  }
  if (b.rounded) v.output("rounded", b.rounded, flat, DType::bf16);
  if (b.average_rounded) v.output("average_rounded", b.average_rounded, flat, DType::bf16);
  if (b.clear) v.output("g", g, flat, dtype);
}

}  // namespace

void GemmArgs::describe(Visitor& v) const {
  v.input("a", a, transpose_a ? Shape{k, m} : Shape{m, k}, dtype);
  v.input("b", b, transpose_b ? Shape{n, k} : Shape{k, n}, dtype);
  v.attribute("transpose_a", transpose_a);
  v.attribute("transpose_b", transpose_b);
  v.attribute("accumulate", accumulate);
  v.attribute("other_sums", other_sums);
  v.output("c", c, {m, n}, wide(dtype));
}

void RepeatedProductArgs::describe(Visitor& v) const {
  v.input("a", a, {m, k}, dtype);
  v.input("b", b, {k, n}, dtype);
  v.attribute("rounds", static_cast<double>(rounds));
  v.output("c", c, {tiles, m, n}, wide(dtype));
}

void CodeProductsArgs::describe(Visitor& v) const {
  v.input("a", a, {m, k}, DType::i16);
  v.input("b", b, {n, k}, DType::i16);
  v.input("scale_a", scale_a, {m}, DType::f32);
  v.input("scale_b", scale_b, {n}, DType::f32);
  v.output("c", c, {m, n}, DType::f32);
}

NormApplyArgs ConvForwardArgs::finishing() const {
  const NormWindow all{.groups = 1, .length = shape.n * shape.p() * shape.q(), .channels = shape.k, .first = 0, .count = shape.k};
  const NormSlice slice{all, finish.mean, finish.variance, finish.gamma, finish.beta};
  return {.x = y, .slices = {slice}, .residual = finish.residual, .y = y, .eps = finish.eps, .relu = finish.relu, .dtype = dtype};
}
void ConvForwardArgs::describe(Visitor& v) const {
  v.input("x", x, x_shape(shape), dtype);
  v.input("w", w, w_shape(shape), dtype);
  describe_conv(v, shape);
  if (finish.mean) {
    describe_slice(v, finishing().slices[0], dtype);
    if (finish.residual) v.input("residual", finish.residual, y_shape(shape), dtype);
    v.attribute("eps", finish.eps);
    v.attribute("relu", finish.relu);
  }
  v.output("y", y, y_shape(shape), dtype);
  for (const NormStatisticsArgs& s : statistics) {
    if (!s.x) continue;
    v.attribute("statistics_groups", static_cast<double>(s.window.groups));
    v.attribute("statistics_first", static_cast<double>(s.window.first));
    v.attribute("statistics_count", static_cast<double>(s.window.count));
    v.output("mean", s.mean, statistics_shape(s.window), wide(dtype));
    v.output("variance", s.variance, statistics_shape(s.window), wide(dtype));
  }
}
void ConvBackwardDataArgs::describe(Visitor& v) const {
  v.input("dy", dy, y_shape(shape), dtype);
  v.input("w", w, w_shape(shape), dtype);
  describe_conv(v, shape);
  if (addend) v.input("addend", addend, x_shape(shape), dtype);
  v.output("dx", dx, x_shape(shape), dtype);
  if (!norm.x) return;
  v.input("norm_x", norm.x, x_shape(shape), dtype);
  v.input("positive", norm.positive, {shape.n * shape.h * shape.w, shape.c / 8}, DType::u8);
  v.input("mean", norm.mean, {shape.c}, wide(dtype));
  v.input("variance", norm.variance, {shape.c}, wide(dtype));
  v.attribute("eps", norm.eps);
  v.output("dgamma", norm.dgamma, {shape.c}, wide(dtype));
  v.output("dbeta", norm.dbeta, {shape.c}, wide(dtype));
}
void ConvBackwardWeightArgs::describe(Visitor& v) const {
  v.input("x", x, x_shape(shape), dtype);
  v.input("dy", dy, y_shape(shape), dtype);
  describe_conv(v, shape);
  v.attribute("accumulate", accumulate);
  v.output("dw", dw, w_shape(shape), wide(dtype));
}

void NormStatisticsArgs::describe(Visitor& v) const {
  v.input("x", x, x_shape(window), dtype);
  describe_window(v, window);
  v.output("mean", mean, statistics_shape(window), wide(dtype));
  v.output("variance", variance, statistics_shape(window), wide(dtype));
}
void NormApplyArgs::describe(Visitor& v) const {
  v.input("x", x, x_shape(slices[0].window), dtype);
  v.input("residual", residual, x_shape(slices[0].window), dtype);
  for (const NormSlice& slice : slices) describe_slice(v, slice, dtype);
  v.attribute("eps", eps);
  v.attribute("relu", relu);
  v.output("y", y, x_shape(slices[0].window), dtype);
  const NormWindow& w = slices[0].window;
  if (positive) v.output("positive", positive, {w.groups * w.length, w.channels / 8}, DType::u8);
}
void NormBackwardArgs::describe(Visitor& v) const {
  const Shape map = x_shape(slices[0].window), parameters{slices[0].window.count + slices[1].window.count};
  v.input("dy", dy, map, dtype);
  v.input("x", x, map, dtype);
  v.input("y", y, map, dtype);
  for (const NormSlice& slice : slices) describe_slice(v, slice, dtype);
  v.attribute("eps", eps);
  v.attribute("relu", relu);
  v.attribute("constant_statistics", constant_statistics[0]);
  if (slices[1].window.count > 0) v.attribute("second_constant_statistics", constant_statistics[1]);
  v.output("dx", dx, map, dtype);
  v.output("dresidual", dresidual, map, dtype);
  v.output("dgamma", dgamma, parameters, wide(dtype));
  v.output("dbeta", dbeta, parameters, wide(dtype));
}

void NormGradientArgs::describe(Visitor& v) const {
  v.input("d", d, {length, channels}, dtype);
  v.input("x", x, {length, channels}, dtype);
  for (const auto& [name, given] :
       {std::pair{"mean", mean}, {"variance", variance}, {"gamma", gamma}, {"dgamma", dgamma}, {"dbeta", dbeta}}) {
    v.input(name, given, {channels}, wide(dtype));
  }
  v.attribute("eps", eps);
  v.attribute("constant_statistics", constant_statistics);
  v.output("dx", dx, {length, channels}, dtype);
}

void ReluArgs::describe(Visitor& v) const {
  v.input("x", x, {count}, dtype);
  v.output("y", y, {count}, dtype);
}
void ReluBackwardArgs::describe(Visitor& v) const {
  v.input("dy", dy, {count}, dtype);
  v.input("y", y, {count}, dtype);
  v.output("dx", dx, {count}, dtype);
}
void AddScaledArgs::describe(Visitor& v) const {
  v.input("a", a, {count}, dtype);
  v.input("b", b, {count}, dtype);
  v.attribute("scale", scale);
  v.output("y", y, {count}, dtype);
}
void MultiplyArgs::describe(Visitor& v) const {
  v.input("a", a, {count}, dtype);
  v.input("b", b, {count}, dtype);
  v.output("y", y, {count}, dtype);
}
void BiasAddArgs::describe(Visitor& v) const {
  v.input("x", x, {rows, columns}, dtype);
  v.input("bias", bias, {columns}, wide(dtype));
  v.output("y", y, {rows, columns}, dtype);
}
void CastArgs::describe(Visitor& v) const {
  v.input("x", x, {count}, from);
  v.output("y", y, {count}, to);
}
void ColumnSumArgs::describe(Visitor& v) const {
  v.input("x", x, {rows, columns}, dtype);
  v.output("y", y, {columns}, wide(dtype));
}

void ViewsFromPixelsArgs::describe(Visitor& v) const {
  v.input("x", x, {n, h, w, 3}, DType::u8);
  v.input("views", views, {n, kPixelViewFields}, DType::i32);
  for (const auto& [name, values] : {std::pair{"mean", colors.mean}, {"std", colors.std}, {"fill", colors.fill}})
    for (int c = 0; c < 3; ++c) v.attribute(name, static_cast<double>(values[c]));
  v.output("y", y, {n, h, w, 3}, dtype);
}

void ColorPixelsArgs::describe(Visitor& v) const {
  v.input("x", x, {n, h, w, 3}, DType::u8);
  v.input("changes", changes, {n, kPixelChangeFields + weights}, DType::i32);
  v.output("y", y, {n, h, w, 3}, DType::u8);
}
void MirrorArgs::describe(Visitor& v) const {
  v.input("x", x, {n, h, w, c}, dtype);
  v.output("y", y, {n, h, w, c}, dtype);
}

void L2NormalizeArgs::describe(Visitor& v) const {
  v.input("x", x, {rows, columns}, dtype);
  v.attribute("eps", eps);
  v.output("y", y, {rows, columns}, dtype);
  v.output("norm", norm, {rows}, dtype);
}
void L2NormalizeBackwardArgs::describe(Visitor& v) const {
  v.input("dy", dy, {rows, columns}, dtype);
  v.input("y", y, {rows, columns}, dtype);
  v.input("norm", norm, {rows}, dtype);
  v.attribute("eps", eps);
  v.output("dx", dx, {rows, columns}, dtype);
}
void OnePositiveRowsArgs::describe(Visitor& v) const {
  v.input("s", s, {rows, columns}, dtype);
  v.input("mask", mask, {rows, columns}, DType::u8);
  v.input("tau", tau, {rows}, dtype);
  v.input("weight", weight, {rows}, dtype);
  v.output("loss", loss, {rows}, dtype);
  v.output("ds", ds, {rows, columns}, dtype);
}
void HardestNegativesArgs::describe(Visitor& v) const {
  v.input("s", s, {rows, columns}, dtype);
  v.input("mask", mask, {rows, columns}, DType::u8);
  v.attribute("count", static_cast<double>(count));
  v.output("kept", kept, {rows, columns}, DType::u8);
}
void TopShareArgs::describe(Visitor& v) const {
  v.input("s", s, {rows, columns}, dtype);
  v.input("label", label, {rows}, DType::i32);
  v.output("share", share, {1}, DType::f64);
}
void MemoryUpdateArgs::describe(Visitor& v) const {
  v.input("f", f, {rows, columns}, dtype);
  v.input("label", label, {rows}, DType::i32);
  v.attribute("momentum", momentum);
  v.attribute("rule", static_cast<double>(rule));
  v.output("c", c, {clusters, columns}, dtype);
}
void AddPairsArgs::describe(Visitor& v) const {
  for (int i = 0; i < number; ++i) {
    v.input("from", pairs[i].from, {pairs[i].count}, dtype);
    v.output("to", pairs[i].to, {pairs[i].count}, dtype);
  }
}
void RunningUpdateArgs::describe(Visitor& v) const {
  for (const RunningMove& m : std::span(moves, static_cast<size_t>(number))) {
    v.input("seen_mean", m.seen_mean, {m.groups, m.count}, dtype);
    v.input("seen_variance", m.seen_variance, {m.groups, m.count}, dtype);
    v.attribute("momentum", m.momentum);
    v.attribute("unbiased", m.unbiased);
    v.output("mean", m.mean, {m.count}, dtype);
    v.output("variance", m.variance, {m.count}, dtype);
  }
}
void SumsStatisticsArgs::describe(Visitor& v) const {
  v.input("sums", sums, {count}, dtype);
  v.input("squares", squares, {count}, dtype);
  v.attribute("rows", static_cast<double>(rows));
  v.output("mean", mean, {count}, dtype);
  v.output("variance", variance, {count}, dtype);
}
void SoftmaxRowsArgs::describe(Visitor& v) const {
  v.input("s", s, {rows, columns}, dtype);
  if (mask) v.input("mask", mask, {rows, columns}, DType::u8);
  if (label) v.input("label", label, {rows}, DType::i32);
  v.input("tau", tau, {rows}, dtype);
  v.input("weight", weight, {rows}, dtype);
  v.attribute("smoothing", smoothing);
  v.output("loss", loss, {rows}, dtype);
  v.output("ds", ds, {rows, columns}, dtype);
}

void RowDistancesArgs::describe(Visitor& v) const {
  v.input("x", x, {m, k}, dtype);
  v.input("y", y, {n, k}, dtype);
  v.attribute("floor", floor);
  v.output("d", d, {m, n}, dtype);
}
void RowDistancesBackwardArgs::describe(Visitor& v) const {
  v.input("dd", dd, {m, n}, dtype);
  v.input("x", x, {m, k}, dtype);
  v.input("y", y, {n, k}, dtype);
  v.input("d", d, {m, n}, dtype);
  v.attribute("floor", floor);
  v.output("dx", dx, {m, k}, dtype);
  v.output("dy", dy, {n, k}, dtype);
}
void CentroidRowsArgs::describe(Visitor& v) const {
  v.input("x", x, {rows, depth}, dtype);
  v.input("c", c, {columns, depth}, dtype);
  v.input("row_label", row_label, {rows}, DType::i32);
  if (column_label) v.input("column_label", column_label, {columns}, DType::i32);
  v.input("first_column", first_column, {rows}, DType::i32);
  v.input("end_column", end_column, {rows}, DType::i32);
  v.input("tau", tau, {rows}, wide(dtype));
  v.input("weight", weight, {rows}, wide(dtype));
  v.attribute("smoothing", smoothing);
  v.output("loss", loss, {rows}, wide(dtype));
  v.output("dx", dx, {rows, depth}, wide(dtype));
}
void TripletRowsArgs::describe(Visitor& v) const {
  v.input("d", d, {rows, columns}, dtype);
  v.input("mask", mask, {rows, columns}, DType::u8);
  v.input("weight", weight, {rows}, dtype);
  v.attribute("margin", margin);
  v.attribute("weighted", weighted);
  v.output("loss", loss, {rows}, dtype);
  v.output("dd", dd, {rows, columns}, dtype);
}
void SoftmaxArgs::describe(Visitor& v) const {
  v.input("s", s, {rows, columns}, dtype);
  v.output("q", q, {rows, columns}, dtype);
}
void MixedTargetsArgs::describe(Visitor& v) const {
  for (const void* one : std::span(q, static_cast<size_t>(number))) v.input("q", one, {rows, columns}, dtype);
  v.input("share", share, {2 + number, rows}, DType::f64);
  v.input("label", label, {rows}, DType::i32);
  v.output("target", target, {rows, columns}, dtype);
}
void SoftTargetRowsArgs::describe(Visitor& v) const {
  v.input("s", s, {rows, columns}, dtype);
  v.input("target", target, {rows, columns}, dtype);
  v.input("weight", weight, {rows}, dtype);
  v.output("loss", loss, {rows}, dtype);
  v.output("ds", ds, {rows, columns}, dtype);
}
void CircleLogitsArgs::describe(Visitor& v) const {
  v.input("s", s, {rows, columns}, dtype);
  v.input("label", label, {rows}, DType::i32);
  v.attribute("scale", scale);
  v.attribute("margin", margin);
  v.output("y", y, {rows, columns}, dtype);
  v.output("slope", slope, {rows, columns}, dtype);
}

void SgdArgs::describe(Visitor& visitor) const {
  const Shape flat{flat_extent(segments, segment_count)};
  visitor.input("g", g, flat, dtype);
  visitor.attribute("lr", lr);
  visitor.attribute("momentum", momentum);
  visitor.attribute("decay", decay);
  visitor.attribute("nesterov", nesterov);
  visitor.output("w", w, flat, dtype);
  visitor.output("v", v, flat, dtype);
  describe_behind(visitor, behind, g, flat, dtype);
}
void AdamArgs::describe(Visitor& visitor) const {
  const Shape flat{flat_extent(segments, segment_count)};
  visitor.input("g", g, flat, dtype);
  visitor.attribute("lr", lr);
  visitor.attribute("beta1", beta1);
  visitor.attribute("beta2", beta2);
  visitor.attribute("eps", eps);
  visitor.attribute("decay", decay);
  visitor.attribute("step", static_cast<double>(segments[0].step));
  visitor.attribute("decoupled", decoupled);
  visitor.output("w", w, flat, dtype);
  visitor.output("m", m, flat, dtype);
  visitor.output("v", v, flat, dtype);
  describe_behind(visitor, behind, g, flat, dtype);
}
void EmaArgs::describe(Visitor& v) const {
  v.input("w", w, {count}, dtype);
  v.attribute("momentum", momentum);
  v.output("average", average, {count}, dtype);
}

}  // namespace reid
