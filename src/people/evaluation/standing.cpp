#include "people/evaluation/standing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "people/accelerator_search.h"
#include "people/evaluation/vector_count.h"
#include "people/pair_filter.h"

namespace reid {

namespace {

constexpr int64_t kChunk = 256;       // products compared with every place while they lie in the first-level cache
constexpr int64_t kManyPlaces = 256;  // from here on a search for each product costs less than a comparison with each place

// With p the product, a pair lies surely before a place when p - upper_j > upper_bar, and perhaps when p - lower_j >= lower_bar.
struct Bounds {
  std::vector<float> upper, lower;  // [G]; infinite for entries that take no part

  Bounds(const PairFilter& filter, const std::vector<int64_t>& junk) : upper(filter.upper_edges()), lower(filter.lower_edges()) {
    for (int64_t j : junk) upper[static_cast<size_t>(j)] = lower[static_cast<size_t>(j)] = std::numeric_limits<float>::infinity();
  }
};

double rounded(double distance, DType dtype) { return dtype == DType::f32 ? double{static_cast<float>(distance)} : distance; }

double distance_of(const DistanceTiles& pairs, int64_t query, int64_t j) { return rounded(pairs.pair(query, j), pairs.dtype()); }

// The next number of the dtype, upwards or downwards.
double neighbor(double distance, int direction, DType dtype) {
  const double limit = direction * std::numeric_limits<double>::infinity();
  if (dtype == DType::f64) return std::nextafter(distance, limit);
  return double{std::nextafter(static_cast<float>(distance), static_cast<float>(limit))};
}

// The bars of one query's places, which descend.
struct Bars {
  std::vector<float> upper, lower;

  void set(const PairFilter& filter, DType dtype, int64_t query, const Standing& standing) {
    const double half = filter.half_a()[static_cast<size_t>(query)];
    upper.clear(), lower.clear();
    for (const auto& [distance, j] : standing.places) {
      // Below the previous number a pair is rounded to less than the place's distance, above the next one to more.
      const double below = filter.half_square(std::max(0.0, neighbor(distance, -1, dtype)));
      const double above = filter.half_square(neighbor(distance, 1, dtype));
      upper.push_back(to_float((1 + filter.margin()) * half + filter.absolute() - below));
      lower.push_back(to_float((1 - filter.margin()) * half - filter.absolute() - above));
    }
  }
};

// One query against the products of a tile.
class Counter {
 public:
  Counter(const DistanceTiles& pairs, const PairFilter& filter, const Bounds& bounds) : pairs_(pairs), filter_(filter), bounds_(bounds) {}

  // Adds to standing.before.
  void add(int64_t query, const float* products, int64_t column, int64_t count, Standing& standing) {
    const size_t places = standing.places.size();
    bars_.set(filter_, pairs_.dtype(), query, standing);
    for (int64_t from = 0; from < count; from += kChunk) {
      const int64_t some = std::min(kChunk, count - from);
      const float* upper = bounds_.upper.data() + column + from;
      const float* lower = bounds_.lower.data() + column + from;
      // Many places are searched instead, for every pair.
      const bool search = static_cast<int64_t>(places) > kManyPlaces;
      const bool undecided = compare({.products = products + from,
                                      .sure_edges = upper,
                                      .maybe_edges = lower,
                                      .count = some,
                                      .sure_bars = bars_.upper.data(),
                                      .maybe_bars = bars_.lower.data(),
                                      .bars = search ? 0 : static_cast<int64_t>(places),
                                      .counts = standing.before.data(),
                                      .sure = sure_,
                                      .maybe = maybe_,
                                      .undecided = undecided_});
      if (search) std::fill_n(undecided_, some, uint8_t{1});
      if (!search && !undecided) continue;
      for (int64_t j = 0; j < some; ++j) {
        if (undecided_[j] != 0) place(query, column + from + j, sure_[j], maybe_[j], search, standing);
      }
    }
  }

 private:
  // One pair: bars descend, so it is surely before all places from one on, and perhaps before some places ahead of that one.
  void place(int64_t query, int64_t j, float sure, float maybe, bool count_sure, Standing& standing) {
    const auto first_sure = std::partition_point(bars_.upper.begin(), bars_.upper.end(), [&](float bar) { return !(sure > bar); });
    const auto first_maybe = std::partition_point(bars_.lower.begin(), bars_.lower.end(), [&](float bar) { return !(maybe >= bar); });
    const std::ptrdiff_t end = first_sure - bars_.upper.begin(), ahead = std::min(first_maybe - bars_.lower.begin(), end);
    if (count_sure) add_one(end, static_cast<std::ptrdiff_t>(standing.places.size()), standing);
    if (ahead == end) return;
    const std::pair<double, int64_t> own(distance_of(pairs_, query, j), j);
    const auto begin = standing.places.begin();
    add_one(std::upper_bound(begin + ahead, begin + end, own) - begin, end, standing);
  }

  static void add_one(std::ptrdiff_t from, std::ptrdiff_t to, Standing& standing) {
    for (std::ptrdiff_t m = from; m < to; ++m) ++standing.before[static_cast<size_t>(m)];
  }

  const DistanceTiles& pairs_;
  const PairFilter& filter_;
  const Bounds& bounds_;
  Bars bars_;
  alignas(64) float sure_[kChunk], maybe_[kChunk];
  alignas(64) uint8_t undecided_[kChunk];
};

// Adds `change` to all places that gallery entry j at `distance` comes before.
void add_one(double distance, int64_t j, int change, Standing& standing) {
  const auto first = std::upper_bound(standing.places.begin(), standing.places.end(), std::pair(distance, j));
  for (size_t m = static_cast<size_t>(first - standing.places.begin()); m < standing.before.size(); ++m) standing.before[m] += change;
}

// What the protocol leaves out of one query's ranking was counted with everything else.
void subtract_removed(const DistanceTiles& pairs, int64_t query, const std::vector<int64_t>& removed, Standing& standing) {
  for (int64_t j : removed) add_one(distance_of(pairs, query, j), j, -1, standing);
}

// --- on an accelerator ---

enum class Entries : uint8_t { matches, removed };

// Calls use(query, gallery entry, distance) for the entries of all queries, in order.
template <class Use>
void for_entries_there(const DistanceTiles& pairs, const RetrievalFilter& filter, Entries kind, Use&& use) {
  std::vector<int64_t> matches, removed;
  std::vector<int32_t> indices;
  for (int64_t q = 0; q < pairs.count(); ++q) {
    filter.entries(q, matches, removed);
    for (int64_t j : kind == Entries::matches ? matches : removed) {
      indices.push_back(static_cast<int32_t>(q));
      indices.push_back(static_cast<int32_t>(j));
    }
  }
  const std::vector<double> distances = distances_there(pairs, indices);
  for (size_t e = 0; e < distances.size(); ++e) use(indices[2 * e], indices[2 * e + 1], rounded(distances[e], pairs.dtype()));
}

void count_before_there(const DistanceTiles& pairs, const RetrievalFilter& filter, const PairFilter& products, const Bounds& bounds,
                        std::vector<Standing>& standings) {
  RankedPlaces places{bounds.upper, bounds.lower, {0}, {}, {}};
  Bars bars;
  for (size_t q = 0; q < standings.size(); ++q) {
    bars.set(products, pairs.dtype(), static_cast<int64_t>(q), standings[q]);
    places.sure_bars.insert(places.sure_bars.end(), bars.upper.begin(), bars.upper.end());
    places.maybe_bars.insert(places.maybe_bars.end(), bars.lower.begin(), bars.lower.end());
    REID_CHECK(std::in_range<int32_t>(places.sure_bars.size()), "[evaluate] queries have 2^31 matches or more, too many to number on ",
               pairs.device(), ": compute on the CPU");
    places.first.push_back(static_cast<int32_t>(places.sure_bars.size()));
  }
  if (places.sure_bars.empty()) return;
  const std::vector<int32_t> before =
      reid::count_before_there(pairs, products, places, [&](std::span<const int32_t> indices, std::span<const double> distances) {
        for (size_t p = 0; p < distances.size(); ++p)
          add_one(rounded(distances[p], pairs.dtype()), indices[2 * p + 1], 1, standings[static_cast<size_t>(indices[2 * p])]);
      });
  auto next = before.begin();
  for (Standing& standing : standings) {
    for (int64_t& count : standing.before) count += *next++;
  }
  for_entries_there(pairs, filter, Entries::removed,
                    [&](int64_t q, int64_t j, double distance) { add_one(distance, j, -1, standings[static_cast<size_t>(q)]); });
}

}  // namespace

std::vector<Standing> match_places(const DistanceTiles& pairs, const RetrievalFilter& filter) {
  std::vector<Standing> standings(static_cast<size_t>(pairs.count()));
  if (pairs.device() != Device{}) {
    for_entries_there(pairs, filter, Entries::matches,
                      [&](int64_t q, int64_t j, double distance) { standings[static_cast<size_t>(q)].places.emplace_back(distance, j); });
    for (Standing& standing : standings) std::sort(standing.places.begin(), standing.places.end());
    return standings;
  }
  parallel_for(pairs.count(), 16, [&](int64_t begin, int64_t end, int) {
    std::vector<int64_t> matches, removed;
    for (int64_t q = begin; q < end; ++q) {
      Standing& standing = standings[static_cast<size_t>(q)];
      filter.entries(q, matches, removed);
      for (int64_t j : matches) standing.places.emplace_back(distance_of(pairs, q, j), j);
      std::sort(standing.places.begin(), standing.places.end());
    }
  });
  return standings;
}

void count_before(const DistanceTiles& pairs, const RetrievalFilter& filter, std::vector<Standing>& standings) {
  for (Standing& standing : standings) standing.before.assign(standing.places.size(), 0);
  const PairFilter products(pairs);
  const Bounds bounds(products, filter.junk());
  if (pairs.device() != Device{}) return count_before_there(pairs, filter, products, bounds, standings);
  products.for_each({}, [&](const ProductTile& tile) {
    parallel_for(tile.rows, 4, [&](int64_t first, int64_t last, int) {
      Counter counter(pairs, products, bounds);
      for (int64_t r = first; r < last; ++r) {
        Standing& standing = standings[static_cast<size_t>(tile.row + r)];
        if (standing.places.empty()) continue;
        counter.add(tile.row + r, tile.products + r * tile.columns, tile.column, tile.columns, standing);
      }
    });
  });
  parallel_for(pairs.count(), 64, [&](int64_t begin, int64_t end, int) {
    std::vector<int64_t> matches, removed;
    for (int64_t q = begin; q < end; ++q) {
      filter.entries(q, matches, removed);
      subtract_removed(pairs, q, removed, standings[static_cast<size_t>(q)]);
    }
  });
}

}  // namespace reid
