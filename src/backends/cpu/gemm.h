#pragma once
// Blocked products of matrices whose operands are read through packing functions, so that a convolution is a product whose A
// (or B) is gathered from an image while it is packed, and never stored whole.

#include "backends/cpu/micro_kernel.h"
#include "reid/engine/device.h"

namespace reid::cpu {

// C[M, N] (+)= A[M, K] B[K, N]
struct Product {
  // Writes one panel of A: rows [row, row + rows) and k in [k, k + depth), rows <= kernel.rows. Missing rows must be zero.
  // By row: panel[i * kRowStride + k]; by depth: panel[k * kernel.rows + i].
  using PackA = FunctionRef<void(int64_t row, int64_t rows, int64_t k, int64_t depth, float* panel)>;
  // Writes one panel of B: panel[k * kernel.columns + j], columns <= kernel.columns. Missing columns must be zero.
  using PackB = FunctionRef<void(int64_t column, int64_t columns, int64_t k, int64_t depth, float* panel)>;
  using Row = FunctionRef<float*(int64_t row)>;  // where a row of C starts

  int64_t m, n, k;
  bool a_by_depth;
  bool accumulate;  // C += instead of C =
  PackA pack_a;
  PackB pack_b;
  Row row;
};

// For many rows: B is packed once, tasks own blocks of rows and walk k with their part of C in cache.
void multiply(const MicroKernel& kernel, const Product& product, Stream& stream);

// For a long k and a small C [M, N] (weight gradients): tasks own tiles of C and ranges of k; the ranges depend on m, n and k
// only, and their partial results are added in order. Sets C (contiguous at `c`); product.accumulate and row are not used.
void multiply_split(const MicroKernel& kernel, const Product& product, float* c, Stream& stream);

// Panels copied from a matrix in memory, row i of the panel at source + i * stride (by row, and columns of a transposed B), or
// row k at source + k * stride (by depth, and a plain B).
void pack_rows(const float* source, int64_t stride, int64_t rows, int64_t depth, int64_t tile, float* panel);         // by row
void pack_depth(const float* source, int64_t stride, int64_t width, int64_t depth, int64_t tile, float* panel);       // [depth][tile]
void pack_transposed(const float* source, int64_t stride, int64_t width, int64_t depth, int64_t tile, float* panel);  // [depth][tile]

}  // namespace reid::cpu
