// The tile of micro_kernel_avx512.cpp for pairs of bf16: vdpbf16ps adds two products to each of 16 sums, twice the flops of an f32
// multiply-add in the same issue slots.

#include <immintrin.h>

#include <cstring>

#include "backends/cpu/micro_kernel.h"
#include "backends/cpu/x86/round.h"

namespace reid::cpu {
namespace {

constexpr int kRows = 14, kColumns = 32;

__attribute__((target("avx512f,avx512vl,avx512bw,avx512bf16"))) void tile(int64_t depth, const float* a, int64_t stride, const float* b,
                                                                          float* const* c, int64_t column, bool add) {
  __m512 left[kRows], right[kRows];
#pragma GCC unroll 14
  for (int i = 0; i < kRows; ++i) left[i] = right[i] = _mm512_setzero_ps();
  const int64_t triple = 3 * stride;
  const float *first = a, *second = a + 5 * stride, *third = a + 10 * stride;
  for (int64_t k = 0; k < depth; ++k, b += kColumns, ++first, ++second, ++third) {
    const auto b0 = (__m512bh)_mm512_load_si512(b), b1 = (__m512bh)_mm512_load_si512(b + 16);
#pragma GCC unroll 14
    for (int i = 0; i < kRows; ++i) {
      const float* row = i < 5 ? first : i < 10 ? second : third;
      int32_t pair;
      std::memcpy(&pair, row + (i % 5 == 3 ? triple : i % 5 * stride), sizeof pair);
      const auto value = (__m512bh)_mm512_set1_epi32(pair);
      left[i] = _mm512_dpbf16_ps(left[i], value, b0);
      right[i] = _mm512_dpbf16_ps(right[i], value, b1);
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

const MicroKernel& avx512_bf16_kernel() {
  static const MicroKernel kernel{.isa = "avx512_bf16",
                                  .rows = kRows,
                                  .columns = kColumns,
                                  .depth = 256,
                                  .by_row = tile,
                                  .by_depth = nullptr,
                                  .round = round_by_instruction};
  return kernel;
}

}  // namespace reid::cpu
