// The portable tile: 4 x 8 in plain loops, which compilers turn into whatever vectors the target has.

#include "backends/cpu/micro_kernel.h"

namespace reid::cpu {
namespace {

constexpr int kRows = 4, kColumns = 8;

template <int64_t kRowStep, int64_t kDepthStep>
void tile(int64_t depth, const float* a, const float* b, float* const* c, int64_t column, bool add) {
  float sum[kRows][kColumns] = {};
  for (int64_t k = 0; k < depth; ++k, a += kDepthStep, b += kColumns) {
    for (int i = 0; i < kRows; ++i) {
      for (int j = 0; j < kColumns; ++j) sum[i][j] += a[i * kRowStep] * b[j];
    }
  }
  for (int i = 0; i < kRows; ++i) {
    float* out = c[i] + column;
    for (int j = 0; j < kColumns; ++j) out[j] = add ? out[j] + sum[i][j] : sum[i][j];
  }
}

}  // namespace

const MicroKernel& portable_kernel() {
  static const MicroKernel kernel{"portable", kRows, kColumns, tile<kRowStride, 1>, tile<1, kRows>};
  return kernel;
}

}  // namespace reid::cpu
