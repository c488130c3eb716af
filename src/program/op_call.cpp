// One call of `reid op run`: what is checked before an op sees its tensors, and how gradients are collected.

#include "program/op.h"
#include "program/verb.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace reid::program {
namespace {

std::string listed(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list.empty() ? "none" : list;
}

std::string hint(const std::string& word, const std::vector<std::string>& names) {
  const std::string guess = nearest(word, names);
  if (!guess.empty()) return "; did you mean '" + guess + "'?";
  // Too far from each: those that begin alike.
  std::string alike;
  for (const std::string& name : names) {
    if (word.size() >= 4 && name.starts_with(word.substr(0, 4))) alike += (alike.empty() ? "" : ", ") + name;
  }
  return alike.empty() ? "" : "; there are " + alike;
}

// "[K, R, S, C/groups]" -> {"K", "R", "S", "C/groups"}
std::vector<std::string> tokens_of(const std::string& shape) {
  std::vector<std::string> tokens;
  std::string token;
  for (const char c : shape) {
    if (c == '[' || c == ' ') continue;
    if (c == ',' || c == ']') {
      if (!token.empty()) tokens.push_back(token);
      token.clear();
    } else {
      token += c;
    }
  }
  return tokens;
}

bool parses(const std::string& text, OpAttribute::Kind kind) {
  const char* end = text.data() + text.size();
  double number = 0;
  int64_t integer = 0;
  if (kind == OpAttribute::integer) {
    const auto r = std::from_chars(text.data(), end, integer);
    return r.ec == std::errc{} && r.ptr == end;
  }
  const auto r = std::from_chars(text.data(), end, number);
  return r.ec == std::errc{} && r.ptr == end && std::isfinite(number);
}

std::string checked_value(const OpEntry& entry, const OpAttribute& a, const std::string& text) {
  switch (a.kind) {
    case OpAttribute::flag:
      if (text == "true" || text == "1") return "true";
      if (text == "false" || text == "0") return "false";
      throw UsageError(str(entry.name, ": ", a.name, " takes true or false, not '", text, "'"));
    case OpAttribute::word:
      if (std::find(a.words.begin(), a.words.end(), text) != a.words.end()) return text;
      throw UsageError(str(entry.name, ": ", a.name, " takes one of ", listed(a.words), ", not '", text, "'", hint(text, a.words)));
    default:
      if (parses(text, a.kind)) return text;
      throw UsageError(
          str(entry.name, ": ", a.name, " takes ", a.kind == OpAttribute::integer ? "an integer" : "a number", ", not '", text, "'"));
  }
}

bool is_float(DType dtype) { return dtype == DType::f32 || dtype == DType::f64; }

}  // namespace

OpInput differentiable(std::string name, std::string shape, std::string doc) {
  return {.name = std::move(name), .shape = std::move(shape), .doc = std::move(doc), .gradient = true};
}
OpInput constant(std::string name, std::string shape, std::string doc, std::string dtype) {
  return {.name = std::move(name), .shape = std::move(shape), .doc = std::move(doc), .dtype = std::move(dtype)};
}
OpInput optional(OpInput input) {
  input.optional = true;
  return input;
}

const std::vector<OpEntry>& op_catalog() {
  static const std::vector<OpEntry> all = [] {
    std::vector<OpEntry> entries;
    for (const auto& part : {dense_ops(), vision_ops(), row_ops(), metric_ops(), optim_ops(), people_ops(), module_ops()})
      entries.insert(entries.end(), part.begin(), part.end());
    return entries;
  }();
  return all;
}

const OpEntry& find_op(const std::string& name) {
  std::vector<std::string> names;
  for (const OpEntry& entry : op_catalog()) {
    if (entry.name == name) return entry;
    names.push_back(entry.name);
  }
  throw UsageError(str("unknown op '", name, "'", hint(name, names), " (reid op list names them all)"));
}

OpCall::OpCall(const OpEntry& entry, const std::vector<std::string>& settings, bool gradients) : entry_(entry), gradients_(gradients) {
  const bool any =
      entry.takes_parameters || std::any_of(entry.inputs.begin(), entry.inputs.end(), [](const OpInput& i) { return i.gradient; });
  if (gradients && !any) throw UsageError(entry.name + " has no gradient: leave --grad out");
  read_settings(settings);
}

void OpCall::read_settings(const std::vector<std::string>& settings) {
  std::vector<std::string> names;
  for (const OpAttribute& a : entry_.attributes) {
    values_[a.name] = a.initial;
    names.push_back(a.name);
  }
  for (const std::string& setting : settings) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos) throw UsageError(str("--set takes key=value, not '", setting, "'"));
    const std::string key = setting.substr(0, equals);
    const auto found =
        std::find_if(entry_.attributes.begin(), entry_.attributes.end(), [&](const OpAttribute& a) { return a.name == key; });
    if (found == entry_.attributes.end())
      throw UsageError(str(entry_.name, " has no attribute '", key, "'", hint(key, names), " (it has: ", listed(names), ")"));
    values_[key] = checked_value(entry_, *found, setting.substr(equals + 1));
  }
}

void OpCall::check_names() const {
  std::vector<std::string> names;
  for (const OpInput& input : entry_.inputs) names.push_back(input.name);
  for (const auto& [name, tensor] : inputs_.tensors) {
    if (entry_.takes_parameters || name == "dy" || std::find(names.begin(), names.end(), name) != names.end()) continue;
    fail(str(inputs_.source, ": ", entry_.name, " has no input '", name, "'", hint(name, names), " (it has: ", listed(names), ")"));
  }
}

void OpCall::take(NamedTensors inputs) {
  inputs_ = std::move(inputs);
  check_names();
  std::string first;  // the floating input that sets the dtype
  for (const OpInput& input : entry_.inputs) {
    const Tensor* t = inputs_.find(input.name);
    if (!t || input.dtype != "float" || !is_float(t->dtype())) continue;
    if (first.empty()) first = input.name, dtype_ = t->dtype();
    REID_CHECK(t->dtype() == dtype_, inputs_.source, ": ", input.name, " is ", t->dtype(), " but ", first, " is ", dtype_,
               ": give both the same dtype");
  }
  std::map<std::string, std::pair<int64_t, std::string>> letters;
  for (const OpInput& input : entry_.inputs) check_input(input, letters);
}

void OpCall::check_input(const OpInput& input, std::map<std::string, std::pair<int64_t, std::string>>& letters) {
  const Tensor* t = inputs_.find(input.name);
  if (!t) {
    REID_CHECK(input.optional, inputs_.source, ": input '", input.name, "' ", input.shape, " of ", entry_.name, " is missing");
    return;
  }
  const bool fits = input.dtype == "float" ? is_float(t->dtype()) : input.dtype == "u8" ? t->dtype() == DType::u8 : !is_float(t->dtype());
  REID_CHECK(fits, inputs_.source, ": ", input.name, " is ", t->dtype(), ", ", entry_.name, " takes ",
             input.dtype == "float" ? "f32 or f64" : input.dtype);
  std::vector<std::string> tokens = tokens_of(input.shape);
  int skipped = 0;
  const bool open = !tokens.empty() && tokens[0] == "...";
  if (open) {
    tokens.erase(tokens.begin());
    skipped = t->shape().rank() - static_cast<int>(tokens.size());
  }
  REID_CHECK(open ? skipped >= 0 : t->shape().rank() == static_cast<int>(tokens.size()), inputs_.source, ": ", input.name, " ", t->shape(),
             " does not fit ", input.shape);
  for (size_t i = 0; i < tokens.size(); ++i) {
    const int64_t extent = t->shape()[skipped + static_cast<int>(i)];
    const std::string& token = tokens[i];
    if (token == "." || token.find('/') != std::string::npos) continue;  // left to the op
    if (token.find_first_not_of("0123456789") == std::string::npos) {
      REID_CHECK(std::to_string(extent) == token, inputs_.source, ": ", input.name, " ", t->shape(), " does not fit ", input.shape);
      continue;
    }
    const auto [bound, fresh] = letters.try_emplace(token, extent, input.name);
    REID_CHECK(bound->second.first == extent, inputs_.source, ": ", input.name, " ", t->shape(), " does not fit ", input.shape, ": ", token,
               " is ", bound->second.first, " in ", bound->second.second);
  }
}

std::vector<int64_t> OpCall::integers(const std::string& input) const {
  const Tensor t = tensor(input).to(DType::i64);
  return {t.span<int64_t>().begin(), t.span<int64_t>().end()};
}

Var OpCall::var(const std::string& input) {
  if (!has(input)) return Var();
  if (!gradients_) return Var(tensor(input));
  leaves_.emplace_back(input, tape_.input(tensor(input)));
  return leaves_.back().second;
}

int64_t OpCall::integer(const std::string& attribute) const {
  int64_t value = 0;
  const std::string& text = values_.at(attribute);
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

double OpCall::number(const std::string& attribute) const {
  double value = 0;
  const std::string& text = values_.at(attribute);
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

void OpCall::result(const std::string& name, const Var& value) {
  main_ = value;
  results_.add(name, value.value());
}

NamedTensors OpCall::run() {
  entry_.run(*this);
  if (!gradients_) return std::move(results_);
  const bool given = has("dy");
  REID_CHECK(given || main_.value().numel() == 1, inputs_.source, ": --grad needs dy ", main_.shape(), ", the gradient of the result");
  if (main_.tape()) {  // not on the tape: nothing depends on the inputs
    Tensor dy;
    if (given) {
      dy = tensor("dy");
      REID_CHECK(dy.shape() == main_.shape() && dy.dtype() == dtype_, inputs_.source, ": dy ", dy.shape(), " ", dy.dtype(),
                 " is not like the result, ", main_.shape(), " ", dtype_);
    }
    tape_.backward(main_, dy);
  }
  for (const auto& [name, leaf] : leaves_) results_.add("d" + name, tape_.gradient(leaf));
  if (after_) after_();
  return std::move(results_);
}

}  // namespace reid::program
