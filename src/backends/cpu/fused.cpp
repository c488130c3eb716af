// The softmax loss over similarities to centroids, f32 and bf16: see CentroidRowsArgs.
//
// Map: the similarities are made kChunk columns at a time, by the packed product. One chunk is made once: product, a pass over its rows,
//      product. Of several, a first round finds each row's maximum t and its sum of exp(z - t), z = s / tau, rescaled when t grows (Milakov
//      and Gimelshein, arXiv 1805.02867); a second one makes the similarities again and turns them into losses and gradients.
// A row is a task; it is summed in double in the order of its columns. So threads change no bit, and one chunk gives those of matmul,
// the reference of softmax_rows and matmul, one after the other.
// bf16: products of bf16 for the similarities; their gradient stays f32, which centroids meet as they are widened.

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "backends/cpu/fast.h"
#include "backends/cpu/gemm.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/packing.h"
#include "backends/cpu/rounding.h"
#include "reid/engine/op_args_fused.h"
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

constexpr int64_t kChunk = 16384;         // columns: 4 MB of similarities for 64 rows
constexpr int64_t kColumnsOfTask = 4096;  // at 10 ns each

// What a row knows of the columns so far.
struct Seen {
  double top = -std::numeric_limits<double>::infinity(), sum = 0;  // of z: the maximum, and the sum of exp(z - top)
  double loss = 0;
  int64_t positives = 0;
};

struct Chunk {
  int64_t first, columns;
  float* s;  // [B, columns], then its gradient
};

// The columns of a chunk that count for row i, from the chunk's first.
struct Counted {
  Counted(const CentroidRowsArgs& a, const Chunk& chunk, int64_t i)
      : begin(std::clamp<int64_t>(a.first_column[i] - chunk.first, 0, chunk.columns)),
        end(std::clamp<int64_t>(a.end_column[i] - chunk.first, begin, chunk.columns)) {}
  int64_t begin, end;
};

bool positive(const CentroidRowsArgs& a, int64_t i, int64_t column) {
  return (a.column_label ? a.column_label[column] : column) == a.row_label[i];
}

void absorb(const CentroidRowsArgs& a, const Chunk& chunk, int64_t i, Seen& seen) {
  const float* s = chunk.s + i * chunk.columns;
  const double tau = double{static_cast<const float*>(a.tau)[i]};
  const Counted counted(a, chunk, i);
  double top = seen.top, sum = 0;
  for (int64_t j = counted.begin; j < counted.end; ++j) {
    top = std::max(top, double{s[j]} / tau);
    seen.positives += positive(a, i, chunk.first + j);
  }
  for (int64_t j = counted.begin; j < counted.end; ++j) sum += std::exp(double{s[j]} / tau - top);
  seen.sum = seen.sum == 0 ? sum : seen.sum * std::exp(seen.top - top) + sum;
  seen.top = top;
}

// s becomes its gradient.
void turn(const CentroidRowsArgs& a, const Chunk& chunk, int64_t i, Seen& seen) {
  float* s = chunk.s + i * chunk.columns;
  const double tau = double{static_cast<const float*>(a.tau)[i]}, weight = double{static_cast<const float*>(a.weight)[i]};
  Counted counted(a, chunk, i);
  if (seen.positives == 0) counted.end = counted.begin;
  const double total = seen.top + std::log(seen.sum), floor = a.smoothing / static_cast<double>(a.end_column[i] - a.first_column[i]);
  const double target = (1 - a.smoothing) / static_cast<double>(seen.positives) + floor;
  for (int64_t j = counted.begin; j < counted.end; ++j) {
    const double log_probability = double{s[j]} / tau - total, q = positive(a, i, chunk.first + j) ? target : floor;
    if (q != 0) seen.loss -= q * log_probability;
    s[j] = static_cast<float>(weight * (std::exp(log_probability) - q) / tau);
  }
  std::fill(s, s + counted.begin, 0.0f);
  std::fill(s + counted.end, s + chunk.columns, 0.0f);
  static_cast<float*>(a.loss)[i] = static_cast<float>(weight * seen.loss);
}

template <class Row>
void for_rows(const CentroidRowsArgs& a, const Chunk& chunk, std::vector<Seen>& seen, Row row) {
  parallel_for(a.rows, std::max<int64_t>(1, kColumnsOfTask / chunk.columns), [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) row(a, chunk, i, seen[static_cast<size_t>(i)]);
  });
}

void product(const GemmArgs& g, Stream& stream) { Registry::pick<Gemm>(DeviceType::cpu, g).run(g, stream); }

void similarities(const CentroidRowsArgs& a, const Chunk& chunk, Stream& stream) {
  product({.a = a.x,
           .b = static_cast<const char*>(a.c) + chunk.first * a.depth * size_of(a.dtype),
           .c = chunk.s,
           .m = a.rows,
           .n = chunk.columns,
           .k = a.depth,
           .transpose_b = true,
           .dtype = a.dtype},
          stream);
}

const MicroKernel& float_kernel() {
#if defined(__x86_64__)
  if (supports(Isa::avx512)) return avx512_kernel();
  if (supports(Isa::avx2)) return avx2_kernel();
#endif
  return portable_kernel();
}

// dx (+)= ds c for c of bf16, which widens as it is packed.
void add_gradient_bf16(const CentroidRowsArgs& a, const Chunk& chunk, Stream& stream) {
  const MicroKernel& kernel = float_kernel();
  const bf16* c = static_cast<const bf16*>(a.c) + chunk.first * a.depth;
  const auto pack_a = [&](int64_t row, int64_t rows, int64_t k, int64_t depth, float* panels) {
    FloatPanels<float>::a_rows(kernel, chunk.s + row * chunk.columns, chunk.columns, rows, {k, depth, depth}, panels);
  };
  const auto pack_b = [&](int64_t column, int64_t columns, int64_t k, int64_t depth, float* panels, int64_t panel) {
    FloatPanels<bf16>::b_rows(kernel, c + column, a.depth, columns, {k, depth, depth}, panels, panel);
  };
  multiply(kernel,
           {.m = a.rows,
            .n = a.depth,
            .k = chunk.columns,
            .a_by_depth = false,
            .accumulate = chunk.first > 0,
            .pack_a = pack_a,
            .pack_b = pack_b,
            .row = [&](int64_t i) { return static_cast<float*>(a.dx) + i * a.depth; }},
           stream);
}

void add_gradient(const CentroidRowsArgs& a, const Chunk& chunk, Stream& stream) {
  if (a.dtype == DType::bf16) return add_gradient_bf16(a, chunk, stream);
  product({.a = chunk.s,
           .b = static_cast<const float*>(a.c) + chunk.first * a.depth,
           .c = a.dx,
           .m = a.rows,
           .n = a.depth,
           .k = chunk.columns,
           .accumulate = chunk.first > 0,
           .dtype = DType::f32},
          stream);
}

void centroid_rows(const CentroidRowsArgs& a, Stream& stream) {
  if (a.rows == 0 || a.columns == 0) return;
  const int64_t widest = std::min(a.columns, kChunk);
  const Storage similarity(a.rows * widest * int64_t{sizeof(float)}, Device{});
  std::vector<Seen> seen(static_cast<size_t>(a.rows));
  const auto for_chunks = [&](auto work) {
    for (int64_t first = 0; first < a.columns; first += widest)
      work(Chunk{first, std::min(widest, a.columns - first), static_cast<float*>(similarity.data())});
  };
  for_chunks([&](const Chunk& chunk) {
    similarities(a, chunk, stream);
    for_rows(a, chunk, seen, absorb);
  });
  for_chunks([&](const Chunk& chunk) {
    if (a.columns > widest) similarities(a, chunk, stream);
    for_rows(a, chunk, seen, turn);
    add_gradient(a, chunk, stream);
  });
}

}  // namespace

void register_fused() {
  Registry::add<CentroidRows>(DeviceType::cpu,
                              {"online_softmax", [](const CentroidRowsArgs& a) { return refuse_wider(a.dtype); }, centroid_rows});
}

}  // namespace reid::cpu
