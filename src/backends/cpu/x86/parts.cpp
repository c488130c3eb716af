#include "backends/cpu/x86/parts.h"

#include <cstring>
#include <vector>

#include "backends/cpu/x86/lanes.h"

namespace reid::cpu {
namespace {

constexpr int64_t kColumns = 32;  // of a panel of B
constexpr int64_t kStep = PartPanels::kValues, kStepUnits = PartPanels::kUnits;
constexpr int kParts = 3;

// bf16 nearest to x, halves away from zero, in the upper 16 bits; below lies what is left of the rounding.
REID_LANES inline __attribute__((always_inline)) __m512i nearest(__m512 x) {
  return _mm512_add_epi32(_mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
}
REID_LANES inline __attribute__((always_inline)) __m512 upper(__m512i bits) {
  return _mm512_castsi512_ps(_mm512_and_si512(bits, _mm512_set1_epi32(static_cast<int>(0xFFFF0000u))));
}

// The three parts of 16 floats: in the upper halves of lanes, the lower ones are anything.
REID_LANES inline __attribute__((always_inline)) void cut(__m512 x, __m512i* parts) {
  // A carry could make zero of a NaN, so NaN is left as it is.
  const __mmask16 number = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
  parts[0] = _mm512_mask_add_epi32(_mm512_castps_si512(x), number, _mm512_castps_si512(x), _mm512_set1_epi32(0x8000));
  const __m512 rest = _mm512_sub_ps(x, upper(parts[0]));
  parts[1] = nearest(rest);
  parts[2] = nearest(_mm512_sub_ps(rest, upper(parts[1])));
}

// Units (even[j], odd[j]) of the upper halves.
REID_LANES inline __attribute__((always_inline)) __m512i join(__m512i even, __m512i odd) {
  return _mm512_mask_blend_epi16(0xAAAAAAAA, _mm512_srli_epi32(even, 16), odd);
}

// Value k and those after it of a line of values side by side, `left` of them there, as units in their order.
REID_LANES inline __attribute__((always_inline)) void cut_line(const float* line, int64_t left, __m512i* parts) {
  const __m512i upper_halves = _mm512_set_epi16(63, 61, 59, 57, 55, 53, 51, 49, 47, 45, 43, 41, 39, 37, 35, 33, 31, 29, 27, 25, 23, 21, 19,
                                                17, 15, 13, 11, 9, 7, 5, 3, 1);
  __m512i low[kParts], high[kParts];
  cut(_mm512_maskz_loadu_ps(first_lanes(left), line), low);
  cut(_mm512_maskz_loadu_ps(first_lanes(left - kUnitLanes), line + kUnitLanes), high);
  for (int part = 0; part < kParts; ++part) parts[part] = _mm512_permutex2var_epi16(low[part], upper_halves, high[part]);
}

// Two lines, of values k and k + 1: units of 16 columns, of which `here` are there. null: zeros.
REID_LANES inline __attribute__((always_inline)) void cut_lines(const float* even, const float* odd, __mmask16 here, __m512i* parts) {
  __m512i low[kParts], high[kParts];
  cut(even ? _mm512_maskz_loadu_ps(here, even) : _mm512_setzero_ps(), low);
  cut(odd ? _mm512_maskz_loadu_ps(here, odd) : _mm512_setzero_ps(), high);
  for (int part = 0; part < kParts; ++part) parts[part] = join(low[part], high[part]);
}

// 16 columns, lines of a value of k each, from value k on: units [part][unit][column].
REID_LANES inline void cut_block(const float* source, int64_t stride, __mmask16 here, int64_t k, int64_t values, __m512i (*units)[16]) {
  for (int t = 0; t < 16; ++t) {
    const int64_t value = k + 2 * t;
    const float* even = source + value * stride;
    __m512i parts[kParts];
    cut_lines(value < values ? even : nullptr, value + 1 < values ? even + stride : nullptr, here, parts);
    for (int part = 0; part < kParts; ++part) units[part][t] = parts[part];
  }
}

void clear_rows(const MicroKernel& kernel, int64_t rows, DepthRange k, float* panels) {
  for (int64_t i = rows; i % kernel.rows != 0; ++i) {
    std::memset(panels + i * kernel.row_stride(), 0, static_cast<size_t>(k.units) * sizeof(float));
  }
}

// Memory for `count` floats that this thread keeps from call to call.
float* kept(int64_t count) {
  static thread_local std::vector<float> memory;
  if (static_cast<int64_t>(memory.size()) < count) memory.resize(static_cast<size_t>(count));
  return memory.data();
}

// Rows of values to rows of panels.
REID_LANES void cut_rows(const float* values, int64_t stride, int64_t rows, DepthRange k, float* panels, int64_t row_stride) {
  for (int64_t i = 0; i < rows; ++i) {
    const float* line = values + i * stride;
    float* out = panels + i * row_stride;
    for (int64_t unit = 0, value = 0; unit < k.units; unit += kStepUnits, value += kStep) {
      __m512i parts[kParts];
      cut_line(line + value, k.values - value, parts);
      for (int part = 0; part < kParts; ++part) _mm512_storeu_si512(out + unit + part * kUnitLanes, parts[part]);
    }
  }
}

}  // namespace

void PartPanels::a_rows(const MicroKernel& kernel, const float* a, int64_t stride, int64_t rows, DepthRange k, float* panels) {
  cut_rows(a + k.first, stride, rows, k, panels, kernel.row_stride());
  clear_rows(kernel, rows, k, panels);
}

void PartPanels::a_patches(const MicroKernel& kernel, const Patches& patches, int64_t row, int64_t rows, DepthRange k, float* panels) {
  constexpr int64_t kRows = 16;
  float* values = kept(kRows * k.values);
  for (int64_t i = 0; i < rows; i += kRows) {
    const int64_t here = std::min(kRows, rows - i);
    patches.copy(row + i, here, k.first, k.values, values, k.values, k.values, 0);
    cut_rows(values, k.values, here, k, panels + i * kernel.row_stride(), kernel.row_stride());
  }
  clear_rows(kernel, rows, k, panels);
}

REID_LANES void PartPanels::a_columns(const MicroKernel& kernel, const float* a, int64_t stride, int64_t rows, DepthRange k,
                                      float* panels) {
  const float* source = a + k.first * stride;
  for (int64_t i = 0; i < rows; i += kUnitLanes) {
    const __mmask16 here = first_lanes(rows - i);
    for (int64_t unit = 0, value = 0; unit < k.units; unit += kStepUnits, value += kStep) {
      __m512i units[kParts][16];
      cut_block(source + i, stride, here, value, k.values, units);
      float* out = panels + i * kernel.row_stride() + unit;
      for (int part = 0; part < kParts; ++part) {
        transpose(units[part]);
#pragma GCC unroll 16
        for (int t = 0; t < 16; ++t) _mm512_storeu_si512(out + t * kernel.row_stride() + part * kUnitLanes, units[part][t]);
      }
    }
  }
  clear_rows(kernel, (rows + kUnitLanes - 1) / kUnitLanes * kUnitLanes, k, panels);
}

REID_LANES void PartPanels::b_columns(const MicroKernel&, const float* b, int64_t stride, int64_t columns, DepthRange k, float* panels,
                                      int64_t panel) {
  const float* source = b + k.first;
  for (int64_t j = 0; j < (columns + kColumns - 1) / kColumns * kColumns; j += kUnitLanes) {
    float* out = panels + j / kColumns * panel + j % kColumns;
    for (int64_t unit = 0, value = 0; unit < k.units; unit += kStepUnits, value += kStep) {
      __m512i units[kParts][16];
      for (int t = 0; t < 16; ++t) {
        __m512i parts[kParts];
        const bool there = j + t < columns;
        cut_line(there ? source + (j + t) * stride + value : source, there ? k.values - value : 0, parts);
        for (int part = 0; part < kParts; ++part) units[part][t] = parts[part];
      }
      for (int part = 0; part < kParts; ++part) {
        transpose(units[part]);
        float* to = out + (unit + part * kUnitLanes) * kColumns;
#pragma GCC unroll 16
        for (int t = 0; t < 16; ++t) _mm512_storeu_si512(to + t * kColumns, units[part][t]);
      }
    }
  }
}

REID_LANES void PartPanels::b_rows(const MicroKernel&, const float* b, int64_t stride, int64_t columns, DepthRange k, float* panels,
                                   int64_t panel) {
  const float* source = b + k.first * stride;
  for (int64_t unit = 0, value = 0; unit < k.units; unit += kStepUnits, value += kStep) {
    for (int64_t t = 0; t < kUnitLanes; ++t) {
      const int64_t pair = value + 2 * t;
      const float *even = pair < k.values ? source + pair * stride : nullptr,
                  *odd = pair + 1 < k.values ? source + (pair + 1) * stride : nullptr;
      for (int64_t j = 0; j < (columns + kColumns - 1) / kColumns * kColumns; j += kUnitLanes) {
        __m512i parts[kParts];
        cut_lines(even ? even + j : nullptr, odd ? odd + j : nullptr, first_lanes(columns - j), parts);
        float* out = panels + j / kColumns * panel + j % kColumns + (unit + t) * kColumns;
        for (int part = 0; part < kParts; ++part) _mm512_storeu_si512(out + part * kUnitLanes * kColumns, parts[part]);
      }
    }
  }
}

void PartPanels::b_patches(const MicroKernel& kernel, const Patches& patches, int64_t column, int64_t columns, DepthRange k, float* panels,
                           int64_t panel) {
  float* rows = kept(kStep * columns);
  for (int64_t unit = 0, value = 0; unit < k.units; unit += kStepUnits, value += kStep) {
    const DepthRange part{0, std::clamp<int64_t>(k.values - value, 0, kStep), kStepUnits};
    patches.copy(k.first + value, part.values, column, columns, rows, columns, columns, 0);
    b_rows(kernel, rows, columns, columns, part, panels + unit * kColumns, panel);
  }
}

}  // namespace reid::cpu
