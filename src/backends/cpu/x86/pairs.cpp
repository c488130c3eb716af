#include "backends/cpu/x86/pairs.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "backends/cpu/x86/lanes.h"

namespace reid::cpu {
namespace {

// Units (even[j], odd[j]) of 16 columns, of which `here` are there. odd: null, or the next row.
REID_LANES inline __attribute__((always_inline)) __m512i join(const bf16* even, const bf16* odd, __mmask16 here) {
  const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(here, even));
  if (odd == nullptr) return low;
  const __m512i high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(here, odd));
  return _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
}

// Rows of panels from row `from` to the panel's end, and what of the rows before lies behind their values.
void clear_rest(const MicroKernel& kernel, int64_t rows, DepthRange k, float* panels) {
  const auto bytes = static_cast<size_t>(k.values) * sizeof(bf16), all = static_cast<size_t>(k.units) * sizeof(float);
  for (int64_t i = 0; bytes < all && i < rows; ++i)
    std::memset(reinterpret_cast<char*>(panels + i * kernel.row_stride()) + bytes, 0, all - bytes);
  for (int64_t i = rows; i % kernel.rows != 0; ++i) std::memset(panels + i * kernel.row_stride(), 0, all);
}

}  // namespace

void PairPanels::a_rows(const MicroKernel& kernel, const bf16* a, int64_t stride, int64_t rows, DepthRange k, float* panels) {
  for (int64_t i = 0; i < rows; ++i) {
    std::memcpy(panels + i * kernel.row_stride(), a + i * stride + k.first, static_cast<size_t>(k.values) * sizeof(bf16));
  }
  clear_rest(kernel, rows, k, panels);
}

void PairPanels::a_patches(const MicroKernel& kernel, const Patches& patches, int64_t row, int64_t rows, DepthRange k, float* panels) {
  patches.copy(row, rows, k.first, k.values, reinterpret_cast<bf16*>(panels), 2 * kernel.row_stride(), k.values, 0);
  clear_rest(kernel, rows, k, panels);
}

REID_LANES void PairPanels::a_columns(const MicroKernel& kernel, const bf16* a, int64_t stride, int64_t rows, DepthRange k, float* panels) {
  const bf16* source = a + k.first * stride;
  const int64_t all_rows = (rows + kernel.rows - 1) / kernel.rows * kernel.rows;
  for (int64_t unit = 0; unit < k.units; unit += kUnitLanes) {
    const __mmask16 units = first_lanes(k.units - unit);
    for (int64_t i = 0; i < all_rows; i += kUnitLanes) {
      const __mmask16 here = first_lanes(rows - i);
      __m512i v[16];
#pragma GCC unroll 16
      for (int t = 0; t < 16; ++t) {
        const int64_t value = 2 * (unit + t);
        const bf16* even = source + value * stride + i;
        v[t] = value < k.values ? join(even, value + 1 < k.values ? even + stride : nullptr, here) : _mm512_setzero_si512();
      }
      transpose(v);
      float* out = panels + i * kernel.row_stride() + unit;
      const int64_t count = std::min(kUnitLanes, all_rows - i);
#pragma GCC unroll 16
      for (int t = 0; t < 16; ++t) {
        if (t < count) _mm512_mask_storeu_epi32(out + t * kernel.row_stride(), units, v[t]);
      }
    }
  }
}

REID_LANES void PairPanels::b_rows(const MicroKernel&, const bf16* b, int64_t stride, int64_t columns, DepthRange k, float* panels,
                                   int64_t panel) {
  const bf16* source = b + k.first * stride;
  for (int64_t unit = 0; unit < k.units; ++unit) {
    const bf16* even = source + 2 * unit * stride;
    const bool there = 2 * unit < k.values;
    const bf16* odd = 2 * unit + 1 < k.values ? even + stride : nullptr;
    float* out = panels + unit * kPairColumns;
    for (int64_t first = 0; first < columns; first += kPairColumns, out += panel) {
      for (int64_t j = 0; j < kPairColumns; j += kUnitLanes) {
        const __mmask16 here = first_lanes(columns - first - j);
        _mm512_storeu_si512(out + j, there ? join(even + first + j, odd ? odd + first + j : nullptr, here) : _mm512_setzero_si512());
      }
    }
  }
}

REID_LANES void PairPanels::b_columns(const MicroKernel&, const bf16* b, int64_t stride, int64_t columns, DepthRange k, float* panels,
                                      int64_t panel) {
  const bf16* source = b + k.first;
  for (int64_t first = 0; first < columns; first += kPairColumns, panels += panel) {
    for (int64_t j = 0; j < kPairColumns; j += kUnitLanes) {
      for (int64_t unit = 0; unit < k.units; unit += kUnitLanes) {
        const int64_t left = std::clamp<int64_t>(k.values - 2 * unit, 0, 2 * kUnitLanes);
        const auto values = static_cast<__mmask32>((uint64_t{1} << left) - 1);
        __m512i v[16];
#pragma GCC unroll 16
        for (int t = 0; t < 16; ++t) {
          const int64_t column = first + j + t;
          v[t] = column < columns ? _mm512_maskz_loadu_epi16(values, source + column * stride + 2 * unit) : _mm512_setzero_si512();
        }
        transpose(v);
        const int64_t count = std::min(kUnitLanes, k.units - unit);
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
  constexpr int64_t kPart = 16;                // units at a time: 32 rows of patches, which stay in cache
  static thread_local std::vector<bf16> rows;  // keeps its memory from call to call
  rows.resize(static_cast<size_t>(std::max<int64_t>(static_cast<int64_t>(rows.size()), 2 * kPart * columns)));
  for (int64_t unit = 0; unit < k.units; unit += kPart) {
    const DepthRange part{0, std::clamp<int64_t>(k.values - 2 * unit, 0, 2 * kPart), std::min(kPart, k.units - unit)};
    patches.copy(k.first + 2 * unit, part.values, column, columns, rows.data(), columns, columns, 0);
    b_rows(kernel, rows.data(), columns, columns, part, panels + unit * kPairColumns, panel);
  }
}

}  // namespace reid::cpu
