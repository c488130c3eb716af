#include <map>
#include <mutex>

#include "quietly.h"
#include "reid/engine/accelerator.h"

namespace reid {

Stream::Stream(Device device) : device_(device) {
  if (device.type != DeviceType::cpu) native_ = accelerator(device).open_queue(device.index);
}

Stream::~Stream() {
  if (native_) quietly([&] { accelerator(device_).close_queue(native_); });
}

void Stream::synchronize() {
  if (native_) accelerator(device_).synchronize(native_);
}

void* Stream::workspace(size_t bytes) {
  if (!workspace_ || workspace_->bytes() < static_cast<int64_t>(bytes)) {
    workspace_.reset();
    workspace_ = std::make_shared<Storage>(static_cast<int64_t>(bytes), device_, Storage::Use::workspace);
  }
  return workspace_->data();
}

Stream& current_stream(Device device) {
  if (device.type == DeviceType::cpu) {
    thread_local Stream stream{Device{}};
    return stream;
  }
  // Never destroyed: when main has returned, there may be no driver left to close them with.
  static auto* streams = new std::map<std::pair<DeviceType, int>, std::unique_ptr<Stream>>;
  static std::mutex mutex;
  const std::scoped_lock lock(mutex);
  std::unique_ptr<Stream>& stream = (*streams)[{device.type, device.index}];
  if (!stream) stream = std::make_unique<Stream>(device);
  return *stream;
}

}  // namespace reid
