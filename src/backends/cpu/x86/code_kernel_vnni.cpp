// 14 x 32 tile: 28 accumulators, 2 vectors of B and one broadcast of A, as the f32 kernel has it. A step takes 4 codes of each row:
// 16 loads and 28 instructions of 64 products, four times the products of the f32 kernel for the same issue slots.

#include <immintrin.h>

#include <cstring>

#include "backends/cpu/code_kernel.h"

namespace reid::cpu {
namespace {

constexpr int kRows = 14, kColumns = 32;

__attribute__((target("avx512f,avx512vl,avx512bw,avx512vnni"))) void tile(int64_t depth, const uint8_t* a, const int8_t* b,
                                                                          const int32_t* start, int32_t* c, int64_t stride) {
  __m512i left[kRows], right[kRows];
#pragma GCC unroll 14
  for (int i = 0; i < kRows; ++i) {
    const int32_t* from = start ? start : c + i * stride;
    left[i] = _mm512_loadu_si512(from);
    right[i] = _mm512_loadu_si512(from + 16);
  }
  for (int64_t k = 0; k < depth; ++k, a += 4 * kRows, b += 4 * kColumns) {
    const __m512i b0 = _mm512_load_si512(b), b1 = _mm512_load_si512(b + 64);
#pragma GCC unroll 14
    for (int i = 0; i < kRows; ++i) {
      int32_t four;
      std::memcpy(&four, a + 4 * i, sizeof four);
      const __m512i value = _mm512_set1_epi32(four);
      left[i] = _mm512_dpbusd_epi32(left[i], value, b0);
      right[i] = _mm512_dpbusd_epi32(right[i], value, b1);
    }
  }
#pragma GCC unroll 14
  for (int i = 0; i < kRows; ++i) {
    _mm512_storeu_si512(c + i * stride, left[i]);
    _mm512_storeu_si512(c + i * stride + 16, right[i]);
  }
}

}  // namespace

const CodeKernel& vnni_kernel() {
  static const CodeKernel kernel{kRows, kColumns, tile};
  return kernel;
}

}  // namespace reid::cpu
