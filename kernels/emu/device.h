#pragma once
// A GPU played by the CPU (DeviceType::emulated), for tests of everything that stands above kernels: tensors on a device, training steps,
// graphs, uploads beside computing.
//
// Design: its memory is unreadable except while its work runs, so that a host that follows a device pointer dies at once. Work is queued
// and runs as late as it may (Pace::late: when the host waits for it) or at once (Pace::early). A program that waits where it must gives
// the same bits under both; one that forgets sees yesterday's numbers, or NaN, under one of them. Kernels run in the scheduler of
// cuda_emu.h.

#include <cstdint>
#include <functional>

#include "reid/engine/device.h"

namespace reid::emu {

enum class Pace : uint8_t { late, early };
Pace pace();
void set_pace(Pace pace);  // of all queues; what is queued already runs first

void install_device();                // makes `emulated:0` known to the engine; safe to call twice
void set_device_memory(size_t most);  // bytes the device has from now on; the default is 4 GiB
int64_t launches();                   // kernels, copies, fills and graphs asked for so far: what a host does, not what a device does

namespace detail {
// Kernels of the CPU's stream run here and now, those of the device's when their turn comes.
void submit(Stream& stream, std::function<void()> kernel);
}  // namespace detail

}  // namespace reid::emu
