// Memory of every device: pools of blocks that were used before, and the table of which device an address belongs to.

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "memory_pool.h"
#include "reid/engine/accelerator.h"

namespace reid {

namespace {

constexpr size_t kAlignment = 64;
constexpr size_t kHugePage = size_t{1} << 21;

// Blocks are rounded up so that nearly equal requests share them: to 256 bytes below 16 KiB, else to an eighth of their power of two.
size_t block_size(size_t bytes) {
  if (bytes <= 16384) return (bytes + 255) / 256 * 256 + (bytes == 0 ? 256 : 0);
  size_t step = 2048;
  while (step * 16 < bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

// Address ranges of accelerators. It grows with system allocations only, which a warmed-up loop does not make.
class Places {
 public:
  void add(const void* begin, size_t bytes, Device device) {
    const std::scoped_lock lock(mutex_);
    ranges_[reinterpret_cast<uintptr_t>(begin)] = {reinterpret_cast<uintptr_t>(begin) + bytes, device};
    Sum& sum = sums_[{device.type, device.index}];
    sum.now += static_cast<int64_t>(bytes);
    sum.peak = std::max(sum.peak, sum.now);
    used = true;
  }
  void remove(const void* begin) {
    const std::scoped_lock lock(mutex_);
    const auto range = ranges_.find(reinterpret_cast<uintptr_t>(begin));
    sums_[{range->second.device.type, range->second.device.index}].now -= static_cast<int64_t>(range->second.end - range->first);
    ranges_.erase(range);
  }
  Device find(const void* pointer) {
    const auto address = reinterpret_cast<uintptr_t>(pointer);
    const std::scoped_lock lock(mutex_);
    auto range = ranges_.upper_bound(address);
    if (range == ranges_.begin()) return {};
    --range;
    return address < range->second.end ? range->second.device : Device{};
  }

  int64_t peak(Device device) {
    const std::scoped_lock lock(mutex_);
    return sums_[{device.type, device.index}].peak;
  }

  std::atomic<bool> used{false};

 private:
  struct Range {
    uintptr_t end;
    Device device;
  };
  struct Sum {
    int64_t now = 0, peak = 0;
  };
  std::mutex mutex_;
  std::map<uintptr_t, Range> ranges_;
  std::map<std::pair<DeviceType, int>, Sum> sums_;
};
Places& places() {
  static auto* all = new Places;  // never destroyed, as the pools
  return *all;
}

void* ask_cpu(size_t block) {
  const size_t alignment = block >= kHugePage ? kHugePage : kAlignment;
  void* data = std::aligned_alloc(alignment, (block + alignment - 1) / alignment * alignment);
  // Large activations live on huge pages: fewer page faults and TLB misses. Refusal only costs speed.
  if (data && block >= kHugePage) madvise(data, block, MADV_HUGEPAGE);
  return data;
}

std::string mebibytes(int64_t bytes) { return str((bytes + (1 << 19)) >> 20, " MiB"); }

}  // namespace

void* MemoryPool::allocate(size_t block, Storage::Use, std::shared_ptr<MemoryPool>&) {
  const std::scoped_lock lock(mutex_);
  void* data = take(block);
  if (!data) data = ask_system(block);
  stats_.bytes_in_use += static_cast<int64_t>(block);
  stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.bytes_in_use);
  return data;
}

void MemoryPool::give_back(void* data, size_t block) {
  const std::scoped_lock lock(mutex_);
  free_.emplace_hint(free_.lower_bound(block), block, data);  // before its equals: taken first, while it is in cache
  stats_.bytes_in_use -= static_cast<int64_t>(block);
  stats_.bytes_cached += static_cast<int64_t>(block);
}

AllocatorStats MemoryPool::stats() const {
  const std::scoped_lock lock(mutex_);
  return stats_;
}

void MemoryPool::release_cache() {
  const std::scoped_lock lock(mutex_);
  release();
}

void* MemoryPool::take(size_t block) {
  const auto found = free_.find(block);
  if (found == free_.end()) return nullptr;
  void* data = found->second;
  free_.erase(found);
  stats_.bytes_cached -= static_cast<int64_t>(block);
  return data;
}

void* MemoryPool::try_system(size_t block) const {
  if (device_.type == DeviceType::cpu) return ask_cpu(block);
  void* data = accelerator(device_).allocate(device_.index, block);
  if (data) places().add(data, block, device_);
  return data;
}

void* MemoryPool::ask_system(size_t block) {
  void* data = try_system(block);
  if (!data) {
    make_room();
    data = try_system(block);
  }
  if (!data) out_of_memory(block);
  ++stats_.system_allocations;
  return data;
}

void MemoryPool::give_to_system(void* data) {
  if (device_.type == DeviceType::cpu) return std::free(data);
  places().remove(data);
  accelerator(device_).release(device_.index, data);
}

void MemoryPool::release() {
  if (device_.type != DeviceType::cpu && !free_.empty()) current_stream(device_).synchronize();  // queued work may still use the blocks
  for (const auto& [block, data] : free_) give_to_system(data);
  free_.clear();
  stats_.bytes_cached = 0;
}

void MemoryPool::out_of_memory(size_t block) const {
  MemoryShortage s{device_, static_cast<int64_t>(block), stats_.bytes_in_use, 0};
  if (device_.type == DeviceType::cpu)
    throw OutOfMemory(str("[allocator] the system has no ", block, " bytes left (", s.in_use, " in use)"), s);
  Accelerator& a = accelerator(device_);
  s.free = a.free_memory(device_.index);
  throw OutOfMemory(str("[allocator] ", device_, " has no ", mebibytes(s.wanted), " left: ", mebibytes(s.in_use), " are in use here, ",
                        mebibytes(s.free), " of ", mebibytes(a.info(device_.index).memory), " are free"),
                    s);
}

namespace {

struct Pools {
  std::shared_ptr<MemoryPool> own, current;
};

// Never destroyed: tensors with static lifetime may give blocks back after main.
Pools& pools_of(Device device) {
  static auto* cpu = new Pools{std::make_shared<MemoryPool>(Device{}), {}};
  if (device.type == DeviceType::cpu) return *cpu;
  static auto* others = new std::map<std::pair<DeviceType, int>, Pools>;
  static std::mutex mutex;
  const std::scoped_lock lock(mutex);
  Pools& pools = (*others)[{device.type, device.index}];
  if (!pools.own) pools.own = std::make_shared<MemoryPool>(device);
  return pools;
}

}  // namespace

const std::shared_ptr<MemoryPool>& own_pool(Device device) { return pools_of(device).own; }
const std::shared_ptr<MemoryPool>& memory_pool(Device device) {
  Pools& pools = pools_of(device);
  return pools.current ? pools.current : pools.own;
}
void set_memory_pool(Device device, std::shared_ptr<MemoryPool> pool) { pools_of(device).current = std::move(pool); }

Storage::Storage(int64_t bytes, Device device, Use use)
    : pool_(memory_pool(device)), bytes_(bytes), block_(block_size(static_cast<size_t>(bytes))), device_(device) {
  data_ = pool_->allocate(block_, use, pool_);
#ifdef REID_DEBUG
  if (device.type == DeviceType::cpu) {
    std::memset(data_, 0xFF, block_);
  } else if (use == Use::any) {
    fill_bytes(device, data_, 0xFF, block_);
  }
#endif
}

Storage::~Storage() { pool_->give_back(data_, block_); }

AllocatorStats allocator_stats(Device device) {
  AllocatorStats stats = own_pool(device)->stats();
  stats.peak_device_bytes = places().peak(device);
  return stats;
}
void release_cached_memory(Device device) { own_pool(device)->release_cache(); }

void fill_bytes(Device device, void* to, uint8_t byte, size_t bytes) {
  const auto run = [=](Stream& stream) { accelerator(device).fill(to, byte, bytes, stream.native()); };
  if (Recorder* r = recorder(device)) return r->repeats({key_word("fill"), key_word(to), byte, static_cast<int64_t>(bytes)}, run);
  run(current_stream(device));
}

Device device_of(const void* pointer) { return places().used ? places().find(pointer) : Device{}; }
bool accelerators_in_use() { return places().used; }

}  // namespace reid
