#pragma once
// Kernels for one device only: whether it is there.

#include "sm90/hopper.cuh"

namespace reid::REID_TARGET {

const char* refuse_other_than_hopper();  // null on the device that is current, and in emulation

}  // namespace reid::REID_TARGET
