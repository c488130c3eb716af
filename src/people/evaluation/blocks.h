#pragma once
// Inside the people wing: how many queries meet the gallery at a time.

#include <algorithm>
#include <cstdint>

namespace reid {

inline int64_t distances_per_block = int64_t{64} << 20;  // 256 MB in f32; tests of several blocks lower it

// Smaller blocks would cost: a matrix product packs the whole gallery anew for each block, which at 2,048 columns and 82,161 rows takes
// about as long as 60 queries. Multiples of the product's 224 rows where it matters.
inline int64_t queries_per_block(int64_t gallery) {
  const int64_t rows = std::clamp<int64_t>(distances_per_block / std::max<int64_t>(1, gallery), 1, 8192);
  return rows < 224 ? rows : rows / 224 * 224;
}

// Of how many queries the close entries (ranking.h) are held at a time: where all rows overlap, they are all of the gallery.
inline int64_t close_pairs_per_block = int64_t{1} << 22;
inline int64_t queries_per_close_block(int64_t gallery) {
  return std::clamp<int64_t>(close_pairs_per_block / std::max<int64_t>(1, gallery), 16, 1024);
}

}  // namespace reid
