#include "reid/engine/device.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <new>
#include <ostream>
#include <thread>

namespace reid {

std::ostream& operator<<(std::ostream& out, Device device) {
  return out << (device.type == DeviceType::cpu ? "cpu" : "cuda:") << (device.type == DeviceType::cpu ? "" : std::to_string(device.index));
}

Device parse_device(const std::string& name) {
  if (name == "cpu") return {};
  if (name == "cuda" || name.starts_with("cuda:")) {
    fail("device " + name + ": this build has no CUDA backend; use --device cpu");
  }
  fail("device '" + name + "' is unknown; use cpu");
}

std::string describe_cpu() {
  std::string model = "unknown CPU";
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    if (line.starts_with("model name")) {
      model = line.substr(line.find(':') + 2);
      break;
    }
  }
#if defined(__x86_64__)
  const char* isa = __builtin_cpu_supports("avx512f") ? "avx512" : __builtin_cpu_supports("avx2") ? "avx2" : "sse2";
#else
  const char* isa = "portable";
#endif
  return str(model, ", ", std::thread::hardware_concurrency(), " cores, ", isa);
}

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

class CpuAllocator {
 public:
  void* allocate(size_t block) {
    const std::scoped_lock lock(mutex_);
    void* data = take(block);
    if (!data) {
      data = ask_system(block);
      if (!data) {
        release();
        data = ask_system(block);
      }
      if (!data) fail(str("[allocator] the system has no ", block, " bytes left (", stats_.bytes_in_use, " in use)"));
      ++stats_.system_allocations;
    }
    stats_.bytes_in_use += static_cast<int64_t>(block);
    stats_.peak_bytes = std::max(stats_.peak_bytes, stats_.bytes_in_use);
    return data;
  }

  void give_back(void* data, size_t block) {
    const std::scoped_lock lock(mutex_);
    free_.emplace(block, data);
    stats_.bytes_in_use -= static_cast<int64_t>(block);
    stats_.bytes_cached += static_cast<int64_t>(block);
  }

  AllocatorStats stats() {
    const std::scoped_lock lock(mutex_);
    return stats_;
  }

  void release_cache() {
    const std::scoped_lock lock(mutex_);
    release();
  }

 private:
  void* take(size_t block) {
    const auto found = free_.find(block);
    if (found == free_.end()) return nullptr;
    void* data = found->second;
    free_.erase(found);
    stats_.bytes_cached -= static_cast<int64_t>(block);
    return data;
  }

  static void* ask_system(size_t block) {
    const size_t alignment = block >= kHugePage ? kHugePage : kAlignment;
    void* data = std::aligned_alloc(alignment, (block + alignment - 1) / alignment * alignment);
    // Large activations live on huge pages: fewer page faults and TLB misses. Refusal only costs speed.
    if (data && block >= kHugePage) madvise(data, block, MADV_HUGEPAGE);
    return data;
  }

  void release() {
    for (const auto& [block, data] : free_) std::free(data);
    free_.clear();
    stats_.bytes_cached = 0;
  }

  std::mutex mutex_;
  std::multimap<size_t, void*> free_;
  AllocatorStats stats_;
};

// Never destroyed: tensors with static lifetime may give blocks back after main.
CpuAllocator& cpu_allocator() {
  static auto* allocator = new CpuAllocator;
  return *allocator;
}

void require_cpu(Device device) {
  REID_CHECK(device.type == DeviceType::cpu, "device ", device, ": this build has no CUDA backend; use --device cpu");
}

}  // namespace

Storage::Storage(int64_t bytes, Device device) : bytes_(bytes), block_(block_size(static_cast<size_t>(bytes))), device_(device) {
  require_cpu(device);
  data_ = cpu_allocator().allocate(block_);
#ifdef REID_DEBUG
  std::memset(data_, 0xFF, block_);
#endif
}

Storage::~Storage() { cpu_allocator().give_back(data_, block_); }

AllocatorStats allocator_stats(Device device) {
  require_cpu(device);
  return cpu_allocator().stats();
}

void release_cached_memory(Device device) {
  require_cpu(device);
  cpu_allocator().release_cache();
}

void* Stream::workspace(size_t bytes) {
  if (!workspace_ || workspace_->bytes() < static_cast<int64_t>(bytes)) {
    workspace_.reset();
    workspace_ = std::make_unique<Storage>(static_cast<int64_t>(bytes), device_);
  }
  return workspace_->data();
}

Stream& current_stream(Device device) {
  require_cpu(device);
  thread_local Stream stream{Device{}};
  return stream;
}

}  // namespace reid
