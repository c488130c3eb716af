// Verification: different pairs are counted between the distances of the same pairs, which come first.

#include "reid/people/verification.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <set>
#include <unordered_map>

#include "people/distances.h"
#include "people/evaluation/blocks.h"
#include "people/evaluation/filter.h"
#include "people/evaluation/roc.h"

namespace reid {

namespace {

constexpr int64_t kBuckets = 1 << 16;  // of distances, to find the place among the same pairs
constexpr int64_t kBins = 64;          // of the histograms; divides kBuckets

// A pair's group: both identities in half 0, both in half 1, or one in each.
constexpr int kMixed = 2;
using Counts = std::array<std::vector<int64_t>, 3>;

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

// Counts of distances between sorted values.
template <class T>
class Places {
 public:
  Places(std::vector<T> values, double largest) : values_(std::move(values)), scale_(static_cast<T>(kBuckets / largest)) {
    first_.resize(kBuckets + 1, static_cast<int64_t>(values_.size()));
    for (int64_t k = static_cast<int64_t>(values_.size()) - 1; k >= 0; --k)
      first_[static_cast<size_t>(bucket(values_[static_cast<size_t>(k)]))] = k;
    for (size_t b = kBuckets; b-- > 0;) first_[b] = std::min(first_[b], first_[b + 1]);
  }

  const std::vector<T>& values() const { return values_; }
  int64_t bucket(T value) const { return static_cast<int64_t>(std::min(value * scale_, static_cast<T>(kBuckets - 1))); }  // monotone

  // For each group: how many in each bucket; in buckets that hold values, how many directly before each value and how many at it.
  struct Tally {
    Counts buckets, before, at;
    explicit Tally(size_t values) {
      for (auto& c : buckets) c.assign(kBuckets, 0);
      for (auto* counts : {&before, &at}) {
        for (auto& c : *counts) c.assign(values, 0);
      }
    }
    void add(const Tally& other) {
      for (size_t g = 0; g < 3; ++g) {
        for (size_t b = 0; b < other.buckets[g].size(); ++b) buckets[g][b] += other.buckets[g][b];
        for (size_t k = 0; k < other.at[g].size(); ++k) before[g][k] += other.before[g][k], at[g][k] += other.at[g][k];
      }
    }
  };

  void count(T value, size_t group, Tally& tally) const {
    const size_t b = static_cast<size_t>(bucket(value));
    ++tally.buckets[group][b];
    if (first_[b] == first_[b + 1]) return;
    const auto begin = values_.begin() + first_[b], end = values_.begin() + first_[b + 1];
    const auto place = std::lower_bound(begin, end, value);
    if (place == end) return;
    ++(*place == value ? tally.at : tally.before)[group][static_cast<size_t>(place - values_.begin())];
  }

  // below[k]: how many of a group are below value k.
  std::vector<int64_t> below(const Tally& tally, size_t group) const {
    std::vector<int64_t> result(values_.size());
    int64_t earlier = 0;  // in the buckets before
    for (size_t b = 0; b < kBuckets; ++b) {
      int64_t within = earlier;
      for (auto k = static_cast<size_t>(first_[b]); k < static_cast<size_t>(first_[b + 1]); ++k) {
        within += tally.before[group][k];
        result[k] = within;
        within += tally.at[group][k];
      }
      earlier += tally.buckets[group][b];
    }
    return result;
  }

 private:
  std::vector<T> values_;  // ascending, distinct
  T scale_;
  std::vector<int64_t> first_;  // [buckets + 1] the first value in the bucket or later
};

template <class T>
using Tally = typename Places<T>::Tally;

template <class T>
Tally<T> count_different(const EvaluationInput& in, const RetrievalFilter& filter, const Halves& halves, const DistanceRows& distances,
                         const Places<T>& places) {
  std::vector<Tally<T>> tallies(static_cast<size_t>(threads()), Tally<T>(places.values().size()));
  std::vector<char> is_junk(in.gallery_ids.size(), 0);
  for (int64_t j : filter.junk()) is_junk[static_cast<size_t>(j)] = 1;
  const int64_t step = queries_per_block(distances.gallery);
  for (int64_t begin = 0; begin < distances.queries; begin += step) {
    const Tensor tile = distances.rows(begin, std::min(begin + step, distances.queries));
    parallel_for(tile.dim(0), 4, [&](int64_t first, int64_t last, int worker) {
      Tally<T>& tally = tallies[static_cast<size_t>(worker)];
      std::vector<int64_t> matches, removed;
      std::vector<char> skip;
      for (int64_t r = first; r < last; ++r) {
        const auto q = static_cast<size_t>(begin + r);
        if (in.query_ids[q] == kJunkId) continue;
        filter.entries(begin + r, matches, removed);
        skip = is_junk;
        for (const auto* list : {&matches, &removed}) {
          for (int64_t j : *list) skip[static_cast<size_t>(j)] = 1;
        }
        const T* d = tile.data<T>() + r * tile.dim(1);
        for (size_t j = 0; j < skip.size(); ++j) {
          if (skip[j] != 0) continue;
          places.count(d[j], static_cast<size_t>(halves.gallery[j] == halves.query[q] ? halves.query[q] : kMixed), tally);
        }
      }
    });
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
RocCounts roc_counts(const Places<T>& places, const Tally<T>& tally, const std::array<std::vector<T>, 2>& same,
                     const std::vector<size_t>& groups) {
  RocCounts roc;
  const size_t count = places.values().size();
  roc.values.assign(places.values().begin(), places.values().end());
  for (auto* list : {&roc.same, &roc.below, &roc.at}) list->assign(count, 0);
  for (size_t g : groups) {
    const std::vector<int64_t> below = places.below(tally, g);
    for (size_t k = 0; k < count; ++k) roc.below[k] += below[k], roc.at[k] += tally.at[g][k];
    roc.different += std::accumulate(tally.buckets[g].begin(), tally.buckets[g].end(), int64_t{0});
    if (g == kMixed) continue;
    for (T value : same[g]) {
      ++roc.same[static_cast<size_t>(std::lower_bound(places.values().begin(), places.values().end(), value) - places.values().begin())];
    }
    roc.same_total += static_cast<int64_t>(same[g].size());
  }
  return roc;
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
  const Tally<T> tally = count_different(in, filter, halves, distances, places);

  const RocCounts all = roc_counts(places, tally, same, {0, 1, kMixed});
  REID_CHECK(all.different > 0, "[verify] all pairs show one identity: there are no different pairs");
  VerificationReport report = verification_report(all, options);
  const RocCounts first = roc_counts(places, tally, same, {0}), second = roc_counts(places, tally, same, {1});
  report.held_out = halves.divided && first.different > 0 && second.different > 0;
  recommend(report.held_out ? first : all, report.held_out ? second : all, report);

  report.bin_width = largest / kBins;
  report.same_histogram.assign(kBins, 0);
  report.different_histogram.assign(kBins, 0);
  for (const std::vector<T>& half : same) {
    for (T value : half) ++report.same_histogram[static_cast<size_t>(places.bucket(value) / (kBuckets / kBins))];
  }
  for (const std::vector<int64_t>& buckets : tally.buckets) {
    for (size_t b = 0; b < buckets.size(); ++b) report.different_histogram[b / (kBuckets / kBins)] += buckets[b];
  }
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
