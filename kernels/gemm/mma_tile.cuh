#pragma once
// Tiles of products of bf16 matrices on tensor cores, with sums in f32: for the Problems of tile.cuh whose elements are bf16.
//
// Map: a block makes kM x kN sums, a warp 32 or 64 rows by 32 columns of them, in fragments of mma.m16n8k16 (mma.cuh). 32 steps of l at a
// time lie in shared memory; a warp reads 2 or 4 fragments of a and 2 of b for every 16 of them.
//
// Layout in shared memory: rows of neighbors, along l or along i (j) as in global memory, so that no fetch transposes: ldmatrix does. A row
// is cut into pieces of 8 elements (16 bytes), the unit of cp.async and of ldmatrix, and row r keeps its piece p where p ^ f(r) would be:
// eight pieces of eight neighboring rows, as ldmatrix reads them, then lie in all 32 banks. Rows of 128 bytes or more have f(r) = r % 8;
// of rows of 64 bytes two fill the banks, f(r) = r / 2 % 4.
//
// Versions, each one idea further:
//   mma_gather   elements are fetched one by one, a row's and a depth's meaning computed for each: takes any extents and alignment
//   mma_async    whole pieces by cp.async, four stages deep: while a stage is multiplied, three are on their way. The 8
//                elements of a piece must be neighbors in memory, aligned to 16 bytes, and exist together or not at all
// mma_async asks more of a Problem:
//   any_a(), any_b()             some address of the operand, which is named, not read, where there are zeros
//   kVectors                     whether results are stored as bf16, eight neighbors at once; then target(batch, i, j) says where, null:
//                                nowhere, and n is a multiple of 8
//   addend, added(target)        may be there: what is added to the sums of a target; only where addend is not null
//   finish                       may be there: a norm for results (norm.cuh), of the channels norms(batch, j), as finished(eight, norms,
//                                target) has it
// Either may be asked for the moments of its columns (moments.cuh), where tiles have no row beyond m:
//   moments                      a member of that name
//   store_moments(batch, i, j, of)               of column j's results in the rows of the tile, the first of which is i; for j < n
// A sum's terms are added in the order of l, 16 by 16 within the tensor core, whatever the tile: all tiles give the same sums.

#include "gemm/moments.cuh"
#include "gemm/tile.cuh"
#include "mma.cuh"
#include "norm.cuh"

namespace reid::REID_TARGET {

inline constexpr int kMmaDepth = 32;  // steps of l in a stage
inline constexpr int kMmaStages = 4;

template <int kM_, int kN_>
struct MmaShape {
  static constexpr int kM = kM_, kN = kN_;
  static constexpr int kWarpM = kM >= 128 ? 64 : 32, kWarpN = 32;
  static constexpr int kWarpsM = kM / kWarpM, kWarpsN = kN / kWarpN, kThreads = 32 * kWarpsM * kWarpsN;
  static constexpr int kBlocks = kThreads == 256 ? 2 : kWarpM == 64 ? 3 : 4;  // meant to share a processor: 128 or 168 registers a thread
};

// kExtent places along i or j by kMmaDepth steps of l.
template <int kExtent, bool kAlongDepth>
struct MmaOperand {
  static constexpr int kRow = kAlongDepth ? kMmaDepth : kExtent;  // elements of a row
  static constexpr int kElements = kExtent * kMmaDepth, kPieces = kRow / 8, kRows = kElements / kRow;
  __device__ static int offset(int row, int piece) { return row * kRow + (piece ^ (kRow >= 64 ? row % 8 : row / 2 % 4)) * 8; }

  // 16 places from `place` by 16 depths from `depth`: as two fragments of b, else as one of a.
  template <bool as_b>
  __device__ static void load(uint32_t (&r)[4], const bf16* tile, int place, int depth) {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize, low = lane / 8 % 2 * 8, high = lane / 16 * 8;
    place += as_b ? high : low, depth += as_b ? low : high;
    if constexpr (kAlongDepth) {
      ldmatrix_x4(r, tile + offset(place + lane % 8, depth / 8));
    } else {
      ldmatrix_x4_trans(r, tile + offset(depth + lane % 8, place / 8));
    }
  }
};

// A warp's sums.
template <class Shape>
struct MmaSums {
  static constexpr int kRows = Shape::kWarpM / 16, kColumns = Shape::kWarpN / 8;
  float d[kRows][kColumns][4] = {};

  __device__ static int row() { return static_cast<int>(threadIdx.x) / kWarpSize / Shape::kWarpsN * Shape::kWarpM; }
  __device__ static int column() { return static_cast<int>(threadIdx.x) / kWarpSize % Shape::kWarpsN * Shape::kWarpN; }

  template <class A, class B>
  __device__ void add(const bf16* a_tile, const bf16* b_tile) {
    add_by([&](uint32_t(&r)[4], int place, int depth) { A::template load<false>(r, a_tile, place, depth); },
           [&](uint32_t(&r)[4], int place, int depth) { B::template load<true>(r, b_tile, place, depth); });
  }
  // The operands load as MmaOperand does.
  template <class LoadA, class LoadB>
  __device__ void add_by(LoadA load_a, LoadB load_b) {
    UNROLL
    for (int l = 0; l < kMmaDepth; l += 16) {
      uint32_t a[kRows][4], b[kColumns / 2][4];
      UNROLL
      for (int r = 0; r < kRows; ++r) load_a(a[r], row() + 16 * r, l);
      UNROLL
      for (int c = 0; c < kColumns / 2; ++c) load_b(b[c], column() + 16 * c, l);
      UNROLL
      for (int r = 0; r < kRows; ++r) {
        UNROLL
        for (int c = 0; c < kColumns; ++c) {
          const uint32_t half[2] = {b[c / 2][c % 2 * 2], b[c / 2][c % 2 * 2 + 1]};
          mma_m16n8k16(d[r][c], a[r], half);
        }
      }
    }
  }
  // Calls f(row of the tile, column of the tile, two neighboring sums).
  template <class F>
  __device__ void each_pair(F f) const {
    const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
    UNROLL
    for (int r = 0; r < kRows; ++r) {
      UNROLL
      for (int c = 0; c < kColumns; ++c) {
        UNROLL
        for (int half = 0; half < 2; ++half) {
          f(row() + 16 * r + 8 * half + lane / 4, column() + 8 * c + lane % 4 * 2, d[r][c][2 * half], d[r][c][2 * half + 1]);
        }
      }
    }
  }
};

// Where a block's tile lies.
struct MmaPlace {
  int64_t i0, j0, batch;
  __device__ MmaPlace(int64_t tiles_m, int64_t tiles_n, int m, int n)
      : i0(blockIdx.x / tiles_n % tiles_m * m), j0(blockIdx.x % tiles_n * n), batch(blockIdx.x / tiles_n / tiles_m) {}
};

template <class Shape, class Problem>
__device__ void store_sums(const Problem& problem, const MmaPlace& at, const MmaSums<Shape>& sums) {
  sums.each_pair([&](int row, int column, float first, float second) {
    const int64_t i = at.i0 + row, j = at.j0 + column;
    if (i < problem.m && j < problem.n) problem.store(at.batch, i, j, first);
    if (i < problem.m && j + 1 < problem.n) problem.store(at.batch, i, j + 1, second);
  });
}

// The moments of the tile's columns, of the results as they are stored.
template <class Shape, class Problem>
__device__ void store_moments(const Problem& problem, const MmaPlace& at, const MmaSums<Shape>& sums) {
  using Sums = MmaSums<Shape>;
  using Element = typename Problem::Element;
  constexpr int kOwnRows = 2 * Sums::kRows, kOwnColumns = 2 * Sums::kColumns;
  SHARED_ARRAY(Moments, parts, Shape::kWarpsM * Shape::kN);  // written before the barrier, read after it
  Moments own[kOwnColumns];
  UNROLL
  for (int c = 0; c < kOwnColumns; ++c) {
    own[c] = merge_all<kOwnRows>(
        [&](int r) {
          return Moments{to_float(from_float<Element>(sums.d[r / 2][c / 2][r % 2 * 2 + c % 2])), 0};
        },
        1);
  }
  merge_lanes(own, kOwnRows, parts + Sums::row() / Shape::kWarpM * Shape::kN + Sums::column());
  __syncthreads();
  merge_warps<Shape::kWarpsM, Shape::kN>(parts, Shape::kWarpM, [&](int column, const Moments& all) {
    if (at.j0 + column < problem.n) problem.store_moments(at.batch, at.i0, at.j0 + column, all);
  });
}

// --- mma_gather ---

// One operand's tile, element by element. `find(place, l)` says where an element stands.
template <class Operand, bool kAlongDepth, int kThreads, class Find>
__device__ void gather_tile(bf16* tile, Find find) {
  for (int e = static_cast<int>(threadIdx.x); e < Operand::kElements; e += kThreads) {
    const int row = e / Operand::kRow, neighbor = e % Operand::kRow;
    const bf16* element = kAlongDepth ? find(row, neighbor) : find(neighbor, row);
    tile[Operand::offset(row, neighbor / 8) + neighbor % 8] = element ? *element : bf16{0};
  }
}

template <class Shape, class Problem>
__global__ void __launch_bounds__(Shape::kThreads) mma_gather_kernel(Problem problem, int64_t tiles_m, int64_t tiles_n) {
  after_predecessors();
  using A = MmaOperand<Shape::kM, Problem::kAlongDepthA>;
  using B = MmaOperand<Shape::kN, Problem::kAlongDepthB>;
  // Written before the first barrier of a step, read before the second.
  SHARED_ARRAY(bf16, a_tile, A::kElements);
  SHARED_ARRAY(bf16, b_tile, B::kElements);
  const MmaPlace at(tiles_m, tiles_n, Shape::kM, Shape::kN);
  const int64_t depth = problem.depth_of(at.batch);
  MmaSums<Shape> sums;
  for (int64_t l0 = 0; l0 < depth; l0 += kMmaDepth) {
    gather_tile<A, Problem::kAlongDepthA, Shape::kThreads>(
        a_tile, [&](int i, int l) { return problem.a(problem.a_row(at.batch, at.i0 + i), problem.a_depth(at.batch, l0 + l)); });
    gather_tile<B, Problem::kAlongDepthB, Shape::kThreads>(
        b_tile, [&](int j, int l) { return problem.b(problem.b_depth(at.batch, l0 + l), problem.b_column(at.batch, at.j0 + j)); });
    __syncthreads();
    sums.template add<A, B>(a_tile, b_tile);
    __syncthreads();
  }
  store_sums(problem, at, sums);
  if constexpr (kTakesMoments<Problem>) store_moments(problem, at, sums);
}

// --- mma_async ---

// How the threads share a tile's pieces: each takes kOwn rows of an operand along l (its places), or kOwn rows across (its depths).
template <class Operand, int kThreads>
struct MmaFetch {
  static constexpr int kStep = kThreads / Operand::kPieces, kOwn = Operand::kRows / kStep;
  static_assert(kThreads % Operand::kPieces == 0 && Operand::kRows % kStep == 0);
  __device__ static int row(int u) { return static_cast<int>(threadIdx.x) / Operand::kPieces + u * kStep; }
  __device__ static int piece() { return static_cast<int>(threadIdx.x) % Operand::kPieces; }
  __device__ static void copy(bf16* tile, int u, const bf16* source, const bf16* any) {
    cp_async_16(tile + Operand::offset(row(u), piece()), source ? source : any, source ? 16 : 0);
  }
};

template <class Shape, class Problem>
constexpr size_t mma_async_bytes() {
  constexpr size_t stages = size_t{kMmaStages} * (Shape::kM + Shape::kN) * kMmaDepth * sizeof(bf16);
  constexpr size_t result = Problem::kVectors ? size_t{Shape::kM} * (Shape::kN + 8) * sizeof(bf16) : 0;
  return stages > result ? stages : result;
}

// The sums as bf16, through shared memory so that a thread stores 16 neighboring bytes; an addend comes the same way. Eight more columns a
// row spread the banks. `result` lies where the stages were.
template <class Shape, class Problem>
__device__ void store_vectors(const Problem& problem, const MmaPlace& at, const MmaSums<Shape>& sums, bf16* result) {
  constexpr int kRow = Shape::kN + 8;
  const auto each_vector = [&](auto f) {
    UNROLL
    for (int own = 0; own < Shape::kM * Shape::kN / 8 / Shape::kThreads; ++own) {
      const int e = (own * Shape::kThreads + static_cast<int>(threadIdx.x)) * 8;
      const int64_t i = at.i0 + e / Shape::kN, j = at.j0 + e % Shape::kN;
      if (i >= problem.m || j >= problem.n) continue;
      if (bf16* target = problem.target(at.batch, i, j)) f(target, result + e / Shape::kN * kRow + e % Shape::kN);
    }
  };
  bool adds = false;
  if constexpr (requires { problem.addend; }) adds = problem.addend != nullptr;
  __syncthreads();
  if constexpr (requires { problem.addend; }) {
    if (adds) {
      each_vector([&](const bf16* target, bf16* vector) { *reinterpret_cast<Vec<bf16>*>(vector) = load_vec(problem.added(target)); });
      __syncthreads();
    }
  }
  sums.each_pair([&](int row, int column, float first, float second) {
    bf16* pair = result + row * kRow + column;
    if (adds) first += to_float(pair[0]), second += to_float(pair[1]);
    pair[0] = to_bf16(first), pair[1] = to_bf16(second);
  });
  __syncthreads();
  if constexpr (kFinishes<Problem>) {
    static_assert(Shape::kThreads * 8 % Shape::kN == 0, "all vectors of a thread are of the same columns");
    const int64_t j = at.j0 + static_cast<int>(threadIdx.x) * 8 % Shape::kN;
    if (j >= problem.n) return;
    const ChannelNorms<8> norms = problem.norms(at.batch, j);
    each_vector([&](bf16* target, const bf16* vector) { store_vec(target, problem.finished(load_vec(vector), norms, target)); });
  } else {
    each_vector([&](bf16* target, const bf16* vector) { store_vec(target, load_vec(vector)); });
  }
}

template <class Shape, class Problem>
__global__ void __launch_bounds__(Shape::kThreads, Shape::kBlocks) mma_async_kernel(Problem problem, int64_t tiles_m, int64_t tiles_n) {
  after_predecessors();
  using A = MmaOperand<Shape::kM, Problem::kAlongDepthA>;
  using B = MmaOperand<Shape::kN, Problem::kAlongDepthB>;
  using FetchA = MmaFetch<A, Shape::kThreads>;
  using FetchB = MmaFetch<B, Shape::kThreads>;
  constexpr int kStage = A::kElements + B::kElements;
  bf16* const stages = shared_dynamic<bf16>();  // [kMmaStages, kStage]; a stage is refilled after the barrier that follows its last use
  const MmaPlace at(tiles_m, tiles_n, Shape::kM, Shape::kN);

  // What this thread fetches: places that stay, or depths that move on; of an operand along l the places are many, across it the depths.
  constexpr int kPlacesA = Problem::kAlongDepthA ? FetchA::kOwn : 1, kPlacesB = Problem::kAlongDepthB ? FetchB::kOwn : 1;
  constexpr int kDepthsA = FetchA::kOwn / kPlacesA, kDepthsB = FetchB::kOwn / kPlacesB;
  decltype(problem.a_row(0, 0)) rows[kPlacesA];
  decltype(problem.b_column(0, 0)) columns[kPlacesB];
  UNROLL
  for (int u = 0; u < kPlacesA; ++u)
    rows[u] = problem.a_row(at.batch, at.i0 + (Problem::kAlongDepthA ? FetchA::row(u) : FetchA::piece() * 8));
  UNROLL
  for (int u = 0; u < kPlacesB; ++u) {
    columns[u] = problem.b_column(at.batch, at.j0 + (Problem::kAlongDepthB ? FetchB::row(u) : FetchB::piece() * 8));
  }
  const auto fetch = [&](int stage, int l0) {
    bf16* a_tile = stages + stage * kStage;
    UNROLL
    for (int v = 0; v < kDepthsA; ++v) {
      const auto depth = problem.a_depth(at.batch, l0 + (Problem::kAlongDepthA ? FetchA::piece() * 8 : FetchA::row(v)));
      UNROLL
      for (int u = 0; u < kPlacesA; ++u) FetchA::copy(a_tile, u + v, problem.a(rows[u], depth), problem.any_a());
    }
    UNROLL
    for (int v = 0; v < kDepthsB; ++v) {
      const auto depth = problem.b_depth(at.batch, l0 + (Problem::kAlongDepthB ? FetchB::piece() * 8 : FetchB::row(v)));
      UNROLL
      for (int u = 0; u < kPlacesB; ++u) FetchB::copy(a_tile + A::kElements, u + v, problem.b(depth, columns[u]), problem.any_b());
    }
  };
  const int64_t depth = problem.depth_of(at.batch);
  const int steps = static_cast<int>((depth + kMmaDepth - 1) / kMmaDepth);
  MmaSums<Shape> sums;
  for (int s = 0; s < kMmaStages - 1; ++s) {
    if (s < steps) fetch(s, s * kMmaDepth);
    cp_async_commit();  // an empty group keeps the count
  }
  for (int s = 0; s < steps; ++s) {
    cp_async_wait<kMmaStages - 2>();
    __syncthreads();  // stage s is there for all, and all are done with the one before
    const int next = s + kMmaStages - 1;
    if (next < steps) fetch(next % kMmaStages, next * kMmaDepth);
    cp_async_commit();
    const bf16* a_tile = stages + s % kMmaStages * kStage;
    sums.template add<A, B>(a_tile, a_tile + A::kElements);
  }
  if constexpr (Problem::kVectors) {
    store_vectors(problem, at, sums, stages);
  } else {
    store_sums(problem, at, sums);
  }
  if constexpr (kTakesMoments<Problem>) store_moments(problem, at, sums);
}

// --- launches ---

template <class Shape, class Problem>
void run_mma_gather(const Problem& problem, int64_t batches, Stream& stream) {
  const int64_t tiles_m = ceil_div(problem.m, Shape::kM), tiles_n = ceil_div(problem.n, Shape::kN), blocks = tiles_m * tiles_n * batches;
  if (blocks == 0) return;
  launch(mma_gather_kernel<Shape, Problem>, blocks_for(blocks, 1), Shape::kThreads, 0, stream, problem, tiles_m, tiles_n);
}

template <class Shape, class Problem>
void run_mma_async(const Problem& problem, int64_t batches, Stream& stream) {
  const int64_t tiles_m = ceil_div(problem.m, Shape::kM), tiles_n = ceil_div(problem.n, Shape::kN), blocks = tiles_m * tiles_n * batches;
  if (blocks == 0) return;
  launch(mma_async_kernel<Shape, Problem>, blocks_for(blocks, 1), Shape::kThreads, mma_async_bytes<Shape, Problem>(), stream, problem,
         tiles_m, tiles_n);
}

}  // namespace reid::REID_TARGET
