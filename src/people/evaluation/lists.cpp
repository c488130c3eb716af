// The gallery entries that a query ranks first, by a ranking or by rows of distances.

#include "reid/people/evaluation.h"

#include <algorithm>

#include "people/evaluation/blocks.h"
#include "people/evaluation/counting.h"
#include "people/evaluation/ranking.h"
#include "people/neighbors.h"

namespace reid {

namespace {

constexpr int64_t kMore = 2;  // neighbors looked for beyond a list's length: it stays open only where three tie

// Where lists are longer, measuring their entries one by one takes longer than all distances.
bool is_short(int64_t count, int64_t gallery) { return count <= std::max<int64_t>(32, gallery / 8); }

NearestRows empty_lists(int64_t queries, int64_t count) {
  const Shape shape{queries, count};
  return {Tensor::empty(shape, DType::i32), Tensor::empty(shape, DType::f64)};
}

// Row `query` of the lists: the first of the entries.
void write_list(int64_t query, Places<double>& entries, const NearestRows& lists) {
  const int64_t count = lists.index.dim(1);
  std::partial_sort(entries.begin(), entries.begin() + count, entries.end());
  for (int64_t k = 0; k < count; ++k) {
    const auto& [value, j] = entries[static_cast<size_t>(k)];
    lists.index.data<int32_t>()[query * count + k] = static_cast<int32_t>(j);
    lists.distance.data<double>()[query * count + k] = value;
  }
}

// The lists of a ranking from some queries' nearest entries and the close ones: no other comes before the last of those nearest.
class Lister {
 public:
  Lister(const Ranking& ranking, const Neighbors& nearest, int64_t begin, int64_t end)
      : ranking_(ranking), nearest_(nearest), begin_(begin), close_(ranking.close(begin, end)) {
    std::vector<int32_t> pairs;
    for (int64_t q = begin; q < end; ++q) {
      for (int32_t j : close_.columns_of(q - begin)) pairs.insert(pairs.end(), {static_cast<int32_t>(q), j});
    }
    distances_ = pair_distances(ranking.pairs(), pairs);
  }

  void write(int64_t query, const NearestRows& lists) const {
    const int64_t count = lists.index.dim(1), gallery = ranking_.pairs().width();
    Places<double> entries = close_entries(query);
    const std::span<const int32_t> nearest = nearest_.row(query, nearest_.width);
    const std::span<const double> distances = nearest_.distances(query, nearest_.width);
    for (size_t e = 0; e < nearest.size(); ++e) {
      if (!is_close(query, nearest[e])) entries.emplace_back(ranking_.value(query, distances[e]), nearest[e]);
    }
    write_list(query, entries, lists);
    if (entries[static_cast<size_t>(count - 1)].first < ranking_.value(query, distances.back())) return;  // than that, no other is nearer
    entries = close_entries(query);
    for (int64_t j = 0; j < gallery; ++j) {
      if (!is_close(query, j)) entries.emplace_back(ranking_.value(query, ranking_.pairs().pair(query, j)), j);
    }
    write_list(query, entries, lists);
  }

 private:
  Places<double> close_entries(int64_t query) const {
    const std::span<const int32_t> columns = close_.columns_of(query - begin_);
    const std::span<const double> jaccard = close_.values_of(query - begin_);
    const double* distance = distances_.data() + close_.begin_of(query - begin_);
    Places<double> entries;
    for (size_t e = 0; e < columns.size(); ++e) entries.emplace_back(ranking_.value(query, distance[e], jaccard[e]), columns[e]);
    return entries;
  }

  bool is_close(int64_t query, int64_t j) const {
    const std::span<const int32_t> columns = close_.columns_of(query - begin_);
    return std::binary_search(columns.begin(), columns.end(), static_cast<int32_t>(j));
  }

  const Ranking& ranking_;
  const Neighbors& nearest_;
  int64_t begin_;
  SparseRows close_;
  std::vector<double> distances_;  // of the close entries
};

NearestRows by_ranking(const Ranking& ranking, int64_t count, const Progress& progress) {
  const int64_t queries = ranking.pairs().count();
  const Neighbors nearest = nearest_neighbors(ranking.pairs(), count + kMore, {.distances = true, .farthest = false, .progress = progress});
  const NearestRows lists = empty_lists(queries, count);
  const int64_t step = queries_per_close_block(ranking.pairs().width());
  for (int64_t begin = 0; begin < queries; begin += step) {
    const int64_t end = std::min(begin + step, queries);
    const Lister lister(ranking, nearest, begin, end);
    parallel_for(end - begin, 4, [&](int64_t first, int64_t last, int) {
      for (int64_t q = begin + first; q < begin + last; ++q) lister.write(q, lists);
    });
  }
  return lists;
}

template <class T>
void list_tile(int64_t begin, const Tensor& tile, const NearestRows& lists) {
  const int64_t gallery = tile.dim(1);
  parallel_for(tile.dim(0), 4, [&](int64_t first, int64_t last, int) {
    Places<double> entries(static_cast<size_t>(gallery));
    for (int64_t r = first; r < last; ++r) {
      for (int64_t j = 0; j < gallery; ++j) entries[static_cast<size_t>(j)] = {double{tile.data<T>()[r * gallery + j]}, j};
      write_list(begin + r, entries, lists);
    }
  });
}

NearestRows by_rows(const DistanceRows& rows, int64_t count, const Progress& progress) {
  const NearestRows lists = empty_lists(rows.queries, count);
  const int64_t step = queries_per_block(rows.gallery);
  for (int64_t begin = 0; begin < rows.queries; begin += step) {
    const int64_t end = std::min(begin + step, rows.queries);
    const Tensor tile = rows.rows(begin, end);
    (tile.dtype() == DType::f32 ? list_tile<float> : list_tile<double>)(begin, tile, lists);
    if (progress) progress(static_cast<double>(end) / static_cast<double>(rows.queries));
  }
  return lists;
}

}  // namespace

NearestRows first_ranked(const DistanceRows& distances, int64_t count, const Progress& progress) {
  REID_CHECK(count >= 1, "[first_ranked] count is ", count, ", expected at least 1");
  const int64_t length = std::min(count, distances.gallery);
  if (distances.ranking && is_short(length, distances.gallery)) return by_ranking(*distances.ranking, length, progress);
  return by_rows(distances, length, progress);
}

}  // namespace reid
