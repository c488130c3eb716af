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

}  // namespace

Statistics norm_statistics(const Tensor& x, const NormWindow& window) {
  require_window("norm_statistics", x, window);
  const Shape shape{window.groups, window.count};
  Statistics s{Tensor::empty(shape, wide(x.dtype()), x.device()), Tensor::empty(shape, wide(x.dtype()), x.device())};
  dispatch<NormStatistics>(x.device(),
                           {.x = x.raw(), .mean = s.mean.raw(), .variance = s.variance.raw(), .window = window, .dtype = x.dtype()});
  return s;
}

void norm_apply(const Tensor& x, const Statistics& s, const Tensor& gamma, const Tensor& beta, const Tensor& residual,
                const NormWindow& window, double eps, bool relu, const Tensor& y) {
  require_window("norm_apply", x, window);
  require_affine("norm_apply", x, s, gamma, window);
  require_shape("norm_apply", "beta", beta, {window.count});
  require_wide("norm_apply", "beta", beta, x);
  require_alike("norm_apply", x, y);
  if (residual.defined()) require_alike("norm_apply", x, residual);
  dispatch<NormApply>(x.device(), {.x = x.raw(),
                                   .mean = s.mean.raw(),
                                   .variance = s.variance.raw(),
                                   .gamma = gamma.raw(),
                                   .beta = beta.raw(),
                                   .residual = residual.raw(),
                                   .y = y.raw(),
                                   .window = window,
                                   .eps = eps,
                                   .relu = relu,
                                   .dtype = x.dtype()});
}

NormGradients norm_backward(const Tensor& dy, const Tensor& x, const Tensor& y, const Statistics& s, const Tensor& gamma,
                            const Tensor& beta, const NormWindow& window, double eps, bool relu, bool constant_statistics, const Tensor& dx,
                            const Tensor& dresidual) {
  require_window("norm_backward", x, window);
  require_affine("norm_backward", x, s, gamma, window);
  require_alike("norm_backward", x, dy);
  require_alike("norm_backward", x, dx);
  if (relu) require_alike("norm_backward", x, y);
  const auto parameter = [&] { return Tensor::empty({window.count}, wide(x.dtype()), x.device()); };
  NormGradients g{parameter(), parameter()};
  dispatch<NormBackward>(x.device(), {.dy = dy.raw(),
                                      .x = x.raw(),
                                      .y = y.raw(),
                                      .mean = s.mean.raw(),
                                      .variance = s.variance.raw(),
                                      .gamma = gamma.raw(),
                                      .beta = beta.raw(),
                                      .dx = dx.raw(),
                                      .dresidual = dresidual.raw(),
                                      .dgamma = g.gamma.raw(),
                                      .dbeta = g.beta.raw(),
                                      .window = window,
                                      .eps = eps,
                                      .relu = relu,
                                      .constant_statistics = constant_statistics,
                                      .dtype = x.dtype()});
  return g;
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
