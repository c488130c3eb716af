// 14 x 32 tile: 28 accumulators, 2 vectors of B and one broadcast of A, as the f32 kernel has it. A step takes 2 codes of each row:
// 16 loads and 28 instructions of 32 products, twice the products of the f32 kernel for the same issue slots.

#include <immintrin.h>

#include <cstring>

#include "backends/cpu/code_kernel.h"

namespace reid::cpu {
namespace {

constexpr int kRows = 14, kColumns = 32;

#define REID_VNNI __attribute__((target("avx512f,avx512vl,avx512bw,avx512vnni")))

// [steps][tile][2].
template <int64_t tile>
void pack(const CodeRows& from, int16_t* panel) {
  const int64_t whole = from.codes / 2, steps = from.blocks() * kCodeSteps;
  if (from.rows < tile || whole < steps) std::memset(panel, 0, static_cast<size_t>(4 * steps * tile));
  for (int64_t i = 0; i < from.rows; ++i) {
    const int16_t* in = from.source + (from.row + i) * from.stride + from.k;
    for (int64_t s = 0; s < whole; ++s) std::memcpy(panel + 2 * (s * tile + i), in + 2 * s, 4);
    if (from.codes % 2 != 0) panel[2 * (whole * tile + i)] = in[from.codes - 1];
  }
}

// A function of its own with a number of steps that g++ cannot see: only so does it keep all 28 sums in registers.
REID_VNNI __attribute__((noinline)) void sum_block(int64_t steps, const int16_t* a, const int16_t* b, int32_t* sums) {
  __m512i left[kRows], right[kRows];
#pragma GCC unroll 14
  for (int i = 0; i < kRows; ++i) left[i] = right[i] = _mm512_setzero_si512();
  for (int64_t k = 0; k < steps; ++k, a += 2 * kRows, b += 2 * kColumns) {
    const __m512i b0 = _mm512_load_si512(b), b1 = _mm512_load_si512(b + 32);
#pragma GCC unroll 14
    for (int i = 0; i < kRows; ++i) {
      int32_t two;
      std::memcpy(&two, a + 2 * i, sizeof two);
      const __m512i value = _mm512_set1_epi32(two);
      left[i] = _mm512_dpwssd_epi32(left[i], value, b0);
      right[i] = _mm512_dpwssd_epi32(right[i], value, b1);
    }
  }
#pragma GCC unroll 14
  for (int i = 0; i < kRows; ++i) {
    _mm512_store_si512(sums + i * kColumns, left[i]);
    _mm512_store_si512(sums + i * kColumns + 16, right[i]);
  }
}

// The exact sums of a block, rounded once, to c or added to it. No conditions inside: with them it took a quarter of the product's time.
template <bool kFirst>
REID_VNNI inline __attribute__((always_inline)) void take_sums(const int32_t* sums, float* c, int64_t stride) {
#pragma GCC unroll 14
  for (int i = 0; i < kRows; ++i, c += stride) {
#pragma GCC unroll 2
    for (int j = 0; j < kColumns; j += 16) {
      const __m512i exact = _mm512_load_si512(sums + i * kColumns + j);
      const __m512 sum = _mm512_maskz_cvtepi32_ps(0xFFFF, exact);  // all; g++ 12 warns of the plain form
      _mm512_storeu_ps(c + j, kFirst ? sum : _mm512_add_ps(_mm512_loadu_ps(c + j), sum));
    }
  }
}

REID_VNNI void tile(const CodeTile& t) {
  alignas(64) int32_t sums[kRows * kColumns];
  for (int64_t block = 0; block < t.blocks; ++block) {
    sum_block(t.steps, t.a + block * kCodeBlock * kRows, t.b + block * kCodeBlock * kColumns, sums);
    t.first&& block == 0 ? take_sums<true>(sums, t.c, t.stride) : take_sums<false>(sums, t.c, t.stride);
  }
  if (t.scale_a == nullptr) return;
  const __m512 left = _mm512_loadu_ps(t.scale_b), right = _mm512_loadu_ps(t.scale_b + 16);
  for (int i = 0; i < kRows; ++i) {
    float* c = t.c + i * t.stride;
    const __m512 own = _mm512_set1_ps(t.scale_a[i]);
    _mm512_storeu_ps(c, _mm512_mul_ps(_mm512_loadu_ps(c), _mm512_mul_ps(own, left)));
    _mm512_storeu_ps(c + 16, _mm512_mul_ps(_mm512_loadu_ps(c + 16), _mm512_mul_ps(own, right)));
  }
}

}  // namespace

const CodeKernel& vnni_code_kernel() {
  static const CodeKernel kernel{kRows, kColumns, pack<kRows>, pack<kColumns>, [](FunctionRef<void()> tiles) { tiles(); }, tile};
  return kernel;
}

}  // namespace reid::cpu
