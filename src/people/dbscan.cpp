// DBSCAN (Ester et al., KDD 1996) on neighbor lists made block by block.

#include <algorithm>
#include <limits>

#include "people/distances.h"
#include "people/jaccard.h"

namespace reid {

namespace {

constexpr int64_t kMostPairs = int64_t{1} << 31;

// Row i: neighbors[offsets[i]] .. neighbors[offsets[i + 1] - 1], ascending.
struct NeighborLists {
  std::vector<int64_t> offsets{0};
  std::vector<int32_t> neighbors;
};

void check_options(const DbscanOptions& options) {
  REID_CHECK(options.eps > 0 && options.eps <= std::numeric_limits<double>::max(), "[dbscan] eps is ", options.eps,
             ", expected a finite number above 0");
  REID_CHECK(options.min_samples >= 1, "[dbscan] min_samples is ", options.min_samples, ", expected at least 1");
}

// Appends the columns with distance <= eps of each row of the tile.
template <class T>
void append_neighbors(const Tensor& tile, double eps, NeighborLists& lists) {
  const int64_t rows = tile.dim(0), columns = tile.dim(1);
  const T limit = static_cast<T>(eps);
  const T* distances = tile.data<T>();
  std::vector<std::vector<int32_t>> found(static_cast<size_t>(rows));
  parallel_for(rows, std::max<int64_t>(1, 65536 / columns), [&](int64_t begin, int64_t end, int) {
    for (int64_t r = begin; r < end; ++r) {
      for (int64_t j = 0; j < columns; ++j) {
        if (distances[r * columns + j] <= limit) found[static_cast<size_t>(r)].push_back(static_cast<int32_t>(j));
      }
    }
  });
  for (const std::vector<int32_t>& row : found) {
    lists.neighbors.insert(lists.neighbors.end(), row.begin(), row.end());
    lists.offsets.push_back(static_cast<int64_t>(lists.neighbors.size()));
  }
  REID_CHECK(lists.offsets.back() < kMostPairs, "[dbscan] more than 2^31 pairs lie within eps = ", eps,
             ": lower eps, or cluster fewer points");
}

// Labels are those of scikit-learn: a search completes its cluster before the next one starts, so a border point has the
// number of the first cluster that reaches it. Marking points when first seen keeps the stack below N entries.
Clusters label_points(const NeighborLists& lists, int64_t min_samples) {
  const size_t count = lists.offsets.size() - 1;
  Clusters result;
  result.labels.assign(count, -1);
  const auto is_core = [&](size_t i) { return lists.offsets[i + 1] - lists.offsets[i] >= min_samples; };
  std::vector<size_t> stack;
  for (size_t seed = 0; seed < count; ++seed) {
    if (result.labels[seed] != -1 || !is_core(seed)) continue;
    result.labels[seed] = result.count;
    stack.push_back(seed);
    while (!stack.empty()) {
      const size_t i = stack.back();
      stack.pop_back();
      if (!is_core(i)) continue;
      for (int64_t at = lists.offsets[i]; at < lists.offsets[i + 1]; ++at) {
        const size_t j = static_cast<size_t>(lists.neighbors[static_cast<size_t>(at)]);
        if (result.labels[j] != -1) continue;
        result.labels[j] = result.count;
        stack.push_back(j);
      }
    }
    ++result.count;
  }
  result.noise = std::count(result.labels.begin(), result.labels.end(), int64_t{-1});
  return result;
}

template <class Tiles>
Clusters cluster_tiles(const Tiles& tiles, const DbscanOptions& options) {
  REID_CHECK(tiles.count() < std::numeric_limits<int32_t>::max(), "[dbscan] ", tiles.count(), " points, expected fewer than 2^31");
  NeighborLists lists;
  for_each_tile(tiles, [&](int64_t, const Tensor& tile) {
    if (tiles.dtype() == DType::f32) {
      append_neighbors<float>(tile, options.eps, lists);
    } else {
      append_neighbors<double>(tile, options.eps, lists);
    }
  });
  return label_points(lists, options.min_samples);
}

// A matrix the caller made, seen as tiles.
class MatrixTiles {
 public:
  explicit MatrixTiles(const Tensor& distances) : distances_(distances) {
    REID_CHECK(distances.defined() && (distances.dtype() == DType::f32 || distances.dtype() == DType::f64),
               "[dbscan] distances must be f32 or f64", distances.defined() ? str(", are ", distances.dtype()) : std::string());
    REID_CHECK(distances.shape().rank() == 2 && distances.dim(0) == distances.dim(1), "[dbscan] distances have shape ", distances.shape(),
               ", expected [N, N]");
    REID_CHECK(distances.dim(0) >= 1, "[dbscan] there are no points");
    REID_CHECK(distances.device() == Device{}, "[dbscan] distances lie on ", distances.device(), ", expected the CPU");
    if (distances.dtype() == DType::f32) {
      check<float>();
    } else {
      check<double>();
    }
  }
  int64_t count() const { return distances_.dim(0); }
  DType dtype() const { return distances_.dtype(); }
  int64_t rows_per_block() const { return std::max<int64_t>(1, (int64_t{1} << 22) / count()); }
  Tensor rows(int64_t begin, int64_t end) const { return distances_.rows(begin, end); }

 private:
  template <class T>
  void check() const {
    const std::span<const T> values = distances_.span<T>();
    const size_t n = static_cast<size_t>(count());
    for (size_t at = 0; at < values.size(); ++at) {
      REID_CHECK(values[at] >= 0, "[dbscan] the distance of points ", at / n, " and ", at % n, " is ", values[at],
                 ", expected a number of at least 0");
    }
  }
  Tensor distances_;
};

}  // namespace

Clusters dbscan(const Tensor& distances, const DbscanOptions& options) {
  check_options(options);
  return cluster_tiles(MatrixTiles(distances), options);
}

Clusters dbscan_features(const Tensor& features, Metric metric, const DbscanOptions& options) {
  check_options(options);
  return cluster_tiles(DistanceTiles(features, "[dbscan] features", metric), options);
}

Clusters dbscan_jaccard(const Tensor& features, const JaccardOptions& jaccard, const DbscanOptions& options) {
  check_options(options);
  return cluster_tiles(JaccardTiles(features, jaccard), options);
}

}  // namespace reid
