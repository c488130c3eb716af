// 14 x 32 tile: 28 accumulators, 2 vectors of B and one broadcast of A fill 31 of the 32 registers.
// A step of k: 16 loads, 28 fused multiply-adds of 16 lanes = 896 flops. Two multiply-add ports need 14 cycles, the two load
// ports 8, so loads hide; 28 independent sums cover the latency of 4 cycles x 2 ports.

#include <immintrin.h>

#include "backends/cpu/micro_kernel.h"

namespace reid::cpu {
namespace {

constexpr int kRows = 14, kColumns = 32;

template <int64_t kRowStep, int64_t kDepthStep>
__attribute__((target("avx512f"))) void tile(int64_t depth, const float* a, const float* b, float* const* c, int64_t column, bool add) {
  __m512 left[kRows], right[kRows];
#pragma GCC unroll 14
  for (int i = 0; i < kRows; ++i) left[i] = right[i] = _mm512_setzero_ps();
  for (int64_t k = 0; k < depth; ++k, a += kDepthStep, b += kColumns) {
    const __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16);
#pragma GCC unroll 14
    for (int i = 0; i < kRows; ++i) {
      const __m512 value = _mm512_set1_ps(a[i * kRowStep]);
      left[i] = _mm512_fmadd_ps(value, b0, left[i]);
      right[i] = _mm512_fmadd_ps(value, b1, right[i]);
    }
  }
#pragma GCC unroll 14
  for (int i = 0; i < kRows; ++i) {
    float* out = c[i] + column;
    if (add) {
      left[i] = _mm512_add_ps(_mm512_loadu_ps(out), left[i]);
      right[i] = _mm512_add_ps(_mm512_loadu_ps(out + 16), right[i]);
    }
    _mm512_storeu_ps(out, left[i]);
    _mm512_storeu_ps(out + 16, right[i]);
  }
}

}  // namespace

const MicroKernel& avx512_kernel() {
  static const MicroKernel kernel{"avx512", kRows, kColumns, tile<kRowStride, 1>, tile<1, kRows>};
  return kernel;
}

}  // namespace reid::cpu
