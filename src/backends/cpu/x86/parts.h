#pragma once
// Panels for the kernel that multiplies floats in parts of bf16.
//
//   x = h + m + l,   h = bf16(x), m = bf16(x - h), l = bf16(x - h - m): 24 bits in three times 8, exactly
//   x y  ~  h h' + (h m' + m h') + (h l' + m m' + l h')
//
// What is left out, m l' + l m' + l l', is at most 2^-26 |x y|, a quarter of the rounding of a product to f32; sums are f32. Not so for
// values beyond bf16's range: above 3.39e38 and where l would be below 2^-126, which bf16 multiplications take for zero. An infinite value
// gives NaN. (The decomposition: Henry, Tang and Heinecke, "Leveraging the bfloat16 artificial intelligence datatype for higher-precision
// computations", ARITH 2019.)
//
// 32 values of k take 48 units: 16 of pairs of h, 16 of m, 16 of l, in a row of A (by row) and for each column of B. What is missing in the
// last 32, in units beyond, and in the last rows or columns of a panel, is set to zero.

#include "backends/cpu/packing.h"

namespace reid::cpu {

struct PartPanels {
  using Value = float;
  static constexpr int64_t kValues = 32, kUnits = 48;
  static constexpr bool kByDepth = false;
  static constexpr bool kReadInPlace = false;

  static void a_rows(const MicroKernel& kernel, const float* a, int64_t stride, int64_t rows, DepthRange k, float* panels);
  static void a_columns(const MicroKernel& kernel, const float* a, int64_t stride, int64_t rows, DepthRange k, float* panels);
  static void a_patches(const MicroKernel& kernel, const Patches& patches, int64_t row, int64_t rows, DepthRange k, float* panels);
  static void b_columns(const MicroKernel&, const float* b, int64_t stride, int64_t columns, DepthRange k, float* panels, int64_t panel);
  static void b_rows(const MicroKernel&, const float* b, int64_t stride, int64_t columns, DepthRange k, float* panels, int64_t panel);
  static void b_patches(const MicroKernel&, const Patches& patches, int64_t column, int64_t columns, DepthRange k, float* panels,
                        int64_t panel);
};

}  // namespace reid::cpu
