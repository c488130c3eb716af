#pragma once
// Inside the people wing: the searches of neighbors.h and of evaluation/standing.h on an accelerator.
//
// Design: the exact distances of the CPU, and bounds of products that hold there, hence the same results bit for bit. Products by tiles,
// what they decide, and the distances in double of what they leave open are computed there (op_args_pairs.h); the host gets pairs, lists
// and counts. In names, "there" is where pairs.device() says.

#include "people/neighbors.h"

namespace reid {

// Hears of pairs (i, j), one behind the other, and of pair() of each.
using UsePairs = FunctionRef<void(std::span<const int32_t> pairs, std::span<const double> distances)>;

// For pairs.device() other than the CPU: what neighbors.h has hands over to these.
std::vector<double> distances_there(const DistanceTiles& pairs, const std::vector<int32_t>& indices);
Neighbors nearest_there(const DistanceTiles& pairs, const PairFilter& filter, int64_t width, const NeighborOptions& options);
void for_each_pair_within_there(const DistanceTiles& pairs, const PairFilter& filter, double radius, const Progress& progress,
                                FunctionRef<void(int64_t i, std::span<const int32_t> columns)> use);

// Places in the rankings of all rows of a (RankedTile in op_args_pairs.h). Returns for each place how many of the pairs that products
// decide come before it; `use` gets the others.
struct RankedPlaces {
  std::vector<float> sure_edges, maybe_edges;  // [rows of b]
  std::vector<int32_t> first;                  // [rows of a + 1]
  std::vector<float> sure_bars, maybe_bars;    // [first.back()], descending for each row
};
std::vector<int32_t> count_before_there(const DistanceTiles& pairs, const PairFilter& filter, const RankedPlaces& places, UsePairs use);

// What a search takes on an accelerator, the features' copies included: of lists of `width`, or (0) of pairs within a radius. f32 features.
int64_t search_bytes_there(int64_t rows_a, int64_t rows_b, int64_t columns, bool same, int64_t width);

inline int64_t pairs_at_a_time = int64_t{1} << 22;  // 64 MB there; tests of several parts lower it

}  // namespace reid
