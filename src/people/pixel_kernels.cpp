#include "people/pixel_kernels.h"

#include "people/pixel_lanes.h"

namespace reid {

#if defined(__x86_64__)
namespace {

// A processor lowers its clock for most of a millisecond after multiplications in vectors of 512 bits, and decoding, which follows, takes a
// tenth longer. So views are made without them where those of 256 bits need no longer.
PixelKernels short_vectors(PixelKernels kernels) {
  const PixelKernels avx2 = avx2_pixel_kernels();
  kernels.normalize_pixels = avx2.normalize_pixels;
  kernels.mirror_row = avx2.mirror_row;
  return kernels;
}

}  // namespace
#endif

std::vector<PixelKernels> all_pixel_kernels() {
  std::vector<PixelKernels> all;
#if defined(__x86_64__)
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
  if (avx512 && __builtin_cpu_supports("avx512vnni")) {
    all.push_back(short_vectors(avx512_pixel_kernels()));
    all.back().name = "avx512, vnni";
    all.back().weigh_rows = weigh_rows_vnni;
    if (__builtin_cpu_supports("avx512vbmi")) {
      all.insert(all.begin(), all.back());
      all.front().name = "avx512, vnni, vbmi";
      all.front().weigh_pixels = weigh_pixels_vbmi;
    }
  }
  if (avx512) all.push_back(avx512_pixel_kernels());
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all.push_back(avx2_pixel_kernels());
#endif
  all.push_back(lanes_kernels("portable"));
  return all;
}

const PixelKernels& pixel_kernels() {
  static const PixelKernels best = all_pixel_kernels().front();
  return best;
}

}  // namespace reid
