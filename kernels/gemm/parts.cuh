#pragma once
// Sums that several blocks make in parts (split-K), added in order.

#include "prims.cuh"

namespace reid::REID_TARGET {

inline constexpr int kPartThreads = 256;

// Steps of depth for a block: parts are made until `wanted` blocks have work, each of at least `least` steps.
inline int64_t steps_of_part(int64_t steps, int64_t tiles, int64_t wanted, int64_t least) {
  const int64_t parts = tiles < wanted ? ceil_div(wanted, tiles) : 1, each = ceil_div(steps, parts);
  return each > least ? each : least;
}

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

// Calls run(partial), which computes the parts [parts, count], and adds them up in y; one part is y itself.
template <class F>
void run_parts(int64_t parts, int64_t count, float* y, Stream& stream, F run) {
  auto* partial = parts == 1 ? y : static_cast<float*>(stream.workspace(static_cast<size_t>(parts * count) * sizeof(float)));
  run(partial);
  if (parts > 1) add_parts(partial, parts, count, y, false, stream);
}

}  // namespace reid::REID_TARGET
