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

// `emulated` is a GPU played by the CPU, for tests alone: kernels/emu/device.h. All but the CPU are accelerators: accelerator.h.
enum class DeviceType : uint8_t { cpu, cuda, emulated };
inline constexpr int kDeviceTypes = 3;

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;
  friend bool operator==(const Device&, const Device&) = default;
};
std::ostream& operator<<(std::ostream&, Device);
// "cpu", "cuda" (the first), "cuda:1"; throws in a build or on a machine without such a device, naming the reason.
Device parse_device(const std::string& name);
std::string describe_cpu();  // "Intel(R) Xeon(R) ..., 2 cores, avx512": recorded in manifests

// Thrown when a device has no room for a block. Tensor adds the shape, a training run the batch that would fit.
struct MemoryShortage {
  Device device;
  int64_t wanted, in_use, free;  // bytes: of the block, of all tensors, left on the device
};
class OutOfMemory : public Error {
 public:
  OutOfMemory(const std::string& message, const MemoryShortage& shortage_) : Error(message), shortage(shortage_) {}
  MemoryShortage shortage;
};

// A block of device memory, 64-byte aligned, given back to the allocator's cache at the end of its life.
// Debug and sanitizer builds fill new blocks with NaN patterns.
//
// On an accelerator a block may be handed out again while kernels that use it are still to run: all allocating work of a device is on one
// stream, so what comes later in time comes later in order. Work on other streams must be tied to that one by events.
class MemoryPool;
class Storage {
 public:
  // upload: will be filled from the host's memory; workspace: belongs to a stream. Both matter inside of a recorded step, see Recorder.
  enum class Use : uint8_t { any, upload, workspace };
  Storage(int64_t bytes, Device device, Use use = Use::any);  // throws OutOfMemory
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  void* data() const { return data_; }
  int64_t bytes() const { return bytes_; }
  Device device() const { return device_; }

 private:
  std::shared_ptr<MemoryPool> pool_;
  void* data_ = nullptr;
  int64_t bytes_ = 0;
  size_t block_ = 0;  // bytes of the block behind it
  Device device_;
};

struct AllocatorStats {
  int64_t system_allocations = 0;  // blocks ever asked of the system: constant in a warmed-up training loop
  int64_t bytes_in_use = 0, bytes_cached = 0, peak_bytes = 0;
  int64_t peak_device_bytes = 0;  // of an accelerator: the most it ever gave, cached or not
};
AllocatorStats allocator_stats(Device);
void release_cached_memory(Device);

// Which device a pointer from a Storage belongs to; pointers of any other origin count as the CPU's.
Device device_of(const void* pointer);
bool accelerators_in_use();  // whether any block was ever asked of an accelerator

// The order of work on one device, and its scratch memory. On the CPU work runs at the call; on an accelerator it is queued, and the host
// goes on.
class Stream {
 public:
  explicit Stream(Device device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  Device device() const { return device_; }
  void* native() const { return native_; }  // the backend's handle; null on the CPU
  void synchronize();                       // waits until all of it has run
  // Scratch of at least `bytes`, 64-byte aligned, valid until the next call on this stream.
  void* workspace(size_t bytes);
  const std::shared_ptr<Storage>& workspace_storage() const { return workspace_; }

 private:
  Device device_;
  void* native_ = nullptr;
  std::shared_ptr<Storage> workspace_;
};
// On the CPU one a thread. An accelerator has one: a single thread of the program computes there at a time.
Stream& current_stream(Device);

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
