#pragma once
// Inside the people wing: the searches of neighbors.h and of evaluation/standing.h where features lie on an accelerator.
//
// Design: the same bounds and the same exact distances as on the CPU, hence the same results bit for bit. Products by tiles, what they
// decide, and the distances in double of what they leave open are computed there (op_args_pairs.h); the host gets pairs, lists and counts.

#include "people/neighbors.h"

namespace reid {

// Calls use(pairs, distances) with all (i, j) of a tile that reach a bar, product - edges[j] >= bars[i], by row, then column, some thousand
// rows at most at a time; `above`: those with j > i. [2 pairs] rows of a and of b; pair() of each.
using UsePairs = FunctionRef<void(std::span<const int32_t> pairs, std::span<const double> distances)>;

// pair() of the (i, j) that stand one behind the other.
std::vector<double> distances_there(const DistanceTiles& pairs, const std::vector<int32_t>& indices);

// For pairs.device() other than the CPU: nearest_neighbors() and for_each_pair_within() hand over to these.
Neighbors nearest_there(const DistanceTiles& pairs, const PairFilter& filter, int64_t width, const NeighborOptions& options);
void for_each_pair_within_there(const DistanceTiles& pairs, const PairFilter& filter, double radius, const Progress& progress,
                                FunctionRef<void(int64_t i, std::span<const int32_t> columns)> use);

// Places in the rankings of all rows of a, and which pairs come before them: RankedTile in op_args_pairs.h. before[p] counts the pairs that
// are decided; use(pairs, distances) gets the others.
struct RankedPlaces {
  std::vector<float> sure_edges, maybe_edges;  // [rows of b]
  std::vector<int32_t> first;                  // [rows of a + 1]
  std::vector<float> sure_bars, maybe_bars;    // [first.back()], descending for each row
};
std::vector<int32_t> count_before_there(const DistanceTiles& pairs, const PairFilter& filter, const RankedPlaces& places, UsePairs use);

inline int64_t pairs_at_a_time = int64_t{1} << 22;  // 64 MB there; tests of several parts lower it

}  // namespace reid
