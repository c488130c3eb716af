#include "reid/engine/transfer.h"

#include <cstring>
#include <utility>

#include "pinned_ring.h"

namespace reid {

namespace {

bool on_cpu(Device device) { return device.type == DeviceType::cpu; }

}  // namespace

Uploads::Uploads(Device device) : device_(device) {
  if (on_cpu(device)) return;
  queue_ = accelerator(device).open_queue(device.index);
  computed_ = accelerator(device).open_event(device.index);
  ring_ = std::make_unique<PinnedRing>(device);
}

Uploads::~Uploads() {
  if (!queue_) return;
  Accelerator& a = accelerator(device_);
  quietly([&] { a.synchronize(queue_); });
  ring_.reset();
  quietly([&] { a.close_event(computed_); });
  quietly([&] { a.close_queue(queue_); });
}

// The block may have been another tensor's a moment ago: the copy waits for the work that was queued with it, and for no later work.
Tensor Uploads::start(const Tensor& host) {
  if (on_cpu(device_) || !host.defined()) return host;
  Accelerator& a = accelerator(device_);
  const Tensor there = Tensor::empty(host.shape(), host.dtype(), device_);
  a.record(computed_, current_stream(device_).native());
  a.wait(queue_, computed_);
  started_.push_back(ring_->copy(there.raw(), host.raw(), static_cast<size_t>(host.bytes()), queue_));
  return there;
}

void Uploads::arrive() {
  for (void* event : started_) accelerator(device_).wait(current_stream(device_).native(), event);
  started_.clear();
}

Downloads::Downloads(Device device) : device_(device) {
  for (Slot& slot : slots_) slot.pinned = std::make_unique<PinnedSlot>();
}

Downloads::~Downloads() {
  for (const Slot& slot : slots_) slot.pinned->release(device_);
}

void Downloads::settle(Slot& slot) {
  if (!slot.host.defined()) return;
  const Tensor host = std::exchange(slot.host, {});
  accelerator(device_).synchronize_event(slot.pinned->event);
  std::memcpy(host.raw(), slot.pinned->block, static_cast<size_t>(host.bytes()));
}

void Downloads::start(const Tensor& there, const Tensor& host) {
  if (on_cpu(there.device())) return host.copy_from(there);
  REID_CHECK(there.device() == device_ && on_cpu(host.device()) && there.shape() == host.shape() && there.dtype() == host.dtype(),
             "[downloads] ", there.shape(), " ", there.dtype(), " on ", there.device(), " to ", host.shape(), " ", host.dtype(), " on ",
             host.device(), ": takes tensors of ", device_, ", to the CPU");
  Accelerator& a = accelerator(device_);
  Slot& slot = slots_[next_++ % slots_.size()];
  settle(slot);
  const auto bytes = static_cast<size_t>(host.bytes());
  slot.pinned->prepare(device_, bytes);
  void* const queue = current_stream(device_).native();
  a.copy(slot.pinned->block, there.raw(), bytes, CopyKind::to_host, queue);
  a.record(slot.pinned->event, queue);
  slot.host = host;
}

void Downloads::finish() {
  for (size_t i = 0; i < slots_.size(); ++i) settle(slots_[next_++ % slots_.size()]);
}

Readback::Readback(Device device) : device_(device) {
  if (on_cpu(device)) return;
  values_ = static_cast<uint8_t*>(accelerator(device).allocate_pinned(kMost * kSlot));
  event_ = accelerator(device).open_event(device.index);
}

Readback::~Readback() {
  if (!values_) return;
  Accelerator& a = accelerator(device_);
  quietly([&] { a.synchronize_event(event_); });
  quietly([&] { a.close_event(event_); });
  quietly([&] { a.release_pinned(values_); });
}

void Readback::add(const Tensor& scalar) {
  REID_CHECK(scalar.numel() == 1 && (scalar.dtype() == DType::f32 || scalar.dtype() == DType::f64) && scalar.device() == device_ && values_,
             "[readback] takes f32 and f64 scalars of ", device_, ", got ", scalar.shape(), " ", scalar.dtype(), " on ", scalar.device());
  REID_CHECK(types_.size() < kMost, "[readback] ", kMost, " scalars wait already: take them first");
  const auto run = [this, to = values_ + kSlot * types_.size(), from = scalar.raw(), bytes = scalar.bytes()](Stream& stream) {
    accelerator(device_).copy(to, from, static_cast<size_t>(bytes), CopyKind::to_host, stream.native());
    accelerator(device_).record(event_, stream.native());
  };
  types_.push_back(scalar.dtype());
  if (Recorder* r = recorder(device_)) return r->varies({key_word("readback"), key_word(scalar.raw())}, run);
  run(current_stream(device_));
}

std::vector<double> Readback::take() {
  if (types_.empty()) return {};
  accelerator(device_).synchronize_event(event_);
  std::vector<double> all;
  for (size_t i = 0; i < types_.size(); ++i) {
    const uint8_t* from = values_ + kSlot * i;
    float narrow = 0;
    double value = 0;
    types_[i] == DType::f32 ? std::memcpy(&narrow, from, sizeof(narrow)) : std::memcpy(&value, from, sizeof(value));
    all.push_back(types_[i] == DType::f32 ? double{narrow} : value);
  }
  types_.clear();
  return all;
}

}  // namespace reid
