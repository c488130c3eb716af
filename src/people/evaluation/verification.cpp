// Verification: different pairs are counted between the distances of the same pairs, which come first.

#include "reid/people/verification.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <set>
#include <unordered_map>
#include <utility>

#include "people/distances.h"
#include "people/evaluation/blocks.h"
#include "people/evaluation/filter.h"
#include "people/evaluation/roc.h"

namespace reid {

namespace {

constexpr int64_t kBins = 2048;    // counted, of equal width, up to the largest possible distance
constexpr int64_t kMostBins = 64;  // reported: joined by powers of two

// A pair's group: both identities in half 0, both in half 1, or one in each.
constexpr int kMixed = 2;

// Which half each row is in, and the rows' labels.
struct Halves {
  std::vector<int> query, gallery;
  bool divided = false;  // both halves have same pairs
};

Halves divide(const RetrievalFilter& filter, int64_t queries, uint64_t seed) {
  const RetrievalLabels& labels = filter.labels();
  std::set<int64_t> with_pairs;
  std::vector<int64_t> matches, removed;
  for (int64_t q = 0; q < queries; ++q) {
    filter.entries(q, matches, removed);
    if (!matches.empty()) with_pairs.insert(labels.query_ids[static_cast<size_t>(q)]);
  }
  std::vector<int64_t> ids(with_pairs.begin(), with_pairs.end());
  Rng(seed).at("halves").shuffle(ids);
  std::unordered_map<int64_t, int> half;
  for (size_t i = 0; i < ids.size(); ++i) half[ids[i]] = i < ids.size() / 2 ? 0 : 1;
  const auto of = [&](int64_t id) {
    const auto found = half.find(id);
    return found != half.end() ? found->second : static_cast<int>(Rng(seed).at("others").at(static_cast<uint64_t>(id)).below(2));
  };
  Halves result;
  for (int64_t id : labels.query_ids) result.query.push_back(of(id));
  for (int64_t id : labels.gallery_ids) result.gallery.push_back(of(id));
  result.divided = ids.size() >= 2;
  return result;
}

Tensor gather(const Tensor& features, const std::vector<int64_t>& rows) {
  const Tensor out = Tensor::empty({static_cast<int64_t>(rows.size()), features.dim(1)}, features.dtype());
  for (size_t i = 0; i < rows.size(); ++i) {
    const auto to = static_cast<int64_t>(i);
    out.rows(to, to + 1).copy_from(features.rows(rows[i], rows[i] + 1));
  }
  return out;
}

// The distances of all same pairs, identity by identity, by half.
template <class T>
std::array<std::vector<T>, 2> same_distances(const EvaluationInput& in, const RetrievalFilter& filter, const Halves& halves,
                                             Metric metric) {
  std::unordered_map<int64_t, std::vector<int64_t>> queries_of;
  for (size_t q = 0; q < in.query_ids.size(); ++q) {
    if (in.query_ids[q] != kJunkId) queries_of[in.query_ids[q]].push_back(static_cast<int64_t>(q));
  }
  std::array<std::vector<T>, 2> result;
  std::vector<int64_t> matches, removed;
  for (const auto& [id, queries] : queries_of) {
    std::vector<int64_t> gallery;
    for (const auto& [key, j] : filter.of_identity(id)) gallery.push_back(j);
    if (gallery.empty()) continue;
    const Tensor distances = pairwise_distance(gather(in.query, queries), gather(in.gallery, gallery), metric);
    const T* d = distances.data<T>();
    for (int64_t q : queries) {
      filter.entries(q, matches, removed);
      for (size_t j = 0; j < gallery.size(); ++j, ++d) {
        if (std::binary_search(matches.begin(), matches.end(), gallery[j])) {
          result[static_cast<size_t>(halves.query[static_cast<size_t>(q)])].push_back(*d);
        }
      }
    }
  }
  return result;
}

// Pairs counted at and between the distances of same pairs, by group; and by bins of a histogram.
struct Tally {
  std::array<std::vector<int64_t>, 3> before, at;  // [values + 1], [values]: directly before each value (last: beyond all), and at it
  std::vector<int64_t> histogram = std::vector<int64_t>(kBins, 0);

  explicit Tally(size_t values) {
    for (auto& counts : before) counts.assign(values + 1, 0);
    for (auto& counts : at) counts.assign(values, 0);
  }
  void add(const Tally& other) {
    const auto sum = [](std::vector<int64_t>& to, const std::vector<int64_t>& from) {
      for (size_t k = 0; k < from.size(); ++k) to[k] += from[k];
    };
    for (size_t g = 0; g < 3; ++g) sum(before[g], other.before[g]), sum(at[g], other.at[g]);
    sum(histogram, other.histogram);
  }
};

// Where a distance stands among sorted ones: a table of equal steps narrows it to a value or two.
template <class T>
class Places {
 public:
  Places(std::vector<T> values, double largest) : values_(std::move(values)), low_(values_.front()) {
    const auto count = static_cast<int64_t>(values_.size());
    steps_ = std::clamp<int64_t>(4 * count, 1024, int64_t{1} << 24);
    const T spread = values_.back() - low_;
    scale_ = spread > 0 ? static_cast<T>(steps_ - 1) / spread : 0;
    bin_scale_ = static_cast<T>(kBins / largest);
    first_.assign(static_cast<size_t>(steps_) + 1, count);
    for (int64_t k = count - 1; k >= 0; --k) first_[step_of(values_[static_cast<size_t>(k)])] = k;
    for (auto s = static_cast<size_t>(steps_); s-- > 0;) first_[s] = std::min(first_[s], first_[s + 1]);
  }

  const std::vector<T>& values() const { return values_; }
  size_t bin_of(T value) const { return static_cast<size_t>(std::min(value * bin_scale_, static_cast<T>(kBins - 1))); }

  void count(T value, size_t group, Tally& tally) const {
    ++tally.histogram[bin_of(value)];
    if (value > values_.back()) {
      ++tally.before[group].back();
      return;
    }
    const size_t step = value > low_ ? step_of(value) : 0;
    const auto end = values_.begin() + first_[step + 1], place = std::lower_bound(values_.begin() + first_[step], end, value);
    const auto k = static_cast<size_t>(place - values_.begin());
    ++(place != end && *place == value ? tally.at : tally.before)[group][k];
  }

 private:
  size_t step_of(T value) const { return static_cast<size_t>(std::min((value - low_) * scale_, static_cast<T>(steps_ - 1))); }  // monotone

  std::vector<T> values_;  // ascending, distinct
  T low_, scale_, bin_scale_;
  int64_t steps_;
  std::vector<int64_t> first_;  // [steps + 1] the first value in the step or later
};

template <class T>
void count_tile(const EvaluationInput& in, const RetrievalFilter& filter, const Halves& halves, const Places<T>& places, int64_t begin,
                const Tensor& tile, std::vector<Tally>& tallies) {
  constexpr T kRemoved = std::numeric_limits<T>::infinity();
  const int64_t columns = tile.dim(1);
  parallel_for(tile.dim(0), 4, [&](int64_t first, int64_t last, int worker) {
    Tally& tally = tallies[static_cast<size_t>(worker)];
    std::vector<int64_t> matches, removed;
    for (int64_t r = first; r < last; ++r) {
      const auto q = static_cast<size_t>(begin + r);
      if (in.query_ids[q] == kJunkId) continue;
      filter.entries(begin + r, matches, removed);
      T* d = tile.data<T>() + r * columns;
      for (const std::vector<int64_t>* list : {&std::as_const(matches), &std::as_const(removed), &filter.junk()}) {
        for (int64_t j : *list) d[j] = kRemoved;
      }
      const int own = halves.query[q];
      for (int64_t j = 0; j < columns; ++j) {
        if (d[j] == kRemoved) continue;
        places.count(d[j], static_cast<size_t>(halves.gallery[static_cast<size_t>(j)] == own ? own : kMixed), tally);
      }
    }
  });
}

template <class T>
Tally count_different(const EvaluationInput& in, const RetrievalFilter& filter, const Halves& halves, const DistanceRows& distances,
                      const Places<T>& places) {
  std::vector<Tally> tallies(static_cast<size_t>(threads()), Tally(places.values().size()));
  const int64_t step = queries_per_block(distances.gallery);
  for (int64_t begin = 0; begin < distances.queries; begin += step) {
    count_tile(in, filter, halves, places, begin, distances.rows(begin, std::min(begin + step, distances.queries)), tallies);
  }
  for (size_t t = 1; t < tallies.size(); ++t) tallies[0].add(tallies[t]);
  return std::move(tallies[0]);
}

// No distance between the rows is larger: the sum of the longest rows.
double largest_distance(const EvaluationInput& in, Metric metric) {
  if (metric == Metric::cosine) return 2;
  double sum = 0;
  for (const Tensor* side : {&in.query, &in.gallery}) {
    const std::vector<double> squared = squared_lengths(*side);
    sum += std::sqrt(*std::max_element(squared.begin(), squared.end()));
  }
  if (sum == 0) sum = 1;  // all rows are zeros
  return metric == Metric::squared_euclidean ? sum * sum : sum;
}

template <class T>
RocCounts roc_counts(const Places<T>& places, const Tally& tally, const std::array<std::vector<T>, 2>& same,
                     const std::vector<size_t>& groups) {
  RocCounts roc;
  const size_t count = places.values().size();
  roc.values.assign(places.values().begin(), places.values().end());
  for (auto* list : {&roc.same, &roc.below, &roc.at}) list->assign(count, 0);
  for (size_t g : groups) {
    int64_t below = 0;
    for (size_t k = 0; k < count; ++k) {
      below += tally.before[g][k];
      roc.below[k] += below;
      roc.at[k] += tally.at[g][k];
      below += tally.at[g][k];
    }
    roc.different += below + tally.before[g].back();
    if (g == kMixed) continue;
    for (T value : same[g]) {
      ++roc.same[static_cast<size_t>(std::lower_bound(places.values().begin(), places.values().end(), value) - places.values().begin())];
    }
    roc.same_total += static_cast<int64_t>(same[g].size());
  }
  return roc;
}

void add_histograms(const std::vector<int64_t>& same, const std::vector<int64_t>& different, double largest, VerificationReport& report) {
  size_t used = 0, joined = 1;
  for (size_t b = 0; b < kBins; ++b) used = same[b] + different[b] > 0 ? b + 1 : used;
  while ((used + joined - 1) / joined > kMostBins) joined *= 2;
  report.bin_width = largest / kBins * static_cast<double>(joined);
  report.same_histogram.assign((used + joined - 1) / joined, 0);
  report.different_histogram = report.same_histogram;
  for (size_t b = 0; b < used; ++b) {
    report.same_histogram[b / joined] += same[b];
    report.different_histogram[b / joined] += different[b];
  }
}

template <class T>
VerificationReport verify_as(const EvaluationInput& in, const RetrievalFilter& filter, const DistanceRows& distances,
                             const VerificationOptions& options) {
  const Halves halves = divide(filter, distances.queries, options.seed);
  const std::array<std::vector<T>, 2> same = same_distances<T>(in, filter, halves, options.metric);
  std::vector<T> values = same[0];
  values.insert(values.end(), same[1].begin(), same[1].end());
  REID_CHECK(!values.empty(), "[verify] no query has a right entry in the gallery, so there are no same pairs");
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  const double largest = largest_distance(in, options.metric);
  const Places<T> places(std::move(values), largest);
  const Tally tally = count_different(in, filter, halves, distances, places);

  const RocCounts all = roc_counts(places, tally, same, {0, 1, kMixed});
  REID_CHECK(all.different > 0, "[verify] all pairs show one identity: there are no different pairs");
  VerificationReport report = verification_report(all, options);
  const RocCounts first = roc_counts(places, tally, same, {0}), second = roc_counts(places, tally, same, {1});
  report.held_out = halves.divided && first.different > 0 && second.different > 0;
  recommend(report.held_out ? first : all, report.held_out ? second : all, report);

  std::vector<int64_t> same_bins(kBins, 0);
  for (const std::vector<T>& half : same) {
    for (T value : half) ++same_bins[places.bin_of(value)];
  }
  add_histograms(same_bins, tally.histogram, largest, report);
  return report;
}

}  // namespace

VerificationReport verify(const EvaluationInput& input, const VerificationOptions& options) {
  for (double rate : options.rates) REID_CHECK(rate > 0 && rate < 1, "[verify] a false-accept rate of ", rate, ": expected one in (0, 1)");
  REID_CHECK(options.wanted > 0 && options.wanted < 1, "[verify] a wanted false-accept rate of ", options.wanted,
             ": expected one in (0, 1)");
  const DistanceRows distances = distance_rows(input.query, input.gallery, options.metric);
  const RetrievalFilter filter(input, distances.queries, distances.gallery);
  return input.query.dtype() == DType::f32 ? verify_as<float>(input, filter, distances, options)
                                           : verify_as<double>(input, filter, distances, options);
}

}  // namespace reid
