#pragma once
// Copies of matrices of floats or bf16 in memory into the panels of gemm.h, which are floats. `tile` is the panel's width, `panel` the
// distance of panels; what is missing in the last panel is set to zero.

#include <cstdint>

#include "reid/engine/base.h"

namespace reid::cpu {

// Row i of the operand at source + i * stride, to panels by row: rows kRowStride apart.
template <class T>
void pack_rows(const T* source, int64_t stride, int64_t rows, int64_t depth, int64_t tile, float* panels);
// Row k of [depth, width] at source + k * stride, to panels whose rows of `tile` are `lead` apart; tile rounded up to whole vectors fits.
template <class T>
void pack_depth(const T* source, int64_t stride, int64_t width, int64_t depth, int64_t tile, float* panels, int64_t lead, int64_t panel);
// Row j of [width, depth] at source + j * stride, to panels [depth][tile].
template <class T>
void pack_transposed(const T* source, int64_t stride, int64_t width, int64_t depth, int64_t tile, float* panels, int64_t panel);

}  // namespace reid::cpu
