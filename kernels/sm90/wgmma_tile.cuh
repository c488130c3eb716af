#pragma once
// Tiles of products of bf16 matrices for Hopper: the copy engine fetches, warpgroups multiply, nobody waits for addresses.
//
// Map: a block of 9 warps makes 128 x 128 sums. Two warpgroups hold 64 x 128 each in registers; one thread of the ninth warp tells the copy
// engine which boxes to bring into four stages of 32 KB (64 steps of depth of both operands). A stage has two barriers: `full` ends its
// phase when the boxes' bytes have arrived, `empty` when all 8 warps have multiplied what was there. A warpgroup keeps one group of four
// products running while it issues the next; the stage before is released when that group's predecessors are done.
// Shared memory reads of wgmma go once for 64 x 128 x 16 products, where mma.sync reads fragments for 64 x 32 x 16: the tensor core
// is fed by tiles, not by registers, which is what lifts the 65 % that mma.sync reaches.
//
// A Problem says where boxes lie and sums go:
//   int64_t n                            columns of the sums, for the launch
//   kAcrossA, kAcrossB                   whether an operand lies across depth (hopper.cuh)
//   steps(place)                         how many times 64 steps of depth
//   load_a(tile, place, step, barrier), load_b(tile, place, step, barrier)      16 KB each
//   line(place, row)                     the result's row, 0 to 127 of the block; null beyond the extents
//   store(line, column j, two neighboring sums)      for any even j: it leaves out what is beyond n
// It may ask for the moments of its columns (gemm/moments.cuh), of bf16 results, where every row of a tile is one of the result:
//   moments, store_moments(place, column j, moments)      a member of that name; for j < n

#include "gemm/moments.cuh"
#include "sm90/device.cuh"

namespace reid::REID_TARGET {

inline constexpr int kWgmmaTile = 128, kWgmmaDepth = 64, kWgmmaStages = 4;
inline constexpr int kWgmmaConsumers = 256, kWgmmaThreads = kWgmmaConsumers + kWarpSize;
inline constexpr int kWgmmaOperand = kWgmmaTile * kWgmmaDepth;  // elements
inline constexpr unsigned kWgmmaStageBytes = 2 * kWgmmaOperand * sizeof(bf16);
inline constexpr size_t kWgmmaBytes = size_t{kWgmmaStages} * (kWgmmaStageBytes + 2 * sizeof(Mbarrier));
inline constexpr int kWgmmaParts = kWgmmaConsumers / kWarpSize, kWgmmaPartRows = kWgmmaTile / kWgmmaParts;  // of moments: a warp's
template <class Problem>
inline constexpr size_t kWgmmaMomentsBytes = kTakesMoments<Problem> ? kWgmmaParts* kWgmmaTile * sizeof(Moments) : 0;

// Which sums a block makes. part: what the Problem cuts its work into beside tiles, such as chunks of depth.
struct WgmmaPlace {
  int part, row, column;  // row, column: of tiles
};

// Where an operand's 64 rows or columns from `place`, 16 steps from `depth`, begin in its tile.
template <bool across>
__device__ const bf16* wgmma_part(const bf16* tile, int place, int depth) {
  return across ? tile + place / 64 * (64 * kWgmmaDepth) + depth * 64 : tile + place * kWgmmaDepth + depth;
}
inline constexpr unsigned kWgmmaLeading = 64 * kWgmmaDepth * sizeof(bf16);  // from 64 places to the next, across depth

template <class Problem>
__device__ void wgmma_produce(const Problem& problem, bf16* stages, Mbarrier* full, Mbarrier* empty, const WgmmaPlace& at) {
  const int steps = problem.steps(at);
  for (int step = 0; step < steps; ++step) {
    const int s = step % kWgmmaStages, round = step / kWgmmaStages;
    if (round > 0) mbarrier_wait(&empty[s], static_cast<unsigned>(round - 1) % 2);
    mbarrier_arrive_expecting(&full[s], kWgmmaStageBytes);
    problem.load_a(stages + 2 * s * kWgmmaOperand, at, step, &full[s]);
    problem.load_b(stages + (2 * s + 1) * kWgmmaOperand, at, step, &full[s]);
  }
}

template <class Problem>
__device__ void wgmma_consume(int steps, const bf16* stages, Mbarrier* full, Mbarrier* empty, float (&sums)[64]) {
  const int first_row = static_cast<int>(threadIdx.x) / 128 * 64;
  const bool speaks = threadIdx.x % kWarpSize == 0;  // for its warp
  for (int step = 0; step < steps; ++step) {
    const int s = step % kWgmmaStages;
    mbarrier_wait(&full[s], static_cast<unsigned>(step / kWgmmaStages) % 2);
    const bf16 *a = stages + 2 * s * kWgmmaOperand, *b = a + kWgmmaOperand;
    wgmma_fence();
    UNROLL
    for (int k = 0; k < kWgmmaDepth; k += 16) {
      wgmma_m64n128k16<Problem::kAcrossA, Problem::kAcrossB>(sums, wgmma_part<Problem::kAcrossA>(a, first_row, k), kWgmmaLeading,
                                                             wgmma_part<Problem::kAcrossB>(b, 0, k), kWgmmaLeading);
    }
    wgmma_commit();
    wgmma_wait<1>();
    if (step > 0 && speaks) mbarrier_arrive(&empty[(step - 1) % kWgmmaStages]);
  }
  wgmma_wait<0>();
}

template <class Problem>
__device__ void wgmma_store(const Problem& problem, const WgmmaPlace& at, const float (&sums)[64]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize, row = static_cast<int>(threadIdx.x) / kWarpSize * 16 + lane / 4;
  auto* const upper = problem.line(at, row);
  auto* const lower = problem.line(at, row + 8);
  UNROLL
  for (int i = 0; i < 64; i += 4) {
    const int64_t j = int64_t{at.column} * kWgmmaTile + i * 2 + lane % 4 * 2;
    if (upper) problem.store(upper, j, sums[i], sums[i + 1]);
    if (lower) problem.store(lower, j, sums[i + 2], sums[i + 3]);
  }
}

// The moments of the tile's columns over a warp's 16 rows. 32 columns at a time: all of them would not fit into registers beside the sums.
__device__ inline void wgmma_moments(const float (&sums)[64], Moments* parts) {
  UNROLL
  for (int first = 0; first < 64; first += 16) {
    Moments own[8];
    UNROLL
    for (int c = 0; c < 8; ++c) {
      own[c] = merge_all<2>([&](int half) { return Moments{to_float(to_bf16(sums[first + c / 2 * 4 + half * 2 + c % 2])), 0}; }, 1);
    }
    merge_lanes(own, 2, parts + static_cast<int>(threadIdx.x) / kWarpSize * kWgmmaTile + 2 * first);
  }
}

template <class Problem>
__global__ void __launch_bounds__(kWgmmaThreads, 1) wgmma_kernel(const Problem GRID_CONSTANT problem, int tiles_m, int tiles_n) {
  bf16* const stages = shared_dynamic<bf16>();  // [kWgmmaStages, a and b]; ordered by the barriers behind it
  auto* const full = reinterpret_cast<Mbarrier*>(stages + 2 * kWgmmaStages * kWgmmaOperand);
  Mbarrier* const empty = full + kWgmmaStages;
  const int tile_row = static_cast<int>(blockIdx.x) / tiles_n;
  const WgmmaPlace at{tile_row / tiles_m, tile_row % tiles_m, static_cast<int>(blockIdx.x) % tiles_n};
  if (threadIdx.x == 0) {
    for (int s = 0; s < kWgmmaStages; ++s) mbarrier_init(&full[s], 1), mbarrier_init(&empty[s], kWgmmaConsumers / kWarpSize);
    mbarrier_fence_init();
  }
  __syncthreads();
  auto* const parts =
      reinterpret_cast<Moments*>(empty + kWgmmaStages);  // [kWgmmaParts, kWgmmaTile]; written before the barrier, read after
  if (threadIdx.x >= kWgmmaConsumers) {
    if (threadIdx.x == kWgmmaConsumers) wgmma_produce(problem, stages, full, empty, at);
    if constexpr (!kTakesMoments<Problem>) return;  // no barrier of the block follows
  } else {
    float sums[64] = {};
    wgmma_consume<Problem>(problem.steps(at), stages, full, empty, sums);
    if constexpr (kTakesMoments<Problem>) wgmma_moments(sums, parts);  // first: behind the stores, addresses spill
    wgmma_store(problem, at, sums);
  }
  if constexpr (kTakesMoments<Problem>) {
    __syncthreads();
    merge_warps<kWgmmaParts, kWgmmaTile>(parts, kWgmmaPartRows, [&](int column, const Moments& all) {
      const int64_t j = int64_t{at.column} * kWgmmaTile + column;
      if (j < problem.n) problem.store_moments(at, j, all);
    });
  }
}

template <class Problem>
void run_wgmma(const Problem& problem, int64_t parts, int64_t tiles_m, Stream& stream) {
  const int64_t tiles_n = ceil_div(problem.n, kWgmmaTile), blocks = parts * tiles_m * tiles_n;
  if (blocks == 0) return;
  launch(wgmma_kernel<Problem>, blocks_for(blocks, 1), kWgmmaThreads, kWgmmaBytes + kWgmmaMomentsBytes<Problem>, stream, problem,
         static_cast<int>(tiles_m), static_cast<int>(tiles_n));
}

}  // namespace reid::REID_TARGET
