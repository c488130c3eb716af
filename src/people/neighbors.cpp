#include "people/neighbors.h"

namespace reid {

namespace {

// One pass with the nearest so far in order: most entries fail the first comparison. Ties keep the order of the indices.
template <class T>
void rank_tile(int64_t begin, const Tensor& tile, Neighbors& ranking) {
  const int64_t columns = tile.dim(1), width = ranking.width;
  const T* distances = tile.data<T>();
  parallel_for(tile.dim(0), 8, [&](int64_t first, int64_t last, int) {
    for (int64_t r = first; r < last; ++r) {
      const T* d = distances + r * columns;
      int32_t* nearest = ranking.index.data() + (begin + r) * width;
      nearest[0] = static_cast<int32_t>(begin + r);
      int64_t held = 1;
      for (int64_t j = 0; j < columns; ++j) {
        if (j == begin + r || (held == width && (width == 1 || d[j] >= d[nearest[held - 1]]))) continue;
        int64_t place = held < width ? held++ : width - 1;
        for (; place > 1 && d[nearest[place - 1]] > d[j]; --place) nearest[place] = nearest[place - 1];
        nearest[place] = static_cast<int32_t>(j);
      }
    }
  });
}

}  // namespace

Neighbors nearest_neighbors(const DistanceTiles& tiles, int64_t width) {
  Neighbors ranking;
  ranking.width = std::min(width, tiles.count());
  ranking.index.resize(static_cast<size_t>(tiles.count() * ranking.width));
  for_each_tile(tiles, [&](int64_t begin, const Tensor& tile) {
    if (tiles.dtype() == DType::f32) {
      rank_tile<float>(begin, tile, ranking);
    } else {
      rank_tile<double>(begin, tile, ranking);
    }
  });
  return ranking;
}

}  // namespace reid
