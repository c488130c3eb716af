// The portable tile: 4 x 8 in plain loops, which compilers turn into whatever vectors the target has.

#include "backends/cpu/micro_kernel.h"

namespace reid::cpu {
namespace {

constexpr int kRows = 4, kColumns = 8;

template <bool kByDepth>
void tile(int64_t depth, const float* a, int64_t stride, const float* b, float* const* c, int64_t column, bool add) {
  float sum[kRows][kColumns] = {};
  const int64_t step = kByDepth ? 1 : stride;
  for (int64_t k = 0; k < depth; ++k, a += kByDepth ? stride : 1, b += kColumns) {
    for (int i = 0; i < kRows; ++i) {
      const float value = a[i * step];
      for (int j = 0; j < kColumns; ++j) sum[i][j] += value * b[j];
    }
  }
  for (int i = 0; i < kRows; ++i) {
    float* out = c[i] + column;
    for (int j = 0; j < kColumns; ++j) out[j] = add ? out[j] + sum[i][j] : sum[i][j];
  }
}

}  // namespace

const MicroKernel& portable_kernel() {
  static const MicroKernel kernel{"portable", kRows, kColumns, kFloatDepth, tile<false>, tile<true>};
  return kernel;
}

}  // namespace reid::cpu
