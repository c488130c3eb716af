#pragma once
// Copies of matrices in memory into the panels of gemm.h. `tile` is the panel's width, `panel` the distance of panels; what is
// missing in the last panel is set to zero.

#include <cstdint>

namespace reid::cpu {

// Row i of the operand at source + i * stride, to panels by row: rows kRowStride apart.
void pack_rows(const float* source, int64_t stride, int64_t rows, int64_t depth, int64_t tile, float* panels);
// Row k of [depth, width] at source + k * stride, to panels whose rows of `tile` are `lead` apart; tile rounded up to whole vectors fits.
void pack_depth(const float* source, int64_t stride, int64_t width, int64_t depth, int64_t tile, float* panels, int64_t lead,
                int64_t panel);
// Row j of [width, depth] at source + j * stride, to panels [depth][tile].
void pack_transposed(const float* source, int64_t stride, int64_t width, int64_t depth, int64_t tile, float* panels, int64_t panel);

}  // namespace reid::cpu
