#include "pinned_ring.h"

#include <bit>
#include <cstring>
#include <map>
#include <utility>

namespace reid {

PinnedRing::~PinnedRing() {
  for (const Slot& slot : slots_) {
    if (!slot.block && !slot.event) continue;
    Accelerator& a = accelerator(device_);
    if (slot.event) {
      quietly([&] { a.synchronize_event(slot.event); });
      quietly([&] { a.close_event(slot.event); });
    }
    if (slot.block) quietly([&] { a.release_pinned(slot.block); });
  }
}

void* PinnedRing::copy(void* to, const void* from, size_t bytes, void* queue) {
  Accelerator& a = accelerator(device_);
  Slot& slot = slots_[next_++ % kSlots];
  if (slot.event) a.synchronize_event(slot.event);
  if (slot.bytes < bytes) {  // at every step the slot is one that an error may leave behind
    slot.bytes = 0;
    if (slot.block) a.release_pinned(std::exchange(slot.block, nullptr));
    slot.block = a.allocate_pinned(std::bit_ceil(bytes));
    slot.bytes = std::bit_ceil(bytes);
  }
  if (!slot.event) slot.event = a.open_event(device_.index);
  std::memcpy(slot.block, from, bytes);
  a.copy(to, slot.block, bytes, CopyKind::to_device, queue);
  a.record(slot.event, queue);
  return slot.event;
}

PinnedRing& staging(Device device) {
  // Never destroyed, as the streams.
  static auto* rings = new std::map<std::pair<DeviceType, int>, PinnedRing>;
  return rings->try_emplace({device.type, device.index}, device).first->second;
}

}  // namespace reid
