// CMC, mAP and mINP against goldens and against cases small enough to do by hand; the color histogram.

#include <doctest/doctest.h>

#include <algorithm>
#include <array>

#include "formats/scratch.h"
#include "people/golden_evaluation.h"
#include "reid/people/evaluation.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;
using reid::test::Golden;
using reid::test::input_of;
using reid::test::random_features;

namespace {

EvaluationInput golden_input(const std::string& name) { return input_of(Golden("people", "evaluation/" + name)); }

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

EvaluationOptions euclidean() {
  EvaluationOptions options;
  options.metric = Metric::euclidean;
  return options;
}

std::vector<double> figures(const EvaluationReport& r) {
  std::vector<double> all = {r.mAP, r.mINP};
  all.insert(all.end(), r.cmc.begin(), r.cmc.end());
  for (const QueryResult& q : r.queries) all.push_back(q.average_precision);
  return all;
}

}  // namespace

TEST_CASE("evaluation: goldens with junk, distractors, ties, same-camera matches and unmatched queries") {
  for (const char* name : {"plain", "tied"}) {
    for (Metric metric : {Metric::cosine, Metric::euclidean}) {
      const std::string prefix = str("evaluation/", name, "/", name_of(metric));
      CAPTURE(prefix);
      const Golden golden("people", prefix);
      EvaluationOptions options;
      options.metric = metric;
      options.ranks = golden.integers("ranks");
      options.per_query = true;
      const EvaluationInput in = golden_input(name);
      const EvaluationReport report = evaluate(in, options);
      CHECK(std::fabs(report.mAP - golden.number("mAP")) < 1e-12);
      CHECK(std::fabs(report.mINP - golden.number("mINP")) < 1e-12);
      for (size_t k = 0; k < options.ranks.size(); ++k) CHECK(report.cmc[k] == golden["cmc"].data<double>()[k]);
      CHECK(std::vector<int64_t>{report.evaluated, report.unmatched, report.junk_queries, report.junk_gallery, report.distractors} ==
            golden.integers("counts"));
      const std::vector<int64_t> matches = golden.integers("matches"), first = golden.integers("first"), last = golden.integers("last");
      size_t at = 0;
      for (size_t q = 0; q < matches.size(); ++q) {
        if (matches[q] == 0) continue;
        REQUIRE(at < report.queries.size());
        const QueryResult& result = report.queries[at++];
        CAPTURE(q);
        CHECK(result.query == static_cast<int64_t>(q));
        CHECK(result.matches == matches[q]);
        CHECK(result.first_rank == first[q]);
        CHECK(result.last_rank == last[q]);
        CHECK(std::fabs(result.average_precision - golden["average_precision"].data<double>()[q]) < 1e-12);
      }
      CHECK(at == report.queries.size());
      test::same_with_threads([&] { return figures(evaluate(in, options)); });
    }
  }
}

TEST_CASE("evaluation: by hand") {
  // Kept list by distance: 7, 3, 7, 0, 7. The entry of the query's own camera at 0.5 and the junk at 0.1 do not count.
  const EvaluationInput in = line({4, 2, 0.5, 1, 5, 3, 0.1}, {0, 3, 7, 7, 7, 7, -1}, {1, 1, 1, 2, 3, 2, 2});
  EvaluationOptions options = euclidean();
  options.per_query = true;
  const EvaluationReport report = evaluate(in, options);
  CHECK(report.mAP == doctest::Approx((1.0 + 2.0 / 3 + 3.0 / 5) / 3).epsilon(1e-15));
  CHECK(report.mINP == 3.0 / 5);
  CHECK(report.rank(1) == 1);
  CHECK(report.queries.at(0).matches == 3);
  CHECK(report.queries.at(0).last_rank == 5);
  CHECK(report.distractors == 2);  // 0 and 3
  CHECK(report.junk_gallery == 1);
  CHECK(contains(failure_of([&] { report.rank(3); }), "rank-3 was not asked for"));
}

TEST_CASE("evaluation: ties go to the lower gallery index") {
  CHECK(evaluate(line({1, 1, 1}, {7, 3, 4}, {2, 2, 2}), euclidean()).mAP == 1);
  CHECK(evaluate(line({1, 1, 1}, {3, 7, 4}, {2, 2, 2}), euclidean()).mAP == 0.5);
  CHECK(evaluate(line({1, -1, 1}, {3, 4, 7}, {2, 2, 2}), euclidean()).mAP == doctest::Approx(1.0 / 3).epsilon(1e-15));
}

TEST_CASE("evaluation: the query's own file is left out once, junk or not") {
  EvaluationInput in = line({1, 2, 3}, {-1, 7, 4}, {1, 1, 1});
  in.cameras_known = false;
  in.query_files = {5}, in.gallery_files = {5, 6, 8};
  EvaluationOptions options = euclidean();
  options.per_query = true;
  const EvaluationReport report = evaluate(in, options);
  CHECK(report.mAP == 1);
  CHECK(report.queries.at(0).first_rank == 1);
  CHECK(report.removed == 0);
  in.gallery_ids[0] = 7;
  CHECK(evaluate(in, options).queries.at(0).first_rank == 1);
  CHECK(evaluate(in, options).removed == 1);
}

TEST_CASE("evaluation: lists, too, take distances that are equal in f32 for ties") {
  std::vector<float> values;
  for (int64_t j = 0; j < 40; ++j) values.insert(values.end(), {1, static_cast<float>(40 - j) * 1e-6F});  // the later, the nearer in double
  const Tensor query = Tensor::zeros({1, 2}, DType::f32), gallery = Tensor::from(values, {40, 2});
  const NearestRows lists = first_ranked(distance_rows(query, gallery, Metric::euclidean), 3);
  CHECK(bitwise_equal(lists.index, Tensor::from(std::vector<int32_t>{0, 1, 2}, {1, 3})));
  CHECK(bitwise_equal(lists.distance, Tensor::full({1, 3}, 1, DType::f64)));
  CHECK(nearest_rows(query, gallery, Metric::euclidean, 1).index.data<int32_t>()[0] == 39);
  CHECK(contains(failure_of([&] { first_ranked(distance_rows(query, gallery, Metric::euclidean), 0); }), "count is 0"));
}

TEST_CASE("evaluation: what does not fit is refused, naming it") {
  const EvaluationInput good = golden_input("plain");
  const auto failure = [](const EvaluationInput& in) { return failure_of([&] { evaluate(in); }); };
  EvaluationInput in = good;
  in.query_ids.pop_back();
  CHECK(contains(failure(in), "query ids: 39 entries for 40 rows"));
  in = good;
  in.gallery_cameras.push_back(1);
  CHECK(contains(failure(in), "gallery cameras: 261 entries"));
  in = good;
  in.query = random_features(40, 15, DType::f64, 1);
  CHECK(contains(failure(in), "15 columns"));
  in = good;
  in.gallery = good.gallery.clone();
  in.gallery.data<double>()[16 * 12 + 3] = NAN;
  CHECK(contains(failure(in), "gallery: row 12 holds NaN"));
  for (int64_t d = 0; d < 16; ++d) in.gallery.data<double>()[16 * 12 + d] = 0;
  CHECK(contains(failure(in), "gallery: row 12 is all zeros"));
  CHECK(failure_of([&] { evaluate(in, euclidean()); }).empty());
  in = good;
  in.gallery = good.gallery.to(DType::f32);
  CHECK(contains(failure(in), "f32"));
  in = good;
  in.query_ids.assign(40, 99);
  CHECK(contains(failure(in), "none of 40 queries has a match"));
  in = good;
  in.query = Tensor::empty({0, 16}, DType::f64);
  CHECK(contains(failure(in), "query: there are no rows"));
  EvaluationOptions options;
  options.ranks = {1, 0};
  CHECK(contains(failure_of([&] { evaluate(good, options); }), "rank-0"));
  DistanceRows rows = distance_rows(good.query, good.gallery, Metric::cosine);
  --rows.queries;
  CHECK(contains(failure_of([&] { evaluate(good, rows, {}); }), "are not those of their ranking: clear it"));
}

TEST_CASE("evaluation: many queries in several tiles and blocks equal the queries one by one") {
  EvaluationInput in;  // two tiles of products each way, of 2016 rows; five blocks of distances, of 448
  in.query = random_features(2100, 8, DType::f32, 2);
  in.gallery = random_features(3000, 8, DType::f32, 3);
  for (int64_t i = 0; i < 2100; ++i) in.query_ids.push_back(1 + i % 300), in.query_cameras.push_back(i % 3);
  for (int64_t i = 0; i < 3000; ++i) in.gallery_ids.push_back(i % 331 - 1), in.gallery_cameras.push_back(i % 5);
  EvaluationOptions options;
  options.per_query = true;
  const test::SmallBlocks small(3000 * 500);
  const EvaluationReport tiles = evaluate(in, options);
  DistanceRows rows = distance_rows(in.query, in.gallery, options.metric);
  rows.ranking = nullptr;
  const EvaluationReport blocks = evaluate(in, rows, options);
  REQUIRE(tiles.evaluated == 2100);
  CHECK(figures(tiles) == figures(blocks));
  for (int64_t i : {0, 447, 448, 2015, 2016, 2099}) {
    EvaluationInput one = in;
    one.query = in.query.rows(i, i + 1);
    one.query_ids = {in.query_ids[static_cast<size_t>(i)]};
    one.query_cameras = {in.query_cameras[static_cast<size_t>(i)]};
    const double precision = evaluate(one, options).mAP;
    CHECK(tiles.queries[static_cast<size_t>(i)].average_precision == precision);
    CHECK(blocks.queries[static_cast<size_t>(i)].average_precision == precision);
  }
}

namespace {

Image plain_image(int height, int width, const std::vector<std::array<uint8_t, 3>>& stripes) {
  Image image(height, width);
  for (int y = 0; y < height; ++y) {
    const auto& color = stripes[static_cast<size_t>(y) * stripes.size() / static_cast<size_t>(height)];
    for (int x = 0; x < width; ++x) std::copy(color.begin(), color.end(), image.at(y, x));
  }
  return image;
}

double cosine_of(const Tensor& rows, int64_t i, int64_t j) {
  return static_cast<double>(pairwise_distance(rows.rows(i, i + 1), rows.rows(j, j + 1), Metric::cosine).data<float>()[0]);
}

}  // namespace

TEST_CASE("evaluation: the color histogram counts HSV in six stripes") {
  const std::array<uint8_t, 3> red = {200, 20, 20}, green = {30, 180, 40}, gray = {90, 92, 91}, black = {3, 9, 0}, white = {255, 255, 255};
  const std::vector<Image> images = {
      plain_image(60, 20, {red, red, red, red, red, red}),        plain_image(128, 64, {red, red, red, red, red, red}),
      plain_image(60, 20, {red, red, red, green, green, green}),  plain_image(60, 20, {green, green, green, red, red, red}),
      plain_image(60, 20, {gray, black, white, red, green, red}),
  };
  const Tensor rows = color_histograms(images);
  REQUIRE(rows.shape() == Shape{5, kHistogramWidth});
  for (int64_t i = 0; i < 5; ++i) {
    double squared = 0;
    for (int64_t d = 0; d < kHistogramWidth; ++d) squared += std::pow(static_cast<double>(rows.data<float>()[i * kHistogramWidth + d]), 2);
    CHECK(squared == doctest::Approx(1).epsilon(1e-6));
  }
  CHECK(cosine_of(rows, 0, 1) == 0);  // the size of an image does not matter
  CHECK(cosine_of(rows, 0, 2) == doctest::Approx(0.5).epsilon(1e-6));
  CHECK(cosine_of(rows, 2, 3) == doctest::Approx(1).epsilon(1e-6));  // nor do the same colors elsewhere
  CHECK(cosine_of(rows, 0, 4) == doctest::Approx(1 - 2.0 / 6).epsilon(1e-6));
  const float* mixed = rows.data<float>() + 4 * kHistogramWidth;
  CHECK(mixed[2] > 0);                       // gray 92 is in the third of eight value bins
  CHECK(mixed[kHistogramBins] > 0);          // black, whatever its hue
  CHECK(mixed[2 * kHistogramBins + 7] > 0);  // white

  // Every color has a bin: all hues and corners of the cube.
  for (int r = 0; r < 256; r += 15) {
    for (int g = 0; g < 256; g += 15) {
      for (int b = 0; b < 256; b += 15) {
        const auto feature =
            color_histogram(plain_image(6, 1, {{static_cast<uint8_t>(r), static_cast<uint8_t>(g), static_cast<uint8_t>(b)}}));
        double squared = 0;
        for (float v : feature) squared += static_cast<double>(v) * static_cast<double>(v);
        REQUIRE(squared == doctest::Approx(1).epsilon(1e-6));
      }
    }
  }
  CHECK(contains(failure_of([] { color_histogram(Image(5, 10)); }), "5 x 10"));
}
