#include "backends/cpu/gemm_block.h"

namespace reid::cpu {
namespace {

// Rows of A by tiles, either all packed or in place but for the last, incomplete tile.
struct Left {
  const float* a;
  int64_t tile, stride;  // floats from tile to tile; see MicroKernel
  const float* rest;     // the incomplete tile, packed
  int64_t rest_stride;
};

// Longer rows in place would meet in the same cache sets: 14 rows 4 KB apart share one set of 8 ways.
constexpr int64_t kInPlace = 512;

Left place(const MicroKernel& kernel, const Product& p, const Block& block, float* scratch) {
  const int64_t whole = block.rows / kernel.rows, packed_stride = p.a_by_depth ? kernel.lead() : kRowStride;
  if (!p.a || p.k > kInPlace) {
    p.pack_a(block.row, block.rows, block.k, block.depth, scratch);
    const int64_t panel = kernel.panel(p.a_by_depth);
    return {.a = scratch, .tile = panel, .stride = packed_stride, .rest = scratch + whole * panel, .rest_stride = packed_stride};
  }
  const int64_t done = whole * kernel.rows;
  if (done < block.rows) p.pack_a(block.row + done, block.rows - done, block.k, block.depth, scratch);
  return {.a = p.a + block.row * p.k + block.k, .tile = kernel.rows * p.k, .stride = p.k, .rest = scratch, .rest_stride = packed_stride};
}

// A tile that sticks out of C: computed whole from zero-padded panels, its inner part copied.
void edge_tile(const MicroKernel& kernel, MicroKernel::Run run, const Block& block, const float* a, int64_t a_stride, const float* b,
               float* const* c, int64_t rows, int64_t column, int64_t columns) {
  alignas(64) float tile[kMaxTile];
  float* tile_rows[kMaxTileRows];
  for (int64_t i = 0; i < kernel.rows; ++i) tile_rows[i] = tile + i * kernel.columns;
  run(block.depth, a, a_stride, b, tile_rows, 0, false);
  for (int64_t i = 0; i < rows; ++i) {
    float* out = c[i] + column;
    const float* in = tile_rows[i];
    for (int64_t j = 0; j < columns; ++j) out[j] = block.add ? out[j] + in[j] : in[j];
  }
}

// A tile is read or written when its sums are complete; asked for now, it is there by then.
inline void expect(float* const* c, int64_t rows, int64_t column, int64_t columns) {
  constexpr int64_t kLine = 16;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; j += kLine) __builtin_prefetch(c[i] + column + j, 1);
  }
}

}  // namespace

int64_t block_floats(const MicroKernel& kernel, const Product& p, int64_t rows) {
  return ceil_div(rows, kernel.rows) * kernel.panel(p.a_by_depth);
}

void multiply_block(const MicroKernel& kernel, const Product& p, const Block& block, float* scratch, float* const* c) {
  const MicroKernel::Run run = p.a_by_depth ? kernel.by_depth : kernel.by_row;
  const Left left = place(kernel, p, block, scratch);
  const int64_t end = block.column + block.columns;
  const float* b = block.b;
  for (int64_t j = block.column; j < end; j += kernel.columns, b += block.depth * kernel.columns) {
    const float* a = left.a;
    const int64_t columns = std::min(kernel.columns, end - j);
    for (int64_t i = 0; i < block.rows; i += kernel.rows, a += left.tile) {
      const int64_t rows = std::min(kernel.rows, block.rows - i);
      expect(c + i, rows, j, columns);
      if (rows < kernel.rows) {
        edge_tile(kernel, run, block, left.rest, left.rest_stride, b, c + i, rows, j, columns);
      } else if (columns < kernel.columns) {
        edge_tile(kernel, run, block, a, left.stride, b, c + i, rows, j, columns);
      } else {
        run(block.depth, a, left.stride, b, c + i, j, block.add);
      }
    }
  }
}

}  // namespace reid::cpu
