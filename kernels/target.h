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

// Emulated kernels work on the CPU's memory, so they are implementations for CPU tensors.
#ifdef __CUDACC__
inline constexpr DeviceType kKernelDevice = DeviceType::cuda;
#else
inline constexpr DeviceType kKernelDevice = DeviceType::cpu;
#endif

template <class Op>
void add(const char* name, const char* (*refuses)(const typename Op::Args&), void (*run)(const typename Op::Args&, Stream&)) {
  Registry::add<Op>(kKernelDevice, {name, refuses, run});
}

}  // namespace reid::REID_TARGET
