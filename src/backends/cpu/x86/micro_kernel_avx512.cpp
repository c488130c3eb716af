// 14 x 32 tile: 28 accumulators, 2 vectors of B and one broadcast of A fill 31 of the 32 registers.
// A step of k: 16 loads, 28 fused multiply-adds of 16 lanes = 896 flops. Two multiply-add ports need 14 cycles, the two load
// ports 8, so loads hide; 28 independent sums cover the latency of 4 cycles x 2 ports.

#include <immintrin.h>

#include "backends/cpu/micro_kernel.h"

namespace reid::cpu {
namespace {

constexpr int kRows = 14, kColumns = 32;

// Value k of row i: by row at a[i * stride + k], by depth at a[k * stride + i]. Rows are addressed from every fifth one, so that
// base + {0, 1, 2, 3, 4} * stride needs no arithmetic in the loop.
template <bool kByDepth>
__attribute__((target("avx512f"))) void tile(int64_t depth, const float* a, int64_t stride, const float* b, float* const* c, int64_t column,
                                             bool add) {
  __m512 left[kRows], right[kRows];
#pragma GCC unroll 14
  for (int i = 0; i < kRows; ++i) left[i] = right[i] = _mm512_setzero_ps();
  const int64_t step = kByDepth ? 1 : stride, triple = 3 * step;
  const float *first = a, *second = a + 5 * step, *third = a + 10 * step;
  for (int64_t k = 0; k < depth; ++k, b += kColumns) {
    const __m512 b0 = _mm512_load_ps(b), b1 = _mm512_load_ps(b + 16);
#pragma GCC unroll 14
    for (int i = 0; i < kRows; ++i) {
      const float* row = i < 5 ? first : i < 10 ? second : third;
      const __m512 value = _mm512_set1_ps(i % 5 == 3 ? row[triple] : row[i % 5 * step]);
      left[i] = _mm512_fmadd_ps(value, b0, left[i]);
      right[i] = _mm512_fmadd_ps(value, b1, right[i]);
    }
    first += kByDepth ? stride : 1;
    second += kByDepth ? stride : 1;
    third += kByDepth ? stride : 1;
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
  static const MicroKernel kernel{"avx512", kRows, kColumns, kFloatDepth, tile<false>, tile<true>};
  return kernel;
}

}  // namespace reid::cpu
