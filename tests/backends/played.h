#pragma once
// cuDNN and cuBLASLt played by the CPU (played_cudnn.cpp, played_cublaslt.cpp), as implementations `emu:cudnn` and `emu:cublaslt` behind
// the CPU's own: so every problem line is described to them, planned and computed through the code that serves a GPU.

#include "backends/cuda/cublaslt.h"
#include "backends/cuda/cudnn_conv.h"

namespace reid::test {

inline cudaStream_t no_stream(Stream&) { return nullptr; }
inline cuda::VendorPlace played_place(const char* file, cuda::VendorAllows allows = {}) {
  return {DeviceType::cpu, no_stream, {file}, allows};
}

// The libraries' files are where the build put them.
inline void register_played(const char* cudnn, const char* cublaslt) {
  cuda::register_cudnn("emu:cudnn", played_place(cudnn, {.loose_statistics = true}));
  cuda::register_cublaslt("emu:cublaslt", played_place(cublaslt));
}

}  // namespace reid::test
