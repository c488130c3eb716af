#pragma once
// The sums that wgmma leaves with a thread, rounded to what is stored.

#include "prims.cuh"

namespace reid::REID_TARGET {

// A thread's results. Of a row it has blocks of 8 columns, and of each block two neighbors, a pair: lane c of four has columns 2 c and the
// next. The pair of block b in the upper or lower (half 0, 1) of the thread's two rows is number 2 b + half.
template <class T, int kSums>
struct WgmmaResults {
  static constexpr int kWords = sizeof(T) / 2, kTraders = 4 / kWords;  // 32-bit words of a pair; pairs of 16 bytes
  uint32_t words[kSums / 2][kWords];

  __device__ explicit WgmmaResults(const float (&sums)[kSums]) {
    UNROLL
    for (int p = 0; p < kSums / 2; ++p) {
      if constexpr (kWords == 1) {
        words[p][0] = to_bf16_pair(sums[2 * p], sums[2 * p + 1]);
      } else {
        const float pair[] = {sums[2 * p], sums[2 * p + 1]};
        memcpy(words[p], pair, sizeof(pair));
      }
    }
  }
  // The first or second of a pair of bf16.
  __device__ float value(int pair, int which) const {
    static_assert(kWords == 1);
    return of_bf16_pair(words[pair][0], which);
  }
  // As many neighboring lanes as 16 bytes hold pairs trade those of as many blocks, from `block` on: lane l ends with the pairs of block
  // `block` + l % kTraders that the traders around it had. A transposition of blocks and lanes, a bit of their numbers at a time.
  __device__ Vec<T> vector(int block, int half) const {
    uint32_t mine[kTraders][kWords];
    UNROLL
    for (int b = 0; b < kTraders; ++b) memcpy(mine[b], words[2 * (block + b) + half], sizeof(mine[b]));
    UNROLL
    for (int bit = 1; bit < kTraders; bit *= 2) {
      const bool upper = (threadIdx.x & bit) != 0;
      UNROLL
      for (int b = 0; b < kTraders; ++b) {
        if (b & bit) continue;
        UNROLL
        for (int w = 0; w < kWords; ++w) {
          uint32_t &low = mine[b][w], &high = mine[b + bit][w];
          const uint32_t got = __shfl_xor_sync(0xFFFFFFFFu, upper ? low : high, bit);
          low = upper ? got : low, high = upper ? high : got;
        }
      }
    }
    Vec<T> all;
    memcpy(&all, mine, sizeof(all));
    return all;
  }
};
}  // namespace reid::REID_TARGET
