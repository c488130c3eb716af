// DBSCAN (Ester et al., KDD 1996) without a neighbor graph.

#include <algorithm>
#include <deque>
#include <limits>
#include <numeric>

#include "people/distances.h"
#include "people/jaccard.h"
#include "people/jaccard_device.h"
#include "people/neighbors.h"

namespace reid {

namespace {

void check_options(const DbscanOptions& options) {
  REID_CHECK(options.eps > 0 && options.eps <= std::numeric_limits<double>::max(), "[dbscan] eps is ", options.eps,
             ", expected a finite number above 0");
  REID_CHECK(options.min_samples >= 1, "[dbscan] min_samples is ", options.min_samples, ", expected at least 1");
  REID_CHECK(options.pair_bytes >= 0, "[dbscan] pair_bytes is ", options.pair_bytes, ", expected at least 0");
}

// The clusters of points whose pairs within eps come one by one, each once, in any order.
//
// Neighbors are counted as pairs come. A point that has min_samples of them is a core point from then on: a pair of two such
// is united at once and forgotten. A pair waits only while an end is not yet known to be core, and that end has fewer than
// min_samples neighbors so far: at most N (min_samples - 2) pairs wait, however many there are. When even those are too
// many, none are kept: the counts are completed, and two more passes over the pairs unite core points and label border points.
//
// Sets are joined under their smallest index, so the result does not depend on the order of the pairs.
class DensityClusters {
 public:
  DensityClusters(int64_t count, const DbscanOptions& options)
      : min_samples_(options.min_samples),
        most_waiting_(static_cast<size_t>(options.pair_bytes) / sizeof(Pair)),
        neighbors_(static_cast<size_t>(count), 1),
        parent_(neighbors_.size()) {
    std::iota(parent_.begin(), parent_.end(), 0);
  }

  // First pass.
  void add(int64_t i, std::span<const int32_t> columns) {
    const int32_t own = static_cast<int32_t>(i);
    for (int32_t j : columns) {
      ++neighbors_[static_cast<size_t>(i)];
      ++neighbors_[static_cast<size_t>(j)];
      if (is_core(own) && is_core(j)) {
        unite(own, j);
      } else if (!overflowed_) {
        waiting_.emplace_back(own, j);
        if (waiting_.size() > most_waiting_) shrink();
      }
    }
  }
  bool overflowed() const { return overflowed_; }

  // Second pass, after an overflow.
  void unite_cores(int64_t i, std::span<const int32_t> columns) {
    if (!is_core(static_cast<int32_t>(i))) return;
    for (int32_t j : columns) {
      if (is_core(j)) unite(static_cast<int32_t>(i), j);
    }
  }

  // All core points are united: numbers the clusters by their first core point.
  Clusters number() {
    for (const auto& [i, j] : waiting_) {
      if (is_core(i) && is_core(j)) unite(i, j);
    }
    Clusters result;
    result.labels.assign(parent_.size(), -1);
    for (int32_t i = 0; i < static_cast<int32_t>(parent_.size()); ++i) {
      if (!is_core(i)) continue;
      const int32_t first = root(i);
      result.labels[static_cast<size_t>(i)] = first == i ? result.count++ : result.labels[static_cast<size_t>(first)];
    }
    for (const auto& [i, j] : waiting_) label_border(i, j, result);
    return result;
  }
  bool has_border_points() const {
    return std::any_of(neighbors_.begin(), neighbors_.end(), [&](int64_t n) { return n > 1 && n < min_samples_; });
  }
  // Third pass, after an overflow.
  void label_borders(int64_t i, std::span<const int32_t> columns, Clusters& result) const {
    for (int32_t j : columns) label_border(static_cast<int32_t>(i), j, result);
  }

 private:
  using Pair = std::pair<int32_t, int32_t>;

  bool is_core(int32_t i) const { return neighbors_[static_cast<size_t>(i)] >= min_samples_; }

  int32_t root(int32_t i) {
    while (parent_[static_cast<size_t>(i)] != i) {
      int32_t& up = parent_[static_cast<size_t>(i)];
      up = parent_[static_cast<size_t>(up)];
      i = up;
    }
    return i;
  }

  void unite(int32_t i, int32_t j) {
    const int32_t a = root(i), b = root(j);
    if (a != b) parent_[static_cast<size_t>(std::max(a, b))] = std::min(a, b);
  }

  void shrink() {
    std::deque<Pair> still;
    for (const auto& [i, j] : waiting_) {
      if (is_core(i) && is_core(j)) {
        unite(i, j);
      } else {
        still.emplace_back(i, j);
      }
    }
    overflowed_ = still.size() > most_waiting_ / 2;  // less would be shrunk again and again
    waiting_ = overflowed_ ? std::deque<Pair>() : std::move(still);
  }

  void label_border(int32_t i, int32_t j, Clusters& result) const {
    if (is_core(i) == is_core(j)) return;
    const int32_t border = is_core(i) ? j : i;
    int64_t& label = result.labels[static_cast<size_t>(border)];
    const int64_t reached = result.labels[static_cast<size_t>(is_core(i) ? i : j)];
    if (label == -1 || reached < label) label = reached;
  }

  int64_t min_samples_;
  size_t most_waiting_;
  bool overflowed_ = false;
  std::vector<int64_t> neighbors_;  // within eps, the point itself included
  std::vector<int32_t> parent_;
  std::deque<Pair> waiting_;
};

int64_t count_noise(const Clusters& clusters) { return std::count(clusters.labels.begin(), clusters.labels.end(), int64_t{-1}); }

// `for_each_pair(progress, use)` calls use(i, columns) for all pairs i < j within eps.
template <class ForEachPair>
Clusters cluster_pairs(int64_t count, const DbscanOptions& options, const ClusterProgress& progress, ForEachPair&& for_each_pair) {
  DensityClusters clusters(count, options);
  const auto pass = [&](const std::string& phase, FunctionRef<void(int64_t, std::span<const int32_t>)> use) {
    if (progress) progress(phase, 0);
    for_each_pair(progress ? Progress([&](double share) { progress(phase, share); }) : Progress(), use);
  };
  pass("graph", [&](int64_t i, std::span<const int32_t> columns) { clusters.add(i, columns); });
  if (clusters.overflowed()) {
    pass("graph, second pass", [&](int64_t i, std::span<const int32_t> columns) { clusters.unite_cores(i, columns); });
  }
  if (progress) progress("labels", 0);
  Clusters result = clusters.number();
  if (clusters.overflowed() && clusters.has_border_points()) {
    pass("labels, third pass", [&](int64_t i, std::span<const int32_t> columns) { clusters.label_borders(i, columns, result); });
  }
  result.noise = count_noise(result);
  return result;
}

int64_t label_bytes(int64_t rows, const DbscanOptions& options) {
  const int64_t per_row = std::max<int64_t>(0, std::min(options.min_samples, rows) - 2);
  return rows * 20 + std::min(options.pair_bytes, rows * per_row * 8);  // neighbor counts, parents, labels; waiting pairs
}

// Every pair is within eps: one cluster, or none.
Clusters all_together(int64_t count, const DbscanOptions& options) {
  const bool core = count >= options.min_samples;
  return {.labels = std::vector<int64_t>(static_cast<size_t>(count), core ? 0 : -1), .count = core ? 1 : 0, .noise = core ? 0 : count};
}

void check_distances(const Tensor& distances) {
  REID_CHECK(distances.defined() && (distances.dtype() == DType::f32 || distances.dtype() == DType::f64),
             "[dbscan] distances must be f32 or f64", distances.defined() ? str(", are ", distances.dtype()) : std::string());
  REID_CHECK(distances.shape().rank() == 2 && distances.dim(0) == distances.dim(1), "[dbscan] distances have shape ", distances.shape(),
             ", expected [N, N]");
  REID_CHECK(distances.dim(0) >= 1, "[dbscan] there are no points");
  REID_CHECK(distances.device() == Device{}, "[dbscan] distances lie on ", distances.device(), ", expected the CPU");
}

// The matrix need not be symmetric: row i holds the neighbors of point i. A search completes its cluster before the next one
// starts, so a border point has the number of the first cluster that reaches it. Points are marked when first seen, which keeps
// the stack below N entries.
template <class T>
Clusters cluster_matrix(const Tensor& distances, const DbscanOptions& options) {
  const int64_t count = distances.dim(0);
  const T limit = static_cast<T>(options.eps);
  const T* d = distances.data<T>();
  std::vector<int64_t> neighbors(static_cast<size_t>(count), 0);
  parallel_for(count, 16, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t j = 0; j < count; ++j) {
        const T value = d[i * count + j];
        REID_CHECK(value >= 0, "[dbscan] the distance of points ", i, " and ", j, " is ", value, ", expected a number of at least 0");
        neighbors[static_cast<size_t>(i)] += value <= limit ? 1 : 0;
      }
    }
  });
  Clusters result;
  result.labels.assign(neighbors.size(), -1);
  const auto is_core = [&](int64_t i) { return neighbors[static_cast<size_t>(i)] >= options.min_samples; };
  std::vector<int64_t> stack;
  for (int64_t seed = 0; seed < count; ++seed) {
    if (result.labels[static_cast<size_t>(seed)] != -1 || !is_core(seed)) continue;
    result.labels[static_cast<size_t>(seed)] = result.count;
    stack.push_back(seed);
    while (!stack.empty()) {
      const int64_t i = stack.back();
      stack.pop_back();
      if (!is_core(i)) continue;
      for (int64_t j = 0; j < count; ++j) {
        if (d[i * count + j] > limit || result.labels[static_cast<size_t>(j)] != -1) continue;
        result.labels[static_cast<size_t>(j)] = result.count;
        stack.push_back(j);
      }
    }
    ++result.count;
  }
  result.noise = count_noise(result);
  return result;
}

}  // namespace

Clusters dbscan(const Tensor& distances, const DbscanOptions& options) {
  check_options(options);
  check_distances(distances);
  return distances.dtype() == DType::f32 ? cluster_matrix<float>(distances, options) : cluster_matrix<double>(distances, options);
}

Clusters dbscan_features(const Tensor& features, Metric metric, const DbscanOptions& options, const ClusterProgress& progress) {
  check_options(options);
  const DistanceTiles pairs(features, "[dbscan] features", metric, options.device);
  return cluster_pairs(pairs.count(), options, progress,
                       [&](const Progress& on_pairs, FunctionRef<void(int64_t, std::span<const int32_t>)> use) {
                         for_each_pair_within(pairs, options.eps, on_pairs, use);
                       });
}

Clusters dbscan_jaccard(const Tensor& features, const JaccardOptions& jaccard, const DbscanOptions& options,
                        const ClusterProgress& progress) {
  check_options(options);
  const DistanceTiles pairs(features, "[dbscan] features", Metric::cosine, options.device);
  const auto cluster = [&](const auto& encoding) {
    if (options.eps >= 1) return all_together(pairs.count(), options);  // no Jaccard distance is above 1
    return cluster_pairs(pairs.count(), options, progress,
                         [&](const Progress& on_pairs, FunctionRef<void(int64_t, std::span<const int32_t>)> use) {
                           encoding.for_each_pair_within(options.eps, on_pairs, use);
                         });
  };
  const auto there = [&] { return encode_there(pairs, encoding_lists(pairs, jaccard, progress), encoding_options(jaccard)); };
  return pairs.device() == Device{} ? cluster(encode(pairs, jaccard, progress)) : cluster(there());
}

int64_t dbscan_features_bytes(int64_t rows, int64_t columns, const DbscanOptions& options) {
  check_options(options);
  const int64_t search = radius_bytes(rows, rows, columns, true, options.device);
  return options.device == Device{} ? search + label_bytes(rows, options) : search;
}

int64_t dbscan_jaccard_bytes(int64_t rows, int64_t columns, const JaccardOptions& jaccard, const DbscanOptions& options) {
  check_options(options);
  const EncodingOptions encoding = encoding_options(jaccard);
  const int64_t width = encoding_list_length(encoding, rows), lists = rows * width * 12;
  const int64_t search = neighbor_bytes(rows, rows, columns, true, width, true, options.device);
  if (options.device != Device{}) return std::max(search, rows * columns * 4 + lists + encoding_bytes(encoding, rows));
  return std::max({search, lists + encoding_bytes(encoding, rows), encoding_bytes(encoding, rows) + label_bytes(rows, options)});
}

}  // namespace reid
