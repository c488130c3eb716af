#include "people/pixel_kernels.h"

#include "people/pixel_lanes.h"

namespace reid {
namespace {

PixelKernels choose() {
#if defined(__x86_64__)
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
  if (avx512) {
    PixelKernels kernels = avx512_pixel_kernels();
    if (__builtin_cpu_supports("avx512vnni")) kernels.weigh_rows = weigh_rows_vnni;
    return kernels;
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2_pixel_kernels();
#endif
  return lanes_kernels();
}

}  // namespace

const PixelKernels& pixel_kernels() {
  static const PixelKernels chosen = choose();
  return chosen;
}

}  // namespace reid
