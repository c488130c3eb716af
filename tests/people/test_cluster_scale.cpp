// Neighbors, radius searches, sparse Jaccard rows and clusters of features: against plain double loops over all pairs, with
// scikit-learn's labels where pairs lie exactly at eps, over several tiles, with any number of threads.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "formats/scratch.h"
#include "people/coded_rows.h"
#include "people/features.h"
#include "people/jaccard.h"
#include "people/neighbors.h"
#include "reid/engine/ops.h"
#include "reid/people/cluster.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;
using reid::test::random_features;

namespace {

using Labels = std::vector<int64_t>;
using Pairs = std::vector<std::pair<int64_t, int64_t>>;  // ascending

// Rows around some centers, far from the origin: products cancel and the filter's bound is put to use.
Tensor groups(int64_t rows, int64_t width, int64_t centers, double spread, double offset, DType dtype, uint64_t seed) {
  const Tensor middle = random_features(centers, width, DType::f64, seed), noise = random_features(rows, width, DType::f64, seed + 1);
  Tensor x = Tensor::empty({rows, width}, DType::f64);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t d = 0; d < width; ++d) {
      const int64_t at = i * width + d;
      x.data<double>()[at] = offset + middle.data<double>()[(i * 7) % centers * width + d] + spread * noise.data<double>()[at];
    }
  }
  return x.to(dtype);
}

void copy_row(const Tensor& x, int64_t from, int64_t to) { x.rows(to, to + 1).copy_from(x.rows(from, from + 1).clone()); }

// All distances, by pair() alone.
Tensor all_pairs(const DistanceTiles& pairs) {
  Tensor d = Tensor::empty({pairs.count(), pairs.width()}, DType::f64);
  for (int64_t i = 0; i < pairs.count(); ++i) {
    for (int64_t j = 0; j < pairs.width(); ++j) d.data<double>()[i * pairs.width() + j] = pairs.pair(i, j);
  }
  return d;
}

// Lists by sorting everything.
int64_t wrong_entries(const DistanceTiles& pairs, const Neighbors& found) {
  const Tensor d = all_pairs(pairs);
  int64_t wrong = 0;
  for (int64_t i = 0; i < pairs.count(); ++i) {
    std::vector<std::pair<double, int64_t>> order;
    for (int64_t j = 0; j < pairs.width(); ++j) {
      const bool self = pairs.same() && i == j;
      order.emplace_back(self ? -1 : d.data<double>()[i * pairs.width() + j], j);
    }
    std::partial_sort(order.begin(), order.begin() + found.width, order.end());
    for (int64_t e = 0; e < found.width; ++e) {
      const auto& [distance, j] = order[static_cast<size_t>(e)];
      const size_t at = static_cast<size_t>(i * found.width + e);
      wrong += found.index[at] != j;
      if (!found.distance.empty()) wrong += found.distance[at] != std::max(0.0, distance);
    }
    if (!found.farthest.empty())
      wrong += found.farthest[static_cast<size_t>(i)] != std::max(0.0, std::max_element(order.begin(), order.end())->first);
  }
  return wrong;
}

Pairs pairs_within(const DistanceTiles& pairs, double radius) {
  Pairs found;
  bool sound = true;  // ascending, never empty
  for_each_pair_within(pairs, radius, {}, [&](int64_t i, std::span<const int32_t> columns) {
    sound = sound && std::is_sorted(columns.begin(), columns.end()) && !columns.empty();
    for (int32_t j : columns) found.emplace_back(i, j);
  });
  std::sort(found.begin(), found.end());
  CHECK(sound);
  CHECK(std::adjacent_find(found.begin(), found.end()) == found.end());
  return found;
}

// From all_pairs(); those of one set once, i < j.
Pairs pairs_by_loops(const Tensor& d, bool same, double radius) {
  Pairs found;
  for (int64_t i = 0; i < d.dim(0); ++i) {
    const double* row = d.data<double>() + i * d.dim(1);
    for (int64_t j = same ? i + 1 : 0; j < d.dim(1); ++j) {
      if (row[j] <= radius) found.emplace_back(i, j);
    }
  }
  return found;
}

DistanceTiles among(const Tensor& x, Metric metric) { return {x, "x", metric}; }

// Clusters of features must be those of the whole matrix of distances in double, for every memory of waiting pairs.
void check_clusters(const Tensor& x, Metric metric, const Tensor& distances, DbscanOptions options) {
  const Clusters expected = dbscan(distances, options);
  for (int64_t bytes : {int64_t{256} << 20, int64_t{0}, int64_t{800}, int64_t{20000}}) {
    CAPTURE(bytes);
    options.pair_bytes = bytes;
    const Clusters found = dbscan_features(x, metric, options);
    CHECK(found.labels == expected.labels);
    CHECK(found.count == expected.count);
    CHECK(found.noise == expected.noise);
  }
}

}  // namespace

TEST_CASE("cluster scale: neighbor lists equal sorted lists of distances in double, over tiles and threads") {
  for (DType dtype : {DType::f32, DType::f64}) {
    for (Metric metric : {Metric::cosine, Metric::euclidean, Metric::squared_euclidean}) {
      CAPTURE(name_of(dtype));
      CAPTURE(name_of(metric));
      Tensor x = groups(1000, 20, 60, 0.05, 3, dtype, 11);
      for (int64_t i = 0; i < 120; ++i) copy_row(x, 3, 500 + 4 * i);  // more equal rows than a list has room for
      const DistanceTiles pairs = among(x, metric);
      NeighborOptions all;
      all.distances = all.farthest = true;
      const Neighbors found = nearest_neighbors(pairs, 12, all);
      CHECK(found.width == 12);
      CHECK(wrong_entries(pairs, found) == 0);
      test::same_with_threads([&] {
        const Neighbors again = nearest_neighbors(pairs, 12, all);
        return again.index == found.index && again.distance == found.distance && again.farthest == found.farthest;
      });

      const Tensor queries = x.rows(490, 530);
      const DistanceTiles apart(queries, "q", x, "x", metric);
      CHECK(wrong_entries(apart, nearest_neighbors(apart, 25, all)) == 0);
      CHECK(wrong_entries(apart, nearest_neighbors(apart, 5000, all)) == 0);
    }
  }
  // A set of one; lists of one; lists as wide as the set.
  const Tensor x = groups(30, 5, 4, 0.3, 0, DType::f32, 12);
  const Neighbors alone = nearest_neighbors(among(x.rows(4, 5), Metric::cosine), 3);
  CHECK(alone.index == std::vector<int32_t>{0});
  for (int64_t width : {1, 2, 29, 30, 31})
    CHECK(wrong_entries(among(x, Metric::euclidean), nearest_neighbors(among(x, Metric::euclidean), width)) == 0);
  CHECK(contains(failure_of([&] { nearest_neighbors(among(x, Metric::cosine), 0); }), "0 neighbors were asked for"));
}

TEST_CASE("cluster scale: rows that nearly coincide, and rows of every size, keep their order") {
  // A collapsed network: distances of 1e-6 around a common row. Sizes from 1e-20 to 1e15 in one set.
  const Tensor collapsed = groups(600, 16, 600, 1, 1e5, DType::f32, 13);
  for (Metric metric : {Metric::cosine, Metric::euclidean}) {
    CHECK(wrong_entries(among(collapsed, metric), nearest_neighbors(among(collapsed, metric), 9)) == 0);
    const double middle = among(collapsed, metric).pair(0, 1);
    CHECK(pairs_within(among(collapsed, metric), middle) == pairs_by_loops(all_pairs(among(collapsed, metric)), true, middle));
  }
  // Multiples of one row: what is left of their cosine distance is rounding, and that is ordered, too.
  const Tensor multiples = random_features(1, 50, DType::f64, 23);
  const Tensor many = Tensor::empty({300, 50}, DType::f64);
  for (int64_t at = 0; at < many.numel(); ++at) {
    many.data<double>()[at] = multiples.data<double>()[at % 50] * (1 + 0.37 * static_cast<double>(at / 50));
  }
  CHECK(wrong_entries(among(many, Metric::cosine), nearest_neighbors(among(many, Metric::cosine), 9)) == 0);
  Tensor sizes = random_features(500, 7, DType::f32, 14);
  for (int64_t i = 0; i < 500; ++i) {
    for (int64_t d = 0; d < 7; ++d) sizes.data<float>()[i * 7 + d] *= static_cast<float>(std::pow(10.0, static_cast<double>(i % 36) - 20));
  }
  NeighborOptions all;
  all.distances = all.farthest = true;
  for (Metric metric : {Metric::cosine, Metric::euclidean, Metric::squared_euclidean}) {
    const DistanceTiles pairs = among(sizes, metric);
    CHECK(wrong_entries(pairs, nearest_neighbors(pairs, 6, all)) == 0);
    const Tensor d = all_pairs(pairs);
    for (double radius : {1e-18, 1e-3, 0.7, 1e9, 1e300}) CHECK(pairs_within(pairs, radius) == pairs_by_loops(d, true, radius));
  }
}

TEST_CASE("cluster scale: a radius that is itself a distance includes it, one ulp less does not") {
  for (DType dtype : {DType::f32, DType::f64}) {
    for (Metric metric : {Metric::cosine, Metric::euclidean, Metric::squared_euclidean}) {
      CAPTURE(name_of(dtype));
      CAPTURE(name_of(metric));
      const Tensor x = groups(450, 33, 40, 0.2, 1, dtype, 15);
      const DistanceTiles pairs = among(x, metric);
      const Tensor d = all_pairs(pairs);
      for (int64_t k = 0; k < 3; ++k) {
        const int64_t i = 17 * k, j = 440 - 61 * k;
        const double radius = pairs.pair(i, j);
        const Pairs at = pairs_within(pairs, radius), below = pairs_within(pairs, std::nextafter(radius, 0));
        CHECK(std::binary_search(at.begin(), at.end(), std::pair(i, j)));
        CHECK_FALSE(std::binary_search(below.begin(), below.end(), std::pair(i, j)));
        CHECK(at == pairs_by_loops(d, true, radius));
        CHECK(at.size() == below.size() + 1);
      }
      const DistanceTiles apart(x.rows(0, 70), "q", x, "x", metric);
      CHECK(pairs_within(apart, pairs.pair(5, 6)) == pairs_by_loops(all_pairs(apart), false, pairs.pair(5, 6)));
    }
  }
}

TEST_CASE("cluster scale: scikit-learn's labels with pairs exactly at eps and one ulp beyond it") {
  static const NamedTensors golden = read_safetensors(REID_SOURCE_DIR "/data/golden/cluster.safetensors");
  int64_t cases = 0;
  for (const char* name : {"grid0", "grid1", "grid2", "grid3", "duplicates", "signs", "together"}) {
    const Tensor x = golden.at(str(name, "/features"));
    const Metric metric = std::string(name) == "signs" ? Metric::cosine : Metric::euclidean;
    for (const char* side : {"at", "below"}) {
      CAPTURE(name);
      CAPTURE(side);
      const auto of = [&](const char* key) { return golden.at(str(name, "/", side, "/", key)); };
      const auto values = of("labels").span<int64_t>();
      const Labels expected(values.begin(), values.end());
      DbscanOptions options{.eps = of("eps").item(), .min_samples = of("min_samples").span<int64_t>()[0]};
      for (DType dtype : {DType::f32, DType::f64}) {
        for (int64_t bytes : {int64_t{256} << 20, int64_t{1000}, int64_t{0}}) {
          options.pair_bytes = bytes;
          CHECK(dbscan_features(x.to(dtype), metric, options).labels == expected);
          ++cases;
        }
      }
      test::same_with_threads([&] { return dbscan_features(x, metric, options).labels; });
    }
  }
  CHECK(cases == 84);
}

TEST_CASE("cluster scale: clusters do not depend on the memory for waiting pairs") {
  const Tensor x = groups(1000, 8, 60, 0.35, 2, DType::f32, 16);
  const Tensor euclidean = all_pairs(among(x, Metric::euclidean)), cosine = all_pairs(among(x, Metric::cosine));
  for (int64_t min_samples : {1, 2, 3, 8, 40, 1000, 1001}) {
    CAPTURE(min_samples);
    for (double eps : {0.4, 0.9, 1.4}) check_clusters(x, Metric::euclidean, euclidean, {eps, min_samples});
    check_clusters(x, Metric::cosine, cosine, {0.004, min_samples});
  }
  // Everyone within eps of everyone, and everyone the same.
  const Tensor same = Tensor::full({500, 8}, 3, DType::f32);
  for (int64_t min_samples : {3, 500, 999, 1000, 1001}) {
    check_clusters(x, Metric::euclidean, euclidean, {1e3, min_samples});
    check_clusters(same, Metric::cosine, Tensor::zeros({500, 500}, DType::f64), {1e-9, min_samples});
  }
  CHECK(contains(failure_of([&] { dbscan_features(x, Metric::cosine, {.eps = 1, .min_samples = 2, .pair_bytes = -1}); }),
                 "pair_bytes is -1"));
}

TEST_CASE("cluster scale: passes are told, each from 0 on") {
  const Tensor x = groups(300, 8, 20, 0.3, 0, DType::f32, 17);
  std::vector<std::string> phases;
  const ClusterProgress progress = [&](const std::string& phase, double share) {
    if (phases.empty() || phases.back() != phase) {
      CHECK(share == 0);
      phases.push_back(phase);
    }
    CHECK(share >= 0);
    CHECK(share <= 1);
  };
  const DbscanOptions small{.eps = 0.9, .min_samples = 5, .pair_bytes = 0};
  dbscan_features(x, Metric::euclidean, small, progress);
  CHECK(phases == std::vector<std::string>{"graph", "graph, second pass", "labels", "labels, third pass"});
  phases.clear();
  dbscan_jaccard(x, {.k1 = 8, .k2 = 3}, {.eps = 0.6, .min_samples = 3}, progress);
  CHECK(phases == std::vector<std::string>{"neighbors", "encoding", "graph", "labels"});
}

TEST_CASE("cluster scale: Jaccard clusters equal those of the whole matrix; eps from 1 on takes no pairs") {
  const Tensor x = groups(700, 12, 45, 0.6, 1, DType::f32, 18);
  const JaccardOptions jaccard{.k1 = 14, .k2 = 4};
  const Tensor d = jaccard_distance(x.to(DType::f64), jaccard);
  for (double eps : {0.5, 0.999, 1.0, 1.5}) {
    for (int64_t min_samples : {1, 4, 30, 701}) {
      CAPTURE(eps);
      CAPTURE(min_samples);
      const Labels expected = dbscan(d, {eps, min_samples}).labels;
      for (int64_t bytes : {int64_t{1} << 28, int64_t{0}}) CHECK(dbscan_jaccard(x, jaccard, {eps, min_samples, bytes}).labels == expected);
    }
  }
  CHECK(dbscan_jaccard(x.rows(0, 1), jaccard, {0.5, 1}).labels == Labels{0});
  CHECK(dbscan_jaccard(x.rows(0, 1), jaccard, {0.5, 2}).labels == Labels{-1});
  test::same_with_threads([&] { return dbscan_jaccard(x, jaccard, {0.6, 4}).labels; });
}

TEST_CASE("cluster scale: sparse Jaccard rows are the dense ones, with weights by the largest distance") {
  const Tensor x = groups(260, 10, 20, 0.7, 0, DType::f64, 19);
  const DistanceTiles pairs = among(x, Metric::euclidean);
  NeighborOptions search;
  search.distances = search.farthest = true;
  const Neighbors lists = nearest_neighbors(pairs, 40, search);
  // Zhong et al.: the square of the distances, each row divided by its largest.
  const auto scaled = [&](int64_t i, double distance) {
    const double share = distance / lists.farthest[static_cast<size_t>(i)];
    return std::exp(-share * share);
  };
  const EncodingOptions options{.k1 = 20, .k2 = 1, .k1_counts_self = false, .weights = {lists.farthest, 2}};
  CHECK(encoding_list_length(options, 260) == 21);
  CHECK(encoding_list_length(options, 9) == 9);
  const KReciprocalEncoding encoding(pairs, lists, options);
  const SparseRows& v = encoding.rows();
  const SparseRows rows = encoding.distances(0, 260), part = encoding.distances(100, 140, 37);
  int64_t wrong = 0;
  for (int64_t i = 0; i < 260; ++i) {
    // V sums to 1 and has the ratios of the weights.
    double sum = 0, own = 0;
    std::vector<double> dense(260, 0);
    for (size_t e = 0; e < v.columns_of(i).size(); ++e) {
      sum += v.values_of(i)[e];
      if (v.columns_of(i)[e] == i) own = v.values_of(i)[e];
    }
    CHECK(sum == doctest::Approx(1).epsilon(1e-14));
    for (size_t e = 0; e < v.columns_of(i).size(); ++e) {
      const double weight = scaled(i, pairs.pair(i, v.columns_of(i)[e]));
      CHECK(v.values_of(i)[e] == doctest::Approx(own * weight).epsilon(1e-13));
    }
    // Distances by the equation on dense rows.
    for (size_t e = 0; e < rows.columns_of(i).size(); ++e) dense[static_cast<size_t>(rows.columns_of(i)[e])] = 1 + rows.values_of(i)[e];
    for (int64_t j = 0; j < 260; ++j) {
      double s = 0;
      for (size_t a = 0; a < v.columns_of(i).size(); ++a) {
        for (size_t b = 0; b < v.columns_of(j).size(); ++b) {
          if (v.columns_of(i)[a] == v.columns_of(j)[b]) s += std::min(v.values_of(i)[a], v.values_of(j)[b]);
        }
      }
      const double found = dense[static_cast<size_t>(j)] == 0 ? 1 : dense[static_cast<size_t>(j)] - 1;
      wrong += std::fabs(found - (i == j ? 0 : 1 - s / (2 - s))) > 1e-14;
    }
    if (i < 100 || i >= 140) continue;
    size_t e = 0;
    for (size_t all = 0; all < rows.columns_of(i).size(); ++all) {
      if (rows.columns_of(i)[all] < 37) continue;
      wrong += part.columns_of(i - 100)[e] != rows.columns_of(i)[all] || part.values_of(i - 100)[e] != rows.values_of(i)[all];
      ++e;
    }
    wrong += e != part.columns_of(i - 100).size();
  }
  CHECK(wrong == 0);
  for (double radius : {0.6, 0.95}) {
    Pairs near, expected;
    encoding.for_each_pair_within(radius, {}, [&](int64_t i, std::span<const int32_t> columns) {
      for (int32_t j : columns) near.emplace_back(i, j);
    });
    for (int64_t i = 0; i < 260; ++i) {
      for (size_t e = 0; e < rows.columns_of(i).size(); ++e) {
        if (rows.columns_of(i)[e] > i && rows.values_of(i)[e] <= radius) expected.emplace_back(i, rows.columns_of(i)[e]);
      }
    }
    CHECK(near == expected);
    CHECK(near.size() > 300);
  }
  // Lists without distances give the same encoding; too short lists are refused.
  const KReciprocalEncoding again(pairs, nearest_neighbors(pairs, 21), options);
  CHECK(again.rows().values == v.values);
  CHECK(contains(failure_of([&] { KReciprocalEncoding(pairs, nearest_neighbors(pairs, 20), options); }), "20 entries, expected 21"));
}

TEST_CASE("cluster scale: the memory that is foretold is bounded, whatever eps and min_samples") {
  const DbscanOptions options{.eps = 0.9, .min_samples = 4};
  const int64_t codes = ops::fast_code_products() ? CodedRows::bytes(100000, 2048) : 0;
  CHECK(dbscan_features_bytes(100000, 2048, options) < (int64_t{256} << 20) + codes);
  CHECK(dbscan_jaccard_bytes(100000, 2048, {}, options) < (int64_t{1} << 30) + codes);
  const int64_t most = dbscan_features_bytes(100000, 2048, {.eps = 1e9, .min_samples = 100000});
  CHECK(most > options.pair_bytes);
  CHECK(most < options.pair_bytes + (int64_t{256} << 20) + codes);
  CHECK(dbscan_jaccard_bytes(1, 1, {}, options) > 0);
  CHECK(contains(failure_of([&] { dbscan_jaccard_bytes(5, 3, {.k1 = 0}, options); }), "k1 is 0"));
}
