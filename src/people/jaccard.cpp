// k-reciprocal encoding and its Jaccard distance (Zhong et al., CVPR 2017), sparse. The steps R, R*, V, s are those of
// jaccard_distance's comment in cluster.h.

#include "people/jaccard.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "reid/engine/exponential.h"

namespace reid {

namespace {

using Sets = std::vector<std::vector<int32_t>>;
using SparseRow = std::vector<std::pair<int32_t, double>>;

// R(i, k), ascending; `length` is how many list entries k stands for.
Sets reciprocal_sets(const Neighbors& ranking, int64_t count, int64_t length) {
  Sets sets(static_cast<size_t>(count));
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
std::vector<int32_t> expanded_set(const std::vector<int32_t>& own, const Sets& half) {
  std::vector<int32_t> result = own;
  for (int32_t candidate : own) {
    const std::vector<int32_t>& other = half[static_cast<size_t>(candidate)];
    if (3 * overlap(other, own) > 2 * other.size()) result.insert(result.end(), other.begin(), other.end());
  }
  std::sort(result.begin(), result.end());
  result.erase(std::unique(result.begin(), result.end()), result.end());
  return result;
}

// Makes rows in parallel, some thousand at a time, and packs them. `make(i, row)` fills an empty row.
template <class Make>
SparseRows pack_rows(int64_t count, Make&& make) {
  constexpr int64_t kRows = 4096;
  SparseRows packed;
  std::vector<SparseRow> rows(static_cast<size_t>(std::min(count, kRows)));
  for (int64_t first = 0; first < count; first += kRows) {
    const int64_t last = std::min(first + kRows, count);
    parallel_for(last - first, 64, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t r = begin; r < end; ++r) {
        rows[static_cast<size_t>(r)].clear();
        make(first + r, worker, rows[static_cast<size_t>(r)]);
      }
    });
    for (int64_t r = 0; r < last - first; ++r) {
      for (const auto& [column, value] : rows[static_cast<size_t>(r)]) {
        packed.columns.push_back(column);
        packed.values.push_back(value);
      }
      packed.offsets.push_back(static_cast<int64_t>(packed.columns.size()));
    }
  }
  packed.columns.shrink_to_fit();
  packed.values.shrink_to_fit();
  return packed;
}

// Calls use(j, distance of i and j) for the ascending members of a set, by the lists where they have it.
template <class Use>
void with_distances(const DistanceTiles& pairs, const Neighbors& neighbors, int64_t i, const std::vector<int32_t>& set, Use&& use) {
  SparseRow known;
  if (!neighbors.distance.empty()) {
    const std::span<const int32_t> index = neighbors.row(i, neighbors.width);
    for (size_t e = 0; e < index.size(); ++e) known.emplace_back(index[e], neighbors.distances(i, neighbors.width)[e]);
    std::sort(known.begin(), known.end());
  }
  auto at = known.begin();
  for (int32_t j : set) {
    while (at != known.end() && at->first < j) ++at;
    use(j, at != known.end() && at->first == j ? at->second : pairs.pair(i, j));
  }
}

SparseRows weights(const DistanceTiles& pairs, const Neighbors& neighbors, const EncodingOptions& options, int64_t length,
                   int64_t half_length) {
  const Sets full = reciprocal_sets(neighbors, pairs.count(), length), half = reciprocal_sets(neighbors, pairs.count(), half_length);
  return pack_rows(pairs.count(), [&](int64_t i, int, SparseRow& row) {
    double sum = 0;
    with_distances(pairs, neighbors, i, expanded_set(full[static_cast<size_t>(i)], half), [&](int32_t j, double distance) {
      row.emplace_back(j, options.weights(i, distance));  // at least e^-4 under cosine
      sum += row.back().second;
    });
    for (auto& [column, value] : row) value /= sum;
  });
}

// The mean of the rows of the first k2 neighbors, summed in the order of the ranking.
SparseRows query_expansion(const SparseRows& rows, const Neighbors& ranking, int64_t k2) {
  std::vector<std::vector<double>> scratch(static_cast<size_t>(threads()));
  return pack_rows(rows.count(), [&](int64_t i, int worker, SparseRow& row) {
    std::vector<double>& sums = scratch[static_cast<size_t>(worker)];
    sums.resize(static_cast<size_t>(rows.count()), 0);
    const std::span<const int32_t> neighbors = ranking.row(i, k2);
    for (int32_t j : neighbors) {
      const std::span<const int32_t> columns = rows.columns_of(j);
      const std::span<const double> values = rows.values_of(j);
      for (size_t e = 0; e < columns.size(); ++e) {
        double& sum = sums[static_cast<size_t>(columns[e])];
        if (sum == 0) row.emplace_back(columns[e], 0);
        sum += values[e];
      }
    }
    std::sort(row.begin(), row.end());
    for (auto& [column, value] : row) {
      value = sums[static_cast<size_t>(column)] / static_cast<double>(neighbors.size());
      sums[static_cast<size_t>(column)] = 0;
    }
  });
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

double EncodingWeights::operator()(int64_t i, double distance) const {
  return exponential(largest.empty() ? -2 * distance : -scaled_distance(distance, largest[static_cast<size_t>(i)], power));
}

EncodingLengths::EncodingLengths(const EncodingOptions& options, int64_t count) {
  REID_CHECK(options.k1 >= 1, "[jaccard_distance] k1 is ", options.k1, ", expected at least 1");
  REID_CHECK(options.k2 >= 1, "[jaccard_distance] k2 is ", options.k2, ", expected at least 1");
  const int64_t k1 = std::min(options.k1, 2 * count + 2);
  full = k1 + (options.k1_counts_self ? 0 : 1);
  half = std::min(half_to_even(k1) + 1, full);
  expansion = std::min(options.k2, count);
}

int64_t encoding_list_length(const EncodingOptions& options, int64_t count) {
  const EncodingLengths lengths(options, count);
  return std::min(count, std::max(lengths.full, lengths.expansion));
}

int64_t encoding_bytes(const EncodingOptions& options, int64_t count) {
  const EncodingLengths lengths(options, count);
  const int64_t list = std::min(count, lengths.full), plain = std::min(count, list * 3 / 2);
  const int64_t expanded = lengths.expansion > 1 ? std::min(count, list * (2 + lengths.expansion) / 2) : plain;
  const int64_t sets = 2 * (24 + 16) + 4 * (list + std::min(count, lengths.half));  // vectors of R(i, k1) and R(i, k1/2)
  return count * (std::max(sets + 24 * plain, 12 * plain + 24 * expanded) + 16);
}

KReciprocalEncoding::KReciprocalEncoding(const DistanceTiles& pairs, const Neighbors& neighbors, const EncodingOptions& options) {
  const int64_t wanted = encoding_list_length(options, pairs.count());
  REID_CHECK(pairs.same() && neighbors.width >= wanted && static_cast<int64_t>(neighbors.index.size()) == pairs.count() * neighbors.width,
             "[jaccard_distance] neighbor lists have ", neighbors.width, " entries, expected ", wanted, " of a set among itself");
  const EncodingLengths lengths(options, pairs.count());
  rows_ = weights(pairs, neighbors, options, lengths.full, lengths.half);
  if (lengths.expansion > 1) rows_ = query_expansion(rows_, neighbors, lengths.expansion);
  inverse_ = transpose(rows_);
}

struct KReciprocalEncoding::Scratch {
  explicit Scratch(int64_t count) : shared(static_cast<size_t>(count), 0) {}
  std::vector<double> shared;    // s of the row at hand, 0 elsewhere
  std::vector<int32_t> touched;  // where it is above 0
};

template <class Use>
void KReciprocalEncoding::visit(int64_t i, int64_t first_column, Scratch& scratch, Use&& use) const {
  const std::span<const int32_t> columns = rows_.columns_of(i);
  const std::span<const double> values = rows_.values_of(i);
  double* shared = scratch.shared.data();
  for (size_t e = 0; e < columns.size(); ++e) {
    const std::span<const int32_t> others = inverse_.columns_of(columns[e]);
    const double* theirs = inverse_.values_of(columns[e]).data();
    const auto from = std::lower_bound(others.begin(), others.end(), static_cast<int32_t>(first_column));
    for (size_t at = static_cast<size_t>(from - others.begin()); at < others.size(); ++at) {
      double& s = shared[others[at]];
      if (s == 0) scratch.touched.push_back(others[at]);
      s += std::min(values[e], theirs[at]);
    }
  }
  for (int32_t j : scratch.touched) {
    const double s = std::exchange(shared[j], 0.0);
    use(j, j == i ? 0 : std::max(0.0, 1 - s / (2 - s)));
  }
  scratch.touched.clear();
}

SparseRows KReciprocalEncoding::distances(int64_t begin, int64_t end, int64_t first_column) const {
  REID_CHECK(begin >= 0 && begin <= end && end <= count() && first_column >= 0 && first_column <= count(), "[jaccard_distance] rows ",
             begin, "..", end, " from column ", first_column, " of ", count());
  std::vector<Scratch> scratch(static_cast<size_t>(threads()), Scratch(count()));
  return pack_rows(end - begin, [&](int64_t r, int worker, SparseRow& row) {
    visit(begin + r, first_column, scratch[static_cast<size_t>(worker)],
          [&](int32_t j, double distance) { row.emplace_back(j, distance); });
    std::sort(row.begin(), row.end());
  });
}

void KReciprocalEncoding::for_each_pair_within(double radius, const Progress& progress,
                                               FunctionRef<void(int64_t i, std::span<const int32_t> columns)> use) const {
  REID_CHECK(radius < 1, "[jaccard_distance] all pairs lie within ", radius);
  constexpr int64_t kRows = 1024;
  std::vector<Scratch> scratch(static_cast<size_t>(threads()), Scratch(count()));
  std::vector<std::vector<int32_t>> found(static_cast<size_t>(std::min(kRows, count())));
  for (int64_t first = 0; first < count(); first += kRows) {
    const int64_t last = std::min(first + kRows, count());
    parallel_for(last - first, 16, [&](int64_t begin, int64_t end, int worker) {
      for (int64_t r = begin; r < end; ++r) {
        std::vector<int32_t>& row = found[static_cast<size_t>(r)];
        row.clear();
        visit(first + r, first + r + 1, scratch[static_cast<size_t>(worker)], [&](int32_t j, double distance) {
          if (distance <= radius) row.push_back(j);
        });
        std::sort(row.begin(), row.end());
      }
    });
    for (int64_t r = 0; r < last - first; ++r) {
      if (!found[static_cast<size_t>(r)].empty()) use(first + r, found[static_cast<size_t>(r)]);
    }
    if (progress) progress(static_cast<double>(last) / static_cast<double>(count()));
  }
}

EncodingOptions encoding_options(const JaccardOptions& options) {
  return {.k1 = options.k1, .k2 = options.k2, .k1_counts_self = options.k1_counts_self};
}

Neighbors encoding_lists(const DistanceTiles& pairs, const JaccardOptions& options, const ClusterProgress& progress) {
  NeighborOptions search;
  search.distances = true;
  if (progress) {
    progress("neighbors", 0);
    search.progress = [&](double share) { progress("neighbors", share); };
  }
  Neighbors neighbors = nearest_neighbors(pairs, encoding_list_length(encoding_options(options), pairs.count()), search);
  if (progress) progress("encoding", 0);
  return neighbors;
}

KReciprocalEncoding encode(const DistanceTiles& pairs, const JaccardOptions& options, const ClusterProgress& progress) {
  return KReciprocalEncoding(pairs, encoding_lists(pairs, options, progress), encoding_options(options));
}

namespace {

template <class T>
Tensor dense(const KReciprocalEncoding& encoding, DType dtype) {
  constexpr int64_t kRows = 1024;
  const int64_t count = encoding.count();
  const Tensor result = Tensor::full({count, count}, 1, dtype);
  for (int64_t first = 0; first < count; first += kRows) {
    const SparseRows rows = encoding.distances(first, std::min(first + kRows, count));
    for (int64_t r = 0; r < rows.count(); ++r) {
      T* row = result.data<T>() + (first + r) * count;
      for (size_t e = 0; e < rows.columns_of(r).size(); ++e) row[rows.columns_of(r)[e]] = static_cast<T>(rows.values_of(r)[e]);
    }
  }
  return result;
}

}  // namespace

Tensor jaccard_distance(const Tensor& features, const JaccardOptions& options) {
  const DistanceTiles pairs(features, "[jaccard_distance] features", Metric::cosine);
  const KReciprocalEncoding encoding = encode(pairs, options);
  return features.dtype() == DType::f32 ? dense<float>(encoding, DType::f32) : dense<double>(encoding, DType::f64);
}

}  // namespace reid
