#pragma once
// Which of its two targets a kernel file is being compiled for: nvcc makes device code in namespace reid::cuda, any other C++ compiler
// the same code for the emulator in reid::emu. No CUDA header and no emulated name comes in with this header.

#include "reid/engine/registry.h"

#ifdef __CUDACC__
#define REID_TARGET cuda
#define REID_KERNEL_NAME(name) "cuda:" name
#else
#define REID_TARGET emu
#define REID_KERNEL_NAME(name) "emu:" name
#endif

namespace reid::REID_TARGET {

// Emulated kernels also work on the CPU's memory, where tests compare them with the reference: they stand behind the CPU's own.
template <class Op>
void add(const char* name, const char* (*refuses)(const typename Op::Args&), void (*run)(const typename Op::Args&, Stream&)) {
#ifdef __CUDACC__
  Registry::add<Op>(DeviceType::cuda, {name, refuses, run});
#else
  Registry::add<Op>(DeviceType::cpu, {name, refuses, run});
  Registry::add<Op>(DeviceType::emulated, {name, refuses, run});
#endif
}

}  // namespace reid::REID_TARGET
