#pragma once
// Python pickles as plain values. Nothing is imported, called or constructed: what a pickle wants built of a class stays an
// `object` node that remembers the name and the arguments.
//
// Design: protocols 0 to 5 without out-of-band buffers and extension codes. Nodes live as long as the Pickle, so that values
// which contain themselves do no harm; whoever walks them must guard against cycles. At most 4 million values, unless the caller expects
// more (about 200 bytes of memory each).

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "formats/source.h"

namespace reid {

struct PickleNode {
  enum class Kind : uint8_t { none, boolean, integer, real, string, bytes, list, tuple, dict, global, object, persistent };
  Kind kind = Kind::none;
  int64_t integer = 0;              // boolean, integer
  double real = 0;                  // real
  std::string text;                 // string, bytes; global and object: "module.name"; integer beyond 64 bits: little-endian bytes
  std::vector<PickleNode*> items;   // list, tuple; dict: key, value, key, value...; persistent: the id
  PickleNode* arguments = nullptr;  // object: what its class would have been called with
  PickleNode* state = nullptr;      // object: what its __setstate__ would have got

  bool is(Kind k) const { return kind == k; }
  // The value of a dict's string key; null when there is none.
  const PickleNode* find(const std::string& key) const;
};

class Pickle {
 public:
  // Reads one pickle and leaves the cursor behind it. Throws, naming the file and the byte, when it is damaged.
  static constexpr size_t kMaxValues = 4'000'000;
  explicit Pickle(Cursor& in, size_t max_values = kMaxValues);
  const PickleNode& root() const { return *root_; }
  template <class Action>
  void each(Action&& action) const {  // every value of the pickle, reachable or not
    for (const PickleNode& node : nodes_) action(node);
  }

 private:
  friend class PickleMachine;
  std::deque<PickleNode> nodes_;
  PickleNode* root_ = nullptr;
};

}  // namespace reid
