// Products of 8-bit codes, blocked like gemm.cpp. With a = A - 128 and b = B - 128 for codes A and B,
//   sum a b = sum A b - 128 sum b:
// A stays unsigned, b is signed, and the last term is one number for each row of b, where the sums of a tile begin.

#include <algorithm>
#include <cstring>

#include "backends/cpu/code_kernel.h"
#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

constexpr int64_t kBlockRows = 224;         // 16 panels of 14
constexpr int64_t kBlockCodes = 1024;       // of k: a panel of A takes 14 KB, one of B 32 KB, the rows of a task 224 KB
constexpr int64_t kPackedBytes = 16 << 20;  // packed b of one group of columns
constexpr int64_t kTasks = 32;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows [row, row + rows) and codes [k, k + codes) as a panel [ceil(codes / 4)][tile][4], each code combined with `flip` by exclusive or;
// zeros where there are no codes or rows.
void pack(const void* source, int64_t stride, int64_t row, int64_t rows, int64_t k, int64_t codes, int64_t tile, uint32_t flip,
          void* panel) {
  const int64_t whole = codes / 4, rest = codes % 4;
  auto* out = static_cast<uint8_t*>(panel);
  if (rows < tile || rest > 0) std::memset(out, 0, static_cast<size_t>(ceil_div(codes, 4) * 4 * tile));
  for (int64_t i = 0; i < rows; ++i) {
    const uint8_t* in = static_cast<const uint8_t*>(source) + (row + i) * stride + k;
    for (int64_t f = 0; f < whole; ++f) {
      uint32_t four;
      std::memcpy(&four, in + 4 * f, 4);
      four ^= flip;
      std::memcpy(out + (f * tile + i) * 4, &four, 4);
    }
    for (int64_t c = 0; c < rest; ++c) out[(whole * tile + i) * 4 + c] = static_cast<uint8_t>(in[4 * whole + c] ^ (flip & 255));
  }
}

constexpr uint32_t kSigned = 0x80808080;  // code c to the signed byte c - 128

// -128 sum b of one row of b.
int32_t start_of(const uint8_t* codes, int64_t count) {
  int64_t sum = 0;
  for (int64_t k = 0; k < count; ++k) sum += codes[k];
  return static_cast<int32_t>(-128 * (sum - 128 * count));
}

// A tile that sticks out of C goes through one that does not.
void run_tile(const CodeKernel& kernel, int64_t depth, const uint8_t* a, const int8_t* b, const int32_t* start, int32_t* c, int64_t stride,
              int64_t rows, int64_t columns) {
  if (rows == kernel.rows && columns == kernel.columns) return kernel.run(depth, a, b, start, c, stride);
  int32_t tile[kMaxCodeTile] = {};
  for (int64_t i = 0; !start && i < rows; ++i) std::copy_n(c + i * stride, columns, tile + i * kernel.columns);
  kernel.run(depth, a, b, start, tile, kernel.columns);
  for (int64_t i = 0; i < rows; ++i) std::copy_n(tile + i * kernel.columns, columns, c + i * stride);
}

// A block of C: rows of a, and columns whose panels of b are packed one after another.
struct Block {
  int64_t row, rows, column, columns;
  const int8_t* b;        // panel of the first column, in the first block of k
  int64_t b_block;        // bytes from a block of k to the next
  const int32_t* starts;  // of the columns
};

void multiply_block(const CodeKernel& kernel, const CodeProductsArgs& p, const Block& block, uint8_t* a) {
  for (int64_t k = 0; k < p.k; k += kBlockCodes) {
    const int64_t codes = std::min(kBlockCodes, p.k - k), depth = ceil_div(codes, 4), a_panel = depth * 4 * kernel.rows;
    for (int64_t i = 0; i < block.rows; i += kernel.rows) {
      pack(p.a, p.k, block.row + i, std::min(kernel.rows, block.rows - i), k, codes, kernel.rows, 0, a + i / kernel.rows * a_panel);
    }
    const int64_t b_panel = depth * 4 * kernel.columns, first = block.column / kernel.columns;
    const int8_t* b = block.b + k / kBlockCodes * block.b_block + first * b_panel;
    for (int64_t j = 0; j < block.columns; j += kernel.columns, b += b_panel) {
      for (int64_t i = 0; i < block.rows; i += kernel.rows) {
        run_tile(kernel, depth, a + i / kernel.rows * a_panel, b, k == 0 ? block.starts + block.column + j : nullptr,
                 static_cast<int32_t*>(p.c) + (block.row + i) * p.n + block.column + j, p.n, std::min(kernel.rows, block.rows - i),
                 std::min(kernel.columns, block.columns - j));
      }
    }
  }
}

// A group of columns whose packed b fits kPackedBytes: `c` and `b` of p are those of the group.
struct Workspace {
  int8_t* b;
  int32_t* starts;
  uint8_t* a;  // of each worker
  int64_t a_bytes;
};

void multiply_group(const CodeKernel& kernel, const CodeProductsArgs& p, int64_t first, int64_t columns, const Workspace& work) {
  const int64_t wide = kernel.columns, panels = ceil_div(columns, wide);
  const auto* b = static_cast<const uint8_t*>(p.b) + first * p.k;
  const int64_t b_block = panels * wide * kBlockCodes;
  parallel_for(panels, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t j = begin; j < end; ++j) {
      const int64_t column = j * wide, some = std::min(wide, columns - column);
      for (int64_t k = 0; k < p.k; k += kBlockCodes) {
        const int64_t codes = std::min(kBlockCodes, p.k - k);
        pack(b, p.k, column, some, k, codes, wide, kSigned, work.b + k / kBlockCodes * b_block + j * ceil_div(codes, 4) * 4 * wide);
      }
      std::fill_n(work.starts + column, wide, 0);
      for (int64_t i = 0; i < some; ++i) work.starts[column + i] = start_of(b + (column + i) * p.k, p.k);
    }
  });
  CodeProductsArgs group = p;
  group.c = static_cast<int32_t*>(p.c) + first;
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
                        .b_block = b_block,
                        .starts = work.starts};
      multiply_block(kernel, group, block, work.a + worker * work.a_bytes);
    }
  });
}

void multiply(const CodeKernel& kernel, const CodeProductsArgs& p, Stream& stream) {
  if (p.m == 0 || p.n == 0) return;
  if (p.k == 0) return void(std::fill_n(static_cast<int32_t*>(p.c), p.m * p.n, 0));
  const int64_t wide = kernel.columns, padded = ceil_div(p.k, kBlockCodes) * kBlockCodes;
  const int64_t group = std::min(ceil_div(p.n, wide), std::max<int64_t>(1, kPackedBytes / padded / wide)) * wide;
  const int64_t b_bytes = group * padded, start_bytes = group * 4, a_bytes = kBlockRows * kBlockCodes;
  auto* memory = static_cast<uint8_t*>(stream.workspace(static_cast<size_t>(b_bytes + start_bytes + a_bytes * threads())));
  const Workspace work{.b = reinterpret_cast<int8_t*>(memory),
                       .starts = reinterpret_cast<int32_t*>(memory + b_bytes),
                       .a = memory + b_bytes + start_bytes,
                       .a_bytes = a_bytes};
  for (int64_t first = 0; first < p.n; first += group) multiply_group(kernel, p, first, std::min(group, p.n - first), work);
}

}  // namespace

void register_codes() {
#if defined(__x86_64__)
  if (supports(Isa::avx512_vnni)) {
    Registry::add<CodeProducts>(DeviceType::cpu,
                                {"packed_vnni", nullptr, [](const CodeProductsArgs& p, Stream& s) { multiply(vnni_kernel(), p, s); }});
  }
#endif
}

}  // namespace reid::cpu
