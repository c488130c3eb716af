#include "people/neighbors.h"

#include <limits>

#include "people/accelerator_search.h"

namespace reid {

namespace {

// The best few of every row while tiles go by: those with the smallest distance, or (farthest) the one with the largest.
//
// A row holds candidates with their products. Its limit is an upper bound of its last entry's key (q of pair_filter.h; -q for
// the farthest); what cannot be below the limit is not taken. A full row drops what the limit excludes, and when that leaves
// too many (ties within the bound), their distances are computed: memory is fixed.
class BestRows {
 public:
  BestRows(const DistanceTiles& pairs, const PairFilter& filter, int64_t width, bool farthest)
      : pairs_(pairs),
        filter_(filter),
        width_(width),
        capacity_(capacity_of(width)),
        sign_(farthest ? -1.0f : 1.0f),
        skips_self_(pairs.same() && !farthest),
        held_(static_cast<size_t>(pairs.count()), 0),
        index_(static_cast<size_t>(pairs.count() * capacity_)),
        product_(index_.size()),
        limit_(held_.size(), std::numeric_limits<double>::infinity()) {
    const double weight = farthest ? -1 - filter.margin() : 1 - filter.margin();
    for (double h : filter.half_a()) {
      own_.push_back(weight * h - filter.absolute());
      bars_.push_back(to_float(-std::numeric_limits<double>::infinity()));
    }
    for (double h : filter.half_b()) edges_.push_back(to_float(weight * h));
  }

  static int64_t capacity_of(int64_t width) { return 2 * width + 32; }
  static int64_t bytes(int64_t rows, int64_t width) { return rows * (capacity_of(width) * 8 + 4 + 8 + 8 + 4 + 4); }

  void add(const ProductTile& tile) {
    parallel_for(tile.rows, 16, [&](int64_t first, int64_t last, int) {
      for (int64_t r = first; r < last; ++r) add_row(tile, r);
    });
    if (!tile.mirrored) return;
    parallel_for(tile.columns, kFilterColumns, [&](int64_t first, int64_t last, int) { add_columns(tile, first, last); });
  }

  // The kept candidates of a row with their distances, in order; at most width().
  std::vector<std::pair<double, int32_t>> finish(int64_t i) {
    drop(i);
    std::vector<std::pair<double, int32_t>> found;
    for (int64_t e = i * capacity_; e < i * capacity_ + held_[static_cast<size_t>(i)]; ++e) {
      const int32_t j = index_[static_cast<size_t>(e)];
      found.emplace_back(pairs_.pair(i, j), j);
    }
    const bool nearest = sign_ > 0;
    std::sort(found.begin(), found.end(), [nearest](const auto& x, const auto& y) {
      if (x.first != y.first) return nearest ? x.first < y.first : x.first > y.first;
      return x.second < y.second;
    });
    if (static_cast<int64_t>(found.size()) > width_) found.resize(static_cast<size_t>(width_));
    return found;
  }

 private:
  // Rows of the tile against their own bars: sign p - edge_j >= bar_i.
  void add_row(const ProductTile& tile, int64_t r) {
    const int64_t i = tile.row + r;
    const float* products = tile.products + r * tile.columns;
    const float* edges = edges_.data() + tile.column;
    for (int64_t from = 0; from < tile.columns; from += kFilterColumns) {
      const int64_t count = std::min(kFilterColumns, tile.columns - from);
      if (!any_above(products + from, edges + from, count, bars_[static_cast<size_t>(i)])) continue;
      for (int64_t j = from; j < from + count; ++j) {
        if (sign_ * products[j] - edges[j] >= bars_[static_cast<size_t>(i)]) take(i, tile.column + j, products[j]);
      }
    }
  }

  // The mirror image: columns of the tile are rows of the set, with the roles of edge and bar exchanged.
  void add_columns(const ProductTile& tile, int64_t first, int64_t last) {
    const float* bars = bars_.data() + tile.column;
    for (int64_t r = 0; r < tile.rows; ++r) {
      const float* products = tile.products + r * tile.columns;
      const float edge = edges_[static_cast<size_t>(tile.row + r)];
      int any = 0;
      for (int64_t j = first; j < last; ++j) any |= sign_ * products[j] - edge >= bars[j];
      for (int64_t j = first; any != 0 && j < last; ++j) {
        if (sign_ * products[j] - edge >= bars[j]) take(tile.column + j, tile.row + r, products[j]);
      }
    }
  }

  bool any_above(const float* products, const float* edges, int64_t count, float bar) const {
    int any = 0;
    for (int64_t j = 0; j < count; ++j) any |= sign_ * products[j] - edges[j] >= bar;
    return any != 0;
  }

  double lower(int64_t i, int64_t j, float p) const { return sign_ > 0 ? filter_.lower(i, j, p) : -filter_.upper(i, j, p); }
  double upper(int64_t i, int64_t j, float p) const { return sign_ > 0 ? filter_.upper(i, j, p) : -filter_.lower(i, j, p); }

  void take(int64_t i, int64_t j, float product) {
    if (skips_self_ && i == j) return;
    int32_t& held = held_[static_cast<size_t>(i)];
    if (held == capacity_) make_room(i);
    if (lower(i, j, product) > limit_[static_cast<size_t>(i)]) return;
    const size_t to = static_cast<size_t>(i * capacity_ + held++);
    index_[to] = static_cast<int32_t>(j);
    product_[to] = product;
  }

  void set_limit(int64_t i, double limit) {
    double& now = limit_[static_cast<size_t>(i)];
    now = std::min(now, limit);
    bars_[static_cast<size_t>(i)] = to_float(own_[static_cast<size_t>(i)] - now);
  }

  // Keeps what can still be among the first width_.
  void drop(int64_t i) {
    int32_t& held = held_[static_cast<size_t>(i)];
    if (held <= width_) return;
    const int64_t begin = i * capacity_;
    std::vector<double> uppers;
    for (int64_t e = begin; e < begin + held; ++e) {
      uppers.push_back(upper(i, index_[static_cast<size_t>(e)], product_[static_cast<size_t>(e)]));
    }
    std::nth_element(uppers.begin(), uppers.begin() + width_ - 1, uppers.end());
    set_limit(i, uppers[static_cast<size_t>(width_ - 1)]);
    int32_t kept = 0;
    for (int64_t e = begin; e < begin + held; ++e) {
      const int32_t j = index_[static_cast<size_t>(e)];
      const float p = product_[static_cast<size_t>(e)];
      if (lower(i, j, p) > limit_[static_cast<size_t>(i)]) continue;
      index_[static_cast<size_t>(begin + kept)] = j;
      product_[static_cast<size_t>(begin + kept)] = p;
      ++kept;
    }
    held = kept;
  }

  void make_room(int64_t i) {
    drop(i);
    int32_t& held = held_[static_cast<size_t>(i)];
    if (held <= capacity_ - width_ / 2 - 8) return;
    const std::vector<std::pair<double, int32_t>> best = finish(i);
    const int64_t begin = i * capacity_;
    std::vector<std::pair<int32_t, float>> products;
    for (int64_t e = begin; e < begin + held; ++e) products.emplace_back(index_[static_cast<size_t>(e)], product_[static_cast<size_t>(e)]);
    std::sort(products.begin(), products.end());
    held = 0;
    for (const auto& [distance, j] : best) {
      const size_t to = static_cast<size_t>(begin + held++);
      index_[to] = j;
      product_[to] = std::lower_bound(products.begin(), products.end(), std::pair(j, -std::numeric_limits<float>::infinity()))->second;
    }
    // The key of the last entry, with the rounding of a distance in double: far below the margin's share for it.
    const double key = sign_ * filter_.half_square(best.back().first), rounding = 0x1p-50 * std::fabs(key);
    set_limit(i, key + rounding + filter_.absolute());
  }

  const DistanceTiles& pairs_;
  const PairFilter& filter_;
  int64_t width_, capacity_;
  float sign_;
  bool skips_self_;
  std::vector<int32_t> held_;
  std::vector<int32_t> index_;  // [count, capacity]
  std::vector<float> product_;
  std::vector<double> limit_, own_;
  std::vector<float> bars_, edges_;
};

void write_row(int64_t i, bool same, const std::vector<std::pair<double, int32_t>>& found, Neighbors& result) {
  int64_t to = i * result.width;
  const auto put = [&](double distance, int32_t j) {
    result.index[static_cast<size_t>(to)] = j;
    if (!result.distance.empty()) result.distance[static_cast<size_t>(to)] = distance;
    ++to;
  };
  if (same) put(0, static_cast<int32_t>(i));
  for (const auto& [distance, j] : found) put(distance, j);
}

}  // namespace

Neighbors nearest_neighbors(const DistanceTiles& pairs, int64_t width, const NeighborOptions& options) {
  REID_CHECK(width >= 1, "[neighbors] ", width, " neighbors were asked for, expected at least 1");
  REID_CHECK(pairs.width() < std::numeric_limits<int32_t>::max(), "[neighbors] ", pairs.width(), " rows, expected fewer than 2^31");
  const int64_t count = pairs.count();
  const PairFilter filter(pairs);
  if (pairs.device() != Device{}) return nearest_there(pairs, filter, std::min(width, pairs.width()), options);
  Neighbors result;
  result.width = std::min(width, pairs.width());
  result.index.resize(static_cast<size_t>(count * result.width));
  if (options.distances) result.distance.resize(result.index.size());
  if (options.farthest) result.farthest.resize(static_cast<size_t>(count));
  const int64_t sought = pairs.same() ? result.width - 1 : result.width;
  std::vector<BestRows> wanted;  // the nearest, then the farthest
  if (sought > 0) wanted.emplace_back(pairs, filter, sought, false);
  if (options.farthest) wanted.emplace_back(pairs, filter, 1, true);
  if (!wanted.empty()) {
    filter.for_each(options.progress, [&](const ProductTile& tile) {
      for (BestRows& best : wanted) best.add(tile);
    });
  }
  parallel_for(count, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      write_row(i, pairs.same(), sought > 0 ? wanted.front().finish(i) : std::vector<std::pair<double, int32_t>>(), result);
      if (options.farthest) result.farthest[static_cast<size_t>(i)] = wanted.back().finish(i).front().first;
    }
  });
  return result;
}

NearestRows nearest_rows(const Tensor& a, const Tensor& b, Metric metric, int64_t count, Device device, const Progress& progress) {
  REID_CHECK(count >= 1, "[nearest_rows] count is ", count, ", expected at least 1");
  const DistanceTiles pairs(a, "[nearest_rows] a", b, "[nearest_rows] b", metric, device);
  const Neighbors found = nearest_neighbors(pairs, count, {.distances = true, .farthest = false, .progress = progress});
  const Shape shape{pairs.count(), found.width};
  return {Tensor::from(found.index, shape), Tensor::from(found.distance, shape)};
}

int64_t neighbor_bytes(int64_t rows_a, int64_t rows_b, int64_t columns, bool same, int64_t width, bool distances, Device device) {
  width = std::min(width, rows_b);
  if (device != Device{}) return search_bytes_there(rows_a, rows_b, columns, same, width);
  return PairFilter::bytes(rows_a, rows_b, columns, same) + BestRows::bytes(rows_a, width) + rows_a * width * (distances ? 12 : 4);
}

namespace {

// One row of a tile: appends the columns within the radius.
void collect(const DistanceTiles& pairs, const PairFilter& filter, const ProductTile& tile, int64_t r, double radius, double key,
             const float* edges, std::vector<int32_t>& found) {
  const int64_t i = tile.row + r;
  const float* products = tile.products + r * tile.columns;
  const float bar = to_float((1 - filter.margin()) * filter.half_a()[static_cast<size_t>(i)] - filter.absolute() - key);
  const bool diagonal = filter.same() && !tile.mirrored;
  for (int64_t from = diagonal ? r + 1 : 0; from < tile.columns; from += kFilterColumns) {
    const int64_t count = std::min(kFilterColumns, tile.columns - from);
    if (!any_reaches(products + from, edges + tile.column + from, count, bar)) continue;
    for (int64_t c = from; c < from + count; ++c) {
      const int64_t j = tile.column + c;
      if (products[c] - edges[j] < bar) continue;
      if (filter.upper(i, j, products[c]) <= key || pairs.pair(i, j) <= radius) found.push_back(static_cast<int32_t>(j));
    }
  }
}

}  // namespace

void for_each_pair_within(const DistanceTiles& pairs, double radius, const Progress& progress,
                          FunctionRef<void(int64_t i, std::span<const int32_t> columns)> use) {
  REID_CHECK(pairs.width() < std::numeric_limits<int32_t>::max(), "[neighbors] ", pairs.width(), " rows, expected fewer than 2^31");
  const PairFilter filter(pairs);
  if (pairs.device() != Device{}) return for_each_pair_within_there(pairs, filter, radius, progress, use);
  const double key = filter.half_square(radius);
  const std::vector<float> edges = filter.lower_edges();
  std::vector<std::vector<int32_t>> found;
  filter.for_each(progress, [&](const ProductTile& tile) {
    found.resize(std::max(found.size(), static_cast<size_t>(tile.rows)));
    parallel_for(tile.rows, 16, [&](int64_t first, int64_t last, int) {
      for (int64_t r = first; r < last; ++r) {
        found[static_cast<size_t>(r)].clear();
        collect(pairs, filter, tile, r, radius, key, edges.data(), found[static_cast<size_t>(r)]);
      }
    });
    for (int64_t r = 0; r < tile.rows; ++r) {
      if (!found[static_cast<size_t>(r)].empty()) use(tile.row + r, found[static_cast<size_t>(r)]);
    }
  });
}

int64_t radius_bytes(int64_t rows_a, int64_t rows_b, int64_t columns, bool same, Device device) {
  if (device != Device{}) return search_bytes_there(rows_a, rows_b, columns, same, 0);
  // Each pair of a tile: its place in a list, and as much again while the list grows.
  return PairFilter::bytes(rows_a, rows_b, columns, same) + 8 * PairFilter::tile_pairs(rows_a, rows_b, same) + rows_b * 4;
}

std::vector<double> pair_distances(const DistanceTiles& pairs, const std::vector<int32_t>& indices) {
  if (pairs.device() != Device{}) return distances_there(pairs, indices);
  std::vector<double> distances(indices.size() / 2);
  parallel_for(static_cast<int64_t>(distances.size()), 64, [&](int64_t begin, int64_t end, int) {
    for (size_t p = static_cast<size_t>(begin); p < static_cast<size_t>(end); ++p)
      distances[p] = pairs.pair(indices[2 * p], indices[2 * p + 1]);
  });
  return distances;
}

}  // namespace reid
