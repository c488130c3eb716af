// 32 x 32 tile in four tile registers, two more for 32 rows of A and two for 32 columns of B. 16 units of k: 4 loads of 1 KB, of which a
// core does one in 8 cycles, and 4 multiplications of 16 cycles, which together are 65,536 flops; so the loads hide while they hit L1.

#include "backends/cpu/isa.h"
#include "backends/cpu/micro_kernel.h"
#include "backends/cpu/x86/round.h"
#include "backends/cpu/x86/tiles.h"

namespace reid::cpu {
namespace {

constexpr int kRows = 32, kColumns = 32, kStep = 16;

REID_AMX void tile(int64_t depth, const float* a, int64_t stride, const float* b, float* const* c, int64_t column, bool add) {
  const int64_t a_bytes = stride * 4, b_bytes = kColumns * 4;
  begin_sums(c, column, add);
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
  end_sums(c, column);
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
                                  .goes_on = true,
                                  .begin = use_tiles,
                                  .end = leave_tiles,
                                  .round = supports(Isa::avx512_bf16) ? round_by_instruction : nullptr};
  return kernel;
}

}  // namespace reid::cpu
