// The tile of micro_kernel_amx.cpp for floats in three parts (parts.h): of 32 values of k six products of parts, in an order that loads a
// tile seldom more than once, small ones first. 14 loads and 24 multiplications: 384 cycles for 65,536 flops of f32, which by multiply-adds
// of 16 floats, two a cycle, take 1,024.

#include "backends/cpu/micro_kernel.h"
#include "backends/cpu/x86/tiles.h"

namespace reid::cpu {
namespace {

constexpr int kRows = 32, kColumns = 32;
constexpr int kPart = 16, kStep = 3 * kPart;  // units

// Rows 0 and 16 of a part of A to tiles 4 and 5, columns 0 and 16 of one of B to 6 and 7.
#define REID_LOAD_A(part)                        \
  _tile_loadd(4, a + k + (part)*kPart, a_bytes); \
  _tile_loadd(5, a_below + k + (part)*kPart, a_bytes)
#define REID_LOAD_B(part)                               \
  _tile_loadd(6, b + (part)*kPart * kColumns, b_bytes); \
  _tile_loadd(7, b + (part)*kPart * kColumns + 16, b_bytes)
#define REID_MULTIPLY()    \
  _tile_dpbf16ps(0, 4, 6); \
  _tile_dpbf16ps(1, 4, 7); \
  _tile_dpbf16ps(2, 5, 6); \
  _tile_dpbf16ps(3, 5, 7)

REID_AMX void tile(int64_t depth, const float* a, int64_t stride, const float* b, float* const* c, int64_t column, bool add) {
  const int64_t a_bytes = stride * 4, b_bytes = kColumns * 4;
  begin_sums(c, column, add);
  const float* a_below = a + 16 * stride;
  for (int64_t k = 0; k < depth; k += kStep, b += kStep * kColumns) {
    REID_LOAD_A(0);
    REID_LOAD_B(2);
    REID_MULTIPLY();  // h l'
    REID_LOAD_B(1);
    REID_MULTIPLY();  // h m'
    REID_LOAD_A(1);
    REID_MULTIPLY();  // m m'
    REID_LOAD_B(0);
    REID_MULTIPLY();  // m h'
    REID_LOAD_A(2);
    REID_MULTIPLY();  // l h'
    REID_LOAD_A(0);
    REID_MULTIPLY();  // h h'
  }
  end_sums(c, column);
}

}  // namespace

const MicroKernel& amx_parts_kernel() {
  static const MicroKernel kernel{.isa = "amx_parts",
                                  .rows = kRows,
                                  .columns = kColumns,
                                  .depth = 480,
                                  .by_row = tile,
                                  .by_depth = nullptr,
                                  .step = kStep,
                                  .even = true,
                                  .goes_on = true,
                                  .begin = use_tiles,
                                  .end = leave_tiles};
  return kernel;
}

}  // namespace reid::cpu
