#include "reid/engine/optim.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace reid {

ParameterStore::ParameterStore(const Inventory& module, bool keep_rounded) {
  REID_CHECK(!module.parameters.empty(), "[parameter_store] the module has no parameters");
  const DType dtype = module.parameters.front().parameter->value.dtype();
  int64_t count = 0;
  for (const auto& [name, p] : module.parameters) {
    REID_CHECK(p->value.dtype() == dtype, "[parameter_store] ", name, " is ", p->value.dtype(), ", others are ", dtype);
    REID_CHECK(p->value.device() == module.parameters.front().parameter->value.device(), "[parameter_store] ", name, " lies on ",
               p->value.device(), ", others on ", module.parameters.front().parameter->value.device(), ": move the whole module");
    segments_.push_back({count, p->value.numel(), p->lr_factor, p->decay_factor, p->trainable});
    names_.push_back(name);
    trainable_.push_back(p->trainable);
    count += p->value.numel();
  }
  const Device device = module.parameters.front().parameter->value.device();
  values_ = Tensor::empty({count}, dtype, device);
  grads_ = Tensor::zeros({count}, dtype, device);
  if (keep_rounded) {
    REID_CHECK(dtype == DType::f32, "[parameter_store] keeps bf16 copies of f32 only, not of ", dtype);
    rounded_ = Tensor::empty({count}, DType::bf16, device);
  }
  for (size_t i = 0; i < segments_.size(); ++i) {
    Parameter& p = *module.parameters[i].parameter;
    const int64_t begin = segments_[i].offset, end = begin + segments_[i].count;
    const Tensor value = values_.rows(begin, end).reshape(p.value.shape());
    value.copy_from(p.value);
    p.grad = grads_.rows(begin, end).reshape(p.value.shape());
    p.value = value;
    p.rounded = keep_rounded ? rounded_.rows(begin, end).reshape(value.shape()) : Tensor();
    p.refresh();
  }
}

void ParameterStore::freeze(const std::vector<std::string>& prefixes, bool frozen) {
  for (size_t i = 0; i < segments_.size(); ++i) {
    const bool named =
        std::any_of(prefixes.begin(), prefixes.end(), [&](const std::string& prefix) { return names_[i].starts_with(prefix); });
    if (named) segments_[i].trainable = trainable_[i] && !frozen;
  }
}

Optimizer::Optimizer(const ParameterStore& store, const OptimizerConfig& config) : config_(config) {
  REID_CHECK(config.kind == "adam" || config.kind == "adamw" || config.kind == "sgd", "optimizer.kind = '", config.kind,
             "' is not one of adam, adamw, sgd");
  steps_ = Tensor::zeros({static_cast<int64_t>(store.segments().size())}, DType::i64);  // the host's: it makes the kernel's arguments
  const Tensor& w = store.values();
  first_ = Tensor::zeros(w.shape(), w.dtype(), w.device());
  if (config.kind != "sgd") second_ = Tensor::zeros(w.shape(), w.dtype(), w.device());
}

namespace {

void require_alike(const ParameterStore& average, const ParameterStore& source, double momentum) {
  const Tensor &a = average.values(), &w = source.values();
  REID_CHECK(a.shape() == w.shape() && a.dtype() == w.dtype(), "[ema_update] the stores differ: ", a.shape(), " and ", w.shape());
  REID_CHECK(momentum >= 0 && momentum <= 1, "[ema_update] momentum ", momentum, " is outside [0, 1]");
}

StepBehind behind_of(const ParameterStore& store, const StepExtras& extras) {
  StepBehind behind{.rounded = store.rounded().raw(), .clear = extras.clear_gradients};
  if (extras.average) {
    require_alike(*extras.average, store, extras.momentum);
    behind.average = extras.average->values().raw();
    behind.momentum = extras.momentum;
    behind.average_rounded = extras.average->rounded().raw();
  }
  return behind;
}

}  // namespace

void Optimizer::step(ParameterStore& store, double lr, const StepExtras& extras) {
  const StepBehind behind = behind_of(store, extras);
  const Tensor& w = store.values();
  std::vector<Segment> segments = store.segments();
  for (size_t i = 0; i < segments.size(); ++i) {
    int64_t& steps = steps_.data<int64_t>()[i];
    steps += segments[i].trainable;
    segments[i].step = steps;
  }
  const int64_t segment_count = static_cast<int64_t>(segments.size());
  if (config_.kind == "sgd") {
    dispatch<SgdStep>(w.device(), {.w = w.raw(),
                                   .g = store.grads().raw(),
                                   .v = first_.raw(),
                                   .segments = segments.data(),
                                   .segment_count = segment_count,
                                   .lr = lr,
                                   .momentum = config_.momentum,
                                   .decay = config_.decay,
                                   .nesterov = config_.nesterov,
                                   .dtype = w.dtype(),
                                   .behind = behind});
    return;
  }
  dispatch<AdamStep>(w.device(), {.w = w.raw(),
                                  .g = store.grads().raw(),
                                  .m = first_.raw(),
                                  .v = second_.raw(),
                                  .segments = segments.data(),
                                  .segment_count = segment_count,
                                  .lr = lr,
                                  .beta1 = config_.beta1,
                                  .beta2 = config_.beta2,
                                  .eps = config_.eps,
                                  .decay = config_.decay,
                                  .decoupled = config_.kind == "adamw",
                                  .dtype = w.dtype(),
                                  .behind = behind});
}

void Optimizer::fields(Fields& f) {
  f.buffer("first", first_);
  if (second_.defined()) f.buffer("second", second_);
  f.buffer("steps", steps_);
}

void ema_update(ParameterStore& average, const ParameterStore& source, double momentum) {
  require_alike(average, source, momentum);
  const Tensor& a = average.values();
  dispatch<EmaUpdate>(a.device(),
                      {.average = a.raw(), .w = source.values().raw(), .count = a.numel(), .momentum = momentum, .dtype = a.dtype()});
  if (average.rounded().defined()) average.rounded().copy_from(ops::cast(a, DType::bf16));
}

double Schedule::at(double epoch) const {
  if (epoch < warmup_epochs) {
    const double share = epoch / warmup_epochs;
    return lr * (warmup_factor * (1 - share) + share);
  }
  if (kind == "constant") return lr;
  if (kind == "step") {
    double rate = lr;
    for (const double milestone : milestones) rate *= epoch >= milestone ? gamma : 1;
    return rate;
  }
  REID_CHECK(kind == "cosine", "schedule.kind = '", kind, "' is not one of constant, step, cosine");
  const double begin = std::max(warmup_epochs, flat_epochs);
  const double share = std::clamp((epoch - begin) / std::max(epochs - begin, 1e-9), 0.0, 1.0);
  return lr * (final_factor + (1 - final_factor) * 0.5 * (1 + std::cos(std::numbers::pi * share)));
}

}  // namespace reid
