#pragma once
// The tiles of wgmma_tile.cuh by as many blocks as a device has processors: each stays for several, one after the other.

#include <algorithm>

#include "sm90/wgmma_tile.cuh"

namespace reid::REID_TARGET {

// Tiles, or places of blocks that share boxes, in bands of rows, down a band's columns one after the other. In bands of 16 tiles those that
// 132 processors work on together are about 2048 x 2112 sums, so that their boxes come from L2 again and again.
struct WgmmaBands {
  int rows_m, tiles_n, band;
  __host__ __device__ int places() const { return rows_m * tiles_n; }
  __device__ WgmmaPlace place(int index, int rank) const {
    const int first = index / (band * tiles_n) * band, rows = rows_m - first < band ? rows_m - first : band;
    const int within = index - first * tiles_n, column = within / rows;
    return {0, first + within - column * rows, column, rank};
  }
};

// Blocks stay for tile after tile: the producer is at the next one's boxes while the consumers store.
template <class Problem>
__global__ void __launch_bounds__(WgmmaBlock<Problem>::kThreads, 1)
    wgmma_bands_kernel(const Problem GRID_CONSTANT problem, WgmmaBands bands) {
  after_predecessors();
  using Block = WgmmaBlock<Problem>;
  const WgmmaRing<Problem> ring;
  constexpr int kBlocks = static_cast<int>(kTogether<Problem>);
  const int first = static_cast<int>(blockIdx.x) / kBlocks, stride = static_cast<int>(gridDim.x) / kBlocks;
  const auto place = [&](int index) { return wgmma_row<Problem>(bands.place(index, static_cast<int>(blockIdx.x) % kBlocks)); };
  int begin = 0;
  if (threadIdx.x >= Block::kConsumers) {
    if (threadIdx.x > Block::kConsumers) return;
    for (int index = first; index < bands.places(); index += stride) {
      const WgmmaPlace at = place(index);
      wgmma_produce(problem, ring, at, begin);
      begin += problem.steps(at);
    }
    return;  // no barrier of the block follows
  }
  const int tiles = (bands.places() - 1 - first) / stride + 1, end = tiles * problem.steps(place(first));  // they have as many steps each
  for (int index = first; index < bands.places(); index += stride) {
    const WgmmaPlace at = place(index);
    const int steps = problem.steps(at);
    float sums[Problem::kN / 2] = {};
    wgmma_consume<Problem>(ring, begin, steps, end, sums);
    wgmma_store(problem, at, ResultsOf<Problem>(sums));
    begin += steps;
  }
}

template <class Problem>
void run_wgmma_bands(const Problem& problem, int64_t tiles_m, Stream& stream) {
  using Block = WgmmaBlock<Problem>;
  constexpr int kBlocks = static_cast<int>(kTogether<Problem>);
  const int64_t tiles_n = ceil_div(problem.n, Block::kN), rows = ceil_div(tiles_m, kBlocks);
  if (rows * tiles_n == 0) return;
  const auto at_once = static_cast<unsigned>(std::max<int64_t>(1, processors_for(kBlocks, 1) / kBlocks));
  launch_clusters(kBlocks, wgmma_bands_kernel<Problem>, std::min(blocks_for(rows * tiles_n, 1), at_once) * kBlocks, Block::kThreads,
                  Block::kBytes, stream, problem, WgmmaBands{static_cast<int>(rows), static_cast<int>(tiles_n), 16 / kBlocks});
}

}  // namespace reid::REID_TARGET
