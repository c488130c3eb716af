#pragma once
// Means of the columns of a block's tile and squared deviations from them, of the values as they are stored: what the norm behind a
// convolution asks for, while the tile is in registers. In the same way sums, which the norm before a data's gradient asks for.
//
// Two halves of as many values each are merged (Chan, Golub and LeVeque, The American Statistician 37(3), 1983):
//   m = (m_a + m_b) / 2,   M = M_a + M_b + (m_b - m_a)^2 n / 2,   n: values of a half
// from single values, whose M is 0, to all rows of a block. Squares are only taken of differences, so that nothing cancels where a mean is
// large beside the deviation, and a value passes log2 of the rows roundings.
//
// Map: of fragments as mma and wgmma leave them. Of 8 columns lane l holds l % 4 * 2 and the next, in every eighth row from l / 4. A thread
// merges its own rows; then the 8 lanes that share columns give each other the half that the other goes on with, three times: each ends
// with an eighth of the columns, and nothing is computed twice. Warps meet in shared memory.

#include "merge.cuh"

namespace reid::REID_TARGET {

// A Problem that takes them has a member `moments`, and store_moments.
template <class Problem>
inline constexpr bool kTakesMoments = requires {
  &Problem::moments;
};

// Of halves of `each` values.
__device__ inline Moments merged(const Moments& a, const Moments& b, float each) {
  const float difference = b.mean - a.mean;
  return {a.mean + 0.5f * difference, a.squares + b.squares + difference * difference * (0.5f * each)};
}

// What the lane across has.
__device__ inline Moments exchanged(const Moments& own, int bit) {
  return {__shfl_xor_sync(0xFFFFFFFFu, own.mean, bit), __shfl_xor_sync(0xFFFFFFFFu, own.squares, bit)};
}
__device__ inline GradientSums exchanged(const GradientSums& own, int bit) {
  return {__shfl_xor_sync(0xFFFFFFFFu, own.sum, bit), __shfl_xor_sync(0xFFFFFFFFu, own.dot, bit)};
}

// Of part(first), part(first + 1), ..., kCount (a power of 2) in all, of `each` values.
template <int kCount, class F>
__device__ auto merge_all(F part, float each, int first = 0) {
  if constexpr (kCount == 1) {
    return part(first);
  } else {
    return merged(merge_all<kCount / 2>(part, each, first), merge_all<kCount / 2>(part, each, first + kCount / 2), each * (kCount / 2));
  }
}

// Two lanes that differ in kBit hold the same columns over `each` rows each: one goes on with the first half of them, one with the second.
template <int kColumns, int kBit, class Share>
__device__ void share_columns(Share* own, float each) {
  const bool second = (threadIdx.x & kBit) != 0;
  UNROLL
  for (int c = 0; c < kColumns / 2; ++c) {
    const Share kept = second ? own[c + kColumns / 2] : own[c], given = second ? own[c] : own[c + kColumns / 2];
    own[c] = merged(kept, exchanged(given, kBit), each);
  }
}

// own: a lane's columns, two of each fragment, over `each` rows. Their shares over the rows of the warp go to columns [kColumns * 4].
template <class Share, int kColumns>
__device__ void merge_lanes(Share (&own)[kColumns], float each, Share* columns) {
  share_columns<kColumns, 4>(own, each);
  share_columns<kColumns / 2, 8>(own, 2 * each);
  share_columns<kColumns / 4, 16>(own, 4 * each);
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int first = lane / 4 % 2 * (kColumns / 2) + lane / 8 % 2 * (kColumns / 4) + lane / 16 * (kColumns / 8);
  UNROLL
  for (int c = 0; c < kColumns / 8; ++c) columns[(first + c) / 2 * 8 + lane % 4 * 2 + (first + c) % 2] = own[c];
}

// parts [kParts, kColumns] over `each` rows: column threadIdx.x over all, for store(column, share).
template <int kParts, int kColumns, class Share, class F>
__device__ void merge_warps(const Share* parts, float each, F store) {
  const int column = static_cast<int>(threadIdx.x);
  if (column < kColumns) store(column, merge_all<kParts>([&](int part) { return parts[part * kColumns + column]; }, each));
}

}  // namespace reid::REID_TARGET
