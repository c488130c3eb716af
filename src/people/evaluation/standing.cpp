#include "people/evaluation/standing.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "people/accelerator_search.h"
#include "people/evaluation/blocks.h"
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

// The bars of one query's places, which descend.
struct Bars {
  std::vector<float> upper, lower;

  void set(const PairFilter& filter, const Ranking& ranking, int64_t query, const Standing& standing) {
    const double half = filter.half_a()[static_cast<size_t>(query)];
    upper.clear(), lower.clear();
    for (const auto& [value, j] : standing.places) {
      const auto [below, above] = ranking.around(query, value);
      upper.push_back(to_float((1 + filter.margin()) * half + filter.absolute() - filter.half_square(below)));
      lower.push_back(to_float((1 - filter.margin()) * half - filter.absolute() - filter.half_square(above)));
    }
  }
};

void add_to_places(int change, std::ptrdiff_t from, std::ptrdiff_t to, Standing& standing) {
  for (std::ptrdiff_t m = from; m < to; ++m) standing.before[static_cast<size_t>(m)] += change;
}

// One query against the products of a tile.
class Counter {
 public:
  Counter(const Ranking& ranking, const PairFilter& filter, const Bounds& bounds) : ranking_(ranking), filter_(filter), bounds_(bounds) {}

  // Adds to standing.before.
  void add(int64_t query, const float* products, int64_t column, int64_t count, Standing& standing) {
    const size_t places = standing.places.size();
    bars_.set(filter_, ranking_, query, standing);
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
    if (count_sure) add_to_places(1, end, std::ssize(standing.places), standing);
    if (ahead == end) return;
    const std::pair<double, int64_t> own(ranking_.value(query, ranking_.pairs().pair(query, j)), j);
    const auto begin = standing.places.begin();
    add_to_places(1, std::upper_bound(begin + ahead, begin + end, own) - begin, end, standing);
  }

  const Ranking& ranking_;
  const PairFilter& filter_;
  const Bounds& bounds_;
  Bars bars_;
  alignas(64) float sure_[kChunk], maybe_[kChunk];
  alignas(64) uint8_t undecided_[kChunk];
};

// Adds `change` to all places that gallery entry j of `value` comes before.
void add_one(double value, int64_t j, int change, Standing& standing) {
  const auto first = std::upper_bound(standing.places.begin(), standing.places.end(), std::pair(value, j));
  add_to_places(change, first - standing.places.begin(), std::ssize(standing.places), standing);
}

// --- the entries that are looked at one by one ---

// Some queries' matches, what their rankings leave out besides junk, and what is close, with their distances.
class SingleEntries {
 public:
  SingleEntries(const Ranking& ranking, const RetrievalFilter& filter, int64_t begin, int64_t end)
      : ranking_(ranking), begin_(begin), close_(ranking.close(begin, end)) {
    for (int64_t q = begin; q < end; ++q) {
      matches_.emplace_back(), removed_.emplace_back();
      filter.entries(q, matches_.back(), removed_.back());
      first_.push_back(static_cast<int64_t>(indices_.size()) / 2);
      if (matches_.back().empty()) continue;
      for (int64_t j : matches_.back()) append(q, j);
      for (int64_t j : removed_.back()) append(q, j);
      for (int32_t j : close_.columns_of(q - begin)) append(q, j);
    }
    distances_ = pair_distances(ranking.pairs(), indices_);
  }

  // The places of query q, and what the entries that are known by now change in a count of all others by their distances alone.
  Standing standing(int64_t q, const std::vector<bool>& junk, bool ends) const {
    const size_t at = static_cast<size_t>(q - begin_);
    const std::vector<int64_t>&matches = matches_[at], &removed = removed_[at];
    const std::span<const int32_t> close = close_.columns_of(q - begin_);
    const double* distance = distances_.data() + first_[at];
    Standing standing;
    if (matches.empty()) return standing;
    const auto value = [&](int64_t j, double d) { return ranking_.value(q, d, jaccard(q, j)); };
    for (int64_t j : matches) standing.places.emplace_back(value(j, *distance++), j);
    std::sort(standing.places.begin(), standing.places.end());
    if (ends) {
      const Places<double> more = ends_of_ties(standing.places, ranking_.pairs().width());
      standing.places.insert(standing.places.end(), more.begin(), more.end());
      std::sort(standing.places.begin(), standing.places.end());
    }
    standing.before.assign(standing.places.size(), 0);
    for (int64_t j : removed) add_one(value(j, *distance++), j, -1, standing);
    for (int32_t j : close) {
      const double d = *distance++;
      if (junk[static_cast<size_t>(j)]) continue;
      add_one(value(j, d), j, 1, standing);
      add_one(ranking_.value(q, d), j, -1, standing);
    }
    return standing;
  }

 private:
  void append(int64_t q, int64_t j) { indices_.insert(indices_.end(), {static_cast<int32_t>(q), static_cast<int32_t>(j)}); }

  double jaccard(int64_t q, int64_t j) const {
    const std::span<const int32_t> columns = close_.columns_of(q - begin_);
    const auto found = std::lower_bound(columns.begin(), columns.end(), static_cast<int32_t>(j));
    if (found == columns.end() || *found != j) return 1;
    return close_.values_of(q - begin_)[static_cast<size_t>(found - columns.begin())];
  }

  const Ranking& ranking_;
  int64_t begin_;
  SparseRows close_;
  std::vector<std::vector<int64_t>> matches_, removed_;
  std::vector<int64_t> first_;    // of each query's pairs
  std::vector<int32_t> indices_;  // (query, entry) one behind the other
  std::vector<double> distances_;
};

// --- all others, by products ---

void count_here(const Ranking& ranking, const PairFilter& products, const Bounds& bounds, std::vector<Standing>& standings) {
  products.for_each({}, [&](const ProductTile& tile) {
    parallel_for(tile.rows, 4, [&](int64_t first, int64_t last, int) {
      Counter counter(ranking, products, bounds);
      for (int64_t r = first; r < last; ++r) {
        Standing& standing = standings[static_cast<size_t>(tile.row + r)];
        if (standing.places.empty()) continue;
        counter.add(tile.row + r, tile.products + r * tile.columns, tile.column, tile.columns, standing);
      }
    });
  });
}

void count_there(const Ranking& ranking, const PairFilter& products, const Bounds& bounds, std::vector<Standing>& standings) {
  const DistanceTiles& pairs = ranking.pairs();
  RankedPlaces places{bounds.upper, bounds.lower, {0}, {}, {}};
  Bars bars;
  for (size_t q = 0; q < standings.size(); ++q) {
    bars.set(products, ranking, static_cast<int64_t>(q), standings[q]);
    places.sure_bars.insert(places.sure_bars.end(), bars.upper.begin(), bars.upper.end());
    places.maybe_bars.insert(places.maybe_bars.end(), bars.lower.begin(), bars.lower.end());
    REID_CHECK(std::in_range<int32_t>(places.sure_bars.size()), "[evaluate] queries have 2^31 matches or more, too many to number on ",
               pairs.device(), ": compute on the CPU");
    places.first.push_back(static_cast<int32_t>(places.sure_bars.size()));
  }
  if (places.sure_bars.empty()) return;
  const std::vector<int32_t> before =
      count_before_there(pairs, products, places, [&](std::span<const int32_t> indices, std::span<const double> distances) {
        for (size_t p = 0; p < distances.size(); ++p) {
          const int32_t q = indices[2 * p];
          add_one(ranking.value(q, distances[p]), indices[2 * p + 1], 1, standings[static_cast<size_t>(q)]);
        }
      });
  auto next = before.begin();
  for (Standing& standing : standings) {
    for (int64_t& count : standing.before) count += *next++;
  }
}

// The next number of the dtype, upwards or downwards.
double neighbor(double distance, int direction, DType dtype) {
  const double limit = direction * std::numeric_limits<double>::infinity();
  if (dtype == DType::f64) return std::nextafter(distance, limit);
  return double{std::nextafter(static_cast<float>(distance), static_cast<float>(limit))};
}

}  // namespace

double DistanceRanking::value(int64_t, double distance, double) const {
  return pairs_.dtype() == DType::f32 ? double{static_cast<float>(distance)} : distance;
}

// Below the previous number a pair is rounded to less, above the next one to more.
std::pair<double, double> DistanceRanking::around(int64_t, double value) const {
  return {std::max(0.0, neighbor(value, -1, pairs_.dtype())), neighbor(value, 1, pairs_.dtype())};
}

SparseRows DistanceRanking::close(int64_t begin, int64_t end) const {
  SparseRows none;
  none.offsets.assign(static_cast<size_t>(end - begin) + 1, 0);
  return none;
}

std::vector<Standing> standings_of(const Ranking& ranking, const RetrievalFilter& filter, bool ends) {
  const DistanceTiles& pairs = ranking.pairs();
  std::vector<bool> junk(static_cast<size_t>(pairs.width()), false);
  for (int64_t j : filter.junk()) junk[static_cast<size_t>(j)] = true;
  std::vector<Standing> standings(static_cast<size_t>(pairs.count()));
  const int64_t step = queries_per_close_block(pairs.width());
  for (int64_t begin = 0; begin < pairs.count(); begin += step) {
    const int64_t last = std::min(begin + step, pairs.count());
    const SingleEntries entries(ranking, filter, begin, last);
    parallel_for(last - begin, 16, [&](int64_t first, int64_t end, int) {
      for (int64_t q = begin + first; q < begin + end; ++q) standings[static_cast<size_t>(q)] = entries.standing(q, junk, ends);
    });
  }
  const PairFilter products(pairs);
  const Bounds bounds(products, filter.junk());
  (pairs.device() == Device{} ? count_here : count_there)(ranking, products, bounds, standings);
  return standings;
}

}  // namespace reid
