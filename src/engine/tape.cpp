#include "reid/engine/autograd.h"

#include <algorithm>
#include <utility>

namespace reid {

void Parameter::ensure_grad() {
  if (!grad.defined()) grad = Tensor::zeros(value.shape(), value.dtype(), value.device());
}

void Parameter::refresh() {
  if (rounded.defined()) rounded.copy_from(ops::cast(value, rounded.dtype()));
}

bool Grads::wants(int input) const { return inputs_[static_cast<size_t>(input)] >= 0; }

const Tensor* Grads::pending(int input) const {
  if (!wants(input)) return nullptr;
  const Tensor& gradient = tape_.nodes_[static_cast<size_t>(inputs_[static_cast<size_t>(input)])].gradient;
  return gradient.defined() ? &gradient : nullptr;
}

// On the CPU kernels only write: add_to_parameter() adds while the gradient is in cache.
const Tensor* Grads::sum_of(int input) const {
  if (!wants(input)) return nullptr;
  const Tape::Node& node = tape_.nodes_[static_cast<size_t>(inputs_[static_cast<size_t>(input)])];
  return node.parameter && node.device.type != DeviceType::cpu ? &node.parameter->grad : nullptr;
}

ops::NormBefore* Grads::norm_before(int input) const {
  if (!pending(input)) return nullptr;
  const Tape::Node& node = tape_.nodes_[static_cast<size_t>(inputs_[static_cast<size_t>(input)])];
  return node.first_use == node_ ? node.norm_before.get() : nullptr;
}

Tensor& Grads::place_for(int input, const Tensor& gradient) const {
  Tape::Node& node = tape_.nodes_[static_cast<size_t>(inputs_[static_cast<size_t>(input)])];
  REID_CHECK(gradient.shape() == node.shape && gradient.dtype() == node.dtype, "[", node.op, "] a gradient of shape ", gradient.shape(),
             " ", gradient.dtype(), " arrived for a value of shape ", node.shape, " ", node.dtype);
  return node.gradient;
}

void Grads::add(int input, Tensor gradient) {
  if (!wants(input) || !gradient.defined()) return;
  Tensor& gathered = place_for(input, gradient);
  // A new tensor, not +=: the first gradient may share storage with one that another node still reads.
  gathered = gathered.defined() ? ops::add(gathered, gradient) : std::move(gradient);
}

void Grads::set(int input, Tensor gradient) {
  if (wants(input)) place_for(input, gradient) = std::move(gradient);
}

Var Tape::append(Node node, Tensor value) {
  node.shape = value.shape();
  node.dtype = value.dtype();
  node.device = value.device();
  nodes_.push_back(std::move(node));
  Var v(std::move(value));
  v.tape_ = this;
  v.node_ = static_cast<int>(nodes_.size()) - 1;
  return v;
}

Var Tape::watch(Parameter& parameter) {
  if (!parameter.trainable) return Var(parameter.value);
  parameter.ensure_grad();
  return append({.op = "parameter", .inputs = {}, .backward = {}, .parameter = &parameter, .gradient = {}}, parameter.value);
}

Var Tape::input(Tensor value) {
  return append({.op = "input", .inputs = {}, .backward = {}, .gradient = {}, .keep = true}, std::move(value));
}

// On an accelerator a sum is put off until the end, or until it is wanted a second time: hundreds of small ones are one launch then. A CPU
// adds while the gradient is in its cache.
void Tape::add_to_parameter(const Tensor& sum, Tensor gradient) {
  if (sum.device().type == DeviceType::cpu) return ops::add_into(sum, gradient);
  const auto waits = [&](const auto& pair) { return pair.first.raw() == sum.raw(); };
  if (std::any_of(sums_.begin(), sums_.end(), waits)) finish_sums();
  sums_.emplace_back(sum, std::move(gradient));
}
void Tape::finish_sums() {
  if (!sums_.empty()) ops::add_pairs(std::exchange(sums_, {}));
}

void Tape::backward(const Var& y, Tensor dy) {
  REID_CHECK(y.tape() == this, "[backward] the value does not stand on this tape: nothing it was computed from is watched");
  if (!dy.defined()) {
    REID_CHECK(y.value().numel() == 1, "[backward] a value of shape ", y.shape(), " needs a gradient dy of its shape");
    dy = Tensor::full(y.shape(), 1, y.value().dtype(), y.value().device());
  }
  REID_CHECK(dy.shape() == y.shape() && dy.dtype() == y.value().dtype(), "[backward] dy ", dy.shape(), " for a value of shape ", y.shape());
  nodes_[static_cast<size_t>(y.node())].gradient = std::move(dy);
  for (size_t i = static_cast<size_t>(y.node()) + 1; i-- > 0;) {
    Node& node = nodes_[i];
    if (node.parameter && node.gradient.defined()) add_to_parameter(node.parameter->grad, node.gradient);
    if (node.backward && node.gradient.defined()) {
      const std::vector<int> inputs = node.inputs;
      Grads grads(*this, static_cast<int>(i), inputs);
      node.backward(node.gradient, grads);
    }
    node.backward = nullptr;
    node.norm_before = nullptr;
    if (!node.keep) node.gradient = Tensor();
  }
  finish_sums();
}

void Tape::offer(const Var& y, std::shared_ptr<ops::NormBefore> norm) {
  REID_CHECK(y.tape() == this, "[offer] the value does not stand on this tape");
  nodes_[static_cast<size_t>(y.node())].norm_before = std::move(norm);
}

Tensor Tape::gradient(const Var& leaf) const {
  REID_CHECK(leaf.tape() == this, "[gradient] the value does not stand on this tape");
  const Node& node = nodes_[static_cast<size_t>(leaf.node())];
  REID_CHECK(node.keep, "[gradient] only inputs keep theirs; ", node.op, " does not");
  return node.gradient.defined() ? node.gradient : Tensor::zeros(node.shape, node.dtype, node.device);
}

Var record(const char* op, Tensor y, std::initializer_list<Var> inputs, Backward backward) {
  Tape* tape = nullptr;
  for (const Var& v : inputs) {
    if (!v.tape()) continue;
    REID_CHECK(!tape || tape == v.tape(), "[", op, "] its inputs stand on two tapes");
    tape = v.tape();
  }
  if (!tape) return Var(std::move(y));
  Tape::Node node{.op = op, .inputs = {}, .backward = std::move(backward), .gradient = {}};
  const auto own = static_cast<int>(tape->nodes_.size());
  for (const Var& v : inputs) {
    node.inputs.push_back(v.tape() ? v.node() : -1);
    if (!v.tape()) continue;
    int& first = tape->nodes_[static_cast<size_t>(v.node())].first_use;
    if (first < 0) first = own;
  }
  return tape->append(std::move(node), std::move(y));
}

}  // namespace reid
