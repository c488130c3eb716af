#pragma once
// Inside the people wing: the nearest rows of every row, and all pairs within a radius.
//
// Design: both are defined by DistanceTiles::pair and found with a PairFilter: products by tiles decide most pairs, the
// rest are computed in double from their differences. Results depend on the features alone: not on tiles, threads or the
// instruction set. A set among itself is multiplied on and above the diagonal only (an accelerator's lists: all over). No N x N numbers
// anywhere. On an accelerator (pairs.device()) accelerator_search.h does the work.

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "people/distances.h"
#include "people/pair_filter.h"

namespace reid {

struct Neighbors {
  int64_t width = 0;             // entries of a row
  std::vector<int32_t> index;    // [count, width] rows of b
  std::vector<double> distance;  // [count, width], as pair() has it; empty unless asked for
  std::vector<double> farthest;  // [count] the largest distance of a row of a to any row of b; empty unless asked for

  std::span<const int32_t> row(int64_t i, int64_t first) const {
    return {index.data() + i * width, static_cast<size_t>(std::min(first, width))};
  }
  std::span<const double> distances(int64_t i, int64_t first) const {
    return {distance.data() + i * width, static_cast<size_t>(std::min(first, width))};
  }
};

struct NeighborOptions {
  bool distances = false;  // 8 bytes an entry
  bool farthest = false;   // costs as much as one entry more in each row
  Progress progress;
};

// The `width` rows of b nearest to every row of a, by increasing distance, ties by index. In a set among itself the row itself
// stands first, whatever lies at distance 0. `width` >= 1 is cut at the number of rows of b; fewer than 2^31 of those.
// Memory beside the features, or on an accelerator there: neighbor_bytes(). Cost: the matrix product (half of it for a set among itself), a
// pair() for each entry, and one for each pair whose distance to the last entry of a list is below the filter's bound. Many equal distances
// (thousands of equal rows) cost a pair() for each pair.
Neighbors nearest_neighbors(const DistanceTiles& pairs, int64_t width, const NeighborOptions& options = {});
int64_t neighbor_bytes(int64_t rows_a, int64_t rows_b, int64_t columns, bool same, int64_t width, bool distances, Device device = {});

// All pairs with pair(i, j) <= radius: calls use(i, columns) from one thread in a fixed order, `columns` ascending and never
// empty, several times for a row. A set among itself: pairs i < j, each once. Memory: the filter's and 4 bytes for each pair
// of one tile, radius_bytes(); cost: the matrix product (half) and a pair() for each pair nearer to the radius than the filter's bound.
void for_each_pair_within(const DistanceTiles& pairs, double radius, const Progress& progress,
                          FunctionRef<void(int64_t i, std::span<const int32_t> columns)> use);
int64_t radius_bytes(int64_t rows_a, int64_t rows_b, int64_t columns, bool same, Device device = {});

// pair() of the (i, j) that stand one behind the other, measured where pairs.device() says.
std::vector<double> pair_distances(const DistanceTiles& pairs, const std::vector<int32_t>& indices);

}  // namespace reid
