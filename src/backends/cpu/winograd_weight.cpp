// Weight gradients of 3x3 convolutions of stride 1 by minimal filtering, F(3x3, 4x4), NHWC, f32 or bf16.
//
//   dw[k, c] = A^T [ sum over tiles (G dy_k G^T) * (B^T x_c B) ] A        dy: 4x4 tile of the gradient, x: the 6x6 input around it
//
// 36 products for what takes 144: each position is a product of matrices [K, tiles] x [tiles, C], for the micro-kernels of the packed
// product. Points and rounding: winograd.h; only where ConvShape::other_sums allows it.
//
// Tiles are taken in chunks. Of a chunk both operands are transformed, straight into the layouts the kernels read: Y [36][tiles][K] and
// V [36][panels of C][tiles][columns]. Then M [36][K][C] grows by their products, task by task of a position and a block of rows. A chunk
// is at least so large that reading and writing M costs no more than reading Y and V. Sums run over the tiles in order, in f32, cut at
// chunks and at a kernel's depth of tiles: these depend on sizes alone.

#include <algorithm>

#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/micro_kernel.h"
#include "backends/cpu/rounding.h"
#include "backends/cpu/winograd.h"
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

constexpr int64_t kChunkFloats = 1 << 20;  // of Y and V together, at least: 4 MB
constexpr int64_t kPieceTiles = 8;         // tiles a task transforms
constexpr int64_t kBlockRows = 4;          // tiles of the kernel in a block of rows of M

// out[0..5] = G in[0..3]
template <int kStep>
inline __attribute__((always_inline)) void gradient_transform(const Lanes* in, Lanes* out) {
  const Lanes g0 = in[0], g1 = in[kStep], g2 = in[2 * kStep], g3 = in[3 * kStep];
  const Lanes even_a = (-2.0f / 3) * g0 - (1.0f / 3) * g2, odd_a = (-2.0f / 3 * kA) * g1 - (1.0f / 3 * kA) * g3;
  const Lanes even_b = (1.0f / 6) * g0 + (1.0f / 3) * g2, odd_b = (1.0f / 6 * kB) * g1 + (1.0f / 3 * kB) * g3;
  out[0] = g0;
  out[1] = even_a + odd_a;
  out[2] = even_a - odd_a;
  out[3] = even_b + odd_b;
  out[4] = even_b - odd_b;
  out[5] = g3;
}

// out[0..2] = A^T in[0..5]
inline __attribute__((always_inline)) void weight_transform(const Lanes* in, Lanes* out) {
  const Lanes sum_a = in[1] + in[2], odd_a = kA * (in[1] - in[2]), sum_b = in[3] + in[4], odd_b = kB * (in[3] - in[4]);
  out[0] = in[0] + (sum_a + sum_b);
  out[1] = odd_a + odd_b;
  out[2] = (0.5f * sum_a + 2.0f * sum_b) + in[5];
}

template <class T>
struct GradientRun {
  const T* dy;  // [n, p, q, k]
  int64_t p, q, k, down, across;
  int64_t first, count;  // tiles
  const T* zeros;        // [k]
  float* to;             // of the first tile: [36][..][tile_floats]
  int64_t to_position, to_tile;
};
template <class T>
REID_BODY gradient_tiles_body(const GradientRun<T>& a) {
  for (int64_t t = 0; t < a.count; ++t) {
    const int64_t tile = a.first + t, left = tile % a.across * kTile, top = tile / a.across % a.down * kTile;
    const T* image = a.dy + tile / a.across / a.down * a.p * a.q * a.k;
    const T* from[kTile * kTile];
    for (int64_t i = 0; i < kTile; ++i) {
      for (int64_t j = 0; j < kTile; ++j) {
        const bool inside = top + i < a.p && left + j < a.q;
        from[i * kTile + j] = inside ? image + ((top + i) * a.q + left + j) * a.k : a.zeros;
      }
    }
    for (int64_t k = 0; k < a.k; k += kLanes) {
      float* to = a.to + t * a.to_tile + k;
      const int64_t position = opaque(a.to_position), row = kPatch * position;
      Lanes rows[kTile * kPatch];
      for (int i = 0; i < kTile; ++i) {
        Lanes in[kTile];
        for (int j = 0; j < kTile; ++j) load(in[j], from[i * kTile + j] + k);
        gradient_transform<1>(in, rows + i * kPatch);
      }
      for (int j = 0; j < kPatch; ++j) {
        Lanes column[kPatch];
        gradient_transform<kPatch>(rows + j, column);
        for (int i = 0; i < kPatch; ++i) store(to + i * row + j * position, column[i]);
      }
    }
  }
}
REID_MULTIVERSION(gradient_tiles, GradientRun<float>)
REID_MULTIVERSION(gradient_tiles, GradientRun<bf16>)

struct WeightRun {
  const float* m;  // of one filter: [36][..][c]
  int64_t to_position, c;
  float* dw;  // [3, 3, c]
};
REID_BODY weights_body(const WeightRun& a) {
  for (int64_t c = 0; c < a.c; c += kLanes) {
    Lanes rows[kPatch * 3];
    for (int i = 0; i < kPatch; ++i) {
      Lanes in[kPatch];
      for (int j = 0; j < kPatch; ++j) load(in[j], a.m + (i * kPatch + j) * a.to_position + c);
      weight_transform(in, rows + i * 3);
    }
    for (int j = 0; j < 3; ++j) {
      Lanes in[kPatch], out[3];
      for (int i = 0; i < kPatch; ++i) in[i] = rows[i * 3 + j];
      weight_transform(in, out);
      for (int i = 0; i < 3; ++i) store(a.dw + (i * 3 + j) * a.c + c, out[i]);
    }
  }
}
REID_MULTIVERSION(weights, WeightRun)

// The extents of a call and where its parts stand in the workspace.
struct Plan {
  int64_t down, across, tiles;
  int64_t chunk;          // tiles
  int64_t rows, columns;  // of M: K and C in multiples of the kernel's
  int64_t y_floats, v_floats, m_floats;

  Plan(const MicroKernel& kernel, const ConvShape& s) {
    down = (s.p() + kTile - 1) / kTile;
    across = (s.q() + kTile - 1) / kTile;
    tiles = s.n * down * across;
    const int64_t least = std::max(kChunkFloats / (kPositions * (s.c + s.k)), s.c * s.k / (s.c + s.k));
    chunk = std::min(tiles, (least + kPieceTiles - 1) / kPieceTiles * kPieceTiles);
    rows = (s.k + kernel.rows - 1) / kernel.rows * kernel.rows;
    columns = s.c;
    y_floats = kPositions * chunk * rows;
    v_floats = kPositions * chunk * columns;
    m_floats = kPositions * rows * columns;
  }
};

struct Workspace {
  float *v, *m, *zeros, *y;  // v first: its panels must be aligned
};

template <class T>
void transform_chunk(const MicroKernel& kernel, const ConvBackwardWeightArgs& a, const Plan& plan, int64_t first, int64_t count,
                     const Workspace& w) {
  const ConvShape& s = a.shape;
  const TileGrid<T> grid{.images = static_cast<const T*>(a.x),
                         .h = s.h,
                         .w = s.w,
                         .c = s.c,
                         .down = plan.down,
                         .across = plan.across,
                         .pad_y = s.pad[0],
                         .pad_x = s.pad[1]};
  const int64_t columns = kernel.columns;
  parallel_for(count, kPieceTiles, [&](int64_t begin, int64_t end, int) {
    transform_tiles(grid, first + begin, end - begin, w.zeros,
                    {.data = w.v + begin * columns,
                     .to_position = plan.chunk * s.c,
                     .to_tile = columns,
                     .panel = columns,
                     .to_panel = plan.chunk * columns});
    gradient_tiles(GradientRun<T>{.dy = static_cast<const T*>(a.dy),
                                  .p = s.p(),
                                  .q = s.q(),
                                  .k = s.k,
                                  .down = plan.down,
                                  .across = plan.across,
                                  .first = first + begin,
                                  .count = end - begin,
                                  .zeros = reinterpret_cast<const T*>(w.zeros),
                                  .to = w.y + begin * plan.rows,
                                  .to_position = plan.chunk * plan.rows,
                                  .to_tile = plan.rows});
  });
}

// M (+)= Y^T V over a chunk of `count` tiles.
void multiply_chunk(const MicroKernel& kernel, const Plan& plan, int64_t count, bool add, const Workspace& w) {
  const int64_t block = kBlockRows * kernel.rows, blocks = (plan.rows + block - 1) / block;
  parallel_for(kPositions * blocks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t position = task / blocks, first = task % blocks * block, last = std::min(plan.rows, first + block);
      const float* y = w.y + position * plan.chunk * plan.rows;
      const float* v = w.v + position * plan.chunk * plan.columns;
      float* m = w.m + position * plan.rows * plan.columns;
      for (int64_t j = 0; j < plan.columns; j += kernel.columns) {
        for (int64_t k = 0; k < count; k += kernel.depth) {
          for (int64_t row = first; row < last; row += kernel.rows) {
            float* out[kMaxTileRows];
            for (int64_t i = 0; i < kernel.rows; ++i) out[i] = m + (row + i) * plan.columns;
            kernel.by_depth(std::min(kernel.depth, count - k), y + k * plan.rows + row, plan.rows, v + j * plan.chunk + k * kernel.columns,
                            out, j, add || k > 0);
          }
        }
      }
    }
  });
}

template <const MicroKernel& (*kKernel)(), class T>
void winograd_weight(const ConvBackwardWeightArgs& a, Stream& stream) {
  const MicroKernel& kernel = kKernel();
  const ConvShape& s = a.shape;
  auto* dw = static_cast<float*>(a.dw);
  const Plan plan(kernel, s);
  if (plan.tiles == 0) {
    std::fill_n(dw, s.k * 9 * s.c, 0.0f);
    return;
  }
  const int64_t zeros = std::max(s.c, s.k);
  auto* memory =
      static_cast<float*>(stream.workspace(static_cast<size_t>(plan.v_floats + plan.m_floats + zeros + plan.y_floats) * sizeof(float)));
  const Workspace w{.v = memory,
                    .m = memory + plan.v_floats,
                    .zeros = memory + plan.v_floats + plan.m_floats,
                    .y = memory + plan.v_floats + plan.m_floats + zeros};
  std::fill_n(w.zeros, zeros, 0.0f);
  std::fill_n(w.y, plan.y_floats, 0.0f);  // rows beyond K stay so
  for (int64_t first = 0; first < plan.tiles; first += plan.chunk) {
    const int64_t count = std::min(plan.chunk, plan.tiles - first);
    transform_chunk<T>(kernel, a, plan, first, count, w);
    multiply_chunk(kernel, plan, count, first > 0, w);
  }
  parallel_for(s.k, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t k = begin; k < end; ++k) {
      weights({.m = w.m + k * plan.columns, .to_position = plan.rows * plan.columns, .c = s.c, .dw = dw + k * 9 * s.c});
    }
  });
}

const char* refuses(const ConvBackwardWeightArgs& args) {
  const char* reason = refuse_addend(args);
  return reason ? reason : winograd_refuses(args.shape, args.dtype);
}

template <const MicroKernel& (*kKernel)()>
void add(const char* name) {
  add_both<ConvBackwardWeight, winograd_weight<kKernel, float>, winograd_weight<kKernel, bf16>>(name, refuses);
}

}  // namespace

void register_winograd_weight() {
#if defined(__x86_64__)
  if (supports(Isa::avx512)) add<avx512_kernel>("winograd_avx512");
  if (supports(Isa::avx2)) add<avx2_kernel>("winograd_avx2");
#endif
  add<portable_kernel>("winograd_portable");
}

}  // namespace reid::cpu
