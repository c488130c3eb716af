#include "backends/cpu/x86/round.h"

#include <immintrin.h>

#define REID_BF16 __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw,avx512bf16")))

namespace reid::cpu {
namespace {

REID_BF16 inline __m512 sums(const Apart& a, int64_t row, int64_t column, __mmask16 here) {
  const __m512 tile = _mm512_maskz_loadu_ps(here, a.tile + row * a.width + column);
  return a.add ? _mm512_add_ps(_mm512_maskz_loadu_ps(here, a.c[row] + a.column + column), tile) : tile;
}

}  // namespace

REID_BF16 void round_by_instruction(const Apart& a) {
  const auto all = static_cast<__mmask32>((uint64_t{1} << a.columns) - 1);
  const auto low = static_cast<__mmask16>(all), high = static_cast<__mmask16>(all >> 16);
  for (int64_t i = 0; i < a.rows; ++i) {
    const auto both = (__m512i)_mm512_cvtne2ps_pbh(sums(a, i, 16, high), sums(a, i, 0, low));
    _mm512_mask_storeu_epi16(a.rounded[i] + a.column, all, both);
  }
}

}  // namespace reid::cpu
