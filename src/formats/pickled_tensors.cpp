#include "formats/pickled_tensors.h"

#include <algorithm>
#include <utility>

namespace reid {
namespace {

using Kind = PickleNode::Kind;

constexpr int kMaxDepth = 100;             // cycles end here; real checkpoints are a handful deep
constexpr int64_t kMaxVisits = 4'000'000;  // values shared many times over are walked many times
constexpr size_t kMaxNotes = 1000, kMaxNoteLength = 200, kMaxSkipped = 200;

std::vector<int64_t> integers(const PickleNode& node, const std::string& what) {
  std::vector<int64_t> values;
  REID_CHECK(node.is(Kind::tuple) || node.is(Kind::list), what, ": a shape that is no tuple");
  REID_CHECK(node.items.size() <= Shape::kMaxRank, what, ": ", node.items.size(), " dimensions; at most ", Shape::kMaxRank,
             " are supported");
  for (const PickleNode* item : node.items) {
    REID_CHECK(item->is(Kind::integer) && item->text.empty(), what, ": an extent that is no integer of 64 bits");
    values.push_back(item->integer);
  }
  return values;
}

// torch.Size([...]) inside a tensor's arguments stays an object of one tuple.
const PickleNode& unwrapped(const PickleNode& node) {
  const bool size = node.is(Kind::object) && node.text == "torch.Size" && node.arguments && node.arguments->items.size() == 1;
  return size ? *node.arguments->items[0] : node;
}

bool is_call(const PickleNode& node, std::initializer_list<const char*> names, size_t arguments) {
  const bool named = std::any_of(names.begin(), names.end(), [&](const char* name) { return node.text == name; });
  return named && node.arguments && node.arguments->items.size() >= arguments;
}

std::string joined(const std::string& path, const std::string& name) { return path.empty() ? name : path + "." + name; }

}  // namespace

const ElementType* storage_type(const PickleNode& type) {
  constexpr std::pair<const char*, const char*> kStorages[] = {
      {"FloatStorage", "float32"}, {"DoubleStorage", "float64"}, {"HalfStorage", "float16"}, {"BFloat16Storage", "bfloat16"},
      {"LongStorage", "int64"},    {"IntStorage", "int32"},      {"ShortStorage", "int16"},  {"CharStorage", "int8"},
      {"ByteStorage", "uint8"},    {"BoolStorage", "bool"}};
  if (!type.is(Kind::global) || !type.text.starts_with("torch.")) return nullptr;
  const std::string name = type.text.substr(type.text.rfind('.') + 1);  // torch.FloatStorage, torch.cuda.FloatStorage
  for (const auto& [storage, element] : kStorages)
    if (name == storage) return element_type(element);
  return nullptr;
}

std::string key_of(const PickleNode& key) { return key.is(Kind::integer) && key.text.empty() ? std::to_string(key.integer) : key.text; }

TensorCollector::TensorCollector(TensorFile& out, Resolve resolve, uint64_t stored_bytes)
    : out_(out),
      resolve_(std::move(resolve)),
      budget_(static_cast<int64_t>(std::min<uint64_t>(stored_bytes, uint64_t{1} << 40)) * 2 + (64 << 20)) {}

void TensorCollector::collect(const PickleNode& root) {
  walk(root, "", 0);
  if (more_skipped_ > 0) out_.skipped.push_back(str("and ", more_skipped_, " more"));
}

void TensorCollector::add(const std::string& path, Tensor tensor, const ElementType& type) {
  const std::string name = path.empty() ? "tensor" : path;
  if (!names_.insert(name).second) return skip(name, "a second tensor of that name");
  out_.content.tensors.emplace_back(name, std::move(tensor));
  out_.dtypes.emplace_back(type.name);
}

void TensorCollector::note(const std::string& path, const std::string& text) {
  if (out_.content.metadata.size() < kMaxNotes && text.size() <= kMaxNoteLength) out_.content.metadata.emplace_back(path, text);
}

void TensorCollector::skip(const std::string& path, const std::string& reason) {
  if (out_.skipped.size() < kMaxSkipped) {
    out_.skipped.push_back((path.empty() ? "the file's value" : path) + ": " + reason);
  } else {
    ++more_skipped_;
  }
}

void TensorCollector::walk(const PickleNode& node, const std::string& path, int depth) {
  REID_CHECK(depth < kMaxDepth, out_.content.source, ": values nested more than ", kMaxDepth, " deep");
  REID_CHECK(++visits_ <= kMaxVisits, out_.content.source, ": more than ", kMaxVisits, " values");
  switch (node.kind) {
    case Kind::none: return;
    case Kind::boolean: return note(path, node.integer ? "true" : "false");
    case Kind::integer: return node.text.empty() ? note(path, std::to_string(node.integer)) : skip(path, "an integer beyond 64 bits");
    case Kind::real: return note(path, str(node.real));
    case Kind::string: return note(path, node.text);
    case Kind::bytes: return skip(path, str(node.text.size(), " raw bytes"));
    case Kind::list:
    case Kind::tuple:
    case Kind::dict: return walk_items(node, path, depth);
    case Kind::global: return skip(path, node.text);
    case Kind::object: return walk_object(node, path, depth);
    case Kind::persistent: {
      const Stored stored = resolve_(*node.items[0], path);
      if (!stored.finished) return skip(path, "a storage without a tensor");
      return stored.tensor.defined() ? add(path, stored.tensor, *stored.type) : skip(path, stored.trouble);
    }
  }
}

void TensorCollector::walk_items(const PickleNode& node, const std::string& path, int depth) {
  if (!node.is(Kind::dict)) {
    for (size_t i = 0; i < node.items.size(); ++i) {
      const Kind kind = node.items[i]->kind;  // lists of plain values (parameter numbers, milestones) tell nothing
      if (kind != Kind::integer && kind != Kind::real && kind != Kind::string && kind != Kind::boolean)
        walk(*node.items[i], joined(path, std::to_string(i)), depth + 1);
    }
    return;
  }
  for (size_t i = 0; i + 1 < node.items.size(); i += 2) {
    const PickleNode& key = *node.items[i];
    const bool named = key.is(Kind::string) || key.is(Kind::integer) || key.is(Kind::bytes);
    if (named) {
      walk(*node.items[i + 1], joined(path, key_of(key)), depth + 1);
    } else {
      skip(path, "an entry whose key is neither text nor number");
    }
  }
}

void TensorCollector::walk_object(const PickleNode& node, const std::string& path, int depth) {
  if (is_call(node, {"torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"}, 4)) return rebuild(node, path);
  if (is_call(node, {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"}, 1) ||
      is_call(node, {"torch.nn.parameter.Parameter"}, 1))
    return walk(*node.arguments->items[0], path, depth + 1);
  if (node.state && walk_module(*node.state, path, depth)) return;
  skip(path, node.text);
}

// A module that was pickled whole has its tensors in three dicts of its state.
bool TensorCollector::walk_module(const PickleNode& state, const std::string& path, int depth) {
  bool found = false;
  for (const char* part : {"_parameters", "_buffers", "_modules"}) {
    const PickleNode* tensors = state.find(part);
    if (!tensors) continue;
    found = true;
    walk(*tensors, path, depth + 1);
  }
  return found;
}

void TensorCollector::rebuild(const PickleNode& node, const std::string& path) {
  const std::string what = str(out_.content.source, ": tensor \"", path, "\"");
  const std::vector<PickleNode*>& arguments = node.arguments->items;
  REID_CHECK(arguments[0]->is(Kind::persistent), what, ": is built of something that is no storage");
  REID_CHECK(arguments[1]->is(Kind::integer) && arguments[1]->text.empty(), what, ": its offset is no integer");
  const Stored stored = resolve_(*arguments[0]->items[0], what);
  if (!stored.tensor.defined()) return skip(path, stored.trouble);
  REID_CHECK(arguments[1]->integer >= 0 && arguments[1]->integer <= stored.tensor.numel(), what, ": its offset is outside of its storage");
  const std::vector<int64_t> shape = integers(unwrapped(*arguments[2]), what), strides = integers(unwrapped(*arguments[3]), what);
  add(path, strided_view(stored.tensor, stored.offset + arguments[1]->integer, shape, strides, what, budget_), *stored.type);
}

}  // namespace reid
