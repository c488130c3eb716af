// The differentiable functions: forward op, and what backward captures.

#include "reid/engine/autograd.h"

namespace reid {

// dA = dC op(B)^T and dB = op(A)^T dC, each stored the way its operand is.
Var matmul(const Var& a, const Var& b, bool transpose_a, bool transpose_b, bool other_sums) {
  Tensor c = ops::matmul(a.value(), b.value(), transpose_a, transpose_b, other_sums);
  const auto backward = [av = a.value(), bv = b.value(), transpose_a, transpose_b, other_sums](const Tensor& dc, Grads& d) {
    const auto product = [&](const Tensor& x, const Tensor& y, bool tx, bool ty) { return ops::matmul(x, y, tx, ty, other_sums); };
    if (d.wants(0)) d.add(0, transpose_a ? product(bv, dc, transpose_b, true) : product(dc, bv, false, !transpose_b));
    if (d.wants(1)) d.add(1, transpose_b ? product(dc, av, true, transpose_a) : product(av, dc, !transpose_a, false));
  };
  return record("matmul", std::move(c), {a, b}, backward);
}

Tensor rounded_to(DType dtype, const Tensor& weight, ops::ConvGeometry& g) {
  if (dtype == weight.dtype() || wide(dtype) != weight.dtype()) return weight;
  if (g.rounded && g.rounded->defined()) return *g.rounded;
  g.cache = nullptr;  // it knows weights by their place, and the rounded ones are gone after this pass
  return ops::cast(weight, dtype);
}

namespace {

// forward(rounded weights, geometry) -> y
template <class Forward>
Var record_conv(const Var& x, const Var& w, const ops::ConvGeometry& g, Forward&& forward) {
  ops::ConvGeometry geometry = g;
  const Tensor rounded = rounded_to(x.value().dtype(), w.value(), geometry);
  return record("conv", forward(rounded, geometry), {x, w}, [xv = x.value(), wv = rounded, g](const Tensor& dy, Grads& d) {
    if (d.wants(1)) d.add(1, ops::conv_backward_weight(xv, dy, wv.shape(), g, d.sum_of(1)));
    if (d.wants(0)) d.set(0, ops::conv_backward_data(dy, wv, xv.shape(), g, d.pending(0), d.norm_before(0)));
  });
}

}  // namespace

Var conv(const Var& x, const Var& w, const ops::ConvGeometry& g) {
  return record_conv(
      x, w, g, [&](const Tensor& weights, const ops::ConvGeometry& geometry) { return ops::conv_forward(x.value(), weights, geometry); });
}

Var conv(const Var& x, const Var& w, const ops::ConvGeometry& g, std::vector<NormPart>& parts) {
  std::vector<NormWindow> windows;
  std::vector<NormPart*> wanting;
  for (NormPart& part : parts) {
    if (part.given.mean.defined()) continue;
    windows.push_back(part.window);
    wanting.push_back(&part);
  }
  if (wanting.empty()) return conv(x, w, g);
  return record_conv(x, w, g, [&](const Tensor& weights, const ops::ConvGeometry& geometry) {
    const ops::ConvStatistics result = ops::conv_statistics(x.value(), weights, geometry, windows);
    for (size_t i = 0; i < wanting.size(); ++i) wanting[i]->taken = result.taken[i];
    return result.y;
  });
}

Var linear(const Var& x, const Var& w, const Var& bias, bool other_sums) {
  const Var product = matmul(x, w, false, true, other_sums);
  return bias.value().defined() ? bias_add(product, bias) : product;
}

Var bias_add(const Var& x, const Var& bias) {
  const int64_t width = x.value().dim(-1);
  const Shape rows{x.value().numel() / std::max<int64_t>(width, 1), width};
  Tensor y = ops::bias_add(x.value().reshape(rows), bias.value()).reshape(x.shape());
  return record("bias_add", std::move(y), {x, bias}, [rows](const Tensor& dy, Grads& d) {
    d.add(0, dy);
    if (d.wants(1)) d.add(1, ops::column_sum(dy.reshape(rows)));
  });
}

Var relu(const Var& x) {
  Tensor y = ops::relu(x.value());
  return record("relu", y, {x}, [y](const Tensor& dy, Grads& d) { d.add(0, ops::relu_backward(dy, y)); });
}

Var add(const Var& a, const Var& b, double scale) {
  return record("add", ops::add(a.value(), b.value(), scale), {a, b}, [scale](const Tensor& dy, Grads& d) {
    d.add(0, dy);
    if (d.wants(1)) d.add(1, scale == 1 ? dy : ops::scale(dy, scale));
  });
}

Var scale(const Var& x, double factor) {
  return record("scale", ops::scale(x.value(), factor), {x}, [factor](const Tensor& dy, Grads& d) { d.add(0, ops::scale(dy, factor)); });
}

Var cast(const Var& x, DType dtype) {
  const DType from = x.value().dtype();
  if (from == dtype) return x;
  return record("cast", ops::cast(x.value(), dtype), {x}, [from](const Tensor& dy, Grads& d) { d.add(0, ops::cast(dy, from)); });
}

Var sum(const Var& x) {
  return record("sum", ops::sum(x.value()), {x}, [shape = x.shape()](const Tensor& dy, Grads& d) {
    d.add(0, ops::scale(Tensor::full(shape, 1, dy.dtype(), dy.device()), dy));
  });
}

Var max_pool(const Var& x, const ops::PoolGeometry& g) {
  ops::MaxPooled pooled = ops::max_pool(x.value(), g);
  return record("max_pool", pooled.y, {x}, [index = pooled.index, shape = x.shape(), g](const Tensor& dy, Grads& d) {
    d.add(0, ops::max_pool_backward(dy, index, shape, g));
  });
}

Var global_average_pool(const Var& x) {
  return record("global_average_pool", ops::global_average_pool(x.value()), {x},
                [shape = x.shape()](const Tensor& dy, Grads& d) { d.add(0, ops::global_average_pool_backward(dy, shape)); });
}

Var gem_pool(const Var& x, const Var& p, double eps) {
  Tensor y = ops::gem_pool(x.value(), p.value(), eps);
  return record("gem_pool", y, {x, p}, [xv = x.value(), pv = p.value(), y, eps](const Tensor& dy, Grads& d) {
    ops::GemGradients g = ops::gem_pool_backward(dy, xv, pv, y, eps);
    d.add(0, g.x);
    d.add(1, g.p);
  });
}

Var stripe_pool(const Var& x, int64_t stripes) {
  return record("stripe_pool", ops::stripe_pool(x.value(), stripes), {x},
                [shape = x.shape(), stripes](const Tensor& dy, Grads& d) { d.add(0, ops::stripe_pool_backward(dy, shape, stripes)); });
}

Var non_local(const Var& theta, const Var& phi, const Var& g) {
  Tensor y = ops::non_local(theta.value(), phi.value(), g.value());
  return record("non_local", std::move(y), {theta, phi, g},
                [t = theta.value(), p = phi.value(), v = g.value()](const Tensor& dy, Grads& d) {
                  ops::NonLocalGradients gradients = ops::non_local_backward(dy, t, p, v);
                  d.add(0, gradients.theta);
                  d.add(1, gradients.phi);
                  d.add(2, gradients.g);
                });
}

Var rows(const Var& x, int64_t begin, int64_t end) {
  return record("rows", x.value().rows(begin, end), {x}, [shape = x.shape(), begin, end](const Tensor& dy, Grads& d) {
    const Tensor dx = Tensor::zeros(shape, dy.dtype(), dy.device());
    dx.rows(begin, end).copy_from(dy);
    d.add(0, dx);
  });
}

Var l2_normalize(const Var& x, double eps) {
  const ops::Normalized n = ops::l2_normalize(x.value(), eps);
  return record("l2_normalize", n.y, {x},
                [n, eps](const Tensor& dy, Grads& d) { d.add(0, ops::l2_normalize_backward(dy, n.y, n.norm, eps)); });
}

namespace {

Var row_loss(const char* op, const Var& s, const ops::RowLoss& r) {
  return record(op, ops::sum(r.loss), {s}, [ds = r.ds](const Tensor& dy, Grads& d) { d.add(0, ops::scale(ds, dy)); });
}

}  // namespace

Var one_positive_rows(const Var& s, const Tensor& mask, const Tensor& tau, const Tensor& weight) {
  return row_loss("one_positive_rows", s, ops::one_positive_rows(s.value(), mask, tau, weight));
}

Var softmax_rows(const Var& s, const Tensor& positives, const Tensor& tau, const Tensor& weight, double smoothing) {
  return row_loss("softmax_rows", s, ops::softmax_rows(s.value(), positives, tau, weight, smoothing));
}

Var centroid_rows(const Var& x, const Tensor& c, const ops::CentroidRowSettings& rows, const Tensor& column_label, double smoothing) {
  const ops::CentroidRowLoss r = ops::centroid_rows(x.value(), c, rows, column_label, smoothing);
  return record("centroid_rows", ops::sum(r.loss), {x},
                [dx = r.dx, dtype = x.value().dtype()](const Tensor& dy, Grads& d) { d.add(0, ops::cast(ops::scale(dx, dy), dtype)); });
}

Var row_distances(const Var& x, double floor) {
  Tensor d = ops::row_distances(x.value(), x.value(), floor);
  return record("row_distances", d, {x}, [xv = x.value(), d, floor](const Tensor& dd, Grads& g) {
    const ops::PairGradients both = ops::row_distances_backward(dd, xv, xv, d, floor);
    g.add(0, ops::add(both.x, both.y));
  });
}

Var triplet_rows(const Var& d, const Tensor& mask, const Tensor& weight, double margin, bool weighted) {
  return row_loss("triplet_rows", d, ops::triplet_rows(d.value(), mask, weight, margin, weighted));
}

Var soft_target_rows(const Var& s, const Tensor& target, const Tensor& weight) {
  return row_loss("soft_target_rows", s, ops::soft_target_rows(s.value(), target, weight));
}

Var circle_logits(const Var& s, const Tensor& label, double scale, double margin) {
  const ops::CircleLogitsResult r = ops::circle_logits(s.value(), label, scale, margin);
  return record("circle_logits", r.y, {s}, [slope = r.slope](const Tensor& dy, Grads& d) { d.add(0, ops::multiply(dy, slope)); });
}

namespace {

// x's norms over the parts, their statistics taken where they are not known yet.
std::vector<ops::NormOperands> operands_of(const Tensor& x, const std::vector<NormPart>& parts) {
  std::vector<ops::NormOperands> norms;
  int64_t covered = 0;
  for (const NormPart& part : parts) {
    REID_CHECK(part.window.first == covered, "[norm_act] windows must cover the channels in order; the next starts at ", part.window.first,
               ", not at ", covered);
    covered += part.window.count;
    const bool given = part.given.mean.defined();
    const ops::Statistics s = given ? part.given : part.taken.mean.defined() ? part.taken : ops::norm_statistics(x, part.window);
    norms.push_back({part.window, s, part.gamma.value(), part.beta.value(), given});
  }
  REID_CHECK(covered == x.dim(-1), "[norm_act] windows cover ", covered, " of ", x.dim(-1), " channels");
  return norms;
}

}  // namespace

Var norm_act(const Var& x, const std::vector<NormPart>& parts, const Var& residual, double eps, bool relu,
             std::vector<ops::Statistics>* seen) {
  REID_CHECK(parts.size() == 1 || parts.size() == 2, "[norm_act] takes one or two windows, got ", parts.size());
  Tensor y = Tensor::empty(x.shape(), x.value().dtype(), x.value().device());
  std::vector<ops::NormOperands> norms = operands_of(x.value(), parts);
  // Only with a residual: without one the norm's backward reads no y, and reading it here would cost what it saves.
  const bool recorded = x.tape() || residual.tape() || parts[0].gamma.tape();
  const bool offers = recorded && relu && residual.value().defined() && norms.size() == 1 && norms[0].window.groups == 1;
  Tensor positive;
  ops::norm_apply(x.value(), norms, residual.value(), eps, relu, y, offers ? &positive : nullptr);
  if (seen) {
    seen->clear();
    for (const ops::NormOperands& n : norms) seen->push_back(n.statistics);
  }
  if (residual.value().defined()) {
    for (ops::NormOperands& n : norms) n.beta = Tensor();  // y cannot be told from x
  }
  std::shared_ptr<ops::NormBefore> before;
  if (positive.defined()) before = std::make_shared<ops::NormBefore>(ops::NormBefore{x.value(), positive, norms[0].statistics, eps});
  const Var none;
  const NormPart& last = parts.back();
  const Var result =
      record("norm_act", y,
             {x, residual, parts[0].gamma, parts[0].beta, parts.size() > 1 ? last.gamma : none, parts.size() > 1 ? last.beta : none},
             [xv = x.value(), y = relu ? y : Tensor(), norms, before, eps, relu](const Tensor& dy, Grads& d) {
               if (before && before->gradients.gamma.defined()) {
                 d.add(2, before->gradients.gamma);
                 d.add(3, before->gradients.beta);
                 d.add(1, dy);
                 if (d.wants(0)) d.add(0, ops::norm_gradient(dy, *before, norms[0].gamma, norms[0].constant_statistics));
                 return;
               }
               Tensor dx = Tensor::empty(xv.shape(), xv.dtype(), xv.device());
               // Without ReLU the residual's gradient is dy itself.
               Tensor dresidual = d.wants(1) && relu ? Tensor::empty(xv.shape(), xv.dtype(), xv.device()) : Tensor();
               const std::vector<ops::NormGradients> parameters = ops::norm_backward(dy, xv, y, norms, eps, relu, dx, dresidual);
               for (size_t i = 0; i < parameters.size(); ++i) {
                 d.add(static_cast<int>(2 + 2 * i), parameters[i].gamma);
                 d.add(static_cast<int>(3 + 2 * i), parameters[i].beta);
               }
               if (d.wants(1)) d.add(1, relu ? dresidual : dy);
               d.add(0, dx);
             });
  if (before && result.tape()) result.tape()->offer(result, before);
  return result;
}

}  // namespace reid
