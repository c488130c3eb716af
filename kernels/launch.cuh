#pragma once
// Launching kernels and declaring shared memory, alike on a GPU and in emulation. Kernel files include this header (or prims.cuh) first.
//
//   launch(kernel, grid, block, dynamic bytes, stream, arguments...)
//   launch_clusters(cluster, kernel, ...)      in clusters of so many neighboring blocks, 8 at most: sm90/hopper.cuh
//   SHARED_ARRAY(float, sums, 256);            in a kernel, in place of __shared__
//   float* tile = shared_dynamic<float>();     what `dynamic bytes` reserved
//   const Problem GRID_CONSTANT problem        a kernel's parameter that may be pointed to
//   UNROLL                                     before a loop over an array that must stay in registers
//   DO_NOT_UNROLL                              before a loop whose turns should not share the registers

#include "target.h"

#ifdef __CUDACC__
#include <cuda_runtime.h>
#else
#include "emu/cuda_emu.h"
#include "emu/device.h"
#endif

namespace reid::REID_TARGET {

// A stream and the line of the launch, for messages.
struct LaunchSite {
  LaunchSite(Stream& s, const char* f = __builtin_FILE(), int l = __builtin_LINE()) : stream(s), file(f), line(l) {}
  Stream& stream;
  const char* file;
  int line;
};

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Blocks for `count` items, `each` to a block, as an extent of a grid. The launcher sees to it that count is not 0.
inline unsigned blocks_for(int64_t count, int64_t each, int64_t most = 0x7FFFFFFF) {
  const int64_t blocks = ceil_div(count, each);
  REID_CHECK(blocks <= most, "a kernel would need ", blocks, " blocks, a grid has at most ", most, " there");
  return static_cast<unsigned>(blocks);
}
inline constexpr int64_t kMostBlocksYZ = 65535;

#ifdef __CUDACC__

bool launches_overlap();              // whether REID_OVERLAP asks for it; throws where kernels were not compiled for it
cudaStream_t native(Stream& stream);  // the backend's
[[noreturn]] void launch_failed(cudaError_t error, const char* call, const char* file, int line);  // throws reid::Error

#define UNROLL _Pragma("unroll")
#define DO_NOT_UNROLL _Pragma("unroll 1")
#define GRID_CONSTANT __grid_constant__
#define SHARED_ARRAY(T, name, count) __shared__ __align__(16) T name[count]

template <class T>
__device__ T* shared_dynamic() {
  extern __shared__ __align__(1024) unsigned char reid_dynamic_shared[];
  return reinterpret_cast<T*>(reid_dynamic_shared);
}

// What a kernel may have without asking is 48 KB less its static arrays. Where it takes much, several blocks are meant to share a
// processor.
template <class... P>
void allow_shared(void (*kernel)(P...), size_t shared, const char* file, int line) {
  const auto set = [&](cudaFuncAttribute attribute, int value) {
    const cudaError_t error = cudaFuncSetAttribute(kernel, attribute, value);
    if (error != cudaSuccess) launch_failed(error, "cudaFuncSetAttribute", file, line);
  };
  if (shared > 0) set(cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
  if (shared >= 32 * 1024) set(cudaFuncAttributePreferredSharedMemoryCarveout, cudaSharedmemCarveoutMaxShared);
}

template <class... P, class... A>
void launch_clusters(unsigned cluster, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, LaunchSite site, const A&... arguments) {
  static_assert((sizeof(P) + ... + 0) <= 4096, "a kernel takes at most 4 KB of arguments");
  cudaLaunchAttribute attributes[2] = {};
  cudaLaunchConfig_t config = {};
  config.gridDim = grid, config.blockDim = block, config.dynamicSmemBytes = shared, config.stream = native(site.stream);
  config.attrs = attributes;
  if (launches_overlap()) {
    cudaLaunchAttribute& overlap = attributes[config.numAttrs++];
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization, overlap.val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster > 1) {
    cudaLaunchAttribute& blocks = attributes[config.numAttrs++];
    blocks.id = cudaLaunchAttributeClusterDimension, blocks.val.clusterDim = {cluster, 1, 1};
  }
  allow_shared(kernel, shared, site.file, site.line);
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, static_cast<P>(arguments)...);
  if (error != cudaSuccess) launch_failed(error, "cudaLaunchKernelEx", site.file, site.line);
}

#else

#define UNROLL
#define DO_NOT_UNROLL
#define GRID_CONSTANT
// The address of a static names the declaration: one array for all threads of a block, as with __shared__.
#define SHARED_ARRAY(T, name, count)            \
  static constexpr char name##_declaration = 0; \
  T* const name = static_cast<T*>(::reid::emu::detail::shared_array(&name##_declaration, sizeof(T) * (count), {__FILE__, __LINE__}))

template <class T>
T* shared_dynamic(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return static_cast<T*>(detail::shared_dynamic({file, line}));
}

template <class... P, class... A>
void launch_clusters(unsigned cluster, void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, LaunchSite site, const A&... arguments) {
  static_assert((sizeof(P) + ... + 0) <= kParameterBytes, "a kernel takes at most 4 KB of arguments");
  const detail::LaunchShape shape{grid, block, shared, {site.file, site.line}, cluster};
  detail::check_shape(shape);
  detail::submit(site.stream, [=] { detail::run_grid(shape, [&] { kernel(static_cast<P>(arguments)...); }); });
}

#endif

template <class... P, class... A>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, size_t shared, LaunchSite site, const A&... arguments) {
  launch_clusters(1, kernel, grid, block, shared, site, arguments...);
}

}  // namespace reid::REID_TARGET
