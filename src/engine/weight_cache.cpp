#include "reid/engine/weight_cache.h"

namespace reid {

const float* WeightCache::floats(const void* weights, const std::string& form, int64_t count, FunctionRef<void(float*)> fill) {
  std::unique_ptr<Storage>& block = blocks_[{weights, form}];
  const int64_t bytes = count * static_cast<int64_t>(sizeof(float));
  if (!block) {
    auto fresh = std::make_unique<Storage>(bytes, Device{});
    fill(static_cast<float*>(fresh->data()));
    block = std::move(fresh);
  }
  REID_CHECK(block->bytes() == bytes, "[weights] the form ", form, " has ", block->bytes(), " bytes, asked for as ", bytes);
  return static_cast<const float*>(block->data());
}

int64_t WeightCache::bytes() const {
  int64_t sum = 0;
  for (const auto& [key, block] : blocks_) sum += block ? block->bytes() : 0;
  return sum;
}

}  // namespace reid
