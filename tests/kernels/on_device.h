#pragma once
// The accelerator that tests of the way to a device use: the emulated one, or the one that REID_DEVICE names.

#include <cstdlib>

#include "emu/device.h"
#include "reid/engine/accelerator.h"

namespace reid::test {

inline Device test_device() {
  const char* name = std::getenv("REID_DEVICE");
  return name ? parse_device(name) : Device{DeviceType::emulated, 0};
}
inline bool on_emulated_device() { return test_device().type == DeviceType::emulated; }

// f as the device likes it best and, where it is emulated, at both paces.
template <class F>
void at_both_paces(F&& f) {
  f();
  if (!on_emulated_device()) return;
  emu::set_pace(emu::Pace::early);
  struct Back {
    ~Back() { emu::set_pace(emu::Pace::late); }
  } back;
  f();
}

}  // namespace reid::test
