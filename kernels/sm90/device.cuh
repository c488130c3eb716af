#pragma once
// Kernels for one device only: whether it is there, and current.

#include "sm90/hopper.cuh"

namespace reid::REID_TARGET {

void use_device_of(Stream& stream);      // before tensor_map: the driver encodes maps in the context that is current
const char* refuse_other_than_hopper();  // null on the device that is current, and in emulation
int processors();                        // of the device that is current
// How many of them clusters of so many blocks keep at work, `share` blocks each. A cluster stays within a GPC, of which chips lose other
// processors each: what the driver would say differs between cards of one kind, and with it sums would. So it is that of a likely card.
int64_t processors_for(int cluster, int share);
int64_t deep_terms();  // of sums that are long: their tiles may have a processor for themselves, or be made by pairs
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
