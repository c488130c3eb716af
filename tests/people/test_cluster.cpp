// Distances, DBSCAN, Jaccard, centroids, calibration and label quality, against goldens and built cases.

#include <doctest/doctest.h>

#include <algorithm>
#include <limits>

#include "formats/scratch.h"
#include "people/features.h"
#include "reid/people/cluster.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;
using reid::test::Golden;
using reid::test::largest_difference;
using reid::test::random_features;

namespace {

std::vector<double> bits(const Tensor& t) {
  const auto values = t.to(DType::f64).span<double>();
  return {values.begin(), values.end()};
}

Tensor on_a_line(const std::vector<double>& places) {
  std::vector<double> d;
  for (double x : places) {
    for (double y : places) d.push_back(std::fabs(x - y));
  }
  const int64_t n = static_cast<int64_t>(places.size());
  return Tensor::from(d, {n, n});
}

using Labels = std::vector<int64_t>;

}  // namespace

TEST_CASE("cluster: distances equal extended-precision goldens, close pairs included") {
  const Golden golden("people", "distances");
  const Tensor a = golden["a"], b = golden["b"];
  for (Metric metric : {Metric::cosine, Metric::euclidean, Metric::squared_euclidean}) {
    CAPTURE(name_of(metric));
    const Tensor expected = golden[name_of(metric)], found = pairwise_distance(a, b, metric);
    const bool cosine = metric == Metric::cosine;
    for (int64_t i = 0; i < a.dim(0); ++i) {
      for (int64_t j = 0; j < b.dim(0); ++j) {
        const double e = expected.data<double>()[i * b.dim(0) + j], f = found.data<double>()[i * b.dim(0) + j];
        CAPTURE(i);
        CAPTURE(j);
        // b1 = a1 (1 + 1e-9) has cosine distance 0 up to the rounding of its own entries.
        CHECK(std::fabs(f - e) <= 1e-13 * e + (cosine ? 1e-15 * std::sqrt(e) + 1e-30 : 0));
      }
    }
    CHECK(found.data<double>()[0] == 0);
    // In f32: the documented absolute bound. Inputs rounded to f32 move the distance by less than 2^-23 of its scale.
    const double scale = cosine ? 1 : 2 * 37 * 10;
    const Tensor single = pairwise_distance(a.to(DType::f32), b.to(DType::f32), metric);
    CHECK(single.dtype() == DType::f32);
    if (metric != Metric::euclidean) CHECK(largest_difference(single, expected) <= 40 * std::ldexp(1.0, -24) * scale);
  }
}

TEST_CASE("cluster: f32 distances keep their bounds and their digits near zero") {
  const int64_t width = 2048;
  Tensor a = random_features(6, width, DType::f32, 1);
  Tensor b = a.clone();
  Rng rng(2);
  const double steps[] = {0, 1e-6, 1e-4, 1e-2, 0.1, 1};
  for (int64_t i = 0; i < 6; ++i) {
    for (int64_t d = 0; d < width; ++d) b.data<float>()[i * width + d] += static_cast<float>(steps[i] * rng.normal());
  }
  for (Metric metric : {Metric::cosine, Metric::euclidean, Metric::squared_euclidean}) {
    CAPTURE(name_of(metric));
    const Tensor exact = pairwise_distance(a.to(DType::f64), b.to(DType::f64), metric), found = pairwise_distance(a, b, metric);
    for (int64_t at = 0; at < exact.numel(); ++at) {
      const double e = exact.data<double>()[at], f = static_cast<double>(found.data<float>()[at]);
      CHECK(std::fabs(f - e) <= 1e-4 * e);  // the bound is 64 D u = 8e-3; what rounding errors really add up to is 100 times less
      if (e < 1.0 / 64) CHECK(std::fabs(f - e) <= 1.3e-7 * e);
    }
  }
}

TEST_CASE("cluster: a distance is a function of its two rows, bit for bit") {
  for (DType dtype : {DType::f32, DType::f64}) {
    const Tensor a = random_features(150, 300, dtype, 3), b = random_features(97, 300, dtype, 4);
    for (Metric metric : {Metric::cosine, Metric::euclidean}) {
      CAPTURE(name_of(dtype));
      CAPTURE(name_of(metric));
      const std::vector<double> all = bits(pairwise_distance(a, b, metric));
      const auto check = [&](int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
        const std::vector<double> part = bits(pairwise_distance(a.rows(i0, i1), b.rows(j0, j1), metric));
        int64_t wrong = 0;
        for (int64_t i = i0; i < i1; ++i) {
          for (int64_t j = j0; j < j1; ++j) {
            wrong += part[static_cast<size_t>((i - i0) * (j1 - j0) + j - j0)] != all[static_cast<size_t>(i * 97 + j)];
          }
        }
        CAPTURE(i0);
        CAPTURE(j0);
        CHECK(wrong == 0);
      };
      check(0, 1, 0, 97);
      check(149, 150, 96, 97);
      check(5, 23, 0, 97);
      check(0, 150, 31, 34);
      check(64, 131, 7, 80);
      const std::vector<double> turned = bits(pairwise_distance(b, a, metric));
      int64_t wrong = 0;
      for (size_t i = 0; i < 150; ++i) {
        for (size_t j = 0; j < 97; ++j) wrong += turned[j * 150 + i] != all[i * 97 + j];
      }
      CHECK(wrong == 0);
      test::same_with_threads([&] { return bits(pairwise_distance(a, b, metric)); });
    }
  }
}

TEST_CASE("cluster: equal rows have distance 0, tiny and huge rows keep their meaning") {
  const Tensor x = random_features(40, 129, DType::f32, 5);
  for (Metric metric : {Metric::cosine, Metric::euclidean, Metric::squared_euclidean}) {
    const Tensor d = pairwise_distance(x, x, metric);
    for (int64_t i = 0; i < 40; ++i) CHECK(d.data<float>()[i * 41] == 0.0f);
  }
  const Tensor extremes = Tensor::from(std::vector<float>{1e-20f, 0, 0, 1e-20f, 3e17f, 0, 0, -3e17f}, {4, 2});
  const Tensor cosine = pairwise_distance(extremes, extremes, Metric::cosine);
  const double expected[] = {0, 1, 0, 1, 1, 0, 1, 2, 0, 1, 0, 1, 1, 2, 1, 0};
  for (int64_t at = 0; at < 16; ++at) CHECK(static_cast<double>(cosine.data<float>()[at]) == expected[at]);
  CHECK(static_cast<double>(pairwise_distance(extremes, extremes, Metric::euclidean).data<float>()[1]) == doctest::Approx(1.41421356e-20));
}

TEST_CASE("cluster: features that have no distance are refused by row") {
  const auto distance = [](const Tensor& a, const Tensor& b, Metric metric) {
    return failure_of([&] { pairwise_distance(a, b, metric); });
  };
  Tensor x = random_features(5, 8, DType::f32, 6);
  const Tensor good = x.clone();
  for (int64_t d = 0; d < 8; ++d) x.data<float>()[24 + d] = 0;
  CHECK(contains(distance(good, x, Metric::cosine), "b: row 3 is all zeros"));
  CHECK(distance(good, x, Metric::euclidean).empty());
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    x.data<float>()[24] = bad;
    CHECK(contains(distance(x, good, Metric::euclidean), "a: row 3 "));
    CHECK(contains(distance(x.to(DType::f64), good.to(DType::f64), Metric::cosine), "a: row 3 "));
  }
  CHECK(contains(failure_of([&] { check_features(x, Metric::euclidean, "query.safetensors"); }), "query.safetensors: row 3"));
  x.data<float>()[24] = 1e19f;
  CHECK(contains(distance(x, good, Metric::euclidean), "row 3 is infinite or longer"));
  CHECK(contains(distance(good, random_features(5, 9, DType::f32, 6), Metric::cosine), "8 columns but"));
  CHECK(contains(distance(good, good.to(DType::f64), Metric::cosine), "f64"));
  CHECK(contains(distance(Tensor::empty({0, 8}, DType::f32), good, Metric::cosine), "no rows"));
  CHECK(contains(distance(Tensor::empty({2, 0}, DType::f32), good, Metric::cosine), "no columns"));
  CHECK(contains(distance(good.reshape({40}), good, Metric::cosine), "expected [N, D]"));
  CHECK(contains(distance(Tensor(), good, Metric::cosine), "undefined"));
  CHECK(contains(distance(Tensor::zeros({5, 8}, DType::i64), good, Metric::cosine), "expected f32 or f64"));
  CHECK(parse_metric("squared_euclidean") == Metric::squared_euclidean);
  CHECK(contains(failure_of([] { parse_metric("cosinus"); }), "'cosinus': expected cosine, euclidean"));
}

TEST_CASE("cluster: DBSCAN on features has scikit-learn's labels") {
  for (Metric metric : {Metric::cosine, Metric::euclidean}) {
    const Golden golden("people", std::string("dbscan/") + name_of(metric));
    const DbscanOptions options{golden.number("eps"), golden.integer("min_samples")};
    const Labels expected = golden.integers("labels");
    const Tensor x = golden["features"];
    const Clusters found = dbscan_features(x, metric, options);
    CHECK(found.labels == expected);
    CHECK(found.count == *std::max_element(expected.begin(), expected.end()) + 1);
    CHECK(found.noise == std::count(expected.begin(), expected.end(), -1));
    CHECK(dbscan(pairwise_distance(x, x, metric), options).labels == expected);
    CHECK(dbscan_features(x.to(DType::f32), metric, options).labels == expected);
    test::same_with_threads([&] { return dbscan_features(x, metric, options).labels; });
  }
}

TEST_CASE("cluster: DBSCAN on matrices has scikit-learn's labels: ties at eps, shared border points, f32, no symmetry") {
  const auto check = [](const std::string& name) {
    CAPTURE(name);
    const Golden golden("people", "dbscan/" + name);
    const DbscanOptions options{golden.number("eps"), golden.integer("min_samples")};
    const Tensor d = golden["distances"];
    for (DType dtype : {DType::f32, DType::f64}) {
      if (d.dtype() == DType::u8 || d.dtype() == dtype) CHECK(dbscan(d.to(dtype), options).labels == golden.integers("labels"));
    }
  };
  for (int i = 0; i < 24; ++i) check(str("grid", i));
  check("rounded");
  check("directed");
}

TEST_CASE("cluster: a border point goes to the lowest-numbered cluster that reaches it; clusters count by first core point") {
  // Core groups around 0 and 10, a border point between them at 5 within eps of one core point of each.
  const std::vector<double> places = {5, 10, 0, 8, 11, 12, 2, -1, -2, 40};
  CHECK(dbscan(on_a_line(places), {3, 4}).labels == Labels{0, 0, 1, 0, 0, 0, 1, 1, 1, -1});
  // The same with the other group first: the border point, still the first index, changes sides.
  CHECK(dbscan(on_a_line({5, 0, 10, 8, 11, 12, 2, -1, -2, 40}), {3, 4}).labels == Labels{0, 0, 1, 1, 1, 1, 0, 0, 0, -1});
  // min_samples 1: everyone is core. Exactly eps apart: neighbors. Nobody near: noise.
  CHECK(dbscan(on_a_line({0, 2, 4, 7}), {2, 1}).labels == Labels{0, 0, 0, 1});
  CHECK(dbscan(on_a_line({0, 2, 4, 7}), {2, 3}).labels == Labels{0, 0, 0, -1});
  CHECK(dbscan(on_a_line({0, 2, 4, 7}), {1, 2}).labels == Labels{-1, -1, -1, -1});
  CHECK(dbscan(on_a_line({3}), {1, 1}).labels == Labels{0});
  const Clusters alone = dbscan(on_a_line({3}), {1, 2});
  CHECK(alone.labels == Labels{-1});
  CHECK(alone.count == 0);
  CHECK(alone.noise == 1);
}

TEST_CASE("cluster: DBSCAN refuses what it cannot cluster") {
  const Tensor d = on_a_line({0, 1, 2});
  const auto failure = [](const Tensor& m, double eps, int64_t min_samples) { return failure_of([&] { dbscan(m, {eps, min_samples}); }); };
  CHECK(contains(failure(d, 0, 2), "eps is 0"));
  CHECK(contains(failure(d, -1, 2), "eps is -1"));
  CHECK(contains(failure(d, NAN, 2), "eps is"));
  CHECK(contains(failure(d, INFINITY, 2), "eps is inf"));
  CHECK(contains(failure(d, 1, 0), "min_samples is 0"));
  CHECK(contains(failure(Tensor::zeros({2, 3}, DType::f32), 1, 2), "[2, 3], expected [N, N]"));
  CHECK(contains(failure(Tensor::zeros({0, 0}, DType::f32), 1, 2), "no points"));
  CHECK(contains(failure(Tensor(), 1, 2), "f32 or f64"));
  Tensor bad = d.clone();
  bad.data<double>()[5] = NAN;
  CHECK(contains(failure(bad, 1, 2), "points 1 and 2 is"));
  bad.data<double>()[5] = -0.5;
  CHECK(contains(failure(bad, 1, 2), "points 1 and 2 is -0.5"));
  const Tensor x = random_features(4, 3, DType::f32, 7);
  CHECK(contains(failure_of([&] { dbscan_features(x, Metric::cosine, {0, 2}); }), "eps"));
  CHECK(contains(failure_of([&] { dbscan_features(Tensor::zeros({4, 3}, DType::f32), Metric::cosine, {1, 2}); }), "row 0 is all zeros"));
  CHECK(contains(failure_of([&] { dbscan_jaccard(x, {0, 1}, {1, 2}); }), "k1 is 0"));
  CHECK(contains(failure_of([&] { jaccard_distance(x, {3, 0}); }), "k2 is 0"));
}

TEST_CASE("cluster: the k-reciprocal Jaccard distance equals the dense reference") {
  for (const char* name : {"usual", "zhong", "odd", "odd_up", "least", "few_rows", "wide_expansion", "duplicates", "ties"}) {
    CAPTURE(name);
    const Golden golden("people", std::string("jaccard/") + name);
    const JaccardOptions options{golden.integer("k1"), golden.integer("k2"), golden.integer("counts_self") != 0};
    const Tensor x = golden["features"], expected = golden["distances"];
    const Tensor found = jaccard_distance(x, options);
    CHECK(largest_difference(found, expected) < 1e-12);
    const int64_t n = x.dim(0);
    int64_t wrong = 0;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const double d = found.data<double>()[i * n + j];
        wrong += d != found.data<double>()[j * n + i] || d < 0 || d > 1 || (i == j && d != 0);
      }
    }
    CHECK(wrong == 0);
    CHECK(largest_difference(jaccard_distance(x.to(DType::f32), options), expected) < 1e-5);
    test::same_with_threads([&] { return bits(jaccard_distance(x, options)); });
  }
}

TEST_CASE("cluster: DBSCAN on the Jaccard distance, whole or by blocks") {
  const Golden golden("people", "jaccard/dbscan");
  const JaccardOptions jaccard{golden.integer("k1"), golden.integer("k2"), true};
  const DbscanOptions options{golden.number("eps"), golden.integer("min_samples")};
  const Tensor x = golden["features"];
  CHECK(dbscan(jaccard_distance(x, jaccard), options).labels == golden.integers("labels"));
  CHECK(dbscan_jaccard(x, jaccard, options).labels == golden.integers("labels"));
}

TEST_CASE("cluster: blocks of rows do not show") {
  // 3000 f64 rows take two tiles; the whole matrix is the other way to the same labels.
  const int64_t n = 3000, width = 6;
  Tensor x = random_features(n, width, DType::f64, 8);
  const Tensor centers = random_features(40, width, DType::f64, 9);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t d = 0; d < width; ++d) {
      double& v = x.data<double>()[i * width + d];
      v = 3 * centers.data<double>()[i % 40 * width + d] + 0.4 * v;
    }
  }
  const DbscanOptions options{0.6, 5};
  const Clusters found = dbscan_features(x, Metric::euclidean, options);
  CHECK(found.count > 10);
  CHECK(found.noise > 10);
  CHECK(found.labels == dbscan(pairwise_distance(x, x, Metric::euclidean), options).labels);
}

TEST_CASE("cluster: centroids are unit means, by label and by label and camera") {
  const Tensor x = Tensor::from(std::vector<double>{3, 0, 0, 4, 1, 1, 0, -2, 9, 9, 0, 6}, {6, 2});
  const Labels labels = {5, 5, 0, 0, -1, 5}, cameras = {1, 0, 3, 3, 0, 1};
  const Centroids people = identity_centroids(x, labels);
  CHECK(people.labels == Labels{0, 5});
  CHECK(people.cameras.empty());
  CHECK(people.counts == Labels{2, 3});
  const double root2 = std::sqrt(2.0), root109 = std::sqrt(109.0);
  CHECK(largest_difference(people.rows, Tensor::from(std::vector<double>{1 / root2, -1 / root2, 3 / root109, 10 / root109}, {2, 2})) <
        1e-15);
  const Centroids views = camera_centroids(x, labels, cameras);
  CHECK(views.labels == Labels{0, 5, 5});
  CHECK(views.cameras == Labels{3, 0, 1});
  CHECK(views.counts == Labels{2, 1, 2});
  const double root45 = std::sqrt(45.0);
  CHECK(largest_difference(views.rows, Tensor::from(std::vector<double>{1 / root2, -1 / root2, 0, 1, 3 / root45, 6 / root45}, {3, 2})) <
        1e-15);
  CHECK(largest_difference(camera_centroids(x.to(DType::f32), labels, cameras).rows, views.rows) < 1e-7);

  CHECK(contains(failure_of([&] { identity_centroids(x, {-1, -1, -1, -1, -1, -1}); }), "none of 6 rows"));
  CHECK(contains(failure_of([&] { identity_centroids(x, {0, 1}); }), "labels: 2 entries for 6 rows"));
  CHECK(contains(failure_of([&] { camera_centroids(x, labels, {1}); }), "cameras: 1 entries"));
  const Tensor opposite = Tensor::from(std::vector<float>{1, 2, -1, -2, 1, 0}, {3, 2});
  CHECK(contains(failure_of([&] { identity_centroids(opposite, {7, 7, 1}); }), "label 7 sum to zero"));

  const Tensor many = random_features(500, 33, DType::f32, 10);
  Labels ids(500);
  for (size_t i = 0; i < 500; ++i) ids[i] = static_cast<int64_t>(i % 37);
  test::same_with_threads([&] { return bits(identity_centroids(many, ids).rows); });
}

TEST_CASE("cluster: eps is calibrated on same-camera pairs") {
  const Golden golden("people", "calibration");
  const Tensor x = golden["features"];
  const Labels labels = golden.integers("labels"), cameras = golden.integers("cameras");
  CalibrationOptions options;
  const Calibration all = calibrated_eps(x, labels, cameras, options, Rng(1));  // few pairs: all are taken
  CHECK(all.calibrated);
  CHECK(all.same_pairs == golden.integer("same_pairs"));
  CHECK(all.other_pairs == golden.integer("other_pairs"));
  CHECK(std::fabs(all.same_distance - golden.number("same_distance")) < 1e-14);
  CHECK(std::fabs(all.other_distance - golden.number("other_distance")) < 1e-14);
  CHECK(all.eps == std::min(all.same_distance, all.other_distance));

  options.floor = 1.5;
  CHECK(calibrated_eps(x, labels, cameras, options, Rng(1)).eps == 1.5);
  options.floor = 0.01;
  options.min_pairs = all.same_pairs + 1;
  const Calibration few = calibrated_eps(x, labels, cameras, options, Rng(1));
  CHECK(!few.calibrated);
  CHECK(few.eps == options.fixed_eps);

  // Draws: near the exact quantiles, the same for the same generator and any number of threads.
  options.min_pairs = 100;
  options.pairs = 150;
  options.other_quantile = 0.2;
  CalibrationOptions exact = options;
  exact.pairs = 100000;
  const Calibration full = calibrated_eps(x, labels, cameras, exact, Rng(1));
  double same = 0, other = 0;
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const Calibration drawn = calibrated_eps(x, labels, cameras, options, Rng(seed));
    same += drawn.same_distance / 40;
    other += drawn.other_distance / 40;
  }
  CHECK(same == doctest::Approx(full.same_distance).epsilon(0.05));
  CHECK(other == doctest::Approx(full.other_distance).epsilon(0.05));
  test::same_with_threads([&] { return calibrated_eps(x, labels, cameras, options, Rng(3)).eps; });
  CHECK(calibrated_eps(x, labels, cameras, options, Rng(3)).eps != calibrated_eps(x, labels, cameras, options, Rng(4)).eps);

  options.pairs = 10;
  CHECK(contains(failure_of([&] { calibrated_eps(x, labels, cameras, options, Rng(1)); }), "pairs is 10"));
  CHECK(contains(failure_of([&] { calibrated_eps(x, {1, 2}, cameras, CalibrationOptions(), Rng(1)); }), "labels: 2 entries"));
}

TEST_CASE("cluster: label quality equals scikit-learn's") {
  const Golden golden("people", "quality");
  const LabelQuality q = label_quality(golden.integers("labels"), golden.integers("truth"));
  const double found[] = {q.noise_ratio, q.purity, q.pair_precision, q.pair_recall, q.pair_f, q.homogeneity, q.completeness, q.v_measure};
  for (int64_t i = 0; i < 8; ++i) {
    CAPTURE(i);
    CHECK(std::fabs(found[i] - golden["expected"].data<double>()[i]) < 1e-12);
  }
  CHECK(q.points == 300);
  CHECK(q.clusters == 9);
  CHECK(q.identities == 12);

  const LabelQuality perfect = label_quality({4, 4, 9, 9, -1}, {0, 0, 1, 1, -1});  // the noise point's truth is unknown
  CHECK(perfect.points == 4);
  CHECK(perfect.noise_ratio == 0);
  CHECK(perfect.purity == 1);
  CHECK(perfect.pair_f == 1);
  CHECK(perfect.v_measure == doctest::Approx(1));
  const LabelQuality nothing = label_quality({-1, -1, -1}, {0, 0, 1});
  CHECK(nothing.noise_ratio == 1);
  CHECK(nothing.purity == 0);
  CHECK(nothing.pair_precision == 1);
  CHECK(nothing.pair_recall == 0);
  CHECK(nothing.pair_f == 0);
  CHECK(label_quality({}, {}).points == 0);
  CHECK(contains(failure_of([] { label_quality({1}, {}); }), "1 labels for 0"));
}
