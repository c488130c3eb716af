#pragma once
// What blocks of rows left of their channels, sums or moments, merged to what all rows make of them.
//
// Map: a block for 8 neighboring channels of a group, 32 bytes or more of every item. Its threads are 8 lanes by up to 64 slices: a slice
// merges neighboring items in order, then slices merge in pairs, as a tree. One thread for each channel would wait for 2048 loads one
// after the other behind the stem at batch 64: here it is 32. The order depends on the number of items alone.

#include "prims.cuh"
#include "reid/engine/op_args.h"

namespace reid::REID_TARGET {

struct alignas(8) Moments {
  float mean, squares;  // squares: the sum of squared deviations from the mean
};

inline constexpr int kMergeLanes = 8, kMostMergeSlices = 64;

inline unsigned merge_blocks(int64_t groups, int64_t count) { return blocks_for(ceil_div(count, kMergeLanes) * groups, 1); }
inline unsigned merge_threads(int64_t items) {
  int slices = kWarpSize / kMergeLanes;
  while (slices < kMostMergeSlices && slices < items) slices *= 2;
  return static_cast<unsigned>(slices * kMergeLanes);
}

// A thread's part of a merge of `items` items of `count` channels: items begin, begin + 1, ... below end.
struct MergePlace {
  int slice, slices, begin, end;
  int64_t group, column;
  bool live;  // the tile of channels may stick out

  __device__ MergePlace(int64_t count, int items, unsigned block = blockIdx.x) {
    const int64_t tiles = (count + kMergeLanes - 1) / kMergeLanes;
    slice = static_cast<int>(threadIdx.x) / kMergeLanes, slices = static_cast<int>(blockDim.x) / kMergeLanes;
    const int each = (items + slices - 1) / slices;
    begin = slice * each, end = begin + each < items ? begin + each : items;
    group = block / tiles, column = block % tiles * kMergeLanes + static_cast<int>(threadIdx.x) % kMergeLanes;
    live = column < count;
  }
  __device__ bool writes() const { return slice == 0 && live; }
};

// The slices' shares as one, which those that write get. `shares` is an array of the block, of a place for each thread: in a step of the
// tree the lower half is written, the upper half read.
template <class Share, class Join>
__device__ Share merge_slices(const MergePlace& at, Share* shares, Share own, Join join) {
  Share* place = shares + threadIdx.x;
  *place = own;
  for (int half = at.slices / 2; half > 0; half /= 2) {
    __syncthreads();
    if (at.slice < half) *place = own = join(own, place[half * kMergeLanes]);
  }
  return own;
}

// y [count] = sum over parts [number, count], or y +=
void add_parts(const float* parts, int64_t number, int64_t count, float* y, bool accumulate, Stream& stream);

// A channel's gradients d that reach a norm: their sum, and that of their products with z, or with what z is made of.
struct alignas(8) GradientSums {
  float sum, dot;
};
__device__ inline GradientSums merged(const GradientSums& a, const GradientSums& b, float = 0) { return {a.sum + b.sum, a.dot + b.dot}; }
// sums, dots [2, groups, items, count] are added up to all_sums, all_dots [groups, count].
void merge_sums(const float* sums, int64_t groups, int64_t items, int64_t count, float* all_sums, float* all_dots, Stream& stream);

// How moments lie: those of blocks of `rows` rows, the last of a group may have fewer; [blocks, channels], from the map's channel `first`
// on.
struct MomentsLayout {
  int64_t rows, channels, first;
};
// Writes mean and variance of each of `number` (1 or 2) windows in one launch; x is not read.
void merge_moments(const Moments* moments, const MomentsLayout& layout, const NormStatisticsArgs* windows, int number, Stream& stream);

}  // namespace reid::REID_TARGET
