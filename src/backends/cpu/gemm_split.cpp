// Products with a long k and a small C: weight gradients. Ranges of k are summed apart and added in order.
//
// Where C fits a cache (kWholeFloats), a task owns a range of k and many rows of C, or all: it packs a block of k of both
// operands, multiplies, goes on. Each is read once from memory, which is what 64 channels at 64 x 32 pixels have time for.
// Else B is packed once for all tasks, and a task owns a range of k and a tile of C.

#include <algorithm>

#include "backends/cpu/gemm_block.h"

namespace reid::cpu {
namespace {

constexpr int64_t kBlockColumns = 256;       // of a tile
constexpr int64_t kWideTiles = 4;            // such tiles a task takes at most
constexpr int64_t kLeastTasks = 16;          // ... as long as that many tasks are left
constexpr int64_t kPartialFloats = 4 << 20;  // limit of the partial results
constexpr int64_t kWholeFloats = 1 << 16;    // C of 256 KB, a quarter of a 1 MB L2

// How the product is cut. The ranges of k decide the order of sums and depend on m, n and k alone.
struct SplitPlan {
  int64_t tile_rows;                                          // of a block of A
  int64_t rows, down;                                         // rows of C a task takes, and how many tasks that makes
  int64_t columns, across;                                    // columns
  int64_t range, ranges;                                      // of k
  bool whole;                                                 // tasks pack their own B
  int64_t group;                                              // k whose packed B is in memory at a time
  int64_t partial_floats, packed_floats, a_floats, b_floats;  // the latter two for each thread

  SplitPlan(const MicroKernel& kernel, const Product& p) {
    const int64_t size = p.m * p.n, k_blocks = ceil_div(p.k, kernel.depth), width = round_up(p.n, kernel.columns);
    tile_rows = even_block(p.m, kernel.rows, kBlockRows);
    const int64_t tiles_down = ceil_div(p.m, tile_rows);
    const int64_t tile_columns = even_block(p.n, kernel.columns, kBlockColumns), tiles = tiles_down * ceil_div(p.n, tile_columns);
    const int64_t wanted = std::clamp<int64_t>(ceil_div(kTasks, tiles), 1, std::max<int64_t>(1, kPartialFloats / size));
    range = ceil_div(k_blocks, std::min(wanted, k_blocks)) * kernel.depth;
    ranges = ceil_div(p.k, range);
    whole = size <= kWholeFloats;
    // B is packed again for other rows, A for other columns: a task takes many where enough tasks are left.
    const int64_t parts = std::min(tiles_down, ceil_div(kLeastTasks, ranges));
    rows = whole ? ceil_div(tiles_down, parts) * tile_rows : tile_rows;
    columns = whole ? p.n : tile_columns * std::clamp<int64_t>(ranges * tiles / kLeastTasks, 1, kWideTiles);
    down = ceil_div(p.m, rows);
    across = ceil_div(p.n, columns);
    group = whole ? k_blocks * kernel.depth : std::min(k_blocks, std::max<int64_t>(1, kPackedFloats / width / kernel.depth)) * kernel.depth;
    partial_floats = ranges > 1 ? round_up(ranges * size, 16) : 0;
    packed_floats = whole ? 0 : group * width;
    a_floats = block_floats(kernel, p, tile_rows);
    b_floats = whole ? kernel.depth * width : 0;
  }
};

// Packs B for k in [first, end): a block of k at packed + k * width, panels of a block side by side.
void pack_group(const MicroKernel& kernel, const Product& p, int64_t first, int64_t end, float* packed) {
  const int64_t width = round_up(p.n, kernel.columns), part = even_block(p.n, kernel.columns, kBlockColumns), parts = ceil_div(p.n, part);
  parallel_for(ceil_div(end - first, kernel.depth) * parts, 1, [&](int64_t begin, int64_t stop, int) {
    for (int64_t i = begin; i < stop; ++i) {
      const int64_t k = first + i / parts * kernel.depth, column = i % parts * part, depth = std::min(kernel.depth, end - k);
      p.pack_b(column, std::min(part, p.n - column), k, depth, packed + (k - first) * width + column * depth, depth * kernel.columns);
    }
  });
}

// One task's share of C for k in [first, end), which lies in one group.
struct SplitTask {
  int64_t row, column, first, end;
  bool add;
  float* c;        // [m, n]
  const float* b;  // packed, of the whole group; null: the task packs it itself
  float *a_scratch, *b_scratch;
};
void run_split(const MicroKernel& kernel, const Product& p, const SplitPlan& plan, const SplitTask& task) {
  const int64_t last = std::min(p.m, task.row + plan.rows), width = round_up(p.n, kernel.columns);
  for (int64_t k = task.first; k < task.end; k += kernel.depth) {
    const int64_t depth = std::min(kernel.depth, task.end - k);
    if (!task.b) p.pack_b(0, p.n, k, depth, task.b_scratch, depth * kernel.columns);
    const float* b = task.b ? task.b + k % plan.group * width + task.column * depth : task.b_scratch;
    for (int64_t row = task.row; row < last; row += plan.tile_rows) {
      float* rows_of_c[kBlockRows];
      const int64_t rows = std::min(plan.tile_rows, last - row);
      for (int64_t i = 0; i < rows; ++i) rows_of_c[i] = task.c + (row + i) * p.n;
      const Block block{.b = b,
                        .row = row,
                        .rows = rows,
                        .column = task.column,
                        .columns = std::min(plan.columns, p.n - task.column),
                        .k = k,
                        .depth = depth,
                        .add = task.add || k > task.first};
      multiply_block(kernel, p, block, task.a_scratch, rows_of_c);
    }
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
  const int64_t scratch_floats = plan.a_floats + plan.b_floats;
  auto* packed = static_cast<float*>(
      stream.workspace(static_cast<size_t>(plan.packed_floats + plan.partial_floats + scratch_floats * threads()) * sizeof(float)));
  float* partial = packed + plan.packed_floats;
  float* scratch = partial + plan.partial_floats;
  const int64_t tiles = plan.down * plan.across;
  for (int64_t first = 0; first < p.k; first += plan.group) {
    const int64_t end = std::min(p.k, first + plan.group);
    if (!plan.whole) pack_group(kernel, p, first, end, packed);
    const int64_t first_range = first / plan.range, count = ceil_div(end, plan.range) - first_range;
    parallel_for(count * tiles, 1, [&](int64_t begin, int64_t stop, int worker) {
      for (int64_t i = begin; i < stop; ++i) {
        const int64_t part = first_range + i / tiles, tile = i % tiles, from = std::max(first, part * plan.range);
        float* own = scratch + worker * scratch_floats;
        run_split(kernel, p, plan,
                  {.row = tile / plan.across * plan.rows,
                   .column = tile % plan.across * plan.columns,
                   .first = from,
                   .end = std::min(end, (part + 1) * plan.range),
                   .add = from > part * plan.range,
                   .c = plan.ranges > 1 ? partial + part * size : c,
                   .b = plan.whole ? nullptr : packed,
                   .a_scratch = own,
                   .b_scratch = own + plan.a_floats});
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

}  // namespace reid::cpu
