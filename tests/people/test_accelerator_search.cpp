// Searches where the features lie on an accelerator give the CPU's results bit for bit.

#include <doctest/doctest.h>

#include "../kernels/on_device.h"
#include "features.h"
#include "people/accelerator_search.h"
#include "people/evaluation/standing.h"
#include "reid/people/rerank.h"

namespace reid::test {
namespace {

// Tiles of a few rows, and room for few pairs, so that all that tiles and parts share is met.
struct SmallTiles {
  explicit SmallTiles(int64_t tile, int64_t pairs = 64) {
    accelerator_tile = tile;
    pairs_at_a_time = pairs;
  }
  ~SmallTiles() {
    accelerator_tile = tile_;
    pairs_at_a_time = pairs_;
  }
  SmallTiles(const SmallTiles&) = delete;
  SmallTiles& operator=(const SmallTiles&) = delete;

 private:
  int64_t tile_ = accelerator_tile, pairs_ = pairs_at_a_time;
};

// People seen several times, some rows equal to the last bit, one far away from all others.
Tensor people_features(int64_t rows, int64_t width, DType dtype, uint64_t seed) {
  const Tensor people = random_features(rows / 6 + 1, width, DType::f64, seed), noise = random_features(rows, width, DType::f64, seed + 1);
  const Tensor x = Tensor::empty({rows, width}, DType::f64);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t k = 0; k < width; ++k) {
      const double own = people.data<double>()[(i * 5 % people.dim(0)) * width + k];
      x.data<double>()[i * width + k] = i == 3 ? -9 * own : own + 0.3 * noise.data<double>()[(i % 7 == 2 ? 2 : i) * width + k];
    }
  }
  return x.to(dtype);
}

const Metric kMetrics[] = {Metric::cosine, Metric::euclidean, Metric::squared_euclidean};

void same_neighbors(const DistanceTiles& here, const DistanceTiles& there, int64_t width) {
  const NeighborOptions options{.distances = true, .farthest = true, .progress = {}};
  const Neighbors want = nearest_neighbors(here, width, options), got = nearest_neighbors(there, width, options);
  CHECK(got.width == want.width);
  CHECK(got.index == want.index);
  CHECK(got.distance == want.distance);
  CHECK(got.farthest == want.farthest);
}

void check_bounds(const DistanceTiles& pairs) {
  const PairFilter filter(pairs);
  int64_t covered = 0;
  bool held = true;
  filter.for_each({}, [&](const ProductTile& tile) {
    std::vector<float> products(static_cast<size_t>(tile.rows * tile.columns));
    void* const queue = current_stream(pairs.device()).native();
    accelerator(pairs.device()).copy(products.data(), tile.products, products.size() * sizeof(float), CopyKind::to_host, queue);
    accelerator(pairs.device()).synchronize(queue);
    for (size_t at = 0; at < products.size(); ++at) {
      const int64_t i = tile.row + static_cast<int64_t>(at) / tile.columns, j = tile.column + static_cast<int64_t>(at) % tile.columns;
      const double q = filter.half_square(pairs.pair(i, j));
      held = held && filter.lower(i, j, products[at]) <= q && q <= filter.upper(i, j, products[at]);
      covered += tile.mirrored ? 2 : 1;
    }
  });
  CHECK(held);
  CHECK(covered == pairs.count() * pairs.width());
}

using Pairs = std::vector<std::pair<int64_t, int32_t>>;
Pairs pairs_within(const DistanceTiles& tiles, double radius) {
  Pairs pairs;
  for_each_pair_within(tiles, radius, {}, [&](int64_t i, std::span<const int32_t> columns) {
    for (int32_t j : columns) pairs.emplace_back(i, j);
  });
  std::sort(pairs.begin(), pairs.end());
  return pairs;
}

}  // namespace

TEST_CASE("accelerator search: the bounds of products hold for every pair, whatever the rows look like") {
  const SmallTiles tiles(40);
  for (const double offset : {0.0, 3.0}) {
    for (const double spread : {1.0, 0.01}) {
      Tensor x = random_features(45, 72, DType::f64, 7);
      for (int64_t e = 0; e < x.numel(); ++e) {
        double& v = x.data<double>()[e];
        const double length = std::pow(10.0, static_cast<double>(e / 72 % 5) - 2);
        v = (offset + spread * v * (e % 61 == 0 ? 300 : 1)) * (offset == 0 ? length : 1);
      }
      x = x.to(DType::f32);
      for (Metric metric : kMetrics) {
        CAPTURE(str(name_of(metric), ", ", offset, ", ", spread));
        check_bounds({x.rows(0, 25), "a", x.rows(20, 45), "b", metric, test_device()});
        check_bounds({x, "x", metric, test_device()});
      }
    }
  }
}

TEST_CASE("accelerator search: equal rows are found where all that a part of bf16 lacks adds up") {
  for (int64_t width : {1, 8, 40, 96}) {
    const Tensor x = Tensor::empty({6, width}, DType::f32);
    for (int64_t e = 0; e < x.numel(); ++e) x.data<float>()[e] = (e / width % 2 == 0 ? 1.f : -1.f) * (1 + 0x1p-8f - 0x1p-17f - 0x1p-20f);
    for (Metric metric : kMetrics) {
      CAPTURE(str(name_of(metric), ", ", width));
      check_bounds({x, "x", metric, test_device()});
      CHECK(pairs_within({x, "x", metric, test_device()}, 0) == pairs_within({x, "x", metric}, 0));
    }
  }
}

TEST_CASE("accelerator search: neighbor lists are the CPU's, over tiles, metrics and dtypes") {
  const SmallTiles tiles(24);
  const auto compare = [](int64_t rows, DType dtype, Metric metric, int64_t width) {
    CAPTURE(str(rows, " rows, ", dtype, ", ", name_of(metric), ", ", width));
    const Tensor a = people_features(rows, 33, dtype, 1), b = people_features(rows - 7, 33, dtype, 5);
    same_neighbors({a, "a", metric}, {a, "a", metric, test_device()}, width);
    same_neighbors({a, "a", b, "b", metric}, {a, "a", b, "b", metric, test_device()}, width);
  };
  for (Metric metric : kMetrics) compare(50, DType::f32, metric, 4);
  compare(50, DType::f64, Metric::cosine, 3);
  compare(26, DType::f32, Metric::cosine, 1);
  compare(26, DType::f64, Metric::euclidean, 200);  // all there are
}

TEST_CASE("nearest rows: distances in double by the definition, ties by index, here and there") {
  const Tensor a = people_features(23, 40, DType::f32, 5), b = people_features(70, 40, DType::f32, 9);
  for (const Metric metric : kMetrics) {
    const Tensor a64 = a.to(DType::f64), b64 = b.to(DType::f64), all = pairwise_distance(a64, b64, metric);
    const NearestRows here = nearest_rows(a, b, metric, 12), there = nearest_rows(a, b, metric, 12, test_device());
    CHECK(same_lists(here, there));
    CHECK(same_lists(first_ranked(distance_rows(a64, b64, metric, test_device()), 12), nearest_rows(a64, b64, metric, 12)));
    for (int64_t i = 0; i < 23; ++i) {
      std::vector<std::pair<double, int32_t>> order;  // rows of b that are equal have distances that are
      for (int64_t j = 0; j < 70; ++j) order.emplace_back(all.data<double>()[i * 70 + j], static_cast<int32_t>(j));
      std::sort(order.begin(), order.end());
      for (int64_t k = 0; k < 12; ++k) {
        CHECK(here.index.data<int32_t>()[i * 12 + k] == order[static_cast<size_t>(k)].second);
        CHECK(here.distance.data<double>()[i * 12 + k] == doctest::Approx(order[static_cast<size_t>(k)].first).epsilon(1e-12));
      }
    }
  }
  CHECK(nearest_rows(a, b, Metric::cosine, 100).index.shape() == Shape{23, 70});
  CHECK_THROWS_WITH_AS(nearest_rows(a, b, Metric::cosine, 0), "[nearest_rows] count is 0, expected at least 1", Error);
  CHECK_THROWS_WITH_AS(nearest_rows(a, b.rows(0, 3).reshape({40, 3}), Metric::cosine, 1), doctest::Contains("columns"), Error);
}

TEST_CASE("accelerator search: lists that many equal rows leave open are closed") {
  const SmallTiles tiles(40);
  const Tensor x = people_features(60, 8, DType::f32, 3);
  for (int64_t i = 0; i < 28; ++i) x.rows(2 * i, 2 * i + 1).copy_from(x.rows(0, 1));  // more than a list of 5 has room for
  same_neighbors({x, "x", Metric::cosine}, {x, "x", Metric::cosine, test_device()}, 5);
  same_neighbors({x, "x", Metric::euclidean}, {x, "x", Metric::euclidean, test_device()}, 2);
  for (int64_t i = 0; i < 28; ++i) x.data<float>()[16 * i + i % 8] += 1e-6f * static_cast<float>(i * 7 % 11);  // below what products tell
  same_neighbors({x, "x", Metric::cosine}, {x, "x", Metric::cosine, test_device()}, 5);
  same_neighbors({x, "x", Metric::euclidean}, {x, "x", Metric::euclidean, test_device()}, 30);
  // The same among the farthest rows: far from all others, and apart by less than f32 holds.
  const Tensor far = x.to(DType::f64);
  for (int64_t i = 0; i < 28; ++i) {
    for (int64_t k = 0; k < 8; ++k)
      far.data<double>()[16 * i + k] = 30 * far.data<double>()[k] + (k == i % 8 ? 1e-9 * static_cast<double>(i * 7 % 11) : 0);
  }
  same_neighbors({far, "far", Metric::euclidean}, {far, "far", Metric::euclidean, test_device()}, 3);
}

TEST_CASE("accelerator search: pairs within a radius are the CPU's, a radius that is a distance included") {
  for (const auto& [tile, room] : {std::pair<int64_t, int64_t>{32, 40}, {8192, 1 << 22}}) {
    const SmallTiles tiles(tile, room);
    for (Metric metric : kMetrics) {
      const Tensor x = people_features(110, 20, DType::f32, 11);
      const DistanceTiles here(x, "x", metric), there(x, "x", metric, test_device());
      for (double radius : {0.0, here.pair(4, 9), here.pair(0, 50), 3.0}) {
        const Pairs want = pairs_within(here, radius);
        CAPTURE(str(name_of(metric), ", ", radius, ", ", want.size()));
        CHECK(pairs_within(there, radius) == want);
      }
    }
  }
}

TEST_CASE("accelerator search: clusters of features are the CPU's") {
  const SmallTiles tiles(48);
  const Tensor x = people_features(100, 24, DType::f32, 21);
  for (double eps : {0.02, 0.1, 0.4}) {
    const DbscanOptions here{.eps = eps, .min_samples = 3}, there{.eps = eps, .min_samples = 3, .device = test_device()};
    const Clusters want = dbscan_features(x, Metric::cosine, here), got = dbscan_features(x, Metric::cosine, there);
    CHECK(got.labels == want.labels);
    CHECK(got.count == want.count);
    const JaccardOptions jaccard{.k1 = 12, .k2 = 4};
    CHECK(dbscan_jaccard(x, jaccard, there).labels == dbscan_jaccard(x, jaccard, here).labels);
  }
}

TEST_CASE("accelerator search: CMC, mAP and mINP are the CPU's, with junk, ties and unmatched queries") {
  const SmallTiles tiles(32, 50);
  for (DType dtype : {DType::f32, DType::f64}) {
    EvaluationInput input;
    input.query = people_features(40, 16, dtype, 31), input.gallery = people_features(130, 16, dtype, 31);
    for (int64_t q = 0; q < 40; ++q) input.query_ids.push_back(q == 5 ? 99 : q * 5 % 7), input.query_cameras.push_back(q % 3);
    for (int64_t j = 0; j < 130; ++j) input.gallery_ids.push_back(j % 9 == 0 ? -1 : j * 5 % 22), input.gallery_cameras.push_back(j % 4);
    for (int64_t j = 0; j < 20; ++j) input.gallery.rows(j, j + 1).copy_from(input.gallery.rows(j + 20, j + 21));
    for (const std::string& preset : evaluation_presets()) {
      EvaluationOptions options = evaluation_preset(preset);
      options.per_query = true;
      const EvaluationReport want = evaluate(input, options);
      options.device = test_device();
      const EvaluationReport got = evaluate(input, options);
      CAPTURE(preset);
      CHECK(got.mAP == want.mAP);
      CHECK(got.mINP == want.mINP);
      CHECK(got.cmc == want.cmc);
      REQUIRE(got.queries.size() == want.queries.size());
      for (size_t q = 0; q < want.queries.size(); ++q) {
        CHECK(got.queries[q].average_precision == want.queries[q].average_precision);
        CHECK(got.queries[q].last_rank == want.queries[q].last_rank);
      }
    }
  }
}

TEST_CASE("accelerator search: re-ranked distances and what is measured of them are the CPU's") {
  const SmallTiles tiles(32, 50);
  const Tensor query = people_features(12, 16, DType::f32, 41), gallery = people_features(60, 16, DType::f32, 41);
  RetrievalLabels labels;
  for (int64_t q = 0; q < 12; ++q) labels.query_ids.push_back(q * 5 % 3), labels.query_cameras.push_back(q % 3);
  for (int64_t j = 0; j < 60; ++j) labels.gallery_ids.push_back(j % 9 == 0 ? -1 : j * 5 % 11), labels.gallery_cameras.push_back(j % 4);
  for (RerankVariant variant : {RerankVariant::zhong, RerankVariant::bot, RerankVariant::torchreid, RerankVariant::fastreid}) {
    RerankOptions options{.k1 = 8, .k2 = 3, .lambda = 0.3, .variant = variant};
    const DistanceRows want = rerank(query, gallery, options);
    options.device = test_device();
    const DistanceRows got = rerank(query, gallery, options);
    CHECK(bitwise_equal(got.rows(0, 12), want.rows(0, 12)));
    CHECK(same_lists(first_ranked(got, 20), first_ranked(want, 20)));
    for (const char* preset : {"fastreid", "openreid"}) {
      EvaluationOptions how = evaluation_preset(preset);
      how.per_query = true;
      const EvaluationReport there = evaluate(labels, got, how), here = evaluate(labels, want, how);
      CHECK(there.mAP == here.mAP);
      CHECK(there.mINP == here.mINP);
      CHECK(there.cmc == here.cmc);
      REQUIRE(there.queries.size() == 12);
      for (size_t q = 0; q < 12; ++q) CHECK(there.queries[q].average_precision == here.queries[q].average_precision);
    }
  }
}

TEST_CASE("accelerator search: memory is foretold by what lies there: copies, a tile, lists") {
  const DbscanOptions here{.eps = 0.5, .min_samples = 4}, there{.eps = 0.5, .min_samples = 4, .device = test_device()};
  const int64_t rows = 93820, copies = rows * 2048 * (4 + 4), tile = int64_t{8192} * 8192 * 4;
  CHECK(dbscan_features_bytes(rows, 2048, there) > copies + tile);
  CHECK(dbscan_features_bytes(rows, 2048, there) < (copies + tile) * 21 / 20 + (int64_t{64} << 20));
  CHECK(dbscan_jaccard_bytes(rows, 2048, {}, there) > dbscan_features_bytes(rows, 2048, there));
  CHECK(dbscan_jaccard_bytes(rows, 2048, {}, there) < 2 * dbscan_features_bytes(rows, 2048, there));
  CHECK(dbscan_features_bytes(rows, 2048, here) < copies);
}

TEST_CASE("accelerator search: expanded rows and agreements of neighborhoods are the CPU's") {
  const SmallTiles tiles(32);
  const Tensor query = people_features(12, 16, DType::f32, 43), gallery = people_features(60, 16, DType::f32, 43);
  const ExpansionOptions here{.k = 5, .alpha = 2}, there{.k = 5, .alpha = 2, .device = test_device()};
  CHECK(bitwise_equal(expand_queries(query, gallery, there), expand_queries(query, gallery, here)));
  CHECK(bitwise_equal(expand_rows(gallery, there), expand_rows(gallery, here)));
  const Tensor other = people_features(60, 9, DType::f32, 44);
  CHECK(cross_agreement(gallery, other, 6, test_device()) == cross_agreement(gallery, other, 6));
}

}  // namespace reid::test
