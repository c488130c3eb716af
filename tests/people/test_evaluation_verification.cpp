// Verification against scikit-learn, and against counting all pairs one by one.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "formats/scratch.h"
#include "people/golden_evaluation.h"
#include "reid/people/verification.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;
using reid::test::Golden;
using reid::test::input_of;
using reid::test::random_features;

TEST_CASE("verification: scikit-learn's curve, area and equal error; fast-reid's rates; the held-out threshold") {
  for (const char* problem : {"plain", "tied"}) {
    CAPTURE(problem);
    const EvaluationInput in = input_of(Golden("evaluation", problem));
    const Golden golden("evaluation", str(problem, "/verification"));
    VerificationOptions options;
    options.rates = golden.numbers("rates");
    options.wanted = golden.number("wanted");
    const VerificationReport report = verify(in, options);
    CHECK(std::vector<int64_t>{report.same_pairs, report.different_pairs} == golden.integers("pairs"));
    const std::vector<double> accepted = golden.numbers("true_accept"), fastreid = golden.numbers("fastreid");
    for (size_t r = 0; r < options.rates.size(); ++r) {
      CAPTURE(r);
      CHECK(report.points[r].true_accept_rate == doctest::Approx(accepted[r]).epsilon(1e-14));
      CHECK(report.points[r].false_accept_rate <= options.rates[r]);
      CHECK(report.fastreid[r] == doctest::Approx(fastreid[r]).epsilon(1e-14));
    }
    CHECK(report.equal_error_rate == doctest::Approx(golden.number("equal_error")).epsilon(1e-12));
    CHECK(report.area == doctest::Approx(golden.number("area")).epsilon(1e-12));
    CHECK(report.held_out);
    const std::vector<double> thresholds = golden.numbers("thresholds");
    for (size_t seed = thresholds.size(); seed > 0; --seed) {
      options.seed = seed;
      CHECK(verify(in, options).chosen.threshold == doctest::Approx(thresholds[seed - 1]).epsilon(1e-6));
    }
    CHECK(report.chosen.threshold == doctest::Approx(thresholds[0]).epsilon(1e-6));
    CHECK(report.measured.threshold == report.chosen.threshold);
    const std::vector<double> chosen = golden.numbers("chosen"), measured = golden.numbers("measured");
    CHECK(report.chosen.false_accept_rate == doctest::Approx(chosen[0]).epsilon(1e-14));
    CHECK(report.chosen.true_accept_rate == doctest::Approx(chosen[1]).epsilon(1e-14));
    CHECK(report.measured.false_accept_rate == doctest::Approx(measured[0]).epsilon(1e-14));
    CHECK(report.measured.true_accept_rate == doctest::Approx(measured[1]).epsilon(1e-14));
    CHECK(std::vector<int64_t>{report.chosen_same, report.chosen_different, report.measured_same, report.measured_different} ==
          golden.integers("halves"));
    test::same_with_threads([&] { return verify(in, options).different_histogram; });
  }
}

TEST_CASE("verification: every figure of a curve is the count of pairs at its threshold") {
  const test::SmallBlocks blocks(100 * 3000);
  EvaluationInput in;  // 350 x 3000: four blocks of queries, distances in many buckets
  in.query = random_features(350, 6, DType::f32, 1);
  in.gallery = random_features(3000, 6, DType::f32, 2);
  for (int64_t i = 0; i < 350; ++i) in.query_ids.push_back(i % 41 - 1), in.query_cameras.push_back(i % 2);
  for (int64_t i = 0; i < 3000; ++i) in.gallery_ids.push_back(i % 331 - 1), in.gallery_cameras.push_back(i % 3);
  for (Metric metric : {Metric::cosine, Metric::euclidean, Metric::squared_euclidean}) {
    CAPTURE(name_of(metric));
    VerificationOptions options;
    options.metric = metric;
    const VerificationReport report = verify(in, options);
    std::vector<float> same, different;
    const Tensor d = pairwise_distance(in.query, in.gallery, metric);
    for (size_t q = 0; q < 350; ++q) {
      for (size_t j = 0; j < 3000; ++j) {
        if (in.query_ids[q] == -1 || in.gallery_ids[j] == -1) continue;
        const bool same_id = in.query_ids[q] == in.gallery_ids[j];
        if (same_id && in.query_cameras[q] == in.gallery_cameras[j]) continue;
        (same_id ? same : different).push_back(d.data<float>()[q * 3000 + j]);
      }
    }
    std::sort(same.begin(), same.end());
    std::sort(different.begin(), different.end());
    CHECK(report.same_pairs == static_cast<int64_t>(same.size()));
    CHECK(report.different_pairs == static_cast<int64_t>(different.size()));
    const auto upto = [](const std::vector<float>& list, double threshold) {
      return static_cast<double>(std::upper_bound(list.begin(), list.end(), threshold) - list.begin()) / static_cast<double>(list.size());
    };
    for (const OperatingPoint& point : report.curve) {
      CHECK(point.false_accept_rate == upto(different, point.threshold));
      CHECK(point.true_accept_rate == upto(same, point.threshold));
    }
    // The next same pair would break the rate.
    for (size_t r = 0; r < report.rates.size(); ++r) {
      const auto next = std::upper_bound(same.begin(), same.end(), report.points[r].threshold);
      CHECK((next == same.end() || upto(different, static_cast<double>(*next)) > report.rates[r]));
    }
    CHECK(std::accumulate(report.same_histogram.begin(), report.same_histogram.end(), int64_t{0}) == report.same_pairs);
    int64_t seen = 0;
    for (size_t b = 0; b < report.different_histogram.size(); ++b) {
      seen += report.different_histogram[b];
      // Edges are rounded in f32: a pair at one may be on its other side.
      const double edge = static_cast<double>(b + 1) * report.bin_width;
      CHECK(static_cast<double>(seen) <= upto(different, edge * (1 + 1e-6)) * static_cast<double>(different.size()) + 0.5);
      CHECK(static_cast<double>(seen) >= upto(different, edge * (1 - 1e-6)) * static_cast<double>(different.size()) - 0.5);
    }
  }
}

TEST_CASE("verification: fast-reid's curve lacks the points between equal steps") {
  // From afar: a different pair, then three times a same and a different one at one distance. scikit-learn's roc_curve keeps (0, 0),
  // (0, 1/4) and (1, 1) of that, so both rates fall to their ends.
  EvaluationInput in;
  in.query = Tensor::from(std::vector<double>{0}, {1, 1});
  in.query_ids = {7};
  in.query_cameras = {1};
  in.gallery = Tensor::from(std::vector<double>{4, 3, -3, 2, -2, 1, -1}, {7, 1});
  in.gallery_ids = {3, 7, 3, 7, 3, 7, 3};
  in.gallery_cameras = std::vector<int64_t>(7, 2);
  VerificationOptions options;
  options.metric = Metric::euclidean;
  options.rates = {0.34, 0.6};
  CHECK(verify(in, options).fastreid == std::vector<double>{0, 1});
}

TEST_CASE("verification: one identity with pairs is measured where it was chosen; wrong requests are refused") {
  EvaluationInput in;
  in.query = Tensor::from(std::vector<double>{0}, {1, 1});
  in.query_ids = {7};
  in.query_cameras = {1};
  in.gallery = Tensor::from(std::vector<double>{1, 2, 3}, {3, 1});
  in.gallery_ids = {7, 3, 7};
  in.gallery_cameras = {2, 2, 2};
  VerificationOptions options;
  options.metric = Metric::euclidean;
  const VerificationReport report = verify(in, options);
  CHECK(!report.held_out);
  CHECK(report.chosen.threshold == 1);
  CHECK(report.measured.true_accept_rate == 0.5);
  CHECK(report.measured.false_accept_rate == 0);
  CHECK(report.area == 0.5);
  CHECK(report.equal_error_rate == 0.5);
  in.gallery_ids = {3, 3, 7};  // no threshold without a false accept
  CHECK(verify(in, options).chosen.threshold == -1);
  CHECK(verify(in, options).chosen.true_accept_rate == 0);
  in.gallery_ids = {7, 7, 7};
  CHECK(contains(failure_of([&] { verify(in, options); }), "there are no different pairs"));
  in.gallery_ids = {1, 2, 3};
  CHECK(contains(failure_of([&] { verify(in, options); }), "there are no same pairs"));
  options.rates = {0.1, 1};
  CHECK(contains(failure_of([&] { verify(in, options); }), "a false-accept rate of 1"));
  options = {};
  options.wanted = 0;
  CHECK(contains(failure_of([&] { verify(in, options); }), "wanted false-accept rate of 0"));
}
