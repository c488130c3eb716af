#pragma once
// Panels for kernels that multiply bf16 in pairs: a unit of 4 bytes holds two values of neighboring k, of one row of A or column of B.
//
// A lies by row (rows kRowStride units apart), B as [units][columns], as micro_kernel.h has them for floats. What is missing in the last
// unit, in units beyond the values, and in the last rows or columns of a panel, is set to zero.

#include "backends/cpu/packing.h"

namespace reid::cpu {

inline constexpr int64_t kPairColumns = 32;  // of a panel of B, whatever the kernel

struct PairPanels {
  using Value = bf16;
  static constexpr int64_t kValues = 2, kUnits = 1;
  static constexpr bool kByDepth = false;
  static constexpr bool kReadInPlace = true;

  static void a_rows(const MicroKernel& kernel, const bf16* a, int64_t stride, int64_t rows, DepthRange k, float* panels);
  static void a_columns(const MicroKernel& kernel, const bf16* a, int64_t stride, int64_t rows, DepthRange k, float* panels);
  static void a_patches(const MicroKernel& kernel, const Patches& patches, int64_t row, int64_t rows, DepthRange k, float* panels);
  static void b_columns(const MicroKernel&, const bf16* b, int64_t stride, int64_t columns, DepthRange k, float* panels, int64_t panel);
  static void b_rows(const MicroKernel&, const bf16* b, int64_t stride, int64_t columns, DepthRange k, float* panels, int64_t panel);
  static void b_patches(const MicroKernel&, const Patches& patches, int64_t column, int64_t columns, DepthRange k, float* panels,
                        int64_t panel);
};

}  // namespace reid::cpu
