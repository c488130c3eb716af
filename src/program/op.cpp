// reid op: runs any op, loss or module on tensors from a file, so that every number can be checked against another program.

#include "program/op.h"
#include "program/verb.h"

#include "reid/formats/files.h"

#include <algorithm>
#include <memory>

namespace reid::program {
namespace {

struct Options {
  std::string action, name, in, out, implementation;
  std::vector<std::string> settings;
  bool gradients = false;
};

void declare(Flags& f, Options& o) {
  f.argument("ACTION", o.action, "list; describe NAME; run NAME", Presence::required);
  f.argument("NAME", o.name, "an op of reid op list");
  f.option("--in", o.in, "FILE", "run: safetensors file with the inputs by name");
  f.option("--out", o.out, "FILE", "run: safetensors file to write the results to");
  f.options("--set", o.settings, "KEY=VALUE", "run: attributes, see reid op describe NAME");
  f.option("--impl", o.implementation, "NAME", "run: this implementation and no other");
  f.flag("--grad", o.gradients, "run: also the gradients of the inputs, for the input dy, or for 1 when the result is a scalar");
}

std::string kind_of(const OpAttribute& a) {
  switch (a.kind) {
    case OpAttribute::integer: return "integer";
    case OpAttribute::number: return "number";
    case OpAttribute::flag: return "true|false";
    case OpAttribute::word: break;
  }
  std::string list;
  for (const std::string& word : a.words) list += (list.empty() ? "" : "|") + word;
  return list;
}

// The ops of the registry that work for an entry, each with its implementations.
std::vector<OpInfo> kernels_of(const OpEntry& entry) {
  std::vector<OpInfo> found;
  for (const OpInfo& op : Registry::ops()) {
    if (std::find(entry.kernels.begin(), entry.kernels.end(), op.name) != entry.kernels.end()) found.push_back(op);
  }
  return found;
}

std::string joined(const std::vector<std::string>& names) {
  std::string list;
  for (const std::string& name : names) list += (list.empty() ? "" : ", ") + name;
  return list;
}

void list(const Context& context) {
  Json all = Json::array();
  for (const OpEntry& entry : op_catalog()) {
    context.say(entry.name, std::string(std::max<size_t>(2, 26 - entry.name.size()), ' '), entry.summary);
    all.push_back(Json::object({{"name", entry.name}, {"summary", entry.summary}}));
  }
  context.write_json(all);
}

std::string padded(std::string text, size_t width) {
  text.resize(std::max(width, text.size() + 2), ' ');
  return text;
}

void describe(const Context& context, const OpEntry& entry) {
  context.say(entry.name, ": ", entry.summary, "\n\ninputs");
  Json inputs = Json::array(), attributes = Json::array(), results = Json::array(), names = Json::array();
  for (const OpInput& input : entry.inputs) {
    const std::string dtype = input.dtype == "float" ? "f32|f64" : input.dtype;
    context.say("  ", padded(input.name, 20), padded(input.shape, 24), padded(dtype, 9), input.doc, input.optional ? " (optional)" : "",
                input.gradient ? " [gradient]" : "");
    inputs.push_back(Json::object({{"name", input.name},
                                   {"shape", input.shape},
                                   {"dtype", dtype},
                                   {"doc", input.doc},
                                   {"optional", input.optional},
                                   {"gradient", input.gradient}}));
  }
  if (entry.takes_parameters) context.say("  and every parameter and buffer of the module under its name, filters [K, C, R, S] [gradient]");
  if (!entry.attributes.empty()) context.say("\nattributes (--set)");
  for (const OpAttribute& a : entry.attributes) {
    context.say("  ", padded(a.name, 20), padded(kind_of(a) + " [" + a.initial + "]", 33), a.doc);
    attributes.push_back(Json::object({{"name", a.name}, {"type", kind_of(a)}, {"default", a.initial}, {"doc", a.doc}}));
  }
  context.say("\nresults");
  for (const OpResult& r : entry.results) {
    context.say("  ", padded(r.name, 20), padded(r.shape, 33), r.doc);
    results.push_back(Json::object({{"name", r.name}, {"shape", r.shape}, {"doc", r.doc}}));
  }
  const std::vector<OpInfo> kernels = kernels_of(entry);
  if (!kernels.empty()) context.say("\nimplementations (--impl), in order of preference");
  for (const OpInfo& op : kernels) {
    context.say("  ", padded(op.name, 24), joined(op.implementations));
    Json list_of = Json::array();
    for (const std::string& name : op.implementations) list_of.push_back(name);
    names.push_back(Json::object({{"op", op.name}, {"names", list_of}}));
  }
  context.write_json(Json::object({{"name", entry.name},
                                   {"summary", entry.summary},
                                   {"inputs", inputs},
                                   {"attributes", attributes},
                                   {"results", results},
                                   {"implementations", names}}));
}

void force(const OpEntry& entry, const std::string& wanted) {
  std::vector<std::string> names;
  bool found = false;
  for (const OpInfo& op : kernels_of(entry)) {
    for (const std::string& name : op.implementations) {
      if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(name);
      if (name != wanted) continue;
      Registry::force(op.name, wanted);
      found = true;
    }
  }
  if (found) return;
  const std::string guess = nearest(wanted, names);
  throw UsageError(str(entry.name, " has no implementation '", wanted, "'", guess.empty() ? "" : "; did you mean '" + guess + "'?",
                       names.empty() ? " (it has one, without a name)" : " (it has: " + joined(names) + ")"));
}

void run_op(const Context& context, const OpEntry& entry, const Options& o) {
  if (o.in.empty() || o.out.empty())
    throw UsageError(str("run needs --in FILE and --out FILE; reid op describe ", entry.name, " says what belongs there"));
  if (!o.implementation.empty()) force(entry, o.implementation);
  OpCall call(entry, o.settings, o.gradients);
  call.take(read_safetensors(o.in));
  const NamedTensors results = call.run();
  write_safetensors(o.out, results);
  Json shapes = Json::array();
  for (const auto& [name, tensor] : results.tensors) {
    context.say(padded(name, 28), tensor.shape(), " ", tensor.dtype(),
                tensor.numel() == 1 && tensor.dtype() != DType::u8 ? str("  ", tensor.item()) : "");
    Json extents = Json::array();
    for (const int64_t extent : tensor.shape().extents()) extents.push_back(extent);
    shapes.push_back(Json::object({{"name", name}, {"shape", extents}, {"dtype", name_of(tensor.dtype())}}));
  }
  context.write_json(Json::object({{"op", entry.name}, {"out", o.out}, {"results", shapes}}));
}

void run(const Context& context, const Options& o) {
  if (o.action == "list") return list(context);
  if (o.action != "describe" && o.action != "run") throw UsageError(str("'", o.action, "' is not one of list, describe, run"));
  if (o.name.empty()) throw UsageError(str(o.action, " needs the NAME of an op (reid op list names them all)"));
  const OpEntry& entry = find_op(o.name);
  if (o.action == "describe") return describe(context, entry);
  run_op(context, entry, o);
}

}  // namespace

Verb op_verb() {
  auto o = std::make_shared<Options>();
  return {"op", "run any op, loss or module on tensors from a file",
          "reid op run conv_forward --in I.safetensors --out O.safetensors --set stride=2 pad=1 --grad", [o](Flags& f) { declare(f, *o); },
          [o](const Context& context) { run(context, *o); }};
}

}  // namespace reid::program
