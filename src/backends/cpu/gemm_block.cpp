#include "backends/cpu/gemm_block.h"

#include <algorithm>
#include <cstring>

#include "backends/cpu/isa.h"

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
  const int64_t whole = block.rows / kernel.rows, packed_stride = p.a_by_depth ? kernel.lead() : kernel.row_stride();
  if (!p.a || p.k > kInPlace) {
    p.pack_a(block.row, block.rows, block.k, block.depth, scratch);
    const int64_t panel = kernel.panel(p.a_by_depth);
    return {.a = scratch, .tile = panel, .stride = packed_stride, .rest = scratch + whole * panel, .rest_stride = packed_stride};
  }
  const int64_t done = whole * kernel.rows;
  if (done < block.rows) p.pack_a(block.row + done, block.rows - done, block.k, block.depth, scratch);
  return {.a = p.a + block.row * p.k + block.k, .tile = kernel.rows * p.k, .stride = p.k, .rest = scratch, .rest_stride = packed_stride};
}

constexpr int64_t kMostColumns = kMaxTile / kMaxTileRows;

// columns: those of `a`; inlined where they are a constant, loops become vectors without rests.
inline __attribute__((always_inline)) void take_rows(const Apart& a, int64_t columns) {
  for (int64_t i = 0; i < a.rows; ++i) {
    const float *in = a.tile + i * a.width, *sums = a.c[i] + a.column;
    float whole[kMostColumns];
    if (a.add) {
      for (int64_t j = 0; j < columns; ++j) whole[j] = sums[j] + in[j];
      in = whole;
    }
    if (a.rounded) {
      bf16* out = a.rounded[i] + a.column;
      for (int64_t j = 0; j < columns; ++j) out[j] = bf16(in[j]);
    } else {
      float* out = a.c[i] + a.column;
      for (int64_t j = 0; j < columns; ++j) out[j] = in[j];
    }
  }
}
REID_BODY take_body(const Apart& a) { a.columns == kMostColumns ? take_rows(a, kMostColumns) : take_rows(a, a.columns); }
REID_MULTIVERSION(take, Apart)

void store_apart(const MicroKernel& kernel, const Apart& a) {
  if (a.rounded && kernel.round) return kernel.round(a);
  take(a);
}

// What C holds of a tile, and zeros where the tile sticks out.
void take_back(const MicroKernel& kernel, const Apart& a, float* tile) {
  for (int64_t i = 0; i < kernel.rows; ++i, tile += a.width) {
    const int64_t there = i < a.rows ? a.columns : 0;
    if (there > 0) std::memcpy(tile, a.c[i] + a.column, static_cast<size_t>(there) * sizeof(float));
    std::fill_n(tile + there, a.width - there, 0.0f);
  }
}

void tile_apart(const MicroKernel& kernel, MicroKernel::Run run, const Block& block, const float* a, int64_t a_stride, const float* b,
                float* const* c, int64_t row, int64_t rows, int64_t column, int64_t columns) {
  alignas(64) float tile[kMaxTile];
  float* tile_rows[kMaxTileRows];
  for (int64_t i = 0; i < kernel.rows; ++i) tile_rows[i] = tile + i * kernel.columns;
  const bool goes_on = block.add && kernel.goes_on;
  const Apart apart{.tile = tile,
                    .width = kernel.columns,
                    .rows = rows,
                    .columns = columns,
                    .c = c + row,
                    .column = column,
                    .add = block.add && !goes_on,
                    .rounded = block.rounded ? block.rounded + row : nullptr};
  if (goes_on) take_back(kernel, apart, tile);
  run(block.depth, a, a_stride, b, tile_rows, 0, goes_on);
  store_apart(kernel, apart);
}

// A whole tile that is to be rounded is completed where C's sums stand.
void tile_rounded(const MicroKernel& kernel, MicroKernel::Run run, const Block& block, const float* a, int64_t a_stride, const float* b,
                  float* const* c, int64_t row, int64_t column) {
  run(block.depth, a, a_stride, b, c + row, column, block.add);
  store_apart(kernel, {.tile = c[row] + column,
                       .width = c[row + 1] - c[row],
                       .rows = kernel.rows,
                       .columns = kernel.columns,
                       .c = c + row,
                       .column = column,
                       .add = false,
                       .rounded = block.rounded + row});
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
  const bool apart = kernel.even && !p.even && !p.narrow;
  if (kernel.begin) kernel.begin();
  for (int64_t j = block.column; j < end; j += kernel.columns, b += block.depth * kernel.columns) {
    const float* a = left.a;
    const int64_t columns = std::min(kernel.columns, end - j);
    for (int64_t i = 0; i < block.rows; i += kernel.rows, a += left.tile) {
      const int64_t rows = std::min(kernel.rows, block.rows - i);
      if (!block.rounded) expect(c + i, rows, j, columns);
      if (rows < kernel.rows) {
        tile_apart(kernel, run, block, left.rest, left.rest_stride, b, c, i, rows, j, columns);
      } else if (columns < kernel.columns || apart) {
        tile_apart(kernel, run, block, a, left.stride, b, c, i, rows, j, columns);
      } else if (block.rounded) {
        tile_rounded(kernel, run, block, a, left.stride, b, c, i, j);
      } else {
        run(block.depth, a, left.stride, b, c + i, j, block.add);
      }
    }
  }
  if (kernel.end) kernel.end();
}

}  // namespace reid::cpu
