#pragma once
// The register tile: what matrix products, implicit-GEMM convolutions and distances of rows have in common.
//
//   sum[i, j] = sum over l of term(a(i, l), b(l, j)),   l = 0, 1, ..., depth - 1 in this order
//
// Map: 256 threads make a tile of kM x kN sums, each thread a patch of kM/16 x kN/16 in its registers. 16 steps of l at a time are fetched
// to shared memory, where every element serves kN (kM) sums; from there a thread reads 2 patches' sides for a patch's products. A step's
// sums are added in order, whatever the tile: a sum does not depend on where in a tile it stands, nor on its neighbors.
//
// A Problem says what a and b are. To find an element it splits the work, so that what depends on i, on j or on l alone is computed once:
//   Element                                      float or bf16; the tensor cores' tiles (mma_tile.cuh) take bf16 only
//   int64_t m, n                                 extents; batches of such problems are counted by the launch
//   depth_of(batch)                              the extent along l
//   kAlongDepthA, kAlongDepthB                   where a step along l is the step to the neighbor in memory (else along i, j)
//   a_row(batch, i), b_column(batch, j)          what an i or a j means: anything
//   a_depth(batch, l), b_depth(batch, l)         what an l means
//   a(row, depth), b(depth, column)              where the element stands; null for a zero
//   term(sum, a, b)                              sum with one more term
//   store(batch, i, j, sum)                      for i < m, j < n

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
__global__ void __launch_bounds__(kTileThreads, kM* kN > 64 * 64 ? 1 : 2)
    register_tile_kernel(Problem problem, int64_t tiles_m, int64_t tiles_n) {
  after_predecessors();
  constexpr int kRows = kM / 16, kColumns = kN / 16;  // of a thread's patch
  using FetchA = Fetch<kM, Problem::kAlongDepthA>;
  using FetchB = Fetch<kN, Problem::kAlongDepthB>;
  // Written before the first barrier of a step, read before the second; four more columns keep 16-byte alignment and spread the banks.
  SHARED_ARRAY(float, a_tile, kTileDepth*(kM + 4));
  SHARED_ARRAY(float, b_tile, kTileDepth*(kN + 4));
  const int64_t i0 = blockIdx.x / tiles_n % tiles_m * kM, j0 = blockIdx.x % tiles_n * kN, batch = blockIdx.x / tiles_n / tiles_m;

  decltype(problem.a_row(batch, i0)) rows[FetchA::kOwn];
  decltype(problem.b_column(batch, j0)) columns[FetchB::kOwn];
  UNROLL
  for (int u = 0; u < FetchA::kOwn; ++u) rows[u] = problem.a_row(batch, i0 + FetchA::place() + u * FetchA::kStep);
  UNROLL
  for (int u = 0; u < FetchB::kOwn; ++u) columns[u] = problem.b_column(batch, j0 + FetchB::place() + u * FetchB::kStep);

  const auto fetched = [](const auto* element) { return element ? to_float(*element) : 0; };
  float sums[kRows][kColumns] = {};
  const int64_t depth_end = problem.depth_of(batch);
  const int row = static_cast<int>(threadIdx.x) / 16 * kRows, column = static_cast<int>(threadIdx.x) % 16 * kColumns;
  for (int64_t l0 = 0; l0 < depth_end; l0 += kTileDepth) {
    for (int v = 0; v < FetchA::kOwnDepths; ++v) {
      const int l = FetchA::depth() + v * FetchA::kDepthStep;
      const auto depth = problem.a_depth(batch, l0 + l);
      for (int u = 0; u < FetchA::kOwn; ++u) {
        a_tile[l * (kM + 4) + FetchA::place() + u * FetchA::kStep] = fetched(problem.a(rows[u], depth));
      }
    }
    for (int v = 0; v < FetchB::kOwnDepths; ++v) {
      const int l = FetchB::depth() + v * FetchB::kDepthStep;
      const auto depth = problem.b_depth(batch, l0 + l);
      for (int u = 0; u < FetchB::kOwn; ++u) {
        b_tile[l * (kN + 4) + FetchB::place() + u * FetchB::kStep] = fetched(problem.b(depth, columns[u]));
      }
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
  UNROLL
  for (int r = 0; r < kRows; ++r) {
    UNROLL
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

// Matrices in memory: element (i, l) of a batch's a stands at i * step + l * depth_step, element (l, j) of b at l * depth_step + j * step.
// Beyond the extents there are zeros.
template <class T>
struct Operand {
  const T* data;
  int64_t batch_step, step, depth_step;  // step: along i or j
};
// A row of a or a column of b: its first element, or null beyond the extent; and a step along l from there, negative beyond the extent.
template <class T>
using Line = const T*;
using Depth = int64_t;
template <class T>
__device__ const T* element_at(Line<T> line, Depth offset) {
  return line && offset >= 0 ? line + offset : nullptr;
}

// A and B: types of the operands.
template <class A, class B, bool kAlongA, bool kAlongB>
struct MatrixProblem {
  using Element = A;
  static constexpr bool kAlongDepthA = kAlongA, kAlongDepthB = kAlongB;
  static constexpr bool kVectors = false;  // results are stored one by one (mma_tile.cuh)
  int64_t m, n, depth;
  Operand<A> left;
  Operand<B> right;

  __device__ int64_t depth_of(int64_t) const { return depth; }
  __device__ Line<A> a_row(int64_t batch, int64_t i) const { return i < m ? left.data + batch * left.batch_step + i * left.step : nullptr; }
  __device__ Line<B> b_column(int64_t batch, int64_t j) const {
    return j < n ? right.data + batch * right.batch_step + j * right.step : nullptr;
  }
  __device__ Depth a_depth(int64_t, int64_t l) const { return l < depth ? l * left.depth_step : -1; }
  __device__ Depth b_depth(int64_t, int64_t l) const { return l < depth ? l * right.depth_step : -1; }
  __device__ const A* a(Line<A> row, Depth d) const { return element_at(row, d); }
  __device__ const B* b(Depth d, Line<B> column) const { return element_at(column, d); }
  __device__ const A* any_a() const { return left.data; }
  __device__ const B* any_b() const { return right.data; }
  __device__ static float term(float sum, float x, float y) { return sum + x * y; }
};

}  // namespace reid::REID_TARGET
