#pragma once
// Copies beside computing: batches on their way to an accelerator while it works on the one before, numbers on their way back while nobody
// waits. Where the device is the CPU, nothing waits and uploads cost nothing.

#include <array>
#include <memory>
#include <vector>

#include "reid/engine/tensor.h"

namespace reid {

class PinnedRing;
struct PinnedSlot;

// Sends tensors to a device on a stream of its own.
class Uploads {
 public:
  explicit Uploads(Device device);
  ~Uploads();
  Uploads(const Uploads&) = delete;
  Uploads& operator=(const Uploads&) = delete;

  Tensor start(const Tensor& host);  // its place on the device; filled later, beside what the device was given before this call
  void arrive();                     // whatever the device is given from now on finds what was started so far

 private:
  Device device_;
  void* queue_ = nullptr;
  void* computed_ = nullptr;  // an event of the compute stream
  std::unique_ptr<PinnedRing> ring_;
  std::vector<void*> started_;  // events of copies that arrive() has not seen
};

// Brings tensors of a device to the host, in order, while it goes on computing. Not for the inside of replayed steps.
class Downloads {
 public:
  explicit Downloads(Device device);
  ~Downloads();
  Downloads(const Downloads&) = delete;
  Downloads& operator=(const Downloads&) = delete;

  // `host` is written some time before finish() returns; same shape and dtype. The device may use the memory of `there` for work that is
  // queued later. Waits for the last but one that was started. From the CPU: copies at once.
  void start(const Tensor& there, const Tensor& host);
  void finish();  // waits until all have arrived

 private:
  struct Slot {
    std::unique_ptr<PinnedSlot> pinned;
    Tensor host;  // who waits for it
  };
  void settle(Slot& slot);

  Device device_;
  std::array<Slot, 2> slots_;
  size_t next_ = 0;
};

// Scalars (f32 or f64) of a device, for the host to read when they have come. What they are computed from may change meanwhile.
class Readback {
 public:
  explicit Readback(Device device);
  ~Readback();
  Readback(const Readback&) = delete;
  Readback& operator=(const Readback&) = delete;

  void add(const Tensor& scalar);  // throws unless it is one f32 or f64 of this device, and when kMost wait already
  std::vector<double> take();      // of all since the last call, in order; waits until they are there

 private:
  static constexpr size_t kMost = 64, kSlot = sizeof(double);
  Device device_;
  uint8_t* values_ = nullptr;  // pinned, 8 bytes each
  std::vector<DType> types_;   // of those that wait
  void* event_ = nullptr;
};

}  // namespace reid
