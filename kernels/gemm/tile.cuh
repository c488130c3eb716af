#pragma once
// The register tile: what matrix products, implicit-GEMM convolutions and distances of rows have in common.
//
//   sum[i, j] = sum over l of term(a(i, l), b(l, j)),   l = 0, 1, ..., depth - 1 in this order
//
// Map: 256 threads make a tile of kM x kN sums, each thread a patch of kM/16 x kN/16 in its registers. 16 steps of l at a time are fetched
// to shared memory, where every element serves kN (kM) sums; from there a thread reads 2 patches' sides for a patch's products. A step's
// sums are added in order, whatever the tile: a sum does not depend on where in a tile it stands, nor on its neighbors.
//
// A Problem says what a and b are. To fetch an element it splits the work, so that what depends on i, on j or on l alone is computed once:
//   int64_t m, n, depth                          extents; batches of such problems are counted by the launch
//   kAlongDepthA, kAlongDepthB                   where a step along l is the step to the neighbor in memory (else along i, j)
//   a_row(batch, i), b_column(batch, j)          what an i or a j means: anything
//   a_depth(batch, l), b_depth(batch, l)         what an l means
//   a(row, depth), b(depth, column)              the element
//   term(sum, a, b)                              sum with one more term
//   store(batch, i, j, sum)

#include "prims.cuh"

namespace reid::REID_TARGET {

inline constexpr int kTileThreads = 256;
inline constexpr int kTileDepth = 16;

// How the threads share the fetching of kExtent x kTileDepth elements: each takes kOwn places along the extent, kOwnDepths along l.
template <int kExtent, bool kAlongDepth>
struct Fetch {
  static constexpr int kElements = kExtent * kTileDepth / kTileThreads;
  static constexpr int kOwn = kAlongDepth ? kElements : 1, kOwnDepths = kAlongDepth ? 1 : kElements;
  static constexpr int kStep = kAlongDepth ? kTileThreads / kTileDepth : kExtent;       // between a thread's places
  static constexpr int kDepthStep = kAlongDepth ? kTileDepth : kTileThreads / kExtent;  // between its depths
  __device__ static int place() { return static_cast<int>(threadIdx.x) / (kAlongDepth ? kTileDepth : 1) % kStep; }
  __device__ static int depth() {
    return kAlongDepth ? static_cast<int>(threadIdx.x) % kTileDepth : static_cast<int>(threadIdx.x) / kExtent;
  }
};

template <int kM, int kN, class Problem>
__global__ void __launch_bounds__(kTileThreads) register_tile_kernel(Problem problem, int64_t tiles_m, int64_t tiles_n) {
  constexpr int kRows = kM / 16, kColumns = kN / 16;  // of a thread's patch
  using FetchA = Fetch<kM, Problem::kAlongDepthA>;
  using FetchB = Fetch<kN, Problem::kAlongDepthB>;
  // Written before the first barrier of a step, read before the second; four more columns keep 16-byte alignment and spread the banks.
  SHARED_ARRAY(float, a_tile, kTileDepth*(kM + 4));
  SHARED_ARRAY(float, b_tile, kTileDepth*(kN + 4));
  const int64_t i0 = blockIdx.x / tiles_n % tiles_m * kM, j0 = blockIdx.x % tiles_n * kN, batch = blockIdx.x / tiles_n / tiles_m;

  decltype(problem.a_row(batch, i0)) rows[FetchA::kOwn];
  decltype(problem.b_column(batch, j0)) columns[FetchB::kOwn];
  for (int u = 0; u < FetchA::kOwn; ++u) rows[u] = problem.a_row(batch, i0 + FetchA::place() + u * FetchA::kStep);
  for (int u = 0; u < FetchB::kOwn; ++u) columns[u] = problem.b_column(batch, j0 + FetchB::place() + u * FetchB::kStep);

  float sums[kRows][kColumns] = {};
  const int row = static_cast<int>(threadIdx.x) / 16 * kRows, column = static_cast<int>(threadIdx.x) % 16 * kColumns;
  for (int64_t l0 = 0; l0 < problem.depth; l0 += kTileDepth) {
    for (int v = 0; v < FetchA::kOwnDepths; ++v) {
      const int l = FetchA::depth() + v * FetchA::kDepthStep;
      const auto depth = problem.a_depth(batch, l0 + l);
      for (int u = 0; u < FetchA::kOwn; ++u) a_tile[l * (kM + 4) + FetchA::place() + u * FetchA::kStep] = problem.a(rows[u], depth);
    }
    for (int v = 0; v < FetchB::kOwnDepths; ++v) {
      const int l = FetchB::depth() + v * FetchB::kDepthStep;
      const auto depth = problem.b_depth(batch, l0 + l);
      for (int u = 0; u < FetchB::kOwn; ++u) b_tile[l * (kN + 4) + FetchB::place() + u * FetchB::kStep] = problem.b(depth, columns[u]);
    }
    __syncthreads();
    for (int l = 0; l < kTileDepth; ++l) {
      float a[kRows], b[kColumns];
      for (int r = 0; r < kRows; r += 4) {
        const Vec<float> four = load_vec(a_tile + l * (kM + 4) + row + r);
        for (int i = 0; i < 4; ++i) a[r + i] = four[i];
      }
      for (int c = 0; c < kColumns; c += 4) {
        const Vec<float> four = load_vec(b_tile + l * (kN + 4) + column + c);
        for (int i = 0; i < 4; ++i) b[c + i] = four[i];
      }
      for (int r = 0; r < kRows; ++r) {
        for (int c = 0; c < kColumns; ++c) sums[r][c] = problem.term(sums[r][c], a[r], b[c]);
      }
    }
    __syncthreads();
  }
  for (int r = 0; r < kRows; ++r) {
    for (int c = 0; c < kColumns; ++c) {
      if (i0 + row + r < problem.m && j0 + column + c < problem.n) problem.store(batch, i0 + row + r, j0 + column + c, sums[r][c]);
    }
  }
}

template <int kM, int kN, class Problem>
void run_register_tile(const Problem& problem, int64_t batches, Stream& stream) {
  const int64_t tiles_m = ceil_div(problem.m, kM), tiles_n = ceil_div(problem.n, kN), blocks = tiles_m * tiles_n * batches;
  if (blocks == 0) return;
  launch(register_tile_kernel<kM, kN, Problem>, blocks_for(blocks, 1), kTileThreads, 0, stream, problem, tiles_m, tiles_n);
}

// Matrices in memory: element (i, l) of a batch's a stands at i * row_step + l * depth_step, element (l, j) of b at l * depth_step +
// j * column_step. Beyond the extents there are zeros.
struct Operand {
  const float* data;
  int64_t batch_step, step, depth_step;  // step: along i or j
};
template <bool kAlongA, bool kAlongB>
struct MatrixProblem {
  static constexpr bool kAlongDepthA = kAlongA, kAlongDepthB = kAlongB;
  int64_t m, n, depth;
  Operand left, right;

  struct Line {  // a row of a or a column of b
    const float* start;
    bool valid;
  };
  struct Depth {
    int64_t offset;
    bool valid;
  };
  __device__ Line a_row(int64_t batch, int64_t i) const { return {left.data + batch * left.batch_step + i * left.step, i < m}; }
  __device__ Line b_column(int64_t batch, int64_t j) const { return {right.data + batch * right.batch_step + j * right.step, j < n}; }
  __device__ Depth a_depth(int64_t, int64_t l) const { return {l * left.depth_step, l < depth}; }
  __device__ Depth b_depth(int64_t, int64_t l) const { return {l * right.depth_step, l < depth}; }
  __device__ static float at(const Line& line, const Depth& d) { return line.valid && d.valid ? line.start[d.offset] : 0; }
  __device__ float a(const Line& row, const Depth& d) const { return at(row, d); }
  __device__ float b(const Depth& d, const Line& column) const { return at(column, d); }
  __device__ static float term(float sum, float x, float y) { return sum + x * y; }
};

}  // namespace reid::REID_TARGET
