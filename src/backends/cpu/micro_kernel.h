#pragma once
// The innermost loop of every product of matrices: one tile of C, held in registers, as a sum of outer products.
//
//   C[i, j] (+)= sum_{k < depth} A[i, k] * B[k, j],   i < rows, j < columns
//
// Layout: B is a packed panel [depth][columns]. A lies by row (A[i, k] at a[i * stride + k]: a panel packed with stride row_stride(), or
// rows in place) or by depth (at a[k * stride + i]: a panel packed with stride lead(), or in place). A step reads columns + rows
// floats and does 2 * rows * columns flops from registers, so tiles are as large as the register file allows.
//
// Kernels of pairs multiply bf16: what stands for a float of A or B here is then a unit of two bf16, of k and k + 1, and depths and strides
// count units (x86/pairs.h packs them). Floats in parts are such units, too (x86/parts.h). C is f32 all the same.
//
// Every tile starts from zero, sums k upwards with one rounding a step (fused multiply-add; the portable kernel rounds twice),
// and is stored or added once; those of AMX go on from the sums of the blocks before. So an element depends on its row of A and its column
// of B only, never on the size of C, on its position or on threads, and the AVX2 and AVX-512 kernels agree bit for bit.

#include <bit>
#include <cstdint>

#include "reid/engine/base.h"

namespace reid::cpu {

inline constexpr int64_t kFloatDepth = 256;  // of the kernels of floats: the same sums on every processor
inline constexpr int64_t kMaxTileRows = 32;
inline constexpr int64_t kMaxTile = kMaxTileRows * 32;  // floats of the largest tile

// A tile computed apart from C: because it sticks out of C, from zero-padded panels, because its sums are to be rounded, or because the
// kernel cannot write rows that lie so.
struct Apart {
  const float* tile;  // [..][width]
  int64_t width, rows, columns;
  float* const* c;  // rows of C, of which those from `column` on are meant
  int64_t column;
  bool add;              // C + tile instead of the tile
  bf16* const* rounded;  // rows that take the sums, rounded, instead of C; or null
};

struct MicroKernel {
  // c: one pointer a row of the tile, each to the first of `columns` floats behind `column`; add: C += tile, else C = tile.
  using Run = void (*)(int64_t depth, const float* a, int64_t stride, const float* b, float* const* c, int64_t column, bool add);
  const char* isa;  // "avx512", "avx2", "portable"; of pairs "avx512_bf16", "amx", "amx_parts"
  int64_t rows, columns;
  int64_t depth;         // k is cut into blocks of this; sums of blocks are added in order
  Run by_row, by_depth;  // by_depth: null in kernels of pairs
  int64_t step = 1;      // depths are multiples of it
  bool even = false;     // the rows of c must be equally far apart
  bool goes_on = false;  // with add the sums go on from what C holds, term by term; else the tile's sum is added to it
  // What the thread calls before and after a block of tiles, or null.
  void (*begin)() = nullptr;
  void (*end)() = nullptr;
  void (*round)(const Apart&) = nullptr;  // a tile with `rounded`; null: as bf16(float) does

  // Floats from row to row in a packed panel by row: an odd number of cache lines, so that rows fall into different cache sets.
  int64_t row_stride() const { return depth + 16; }
  // Floats from k to k + 1 in a packed panel by depth: whole vectors, which are stored four times as fast as 14 floats across two lines.
  int64_t lead() const { return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(rows))); }
  // Floats from panel to panel of A. By depth panels then begin in four of the cache's sets, not all in one.
  int64_t panel(bool depthwise) const { return (depthwise ? lead() : rows) * row_stride(); }
};

const MicroKernel& portable_kernel();
const MicroKernel& avx2_kernel();         // x86 only
const MicroKernel& avx512_kernel();       // x86 only
const MicroKernel& avx512_bf16_kernel();  // of pairs, x86 only
const MicroKernel& amx_kernel();          // of pairs, x86 only
const MicroKernel& amx_parts_kernel();    // of floats in three parts, x86 only

}  // namespace reid::cpu
