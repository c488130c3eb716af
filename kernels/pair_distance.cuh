#pragma once
// The distance of two rows of features from their differences, in double: the bits of the host's.

#include "prims.cuh"

namespace reid::REID_TARGET {

// The sum over a warp's lanes, for lane 0: halves are added until one is left.
__device__ inline double sum_of_lanes(double sum) {
  for (int half = kWarpSize / 2; half > 0; half /= 2) sum = __dadd_rn(sum, __shfl_down_sync(0xFFFFFFFFu, sum, static_cast<unsigned>(half)));
  return sum;
}

// |scale_a a - scale_b b|^2 of rows of `width`, for lane 0 of a warp, all lanes of which must call it. Lane l sums the elements k = l
// modulo 32 and halves are added until one is left: the order of the people wing's squared_difference, whose definition is to the last bit
// what neighbor lists and clusters are made of. No compiler may fuse a product and a sum here.
template <class T>
__device__ double squared_difference(const T* a, double scale_a, const T* b, double scale_b, int64_t width) {
  double sum = 0;
  for (int64_t k = threadIdx.x % kWarpSize; k < width; k += kWarpSize) {
    const double d = __dsub_rn(__dmul_rn(static_cast<double>(a[k]), scale_a), __dmul_rn(static_cast<double>(b[k]), scale_b));
    sum = __dadd_rn(sum, __dmul_rn(d, d));
  }
  return sum_of_lanes(sum);
}

}  // namespace reid::REID_TARGET
