// Layers: convolution, linear, and the family of norms.

#include <cmath>

#include "reid/engine/nn.h"

namespace reid {

namespace {

Tensor normal_tensor(const Shape& shape, double deviation, DType dtype, Rng rng) {
  Tensor t = Tensor::empty(shape, DType::f64);
  for (double& v : t.span<double>()) v = deviation * rng.normal();
  return t.to(dtype);
}

Var watched(Parameter& p, const Pass& pass) { return pass.tape ? pass.tape->watch(p) : Var(p.value); }

}  // namespace

Conv2d::Conv2d(int64_t in, int64_t out, int64_t kernel, int64_t stride, int64_t pad, DType dtype, Rng rng)
    : geometry{.stride = stride, .pad = pad} {
  const double fan_out = static_cast<double>(kernel * kernel * out);
  weight.value = normal_tensor({out, kernel, kernel, in}, std::sqrt(2 / fan_out), dtype, rng);
}

Linear::Linear(int64_t in, int64_t out, DType dtype, Rng rng) {
  weight.value = normal_tensor({out, in}, 1 / std::sqrt(static_cast<double>(in)), dtype, rng);
  bias.value = Tensor::zeros({out}, dtype);
}

Var Linear::operator()(const Var& x, const Pass& pass) { return linear(x, watched(weight, pass), watched(bias, pass), pass.other_sums); }

void Linear::fields(Fields& f) {
  f.parameter("weight", weight);
  f.parameter("bias", bias);
}

Norm::Norm(Kind kind_, int64_t channels_, DType dtype) : kind(kind_), channels(channels_) {
  const auto affine = [&](int64_t count) {
    return Affine{{.value = Tensor::full({count}, 1, dtype), .grad = {}}, {.value = Tensor::zeros({count}, dtype), .grad = {}}};
  };
  const int64_t instances = instance_count(), batched = channels - instances;
  if (instances > 0) instance = affine(instances);
  if (batched > 0) {
    batch = affine(batched);
    running = {Tensor::zeros({batched}, dtype), Tensor::full({batched}, 1, dtype)};
  }
}

int64_t Norm::instance_count() const {
  switch (kind) {
    case Kind::batch: return 0;
    case Kind::instance: return channels;
    case Kind::ibn: return channels / 2;
  }
  return 0;
}

NormPart Norm::instance_part(const Shape& x, const Pass& pass) {
  const int64_t n = x[0];
  const NormWindow window{.groups = n, .length = x.numel() / (n * channels), .channels = channels, .first = 0, .count = instance_count()};
  return {watched(instance.weight, pass), watched(instance.bias, pass), window, {}};
}

NormPart Norm::batch_part(const Shape& x, const Pass& pass) {
  const int64_t rows = x.numel() / channels, groups = pass.batch_statistics ? pass.norm_groups : 1;
  REID_CHECK(x[0] % groups == 0, "[batch_norm] ", x[0], " images cannot be cut into ", groups, " equal groups");
  REID_CHECK(!pass.batch_statistics || rows / groups > 1,
             "[batch_norm] statistics of one value per channel have no variance: use a larger batch");
  const int64_t first = instance_count();
  const NormWindow window{.groups = groups, .length = rows / groups, .channels = channels, .first = first, .count = channels - first};
  ops::Statistics given;
  if (!pass.batch_statistics) given = {running.mean.reshape({1, channels - first}), running.variance.reshape({1, channels - first})};
  return {watched(batch.weight, pass), watched(batch.bias, pass), window, given};
}

std::vector<NormPart> Norm::parts(const Shape& x, const Pass& pass) {
  REID_CHECK(x[-1] == channels, "[norm] x ", x, " for a norm of ", channels, " channels");
  std::vector<NormPart> parts;
  if (kind != Kind::batch) parts.push_back(instance_part(x, pass));
  if (kind != Kind::instance) parts.push_back(batch_part(x, pass));
  return parts;
}

Var Norm::operator()(const Var& x, const Var& residual, bool relu, const Pass& pass) {
  return apply(x, parts(x.shape(), pass), residual, relu, pass);
}

Var Norm::apply(const Var& x, const std::vector<NormPart>& parts, const Var& residual, bool relu, const Pass& pass) {
  std::vector<ops::Statistics> seen;
  const int64_t length = parts.back().window.length;
  Var y = norm_act(x, parts, residual, eps, relu, &seen);
  if (kind != Kind::instance && pass.batch_statistics && pass.update_running) {
    ops::Statistics moving = seen.back();
    if (pass.running_from_first) moving = {moving.mean.rows(0, 1), moving.variance.rows(0, 1)};
    const double unbiased = static_cast<double>(length) / static_cast<double>(length - 1);
    const ops::RunningStep step{{running.mean, running.variance}, moving, momentum, unbiased};
    pass.running_steps ? pass.running_steps->push_back(step) : ops::update_running({step});
  }
  return y;
}

Tensor Norm::behind(const Tensor& x, const Tensor& weight, ops::ConvGeometry geometry, const Tensor& residual, bool relu) const {
  const Tensor rounded = rounded_to(x.dtype(), weight, geometry);
  const ops::Statistics given{running.mean.reshape({1, channels}), running.variance.reshape({1, channels})};
  return ops::conv_norm(x, rounded, geometry, given, batch.weight.value, batch.bias.value, residual, eps, relu);
}

void Norm::fields(Fields& f) {
  struct Instance {
    Norm& norm;
    void fields(Fields& g) {
      g.parameter("weight", norm.instance.weight);
      g.parameter("bias", norm.instance.bias);
    }
  };
  struct Batch {
    Norm& norm;
    void fields(Fields& g) {
      g.parameter("weight", norm.batch.weight);
      g.parameter("bias", norm.batch.bias);
      g.buffer("running_mean", norm.running.mean);
      g.buffer("running_var", norm.running.variance);
    }
  };
  Instance in{*this};
  Batch bn{*this};
  if (kind == Kind::ibn) {
    f.child("IN", in);
    f.child("BN", bn);
  } else if (kind == Kind::instance) {
    in.fields(f);
  } else {
    bn.fields(f);
  }
}

Var conv_norm_act(const Var& x, Conv2d& conv_, Norm& norm, const Var& residual, bool relu, const Pass& pass) {
  ops::ConvGeometry geometry = conv_.geometry;
  geometry.other_sums = pass.other_sums;
  geometry.cache = pass.cache;
  geometry.rounded = &conv_.weight.rounded;
  const bool constant = !pass.tape && !x.tape() && !residual.tape();
  if (constant && norm.kind == Norm::Kind::batch && !pass.batch_statistics)
    return Var(norm.behind(x.value(), conv_.weight.value, geometry, residual.value(), relu));
  const Var weight = watched(conv_.weight, pass);
  std::vector<NormPart> parts = norm.parts(ops::conv_output(x.shape(), weight.shape(), geometry), pass);
  const Var y = conv(x, weight, geometry, parts);
  return norm.apply(y, parts, residual, relu, pass);
}

}  // namespace reid
