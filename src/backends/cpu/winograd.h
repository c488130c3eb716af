#pragma once
// What the convolutions by minimal filtering share: vectors of channels, the points, and the transform of input tiles.
//
// A tile is the 6x6 input values that determine 4x4 outputs. Points 0, +-a, +-b, infinity with a = 1/sqrt(2), b = sqrt(2): rounding
// errors of a layer of 64 channels are 5.9e-7 of its root mean square (normal weights, rectified normal inputs); the direct sum's are
// 3.1e-7, those of the usual points 0, +-1, +-2 1.4e-6.

#include <cstdint>

#include "backends/cpu/isa.h"
#include "reid/engine/op_args.h"

namespace reid::cpu {

inline constexpr int64_t kTile = 4, kPatch = 6, kPositions = kPatch * kPatch;
inline constexpr int64_t kLanes = 16;
inline constexpr float kA = 0.70710678118654752f, kB = 1.41421356237309505f;  // the points

using Lanes = Vector<kLanes>;  // 16 channels of one value

// The same of bf16, as its constructor rounds.
using WholeBits = uint32_t __attribute__((vector_size(kLanes * sizeof(uint32_t))));
using UpperBits = uint16_t __attribute__((vector_size(kLanes * sizeof(uint16_t))));
inline __attribute__((always_inline)) void load(Lanes& v, const bf16* p) {
  UpperBits upper;
  std::memcpy(&upper, p, sizeof upper);
  const WholeBits whole = __builtin_convertvector(upper, WholeBits) << 16u;
  std::memcpy(&v, &whole, sizeof v);
}
inline __attribute__((always_inline)) void store(bf16* p, const Lanes& v) {
  WholeBits whole;
  std::memcpy(&whole, &v, sizeof whole);
  const auto nan = (whole & 0x7FFFFFFFu) > 0x7F800000u;  // lanes of ones
  const auto mask = reinterpret_cast<WholeBits>(nan);
  const WholeBits half = ((whole >> 16u) & 1u) + 0x7FFFu, nearest = ((whole + (half & ~mask)) >> 16u) | (mask & 0x40u);
  const UpperBits upper = __builtin_convertvector(nearest, UpperBits);
  std::memcpy(p, &upper, sizeof upper);
}

// Where the tiles of images [n, h, w, c] lie: tile (n, i, j) starts at row 4 i - pad_y and column 4 j - pad_x of image n.
template <class T>
struct TileGrid {
  const T* images;
  int64_t h, w, c;
  int64_t down, across;  // tiles of an image
  int64_t pad_y, pad_x;
};
// 36 matrices of transformed tiles: channel c of a tile at data[position * to_position + c / panel * to_panel + tile * to_tile + c %
// panel].
struct TileMatrices {
  float* data;
  int64_t to_position, to_tile;
  int64_t panel, to_panel;
};
// Transforms tiles [first, first + count) of the grid, of float or bf16, into the matrices' tiles [0, count): B^T x B. `zeros`: c of
// them, read as either type.
template <class T>
void transform_tiles(const TileGrid<T>& grid, int64_t first, int64_t count, const float* zeros, const TileMatrices& to);

// Why such a convolution cannot be taken, or null.
const char* winograd_refuses(const ConvShape& shape, DType dtype);

}  // namespace reid::cpu
