#pragma once
// The flat parameter store, optimizers, the moving average and learning-rate schedules. All run in f32 or f64.

#include <string>
#include <vector>

#include "reid/engine/nn.h"

namespace reid {

// All masters of a module in one buffer and all gradients in another, with a table of segments. Taking a module moves its
// parameters' values into the buffer; the module must stay alive but may move.
class ParameterStore {
 public:
  ParameterStore() = default;
  // keep_rounded: beside f32 values a bf16 copy (Parameter::rounded), which the optimizer's steps keep up to date.
  template <class M>
  explicit ParameterStore(M& module, bool keep_rounded = false) : ParameterStore(inventory(module), keep_rounded) {}
  explicit ParameterStore(const Inventory& module, bool keep_rounded = false);

  const Tensor& values() const { return values_; }    // [count]
  const Tensor& grads() const { return grads_; }      // [count]
  const Tensor& rounded() const { return rounded_; }  // [count] bf16, or undefined
  const std::vector<Segment>& segments() const { return segments_; }
  void zero_grad() { grads_.fill(0); }
  // Parameters whose name starts with one of `prefixes` stand still in optimizer steps, or move again. Those that are not trainable by
  // themselves never move.
  void freeze(const std::vector<std::string>& prefixes, bool frozen);

 private:
  Tensor values_, grads_, rounded_;
  std::vector<Segment> segments_;
  std::vector<std::string> names_;  // of the segments
  std::vector<uint8_t> trainable_;  // by themselves
};

struct OptimizerConfig {
  std::string kind = "adam";  // adam (decay joins the gradient), adamw (decoupled decay), sgd
  double decay = 5e-4;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8;
  double momentum = 0.9;
  bool nesterov = false;
};

// What a step makes of the weights behind their update, in its one pass over memory.
struct StepExtras {
  ParameterStore* average = nullptr;  // moves towards the weights as by ema_update
  double momentum = 0;                // of the average
  bool clear_gradients = false;       // for the next step's sums
};

class Optimizer {
 public:
  Optimizer() = default;
  Optimizer(const ParameterStore& store, const OptimizerConfig& config);
  // Uses store.grads(), and leaves them as they are unless extras say otherwise.
  void step(ParameterStore& store, double lr, const StepExtras& extras = {});
  void fields(Fields& f);  // moments and the step counter

 private:
  OptimizerConfig config_;
  Tensor first_, second_;  // Adam: m, v; SGD: velocity, none
  Tensor steps_;           // [segments] i64: updates of each, without those in which it was frozen
};

// average = momentum * average + (1 - momentum) * source, on parameters only: buffers belong to each network's own passes.
void ema_update(ParameterStore& average, const ParameterStore& source, double momentum);

// Learning rate over a run of `epochs`: linear warm-up from lr * warmup_factor over warmup_epochs, then constant, divided at
// milestones, or a half cosine down to lr * final_factor that begins at flat_epochs (after the warm-up). `epoch` may be fractional.
struct Schedule {
  double lr = 3.5e-4;
  std::string kind = "step";  // constant, step, cosine
  double epochs = 100;
  double warmup_epochs = 10, warmup_factor = 0.1;
  std::vector<double> milestones = {40, 70};  // epochs
  double gamma = 0.1, final_factor = 0.01, flat_epochs = 0;
  double at(double epoch) const;
};

}  // namespace reid
