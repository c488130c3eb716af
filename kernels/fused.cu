// What passes over a large matrix without holding it: the softmax loss over similarities to centroids, and nearest rows. The equations
// stand beside the arguments in op_args_fused.h.
//
// Map: the matrix is made 4096 columns at a time, by the register tiles of gemm/ (B x 4096 floats: 1 MB at B = 64, which stays in L2), and
//      what a row must remember of the columns so far is carried from one to the next by a block of 128 threads for each row:
//      centroid_rows   the maximum t and the sum of exp(z - t) of z = s / tau, rescaled when t grows (Milakov and Gimelshein, arXiv
//                      1805.02867), sum and number of the positives' z, sum of all z. A second pass makes the similarities again, turns
//                      them into ds = w (exp(z - total) - target) / tau in place, and adds ds c to dx, as FlashAttention's backward pass
//                      does (Dao et al., NeurIPS 2022). One chunk is not made twice.
//      nearest_rows    the nearest so far, as 64-bit keys: the distance's bits above the index, which order like (distance, index), since
//                      distances are not negative. A merge picks the smallest key above the last picked, `count` times; a thread
//                      remembers the smallest of its own and looks again only when that was picked.
// Flops: 6 B M D (4 B M D with one chunk), and 3 M N K. Floors on H200: 67 Tflop/s of f32 FMA: 128 x 10,000 x 2048, 0.23 ms; 12,936^2 x
// 2048, 15 ms. No version was measured yet.

#include <utility>

#include "gemm/tile.cuh"
#include "kernels.h"
#include "reid/engine/op_args_fused.h"
#include "rows.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int64_t kChunk = 4096;  // columns

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

template <bool transposed>
struct SimilarityProblem : MatrixProblem<float, float, true, transposed> {
  float* c;
  bool accumulate;
  __device__ void store(int64_t, int64_t i, int64_t j, float sum) const {
    float* target = c + i * this->n + j;
    *target = accumulate ? *target + sum : sum;
  }
};

// s [rows, columns] = x c^T for the columns from `first`.
void similarities(const CentroidRowsArgs& a, int64_t first, int64_t columns, float* s, Stream& stream) {
  SimilarityProblem<true> p{};
  p.m = a.rows, p.n = columns, p.depth = a.depth;
  p.left = {in<float>(a.x), 0, a.depth, 1}, p.right = {in<float>(a.c) + first * a.depth, 0, a.depth, 1};
  p.c = s, p.accumulate = false;
  run_register_tile<64, 64>(p, 1, stream);
}

// dx (+)= ds c
void add_gradient(const CentroidRowsArgs& a, int64_t first, int64_t columns, const float* ds, Stream& stream) {
  SimilarityProblem<false> p{};
  p.m = a.rows, p.n = a.depth, p.depth = columns;
  p.left = {ds, 0, columns, 1}, p.right = {in<float>(a.c) + first * a.depth, 0, 1, a.depth};
  p.c = out<float>(a.dx), p.accumulate = first > 0;
  run_register_tile<64, 64>(p, 1, stream);
}

__global__ void absorb_kernel(CentroidRowsArgs a, const float* chunk, int64_t first, int64_t columns, Seen* seen) {
  const float* s = chunk + blockIdx.x * columns;
  const int32_t* label = a.column_label + first;
  const int32_t own = a.row_label[blockIdx.x];
  const float tau = in<float>(a.tau)[blockIdx.x];
  const Seen before = first == 0 ? Seen{-INFINITY, 0, 0, 0, 0} : seen[blockIdx.x];
  Seen now;
  now.top = Max()(before.top, row_max(columns, [&](int64_t c) { return s[c] / tau; }));
  now.sum = row_sum(columns, [&](int64_t c) { return expf(s[c] / tau - now.top); });
  now.sum += first == 0 ? 0 : before.sum * expf(before.top - now.top);
  now.positives = before.positives + row_sum(columns, [&](int64_t c) { return label[c] == own ? 1.0f : 0.0f; });
  now.positive_sum = before.positive_sum + row_sum(columns, [&](int64_t c) { return label[c] == own ? s[c] / tau : 0; });
  now.all_sum = before.all_sum + row_sum(columns, [&](int64_t c) { return s[c] / tau; });
  if (threadIdx.x == 0) seen[blockIdx.x] = now;  // every thread has read it before the reductions' barriers
}

__global__ void centroid_gradient_kernel(CentroidRowsArgs a, float* chunk, int64_t first, int64_t columns, const Seen* seen) {
  float* s = chunk + blockIdx.x * columns;
  const Seen row = seen[blockIdx.x];
  const float tau = in<float>(a.tau)[blockIdx.x], weight = in<float>(a.weight)[blockIdx.x], smoothing = static_cast<float>(a.smoothing);
  const float total = row.top + logf(row.sum), floor = smoothing / static_cast<float>(a.columns);
  const bool counts = row.positives > 0;
  const float target = floor + (counts ? (1 - smoothing) / row.positives : 0);
  for_columns(columns, [&](int64_t c) {
    const bool positive = a.column_label[first + c] == a.row_label[blockIdx.x];
    s[c] = counts ? weight * (expf(s[c] / tau - total) - (positive ? target : floor)) / tau : 0;
  });
  if (threadIdx.x != 0 || first > 0) return;
  // sum of target (total - z): the targets of a row add up to 1
  const float drawn = counts ? (1 - smoothing) * (row.positive_sum / row.positives) + floor * row.all_sum : 0;
  out<float>(a.loss)[blockIdx.x] = counts ? weight * (total - drawn) : 0;
}

void centroid_rows(const CentroidRowsArgs& a, Stream& stream) {
  if (a.rows == 0 || a.columns == 0) return;
  const int64_t widest = a.columns < kChunk ? a.columns : kChunk;
  auto* chunk = static_cast<float*>(
      stream.workspace(static_cast<size_t>(a.rows * widest) * sizeof(float) + static_cast<size_t>(a.rows) * sizeof(Seen)));
  auto* seen = reinterpret_cast<Seen*>(chunk + a.rows * widest);
  for_chunks(a.columns, [&](int64_t first, int64_t columns) {
    similarities(a, first, columns, chunk, stream);
    launch(absorb_kernel, blocks_for(a.rows, 1), kRowThreads, 0, stream, a, chunk, first, columns, seen);
  });
  for_chunks(a.columns, [&](int64_t first, int64_t columns) {
    if (a.columns > kChunk) similarities(a, first, columns, chunk, stream);
    launch(centroid_gradient_kernel, blocks_for(a.rows, 1), kRowThreads, 0, stream, a, chunk, first, columns, seen);
    add_gradient(a, first, columns, chunk, stream);
  });
}

// --- nearest rows ---

constexpr uint64_t kNoKey = ~uint64_t{0};

// A distance's square and its column as a number that orders like the pair. NaN is farther than infinity.
__device__ uint64_t key_of(float square, int64_t column) {
  uint32_t bits;
  memcpy(&bits, &square, sizeof(bits));
  return uint64_t{bits & 0x7FFFFFFFu} << 32 | static_cast<uint32_t>(column);
}

struct SquareProblem : MatrixProblem<float, float, true, true> {
  float* d;
  __device__ static float term(float sum, float x, float y) { return sum + (x - y) * (x - y); }
  __device__ void store(int64_t, int64_t i, int64_t j, float sum) const { d[i * n + j] = sum; }
};

// Row blockIdx.x: the nearest of those `before` (none when the chunk is the first) and of the chunk's columns. Keys are unique.
__global__ void merge_nearest_kernel(NearestRowsArgs a, const float* chunk, int64_t first, int64_t columns, const uint64_t* before,
                                     uint64_t* after) {
  const float* squares = chunk + blockIdx.x * columns;
  const uint64_t* old = before + blockIdx.x * a.count;
  const int64_t kept = first < a.count ? first : a.count;
  // The smallest of this thread's keys above `last`, or at all.
  const auto next_own = [&](uint64_t last, bool any) {
    uint64_t least = kNoKey;
    const auto offer = [&](uint64_t key) { least = (any || key > last) && key < least ? key : least; };
    for_columns(columns, [&](int64_t c) { offer(key_of(squares[c], first + c)); });
    for_columns(kept, [&](int64_t r) { offer(old[r]); });
    return least;
  };
  const int64_t wanted = first + columns < a.count ? first + columns : a.count;
  uint64_t own = next_own(0, true);
  for (int64_t r = 0; r < wanted; ++r) {
    const uint64_t picked = block_reduce(own, Min());
    if (own == picked) own = next_own(picked, false);
    if (threadIdx.x == 0) after[blockIdx.x * a.count + r] = picked;
  }
}

__global__ void write_nearest_kernel(NearestRowsArgs a, const uint64_t* keys) {
  const int64_t i = int64_t{blockIdx.x} * kRowThreads + threadIdx.x;
  if (i >= a.m * a.count) return;
  const uint32_t bits = static_cast<uint32_t>(keys[i] >> 32);
  float square;
  memcpy(&square, &bits, sizeof(square));
  out<float>(a.d)[i] = sqrtf(square);
  a.index[i] = static_cast<int32_t>(keys[i] & 0xFFFFFFFFu);
}

void nearest_rows(const NearestRowsArgs& a, Stream& stream) {
  if (a.m * a.count == 0) return;
  const int64_t widest = a.n < kChunk ? a.n : kChunk, lists = a.m * a.count;
  auto* keys = static_cast<uint64_t*>(
      stream.workspace(static_cast<size_t>(2 * lists) * sizeof(uint64_t) + static_cast<size_t>(a.m * widest) * sizeof(float)));
  auto* chunk = reinterpret_cast<float*>(keys + 2 * lists);
  uint64_t *before = keys, *after = keys + lists;
  for_chunks(a.n, [&](int64_t first, int64_t columns) {
    SquareProblem p{};
    p.m = a.m, p.n = columns, p.depth = a.k;
    p.left = {in<float>(a.x), 0, a.k, 1}, p.right = {in<float>(a.y) + first * a.k, 0, a.k, 1};
    p.d = chunk;
    run_register_tile<64, 64>(p, 1, stream);
    launch(merge_nearest_kernel, blocks_for(a.m, 1), kRowThreads, 0, stream, a, chunk, first, columns, before, after);
    std::swap(before, after);
  });
  launch(write_nearest_kernel, blocks_for(lists, kRowThreads), kRowThreads, 0, stream, a, before);
}

}  // namespace

void register_fused() {
  add<CentroidRows>(
      REID_KERNEL_NAME("online_softmax"), [](const CentroidRowsArgs& a) { return refuse_other_than_f32(a.dtype); }, centroid_rows);
  add<NearestRows>(
      REID_KERNEL_NAME("running_lists"), [](const NearestRowsArgs& a) { return refuse_other_than_f32(a.dtype); }, nearest_rows);
}

}  // namespace reid::REID_TARGET
