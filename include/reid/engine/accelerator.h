#pragma once
// What the engine asks of a device other than the CPU: memory, queues of work, events, graphs.
//
// Design: one small interface, implemented by the CUDA runtime (src/backends/cuda/runtime.cpp) and by the emulated device of the tests
// (kernels/emu/device.cpp), so that everything above it, from Storage to a whole training run, is tested without a GPU. Handles are
// opaque pointers of the implementation. Every function throws reid::Error, naming the call that failed, unless it says otherwise.

#include <bit>
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "reid/engine/device.h"

namespace reid {

struct AcceleratorInfo {
  std::string name;          // "NVIDIA H200"
  int major = 0, minor = 0;  // compute capability
  int64_t memory = 0;        // bytes in all
};

enum class CopyKind : uint8_t { to_device, to_host, on_device };

class Accelerator {
 public:
  virtual ~Accelerator() = default;

  virtual int count() = 0;  // devices, at least one; throws one sentence with the reason when there is none
  virtual AcceleratorInfo info(int device) = 0;
  virtual int64_t free_memory(int device) = 0;  // bytes

  virtual void* allocate(int device, size_t bytes) = 0;  // aligned to 256 bytes; null: not enough left
  virtual void release(int device, void* block) = 0;     // no queued work may use it any more
  // Memory of the host that copies can use while the host goes on.
  virtual void* allocate_pinned(size_t bytes) = 0;
  virtual void release_pinned(void* block) = 0;

  // A queue runs its work in order, beside other queues.
  virtual void* open_queue(int device) = 0;
  virtual void close_queue(void* queue) = 0;
  virtual void synchronize(void* queue) = 0;
  // Pinned host memory is read or written when the copy's turn comes. Other host memory may be used again at the return: a copy from it was
  // set aside, a copy into it has arrived.
  virtual void copy(void* to, const void* from, size_t bytes, CopyKind kind, void* queue) = 0;
  virtual void fill(void* to, uint8_t byte, size_t bytes, void* queue) = 0;

  // A place in a queue, which the host or another queue can wait for.
  virtual void* open_event(int device, bool timed = false) = 0;
  virtual void close_event(void* event) = 0;
  virtual void record(void* event, void* queue) = 0;  // again, if it was recorded before
  virtual void wait(void* queue, void* event) = 0;    // later work of the queue waits; at once where the event was never recorded
  virtual void synchronize_event(void* event) = 0;
  // From when `begin` happened to when `end` did, on the device's own clock. Both were opened timed, recorded and waited for.
  virtual double seconds_between(void* begin, void* end) = 0;

  // Between the two, work of the queue is written down and does not run; then the whole can be queued at once, many times.
  virtual void begin_capture(void* queue) = 0;
  virtual void* end_capture(void* queue) = 0;  // a graph, or null when nothing was queued
  virtual bool capturing(void* queue) = 0;     // whether that is where its work goes
  virtual void launch_graph(void* graph, void* queue) = 0;
  virtual void close_graph(void* graph) = 0;
};

// Stands between the engine and a device's stream while a step is recorded or replayed: see replay.h.
class Recorder {
 public:
  virtual ~Recorder() = default;
  using Key = std::vector<int64_t>;  // equal for equal work: what is done, on which addresses, with which numbers
  using Run = std::function<void(Stream&)>;
  virtual void repeats(Key key, Run run) = 0;  // equal keys: the same work in every step
  virtual void varies(Key key, Run run) = 0;   // to be run anew in every step, whatever the key
  // Fills memory that no other tensor of the step uses (Storage::Use::upload), from the host's: it may run before earlier work of the step.
  virtual void upload(Key key, Run run) = 0;
};
Recorder* recorder(Device device);                     // null: work goes to the stream at once
void set_recorder(Device device, Recorder* recorder);  // one at a time, of all devices

template <class T>
int64_t key_word(T* pointer) {
  return static_cast<int64_t>(reinterpret_cast<uintptr_t>(pointer));
}
inline int64_t key_word(double value) { return std::bit_cast<int64_t>(value); }

void register_accelerator(DeviceType type, Accelerator* implementation);  // which lives as long as the program
Accelerator& accelerator(Device device);                                  // throws where there is none of this type
std::string describe(Device device);                                      // "NVIDIA H200 (9.0)"; of the CPU describe_cpu()
bool has_accelerator(DeviceType type);                                    // whether one is registered; there may be no device behind it

}  // namespace reid
