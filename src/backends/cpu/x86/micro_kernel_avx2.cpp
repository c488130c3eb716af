// 6 x 16 tile: 12 accumulators, 2 vectors of B and one broadcast of A fill 15 of the 16 registers.
// A step of k: 8 loads, 12 fused multiply-adds of 8 lanes = 192 flops in 6 cycles.

#include <immintrin.h>

#include "backends/cpu/micro_kernel.h"

namespace reid::cpu {
namespace {

constexpr int kRows = 6, kColumns = 16;

template <bool kByDepth>
__attribute__((target("avx2,fma"))) void tile(int64_t depth, const float* a, int64_t stride, const float* b, float* const* c,
                                              int64_t column, bool add) {
  __m256 left[kRows], right[kRows];
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) left[i] = right[i] = _mm256_setzero_ps();
  const int64_t step = kByDepth ? 1 : stride;
  for (int64_t k = 0; k < depth; ++k, a += kByDepth ? stride : 1, b += kColumns) {
    const __m256 b0 = _mm256_load_ps(b), b1 = _mm256_load_ps(b + 8);
#pragma GCC unroll 6
    for (int i = 0; i < kRows; ++i) {
      const __m256 value = _mm256_broadcast_ss(a + i * step);
      left[i] = _mm256_fmadd_ps(value, b0, left[i]);
      right[i] = _mm256_fmadd_ps(value, b1, right[i]);
    }
  }
#pragma GCC unroll 6
  for (int i = 0; i < kRows; ++i) {
    float* out = c[i] + column;
    if (add) {
      left[i] = _mm256_add_ps(_mm256_loadu_ps(out), left[i]);
      right[i] = _mm256_add_ps(_mm256_loadu_ps(out + 8), right[i]);
    }
    _mm256_storeu_ps(out, left[i]);
    _mm256_storeu_ps(out + 8, right[i]);
  }
}

}  // namespace

const MicroKernel& avx2_kernel() {
  static const MicroKernel kernel{"avx2", kRows, kColumns, kFloatDepth, tile<false>, tile<true>};
  return kernel;
}

}  // namespace reid::cpu
