#pragma once
// Copies of matrices of floats or bf16 in memory into the panels of gemm.h, which are floats. `tile` is the panel's width, `panel` the
// distance of panels; what is missing in the last panel is set to zero.

#include <algorithm>
#include <cstdint>

#include "backends/cpu/micro_kernel.h"
#include "backends/cpu/patches.h"

namespace reid::cpu {

// Row i of the operand at source + i * stride, to panels by row: rows row_stride apart.
template <class T>
void pack_rows(const T* source, int64_t stride, int64_t rows, int64_t depth, int64_t tile, float* panels, int64_t row_stride);
// Row k of [depth, width] at source + k * stride, to panels whose rows of `tile` are `lead` apart; tile rounded up to whole vectors fits.
template <class T>
void pack_depth(const T* source, int64_t stride, int64_t width, int64_t depth, int64_t tile, float* panels, int64_t lead, int64_t panel);
// Row j of [width, depth] at source + j * stride, to panels [depth][tile].
template <class T>
void pack_transposed(const T* source, int64_t stride, int64_t width, int64_t depth, int64_t tile, float* panels, int64_t panel);

// A block of k: `values` from the value `first` on, in `units` of the kernel.
struct DepthRange {
  int64_t first, values, units;
};

// How the operands of a product reach the panels of a kernel. For kernels of floats; PairPanels (x86/pairs.h) is its like for those of
// pairs.
//
// A operand's first row or column and its value k = 0 stand at `a` or `b`; its lines are `stride` apart.
template <class T>
struct FloatPanels {
  using Value = T;
  static constexpr int64_t kValues = 1, kUnits = 1;  // so many values of k take so many units
  static constexpr bool kByDepth = true;             // panels of what a_columns reads
  static constexpr bool kReadInPlace = std::is_same_v<T, float>;

  // Lines are rows of A, or columns of A, a value of k each.
  static void a_rows(const MicroKernel& kernel, const T* a, int64_t stride, int64_t rows, DepthRange k, float* panels) {
    pack_rows(a + k.first, stride, rows, k.values, kernel.rows, panels, kernel.row_stride());
  }
  static void a_columns(const MicroKernel& kernel, const T* a, int64_t stride, int64_t rows, DepthRange k, float* panels) {
    pack_depth(a + k.first * stride, stride, rows, k.values, kernel.rows, panels, kernel.lead(), kernel.panel(true));
  }
  // Rows of A are rows of patches.
  static void a_patches(const MicroKernel& kernel, const Patches& patches, int64_t row, int64_t rows, DepthRange k, float* panels) {
    patches.copy(row, rows, k.first, k.values, panels, kernel.row_stride(), k.values, 0);
    for (int64_t i = rows; i % kernel.rows != 0; ++i) std::fill_n(panels + i * kernel.row_stride(), k.values, 0.0f);
  }
  // Lines are columns of B, or rows of B, a value of k each.
  static void b_columns(const MicroKernel& kernel, const T* b, int64_t stride, int64_t columns, DepthRange k, float* panels,
                        int64_t panel) {
    pack_transposed(b + k.first, stride, columns, k.values, kernel.columns, panels, panel);
  }
  static void b_rows(const MicroKernel& kernel, const T* b, int64_t stride, int64_t columns, DepthRange k, float* panels, int64_t panel) {
    pack_depth(b + k.first * stride, stride, columns, k.values, kernel.columns, panels, kernel.columns, panel);
  }
  // Rows of B are rows of patches.
  static void b_patches(const MicroKernel& kernel, const Patches& patches, int64_t column, int64_t columns, DepthRange k, float* panels,
                        int64_t panel) {
    patches.copy(k.first, k.values, column, columns, panels, kernel.columns, kernel.columns, panel);
    const int64_t rest = columns % kernel.columns;
    float* last = panels + columns / kernel.columns * panel + rest;
    for (int64_t i = 0; rest > 0 && i < k.values; ++i) std::fill_n(last + i * kernel.columns, kernel.columns - rest, 0.0f);
  }
};

// The units that `values` of k take, and the block of k of `units` units from the unit `first` on.
template <class Panels>
int64_t units_of(const MicroKernel& kernel, int64_t values) {
  const int64_t units = (values + Panels::kValues - 1) / Panels::kValues * Panels::kUnits;
  return (units + kernel.step - 1) / kernel.step * kernel.step;
}
template <class Panels>
int64_t values_of(int64_t units) {
  return units / Panels::kUnits * Panels::kValues;
}
template <class Panels>
DepthRange depth_range(int64_t first, int64_t units, int64_t all_values) {
  const int64_t value = values_of<Panels>(first);
  return {value, std::clamp<int64_t>(all_values - value, 0, values_of<Panels>(units)), units};
}

}  // namespace reid::cpu
