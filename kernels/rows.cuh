#pragma once
// A block for each row of a matrix: loops over its columns and reductions of them, in a fixed order.

#include "prims.cuh"

namespace reid::REID_TARGET {

inline constexpr int kRowThreads = 128;

struct Min {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return b < a ? b : a;
  }
};

// Calls f(column) for this thread's columns.
template <class F>
__device__ void for_columns(int64_t columns, F f) {
  for (int64_t c = threadIdx.x; c < columns; c += kRowThreads) f(c);
}
// A number that orders like the pair (key, column), below this one; no key is NaN.
inline constexpr uint64_t kLastPlace = ~uint64_t{0};
__device__ inline uint64_t place_of(float key, int64_t column) {
  uint32_t bits;
  memcpy(&bits, &key, sizeof(bits));
  bits = (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return uint64_t{bits} << 32 | static_cast<uint32_t>(column);
}
// Picks the `count` least of the block's numbers, one by one: next(last, any) is the least of this thread's own that is above `last`, or at
// all (any), kLastPlace where it has none; picked(e, number, own) hears of number e, and whether it is this thread's. Numbers are
// different; behind the last of them kLastPlace is picked. All threads of the block must call it.
template <class Next, class Picked>
__device__ void pick_least(int64_t count, Next next, Picked picked) {
  uint64_t own = next(0, true);
  for (int64_t e = 0; e < count; ++e) {
    const uint64_t least = block_reduce(own, Min());
    const bool mine = own == least && least != kLastPlace;
    if (mine) own = next(least, false);
    picked(e, least, mine);
  }
}

// The sum and the maximum of f(column) over the row, for every thread of the block, all of which must call it.
template <class F>
__device__ float row_sum(int64_t columns, F f) {
  float sum = 0;
  for_columns(columns, [&](int64_t c) { sum += f(c); });
  return block_reduce(sum, Add());
}
template <class F>
__device__ float row_max(int64_t columns, F f) {
  float top = -INFINITY;
  for_columns(columns, [&](int64_t c) { top = Max()(top, f(c)); });
  return block_reduce(top, Max());
}
// The first column for which f holds; `columns` when there is none.
template <class F>
__device__ int64_t row_first(int64_t columns, F f) {
  int64_t first = columns;
  for_columns(columns, [&](int64_t c) { first = c < first && f(c) ? c : first; });
  return block_reduce(first, Min());
}
// log of the sum of exp(f(column)), without overflow; -inf where all are.
template <class F>
__device__ float row_log_sum_exp(int64_t columns, F f) {
  const float top = row_max(columns, f);
  const float sum = row_sum(columns, [&](int64_t c) { return top == -INFINITY ? 0.0f : expf(f(c) - top); });
  return top == -INFINITY ? top : top + logf(sum);
}

// log(1 + e^x) and its derivative, without overflow.
__device__ inline float softplus(float x) { return fmaxf(x, 0) + log1pf(expf(-fabsf(x))); }
__device__ inline float sigmoid(float x) { return x > 0 ? 1 / (1 + expf(-x)) : expf(x) / (1 + expf(x)); }

template <class Kernel, class Args>
void launch_rows(Kernel kernel, const Args& a, Stream& stream) {
  if (a.rows > 0 && a.columns > 0) launch(kernel, blocks_for(a.rows, 1), kRowThreads, 0, stream, a);
}

}  // namespace reid::REID_TARGET
