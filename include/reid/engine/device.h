#pragma once
// Where numbers live and who computes on them: devices, memory blocks, streams, the CPU thread pool.
//
// Design: kernels and backends see this header and the registry, never the tensor class. Memory comes from a caching
// allocator, so that a training step stops allocating from the system after its first rounds.

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>

#include "reid/engine/base.h"

namespace reid {

enum class DeviceType : uint8_t { cpu, cuda };

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;
  friend bool operator==(const Device&, const Device&) = default;
};
std::ostream& operator<<(std::ostream&, Device);
Device parse_device(const std::string& name);  // "cpu"; throws for "cuda" in a build or on a machine without it, naming the reason
std::string describe_cpu();                    // "Intel(R) Xeon(R) ..., 2 cores, avx512": recorded in manifests

// A block of device memory, 64-byte aligned, given back to the allocator's cache at the end of its life.
// Debug and sanitizer builds fill new blocks with NaN patterns.
class Storage {
 public:
  Storage(int64_t bytes, Device device);  // throws when the system has no more memory, naming the size
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  Device device() const { return device_; }

 private:
  void* data_ = nullptr;
  int64_t bytes_ = 0;
  size_t block_ = 0;  // bytes of the block behind it
  Device device_;
};

struct AllocatorStats {
  int64_t system_allocations = 0;  // blocks ever asked of the system: constant in a warmed-up training loop
  int64_t bytes_in_use = 0, bytes_cached = 0, peak_bytes = 0;
};
AllocatorStats allocator_stats(Device);
void release_cached_memory(Device);

// The order of work on one device, and its scratch memory. On the CPU, work runs at the call.
class Stream {
 public:
  explicit Stream(Device device) : device_(device) {}
  Device device() const { return device_; }
  // Scratch of at least `bytes`, 64-byte aligned, valid until the next call on this stream.
  void* workspace(size_t bytes);

 private:
  Device device_;
  std::unique_ptr<Storage> workspace_;
};
Stream& current_stream(Device);  // one a thread

// CPU worker threads for parallel_for. Default: the machine's cores. Results never depend on the number.
void set_threads(int count);  // count >= 1
int threads();

// A reference to a callable, alive at least as long as the call it is passed to; no allocation.
template <class Signature>
class FunctionRef;
template <class R, class... A>
class FunctionRef<R(A...)> {
 public:
  template <class F>
  requires(!std::is_same_v<std::remove_cvref_t<F>, FunctionRef>) FunctionRef(F&& f)
      : object_(const_cast<void*>(static_cast<const void*>(&f))),
        call_([](void* o, A... a) -> R { return (*static_cast<std::remove_reference_t<F>*>(o))(a...); }) {}
  R operator()(A... a) const { return call_(object_, a...); }

 private:
  void* object_;
  R (*call_)(void*, A...);
};

// Calls work(begin, end, worker) for the chunks [0, grain), [grain, 2*grain), ... of [0, count). The chunks depend on count
// and grain only, never on the number of threads; which worker (0..threads()-1, for picking scratch) runs a chunk does vary.
// Nested calls, and calls while another thread's loop holds the pool, run inline as worker 0. The first exception is rethrown.
void parallel_for(int64_t count, int64_t grain, FunctionRef<void(int64_t begin, int64_t end, int worker)> work);

}  // namespace reid
