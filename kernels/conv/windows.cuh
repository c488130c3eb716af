#pragma once
// Products of windows that overlap, on tensor cores in bf16: convolutions of few channels whose rows and columns go in steps of two, the
// stem. Sums as in ForwardProblem, whose filters are folded: [K, R, 4, 8], two pixels of four channels in eight (implicit_gemm_mma.cu).
//
// Map: a block makes 128 x 64 sums, whole rows of pixels, with 4 warps. It keeps the rows of x that these meet in shared memory, folded:
// each pixel of a fragment has its 16 bytes, two taps of it, where its window lies, and ldmatrix takes the address of each. A row of the
// filter, four folded taps, is a step of 32 terms.
// Bytes from L2 for 128 pixels of maps of 64 columns, filters of 7 x 7: 28 KB of filters and 7 KB of x, where patches would be 57 KB.
// Shared memory: 28 KB of filters; 10 KB of x, then 18 KB of results: three blocks a processor. No version was measured yet.

#include <algorithm>

#include "conv/gather.cuh"
#include "gemm/mma_tile.cuh"

namespace reid::REID_TARGET {

// What a tile of pixels meets.
struct Windows {
  static constexpr int kPixels = 128, kTaps = 4;  // folded taps of a filter's row
  int filter_rows;
  int rows, columns;  // of x, folded
  Divisor by_columns;
  template <class Problem>
  explicit Windows(const Problem& p)
      : filter_rows(static_cast<int>(p.depth / (p.s * p.channels))),
        rows((kPixels / p.q - 1) * p.stride[0] + filter_rows),
        columns(p.q + kTaps - 1),
        by_columns(columns) {}
};

template <class Problem>
__global__ void __launch_bounds__(128, 3) mma_windows_kernel(Problem problem, Windows windows, int64_t tiles_m, int64_t tiles_n) {
  after_predecessors();
  using Shape = MmaShape<Windows::kPixels, 64>;
  using Sums = MmaSums<Shape>;
  using Filters = MmaOperand<Shape::kN, true>;
  static_assert(Shape::kThreads == 128 && kMmaDepth == 8 * Windows::kTaps);
  bf16* const filters = shared_dynamic<bf16>();                             // [filter rows, Filters]
  bf16* const folded = filters + windows.filter_rows * Filters::kElements;  // [rows, columns, 8]; the results when all are multiplied
  const MmaPlace at(tiles_m, tiles_n, Shape::kM, Shape::kN);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarpSize;

  for (int e = thread; e < windows.filter_rows * Filters::kElements / 8; e += Shape::kThreads) {
    const int row = e / (Filters::kElements / 8), filter = e / Filters::kPieces % Shape::kN, piece = e % Filters::kPieces;
    const int64_t j = at.j0 + filter < problem.n ? at.j0 + filter : 0;  // beyond the last any: nobody stores their sums
    const bf16* const source = problem.weight + (j * windows.filter_rows + row) * kMmaDepth + piece * 8;
    cp_async_16(filters + row * Filters::kElements + Filters::offset(filter, piece), source);
  }
  cp_async_commit();
  const Pixel<bf16> corner = problem.pixel(static_cast<int>(at.i0), true);
  for (int e = thread; e < windows.rows * windows.columns; e += Shape::kThreads) {
    const int row = windows.by_columns.quotient(e), column = windows.by_columns.remainder(e, row);
    Vec<bf16> eight;
    UNROLL
    for (int of = 0; of < 8; ++of) {
      const bf16* const element = problem.at(corner, {of % 4 < problem.c ? of % 4 : -1, row, 2 * column + of / 4});
      eight[of] = element ? *element : bf16{0};
    }
    store_vec(folded + e * 8, eight);
  }
  cp_async_wait<0>();
  __syncthreads();

  const bf16* own[Sums::kRows];  // where the window of the lane's pixel of each fragment begins; lanes from 16 on: one folded tap further
  UNROLL
  for (int f = 0; f < Sums::kRows; ++f) {
    const int pixel = Sums::row() + 16 * f + lane % 16, row = problem.by_q.quotient(pixel);
    own[f] = folded + (row * problem.stride[0] * windows.columns + problem.by_q.remainder(pixel, row) + lane / 16) * 8;
  }
  Sums sums;
  for (int row = 0; row < windows.filter_rows; ++row) {
    sums.add_by(
        [&](uint32_t(&r)[4], int place, int depth) {
          ldmatrix_x4(r, own[(place - Sums::row()) / 16] + (row * windows.columns * 8 + depth));
        },
        [&](uint32_t(&r)[4], int place, int depth) { Filters::template load<true>(r, filters + row * Filters::kElements, place, depth); });
  }
  store_vectors(problem, at, sums, folded);
  if constexpr (kTakesMoments<Problem>) store_moments(problem, at, sums);
}

template <class Problem>
void run_mma_windows(const Problem& problem, Stream& stream) {
  using Shape = MmaShape<Windows::kPixels, 64>;
  const Windows windows(problem);
  const int64_t tiles_m = ceil_div(problem.m, Shape::kM), tiles_n = ceil_div(problem.n, Shape::kN), blocks = tiles_m * tiles_n;
  if (blocks == 0) return;
  const int filters = windows.filter_rows * MmaOperand<Shape::kN, true>::kElements;
  const int then = std::max(windows.rows * windows.columns * 8, Shape::kM * (Shape::kN + 8));
  launch(mma_windows_kernel<Problem>, blocks_for(blocks, 1), Shape::kThreads, static_cast<size_t>(filters + then) * sizeof(bf16), stream,
         problem, windows, tiles_m, tiles_n);
}

}  // namespace reid::REID_TARGET
