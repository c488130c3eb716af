#pragma once
// Inside the products of matrices: a block of C, computed from packed panels tile by tile.

#include <algorithm>

#include "backends/cpu/gemm.h"

namespace reid::cpu {

inline constexpr int64_t kBlockRows = 224;         // of A in cache: 16 panels of 14
inline constexpr int64_t kPackedFloats = 8 << 20;  // packed B in memory at a time: 32 MB
inline constexpr int64_t kTasks = 32;              // wanted at least, so that 16 threads stay busy

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Even cuts of `count` items, in multiples of `unit`, none larger than `limit`.
inline int64_t even_block(int64_t count, int64_t unit, int64_t limit) {
  const int64_t units = ceil_div(count, unit), most = std::max<int64_t>(1, limit / unit);
  return ceil_div(units, ceil_div(units, most)) * unit;
}

// A block of C: at most kBlockRows rows, one block of k. B lies in panels of kernel.columns, each [depth][kernel.columns].
struct Block {
  const float* b;
  int64_t row, rows, column, columns, k, depth;  // of the product
  bool add;                                      // C += instead of C =
  // Of the last block of k where C is to be bf16, else null: rows of the result, which takes C + the block's sums, rounded. C, whose rows
  // are then equally far apart, is left undefined.
  bf16* const* rounded = nullptr;
};

// Floats a thread needs for the A side of a block of `rows` rows.
int64_t block_floats(const MicroKernel& kernel, const Product& product, int64_t rows);
// Packs the A side into `scratch` where it is not read in place, and multiplies. c: where the block's rows of C start.
void multiply_block(const MicroKernel& kernel, const Product& product, const Block& block, float* scratch, float* const* c);

}  // namespace reid::cpu
