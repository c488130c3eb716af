// Packed matrix product, after Goto and van de Geijn (ACM TOMS 34(3), 2008) and BLIS (Van Zee and van de Geijn, ACM TOMS 41(3), 2015).
//
// Loops, outside in: groups of columns whose packed B fits kPackedFloats; blocks of rows (a task each); blocks of kernel.depth of k,
// for which the task packs its rows of A (224 x 256 floats, a quarter of a 1 MB L2); panels of B (32 x 256 floats, streamed
// from L2 or L3, used by every row of the block); panels of A (from L2); the micro-kernel's tile of C.
// Traffic of a task for each k block: rows * depth of A, depth * N of B, rows * N of C read and written; 2 * rows * N * depth flops.
// With rows = 224 that is 112 flops a byte of B from L3 and 64 flops a byte of C.

#include <cstring>

#include "backends/cpu/fast.h"
#include "backends/cpu/gemm_block.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/packing.h"
#include "backends/cpu/rounding.h"
#if defined(__x86_64__)
#include "backends/cpu/x86/pairs.h"
#include "backends/cpu/x86/parts.h"
#endif
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

constexpr int64_t kSkew = 16;           // floats: rows of sums in scratch start in different cache sets
constexpr int64_t kFewColumns = 256;    // a task takes where there is one block of rows
constexpr int64_t kPartColumns = 1024;  // ... where there are more: with 224 rows 0.9 MB of C

void clear(const Product& p) {
  const size_t bytes = static_cast<size_t>(p.n) * (p.narrow ? sizeof(bf16) : sizeof(float));
  for (int64_t i = 0; i < p.m; ++i) std::memset(p.row(i), 0, bytes);
}

// Packs the columns [first, first + columns), block of k after block of k, panels of a block side by side: panels a power of two apart
// would meet in the same cache sets.
void pack_columns(const MicroKernel& kernel, const Product& p, int64_t first, int64_t columns, float* packed) {
  const int64_t panels = ceil_div(columns, kernel.columns);
  parallel_for(panels, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t j = begin; j < end; ++j) {
      const int64_t column = j * kernel.columns;
      for (int64_t k = 0; k < p.k; k += kernel.depth) {
        const int64_t depth = std::min(kernel.depth, p.k - k);
        p.pack_b(first + column, std::min(kernel.columns, columns - column), k, depth, packed + (k * panels + j * depth) * kernel.columns,
                 depth * kernel.columns);
      }
    }
  });
}

// A task's part of C.
struct Part {
  int64_t row, rows, column, columns;
};

// What a thread needs for parts of `rows` rows and `columns` columns: packed A, and sums where C is narrow.
struct Scratch {
  int64_t a_floats, sums_stride, floats;
  Scratch(const MicroKernel& kernel, const Product& p, int64_t rows, int64_t columns)
      : a_floats(block_floats(kernel, p, rows)), sums_stride(columns + kSkew), floats(a_floats + (p.narrow ? rows * sums_stride : 0)) {}
};

// b(k, depth): the part's columns of B, packed.
void multiply_part(const MicroKernel& kernel, const Product& p, const Part& part, FunctionRef<const float*(int64_t, int64_t)> b,
                   const Scratch& scratch, float* memory) {
  float* rows_of_c[kBlockRows];
  bf16* rounded[kBlockRows];
  for (int64_t i = 0; i < part.rows; ++i) {
    void* row = p.row(part.row + i);
    rows_of_c[i] = p.narrow ? memory + scratch.a_floats + i * scratch.sums_stride : static_cast<float*>(row);
    if (p.narrow) rounded[i] = static_cast<bf16*>(row) + part.column;
  }
  for (int64_t k = 0; k < p.k; k += kernel.depth) {
    const int64_t depth = std::min(kernel.depth, p.k - k);
    const Block block{.b = b(k, depth),
                      .row = part.row,
                      .rows = part.rows,
                      .column = p.narrow ? 0 : part.column,
                      .columns = part.columns,
                      .k = k,
                      .depth = depth,
                      .add = p.accumulate || k > 0,
                      .rounded = p.narrow && k + depth == p.k ? rounded : nullptr};
    multiply_block(kernel, p, block, memory, rows_of_c);
  }
  if (p.behind) (*p.behind)(part.row, part.rows, part.column, part.columns);
}

// One block of rows uses B once: each task packs its own columns of it, and has them in its cache.
void multiply_few(const MicroKernel& kernel, const Product& p, Stream& stream) {
  const int64_t columns = even_block(p.n, kernel.columns, std::clamp(p.n / kTasks, kernel.columns, kFewColumns)),
                parts = ceil_div(p.n, columns);
  const Scratch scratch(kernel, p, p.m, columns);
  const int64_t b_floats = columns * kernel.depth, own = b_floats + scratch.floats;
  auto* memory = static_cast<float*>(stream.workspace(static_cast<size_t>(own * threads()) * sizeof(float)));
  parallel_for(parts, 1, [&](int64_t begin, int64_t end, int worker) {
    float* b = memory + worker * own;
    for (int64_t i = begin; i < end; ++i) {
      const Part part{.row = 0, .rows = p.m, .column = i * columns, .columns = std::min(columns, p.n - i * columns)};
      const auto pack = [&](int64_t k, int64_t depth) -> const float* {
        p.pack_b(part.column, part.columns, k, depth, b, depth * kernel.columns);
        return b;
      };
      multiply_part(kernel, p, part, pack, scratch, b + b_floats);
    }
  });
}

}  // namespace

void multiply(const MicroKernel& kernel, const Product& p, Stream& stream) {
  if (p.m == 0 || p.n == 0) return;
  if (p.k == 0) {
    if (!p.accumulate) clear(p);
    if (p.behind) (*p.behind)(0, p.m, 0, p.n);
    return;
  }
  const int64_t block_rows = even_block(p.m, kernel.rows, kBlockRows), row_blocks = ceil_div(p.m, block_rows);
  if (row_blocks == 1 && !p.cache) return multiply_few(kernel, p, stream);
  const int64_t width = round_up(p.n, kernel.columns);
  const int64_t group = p.cache ? width : std::min(width, std::max<int64_t>(1, kPackedFloats / p.k / kernel.columns) * kernel.columns);
  // Few rows: split the columns too, at the price of packing A once for each part. Many columns: C and B of a task stay in L2.
  const int64_t panels = group / kernel.columns, least = std::max(ceil_div(kTasks / 2, row_blocks), ceil_div(group, kPartColumns));
  const int64_t part = ceil_div(panels, std::clamp<int64_t>(least, 1, ceil_div(panels, 2))) * kernel.columns;
  const Scratch scratch(kernel, p, block_rows, part);
  const int64_t own_floats = p.cache ? 0 : group * p.k;  // kernel.columns * k before the scratch: it is aligned
  auto* own = static_cast<float*>(stream.workspace(static_cast<size_t>(own_floats + scratch.floats * threads()) * sizeof(float)));
  const float* packed = own;
  if (p.cache) {
    const auto pack = [&](float* to) { pack_columns(kernel, p, 0, p.n, to); };
    packed = p.cache->floats(p.weights, str(kernel.isa, " panels"), width * p.k, pack);
  }

  for (int64_t first = 0; first < p.n; first += group) {
    const int64_t columns = std::min(group, p.n - first), stride = round_up(columns, kernel.columns), parts = ceil_div(columns, part);
    if (!p.cache) pack_columns(kernel, p, first, columns, own);
    parallel_for(row_blocks * parts, 1, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t task = begin; task < end; ++task) {
        const int64_t row = task / parts * block_rows, column = task % parts * part;
        const auto b = [&](int64_t k, int64_t depth) { return packed + k * stride + column * depth; };
        multiply_part(
            kernel, p,
            {.row = row, .rows = std::min(block_rows, p.m - row), .column = first + column, .columns = std::min(part, columns - column)}, b,
            scratch, own + own_floats + worker * scratch.floats);
      }
    });
  }
}

namespace {

template <const MicroKernel& (*kKernel)(), class Panels>
void gemm(const GemmArgs& args, Stream& stream) {
  using T = typename Panels::Value;
  const MicroKernel& kernel = kKernel();
  const auto* a = static_cast<const T*>(args.a);
  const auto* b = static_cast<const T*>(args.b);
  auto* c = static_cast<float*>(args.c);
  const auto pack_a = [&](int64_t row, int64_t rows, int64_t k, int64_t depth, float* panels) {
    const DepthRange range = depth_range<Panels>(k, depth, args.k);
    args.transpose_a ? Panels::a_columns(kernel, a + row, args.m, rows, range, panels)
                     : Panels::a_rows(kernel, a + row * args.k, args.k, rows, range, panels);
  };
  const auto pack_b = [&](int64_t column, int64_t columns, int64_t k, int64_t depth, float* panels, int64_t panel) {
    const DepthRange range = depth_range<Panels>(k, depth, args.k);
    args.transpose_b ? Panels::b_columns(kernel, b + column * args.k, args.k, columns, range, panels, panel)
                     : Panels::b_rows(kernel, b + column, args.n, columns, range, panels, panel);
  };
  const auto row = [&](int64_t i) { return c + i * args.n; };
  const bool whole = Panels::kReadInPlace && units_of<Panels>(kernel, args.k) * Panels::kValues == args.k * Panels::kUnits;
  multiply(kernel,
           {.m = args.m,
            .n = args.n,
            .k = units_of<Panels>(kernel, args.k),
            .a_by_depth = args.transpose_a && Panels::kByDepth,
            .accumulate = args.accumulate,
            .pack_a = pack_a,
            .pack_b = pack_b,
            .row = row,
            .a = args.transpose_a || !whole ? nullptr : static_cast<const float*>(args.a)},
           stream);
}

template <const MicroKernel& (*kKernel)()>
void add(const char* name) {
  add_both<Gemm, gemm<kKernel, FloatPanels<float>>, gemm<kKernel, FloatPanels<bf16>>>(name);
}

#if defined(__x86_64__)
const char* refuses_pairs(const GemmArgs& a) { return a.dtype == DType::bf16 ? nullptr : "bf16 only"; }
template <const MicroKernel& (*kKernel)()>
void add_pairs(const char* name) {
  Registry::add<Gemm>(DeviceType::cpu, {name, refuses_pairs, gemm<kKernel, PairPanels>});
}
// Floats in parts: other sums than the definition's.
const char* refuses_parts(const GemmArgs& a) {
  if (a.dtype != DType::f32) return "f32 only";
  return a.other_sums ? nullptr : "the definition's sums are asked for";
}
#endif

}  // namespace

void register_gemm() {
#if defined(__x86_64__)
  if (supports(Isa::amx))
    Registry::add<Gemm>(DeviceType::cpu, {"packed_gemm_amx_parts", refuses_parts, gemm<amx_parts_kernel, PartPanels>});
  if (supports(Isa::amx)) add_pairs<amx_kernel>("packed_gemm_amx");
  if (supports(Isa::avx512_bf16)) add_pairs<avx512_bf16_kernel>("packed_gemm_avx512_bf16");
  if (supports(Isa::avx512)) add<avx512_kernel>("packed_gemm_avx512");
  if (supports(Isa::avx2)) add<avx2_kernel>("packed_gemm_avx2");
#endif
  add<portable_kernel>("packed_gemm_portable");
}

}  // namespace reid::cpu
