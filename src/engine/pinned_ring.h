#pragma once
// Pinned host memory that copies to a device pass through, so that the host neither waits for them nor has to keep their source.

#include <array>

#include "quietly.h"
#include "reid/engine/accelerator.h"

namespace reid {

// A block of pinned memory that grows, and the event that ends the copy it takes part in.
struct PinnedSlot {
  void* block = nullptr;
  size_t bytes = 0;
  void* event = nullptr;

  // Waits for the copy before, and sees to it that there is an event and room for `wanted` bytes. An error leaves a slot that can be
  // prepared again or released.
  void prepare(Device device, size_t wanted);
  void release(Device device);  // waits for its copy; without errors
};

class PinnedRing {
 public:
  explicit PinnedRing(Device device) : device_(device) {}
  ~PinnedRing();
  PinnedRing(const PinnedRing&) = delete;
  PinnedRing& operator=(const PinnedRing&) = delete;

  // Queues the copy; all threads set aside what it reads. Waits only when it is kSlots copies ahead of the device. The event of the copy,
  // which the next kSlots - 1 calls leave alone.
  void* copy(void* to, const void* from, size_t bytes, void* queue);

  // The same in pieces, for copies of any size: one is set aside while those before it are on their way.
  void copy_in_pieces(void* to, const void* from, size_t bytes, void* queue);

 private:
  static constexpr size_t kPiece = size_t{4} << 20;
  static constexpr size_t kSlots = 16;
  Device device_;
  std::array<PinnedSlot, kSlots> slots_;
  size_t next_ = 0;
};

// The one for copies that stand in the device's own stream.
PinnedRing& staging(Device device);

}  // namespace reid
