#include "reid/engine/transfer.h"

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

Readback::Readback(Device device) : device_(device) {
  if (on_cpu(device)) return;
  values_ = static_cast<float*>(accelerator(device).allocate_pinned(kMost * sizeof(float)));
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
  REID_CHECK(scalar.numel() == 1 && scalar.dtype() == DType::f32 && scalar.device() == device_ && values_,
             "[readback] takes f32 scalars of ", device_, ", got ", scalar.shape(), " ", scalar.dtype(), " on ", scalar.device());
  REID_CHECK(count_ < kMost, "[readback] ", kMost, " scalars wait already: take them first");
  const auto run = [this, to = values_ + count_++, from = scalar.raw()](Stream& stream) {
    accelerator(device_).copy(to, from, sizeof(float), CopyKind::to_host, stream.native());
    accelerator(device_).record(event_, stream.native());
  };
  if (Recorder* r = recorder(device_)) return r->varies({key_word("readback"), key_word(scalar.raw())}, run);
  run(current_stream(device_));
}

std::vector<double> Readback::take() {
  if (count_ == 0) return {};
  accelerator(device_).synchronize_event(event_);
  const std::vector<double> all(values_, values_ + count_);
  count_ = 0;
  return all;
}

}  // namespace reid
