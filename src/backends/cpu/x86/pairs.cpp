#include "backends/cpu/x86/pairs.h"

// g++ 12 takes the undefined operand of its own intrinsics for ours.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace reid::cpu {
namespace {

#define REID_PAIRS __attribute__((target("avx512f,avx512vl,avx512dq,avx512bw")))

constexpr int64_t kLanes = 16;  // units of a vector

REID_PAIRS inline __mmask16 first_lanes(int64_t count) { return static_cast<__mmask16>((1u << std::min(count, kLanes)) - 1); }

// Units (even[j], odd[j]) of 16 columns, of which `here` are there. odd: null, or the next row.
REID_PAIRS inline __attribute__((always_inline)) __m512i join(const bf16* even, const bf16* odd, __mmask16 here) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(here, even));
  if (odd == nullptr) return low;
  const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(here, odd));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

// Rows become columns: v[i] lane j and v[j] lane i change places.
REID_PAIRS inline __attribute__((always_inline)) void transpose(__m512i* v) {
  __m512i w[16];
#pragma GCC unroll 4
  for (int i = 0; i < 16; i += 4) {
    const __m512i a = _mm512_unpacklo_epi32(v[i], v[i + 1]), b = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    const __m512i c = _mm512_unpacklo_epi32(v[i + 2], v[i + 3]), d = _mm512_unpackhi_epi32(v[i + 2], v[i + 3]);
    w[i] = _mm512_unpacklo_epi64(a, c);
    w[i + 1] = _mm512_unpackhi_epi64(a, c);
    w[i + 2] = _mm512_unpacklo_epi64(b, d);
    w[i + 3] = _mm512_unpackhi_epi64(b, d);
  }
  // Now lane 4 q + e of w[i + r] is lane 4 q + r of v[i + e]: what is left is a transposition of 4 x 4 blocks of 128 bits.
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    const __m512i a = _mm512_shuffle_i32x4(w[r], w[r + 4], 0x44), b = _mm512_shuffle_i32x4(w[r], w[r + 4], 0xEE);
    const __m512i c = _mm512_shuffle_i32x4(w[r + 8], w[r + 12], 0x44), d = _mm512_shuffle_i32x4(w[r + 8], w[r + 12], 0xEE);
    v[r] = _mm512_shuffle_i32x4(a, c, 0x88);
    v[r + 4] = _mm512_shuffle_i32x4(a, c, 0xDD);
    v[r + 8] = _mm512_shuffle_i32x4(b, d, 0x88);
    v[r + 12] = _mm512_shuffle_i32x4(b, d, 0xDD);
  }
}

// Rows of panels from row `from` to the panel's end, and what of the rows before lies behind their values.
void clear_rest(const MicroKernel& kernel, int64_t rows, DepthRange k, float* panels) {
  const auto bytes = static_cast<size_t>(k.values) * sizeof(bf16), all = static_cast<size_t>(k.units) * sizeof(float);
  for (int64_t i = 0; bytes < all && i < rows; ++i) std::memset(reinterpret_cast<char*>(panels + i * kRowStride) + bytes, 0, all - bytes);
  for (int64_t i = rows; i % kernel.rows != 0; ++i) std::memset(panels + i * kRowStride, 0, all);
}

}  // namespace

void PairPanels::a_rows(const MicroKernel& kernel, const bf16* a, int64_t stride, int64_t rows, DepthRange k, float* panels) {
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(panels + i * kRowStride, a + i * stride + k.first, static_cast<size_t>(k.values) * sizeof(bf16));
  }
  clear_rest(kernel, rows, k, panels);
}

void PairPanels::a_patches(const MicroKernel& kernel, const Patches& patches, int64_t row, int64_t rows, DepthRange k, float* panels) {
  patches.copy(row, rows, k.first, k.values, reinterpret_cast<bf16*>(panels), 2 * kRowStride, k.values, 0);
  clear_rest(kernel, rows, k, panels);
}

REID_PAIRS void PairPanels::a_columns(const MicroKernel& kernel, const bf16* a, int64_t stride, int64_t rows, DepthRange k, float* panels) {
  const bf16* source = a + k.first * stride;
  const int64_t all_rows = (rows + kernel.rows - 1) / kernel.rows * kernel.rows;
  for (int64_t unit = 0; unit < k.units; unit += kLanes) {
    const __mmask16 units = first_lanes(k.units - unit);
    for (int64_t i = 0; i < all_rows; i += kLanes) {
      const __mmask16 here = first_lanes(std::max<int64_t>(0, rows - i));
      __m512i v[16];
#pragma GCC unroll 16
      for (int t = 0; t < 16; ++t) {
        const int64_t value = 2 * (unit + t);
        const bf16* even = source + value * stride + i;
        v[t] = value < k.values ? join(even, value + 1 < k.values ? even + stride : nullptr, here) : _mm512_setzero_si512();
      }
      transpose(v);
      float* out = panels + i * kRowStride + unit;
      const int64_t count = std::min(kLanes, all_rows - i);
#pragma GCC unroll 16
      for (int t = 0; t < 16; ++t) {
        if (t < count) _mm512_mask_storeu_epi32(out + t * kRowStride, units, v[t]);
      }
    }
  }
}

REID_PAIRS void PairPanels::b_rows(const MicroKernel&, const bf16* b, int64_t stride, int64_t columns, DepthRange k, float* panels,
                                   int64_t panel) {
  const bf16* source = b + k.first * stride;
  for (int64_t unit = 0; unit < k.units; ++unit) {
    const bf16* even = source + 2 * unit * stride;
    const bool there = 2 * unit < k.values;
    const bf16* odd = 2 * unit + 1 < k.values ? even + stride : nullptr;
    float* out = panels + unit * kPairColumns;
    for (int64_t first = 0; first < columns; first += kPairColumns, out += panel) {
      for (int64_t j = 0; j < kPairColumns; j += kLanes) {
        const __mmask16 here = first_lanes(std::max<int64_t>(0, columns - first - j));
        _mm512_storeu_si512(out + j, there ? join(even + first + j, odd ? odd + first + j : nullptr, here) : _mm512_setzero_si512());
      }
    }
  }
}

REID_PAIRS void PairPanels::b_columns(const MicroKernel&, const bf16* b, int64_t stride, int64_t columns, DepthRange k, float* panels,
                                      int64_t panel) {
  const bf16* source = b + k.first;
  for (int64_t first = 0; first < columns; first += kPairColumns, panels += panel) {
    for (int64_t j = 0; j < kPairColumns; j += kLanes) {
      for (int64_t unit = 0; unit < k.units; unit += kLanes) {
        const int64_t left = std::clamp<int64_t>(k.values - 2 * unit, 0, 2 * kLanes);
        const auto values = static_cast<__mmask32>((uint64_t{1} << left) - 1);
        __m512i v[16];
#pragma GCC unroll 16
        for (int t = 0; t < 16; ++t) {
          const int64_t column = first + j + t;
          v[t] = column < columns ? _mm512_maskz_loadu_epi16(values, source + column * stride + 2 * unit) : _mm512_setzero_si512();
        }
        transpose(v);
        const int64_t count = std::min(kLanes, k.units - unit);
        float* out = panels + unit * kPairColumns + j;
#pragma GCC unroll 16
        for (int t = 0; t < 16; ++t) {
          if (t < count) _mm512_storeu_si512(out + t * kPairColumns, v[t]);
        }
      }
    }
  }
}

void PairPanels::b_patches(const MicroKernel& kernel, const Patches& patches, int64_t column, int64_t columns, DepthRange k, float* panels,
                           int64_t panel) {
  constexpr int64_t kUnits = 16;               // rows of patches at a time: 32, which stay in cache
  static thread_local std::vector<bf16> rows;  // keeps its memory from call to call
  rows.resize(static_cast<size_t>(std::max<int64_t>(static_cast<int64_t>(rows.size()), 2 * kUnits * columns)));
  for (int64_t unit = 0; unit < k.units; unit += kUnits) {
    const DepthRange part{0, std::clamp<int64_t>(k.values - 2 * unit, 0, 2 * kUnits), std::min(kUnits, k.units - unit)};
    patches.copy(k.first + 2 * unit, part.values, column, columns, rows.data(), columns, columns, 0);
    b_rows(kernel, rows.data(), columns, columns, part, panels + unit * kPairColumns, panel);
  }
}

}  // namespace reid::cpu
