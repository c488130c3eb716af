#pragma once
// Kernels for one device only: whether it is there, and current.

#include "sm90/hopper.cuh"

namespace reid::REID_TARGET {

void use_device_of(Stream& stream);      // before tensor_map: the driver encodes maps in the context that is current
const char* refuse_other_than_hopper();  // null on the device that is current, and in emulation
int processors();                        // of the device that is current
int64_t deep_terms();                    // of sums whose tiles may have a processor for themselves
#ifndef __CUDACC__
// What the emulator answers: little, so that blocks come to take several tiles, and small problems to every kernel.
struct Pretended {
  int processors = 2;
  int64_t deep_terms = 72;
};
inline constexpr Pretended kPretendedH200{132, 1024};
struct Pretending {  // it answers otherwise, for a scope
  explicit Pretending(const Pretended& device);
  ~Pretending();
};
#endif

}  // namespace reid::REID_TARGET
