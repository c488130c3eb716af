// The softmax loss over similarities to centroids, which passes over their matrix without holding it. The equations stand beside the
// arguments in op_args_fused.h.
//
// Map: the matrix is made 8192 columns at a time, by the tiles of gemm/ (B x 8192 floats: 2 MB at B = 64, which stays in L2), and what a
//      row must remember of the columns so far is carried from one to the next by a block of 128 threads for each row: the maximum t and
//      the sum of exp(z - t) of z = s / tau, rescaled when t grows (Milakov and Gimelshein, arXiv 1805.02867), sum and number of the
//      positives' z, sum of all z. A second pass makes the similarities again, turns them into ds = w (exp(z - total) - target) / tau, and
//      adds ds c to dx, as FlashAttention's backward pass does (Dao et al., NeurIPS 2022). One chunk is not made twice. Few rows make few
//      tiles of dx, so parts of 512 columns are summed by blocks of their own and added in order.
// bf16: similarities by tensor cores. ds is split into two bf16, its rounding and what that lacks, which lie behind one another along the
//      sum: their products with c are those of ds to 2^-16, at twice the flops of a product that waits for memory anyway.
// Versions: f32 by register tiles; bf16 by mma_async (D in eights, arrays at 16 bytes) and mma_gather (the rest).
// Flops: 6 B M D (4 B M D with one chunk; 2 B M D more in bf16). Floors on H200: f32 by FMA at 67 Tflop/s: 128 x 10,000 x 2048, 0.23 ms;
// bf16 by memory, c three times at 4.3 TB/s: 10,000 x 2048, 29 us. No version was measured yet.

#include "gemm/mma_tile.cuh"
#include "gemm/parts.cuh"
#include "kernels.h"
#include "reid/engine/op_args_fused.h"
#include "rows.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int64_t kChunk = 8192;  // columns
constexpr int64_t kPart = 512;    // of them, which a block sums for dx

// Calls f(first column, columns) for the chunks of a matrix.
template <class F>
void for_chunks(int64_t columns, F f) {
  for (int64_t first = 0; first < columns; first += kChunk) f(first, columns - first < kChunk ? columns - first : kChunk);
}

// --- similarities ---

// What a row knows of the columns so far.
struct Seen {
  float top, sum;  // of z: the maximum, and the sum of exp(z - top)
  float positives, positive_sum, all_sum;
};

// Columns [first, first + columns) and what is made of them. Rows of s and ds are `stride` long, a multiple of 8.
struct Chunk {
  int64_t first, columns, stride;
  float* s;        // [B, stride]
  void* ds;        // s itself, or [B, 2 stride] of bf16: part by part the rounded ones, then what they lack
  float* partial;  // [parts, B, D]
  Seen* seen;      // [B]
};

template <class T>
struct SimilarityProblem : MatrixProblem<T, T, true, true> {
  float* s;
  int64_t stride;
  __device__ void store(int64_t, int64_t i, int64_t j, float sum) const { s[i * stride + j] = sum; }
};

// Batch b: columns b kPart ... of the chunk, as `pieces` stretches of ds.
template <class T>
struct GradientProblem : MatrixProblem<T, T, true, false> {
  static constexpr int64_t kPieces = sizeof(T) == 2 ? 2 : 1;
  int64_t columns, stride;
  float* target;  // [batches, m, n]
  __device__ int64_t width(int64_t batch) const { return stride - batch * kPart < kPart ? stride - batch * kPart : kPart; }
  __device__ int64_t depth_of(int64_t batch) const { return kPieces * width(batch); }
  __device__ Depth a_depth(int64_t batch, int64_t l) const { return l < depth_of(batch) ? l : -1; }
  __device__ Depth b_depth(int64_t batch, int64_t l) const {
    const int64_t column = l < width(batch) ? l : l - width(batch);
    return l < depth_of(batch) && batch * kPart + column < columns ? column * this->right.depth_step : -1;
  }
  __device__ void store(int64_t batch, int64_t i, int64_t j, float sum) const { target[(batch * this->m + i) * this->n + j] = sum; }
};

// The ways through the two products.
struct RegisterTile {
  using Element = float;
  template <class Problem>
  static void run(const Problem& p, int64_t batches, Stream& stream) {
    run_register_tile<64, 64>(p, batches, stream);
  }
};
struct MmaGather {
  using Element = bf16;
  template <class Problem>
  static void run(const Problem& p, int64_t batches, Stream& stream) {
    run_mma_gather<MmaShape<64, 64>>(p, batches, stream);
  }
};
struct MmaAsync {
  using Element = bf16;
  template <class Problem>
  static void run(const Problem& p, int64_t batches, Stream& stream) {
    run_mma_async<MmaShape<64, 64>>(p, batches, stream);
  }
};

// s = x c^T
template <class Way>
void similarities(const CentroidRowsArgs& a, const Chunk& chunk, Stream& stream) {
  using T = typename Way::Element;
  SimilarityProblem<T> p{};
  p.m = a.rows, p.n = chunk.columns, p.depth = a.depth;
  p.left = {in<T>(a.x), 0, a.depth, 1}, p.right = {in<T>(a.c) + chunk.first * a.depth, 0, a.depth, 1};
  p.s = chunk.s, p.stride = chunk.stride;
  Way::run(p, 1, stream);
}

// dx (+)= ds c
template <class Way>
void add_gradient(const CentroidRowsArgs& a, const Chunk& chunk, Stream& stream) {
  using T = typename Way::Element;
  using Problem = GradientProblem<T>;
  Problem p{};
  p.m = a.rows, p.n = a.depth, p.depth = Problem::kPieces * chunk.stride;
  p.left = {static_cast<const T*>(chunk.ds), Problem::kPieces * kPart, Problem::kPieces * chunk.stride, 1};
  p.right = {in<T>(a.c) + chunk.first * a.depth, kPart * a.depth, 1, a.depth};
  p.columns = chunk.columns, p.stride = chunk.stride;
  const int64_t parts = ceil_div(chunk.columns, kPart);
  const bool whole = parts == 1 && chunk.first == 0;
  p.target = whole ? out<float>(a.dx) : chunk.partial;
  Way::run(p, parts, stream);
  if (!whole) add_parts(chunk.partial, parts, a.rows * a.depth, out<float>(a.dx), chunk.first > 0, stream);
}

// --- rows of them ---

// A row and the columns of the chunk that count for it.
struct CountedRow {
  int64_t begin, end;  // from the chunk's first
  int32_t own;
  float tau;
  __device__ CountedRow(const CentroidRowsArgs& a, const Chunk& chunk)
      : begin(a.first_column[blockIdx.x] - chunk.first),
        end(a.end_column[blockIdx.x] - chunk.first),
        own(a.row_label[blockIdx.x]),
        tau(in<float>(a.tau)[blockIdx.x]) {
    begin = begin > 0 ? begin : 0, end = end < chunk.columns ? end : chunk.columns;
  }
  __device__ bool positive(const CentroidRowsArgs& a, int64_t column) const {
    return (a.column_label ? a.column_label[column] : static_cast<int32_t>(column)) == own;
  }
};

__global__ void absorb_kernel(CentroidRowsArgs a, Chunk chunk) {
  after_predecessors();
  const CountedRow row(a, chunk);
  const int64_t count = row.end - row.begin;
  const float* s = chunk.s + blockIdx.x * chunk.stride + row.begin;
  const float tau = row.tau;
  const auto positive = [&](int64_t c) { return row.positive(a, chunk.first + row.begin + c); };
  const Seen before = chunk.first == 0 ? Seen{-INFINITY, 0, 0, 0, 0} : chunk.seen[blockIdx.x];
  Seen now;
  now.top = Max()(before.top, row_max(count, [&](int64_t c) { return s[c] / tau; }));
  now.sum = row_sum(count, [&](int64_t c) { return expf(s[c] / tau - now.top); });
  now.sum += before.top == -INFINITY ? 0 : before.sum * expf(before.top - now.top);
  now.positives = before.positives + row_sum(count, [&](int64_t c) { return positive(c) ? 1.0f : 0.0f; });
  now.positive_sum = before.positive_sum + row_sum(count, [&](int64_t c) { return positive(c) ? s[c] / tau : 0; });
  now.all_sum = before.all_sum + row_sum(count, [&](int64_t c) { return s[c] / tau; });
  if (threadIdx.x == 0) chunk.seen[blockIdx.x] = now;  // every thread has read it before the reductions' barriers
}

__device__ void put(float* ds, const Chunk&, int64_t column, float value) { ds[column] = value; }
__device__ void put(bf16* ds, const Chunk& chunk, int64_t column, float value) {
  const int64_t inside = column % kPart, part = column - inside, width = chunk.stride - part < kPart ? chunk.stride - part : kPart;
  const bf16 rounded = to_bf16(value);
  ds[2 * part + inside] = rounded, ds[2 * part + width + inside] = to_bf16(value - to_float(rounded));
}

template <class T>
__global__ void centroid_gradient_kernel(CentroidRowsArgs a, Chunk chunk) {
  after_predecessors();
  const CountedRow row(a, chunk);
  const float* s = chunk.s + blockIdx.x * chunk.stride;
  T* ds = static_cast<T*>(chunk.ds) + blockIdx.x * chunk.stride * GradientProblem<T>::kPieces;
  const Seen seen = chunk.seen[blockIdx.x];
  const float tau = row.tau, weight = in<float>(a.weight)[blockIdx.x], smoothing = static_cast<float>(a.smoothing);
  const float total = seen.top + logf(seen.sum);
  const bool counts = seen.positives > 0;
  const float floor = counts ? smoothing / static_cast<float>(a.end_column[blockIdx.x] - a.first_column[blockIdx.x]) : 0;
  const float target = floor + (counts ? (1 - smoothing) / seen.positives : 0);
  for_columns(chunk.stride, [&](int64_t c) {
    float value = 0;
    if (counts && c >= row.begin && c < row.end) {
      value = weight * (expf(s[c] / tau - total) - (row.positive(a, chunk.first + c) ? target : floor)) / tau;
    }
    put(ds, chunk, c, value);
  });
  if (threadIdx.x != 0 || chunk.first > 0) return;
  // sum of target (total - z): the targets of a row add up to 1
  const float drawn = counts ? (1 - smoothing) * (seen.positive_sum / seen.positives) + floor * seen.all_sum : 0;
  out<float>(a.loss)[blockIdx.x] = counts ? weight * (total - drawn) : 0;
}

template <class Way>
void centroid_rows(const CentroidRowsArgs& a, Stream& stream) {
  if (a.rows == 0 || a.columns == 0) return;
  using T = typename Way::Element;
  const int64_t widest = a.columns < kChunk ? a.columns : kChunk, stride = ceil_div(widest, 8) * 8, held = a.rows * stride;
  const int64_t split = sizeof(T) == 2 ? held : 0;  // in floats, as all of these
  const int64_t partial = a.columns > kPart ? ceil_div(widest, kPart) * a.rows * a.depth : 0;
  auto* s = static_cast<float*>(
      stream.workspace(static_cast<size_t>(held + split + partial) * sizeof(float) + static_cast<size_t>(a.rows) * sizeof(Seen)));
  float* ds = s + split;
  auto* seen = reinterpret_cast<Seen*>(ds + held + partial);
  const auto chunk_of = [&](int64_t first, int64_t columns) {
    return Chunk{first, columns, ceil_div(columns, 8) * 8, s, ds, ds + held, seen};
  };
  for_chunks(a.columns, [&](int64_t first, int64_t columns) {
    const Chunk chunk = chunk_of(first, columns);
    similarities<Way>(a, chunk, stream);
    launch(absorb_kernel, blocks_for(a.rows, 1), kRowThreads, 0, stream, a, chunk);
  });
  for_chunks(a.columns, [&](int64_t first, int64_t columns) {
    const Chunk chunk = chunk_of(first, columns);
    if (a.columns > kChunk) similarities<Way>(a, chunk, stream);
    launch(centroid_gradient_kernel<T>, blocks_for(a.rows, 1), kRowThreads, 0, stream, a, chunk);
    add_gradient<Way>(a, chunk, stream);
  });
}

const char* refuse_f32(const CentroidRowsArgs& a) { return refuse_other_than_f32(a.dtype); }
const char* refuse_bf16(const CentroidRowsArgs& a) { return refuse_other_than_bf16(a.dtype); }
const char* refuse_pieces(const CentroidRowsArgs& a) {
  if (a.depth % 8 != 0) return "takes rows that are multiples of 8";
  return aligned_to_16({a.x, a.c}) ? refuse_bf16(a) : "takes arrays that start at multiples of 16 bytes";
}

}  // namespace

void register_fused() {
  add<CentroidRows>(REID_KERNEL_NAME("online_softmax"), refuse_f32, centroid_rows<RegisterTile>);
  add<CentroidRows>(REID_KERNEL_NAME("online_softmax_mma_async"), refuse_pieces, centroid_rows<MmaAsync>);
  add<CentroidRows>(REID_KERNEL_NAME("online_softmax_mma_gather"), refuse_bf16, centroid_rows<MmaGather>);
}

}  // namespace reid::REID_TARGET
