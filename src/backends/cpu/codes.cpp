// Products of 16-bit codes, blocked like gemm.cpp.

#include <algorithm>

#include "backends/cpu/code_kernel.h"
#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"

namespace reid::cpu {
namespace {

constexpr int64_t kGroupBlocks = 8;         // blocks of k at a time: a panel of A takes 14 KB, one of B 32 KB, the rows of a task 224 KB
constexpr int64_t kBlockRows = 224;         // 16 panels of 14, 14 of 16
constexpr int64_t kPackedBytes = 16 << 20;  // packed b of one group of columns
constexpr int64_t kTasks = 32;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A tile that sticks out of C goes through one that does not.
void run_tile(const CodeKernel& kernel, const CodeTile& t, int64_t rows, int64_t columns) {
  if (rows == kernel.rows && columns == kernel.columns) return kernel.run(t);
  float tile[kMaxCodeRows * kMaxCodeColumns] = {}, scale_a[kMaxCodeRows] = {}, scale_b[kMaxCodeColumns] = {};
  CodeTile whole = t;
  whole.c = tile;
  whole.stride = kernel.columns;
  for (int64_t i = 0; !t.first && i < rows; ++i) std::copy_n(t.c + i * t.stride, columns, tile + i * kernel.columns);
  if (t.scale_a) {
    std::copy_n(t.scale_a, rows, scale_a);
    std::copy_n(t.scale_b, columns, scale_b);
    whole.scale_a = scale_a;
    whole.scale_b = scale_b;
  }
  kernel.run(whole);
  for (int64_t i = 0; i < rows; ++i) std::copy_n(tile + i * kernel.columns, columns, t.c + i * t.stride);
}

// A block of C: rows of a, and columns whose panels of b are packed one after another.
struct Block {
  int64_t row, rows, column, columns;
  const int16_t* b;  // panel of the first column, in the first group of blocks of k
  int64_t b_group;   // codes from a group of blocks to the next
};

void multiply_block(const CodeKernel& kernel, const CodeProductsArgs& p, const Block& block, int16_t* a) {
  constexpr int64_t kGroup = kGroupBlocks * kCodeBlock;
  for (int64_t k = 0; k < p.k; k += kGroup) {
    const int64_t codes = std::min(kGroup, p.k - k), blocks = ceil_div(codes, kCodeBlock), padded = blocks * kCodeBlock;
    for (int64_t i = 0; i < block.rows; i += kernel.rows)
      kernel.pack_a({p.a, p.k, block.row + i, std::min(kernel.rows, block.rows - i), k, codes}, a + i * padded);
    const int16_t* b = block.b + k / kGroup * block.b_group + block.column * padded;
    const bool last = k + codes == p.k;
    for (int64_t j = 0; j < block.columns; j += kernel.columns, b += padded * kernel.columns) {
      for (int64_t i = 0; i < block.rows; i += kernel.rows) {
        const int64_t row = block.row + i, column = block.column + j;
        run_tile(kernel,
                 {.blocks = blocks,
                  .steps = kCodeSteps,
                  .a = a + i * padded,
                  .b = b,
                  .first = k == 0,
                  .scale_a = last ? p.scale_a + row : nullptr,
                  .scale_b = last ? p.scale_b + column : nullptr,
                  .c = p.c + row * p.n + column,
                  .stride = p.n},
                 std::min(kernel.rows, block.rows - i), std::min(kernel.columns, block.columns - j));
      }
    }
  }
}

// A group of columns whose packed b fits kPackedBytes.
struct Workspace {
  int16_t* b;
  int16_t* a;  // of each worker
  int64_t a_codes;
};

void multiply_group(const CodeKernel& kernel, const CodeProductsArgs& p, int64_t first, int64_t columns, const Workspace& work) {
  constexpr int64_t kGroup = kGroupBlocks * kCodeBlock;
  const int64_t wide = kernel.columns, panels = ceil_div(columns, wide), b_group = panels * wide * kGroup;
  const int16_t* b = p.b + first * p.k;
  parallel_for(panels, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t j = begin; j < end; ++j) {
      for (int64_t k = 0; k < p.k; k += kGroup) {
        const int64_t codes = std::min(kGroup, p.k - k), padded = ceil_div(codes, kCodeBlock) * kCodeBlock;
        kernel.pack_b({b, p.k, j * wide, std::min(wide, columns - j * wide), k, codes}, work.b + k / kGroup * b_group + j * wide * padded);
      }
    }
  });
  CodeProductsArgs group = p;
  group.c = p.c + first;
  group.scale_b = p.scale_b + first;
  // Few rows: split the columns too, at the price of packing a once for each part.
  const int64_t blocks = ceil_div(p.m, kBlockRows);
  const int64_t parts = std::clamp<int64_t>(ceil_div(kTasks / 2, blocks), 1, ceil_div(panels, 2)), part = ceil_div(panels, parts) * wide;
  parallel_for(blocks * parts, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t task = begin; task < end; ++task) {
      const int64_t row = task / parts * kBlockRows, column = task % parts * part;
      if (column >= columns) continue;
      const Block block{.row = row,
                        .rows = std::min(kBlockRows, p.m - row),
                        .column = column,
                        .columns = std::min(part, columns - column),
                        .b = work.b,
                        .b_group = b_group};
      kernel.block([&] { multiply_block(kernel, group, block, work.a + worker * work.a_codes); });
    }
  });
}

[[maybe_unused]] void multiply(const CodeKernel& kernel, const CodeProductsArgs& p, Stream& stream) {
  if (p.m == 0 || p.n == 0) return;
  if (p.k == 0) return void(std::fill_n(p.c, p.m * p.n, 0.0f));
  constexpr int64_t kGroup = kGroupBlocks * kCodeBlock;
  const int64_t wide = kernel.columns, padded = ceil_div(p.k, kGroup) * kGroup;
  const int64_t group = std::min(ceil_div(p.n, wide), std::max<int64_t>(1, kPackedBytes / (2 * padded) / wide)) * wide;
  const int64_t b_codes = group * padded, a_codes = kBlockRows * kGroup;
  auto* memory = static_cast<int16_t*>(stream.workspace(static_cast<size_t>(2 * (b_codes + a_codes * threads()))));
  const Workspace work{.b = memory, .a = memory + b_codes, .a_codes = a_codes};
  for (int64_t first = 0; first < p.n; first += group) multiply_group(kernel, p, first, std::min(group, p.n - first), work);
}

}  // namespace

void register_codes() {
#if defined(__x86_64__)
  if (supports(Isa::amx)) {
    Registry::add<CodeProducts>(DeviceType::cpu,
                                {"packed_amx", nullptr, [](const CodeProductsArgs& p, Stream& s) { multiply(amx_code_kernel(), p, s); }});
  }
  if (supports(Isa::avx512_vnni)) {
    Registry::add<CodeProducts>(DeviceType::cpu,
                                {"packed_vnni", nullptr, [](const CodeProductsArgs& p, Stream& s) { multiply(vnni_code_kernel(), p, s); }});
  }
#endif
}

}  // namespace reid::cpu
