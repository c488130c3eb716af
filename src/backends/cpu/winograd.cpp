// 3x3 convolutions of stride 1 by minimal filtering, F(4x4, 3x3) (Winograd, SIAM 1980; Lavin and Gray, CVPR 2016), NHWC, f32 or bf16.
//
//   y = A^T [ sum_c (G w_c G^T) * (B^T x_c B) ] A        x: 6x6 tile of the input, y: the 4x4 outputs it determines, *: elementwise
//
// 36 products for 16 outputs instead of 144: each of the 36 positions of the transformed tiles is a product of matrices
// [tiles, C] x [C, K], for the micro-kernels of the packed product. The data gradient is the same with mirrored filters and C, K exchanged.
//
// The points and their rounding: winograd.h. These are other sums than the definition's: only where ConvShape::other_sums allows it.
//
// A task transforms a block of tiles for all C into V [36][tiles][C] (L2, for many channels L3), multiplies it position by position with
// the filters U [36][panels of columns][C][columns], which are transformed once a call, into M [36][tiles][columns], and transforms that
// back. Bytes of U a task: 144 C K for 72 tiles C K flops. An output depends on its own tile of x only: neither on the batch nor on
// threads.

#include <algorithm>

#include "backends/cpu/behind.h"
#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/micro_kernel.h"
#include "backends/cpu/rounding.h"
#include "backends/cpu/winograd.h"
#include "reid/engine/registry.h"
#include "reid/engine/weight_cache.h"

namespace reid::cpu {
namespace {

constexpr int64_t kBlockTiles = 84;   // a task at most: six tiles of the AVX-512 kernel
constexpr int64_t kNarrowTiles = 42;  // ... where C is small enough that V and M of these stay in L2
constexpr int64_t kNarrow = 128;
constexpr int64_t kGroup = 128;         // output channels whose M stays in L2
constexpr int64_t kLeastColumns = 256;  // output channels of a task: x is transformed again for others
constexpr int64_t kTasks = 8;           // wanted at least
constexpr int64_t kFilterRows = 32;     // input channels of a task that transforms filters
constexpr int64_t kSkew = 16;           // floats: tiles of V start in different cache sets

// out[0..3] = A^T in[0..5]
template <int kStep>
inline __attribute__((always_inline)) void output_transform(const Lanes* in, Lanes* out) {
  const Lanes sum_a = in[kStep] + in[2 * kStep], odd_a = kA * (in[kStep] - in[2 * kStep]);
  const Lanes sum_b = in[3 * kStep] + in[4 * kStep], odd_b = kB * (in[3 * kStep] - in[4 * kStep]);
  out[0] = in[0] + (sum_a + sum_b);
  out[kStep] = odd_a + odd_b;
  out[2 * kStep] = 0.5f * sum_a + 2.0f * sum_b;
  out[3 * kStep] = (0.5f * odd_a + 2.0f * odd_b) + in[5 * kStep];
}

// out[0..5] = G in[0..2]
template <int kStep>
inline __attribute__((always_inline)) void filter_transform(const Lanes* in, Lanes* out) {
  const Lanes w0 = in[0], w1 = in[kStep], w2 = in[2 * kStep];
  const Lanes even_a = (-2.0f / 3) * w0 - (1.0f / 3) * w2, odd_a = (-2.0f / 3 * kA) * w1;
  const Lanes even_b = (1.0f / 6) * w0 + (1.0f / 3) * w2, odd_b = (1.0f / 6 * kB) * w1;
  out[0] = w0;
  out[kStep] = even_a + odd_a;
  out[2 * kStep] = even_a - odd_a;
  out[3 * kStep] = even_b + odd_b;
  out[4 * kStep] = even_b - odd_b;
  out[5 * kStep] = w2;
}

// y [n, p, q, k] from x [n, h, w, c]; `down` x `across` tiles an image.
template <class T>
struct Layer {
  const T* x;
  T* y;
  int64_t n, h, w, c, p, q, k, pad_y, pad_x;
  const Behind* behind = nullptr;  // y
  int64_t down() const { return (p + kTile - 1) / kTile; }
  int64_t across() const { return (q + kTile - 1) / kTile; }
  int64_t tiles() const { return n * down() * across(); }
};

template <class T>
struct BackRun {
  Layer<T> layer;
  int64_t first, count;     // tiles
  const float* m;           // [36][..][columns]
  int64_t position;         // floats from one of the 36 matrices to the next
  int64_t column, columns;  // output channels
};

template <class T>
REID_BODY transform_back_body(const BackRun<T>& a) {
  const Layer<T>& s = a.layer;
  const int64_t across = s.across(), down = s.down();
  for (int64_t t = 0; t < a.count; ++t) {
    const int64_t tile = a.first + t, left = tile % across * kTile, top = tile / across % down * kTile;
    const int64_t rows = std::min(kTile, s.p - top), columns = std::min(kTile, s.q - left);
    T* out = s.y + ((tile / across / down * s.p + top) * s.q + left) * s.k + a.column;
    const float* from = a.m + t * a.columns;
    for (int64_t c = 0; c < a.columns; c += kLanes) {
      const int64_t position = opaque(a.position), row = kPatch * position;
      Lanes half[kTile * kPatch], whole[kTile * kTile];
      for (int j = 0; j < kPatch; ++j) {
        Lanes in[kPatch];
        for (int i = 0; i < kPatch; ++i) load(in[i], from + i * row + j * position + c);
        Lanes down_sums[kTile];
        output_transform<1>(in, down_sums);
        for (int i = 0; i < kTile; ++i) half[i * kPatch + j] = down_sums[i];
      }
      for (int i = 0; i < kTile; ++i) output_transform<1>(half + i * kPatch, whole + i * kTile);
      for (int64_t i = 0; i < rows; ++i) {
        for (int64_t j = 0; j < columns; ++j) store(out + (i * s.q + j) * s.k + c, whole[i * kTile + j]);
      }
    }
  }
}
REID_MULTIVERSION(transform_back, BackRun<float>)
REID_MULTIVERSION(transform_back, BackRun<bf16>)

// Rows of U are the input's channels, columns the output's. Forward these are C and K of w, mirrored (the data gradient) K and C, and the
// taps run backwards.
template <class T>
struct FilterRun {
  const T* w;        // [K, 3, 3, C]
  int64_t channels;  // C
  bool mirrored;
  int64_t row, rows;
  int64_t column, panel;  // the columns [column, column + panel)
  float* u;               // of this panel: [36][..][panel]
  int64_t position;       // floats from matrix to matrix
};

template <bool kMirrored, class T>
REID_BODY transform_filters_loop(const FilterRun<T>& a) {
  for (int64_t row = a.row; row < a.row + a.rows; ++row) {
    for (int64_t j = 0; j < a.panel; j += kLanes) {
      const int64_t width = std::min(kLanes, a.panel - j);
      Lanes taps[9], half[18], whole[kPositions];
      for (int tap = 0; tap < 9; ++tap) {
        float values[kLanes] = {};
        for (int64_t lane = 0; lane < width; ++lane) {
          const int64_t column = a.column + j + lane;
          values[lane] = kMirrored ? a.w[(row * 9 + 8 - tap) * a.channels + column] : a.w[(column * 9 + tap) * a.channels + row];
        }
        load(taps[tap], values);
      }
      for (int s = 0; s < 3; ++s) filter_transform<3>(taps + s, half + s);
      for (int i = 0; i < kPatch; ++i) filter_transform<1>(half + i * 3, whole + i * kPatch);
      for (int i = 0; i < kPositions; ++i) {
        std::memcpy(a.u + i * a.position + row * a.panel + j, &whole[i], static_cast<size_t>(width) * sizeof(float));
      }
    }
  }
}
template <class T>
REID_BODY transform_filters_body(const FilterRun<T>& a) {
  a.mirrored ? transform_filters_loop<true>(a) : transform_filters_loop<false>(a);
}
REID_MULTIVERSION(transform_filters, FilterRun<float>)
REID_MULTIVERSION(transform_filters, FilterRun<bf16>)

// M[i][tile][column] = sum_c V[i][tile][c] U[i][c][column] for the 36 matrices.
struct Products {
  const float *v, *u;
  float* m;
  int64_t rows, depth, columns;  // rows and columns in multiples of the kernel's
  int64_t v_stride, u_position;
};
void multiply_positions(const MicroKernel& kernel, const Products& a) {
  float* out[kBlockTiles];
  for (int64_t i = 0; i < kPositions; ++i) {
    const float* v = a.v + i * a.rows * a.v_stride;
    for (int64_t row = 0; row < a.rows; ++row) out[row] = a.m + (i * a.rows + row) * a.columns;
    for (int64_t k = 0; k < a.depth; k += kernel.depth) {
      const int64_t depth = std::min(kernel.depth, a.depth - k);
      for (int64_t j = 0; j < a.columns; j += kernel.columns) {
        const float* u = a.u + i * a.u_position + j * a.depth + k * kernel.columns;
        for (int64_t row = 0; row < a.rows; row += kernel.rows) {
          kernel.by_row(depth, v + row * a.v_stride + k, a.v_stride, u, out + row, j, k > 0);
        }
      }
    }
  }
}

// How a layer is cut, and where its parts stand in the workspace.
struct Plan {
  int64_t rows, blocks;    // tiles a task, rounded up to the kernel's rows
  int64_t columns, parts;  // output channels a task
  int64_t group;           // ... of which this many are multiplied and transformed back together
  int64_t v_stride;        // floats between tiles of V
  int64_t u_floats, v_floats, m_floats;

  template <class T>
  Plan(const MicroKernel& kernel, const Layer<T>& s) {
    const int64_t most = (s.c <= kNarrow ? kNarrowTiles : kBlockTiles) / kernel.rows, units = (s.tiles() + kernel.rows - 1) / kernel.rows;
    const int64_t fewest = (units + most - 1) / most;
    rows = (units + fewest - 1) / fewest * kernel.rows;
    blocks = (s.tiles() + rows - 1) / rows;
    const int64_t panels = s.k / kernel.columns;
    parts = std::clamp<int64_t>((kTasks + blocks - 1) / blocks, 1, std::max<int64_t>(1, s.k / kLeastColumns));
    columns = (panels + parts - 1) / parts * kernel.columns;
    group = std::min(columns, kGroup);
    v_stride = s.c + kSkew;
    u_floats = kPositions * s.c * s.k;
    v_floats = kPositions * rows * v_stride;
    m_floats = kPositions * rows * group;
  }
};

template <class T>
void transform_all_filters(const MicroKernel& kernel, const Layer<T>& s, const T* w, bool mirrored, float* u) {
  const int64_t panels = s.k / kernel.columns, pieces = (s.c + kFilterRows - 1) / kFilterRows;
  parallel_for(panels * pieces, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t column = i / pieces * kernel.columns, row = i % pieces * kFilterRows;
      transform_filters(FilterRun<T>{.w = w,
                                     .channels = mirrored ? s.k : s.c,
                                     .mirrored = mirrored,
                                     .row = row,
                                     .rows = std::min(kFilterRows, s.c - row),
                                     .column = column,
                                     .panel = kernel.columns,
                                     .u = u + column * s.c,
                                     .position = s.c * s.k});
    }
  });
}

struct Task {
  int64_t first, count;  // tiles
  int64_t column, end;   // output channels
};
// A task has written channels [column, column + columns) of its tiles. Tiles beside each other are told of together.
template <class T>
void tell_of_tiles(const Layer<T>& s, const Task& task, int64_t column, int64_t columns) {
  const int64_t across = s.across(), down = s.down();
  for (int64_t tile = task.first; tile < task.first + task.count;) {
    const int64_t beside = std::min(across - tile % across, task.first + task.count - tile);
    const int64_t left = tile % across * kTile, top = tile / across % down * kTile, image = tile / across / down;
    for (int64_t y = top; y < std::min(top + kTile, s.p); ++y) {
      (*s.behind)((image * s.p + y) * s.q + left, std::min(beside * kTile, s.q - left), column, columns);
    }
    tile += beside;
  }
}

template <class T>
void run_task(const MicroKernel& kernel, const Layer<T>& s, const Plan& plan, const Task& task, const float* zeros, const float* u,
              float* v) {
  const int64_t position = plan.rows * plan.v_stride;
  float* m = v + plan.v_floats;
  const TileGrid<T> grid{
      .images = s.x, .h = s.h, .w = s.w, .c = s.c, .down = s.down(), .across = s.across(), .pad_y = s.pad_y, .pad_x = s.pad_x};
  transform_tiles(grid, task.first, task.count, zeros,
                  {.data = v, .to_position = position, .to_tile = plan.v_stride, .panel = s.c, .to_panel = 0});
  // No output reads the rows beyond; but leftovers may be denormal, and slow to multiply.
  for (int64_t i = 0; i < kPositions && task.count < plan.rows; ++i) {
    std::fill_n(v + i * position + task.count * plan.v_stride, (plan.rows - task.count) * plan.v_stride, 0.0f);
  }
  for (int64_t j = task.column; j < task.end; j += plan.group) {
    const int64_t columns = std::min(plan.group, task.end - j);
    multiply_positions(kernel, {.v = v,
                                .u = u + j * s.c,
                                .m = m,
                                .rows = plan.rows,
                                .depth = s.c,
                                .columns = columns,
                                .v_stride = plan.v_stride,
                                .u_position = s.c * s.k});
    transform_back(BackRun<T>{
        .layer = s, .first = task.first, .count = task.count, .m = m, .position = plan.rows * columns, .column = j, .columns = columns});
    if (s.behind) tell_of_tiles(s, task, j, columns);
  }
}

template <class T>
void convolve(const MicroKernel& kernel, const Layer<T>& s, const T* w, bool mirrored, WeightCache* cache, Stream& stream) {
  if (s.tiles() == 0) return;
  const Plan plan(kernel, s);
  const int64_t scratch = plan.v_floats + plan.m_floats, own_floats = cache ? 0 : plan.u_floats;
  auto* own = static_cast<float*>(stream.workspace(static_cast<size_t>(own_floats + s.c + scratch * threads()) * sizeof(float)));
  float* zeros = own + own_floats;
  std::fill_n(zeros, s.c, 0.0f);
  const auto transform = [&](float* u) { transform_all_filters(kernel, s, w, mirrored, u); };
  if (!cache) transform(own);
  const float* u = cache ? cache->floats(w, str(kernel.isa, " filters"), plan.u_floats, transform) : own;
  parallel_for(plan.blocks * plan.parts, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = task / plan.parts * plan.rows, column = task % plan.parts * plan.columns;
      const Task here{
          .first = first, .count = std::min(plan.rows, s.tiles() - first), .column = column, .end = std::min(s.k, column + plan.columns)};
      run_task(kernel, s, plan, here, zeros, u, zeros + s.c + worker * scratch);
    }
  });
}

template <const MicroKernel& (*kKernel)(), class T>
void winograd_forward(const ConvForwardArgs& a, Stream& stream) {
  const ConvShape& s = a.shape;
  const Behind behind(a);
  convolve(kKernel(),
           Layer<T>{.x = static_cast<const T*>(a.x),
                    .y = static_cast<T*>(a.y),
                    .n = s.n,
                    .h = s.h,
                    .w = s.w,
                    .c = s.c,
                    .p = s.p(),
                    .q = s.q(),
                    .k = s.k,
                    .pad_y = s.pad[0],
                    .pad_x = s.pad[1],
                    .behind = behind.any() ? &behind : nullptr},
           static_cast<const T*>(a.w), false, a.cache, stream);
  behind.complete();
}

template <const MicroKernel& (*kKernel)(), class T>
void winograd_data(const ConvBackwardDataArgs& a, Stream& stream) {
  const ConvShape& s = a.shape;
  convolve(kKernel(),
           Layer<T>{.x = static_cast<const T*>(a.dy),
                    .y = static_cast<T*>(a.dx),
                    .n = s.n,
                    .h = s.p(),
                    .w = s.q(),
                    .c = s.k,
                    .p = s.h,
                    .q = s.w,
                    .k = s.c,
                    .pad_y = 2 - s.pad[0],
                    .pad_x = 2 - s.pad[1]},
           static_cast<const T*>(a.w), true, nullptr, stream);
}

template <class Args>
const char* refuses(const Args& args) {
  const char* reason = refuse_addend(args);
  return reason ? reason : winograd_refuses(args.shape, args.dtype);
}

template <const MicroKernel& (*kKernel)()>
void add(const char* name) {
  add_both<ConvForward, winograd_forward<kKernel, float>, winograd_forward<kKernel, bf16>>(name, refuses);
  add_both<ConvBackwardData, winograd_data<kKernel, float>, winograd_data<kKernel, bf16>>(name, refuses);
}

}  // namespace

void register_winograd() {
#if defined(__x86_64__)
  if (supports(Isa::avx512)) add<avx512_kernel>("winograd_avx512");
  if (supports(Isa::avx2)) add<avx2_kernel>("winograd_avx2");
#endif
  add<portable_kernel>("winograd_portable");
}

}  // namespace reid::cpu
