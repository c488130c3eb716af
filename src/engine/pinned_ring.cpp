#include "pinned_ring.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <map>
#include <utility>

namespace reid {

namespace {

constexpr int64_t kGrain = int64_t{256} << 10;  // bytes that a thread copies at a time

}  // namespace

void PinnedSlot::prepare(Device device, size_t wanted) {
  Accelerator& a = accelerator(device);
  if (event) a.synchronize_event(event);
  if (bytes < wanted) {  // at every step the slot is one that an error may leave behind
    bytes = 0;
    if (block) a.release_pinned(std::exchange(block, nullptr));
    block = a.allocate_pinned(std::bit_ceil(wanted));
    bytes = std::bit_ceil(wanted);
  }
  if (!event) event = a.open_event(device.index);
}

void PinnedSlot::release(Device device) {
  if (event) {
    quietly([&] { accelerator(device).synchronize_event(event); });
    quietly([&] { accelerator(device).close_event(event); });
  }
  if (block) quietly([&] { accelerator(device).release_pinned(block); });
}

PinnedRing::~PinnedRing() {
  for (PinnedSlot& slot : slots_) slot.release(device_);
}

void* PinnedRing::copy(void* to, const void* from, size_t bytes, void* queue) {
  Accelerator& a = accelerator(device_);
  PinnedSlot& slot = slots_[next_++ % kSlots];
  slot.prepare(device_, bytes);
  auto* const block = static_cast<std::byte*>(slot.block);
  parallel_for(static_cast<int64_t>(bytes), kGrain, [&](int64_t begin, int64_t end, int) {
    std::memcpy(block + begin, static_cast<const std::byte*>(from) + begin, static_cast<size_t>(end - begin));
  });
  a.copy(to, block, bytes, CopyKind::to_device, queue);
  a.record(slot.event, queue);
  return slot.event;
}

void PinnedRing::copy_in_pieces(void* to, const void* from, size_t bytes, void* queue) {
  for (size_t first = 0; first < bytes; first += kPiece) {
    copy(static_cast<std::byte*>(to) + first, static_cast<const std::byte*>(from) + first, std::min(kPiece, bytes - first), queue);
  }
}

PinnedRing& staging(Device device) {
  // Never destroyed, as the streams.
  static auto* rings = new std::map<std::pair<DeviceType, int>, PinnedRing>;
  return rings->try_emplace({device.type, device.index}, device).first->second;
}

}  // namespace reid
