#pragma once
// What implementations make of weights before they can use them (packed panels, transformed filters), kept from call to call.
//
// Whoever hands a cache to a call promises that the weights stay as they are while the cache lives. One thread at a time.

#include <map>
#include <memory>
#include <utility>

#include "reid/engine/device.h"

namespace reid {

class WeightCache {
 public:
  // `count` floats made of `weights` in the form of this name: filled at the first call, 64-byte aligned.
  const float* floats(const void* weights, const std::string& form, int64_t count, FunctionRef<void(float*)> fill);
  int64_t bytes() const;  // held
  void clear() { blocks_.clear(); }

 private:
  std::map<std::pair<const void*, std::string>, std::unique_ptr<Storage>> blocks_;
};

}  // namespace reid
