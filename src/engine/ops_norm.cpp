// Normalization: check, allocate, dispatch.

#include <algorithm>

#include "op_checks.h"
#include "reid/engine/ops.h"

namespace reid::ops {

namespace {

void require_affine(const char* op, const Tensor& x, const Statistics& s, const Tensor& gamma, const NormWindow& w) {
  require_shape(op, "mean", s.mean, {w.groups, w.count});
  require_shape(op, "variance", s.variance, {w.groups, w.count});
  require_shape(op, "gamma", gamma, {w.count});
  require_wide(op, "mean", s.mean, x);
  require_wide(op, "variance", s.variance, x);
  require_wide(op, "gamma", gamma, x);
}

void require_norms(const char* op, const Tensor& x, const std::vector<NormOperands>& norms) {
  REID_CHECK(norms.size() == 1 || norms.size() == 2, "[", op, "] takes one or two norms, got ", norms.size());
  for (const NormOperands& n : norms) {
    require_window(op, x, n.window);
    require_affine(op, x, n.statistics, n.gamma, n.window);
    if (!n.beta.defined()) continue;
    require_shape(op, "beta", n.beta, {n.window.count});
    require_wide(op, "beta", n.beta, x);
  }
  if (norms.size() == 1) return;
  const NormWindow &a = norms[0].window, &b = norms[1].window;
  REID_CHECK(b.channels == a.channels && b.first == a.first + a.count, "[", op, "] the second norm's channels begin at ", b.first,
             ", expected ", a.first + a.count);
  REID_CHECK(a.groups % b.groups == 0, "[", op, "] the second norm's ", b.groups, " groups are not unions of the first's ", a.groups);
  REID_CHECK(norms[0].beta.defined() == norms[1].beta.defined(), "[", op, "] one norm has a beta, the other has none");
}

void set_slices(NormSlice (&slices)[2], const std::vector<NormOperands>& norms) {
  for (size_t i = 0; i < norms.size(); ++i) {
    const NormOperands& n = norms[i];
    slices[i] = {n.window, n.statistics.mean.raw(), n.statistics.variance.raw(), n.gamma.raw(), n.beta.raw()};
  }
}

}  // namespace

Statistics norm_statistics(const Tensor& x, const NormWindow& window) {
  require_window("norm_statistics", x, window);
  const Shape shape{window.groups, window.count};
  Statistics s{Tensor::empty(shape, wide(x.dtype()), x.device()), Tensor::empty(shape, wide(x.dtype()), x.device())};
  dispatch<NormStatistics>(x.device(),
                           {.x = x.raw(), .mean = s.mean.raw(), .variance = s.variance.raw(), .window = window, .dtype = x.dtype()});
  return s;
}

void norm_apply(const Tensor& x, const std::vector<NormOperands>& norms, const Tensor& residual, double eps, bool relu, const Tensor& y,
                Tensor* positive) {
  require_norms("norm_apply", x, norms);
  for (const NormOperands& n : norms) require_shape("norm_apply", "beta", n.beta, {n.window.count});
  require_alike("norm_apply", x, y);
  if (residual.defined()) require_alike("norm_apply", x, residual);
  NormApplyArgs args{.x = x.raw(), .slices = {}, .residual = residual.raw(), .y = y.raw(), .eps = eps, .relu = relu, .dtype = x.dtype()};
  set_slices(args.slices, norms);
  if (const int64_t channels = x.dim(-1); positive && channels % 8 == 0) {
    const Tensor bits = Tensor::empty({x.numel() / channels, channels / 8}, DType::u8, x.device());
    NormApplyArgs telling = args;
    telling.positive = bits.raw();
    if (Registry::accepts_more<NormApply>(x.device().type, args, telling)) args = telling, *positive = bits;
  }
  dispatch<NormApply>(x.device(), args);
}

std::vector<NormGradients> norm_backward(const Tensor& dy, const Tensor& x, const Tensor& y, const std::vector<NormOperands>& norms,
                                         double eps, bool relu, const Tensor& dx, const Tensor& dresidual) {
  require_norms("norm_backward", x, norms);
  require_alike("norm_backward", x, dy);
  require_alike("norm_backward", x, dx);
  if (relu) require_alike("norm_backward", x, y);
  int64_t channels = 0;
  for (const NormOperands& n : norms) channels += n.window.count;
  const auto parameters = [&] { return Tensor::empty({channels}, wide(x.dtype()), x.device()); };
  const NormGradients all{parameters(), parameters()};
  NormBackwardArgs args{.dy = dy.raw(),
                        .x = x.raw(),
                        .y = y.raw(),
                        .slices = {},
                        .dx = dx.raw(),
                        .dresidual = dresidual.raw(),
                        .dgamma = all.gamma.raw(),
                        .dbeta = all.beta.raw(),
                        .eps = eps,
                        .relu = relu,
                        .constant_statistics = {},
                        .dtype = x.dtype()};
  set_slices(args.slices, norms);
  for (size_t i = 0; i < norms.size(); ++i) args.constant_statistics[i] = norms[i].constant_statistics;
  dispatch<NormBackward>(x.device(), args);
  if (norms.size() == 1) return {all};
  const int64_t split = norms[0].window.count;
  return {{all.gamma.rows(0, split), all.beta.rows(0, split)}, {all.gamma.rows(split, channels), all.beta.rows(split, channels)}};
}

Tensor norm_gradient(const Tensor& d, const NormBefore& norm, const Tensor& gamma, bool constant_statistics) {
  require_alike("norm_gradient", d, norm.x);
  const int64_t channels = d.dim(-1);
  require_affine("norm_gradient", d, norm.statistics, gamma,
                 {.groups = 1, .length = 0, .channels = channels, .first = 0, .count = channels});
  for (const auto& [name, given] : {std::pair{"dgamma", &norm.gradients.gamma}, {"dbeta", &norm.gradients.beta}}) {
    require_shape("norm_gradient", name, *given, {channels});
    require_wide("norm_gradient", name, *given, d);
  }
  Tensor dx = Tensor::empty(d.shape(), d.dtype(), d.device());
  dispatch<NormGradient>(d.device(), {.d = d.raw(),
                                      .x = norm.x.raw(),
                                      .mean = norm.statistics.mean.raw(),
                                      .variance = norm.statistics.variance.raw(),
                                      .gamma = gamma.raw(),
                                      .dgamma = norm.gradients.gamma.raw(),
                                      .dbeta = norm.gradients.beta.raw(),
                                      .dx = dx.raw(),
                                      .length = d.numel() / std::max<int64_t>(channels, 1),
                                      .channels = channels,
                                      .eps = norm.eps,
                                      .constant_statistics = constant_statistics,
                                      .dtype = d.dtype()});
  return dx;
}

void update_running(const std::vector<RunningStep>& steps) {
  constexpr size_t kMost = RunningUpdateArgs::kMost;
  for (size_t first = 0; first < steps.size(); first += kMost) {
    const Tensor& like = steps[first].running.mean;
    RunningUpdateArgs args{.moves = {}, .number = 0, .dtype = like.dtype()};
    for (size_t i = first; i < std::min(first + kMost, steps.size()); ++i) {
      const auto& [running, seen, momentum, unbiased] = steps[i];
      const int64_t groups = seen.mean.dim(0), count = running.mean.numel();
      for (const Tensor& t : {running.mean, running.variance}) require_shape("running_update", "running", t, {count});
      for (const Tensor& t : {seen.mean, seen.variance}) require_shape("running_update", "seen", t, {groups, count});
      for (const Tensor& t : {running.mean, running.variance, seen.mean, seen.variance}) require_same_dtype("running_update", like, t);
      args.moves[args.number++] = {.mean = running.mean.raw(),
                                   .variance = running.variance.raw(),
                                   .seen_mean = seen.mean.raw(),
                                   .seen_variance = seen.variance.raw(),
                                   .groups = groups,
                                   .count = count,
                                   .momentum = momentum,
                                   .unbiased = unbiased};
    }
    dispatch<RunningUpdate>(like.device(), args);
  }
}

}  // namespace reid::ops
