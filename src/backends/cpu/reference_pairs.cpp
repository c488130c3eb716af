// Reference: the steps of a search among rows of features.

#include <algorithm>
#include <bit>
#include <utility>
#include <vector>

#include "reference.h"
#include "reid/engine/op_args_pairs.h"

namespace reid::cpu {

namespace {

template <class T>
double distance(const RowSets& r, int64_t i, int64_t j) {
  const T *x = in<T>(r.x) + i * r.columns, *y = in<T>(r.y) + j * r.columns;
  const double scale_x = in<double>(r.scale_x)[i], scale_y = in<double>(r.scale_y)[j];
  const double square = sum_of_squares(r.columns, [&](int64_t k) { return double{x[k]} * scale_x - double{y[k]} * scale_y; });
  switch (r.form) {
    case DistanceForm::squared: return square;
    case DistanceForm::euclidean: return std::sqrt(square);
    case DistanceForm::cosine: return std::min(2.0, square / 2);
  }
  return square;
}

template <class T>
void center_rows(const CenterRowsArgs& a) {
  for (int64_t i = 0; i < a.rows; ++i) {
    const double square = sum_of_squares(a.columns, [&](int64_t k) {
      const int64_t at = i * a.columns + k;
      const float y = static_cast<float>(double{in<T>(a.x)[at]} * in<double>(a.scale)[i] - in<double>(a.center)[k]);
      const bf16 high(y);
      out<bf16>(a.high)[at] = high;
      out<bf16>(a.low)[at] = bf16(y - float{high});
      return double{y};
    });
    out<double>(a.half)[i] = square / 2;
  }
}

template <class T>
void pair_distances(const PairDistancesArgs& a) {
  for (int64_t p = 0; p < a.count; ++p) out<double>(a.d)[p] = distance<T>(a, a.pairs[2 * p], a.pairs[2 * p + 1]);
}

// --- nearest rows ---

float key_of(uint64_t place) { return std::bit_cast<float>(float_bits(static_cast<uint32_t>(place >> 32))); }

void merge_nearest(const MergeNearestArgs& a, Stream&) {
  std::vector<uint64_t> all;
  for (int64_t i = 0; i < a.m; ++i) {
    const uint64_t* before = in<uint64_t>(a.before) + i * a.count;
    all.assign(before, before + a.count);
    for (int64_t j = 0; j < a.n; ++j) {
      const int64_t column = a.first_column + j;
      if (a.own_column >= 0 && column == a.own_column + i) continue;
      const float product = a.products[i * a.n + j], key = a.farthest ? a.edge[j] + product : a.edge[j] - product;
      all.push_back(uint64_t{ordered_bits(std::bit_cast<uint32_t>(key))} << 32 | static_cast<uint32_t>(column));
    }
    std::sort(all.begin(), all.end());
    std::copy_n(all.begin(), a.count, out<uint64_t>(a.after) + i * a.count);
  }
}

template <class T>
void rank_nearest(const RankNearestArgs& a) {
  std::vector<std::pair<double, int32_t>> ranked;
  for (int64_t i = 0; i < a.m; ++i) {
    const uint64_t* list = in<uint64_t>(a.lists) + i * a.count;
    const double limit = double{key_of(list[a.wanted - 1])} + a.slack;
    ranked.clear();
    for (int64_t e = 0; e < a.count && list[e] != kFreePlace && double{key_of(list[e])} <= limit; ++e) {
      const auto column = static_cast<int32_t>(list[e] & 0xFFFFFFFFu);
      ranked.emplace_back((a.farthest ? -1 : 1) * distance<T>(a, i, column), column);
    }
    a.open[i] = static_cast<int64_t>(ranked.size()) == a.count ? 1 : 0;
    std::sort(ranked.begin(), ranked.end());
    for (int64_t e = 0; e < a.wanted; ++e) {
      out<double>(a.d)[i * a.wanted + e] = (a.farthest ? -1 : 1) * ranked[static_cast<size_t>(e)].first;
      a.index[i * a.wanted + e] = ranked[static_cast<size_t>(e)].second;
    }
  }
}

// --- pairs of a tile ---

void select(const FoundPairs& found, int64_t rows, int64_t columns, auto&& chosen) {
  int32_t count = 0;
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      if (!chosen(i, j)) continue;
      if (count < found.capacity) {
        found.pairs[2 * count] = static_cast<int32_t>(found.first_row + i);
        found.pairs[2 * count + 1] = static_cast<int32_t>(found.first_column + j);
      }
      ++count;
    }
  }
  *found.found = count;
}

void select_pairs(const SelectPairsArgs& a, Stream&) {
  select(a, a.m, a.n, [&](int64_t i, int64_t j) {
    const float gap = a.products[i * a.n + j] - a.edge[j];
    return (a.below ? gap <= a.bar[i] : gap >= a.bar[i]) && (!a.above || a.first_column + j > a.first_row + i);
  });
}

// The first place that column j comes surely before, and whether it perhaps comes before an earlier one.
std::pair<int32_t, bool> standing(const RankedTile& t, int64_t i, int64_t j) {
  const float product = t.products[i * t.n + j];
  int32_t sure = t.places[i];
  while (sure < t.places[i + 1] && !(product - t.sure_edge[j] > t.sure_bar[sure])) ++sure;
  bool undecided = false;
  for (int32_t p = t.places[i]; p < sure; ++p) undecided |= product - t.maybe_edge[j] >= t.maybe_bar[p];
  return {sure, undecided};
}

void count_before(const CountBeforeArgs& a, Stream&) {
  for (int64_t i = 0; i < a.m; ++i) {
    for (int64_t j = 0; j < a.n; ++j) {
      const auto [sure, undecided] = standing(a, i, j);
      for (int32_t p = sure; !undecided && p < a.places[i + 1]; ++p) ++a.before[p];
    }
  }
}

void select_undecided(const SelectUndecidedArgs& a, Stream&) {
  select(a, a.m, a.n, [&](int64_t i, int64_t j) { return standing(a, i, j).second; });
}

template <class Op>
void add_typeless(void (*run)(const typename Op::Args&, Stream&)) {
  Registry::add<Op>(DeviceType::cpu, {"reference", nullptr, run});
}

}  // namespace

void register_reference_pairs() {
  REID_REFERENCE(CenterRows, center_rows);
  REID_REFERENCE(PairDistances, pair_distances);
  REID_REFERENCE(RankNearest, rank_nearest);
  add_typeless<MergeNearest>(merge_nearest);
  add_typeless<SelectPairs>(select_pairs);
  add_typeless<CountBefore>(count_before);
  add_typeless<SelectUndecided>(select_undecided);
}

}  // namespace reid::cpu
