#pragma once
// The tiles of wgmma_tile.cuh by as many blocks as a device has processors: each stays for several, one after the other.

#include <algorithm>

#include "sm90/wgmma_tile.cuh"

namespace reid::REID_TARGET {

// Tiles in bands of 16 rows, down a band's columns one after the other: those that 132 processors work on together are about 2048 x 2112
// sums, so that their boxes come from L2 again and again.
struct WgmmaBands {
  static constexpr int kRows = 16;  // of tiles
  int tiles_m, tiles_n;
  __host__ __device__ int tiles() const { return tiles_m * tiles_n; }
  __device__ WgmmaPlace place(int tile) const {
    const int band = tile / (kRows * tiles_n), first = band * kRows, rows = tiles_m - first < kRows ? tiles_m - first : kRows;
    const int within = tile - first * tiles_n, column = within / rows;
    return {0, first + within - column * rows, column};
  }
};

// Blocks stay for every gridDim.x-th tile: the producer is at the next one's boxes while the consumers store.
template <class Problem>
__global__ void __launch_bounds__(WgmmaBlock<Problem>::kThreads, 1)
    wgmma_bands_kernel(const Problem GRID_CONSTANT problem, WgmmaBands bands) {
  after_predecessors();
  using Block = WgmmaBlock<Problem>;
  const WgmmaRing<Problem> ring;
  const int stride = static_cast<int>(gridDim.x);
  int begin = 0;
  if (threadIdx.x >= Block::kConsumers) {
    if (threadIdx.x > Block::kConsumers) return;
    for (int tile = static_cast<int>(blockIdx.x); tile < bands.tiles(); tile += stride) {
      const WgmmaPlace at = bands.place(tile);
      wgmma_produce(problem, ring, at, begin);
      begin += problem.steps(at);
    }
    return;  // no barrier of the block follows
  }
  for (int tile = static_cast<int>(blockIdx.x); tile < bands.tiles(); tile += stride) {
    const WgmmaPlace at = bands.place(tile);
    const int steps = problem.steps(at);
    float sums[Problem::kN / 2] = {};
    wgmma_consume<Problem>(ring, begin, steps, true, sums);
    wgmma_store(problem, at, ResultsOf<Problem>(sums));
    begin += steps;
  }
}

template <class Problem>
void run_wgmma_bands(const Problem& problem, int64_t tiles_m, Stream& stream) {
  using Block = WgmmaBlock<Problem>;
  const int64_t tiles_n = ceil_div(problem.n, Block::kN);
  const unsigned tiles = blocks_for(tiles_m * tiles_n, 1);
  if (tiles == 0) return;
  launch(wgmma_bands_kernel<Problem>, std::min(tiles, static_cast<unsigned>(processors())), Block::kThreads, Block::kBytes, stream, problem,
         WgmmaBands{static_cast<int>(tiles_m), static_cast<int>(tiles_n)});
}

}  // namespace reid::REID_TARGET
