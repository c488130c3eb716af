#pragma once
// Blocks of one device's memory that were used before: the next request of the same size gets one of them, instead of asking the system.

#include <map>
#include <mutex>

#include "quietly.h"
#include "reid/engine/accelerator.h"

namespace reid {

class MemoryPool {
 public:
  explicit MemoryPool(Device device) : device_(device) {}
  virtual ~MemoryPool() {
    quietly([&] { release(); });
  }
  MemoryPool(const MemoryPool&) = delete;
  MemoryPool& operator=(const MemoryPool&) = delete;

  // `owner` becomes the pool to give it back to, where that is another. Throws OutOfMemory, after giving up the cache.
  virtual void* allocate(size_t block, Storage::Use use, std::shared_ptr<MemoryPool>& owner);
  virtual void give_back(void* data, size_t block);
  AllocatorStats stats() const;
  void release_cache();

 protected:
  virtual void make_room() { release(); }  // before the last try
  void* ask_system(size_t block);          // the system's memory; throws OutOfMemory
  void give_to_system(void* data);
  Device device() const { return device_; }

 private:
  void* take(size_t block);
  void* try_system(size_t block) const;
  void release();
  [[noreturn]] void out_of_memory(size_t block) const;

  Device device_;
  mutable std::mutex mutex_;
  std::multimap<size_t, void*> free_;
  AllocatorStats stats_;
};

void fill_bytes(Device device, void* to, uint8_t byte, size_t bytes);  // an accelerator's memory, in its stream

// The device's own pool, and the one that new tensors come from: the same except inside of a recorded step.
const std::shared_ptr<MemoryPool>& own_pool(Device device);
const std::shared_ptr<MemoryPool>& memory_pool(Device device);
void set_memory_pool(Device device, std::shared_ptr<MemoryPool> pool);  // null: its own again

}  // namespace reid
