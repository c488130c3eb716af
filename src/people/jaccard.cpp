// k-reciprocal encoding and its Jaccard distance (Zhong et al., CVPR 2017), sparse. The steps R, R*, V, s are those of
// jaccard_distance's comment in cluster.h.

#include "people/jaccard.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "people/neighbors.h"

namespace reid {

namespace {

// R(i, k), ascending; `length` is how many list entries k stands for.
std::vector<std::vector<int32_t>> reciprocal_sets(const Neighbors& ranking, int64_t count, int64_t length) {
  std::vector<std::vector<int32_t>> sets(static_cast<size_t>(count));
  parallel_for(count, 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      std::vector<int32_t>& set = sets[static_cast<size_t>(i)];
      for (int32_t j : ranking.row(i, length)) {
        const std::span<const int32_t> back = ranking.row(j, length);
        if (std::find(back.begin(), back.end(), static_cast<int32_t>(i)) != back.end()) set.push_back(j);
      }
      std::sort(set.begin(), set.end());
    }
  });
  return sets;
}

size_t overlap(const std::vector<int32_t>& a, const std::vector<int32_t>& b) {
  size_t common = 0;
  for (auto x = a.begin(), y = b.begin(); x != a.end() && y != b.end();) {
    if (*x == *y)
      ++common, ++x, ++y;
    else if (*x < *y)
      ++x;
    else
      ++y;
  }
  return common;
}

// R*(i): additions are judged by R(i, k1) as it was and do not chain.
std::vector<int32_t> expanded_set(const std::vector<int32_t>& own, const std::vector<std::vector<int32_t>>& half) {
  std::vector<int32_t> result = own;
  for (int32_t candidate : own) {
    const std::vector<int32_t>& other = half[static_cast<size_t>(candidate)];
    if (3 * overlap(other, own) > 2 * other.size()) result.insert(result.end(), other.begin(), other.end());
  }
  std::sort(result.begin(), result.end());
  result.erase(std::unique(result.begin(), result.end()), result.end());
  return result;
}

using SparseRow = std::vector<std::pair<int32_t, double>>;

SparseRows pack(const std::vector<SparseRow>& rows) {
  SparseRows packed;
  for (const SparseRow& row : rows) {
    for (const auto& [column, value] : row) {
      packed.columns.push_back(column);
      packed.values.push_back(value);
    }
    packed.offsets.push_back(static_cast<int64_t>(packed.columns.size()));
  }
  return packed;
}

std::vector<SparseRow> softmax_weights(const DistanceTiles& tiles, const std::vector<std::vector<int32_t>>& full,
                                       const std::vector<std::vector<int32_t>>& half) {
  std::vector<SparseRow> weights(full.size());
  parallel_for(tiles.count(), 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      SparseRow& row = weights[static_cast<size_t>(i)];
      double sum = 0;
      for (int32_t j : expanded_set(full[static_cast<size_t>(i)], half)) {
        const double weight = std::exp(-2 * tiles.pair(i, j));  // |z_i - z_j|^2 is twice the cosine distance, at most 4: no overflow
        row.emplace_back(j, weight);
        sum += weight;
      }
      for (auto& [column, value] : row) value /= sum;
    }
  });
  return weights;
}

// The mean of the rows of the first k2 neighbors, summed in the order of the ranking.
std::vector<SparseRow> query_expansion(const std::vector<SparseRow>& rows, const Neighbors& ranking, int64_t k2) {
  std::vector<SparseRow> result(rows.size());
  const int64_t count = static_cast<int64_t>(rows.size());
  parallel_for(count, 256, [&](int64_t begin, int64_t end, int) {
    std::vector<double> sums(rows.size(), 0);
    std::vector<int32_t> touched;
    for (int64_t i = begin; i < end; ++i) {
      const std::span<const int32_t> neighbors = ranking.row(i, k2);
      for (int32_t j : neighbors) {
        for (const auto& [column, value] : rows[static_cast<size_t>(j)]) {
          if (sums[static_cast<size_t>(column)] == 0) touched.push_back(column);
          sums[static_cast<size_t>(column)] += value;
        }
      }
      std::sort(touched.begin(), touched.end());
      for (int32_t column : touched) {
        double& sum = sums[static_cast<size_t>(column)];
        result[static_cast<size_t>(i)].emplace_back(column, sum / static_cast<double>(neighbors.size()));
        sum = 0;
      }
      touched.clear();
    }
  });
  return result;
}

SparseRows transpose(const SparseRows& rows) {
  const size_t count = rows.offsets.size() - 1;
  SparseRows result;
  result.offsets.assign(count + 1, 0);
  for (int32_t column : rows.columns) ++result.offsets[static_cast<size_t>(column) + 1];
  std::partial_sum(result.offsets.begin(), result.offsets.end(), result.offsets.begin());
  result.columns.resize(rows.columns.size());
  result.values.resize(rows.values.size());
  std::vector<int64_t> next(result.offsets.begin(), result.offsets.end() - 1);
  for (size_t i = 0; i < count; ++i) {
    for (int64_t at = rows.offsets[i]; at < rows.offsets[i + 1]; ++at) {
      const size_t to = static_cast<size_t>(next[static_cast<size_t>(rows.columns[static_cast<size_t>(at)])]++);
      result.columns[to] = static_cast<int32_t>(i);
      result.values[to] = rows.values[static_cast<size_t>(at)];
    }
  }
  return result;
}

int64_t half_to_even(int64_t k) { return k / 2 + (k % 4 == 3 ? 1 : 0); }  // round(k / 2)

}  // namespace

JaccardTiles::JaccardTiles(const Tensor& features, const JaccardOptions& options) {
  REID_CHECK(options.k1 >= 1, "[jaccard_distance] k1 is ", options.k1, ", expected at least 1");
  REID_CHECK(options.k2 >= 1, "[jaccard_distance] k2 is ", options.k2, ", expected at least 1");
  const DistanceTiles tiles(features, "[jaccard_distance] features", Metric::cosine);
  count_ = tiles.count();
  dtype_ = tiles.dtype();
  REID_CHECK(count_ < std::numeric_limits<int32_t>::max(), "[jaccard_distance] ", count_, " rows, expected fewer than 2^31");
  // Lists longer than N are cut, so k may be anything: bound it before adding to it.
  const int64_t k1 = std::min(options.k1, 2 * count_ + 2), k2 = std::min(options.k2, count_);
  const int64_t length = k1 + (options.k1_counts_self ? 0 : 1), half_length = std::min(half_to_even(k1) + 1, length);
  const Neighbors ranking = nearest_neighbors(tiles, std::max(length, k2));
  std::vector<SparseRow> rows =
      softmax_weights(tiles, reciprocal_sets(ranking, count_, length), reciprocal_sets(ranking, count_, half_length));
  if (k2 > 1) rows = query_expansion(rows, ranking, k2);
  encoding_ = pack(rows);
  inverse_ = transpose(encoding_);
}

int64_t JaccardTiles::rows_per_block() const { return std::max<int64_t>(1, (int64_t{1} << 22) / count_); }

template <class T>
void JaccardTiles::fill(int64_t begin, const Tensor& tile) const {
  T* out = tile.data<T>();
  parallel_for(tile.dim(0), 16, [&](int64_t first, int64_t last, int) {
    std::vector<double> shared(static_cast<size_t>(count_));
    for (int64_t r = first; r < last; ++r) {
      const size_t i = static_cast<size_t>(begin + r);
      std::fill(shared.begin(), shared.end(), 0.0);
      for (int64_t at = encoding_.offsets[i]; at < encoding_.offsets[i + 1]; ++at) {
        const double value = encoding_.values[static_cast<size_t>(at)];
        const size_t column = static_cast<size_t>(encoding_.columns[static_cast<size_t>(at)]);
        for (int64_t other = inverse_.offsets[column]; other < inverse_.offsets[column + 1]; ++other) {
          const size_t to = static_cast<size_t>(other);
          shared[static_cast<size_t>(inverse_.columns[to])] += std::min(value, inverse_.values[to]);
        }
      }
      shared[i] = 1;  // the row sums to 1, but for rounding
      for (int64_t j = 0; j < count_; ++j) {
        const double s = shared[static_cast<size_t>(j)];
        out[r * count_ + j] = static_cast<T>(std::max(0.0, 1 - s / (2 - s)));
      }
    }
  });
}

Tensor JaccardTiles::rows(int64_t begin, int64_t end) const {
  Tensor tile = Tensor::empty({end - begin, count_}, dtype_);
  if (dtype_ == DType::f32) {
    fill<float>(begin, tile);
  } else {
    fill<double>(begin, tile);
  }
  return tile;
}

Tensor jaccard_distance(const Tensor& features, const JaccardOptions& options) {
  const JaccardTiles tiles(features, options);
  return tiles.rows(0, tiles.count());
}

}  // namespace reid
