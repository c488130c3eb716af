#pragma once
// Sums that several blocks make in parts (split-K), added in order.

#include "prims.cuh"

namespace reid::REID_TARGET {

inline constexpr int kPartThreads = 256;

// A template, since a plain kernel in a header would be defined twice.
template <class T>
__global__ void add_parts_kernel(const T* parts, int64_t number, int64_t count, T* y, bool accumulate) {
  const int64_t i = int64_t{blockIdx.x} * kPartThreads + threadIdx.x;
  if (i >= count) return;
  T sum = parts[i];
  for (int64_t part = 1; part < number; ++part) sum += parts[part * count + i];
  y[i] = accumulate ? y[i] + sum : sum;
}

// y [count] = sum over parts [number, count], or y +=
inline void add_parts(const float* parts, int64_t number, int64_t count, float* y, bool accumulate, Stream& stream) {
  launch(add_parts_kernel<float>, blocks_for(count, kPartThreads), kPartThreads, 0, stream, parts, number, count, y, accumulate);
}

}  // namespace reid::REID_TARGET
