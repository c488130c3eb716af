// The protocols against the programs they are named after, and the rules around them.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "formats/scratch.h"
#include "people/evaluation/counting.h"
#include "people/golden_evaluation.h"
#include "reid/people/evaluation.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;
using reid::test::Golden;
using reid::test::input_of;
using reid::test::random_features;

namespace {

const std::vector<int64_t> kRanks = {1, 2, 5, 10, 20};

// One query at 0 of identity 7, camera 1, and a gallery on a line.
EvaluationInput line(const std::vector<double>& places, const std::vector<int64_t>& ids, const std::vector<int64_t>& cameras) {
  EvaluationInput in;
  in.query = Tensor::zeros({1, 1}, DType::f64);
  in.query_ids = {7};
  in.query_cameras = {1};
  in.gallery = Tensor::from(places, {static_cast<int64_t>(places.size()), 1});
  in.gallery_ids = ids;
  in.gallery_cameras = cameras;
  return in;
}

EvaluationOptions euclidean(PrecisionForm form = PrecisionForm::step) {
  EvaluationOptions options;
  options.metric = Metric::euclidean;
  options.precision = form;
  return options;
}

bool hints_at(const EvaluationReport& report, const std::string& text) {
  return std::any_of(report.hints.begin(), report.hints.end(), [&](const std::string& hint) { return contains(hint, text); });
}

}  // namespace

TEST_CASE("presets: each equals the program it is named after, ties, junk and unmatched queries included") {
  for (const char* problem : {"plain", "tied"}) {
    const EvaluationInput in = input_of(Golden("evaluation", problem));
    for (const std::string& preset : evaluation_presets()) {
      CAPTURE(problem);
      CAPTURE(preset);
      EvaluationOptions options = evaluation_preset(preset);
      CHECK(options.preset == preset);
      options.ranks = kRanks;
      const Golden golden("evaluation", str(problem, "/", preset));
      const EvaluationReport report = evaluate(in, options);
      // Both sides sum some fifty terms in double, the reference's CMC in f32.
      CHECK(std::fabs(report.mAP - golden.number("mAP")) < 1e-12);
      const std::vector<double> cmc = golden.numbers("cmc");
      for (size_t k = 0; k < kRanks.size(); ++k) CHECK(std::fabs(report.cmc[k] - cmc[k]) < 50 * 6e-8);
      CHECK(report.unmatched >= 2);
      CHECK(report.hints.empty());
      test::same_with_threads([&] {
        const EvaluationReport again = evaluate(in, options);
        std::vector<double> all = again.cmc;
        all.push_back(again.mAP);
        return all;
      });
    }
  }
  CHECK(evaluation_preset("fastreid").preset == EvaluationOptions{}.preset);
  CHECK(contains(failure_of([] { evaluation_preset("fast-reid"); }), "expected one of fastreid, torchreid, openreid, market-matlab"));
}

TEST_CASE("presets: precision by hand") {
  // Matches at ranks 2 and 4; then with the second match tied to its neighbors.
  const EvaluationInput plain = line({1, 2, 3, 4, 5}, {3, 7, 4, 7, 5}, {2, 2, 2, 2, 2});
  CHECK(evaluate(plain, euclidean()).mAP == doctest::Approx((1.0 / 2 + 2.0 / 4) / 2).epsilon(1e-15));
  CHECK(evaluate(plain, euclidean(PrecisionForm::trapezoidal)).mAP ==
        doctest::Approx(((0.0 + 1.0 / 2) / 2 + (1.0 / 3 + 2.0 / 4) / 2) / 2).epsilon(1e-15));
  const EvaluationInput first = line({1, 2}, {7, 3}, {2, 2});
  CHECK(evaluate(first, euclidean(PrecisionForm::trapezoidal)).mAP == 1);
  const EvaluationInput tied = line({1, 2, 4, 4, 4}, {3, 7, 4, 7, 5}, {2, 2, 2, 2, 2});
  CHECK(evaluate(tied, euclidean(PrecisionForm::tied)).mAP == doctest::Approx((1.0 / 2 + 2.0 / 5) / 2).epsilon(1e-15));
  CHECK(evaluate(tied, euclidean()).mAP == doctest::Approx((1.0 / 2 + 2.0 / 4) / 2).epsilon(1e-15));
  // Two matches at one distance share a rank; junk and the query's own camera at that distance do not count.
  const EvaluationInput pair = line({2, 2, 2, 2, 1}, {7, -1, 7, 7, 4}, {2, 2, 1, 3, 2});
  CHECK(evaluate(pair, euclidean(PrecisionForm::tied)).mAP == doctest::Approx(2.0 / 3).epsilon(1e-15));
}

TEST_CASE("presets: a query without a match is left out, or a zero") {
  EvaluationInput in = line({1, 2}, {7, 3}, {2, 2});
  in.query = Tensor::zeros({3, 1}, DType::f64);
  in.query_ids = {7, 8, -1};
  in.query_cameras = {1, 1, 1};
  EvaluationOptions options = euclidean();
  CHECK(evaluate(in, options).mAP == 1);
  options.count_unmatched = true;
  const EvaluationReport report = evaluate(in, options);
  CHECK(report.mAP == 0.5);
  CHECK(report.mINP == 0.5);
  CHECK(report.rank(10) == 0.5);
  CHECK(report.unmatched == 1);  // the junk query counts nowhere
  CHECK(report.junk_queries == 1);
}

TEST_CASE("presets: a single-shot gallery has the mean of all its draws") {
  // Identity 7 at distances 1, 4 and 6; 3 at 2 and 5; 4 at 3; 7 in the query's own camera at 0. Exact chances of each rank: the match
  // is drawn with 1/3 each; at 4: 3 is before it with 1/2, 4 always; at 6 both are.
  const EvaluationInput in = line({1, 4, 6, 2, 5, 3, 0}, {7, 7, 7, 3, 3, 4, 7}, {2, 3, 2, 2, 4, 2, 1});
  EvaluationOptions options = euclidean();
  options.single_shot = true;
  options.ranks = {1, 2, 3};
  options.repeats = 40000;
  const EvaluationReport report = evaluate(in, options);
  const double deviation = 5 * std::sqrt(0.25 / static_cast<double>(options.repeats));  // five standard deviations at most
  CHECK(std::fabs(report.cmc[0] - 1.0 / 3) < deviation);
  CHECK(std::fabs(report.cmc[1] - 1.0 / 2) < deviation);
  CHECK(report.cmc[2] == 1);
  CHECK(report.mAP == doctest::Approx((1.0 + 2.0 / 4 + 3.0 / 6) / 3).epsilon(1e-15));  // of the full list
  options.seed = 2;
  CHECK(evaluate(in, options).cmc[0] != report.cmc[0]);
  // With separate cameras nothing of camera 1 is drawn, whoever it shows.
  EvaluationInput separate = line({5, 1, 2}, {7, 3, 4}, {2, 1, 2});
  options.separate_cameras = true;
  CHECK(evaluate(separate, options).cmc == std::vector<double>{0, 1, 1});
  options.separate_cameras = false;
  CHECK(evaluate(separate, options).cmc == std::vector<double>{0, 0, 1});
  separate.cameras_known = false;
  options.separate_cameras = true;
  CHECK(contains(failure_of([&] { evaluate(separate, options); }), "cameras are unknown"));
  options.repeats = 0;
  CHECK(contains(failure_of([&] { evaluate(separate, options); }), "0 draws"));
}

TEST_CASE("presets: without cameras only the query's own file is removed") {
  EvaluationInput in = line({0, 1, 2}, {7, 3, 7}, {});
  in.query_cameras.clear();
  in.cameras_known = false;
  CHECK(evaluate(in, euclidean()).mAP == doctest::Approx((1.0 + 2.0 / 3) / 2).epsilon(1e-15));  // files unknown: it finds itself
  CHECK(contains(describe({}, in), "nothing removed"));
  in.query_files = {40};
  in.gallery_files = {40, 41, 42};
  const EvaluationReport report = evaluate(in, euclidean());
  CHECK(report.mAP == 0.5);
  CHECK(report.removed == 1);
  CHECK(contains(describe({}, in), "only the query's own file removed"));
  in.gallery_ids[0] = 9;  // whatever the file is labeled
  CHECK(evaluate(in, euclidean()).mAP == 0.5);
  in.gallery_files.pop_back();
  CHECK(contains(failure_of([&] { evaluate(in, euclidean()); }), "gallery files: 2 entries for 3 rows"));
}

TEST_CASE("presets: what looks like a mistake is said") {
  const EvaluationInput right = input_of(Golden("evaluation", "plain"));
  EvaluationInput swapped = right;
  std::swap(swapped.query, swapped.gallery);
  std::swap(swapped.query_ids, swapped.gallery_ids);
  std::swap(swapped.query_cameras, swapped.gallery_cameras);
  for (int64_t& id : swapped.gallery_ids) id = id > 32 ? 1 : id;  // queries of a complete test set all have gallery images
  CHECK(hints_at(evaluate(swapped), "query and gallery may be swapped"));

  EvaluationInput same = right;
  same.query = same.gallery;
  same.query_ids = same.gallery_ids;
  same.query_cameras = same.gallery_cameras;
  CHECK(hints_at(evaluate(same), "query and gallery are the same rows: every query's own image is removed"));
  same.cameras_known = false;
  CHECK(hints_at(evaluate(same), "every query finds itself first"));

  EvaluationOptions options;
  options.ranks = {1, 1000};
  const EvaluationReport beyond = evaluate(right, options);
  CHECK(beyond.rank(1000) == 1);
  CHECK(hints_at(beyond, "rank-1000 was asked for, and the gallery has 260 images"));

  EvaluationInput zeros = right;
  zeros.gallery = right.gallery.clone();
  for (int64_t d = 0; d < 12; ++d) zeros.gallery.data<double>()[4 * 12 + d] = 0;
  CHECK(hints_at(evaluate(zeros, euclidean()), "1 gallery rows are all zeros (the first is row 4)"));
}

TEST_CASE("presets: counting before given entries equals counting one by one") {
  Rng rng(3);
  for (const int64_t count : {1, 7, 1023, 1024, 1025, 5000}) {
    for (const int64_t wanted : {1, 5, 60, 700}) {
      std::vector<float> values(static_cast<size_t>(count));
      for (float& v : values) v = static_cast<float>(rng.below(40)) / 8;
      std::vector<std::pair<float, int64_t>> entries;
      for (int64_t m = 0; m < wanted; ++m) {
        const int64_t j = rng.below(count + 1);  // count: all values up to the distance
        entries.emplace_back(j < count ? values[static_cast<size_t>(j)] : static_cast<float>(rng.below(50)) / 8, j);
      }
      std::sort(entries.begin(), entries.end());
      std::vector<int64_t> before;
      count_before(values.data(), count, entries, before);
      for (size_t m = 0; m < entries.size(); ++m) {
        int64_t slow = 0;
        for (int64_t j = 0; j < count; ++j) slow += std::pair<float, int64_t>(values[static_cast<size_t>(j)], j) < entries[m] ? 1 : 0;
        REQUIRE(before[m] == slow);
      }
    }
  }
}

TEST_CASE("presets: identities with very many matches") {
  EvaluationInput in;  // 600 matches of each query: counted by search
  in.query = random_features(3, 4, DType::f32, 5);
  in.gallery = random_features(1500, 4, DType::f32, 6);
  in.query_ids = {1, 1, 2};
  in.query_cameras = {9, 0, 9};
  for (int64_t j = 0; j < 1500; ++j) in.gallery_ids.push_back(1 + j % 2), in.gallery_cameras.push_back(j % 6);
  EvaluationOptions options;
  options.per_query = true;
  const EvaluationReport report = evaluate(in, options);
  const Tensor d = pairwise_distance(in.query, in.gallery, Metric::cosine);
  for (size_t q = 0; q < 3; ++q) {
    std::vector<std::pair<float, int64_t>> order;
    for (int64_t j = 0; j < 1500; ++j) {
      const auto at = static_cast<size_t>(j);
      if (in.gallery_ids[at] == in.query_ids[q] && in.gallery_cameras[at] == in.query_cameras[q]) continue;
      order.emplace_back(d.data<float>()[static_cast<int64_t>(q) * 1500 + j], j);
    }
    std::sort(order.begin(), order.end());
    double sum = 0, found = 0;
    for (size_t r = 0; r < order.size(); ++r) {
      if (in.gallery_ids[static_cast<size_t>(order[r].second)] != in.query_ids[q]) continue;
      found += 1;
      sum += found / static_cast<double>(r + 1);
    }
    CHECK(report.queries[q].average_precision == doctest::Approx(sum / found).epsilon(1e-13));
    CHECK(report.queries[q].matches == static_cast<int64_t>(found));
  }
}

TEST_CASE("pooling: tracklets, multi-query, frames, files") {
  const Tensor x = Tensor::from(std::vector<float>{1, 5, 3, 0, 5, 2, 7, 7}, {4, 2});
  const PooledRows mean = pool_rows(x, {4, 9, 4, 9}, Pooling::mean);
  CHECK(mean.first == std::vector<int64_t>{0, 1});
  CHECK(test::largest_difference(mean.rows, Tensor::from(std::vector<float>{3, 3.5f, 5, 3.5f}, {2, 2})) == 0);
  CHECK(test::largest_difference(pool_rows(x, {4, 9, 4, 9}, Pooling::max).rows, Tensor::from(std::vector<float>{5, 5, 7, 7}, {2, 2})) == 0);
  CHECK(contains(failure_of([&] { pool_rows(x, {1, 2}, Pooling::mean); }), "2 entries for 4 rows"));

  EvaluationInput in;
  in.query = Tensor::from(std::vector<float>{9, 9, 8, 8}, {2, 2});
  in.query_ids = {1, 2};
  in.query_cameras = {0, 0};
  const Tensor images = Tensor::from(std::vector<float>{3, 4, 0, 2, 6, 6}, {3, 2});
  // Identity 1: rows 0 and 1, not 2 of another camera. Identity 2 has none and stays.
  const Tensor joined = multi_query(in, images, {1, 1, 1}, {0, 0, 1}, Pooling::mean, false);
  CHECK(test::largest_difference(joined, Tensor::from(std::vector<float>{1.5f, 3, 8, 8}, {2, 2})) == 0);
  const Tensor unit = multi_query(in, images, {1, 1, 1}, {0, 0, 1}, Pooling::max, true);
  CHECK(test::largest_difference(unit, Tensor::from(std::vector<float>{0.6f, 1, 8, 8}, {2, 2})) < 1e-7);
  in.cameras_known = false;
  CHECK(contains(failure_of([&] { multi_query(in, images, {1, 1, 1}, {0, 0, 1}, Pooling::mean, false); }), "cameras are unknown"));

  std::vector<Sample> frames;
  for (int64_t tracklet : {5, -1, 5, 2, 5, -1}) {
    frames.push_back({str(frames.size()), 10 + tracklet, tracklet == 2 ? 1 : 0, -1, tracklet});
  }
  const auto names = [](const std::vector<Sample>& samples) {
    std::string all;
    for (const Sample& sample : samples) all += sample.path;
    return all;
  };
  CHECK(names(tracklet_frames(frames, 0)) == "024135");
  CHECK(names(tracklet_frames(frames, 2)) == "021335");  // of three the first two, of one the same again; images of none once
  std::vector<Sample> rows = tracklet_frames(frames, 2);
  const Tensor pooled = pool_tracklets(Tensor::from(std::vector<double>{1, 3, 10, 4, 6, 20}, {6, 1}), rows);
  CHECK(names(rows) == "0135");
  CHECK(test::largest_difference(pooled, Tensor::from(std::vector<double>{2, 10, 5, 20}, {4, 1})) == 0);
  CHECK(rows[2].person == 12);
  Dataset set;
  set.query = {{"a/../q.jpg", 3, 1}};
  set.gallery = {{"x.jpg", 3, 2}, {"q.jpg", 4, 1}};
  CHECK(retrieval_labels(set).query_files.empty());
  CHECK(retrieval_labels(set).gallery_cameras == std::vector<int64_t>{2, 1});
  set.cameras_known = false;
  CHECK(retrieval_labels(set).gallery_files[1] == retrieval_labels(set).query_files[0]);
  CHECK(retrieval_labels(set).gallery_files[0] != retrieval_labels(set).query_files[0]);

  CHECK(even_frames(10, 4) == std::vector<int64_t>{0, 2, 4, 6});  // numpy.arange(0, 8, 2)
  CHECK(even_frames(4, 4) == std::vector<int64_t>{0, 1, 2, 3});
  CHECK(even_frames(2, 5) == std::vector<int64_t>{0, 1, 1, 1, 1});
  CHECK(even_frames(3, 0) == std::vector<int64_t>{0, 1, 2});
  CHECK(contains(failure_of([] { even_frames(0, 4); }), "of 0 frames"));
}
