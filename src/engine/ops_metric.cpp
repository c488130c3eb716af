// Ops of metric learning: losses over centroids, distances of rows, triplet losses, logits with a margin, soft targets.

#include "op_checks.h"
#include "reid/engine/op_args_fused.h"
#include "reid/engine/ops.h"

namespace reid::ops {

CentroidRowLoss centroid_rows(const Tensor& x, const Tensor& c, const CentroidRowSettings& rows, const Tensor& column_label,
                              double smoothing) {
  constexpr const char* op = "centroid_rows";
  REID_CHECK(x.shape().rank() == 2 && c.shape().rank() == 2 && x.dim(1) == c.dim(1), "[", op, "] x ", x.shape(), " and c ", c.shape(),
             " must be [B, D] and [M, D]");
  require_same_dtype(op, x, c);
  REID_CHECK(smoothing >= 0 && smoothing < 1, "[", op, "] smoothing ", smoothing, " is outside [0, 1)");
  require_shape(op, "label", rows.label, {x.dim(0)});
  require_shape(op, "first", rows.first, {x.dim(0)});
  require_shape(op, "end", rows.end, {x.dim(0)});
  require_shape(op, "tau", rows.tau, {x.dim(0)});
  require_shape(op, "weight", rows.weight, {x.dim(0)});
  require_wide(op, "tau", rows.tau, x);
  require_wide(op, "weight", rows.weight, x);
  if (column_label.defined()) require_shape(op, "column_label", column_label, {c.dim(0)});
  const DType sums = wide(x.dtype());
  CentroidRowLoss r{Tensor::zeros({x.dim(0)}, sums, x.device()), Tensor::zeros(x.shape(), sums, x.device())};
  if (x.dim(0) == 0 || c.dim(0) == 0) return r;
  dispatch<CentroidRows>(x.device(), {.x = x.raw(),
                                      .c = c.raw(),
                                      .row_label = rows.label.address<int32_t>(),
                                      .column_label = column_label.defined() ? column_label.address<int32_t>() : nullptr,
                                      .first_column = rows.first.address<int32_t>(),
                                      .end_column = rows.end.address<int32_t>(),
                                      .tau = rows.tau.raw(),
                                      .weight = rows.weight.raw(),
                                      .loss = r.loss.raw(),
                                      .dx = r.dx.raw(),
                                      .rows = x.dim(0),
                                      .columns = c.dim(0),
                                      .depth = x.dim(1),
                                      .smoothing = smoothing,
                                      .dtype = x.dtype()});
  return r;
}

Tensor row_distances(const Tensor& x, const Tensor& y, double floor) {
  require_same_dtype("row_distances", x, y);
  REID_CHECK(x.shape().rank() == 2 && y.shape().rank() == 2 && x.dim(1) == y.dim(1), "[row_distances] x ", x.shape(), " and y ", y.shape(),
             " must be [M, K] and [N, K]");
  REID_CHECK(floor > 0, "[row_distances] floor ", floor, " must be positive: a distance of 0 has no gradient");
  Tensor d = Tensor::empty({x.dim(0), y.dim(0)}, x.dtype(), x.device());
  dispatch<RowDistances>(
      x.device(),
      {.x = x.raw(), .y = y.raw(), .d = d.raw(), .m = x.dim(0), .n = y.dim(0), .k = x.dim(1), .floor = floor, .dtype = x.dtype()});
  return d;
}

PairGradients row_distances_backward(const Tensor& dd, const Tensor& x, const Tensor& y, const Tensor& d, double floor) {
  require_alike("row_distances_backward", dd, d);
  require_shape("row_distances_backward", "d", d, {x.dim(0), y.dim(0)});
  PairGradients g{Tensor::empty(x.shape(), x.dtype(), x.device()), Tensor::empty(y.shape(), y.dtype(), y.device())};
  dispatch<RowDistancesBackward>(x.device(), {.dd = dd.raw(),
                                              .x = x.raw(),
                                              .y = y.raw(),
                                              .d = d.raw(),
                                              .dx = g.x.raw(),
                                              .dy = g.y.raw(),
                                              .m = x.dim(0),
                                              .n = y.dim(0),
                                              .k = x.dim(1),
                                              .floor = floor,
                                              .dtype = x.dtype()});
  return g;
}

RowLoss triplet_rows(const Tensor& d, const Tensor& mask, const Tensor& weight, double margin, bool weighted) {
  REID_CHECK(d.shape().rank() == 2, "[triplet_rows] d ", d.shape(), " must be [B, M]");
  require_shape("triplet_rows", "mask", mask, d.shape());
  require_shape("triplet_rows", "weight", weight, {d.dim(0)});
  require_same_dtype("triplet_rows", d, weight);
  REID_CHECK(margin >= 0, "[triplet_rows] margin ", margin, " is negative");
  RowLoss r{Tensor::empty({d.dim(0)}, d.dtype(), d.device()), Tensor::empty(d.shape(), d.dtype(), d.device())};
  dispatch<TripletRows>(d.device(), {.d = d.raw(),
                                     .mask = mask.address<uint8_t>(),
                                     .weight = weight.raw(),
                                     .loss = r.loss.raw(),
                                     .dd = r.ds.raw(),
                                     .rows = d.dim(0),
                                     .columns = d.dim(1),
                                     .margin = margin,
                                     .weighted = weighted,
                                     .dtype = d.dtype()});
  return r;
}

CircleLogitsResult circle_logits(const Tensor& s, const Tensor& label, double scale, double margin) {
  REID_CHECK(s.shape().rank() == 2, "[circle_logits] s ", s.shape(), " must be [B, C]");
  require_shape("circle_logits", "label", label, {s.dim(0)});
  REID_CHECK(label.dtype() == DType::i32, "[circle_logits] label is ", label.dtype(), ", expected i32");
  REID_CHECK(scale > 0 && margin >= 0, "[circle_logits] scale = ", scale, " must be positive, margin = ", margin, " not negative");
  CircleLogitsResult r{Tensor::empty(s.shape(), s.dtype(), s.device()), Tensor::empty(s.shape(), s.dtype(), s.device())};
  dispatch<CircleLogits>(s.device(), {.s = s.raw(),
                                      .label = label.address<int32_t>(),
                                      .y = r.y.raw(),
                                      .slope = r.slope.raw(),
                                      .rows = s.dim(0),
                                      .columns = s.dim(1),
                                      .scale = scale,
                                      .margin = margin,
                                      .dtype = s.dtype()});
  return r;
}

Tensor softmax(const Tensor& s) {
  REID_CHECK(s.shape().rank() == 2 && s.dim(1) >= 1, "[softmax] s ", s.shape(), " must be [B, C]");
  Tensor q = Tensor::empty(s.shape(), s.dtype(), s.device());
  dispatch<Softmax>(s.device(), {.s = s.raw(), .q = q.raw(), .rows = s.dim(0), .columns = s.dim(1), .dtype = s.dtype()});
  return q;
}

Tensor mixed_targets(const std::vector<Tensor>& q, const Tensor& share, const Tensor& label, int64_t columns, DType dtype) {
  REID_CHECK(q.size() <= MixedTargetsArgs::kMost, "[mixed_targets] mixes at most ", MixedTargetsArgs::kMost, " distributions, not ",
             q.size());
  const int64_t rows = label.dim(0);
  require_shape("mixed_targets", "share", share, {2 + std::ssize(q), rows});
  MixedTargetsArgs args{};
  args.share = share.address<double>(), args.label = label.address<int32_t>();
  args.rows = rows, args.columns = columns, args.number = static_cast<int>(q.size()), args.dtype = dtype;
  for (size_t n = 0; n < q.size(); ++n) {
    require_shape("mixed_targets", "q", q[n], {rows, columns});
    REID_CHECK(q[n].dtype() == dtype, "[mixed_targets] distribution ", n, " is ", q[n].dtype(), ", not ", dtype);
    args.q[n] = q[n].raw();
  }
  Tensor target = Tensor::empty({rows, columns}, dtype, label.device());
  args.target = target.raw();
  dispatch<MixedTargets>(label.device(), args);
  return target;
}

RowLoss soft_target_rows(const Tensor& s, const Tensor& target, const Tensor& weight) {
  REID_CHECK(s.shape().rank() == 2 && s.dim(1) >= 1, "[soft_target_rows] s ", s.shape(), " must be [B, C]");
  require_alike("soft_target_rows", s, target);
  require_shape("soft_target_rows", "weight", weight, {s.dim(0)});
  require_same_dtype("soft_target_rows", s, weight);
  RowLoss r{Tensor::empty({s.dim(0)}, s.dtype(), s.device()), Tensor::empty(s.shape(), s.dtype(), s.device())};
  dispatch<SoftTargetRows>(s.device(), {.s = s.raw(),
                                        .target = target.raw(),
                                        .weight = weight.raw(),
                                        .loss = r.loss.raw(),
                                        .ds = r.ds.raw(),
                                        .rows = s.dim(0),
                                        .columns = s.dim(1),
                                        .dtype = s.dtype()});
  return r;
}

}  // namespace reid::ops
