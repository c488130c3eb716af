// Pooling, embedding rows and row losses: check, allocate, dispatch.

#include "op_checks.h"
#include "reid/engine/ops.h"

namespace reid::ops {

namespace {

PoolShape pool_shape(const char* op, const Shape& x, const PoolGeometry& g) {
  REID_CHECK(x.rank() == 4, "[", op, "] x ", x, " must be [N, H, W, C]");
  REID_CHECK(g.kernel >= 1 && g.stride >= 1 && g.pad >= 0 && 2 * g.pad <= g.kernel, "[", op, "] kernel ", g.kernel, ", stride ", g.stride,
             ", pad ", g.pad, ": pad is at most half the kernel");
  REID_CHECK(x[1] + 2 * g.pad >= g.kernel && x[2] + 2 * g.pad >= g.kernel, "[", op, "] kernel ", g.kernel,
             " is larger than the padded input ", x);
  REID_CHECK(x[1] * x[2] <= INT32_MAX, "[", op, "] x ", x, " has more than 2^31 pixels an image");
  return {.n = x[0], .h = x[1], .w = x[2], .c = x[3], .kernel = g.kernel, .stride = g.stride, .pad = g.pad, .ceil = g.ceil};
}

}  // namespace

MaxPooled max_pool(const Tensor& x, const PoolGeometry& g) {
  const PoolShape s = pool_shape("max_pool", x.shape(), g);
  const Shape shape{s.n, s.out(s.h), s.out(s.w), s.c};
  MaxPooled pooled{Tensor::empty(shape, x.dtype(), x.device()), Tensor::empty(shape, DType::i32, x.device())};
  dispatch<MaxPool>(x.device(),
                    {.x = x.raw(), .y = pooled.y.raw(), .index = pooled.index.address<int32_t>(), .shape = s, .dtype = x.dtype()});
  return pooled;
}

Tensor max_pool_backward(const Tensor& dy, const Tensor& index, const Shape& x_shape, const PoolGeometry& g) {
  const PoolShape s = pool_shape("max_pool_backward", x_shape, g);
  require_shape("max_pool_backward", "dy", dy, {s.n, s.out(s.h), s.out(s.w), s.c});
  require_shape("max_pool_backward", "index", index, dy.shape());
  Tensor dx = Tensor::empty(x_shape, dy.dtype(), dy.device());
  dispatch<MaxPoolBackward>(dy.device(),
                            {.dy = dy.raw(), .index = index.address<int32_t>(), .dx = dx.raw(), .shape = s, .dtype = dy.dtype()});
  return dx;
}

namespace {

Tensor global_pool(const char* op, const Tensor& x, const Tensor& p, double eps) {
  REID_CHECK(x.shape().rank() == 4 && x.dim(1) * x.dim(2) >= 1, "[", op, "] x ", x.shape(), " must be [N, H, W, C]");
  Tensor y = Tensor::empty({x.dim(0), x.dim(3)}, x.dtype(), x.device());
  dispatch<GlobalPool>(x.device(), {.x = x.raw(),
                                    .p = p.raw(),
                                    .y = y.raw(),
                                    .n = x.dim(0),
                                    .length = x.dim(1) * x.dim(2),
                                    .c = x.dim(3),
                                    .eps = eps,
                                    .dtype = x.dtype()});
  return y;
}

GemGradients global_pool_backward(const char* op, const Tensor& dy, const Tensor& x, const Shape& x_shape, const Tensor& p, const Tensor& y,
                                  double eps) {
  REID_CHECK(x_shape.rank() == 4, "[", op, "] x ", x_shape, " must be [N, H, W, C]");
  require_shape(op, "dy", dy, {x_shape[0], x_shape[3]});
  GemGradients g{Tensor::empty(x_shape, dy.dtype(), dy.device()),
                 p.defined() ? Tensor::empty({1}, wide(dy.dtype()), dy.device()) : Tensor()};
  dispatch<GlobalPoolBackward>(dy.device(), {.dy = dy.raw(),
                                             .x = x.raw(),
                                             .p = p.raw(),
                                             .y = y.raw(),
                                             .dx = g.x.raw(),
                                             .dp = g.p.raw(),
                                             .n = x_shape[0],
                                             .length = x_shape[1] * x_shape[2],
                                             .c = x_shape[3],
                                             .eps = eps,
                                             .dtype = dy.dtype()});
  return g;
}

}  // namespace

Tensor global_average_pool(const Tensor& x) { return global_pool("global_average_pool", x, {}, 0); }

Tensor global_average_pool_backward(const Tensor& dy, const Shape& x_shape) {
  return global_pool_backward("global_average_pool_backward", dy, {}, x_shape, {}, {}, 0).x;
}

Tensor gem_pool(const Tensor& x, const Tensor& p, double eps) {
  require_wide("gem_pool", "p", p, x);
  require_shape("gem_pool", "p", p, {1});
  REID_CHECK(eps > 0, "[gem_pool] eps = ", eps, " must be positive");
  // An accelerator's p is not read back for this: that would wait for all work before it.
  if (p.device().type == DeviceType::cpu) REID_CHECK(p.item() > 0, "[gem_pool] p = ", p.item(), " must be positive");
  return global_pool("gem_pool", x, p, eps);
}

GemGradients gem_pool_backward(const Tensor& dy, const Tensor& x, const Tensor& p, const Tensor& y, double eps) {
  require_shape("gem_pool_backward", "y", y, dy.shape());
  return global_pool_backward("gem_pool_backward", dy, x, x.shape(), p, y, eps);
}

namespace {

void require_stripes(const char* op, const Shape& x, int64_t stripes) {
  REID_CHECK(x.rank() == 4 && x[2] >= 1, "[", op, "] x ", x, " must be [N, H, W, C]");
  REID_CHECK(stripes >= 1 && stripes <= x[1], "[", op, "] ", stripes, " stripes of maps with ", x[1], " rows");
}

}  // namespace

Tensor stripe_pool(const Tensor& x, int64_t stripes) {
  require_stripes("stripe_pool", x.shape(), stripes);
  Tensor y = Tensor::empty({stripes * x.dim(0), x.dim(3)}, x.dtype(), x.device());
  dispatch<StripePool>(x.device(), {.x = x.raw(),
                                    .y = y.raw(),
                                    .n = x.dim(0),
                                    .height = x.dim(1),
                                    .width = x.dim(2),
                                    .c = x.dim(3),
                                    .stripes = stripes,
                                    .dtype = x.dtype()});
  return y;
}

Tensor stripe_pool_backward(const Tensor& dy, const Shape& x_shape, int64_t stripes) {
  require_stripes("stripe_pool_backward", x_shape, stripes);
  require_shape("stripe_pool_backward", "dy", dy, {stripes * x_shape[0], x_shape[3]});
  Tensor dx = Tensor::empty(x_shape, dy.dtype(), dy.device());
  dispatch<StripePoolBackward>(dy.device(), {.dy = dy.raw(),
                                             .dx = dx.raw(),
                                             .n = x_shape[0],
                                             .height = x_shape[1],
                                             .width = x_shape[2],
                                             .c = x_shape[3],
                                             .stripes = stripes,
                                             .dtype = dy.dtype()});
  return dx;
}

namespace {

void require_maps(const char* op, const Tensor& theta, const Tensor& phi, const Tensor& g) {
  REID_CHECK(theta.shape().rank() == 4, "[", op, "] theta ", theta.shape(), " must be [N, H, W, D]");
  require_alike(op, theta, phi);
  require_alike(op, theta, g);
}

}  // namespace

Tensor non_local(const Tensor& theta, const Tensor& phi, const Tensor& g) {
  require_maps("non_local", theta, phi, g);
  Tensor y = Tensor::empty(theta.shape(), theta.dtype(), theta.device());
  dispatch<NonLocal>(theta.device(), {.theta = theta.raw(),
                                      .phi = phi.raw(),
                                      .g = g.raw(),
                                      .y = y.raw(),
                                      .n = theta.dim(0),
                                      .length = theta.dim(1) * theta.dim(2),
                                      .d = theta.dim(3),
                                      .dtype = theta.dtype()});
  return y;
}

NonLocalGradients non_local_backward(const Tensor& dy, const Tensor& theta, const Tensor& phi, const Tensor& g) {
  require_maps("non_local_backward", theta, phi, g);
  require_alike("non_local_backward", dy, theta);
  const auto like = [&] { return Tensor::empty(dy.shape(), dy.dtype(), dy.device()); };
  NonLocalGradients r{like(), like(), like()};
  dispatch<NonLocalBackward>(dy.device(), {.dy = dy.raw(),
                                           .theta = theta.raw(),
                                           .phi = phi.raw(),
                                           .g = g.raw(),
                                           .dtheta = r.theta.raw(),
                                           .dphi = r.phi.raw(),
                                           .dg = r.g.raw(),
                                           .n = theta.dim(0),
                                           .length = theta.dim(1) * theta.dim(2),
                                           .d = theta.dim(3),
                                           .dtype = dy.dtype()});
  return r;
}

Tensor views_from_pixels(const Tensor& x, const Tensor& views, const PixelColors& colors, DType dtype) {
  constexpr const char* op = "views_from_pixels";
  REID_CHECK(x.shape().rank() == 4 && x.dim(3) == 3 && x.dtype() == DType::u8, "[", op, "] x ", x.shape(), " ", x.dtype(),
             " must be [N, H, W, 3] u8");
  require_shape(op, "views", views, {x.dim(0), kPixelViewFields});
  for (const float s : colors.std) REID_CHECK(s > 0, "[", op, "] std ", s, " is not above 0");
  Tensor y = Tensor::empty(x.shape(), dtype, x.device());
  dispatch<ViewsFromPixels>(x.device(), {.x = x.address<uint8_t>(),
                                         .views = views.address<int32_t>(),
                                         .y = y.raw(),
                                         .n = x.dim(0),
                                         .h = x.dim(1),
                                         .w = x.dim(2),
                                         .colors = colors,
                                         .dtype = dtype});
  return y;
}

Tensor color_pixels(const Tensor& x, const Tensor& changes) {
  constexpr const char* op = "color_pixels";
  REID_CHECK(x.shape().rank() == 4 && x.dim(3) == 3 && x.dtype() == DType::u8, "[", op, "] x ", x.shape(), " ", x.dtype(),
             " must be [N, H, W, 3] u8");
  REID_CHECK(changes.shape().rank() == 2 && changes.dim(0) == x.dim(0) && changes.dim(1) > kPixelChangeFields, "[", op, "] changes ",
             changes.shape(), " must be [", x.dim(0), ", ", kPixelChangeFields, " and a weight or more]");
  Tensor y = Tensor::empty(x.shape(), DType::u8, x.device());
  dispatch<ColorPixels>(x.device(), {.x = x.address<uint8_t>(),
                                     .changes = changes.address<int32_t>(),
                                     .y = y.address<uint8_t>(),
                                     .n = x.dim(0),
                                     .h = x.dim(1),
                                     .w = x.dim(2),
                                     .weights = changes.dim(1) - kPixelChangeFields});
  return y;
}

Tensor mirror(const Tensor& x) {
  REID_CHECK(x.shape().rank() == 4, "[mirror] x ", x.shape(), " must be [N, H, W, C]");
  Tensor y = Tensor::empty(x.shape(), x.dtype(), x.device());
  dispatch<Mirror>(x.device(),
                   {.x = x.raw(), .y = y.raw(), .n = x.dim(0), .h = x.dim(1), .w = x.dim(2), .c = x.dim(3), .dtype = x.dtype()});
  return y;
}

Normalized l2_normalize(const Tensor& x, double eps) {
  REID_CHECK(x.shape().rank() == 2, "[l2_normalize] x ", x.shape(), " must be [B, D]");
  Normalized n{Tensor::empty(x.shape(), x.dtype(), x.device()), Tensor::empty({x.dim(0)}, x.dtype(), x.device())};
  dispatch<L2Normalize>(
      x.device(),
      {.x = x.raw(), .y = n.y.raw(), .norm = n.norm.raw(), .rows = x.dim(0), .columns = x.dim(1), .eps = eps, .dtype = x.dtype()});
  return n;
}

Tensor l2_normalize_backward(const Tensor& dy, const Tensor& y, const Tensor& norm, double eps) {
  require_alike("l2_normalize_backward", dy, y);
  require_shape("l2_normalize_backward", "norm", norm, {y.dim(0)});
  Tensor dx = Tensor::empty(y.shape(), y.dtype(), y.device());
  dispatch<L2NormalizeBackward>(y.device(), {.dy = dy.raw(),
                                             .y = y.raw(),
                                             .norm = norm.raw(),
                                             .dx = dx.raw(),
                                             .rows = y.dim(0),
                                             .columns = y.dim(1),
                                             .eps = eps,
                                             .dtype = y.dtype()});
  return dx;
}

namespace {

void require_rows(const char* op, const Tensor& s, const Tensor& tau, const Tensor& weight) {
  REID_CHECK(s.shape().rank() == 2, "[", op, "] s ", s.shape(), " must be [B, M]");
  require_shape(op, "tau", tau, {s.dim(0)});
  require_shape(op, "weight", weight, {s.dim(0)});
  require_same_dtype(op, s, tau);
  require_same_dtype(op, s, weight);
}

RowLoss allocate_row_loss(const Tensor& s) {
  return {Tensor::empty({s.dim(0)}, s.dtype(), s.device()), Tensor::empty(s.shape(), s.dtype(), s.device())};
}

}  // namespace

RowLoss one_positive_rows(const Tensor& s, const Tensor& mask, const Tensor& tau, const Tensor& weight) {
  require_rows("one_positive_rows", s, tau, weight);
  require_shape("one_positive_rows", "mask", mask, s.shape());
  RowLoss r = allocate_row_loss(s);
  dispatch<OnePositiveRows>(s.device(), {.s = s.raw(),
                                         .mask = mask.address<uint8_t>(),
                                         .tau = tau.raw(),
                                         .weight = weight.raw(),
                                         .loss = r.loss.raw(),
                                         .ds = r.ds.raw(),
                                         .rows = s.dim(0),
                                         .columns = s.dim(1),
                                         .dtype = s.dtype()});
  return r;
}

RowLoss softmax_rows(const Tensor& s, const Tensor& positives, const Tensor& tau, const Tensor& weight, double smoothing) {
  require_rows("softmax_rows", s, tau, weight);
  const bool labels = positives.dtype() == DType::i32;
  require_shape("softmax_rows", labels ? "label" : "mask", positives, labels ? Shape{s.dim(0)} : s.shape());
  REID_CHECK(smoothing >= 0 && smoothing < 1, "[softmax_rows] smoothing ", smoothing, " is outside [0, 1)");
  RowLoss r = allocate_row_loss(s);
  dispatch<SoftmaxRows>(s.device(), {.s = s.raw(),
                                     .mask = labels ? nullptr : positives.address<uint8_t>(),
                                     .label = labels ? positives.address<int32_t>() : nullptr,
                                     .tau = tau.raw(),
                                     .weight = weight.raw(),
                                     .loss = r.loss.raw(),
                                     .ds = r.ds.raw(),
                                     .rows = s.dim(0),
                                     .columns = s.dim(1),
                                     .smoothing = smoothing,
                                     .dtype = s.dtype()});
  return r;
}

Tensor hardest_negatives(const Tensor& s, const Tensor& mask, int64_t count) {
  REID_CHECK(s.shape().rank() == 2 && mask.shape() == s.shape() && mask.dtype() == DType::u8, "[hardest_negatives] s ", s.shape(),
             ", mask ", mask.shape(), " ", mask.dtype(), ": expected masks of 8 bits, as many as similarities");
  REID_CHECK(count >= 0, "[hardest_negatives] count is ", count, ", expected at least 0");
  const Tensor kept = Tensor::empty(s.shape(), DType::u8, s.device());
  dispatch<HardestNegatives>(s.device(), {.s = s.raw(),
                                          .mask = mask.address<uint8_t>(),
                                          .kept = kept.address<uint8_t>(),
                                          .rows = s.dim(0),
                                          .columns = s.dim(1),
                                          .count = count,
                                          .dtype = s.dtype()});
  return kept;
}

Tensor top_share(const Tensor& logits, const Tensor& labels) {
  REID_CHECK(logits.shape().rank() == 2 && labels.dtype() == DType::i32 && labels.shape() == (Shape{logits.dim(0)}), "[top_share] logits ",
             logits.shape(), " with labels ", labels.shape(), " ", labels.dtype(), ": expected i32, one a row");
  const Tensor share = Tensor::empty({1}, DType::f64, logits.device());
  dispatch<TopShare>(logits.device(), {.s = logits.raw(),
                                       .label = labels.address<int32_t>(),
                                       .share = share.raw(),
                                       .rows = logits.dim(0),
                                       .columns = logits.dim(1),
                                       .dtype = logits.dtype()});
  return share;
}

void memory_update(const Tensor& c, const Tensor& f, const Tensor& labels, double momentum, MemoryRule rule) {
  REID_CHECK(c.shape().rank() == 2 && f.shape().rank() == 2 && f.dim(1) == c.dim(1) && f.dtype() == c.dtype() &&
                 labels.dtype() == DType::i32 && labels.shape() == (Shape{f.dim(0)}),
             "[memory_update] f ", f.shape(), " ", f.dtype(), " with labels ", labels.shape(), " ", labels.dtype(), ", c ", c.shape(), " ",
             c.dtype());
  dispatch<MemoryUpdate>(c.device(), {.f = f.raw(),
                                      .label = labels.address<int32_t>(),
                                      .c = c.raw(),
                                      .rows = f.dim(0),
                                      .clusters = c.dim(0),
                                      .columns = c.dim(1),
                                      .momentum = momentum,
                                      .rule = rule,
                                      .dtype = c.dtype()});
}

}  // namespace reid::ops
