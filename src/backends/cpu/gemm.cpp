// Packed matrix product, after Goto and van de Geijn (ACM TOMS 34(3), 2008) and BLIS (Van Zee and van de Geijn, ACM TOMS 41(3), 2015).
//
// Loops, outside in: groups of columns whose packed B fits kPackedFloats; blocks of rows (a task each); blocks of kDepth of k,
// for which the task packs its rows of A (224 x 256 floats, a quarter of a 1 MB L2); panels of B (32 x 256 floats, streamed
// from L2 or L3, used by every row of the block); panels of A (from L2); the micro-kernel's tile of C.
// Traffic of a task for each k block: rows * depth of A, depth * N of B, rows * N of C read and written; 2 * rows * N * depth flops.
// With rows = 224 that is 112 flops a byte of B from L3 and 64 flops a byte of C.

#include "backends/cpu/gemm.h"

#include <algorithm>
#include <cstring>

#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/packing.h"
#include "backends/cpu/rounding.h"
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

constexpr int64_t kBlockRows = 224;          // 16 panels of 14
constexpr int64_t kBlockColumns = 256;       // of a tile of multiply_split
constexpr int64_t kWideTiles = 4;            // such tiles a task takes at most
constexpr int64_t kLeastTasks = 16;          // ... as long as that many tasks are left
constexpr int64_t kPackedFloats = 8 << 20;   // packed B in memory at a time: 32 MB
constexpr int64_t kPackedOnce = 1 << 18;     // ... where it is used by one block of rows only: 1 MB, which stays in cache
constexpr int64_t kTasks = 32;               // wanted at least, so that 16 threads stay busy
constexpr int64_t kPartialFloats = 4 << 20;  // limit of the partial results of multiply_split

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// Even cuts of `count` items, in multiples of `unit`, none larger than `limit`.
int64_t even_block(int64_t count, int64_t unit, int64_t limit) {
  const int64_t units = ceil_div(count, unit), most = std::max<int64_t>(1, limit / unit);
  return ceil_div(units, ceil_div(units, most)) * unit;
}

// A block of C: rows of A by tiles, either all packed or in place but for the last, incomplete tile.
struct Block {
  const float* b;  // panels, b_panel apart
  int64_t b_panel;
  int64_t rows, column, columns, depth;
  bool add;
  // Set by place_a.
  const float* a = nullptr;
  int64_t a_tile = 0, a_stride = 0;  // floats from tile to tile; see MicroKernel
  const float* a_rest = nullptr;     // the incomplete tile, packed
  int64_t rest_stride = 0;
};

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

void multiply_block(const MicroKernel& kernel, MicroKernel::Run run, const Block& block, float* const* c) {
  const int64_t end = block.column + block.columns;
  const float* b = block.b;
  for (int64_t j = block.column; j < end; j += kernel.columns, b += block.b_panel) {
    const float* a = block.a;
    const int64_t columns = std::min(kernel.columns, end - j);
    for (int64_t i = 0; i < block.rows; i += kernel.rows, a += block.a_tile) {
      const int64_t rows = std::min(kernel.rows, block.rows - i);
      if (rows < kernel.rows) {
        edge_tile(kernel, run, block, block.a_rest, block.rest_stride, b, c + i, rows, j, columns);
      } else if (columns < kernel.columns) {
        edge_tile(kernel, run, block, a, block.a_stride, b, c + i, rows, j, columns);
      } else {
        run(block.depth, a, block.a_stride, b, c + i, j, block.add);
      }
    }
  }
}

// Longer rows in place would meet in the same cache sets: 14 rows 4 KB apart share one set of 8 ways.
constexpr int64_t kInPlace = 512;

// Fills the A side of a block.
void place_a(const MicroKernel& kernel, const Product& p, int64_t row, int64_t k, float* scratch, Block& block) {
  const int64_t whole = block.rows / kernel.rows * kernel.rows;
  const bool in_place = p.a && p.k <= kInPlace;
  block.a = in_place ? p.a + row * p.k + k : scratch;
  block.rest_stride = p.a_by_depth ? kernel.rows : kRowStride;
  block.a_stride = in_place ? p.k : block.rest_stride;
  block.a_tile = in_place ? kernel.rows * p.k : kernel.rows * kRowStride;
  block.a_rest = in_place ? scratch : scratch + whole * kRowStride;
  if (!in_place) {
    p.pack_a(row, block.rows, k, block.depth, scratch);
  } else if (whole < block.rows) {
    p.pack_a(row + whole, block.rows - whole, k, block.depth, scratch);
  }
}

void clear(const Product& p) {
  const size_t bytes = static_cast<size_t>(p.n) * (p.narrow ? sizeof(bf16) : sizeof(float));
  for (int64_t i = 0; i < p.m; ++i) std::memset(p.row(i), 0, bytes);
}

constexpr int64_t kSkew = 16;  // floats: rows of sums in scratch start in different cache sets

}  // namespace

void multiply(const MicroKernel& kernel, const Product& p, Stream& stream) {
  if (p.m == 0 || p.n == 0) return;
  if (p.k == 0) {
    if (!p.accumulate) clear(p);
    return;
  }
  const int64_t packed_floats = p.m <= kBlockRows ? kPackedOnce : kPackedFloats;
  const int64_t group =
      std::min(round_up(p.n, kernel.columns), std::max<int64_t>(1, packed_floats / p.k / kernel.columns) * kernel.columns);
  const int64_t block_rows = even_block(p.m, kernel.rows, kBlockRows);
  const int64_t row_blocks = ceil_div(p.m, block_rows);
  const int64_t a_floats = block_rows * kRowStride, b_panel = p.k * kernel.columns;
  const int64_t c_stride = group + kSkew, scratch_floats = a_floats + (p.narrow ? block_rows * c_stride : 0);
  auto* packed = static_cast<float*>(stream.workspace(static_cast<size_t>(group * p.k + scratch_floats * threads()) * sizeof(float)));
  float* scratch = packed + group * p.k;  // kernel.columns * k floats before it: aligned as kernel.columns >= 8 needs only 32 bytes
  const MicroKernel::Run run = p.a_by_depth ? kernel.by_depth : kernel.by_row;

  for (int64_t first = 0; first < p.n; first += group) {
    const int64_t columns = std::min(group, p.n - first), panels = ceil_div(columns, kernel.columns);
    parallel_for(panels, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t j = begin; j < end; ++j) {
        const int64_t column = j * kernel.columns;
        for (int64_t k = 0; k < p.k; k += kDepth) {
          p.pack_b(first + column, std::min(kernel.columns, columns - column), k, std::min(kDepth, p.k - k),
                   packed + j * b_panel + k * kernel.columns, b_panel);
        }
      }
    });
    // Few rows: split the columns too, at the price of packing A once for each part.
    const int64_t parts = std::clamp<int64_t>(ceil_div(kTasks / 2, row_blocks), 1, ceil_div(panels, 2));
    const int64_t part = ceil_div(panels, parts) * kernel.columns;
    parallel_for(row_blocks * parts, 1, [&](int64_t begin, int64_t end, int worker) {
      float* a = scratch + worker * scratch_floats;
      float* rows_of_c[kBlockRows];
      for (int64_t task = begin; task < end; ++task) {
        const int64_t row = task / parts * block_rows, rows = std::min(block_rows, p.m - row);
        const int64_t column = task % parts * part;
        if (column >= columns) continue;
        const int64_t width = std::min(part, columns - column);
        for (int64_t i = 0; i < rows; ++i) rows_of_c[i] = p.narrow ? a + a_floats + i * c_stride : static_cast<float*>(p.row(row + i));
        for (int64_t k = 0; k < p.k; k += kDepth) {
          const int64_t depth = std::min(kDepth, p.k - k);
          Block block{.b = packed + column / kernel.columns * b_panel + k * kernel.columns,
                      .b_panel = b_panel,
                      .rows = rows,
                      .column = p.narrow ? 0 : first + column,
                      .columns = width,
                      .depth = depth,
                      .add = p.accumulate || k > 0};
          place_a(kernel, p, row, k, a, block);
          multiply_block(kernel, run, block, rows_of_c);
        }
        for (int64_t i = 0; p.narrow && i < rows; ++i) {
          round_to_bf16(rows_of_c[i], width, static_cast<bf16*>(p.row(row + i)) + first + column);
        }
      }
    });
  }
}

namespace {

// How multiply_split cuts its product. The ranges of k decide the order of sums and depend on m, n and k alone.
struct SplitPlan {
  int64_t tile_rows, down;  // rows of a tile of C, and how many such tiles
  int64_t columns, across;  // columns of a task
  int64_t range, ranges;    // of k
  int64_t group;            // k whose packed B is in memory at a time
  int64_t b_panel;          // floats of a packed panel of columns: group * kernel.columns
  int64_t partial_floats, packed_floats, a_floats;

  SplitPlan(const MicroKernel& kernel, const Product& p) {
    const int64_t size = p.m * p.n, k_blocks = ceil_div(p.k, kDepth);
    tile_rows = even_block(p.m, kernel.rows, kBlockRows);
    down = ceil_div(p.m, tile_rows);
    const int64_t tile_columns = even_block(p.n, kernel.columns, kBlockColumns), tiles = down * ceil_div(p.n, tile_columns);
    const int64_t wanted = std::clamp<int64_t>(ceil_div(kTasks, tiles), 1, std::max<int64_t>(1, kPartialFloats / size));
    range = ceil_div(k_blocks, std::min(wanted, k_blocks)) * kDepth;
    ranges = ceil_div(p.k, range);
    // A is packed again for other columns: a task takes many where enough tasks are left.
    columns = tile_columns * std::clamp<int64_t>(ranges * tiles / kLeastTasks, 1, kWideTiles);
    across = ceil_div(p.n, columns);
    const int64_t width = round_up(p.n, kernel.columns);
    group = std::min(k_blocks, std::max<int64_t>(1, kPackedFloats / width / kDepth)) * kDepth;
    b_panel = group * kernel.columns;
    partial_floats = ranges > 1 ? round_up(ranges * size, 16) : 0;
    packed_floats = group * width;
    a_floats = tile_rows * kRowStride;
  }
};

// Packs B for k in [first, end): panel j of columns at packed + j * b_panel.
void pack_group(const MicroKernel& kernel, const Product& p, const SplitPlan& plan, int64_t first, int64_t end, float* packed) {
  const int64_t width = even_block(p.n, kernel.columns, kBlockColumns), parts = ceil_div(p.n, width);
  parallel_for(ceil_div(end - first, kDepth) * parts, 1, [&](int64_t begin, int64_t stop, int) {
    for (int64_t i = begin; i < stop; ++i) {
      const int64_t k = first + i / parts * kDepth, column = i % parts * width;
      p.pack_b(column, std::min(width, p.n - column), k, std::min(kDepth, end - k),
               packed + column / kernel.columns * plan.b_panel + (k - first) * kernel.columns, plan.b_panel);
    }
  });
}

// One task's share of C for k in [first, end), which lies in one group.
struct SplitTask {
  int64_t row, column, first, end;
  bool add;
  float* c;  // [m, n]
};
void run_split(const MicroKernel& kernel, const Product& p, const SplitPlan& plan, const SplitTask& task, const float* b, float* a) {
  float* rows_of_c[kBlockRows];
  const int64_t rows = std::min(plan.tile_rows, p.m - task.row);
  for (int64_t i = 0; i < rows; ++i) rows_of_c[i] = task.c + (task.row + i) * p.n;
  for (int64_t k = task.first; k < task.end; k += kDepth) {
    const int64_t depth = std::min(kDepth, task.end - k);
    Block block{.b = b + task.column / kernel.columns * plan.b_panel + k % plan.group * kernel.columns,
                .b_panel = plan.b_panel,
                .rows = rows,
                .column = task.column,
                .columns = std::min(plan.columns, p.n - task.column),
                .depth = depth,
                .add = task.add || k > task.first};
    place_a(kernel, p, task.row, k, a, block);
    multiply_block(kernel, p.a_by_depth ? kernel.by_depth : kernel.by_row, block, rows_of_c);
  }
}

}  // namespace

void multiply_split(const MicroKernel& kernel, const Product& p, float* c, Stream& stream) {
  const int64_t size = p.m * p.n;
  if (size == 0) return;
  if (p.k == 0) {
    std::fill_n(c, size, 0.0f);
    return;
  }
  const SplitPlan plan(kernel, p);
  auto* packed = static_cast<float*>(
      stream.workspace(static_cast<size_t>(plan.packed_floats + plan.partial_floats + plan.a_floats * threads()) * sizeof(float)));
  float* partial = packed + plan.packed_floats;
  float* scratch = partial + plan.partial_floats;
  const int64_t tiles = plan.down * plan.across;
  for (int64_t first = 0; first < p.k; first += plan.group) {
    const int64_t end = std::min(p.k, first + plan.group);
    pack_group(kernel, p, plan, first, end, packed);
    const int64_t first_range = first / plan.range, count = ceil_div(end, plan.range) - first_range;
    parallel_for(count * tiles, 1, [&](int64_t begin, int64_t stop, int worker) {
      for (int64_t i = begin; i < stop; ++i) {
        const int64_t part = first_range + i / tiles, tile = i % tiles, from = std::max(first, part * plan.range);
        const SplitTask task{.row = tile / plan.across * plan.tile_rows,
                             .column = tile % plan.across * plan.columns,
                             .first = from,
                             .end = std::min(end, (part + 1) * plan.range),
                             .add = from > part * plan.range,
                             .c = plan.ranges > 1 ? partial + part * size : c};
        run_split(kernel, p, plan, task, packed, scratch + worker * plan.a_floats);
      }
    });
  }
  if (plan.ranges == 1) return;
  parallel_for(size, 4096, [&](int64_t begin, int64_t end, int) {
    std::copy(partial + begin, partial + end, c + begin);
    for (int64_t part = 1; part < plan.ranges; ++part) {
      const float* add = partial + part * size;
      for (int64_t i = begin; i < end; ++i) c[i] += add[i];
    }
  });
}

namespace {

template <const MicroKernel& (*kKernel)(), class T>
void gemm(const GemmArgs& args, Stream& stream) {
  const MicroKernel& kernel = kKernel();
  const auto* a = static_cast<const T*>(args.a);
  const auto* b = static_cast<const T*>(args.b);
  auto* c = static_cast<float*>(args.c);
  const auto pack_a = [&](int64_t row, int64_t rows, int64_t k, int64_t depth, float* panels) {
    if (args.transpose_a) {
      pack_depth(a + k * args.m + row, args.m, rows, depth, kernel.rows, panels, kernel.rows * kRowStride);
    } else {
      pack_rows(a + row * args.k + k, args.k, rows, depth, kernel.rows, panels);
    }
  };
  const auto pack_b = [&](int64_t column, int64_t columns, int64_t k, int64_t depth, float* panels, int64_t panel) {
    if (args.transpose_b) {
      pack_transposed(b + column * args.k + k, args.k, columns, depth, kernel.columns, panels, panel);
    } else {
      pack_depth(b + k * args.n + column, args.n, columns, depth, kernel.columns, panels, panel);
    }
  };
  const auto row = [&](int64_t i) { return c + i * args.n; };
  multiply(kernel,
           {.m = args.m,
            .n = args.n,
            .k = args.k,
            .a_by_depth = args.transpose_a,
            .accumulate = args.accumulate,
            .pack_a = pack_a,
            .pack_b = pack_b,
            .row = row,
            .a = args.transpose_a || args.dtype != DType::f32 ? nullptr : static_cast<const float*>(args.a)},
           stream);
}

template <const MicroKernel& (*kKernel)()>
void add(const char* name) {
  add_both<Gemm, gemm<kKernel, float>, gemm<kKernel, bf16>>(name);
}

}  // namespace

void register_gemm() {
#if defined(__x86_64__)
  if (supports(Isa::avx512)) add<avx512_kernel>("packed_gemm_avx512");
  if (supports(Isa::avx2)) add<avx2_kernel>("packed_gemm_avx2");
#endif
  add<portable_kernel>("packed_gemm_portable");
}

}  // namespace reid::cpu
