#include <algorithm>

#include "backends/cpu/isa.h"
#include "backends/cpu/rounding.h"
#include "backends/cpu/winograd.h"

namespace reid::cpu {
namespace {

constexpr int64_t kNarrowest = 8;  // columns of a panel: the portable kernel's

template <class T>
struct TileRun {
  TileGrid<T> grid;
  int64_t first, count;
  const T* zeros;
  TileMatrices to;
};

// out = B^T in: six values each, kStep apart.
template <int kStep>
inline __attribute__((always_inline)) void input_transform(const Lanes* in, Lanes (&out)[kPatch]) {
  const Lanes d0 = in[0], d1 = in[kStep], d2 = in[2 * kStep], d3 = in[3 * kStep], d4 = in[4 * kStep], d5 = in[5 * kStep];
  const Lanes even_a = d4 - 2.0f * d2, odd_a = kA * (d3 - 2.0f * d1), even_b = d4 - 0.5f * d2, odd_b = kB * (d3 - 0.5f * d1);
  out[0] = (d0 + d4) - 2.5f * d2;
  out[1] = even_a + odd_a;
  out[2] = even_a - odd_a;
  out[3] = even_b + odd_b;
  out[4] = even_b - odd_b;
  out[5] = (d1 + d5) - 2.5f * d3;
}

// 16 channels of a tile, given where its 36 pixels lie. `store_at(i, j, v)` takes the values.
template <class T, class Store>
inline __attribute__((always_inline)) void transform_tile(const T* const* from, int64_t c, Store&& store_at) {
  Lanes rows[kPositions];
  for (int i = 0; i < kPatch; ++i) {
    Lanes in[kPatch], out[kPatch];
    for (int j = 0; j < kPatch; ++j) load(in[j], from[i * kPatch + j] + c);
    input_transform<1>(in, out);
    for (int j = 0; j < kPatch; ++j) rows[i * kPatch + j] = out[j];
  }
  for (int j = 0; j < kPatch; ++j) {
    Lanes out[kPatch];
    input_transform<kPatch>(rows + j, out);
    for (int i = 0; i < kPatch; ++i) store_at(i, j, out[i]);
  }
}

// Nothing is divided for each vector: a division costs as much as the transform of ten.
template <class T>
REID_BODY tiles_body(const TileRun<T>& a) {
  const TileGrid<T>& g = a.grid;
  const TileMatrices& to = a.to;
  for (int64_t t = 0; t < a.count; ++t) {
    const int64_t tile = a.first + t, left = tile % g.across * kTile - g.pad_x, top = tile / g.across % g.down * kTile - g.pad_y;
    const T* image = g.images + tile / g.across / g.down * g.h * g.w * g.c;
    const T* from[kPositions];
    for (int64_t i = 0; i < kPatch; ++i) {
      for (int64_t j = 0; j < kPatch; ++j) {
        const int64_t y = top + i, x = left + j;
        from[i * kPatch + j] = y >= 0 && y < g.h && x >= 0 && x < g.w ? image + (y * g.w + x) * g.c : a.zeros;
      }
    }
    float* out = to.data + t * to.to_tile;
    for (int64_t c = 0, inside = 0; c < g.c; c += kLanes) {
      const int64_t position = opaque(to.to_position), row = kPatch * position;
      transform_tile(from, c, [&](int i, int j, const Lanes& v) {
        float* vector = out + inside + i * row + j * position;
        if (to.panel >= kLanes) {
          store(vector, v);
        } else {
          for (int64_t lane = 0; lane < kLanes; ++lane) vector[lane / kNarrowest * to.to_panel + lane % kNarrowest] = v[lane];
        }
      });
      inside += kLanes;
      if (inside < to.panel) continue;
      inside = 0;
      out += std::max<int64_t>(1, kLanes / to.panel) * to.to_panel;
    }
  }
}
REID_MULTIVERSION(tiles, TileRun<float>)
REID_MULTIVERSION(tiles, TileRun<bf16>)

}  // namespace

template <class T>
void transform_tiles(const TileGrid<T>& grid, int64_t first, int64_t count, const float* zeros, const TileMatrices& to) {
  REID_CHECK(to.panel % kLanes == 0 || to.panel == kNarrowest, "[winograd] panels of ", to.panel, " columns");
  tiles(TileRun<T>{.grid = grid, .first = first, .count = count, .zeros = reinterpret_cast<const T*>(zeros), .to = to});
}
template void transform_tiles(const TileGrid<float>&, int64_t, int64_t, const float*, const TileMatrices&);
template void transform_tiles(const TileGrid<bf16>&, int64_t, int64_t, const float*, const TileMatrices&);

const char* winograd_refuses(const ConvShape& s, DType dtype) {
  if (!s.other_sums) return "the definition's sums are asked for";
  if (s.groups != 1) return "groups == 1 only";
  if (s.r != 3 || s.s != 3 || s.stride[0] != 1 || s.stride[1] != 1 || s.dilation[0] != 1 || s.dilation[1] != 1) return "3x3, stride 1 only";
  if (s.pad[0] > 2 || s.pad[1] > 2) return "padding up to 2 only";
  if (s.c % 32 != 0 || s.k % 32 != 0) return "multiples of 32 channels only";
  return refuse_wider(dtype);
}

}  // namespace reid::cpu
