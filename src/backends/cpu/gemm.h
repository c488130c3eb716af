#pragma once
// Blocked products of matrices whose operands are read through packing functions, so that a convolution is a product whose A
// (or B) is gathered from an image while it is packed, and never stored whole.

#include "backends/cpu/behind.h"
#include "backends/cpu/micro_kernel.h"
#include "reid/engine/device.h"
#include "reid/engine/weight_cache.h"

namespace reid::cpu {

// C[M, N] (+)= A[M, K] B[K, N]
struct Product {
  // Writes rows [row, row + rows) of A and k in [k, k + depth) as panels of kernel.rows rows, kernel.panel(a_by_depth) floats apart. Rows
  // missing in the last panel must be zero. k and depth count the kernel's units. By row: panel[i * kernel.row_stride() + k]; by depth:
  // panel[k * kernel.lead() + i].
  using PackA = FunctionRef<void(int64_t row, int64_t rows, int64_t k, int64_t depth, float* panels)>;
  // Writes columns of B as panels of kernel.columns columns, `panel` floats apart: panel[k * kernel.columns + j]. Missing columns
  // of the last panel must be zero.
  using PackB = FunctionRef<void(int64_t column, int64_t columns, int64_t k, int64_t depth, float* panels, int64_t panel)>;
  using Row = FunctionRef<void*(int64_t row)>;  // where a row of C starts

  int64_t m, n, k;  // k: units
  bool a_by_depth;
  bool accumulate;  // C += instead of C =
  PackA pack_a;
  PackB pack_b;
  Row row;
  // Where A lies when its rows [M, K] of units are contiguous, else null. Short rows are then read in place, not packed.
  const float* a = nullptr;
  // Where packed B may be kept, under the address of what it is made of.
  WeightCache* cache = nullptr;
  const void* weights = nullptr;
  bool even = true;                // rows of C are equally far apart
  const Behind* behind = nullptr;  // rows of C, contiguous, when their sums are complete; for multiply
  bool narrow = false;  // C is bf16: sums stand in scratch until they are complete, and are rounded once; for multiply, not to add
};

// For many rows: B is packed once, tasks own blocks of rows and walk k with their part of C in cache.
void multiply(const MicroKernel& kernel, const Product& product, Stream& stream);

// For a long k and a small C [M, N] (weight gradients): tasks own tiles of C and ranges of k; the ranges depend on m, n and k
// only, and their partial results are added in order. Sets C (contiguous at `c`); product.accumulate and row are not used.
void multiply_split(const MicroKernel& kernel, const Product& product, float* c, Stream& stream);

}  // namespace reid::cpu
