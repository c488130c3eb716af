#pragma once
// Reverse-mode differentiation by a tape that is a list: backward() walks it from the end. Order, hence rounding, is fixed.
//
// Design: `Var` is a tensor with history; a function that takes Vars can be differentiated, one that takes Tensors cannot.
// Inference calls the same functions on constants, and nothing is recorded. Activation gradients are written with `=`,
// parameter gradients are added into Parameter::grad.

#include <functional>
#include <initializer_list>
#include <string>
#include <vector>

#include "reid/engine/ops.h"
#include "reid/engine/tensor.h"

namespace reid {

// A learned tensor. After a ParameterStore has taken the module, value and grad are windows of its flat buffers.
struct Parameter {
  Tensor value, grad;   // equal shapes; grad is undefined until a store or ensure_grad() makes it
  Tensor rounded = {};  // bf16 of value, where a store keeps it; who writes value beside the store's optimizer calls refresh()
  bool trainable = true;
  double lr_factor = 1, decay_factor = 1;
  void ensure_grad();  // zeros, when undefined
  void refresh();      // rounds value again, where that is kept
};

class Tape;

class Var {
 public:
  Var() = default;
  explicit Var(Tensor value) : value_(std::move(value)) {}  // a constant
  const Tensor& value() const { return value_; }
  const Shape& shape() const { return value_.shape(); }
  Tape* tape() const { return tape_; }  // null: a constant
  int node() const { return node_; }

 private:
  friend class Tape;
  Tensor value_;
  Tape* tape_ = nullptr;
  int node_ = -1;
};

// What a backward function writes into: the gradient of each of its inputs.
class Grads {
 public:
  bool wants(int input) const;             // false for constants
  const Tensor* pending(int input) const;  // the gradient gathered so far from other uses, or null
  void add(int input, Tensor gradient);    // ignored when not wanted, or undefined: where it was added to sum_of() already
  void set(int input, Tensor gradient);    // the same, of a gradient that holds what was pending
  // What a parameter's gradient may be added to directly, on an accelerator: Parameter::grad; else null.
  const Tensor* sum_of(int input) const;
  // The norm that made the input, where this is the last use whose gradient it waits for and others are gathered; else null.
  ops::NormBefore* norm_before(int input) const;

 private:
  friend class Tape;
  Grads(Tape& tape, int node, const std::vector<int>& inputs) : tape_(tape), node_(node), inputs_(inputs) {}
  Tensor& place_for(int input, const Tensor& gradient) const;  // throws where the gradient is not the value's
  Tape& tape_;
  int node_;
  const std::vector<int>& inputs_;
};

using Backward = std::function<void(const Tensor& dy, Grads& dx)>;

class Tape {
 public:
  Var watch(Parameter& parameter);              // a leaf: its gradient is added into parameter.grad; constant when not trainable
  Var input(Tensor value);                      // a leaf whose gradient is kept: see gradient()
  void backward(const Var& y, Tensor dy = {});  // dy defaults to 1 and then y must be a scalar; frees captures as it goes
  Tensor gradient(const Var& leaf) const;       // after backward; zeros where nothing flowed
  void offer(const Var& y, std::shared_ptr<ops::NormBefore> norm);  // that made y, for Grads::norm_before
  size_t size() const { return nodes_.size(); }

 private:
  friend class Grads;
  friend Var record(const char* op, Tensor y, std::initializer_list<Var> inputs, Backward backward);
  struct Node {
    const char* op;
    std::vector<int> inputs;  // -1: constant
    Backward backward;
    Parameter* parameter = nullptr;
    Tensor gradient{};
    bool keep = false;
    int first_use = -1;                              // the node that took it first, and gives it its gradient last
    std::shared_ptr<ops::NormBefore> norm_before{};  // of a norm's y: what uses of it may do for its gradient
    Shape shape{};
    DType dtype = DType::f32;
    Device device{};
  };
  Var append(Node node, Tensor value);
  void add_to_parameter(const Tensor& sum, Tensor gradient);
  void finish_sums();
  std::vector<Node> nodes_;
  std::vector<std::pair<Tensor, Tensor>> sums_;  // of an accelerator's parameters, and what is still to be added to them
};

// Enters y, computed from inputs, on their tape. Without a tape among the inputs y is a constant and backward is dropped.
Var record(const char* op, Tensor y, std::initializer_list<Var> inputs, Backward backward);

// --- the differentiable functions; shapes as in ops.h ---
Var matmul(const Var& a, const Var& b, bool transpose_a = false, bool transpose_b = false, bool other_sums = false);
// The weight as a convolution of x in this dtype takes it: g.rounded, or rounded for it, and then g keeps no cache.
Tensor rounded_to(DType dtype, const Tensor& weight, ops::ConvGeometry& g);
Var conv(const Var& x, const Var& w, const ops::ConvGeometry& g);  // x in bf16 rounds w, whose gradient stays f32
// [B, D] x [K, D]^T + [K]; bias may be a Var() without value; other_sums: see ConvShape
Var linear(const Var& x, const Var& w, const Var& bias, bool other_sums = false);
Var bias_add(const Var& x, const Var& bias);  // [.., K] + [K]
Var relu(const Var& x);
Var add(const Var& a, const Var& b, double scale = 1);  // a + scale * b
Var scale(const Var& x, double factor);
Var cast(const Var& x, DType dtype);  // its gradient is cast back
Var sum(const Var& x);                // to a scalar
Var max_pool(const Var& x, const ops::PoolGeometry& g);
Var global_average_pool(const Var& x);
Var gem_pool(const Var& x, const Var& p, double eps = 1e-6);
Var stripe_pool(const Var& x, int64_t stripes);
Var non_local(const Var& theta, const Var& phi, const Var& g);
Var rows(const Var& x, int64_t begin, int64_t end);  // a range of the first axis; shares storage
Var l2_normalize(const Var& x, double eps = 1e-12);
// Sums over rows of the row losses: scalars. Gradients flow to s only.
Var one_positive_rows(const Var& s, const Tensor& mask, const Tensor& tau, const Tensor& weight);
Var softmax_rows(const Var& s, const Tensor& positives, const Tensor& tau, const Tensor& weight, double smoothing = 0);
// The same of s = x c^T: gradients flow to x only, rounded once where x is bf16.
Var centroid_rows(const Var& x, const Tensor& c, const ops::CentroidRowSettings& rows, const Tensor& column_label = {},
                  double smoothing = 0);

Var row_distances(const Var& x, double floor = 1e-12);  // [B, K] -> [B, B]: the rows of x to each other
Var triplet_rows(const Var& d, const Tensor& mask, const Tensor& weight, double margin, bool weighted);  // summed over rows
Var soft_target_rows(const Var& s, const Tensor& target, const Tensor& weight);                          // summed over rows
Var circle_logits(const Var& s, const Tensor& label, double scale, double margin);

// One normalization of a window of channels: gamma, beta and where its statistics come from.
struct NormPart {
  Var gamma, beta;  // [count]
  NormWindow window;
  ops::Statistics given;       // running statistics when defined, else those of x
  ops::Statistics taken = {};  // those of x where they are known already, see conv below
};
// conv, and the statistics of those parts that are not given any, taken of its result on its way to memory (ops::conv_statistics).
Var conv(const Var& x, const Var& w, const ops::ConvGeometry& g, std::vector<NormPart>& parts);
// y = act(norm(x) + residual) over one or two windows that together cover all channels (two: IBN; the groups of the second are unions of
// the first's). Writes the batch's statistics of part i to seen[i] when `seen` is given. residual may be a Var() without value.
Var norm_act(const Var& x, const std::vector<NormPart>& parts, const Var& residual, double eps, bool relu,
             std::vector<ops::Statistics>* seen = nullptr);

}  // namespace reid
