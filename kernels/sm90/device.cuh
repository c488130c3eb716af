#pragma once
// Kernels for one device only: whether it is there, and current.

#include "sm90/hopper.cuh"

namespace reid::REID_TARGET {

void use_device_of(Stream& stream);      // before tensor_map: the driver encodes maps in the context that is current
const char* refuse_other_than_hopper();  // null on the device that is current, and in emulation
int processors();                        // of the device that is current; 2 in emulation, where blocks shall come to take several tiles
#ifndef __CUDACC__
void set_processors(int count);  // of the emulated device
#endif

}  // namespace reid::REID_TARGET
