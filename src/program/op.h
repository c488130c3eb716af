#pragma once
// The catalog behind `reid op`: every op, loss and module that can be run from a file of tensors.
//
// Design: an entry states its inputs, attributes and results as data, so that one piece of code checks a call, describes it and
// reports its gradients; only the few lines that call the engine differ. Floating inputs are all f32 or all f64, and f64 runs
// the double path.

#include "reid/engine/autograd.h"
#include "reid/formats/safetensors.h"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace reid::program {

struct OpInput {
  std::string name, shape;  // "[N, H, W, C]": letters are bound by the first input that has them; "..." is any number of extents
  std::string doc;
  std::string dtype = "float";  // float, i64 (any integer dtype is converted), u8
  bool gradient = false;        // --grad writes d<name>
  bool optional = false;
};
OpInput differentiable(std::string name, std::string shape, std::string doc);
OpInput constant(std::string name, std::string shape, std::string doc, std::string dtype = "float");
OpInput optional(OpInput input);

struct OpAttribute {
  enum Kind : uint8_t { integer, number, flag, word };
  std::string name;
  Kind kind;
  std::string initial, doc;
  std::vector<std::string> words = {};  // what a word may be
};

struct OpResult {
  std::string name, shape, doc;
};

class OpCall;

struct OpEntry {
  std::string name, summary;
  std::vector<OpInput> inputs;
  std::vector<OpAttribute> attributes;
  std::vector<OpResult> results;
  std::vector<std::string> kernels;  // ops of the registry that do the work: where --impl applies
  std::function<void(OpCall&)> run;
  bool takes_parameters = false;  // the file also holds the module's parameters, under their own names
};

// The entries by name, in the order of `reid op list`.
const std::vector<OpEntry>& op_catalog();
const OpEntry& find_op(const std::string& name);  // throws UsageError naming the nearest

std::vector<OpEntry> dense_ops();
std::vector<OpEntry> vision_ops();
std::vector<OpEntry> row_ops();     // normalization of rows, losses
std::vector<OpEntry> metric_ops();  // distances of rows, triplets, soft labels
std::vector<OpEntry> optim_ops();
std::vector<OpEntry> people_ops();  // distances, clustering, resizing
std::vector<OpEntry> module_ops();

// One call: checked inputs and attributes in, results out.
class OpCall {
 public:
  // Throws UsageError for attributes that are unknown or of another type.
  OpCall(const OpEntry& entry, const std::vector<std::string>& settings, bool gradients);
  // Throws, naming file and tensor, for inputs that are missing, unknown, or of another shape or dtype.
  void take(NamedTensors inputs);

  bool has(const std::string& input) const { return inputs_.find(input) != nullptr; }
  const Tensor& tensor(const std::string& input) const { return inputs_.at(input); }
  Tensor tensor_or_none(const std::string& input) const { return has(input) ? tensor(input) : Tensor(); }
  std::vector<int64_t> integers(const std::string& input) const;
  Var var(const std::string& input);  // on the tape when gradients are asked for; a Var() without value when absent
  const NamedTensors& inputs() const { return inputs_; }
  DType dtype() const { return dtype_; }  // of the floating inputs
  Tape* tape() { return gradients_ ? &tape_ : nullptr; }

  int64_t integer(const std::string& attribute) const;
  double number(const std::string& attribute) const;
  bool flag(const std::string& attribute) const { return values_.at(attribute) == "true"; }
  const std::string& word(const std::string& attribute) const { return values_.at(attribute); }

  void result(const std::string& name, Tensor value) { results_.add(name, std::move(value)); }
  void result(const std::string& name, const Var& value);                  // what is differentiated
  void after_backward(std::function<void()> f) { after_ = std::move(f); }  // adds gradients that live in parameters

  NamedTensors run();

 private:
  void check_names() const;
  void check_input(const OpInput& input, std::map<std::string, std::pair<int64_t, std::string>>& letters);
  void read_settings(const std::vector<std::string>& settings);

  const OpEntry& entry_;
  NamedTensors inputs_, results_;
  std::map<std::string, std::string> values_;
  bool gradients_;
  DType dtype_ = DType::f32;
  Tape tape_;
  std::vector<std::pair<std::string, Var>> leaves_;
  Var main_;
  std::function<void()> after_;
};

}  // namespace reid::program
