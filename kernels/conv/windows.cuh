#pragma once
// Products of windows that overlap, on tensor cores in bf16: convolutions of few channels whose rows and columns go in steps of two, the
// stem. Sums as in ForwardProblem, whose filters are folded: [K, R, 4, 8], two pixels of four channels in eight (implicit_gemm_mma.cu).
//
// A block keeps the rows of x that 128 pixels, whole rows of them, meet in shared memory, folded: each pixel of a fragment has its 16
// bytes, two taps of it, where its window lies, and ldmatrix takes the address of each. Four folded taps, 32 terms, are a row of the
// filter.
//
// Map: forward, a block makes 128 x 64 sums with 4 warps; a row of the filter is a step. The weights' gradient [K, R, 4, 8], of filters of
// seven rows: a block makes 64 x 224 sums over a chunk of pixels, a warp those of a row of the filter; dy of the next 128 pixels comes
// while these are multiplied. Bytes from L2 for 128 pixels of maps of 64 columns, filters of 7 x 7: 7 KB of x where patches are 57 KB;
// forward 29 KB of filters, the gradient 16 KB of dy. Shared memory: forward 29 KB of filters; 10 KB of x, then 18 KB of results: three
// blocks a processor. The gradient 52 KB, two blocks. No version was measured yet.

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
  Windows(const Geometry& g, int64_t filter_rows_)
      : filter_rows(static_cast<int>(filter_rows_)),
        rows((kPixels / g.q - 1) * g.stride[0] + filter_rows),
        columns(g.q + kTaps - 1),
        by_columns(columns) {}
  int elements() const { return rows * columns * 8; }
};

// What the tile from pixel `first` on meets goes to folded [rows, columns, 8].
template <int kThreads, class Problem>
__device__ void fold_windows(const Problem& problem, const Windows& windows, int first, bf16* folded) {
  const Pixel<bf16> corner = problem.pixel(first, true);
  DO_NOT_UNROLL
  for (int e = static_cast<int>(threadIdx.x); e < windows.rows * windows.columns; e += kThreads) {
    const int row = windows.by_columns.quotient(e), column = windows.by_columns.remainder(e, row);
    const int h = corner.h + row, w = corner.w + 2 * column;
    const int64_t from = (int64_t{h} * problem.w + w) * problem.c;
    Vec<bf16> eight;
    UNROLL
    for (int of = 0; of < 8; ++of) {
      const bool there = h >= 0 && h < problem.h && w + of / 4 >= 0 && w + of / 4 < problem.w && of % 4 < problem.c;
      eight[of] = there ? corner.image[from + of / 4 * problem.c + of % 4] : bf16{0};
    }
    store_shared(folded + e * 8, eight);
  }
}

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
  fold_windows<Shape::kThreads>(problem, windows, static_cast<int>(at.i0), folded);
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
  const Windows windows(problem, problem.depth / (problem.s * problem.channels));
  const int64_t tiles_m = ceil_div(problem.m, Shape::kM), tiles_n = ceil_div(problem.n, Shape::kN), blocks = tiles_m * tiles_n;
  if (blocks == 0) return;
  const int filters = windows.filter_rows * MmaOperand<Shape::kN, true>::kElements;
  const int then = std::max(windows.elements(), Shape::kM * (Shape::kN + 8));
  launch(mma_windows_kernel<Problem>, blocks_for(blocks, 1), Shape::kThreads, static_cast<size_t>(filters + then) * sizeof(bf16), stream,
         problem, windows, tiles_m, tiles_n);
}

// --- the weights' gradient ---

struct WindowsGradientShape {  // as MmaShape
  static constexpr int kM = 64, kN = 7 * kMmaDepth, kWarpM = 64, kWarpN = 32, kWarpsM = 1, kWarpsN = 7, kThreads = kWarpsN * kWarpSize;
};

template <class Problem>
__global__ void __launch_bounds__(WindowsGradientShape::kThreads, 2)
    mma_windows_gradient_kernel(Problem problem, Windows windows, int stage, int64_t tiles_m) {
  after_predecessors();
  using Shape = WindowsGradientShape;
  using Filters = MmaOperand<Shape::kM, false>;
  constexpr int kPixels = Windows::kPixels, kSteps = kPixels / kMmaDepth;
  bf16* const stages = shared_dynamic<bf16>();  // two: dy [kSteps, Filters], then x; refilled after the barrier that follows the last use
  const MmaPlace at(tiles_m, 1, Shape::kM, Shape::kN);
  const int begin = static_cast<int>(problem.pixel_of(at.batch, 0)), end = begin + static_cast<int>(problem.depth_of(at.batch));
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kWarpSize, row = thread / kWarpSize;  // row: of the filter
  const auto fetch = [&](int first, bf16* dy) {
    DO_NOT_UNROLL
    for (int e = thread; e < kPixels * Filters::kPieces; e += Shape::kThreads) {
      const int pixel = e / Filters::kPieces, piece = e % Filters::kPieces;
      const int64_t i = at.i0 + piece * 8 < problem.m ? at.i0 + piece * 8 : 0;  // beyond the last any: nobody stores their sums
      cp_async_16(dy + pixel / kMmaDepth * Filters::kElements + Filters::offset(pixel % kMmaDepth, piece),
                  problem.dy + int64_t{first + pixel} * problem.k + i);
    }
    cp_async_commit();
    fold_windows<Shape::kThreads>(problem, windows, first, dy + kSteps * Filters::kElements);
  };
  MmaSums<Shape> sums;
  fetch(begin, stages);
  int turn = 0;
  for (int first = begin; first < end; first += kPixels, turn ^= 1) {
    cp_async_wait<0>();
    __syncthreads();
    const bf16 *const dy = stages + turn * stage, *const folded = dy + kSteps * Filters::kElements;
    if (first + kPixels < end) fetch(first + kPixels, stages + (turn ^ 1) * stage);
    DO_NOT_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      sums.add_by(
          [&](uint32_t(&r)[4], int place, int depth) { Filters::template load<false>(r, dy + step * Filters::kElements, place, depth); },
          [&](uint32_t(&r)[4], int place, int depth) {
            const int pixel = step * kMmaDepth + depth + lane % 16, line = problem.by_q.quotient(pixel);
            const int column = problem.by_q.remainder(pixel, line) + (place - MmaSums<Shape>::column()) / 8 + lane / 16;
            ldmatrix_x4_trans(r, folded + ((line * problem.stride[0] + row) * windows.columns + column) * 8);
          });
    }
  }
  store_sums(problem, at, sums);
}

// problem: of windows as they are, whose n is that of folded filters; chunks of whole tiles of pixels.
template <class Problem>
void run_mma_windows_gradient(const Problem& problem, Stream& stream) {
  using Shape = WindowsGradientShape;
  const Windows windows(problem, Shape::kWarpsN);
  const int64_t tiles_m = ceil_div(problem.m, Shape::kM), blocks = tiles_m * problem.splits;
  const int stage = Windows::kPixels * Shape::kM + windows.elements();
  launch(mma_windows_gradient_kernel<Problem>, blocks_for(blocks, 1), Shape::kThreads, 2 * static_cast<size_t>(stage) * sizeof(bf16),
         stream, problem, windows, stage, tiles_m);
}

}  // namespace reid::REID_TARGET
