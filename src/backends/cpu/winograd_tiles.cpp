#include "backends/cpu/isa.h"
#include "backends/cpu/rounding.h"
#include "backends/cpu/winograd.h"

namespace reid::cpu {
namespace {

template <class T>
struct TileRun {
  TileGrid<T> grid;
  int64_t first, count;
  const T* zeros;
  TileMatrices to;
};

// out = B^T in; both are six values, kStep apart.
template <int kStep>
inline __attribute__((always_inline)) void input_transform(const Lanes* in, Lanes* out) {
  const Lanes d0 = in[0], d1 = in[kStep], d2 = in[2 * kStep], d3 = in[3 * kStep], d4 = in[4 * kStep], d5 = in[5 * kStep];
  const Lanes even_a = d4 - 2.0f * d2, odd_a = kA * (d3 - 2.0f * d1), even_b = d4 - 0.5f * d2, odd_b = kB * (d3 - 0.5f * d1);
  out[0] = (d0 + d4) - 2.5f * d2;
  out[kStep] = even_a + odd_a;
  out[2 * kStep] = even_a - odd_a;
  out[3 * kStep] = even_b + odd_b;
  out[4 * kStep] = even_b - odd_b;
  out[5 * kStep] = (d1 + d5) - 2.5f * d3;
}

// Channels [c, c + kLanes) of one matrix; narrow panels take them in pieces.
inline __attribute__((always_inline)) void store_channels(const TileMatrices& to, float* tile, int64_t c, const Lanes& v) {
  if (to.panel >= kLanes) {
    store(tile + c / to.panel * to.to_panel + c % to.panel, v);
  } else {
    for (int64_t i = 0; i < kLanes; ++i) tile[(c + i) / to.panel * to.to_panel + (c + i) % to.panel] = v[i];
  }
}

template <class T>
REID_BODY tiles_body(const TileRun<T>& a) {
  const TileGrid<T>& g = a.grid;
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
    float* to = a.to.data + t * a.to.to_tile;
    for (int64_t c = 0; c < g.c; c += kLanes) {
      Lanes rows[kPositions], whole[kPositions];
      for (int i = 0; i < kPatch; ++i) {
        Lanes in[kPatch];
        for (int j = 0; j < kPatch; ++j) load(in[j], from[i * kPatch + j] + c);
        input_transform<1>(in, rows + i * kPatch);
      }
      for (int j = 0; j < kPatch; ++j) {
        input_transform<kPatch>(rows + j, whole + j);
        for (int i = 0; i < kPatch; ++i) store_channels(a.to, to + (i * kPatch + j) * a.to.to_position, c, whole[i * kPatch + j]);
      }
    }
  }
}
REID_MULTIVERSION(tiles, TileRun<float>)
REID_MULTIVERSION(tiles, TileRun<bf16>)

}  // namespace

template <class T>
void transform_tiles(const TileGrid<T>& grid, int64_t first, int64_t count, const float* zeros, const TileMatrices& to) {
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
