// Which accelerators there are, and the devices that users name.

#include "reid/engine/registry.h"

#include <charconv>

namespace reid {

namespace {

Accelerator* registered[kDeviceTypes] = {};

// The number behind "cuda:"; -1 where there is none.
int index_of(std::string_view text) {
  int index = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), index);
  return error == std::errc() && end == text.data() + text.size() ? index : -1;
}

// Of the one thread that computes on accelerators.
thread_local Recorder* recording = nullptr;
thread_local Device recorded_device;

}  // namespace

Recorder* recorder(Device device) { return recording && device == recorded_device ? recording : nullptr; }
void set_recorder(Device device, Recorder* recorder) { recording = recorder, recorded_device = device; }

void register_accelerator(DeviceType type, Accelerator* implementation) { registered[static_cast<size_t>(type)] = implementation; }

bool has_accelerator(DeviceType type) {
  initialize();
  return registered[static_cast<size_t>(type)] != nullptr;
}

Accelerator& accelerator(Device device) {
  REID_CHECK(has_accelerator(device.type), "device ", device, ": this build has no CUDA backend; build it where nvcc is found, or use ",
             "--device cpu");
  return *registered[static_cast<size_t>(device.type)];
}

std::string describe(Device device) {
  if (device.type == DeviceType::cpu) return describe_cpu();
  const AcceleratorInfo info = accelerator(device).info(device.index);
  return str(info.name, " (", info.major, ".", info.minor, ")");
}

Device parse_device(const std::string& name) {
  if (name == "cpu") return {};
  constexpr std::pair<std::string_view, DeviceType> kTypes[] = {{"cuda", DeviceType::cuda}, {"emulated", DeviceType::emulated}};
  for (const auto& [word, type] : kTypes) {
    if (!name.starts_with(word)) continue;
    const std::string_view rest = std::string_view(name).substr(word.size());
    const Device device{type, rest.empty() ? 0 : rest.starts_with(":") ? index_of(rest.substr(1)) : -1};
    if (device.index < 0) break;
    const int count = accelerator(device).count();
    REID_CHECK(device.index < count, "device ", name, ": this machine has ", count, ", numbered from ", word, ":0");
    return device;
  }
  fail("device '" + name + "' is unknown; use cpu, cuda or cuda:N");
}

}  // namespace reid
