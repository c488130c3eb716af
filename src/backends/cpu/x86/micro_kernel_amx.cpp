// 32 x 32 tile in four tile registers, two more for 32 rows of A and two for 32 columns of B. 16 units of k: 4 loads of 1 KB, of which a
// core does one in 8 cycles, and 4 multiplications of 16 cycles, which together are 65,536 flops; so the loads hide while they hit L1.

#include "backends/cpu/micro_kernel.h"
#include "backends/cpu/x86/tiles.h"

namespace reid::cpu {
namespace {

constexpr int kRows = 32, kColumns = 32, kStep = 16;

REID_AMX void tile(int64_t depth, const float* a, int64_t stride, const float* b, float* const* c, int64_t column, bool add) {
  float* out = c[0] + column;
  const int64_t a_bytes = stride * 4, b_bytes = kColumns * 4, c_bytes = (c[1] - c[0]) * 4;
  float* below = out + 16 * (c[1] - c[0]);
  if (add) {
    _tile_loadd(0, out, c_bytes);
    _tile_loadd(1, out + 16, c_bytes);
    _tile_loadd(2, below, c_bytes);
    _tile_loadd(3, below + 16, c_bytes);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  const float* a_below = a + 16 * stride;
  for (int64_t k = 0; k < depth; k += kStep, b += kStep * kColumns) {
    _tile_loadd(4, a + k, a_bytes);
    _tile_loadd(6, b, b_bytes);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, b + 16, b_bytes);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, a_below + k, a_bytes);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, out, c_bytes);
  _tile_stored(1, out + 16, c_bytes);
  _tile_stored(2, below, c_bytes);
  _tile_stored(3, below + 16, c_bytes);
}

}  // namespace

const MicroKernel& amx_kernel() {
  static const MicroKernel kernel{.isa = "amx",
                                  .rows = kRows,
                                  .columns = kColumns,
                                  .depth = 128,
                                  .by_row = tile,
                                  .by_depth = nullptr,
                                  .step = kStep,
                                  .even = true,
                                  .begin = use_tiles,
                                  .end = leave_tiles};
  return kernel;
}

}  // namespace reid::cpu
