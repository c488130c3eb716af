#pragma once
// From a pickle's values to named tensors: what PyTorch's three containers share.

#include <functional>
#include <set>
#include <string>

#include "formats/elements.h"
#include "formats/pickle.h"
#include "reid/formats/tensor_file.h"

namespace reid {

// What a persistent id stands for: a storage, or in the tar container also a finished tensor.
struct Stored {
  Tensor tensor = {};  // a storage: one dimension; undefined: cannot be read
  const ElementType* type = nullptr;
  int64_t offset = 0;  // where a view of a storage begins, elements
  bool finished = false;
  std::string trouble = {};  // why it cannot be read: "ComplexFloatStorage"
};
using Resolve = std::function<Stored(const PickleNode& id, const std::string& what)>;

// "torch.HalfStorage" -> float16; null for types that are not supported here.
const ElementType* storage_type(const PickleNode& type);
// The key of a storage: PyTorch has used strings and integers.
std::string key_of(const PickleNode& key);

// Walks the values from the root and fills a TensorFile's tensors, metadata and list of what was passed over.
class TensorCollector {
 public:
  // `stored_bytes` bounds what strided views may unfold to.
  TensorCollector(TensorFile& out, Resolve resolve, uint64_t stored_bytes);
  void collect(const PickleNode& root);

 private:
  void walk(const PickleNode& node, const std::string& path, int depth);
  void walk_items(const PickleNode& node, const std::string& path, int depth);
  void walk_object(const PickleNode& node, const std::string& path, int depth);
  bool walk_module(const PickleNode& state, const std::string& path, int depth);
  void rebuild(const PickleNode& node, const std::string& path);
  void add(const std::string& path, Tensor tensor, const ElementType& type);
  void note(const std::string& path, const std::string& text);
  void skip(const std::string& path, const std::string& reason);

  TensorFile& out_;
  Resolve resolve_;
  int64_t budget_;
  int64_t visits_ = 0;
  std::set<std::string> names_;
  size_t more_skipped_ = 0;
};

}  // namespace reid
