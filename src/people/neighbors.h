#pragma once
// Inside the people wing: the nearest rows of every row.

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "people/distances.h"

namespace reid {

// The nearest `width` rows of every row of a set among themselves, by increasing distance, the row itself first, then ties by index.
struct Neighbors {
  int64_t width = 0;
  std::vector<int32_t> index;  // [N, width]
  std::span<const int32_t> row(int64_t i, int64_t first) const {
    return {index.data() + i * width, static_cast<size_t>(std::min(first, width))};
  }
};

Neighbors nearest_neighbors(const DistanceTiles& tiles, int64_t width);  // width is cut at N

}  // namespace reid
