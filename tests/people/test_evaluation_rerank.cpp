// Re-ranking against the original code (torchreid's copy of the authors'), fast-reid's rule, and expansion.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "formats/scratch.h"
#include "people/evaluation/stack.h"
#include "people/golden_evaluation.h"
#include "people/jaccard.h"
#include "reid/people/rerank.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;
using reid::test::Golden;
using reid::test::input_of;
using reid::test::largest_difference;
using reid::test::random_features;
using reid::test::same_lists;

namespace {

Tensor all_rows(const DistanceRows& distances) { return distances.rows(0, distances.queries); }

RerankOptions golden_options(const Golden& golden, RerankVariant variant) {
  RerankOptions options;
  options.k1 = golden.integer("k1");
  options.k2 = golden.integer("k2");
  options.lambda = golden.number("weight");
  options.variant = variant;
  return options;
}

// What places are counted by, f32 rows by the definitions: each pair's distance in double, scaled, and its Jaccard distance.
DistanceRows exact_rows(const EvaluationInput& in, const RerankOptions& o) {
  const bool unit = o.variant == RerankVariant::bot || o.variant == RerankVariant::fastreid, cosine = o.variant == RerankVariant::fastreid;
  const Tensor rows = stacked(in.query, in.gallery);
  if (unit) scale_to_unit(rows);
  const DistanceTiles all(rows, "rows", cosine ? Metric::cosine : Metric::euclidean);
  EncodingOptions encoding{.k1 = o.k1, .k2 = o.k2, .k1_counts_self = cosine};
  const Neighbors lists =
      nearest_neighbors(all, encoding_list_length(encoding, all.count()), {.distances = true, .farthest = true, .progress = {}});
  const int power = o.variant == RerankVariant::torchreid ? 4 : 2;
  if (!cosine) encoding.weights = {lists.farthest, power};
  const KReciprocalEncoding encoded(all, lists, encoding);
  const int64_t queries = in.query.dim(0), gallery = in.gallery.dim(0);
  const Tensor result = Tensor::empty({queries, gallery}, DType::f32);
  for (int64_t q = 0; q < queries; ++q) {
    const SparseRows jaccard = encoded.distances(q, q + 1, queries);
    for (int64_t j = 0; j < gallery; ++j) {
      const auto columns = jaccard.columns_of(0);
      const auto at = std::find(columns.begin(), columns.end(), static_cast<int32_t>(queries + j)) - columns.begin();
      const double shared = at == std::ssize(columns) ? 1 : jaccard.values_of(0)[static_cast<size_t>(at)];
      const double d = all.pair(q, queries + j), share = d / lists.farthest[static_cast<size_t>(q)];
      const double base = cosine ? d : power == 2 ? share * share : (share * share) * (share * share);
      result.data<float>()[q * gallery + j] = static_cast<float>((1 - o.lambda) * shared + o.lambda * base);
    }
  }
  return {queries, gallery, [result](int64_t begin, int64_t end) { return result.rows(begin, end).clone(); }};
}

void check_same(const EvaluationReport& found, const EvaluationReport& expected) {
  CHECK(found.mAP == expected.mAP);
  CHECK(found.mINP == expected.mINP);
  CHECK(found.cmc == expected.cmc);
  REQUIRE(found.queries.size() == expected.queries.size());
  for (size_t q = 0; q < found.queries.size(); ++q) {
    CHECK(found.queries[q].first_rank == expected.queries[q].first_rank);
    CHECK(found.queries[q].last_rank == expected.queries[q].last_rank);
    CHECK(found.queries[q].average_precision == expected.queries[q].average_precision);
  }
}

constexpr RerankVariant kVariants[] = {RerankVariant::zhong, RerankVariant::bot, RerankVariant::torchreid, RerankVariant::fastreid};

}  // namespace

TEST_CASE("rerank: every variant equals its reference") {
  for (const char* key : {"usual", "odd", "few"}) {
    const Golden golden("evaluation", str("rerank/", key));
    for (RerankVariant variant : kVariants) {
      CAPTURE(key);
      CAPTURE(name_of(variant));
      CHECK(parse_rerank_variant(name_of(variant)) == variant);
      const RerankOptions options = golden_options(golden, variant);
      // The original works in f32 (weights below 1, sums of some hundred of them): 1e-5 is what is asked for.
      const Tensor wide = all_rows(rerank(golden["query"], golden["gallery"], options));
      CHECK(wide.dtype() == DType::f32);
      CHECK(largest_difference(wide.to(DType::f64), golden[name_of(variant)].to(DType::f64)) < 1e-5);
      const Tensor narrow = all_rows(rerank(golden["query"].to(DType::f32), golden["gallery"].to(DType::f32), options));
      CHECK(largest_difference(narrow.to(DType::f64), golden[name_of(variant)].to(DType::f64)) < 1e-5);
    }
  }
}

TEST_CASE("rerank: rows depend on neither blocks nor threads, and evaluate() takes them") {
  const EvaluationInput in = input_of(Golden("evaluation", "plain"));
  const DistanceRows distances = rerank(in.query, in.gallery);
  CHECK(distances.queries == 50);
  CHECK(distances.gallery == 260);
  const Tensor all = all_rows(distances);
  for (int64_t q : {0, 7, 49}) CHECK(largest_difference(distances.rows(q, q + 1), all.rows(q, q + 1)) == 0);
  CHECK(largest_difference(distances.rows(3, 20), all.rows(3, 20)) == 0);
  test::same_with_threads([&] {
    const Tensor again = all_rows(rerank(in.query, in.gallery));
    const auto values = again.span<float>();
    return std::vector<float>(values.begin(), values.end());
  });
  // More queries than are mixed at a time.
  const DistanceRows many = rerank(random_features(600, 5, DType::f32, 8), random_features(40, 5, DType::f32, 9), {.k1 = 6, .k2 = 2});
  const Tensor together = all_rows(many);
  for (int64_t q : {0, 255, 256, 599}) CHECK(largest_difference(many.rows(q, q + 1), together.rows(q, q + 1)) == 0);
  // A ranking that hangs on identities only is perfect; that of the features is not.
  EvaluationInput perfect = in;
  const EvaluationReport before = evaluate(in), after = evaluate(in, distances, {});
  CHECK(before.evaluated == after.evaluated);
  CHECK(before.mAP != after.mAP);
  const DistanceRows truth{50, 260, [&](int64_t begin, int64_t end) {
                             Tensor tile = Tensor::empty({end - begin, 260}, DType::f64);
                             for (int64_t q = begin; q < end; ++q) {
                               for (int64_t j = 0; j < 260; ++j) {
                                 const bool same = in.query_ids[static_cast<size_t>(q)] == in.gallery_ids[static_cast<size_t>(j)];
                                 tile.data<double>()[(q - begin) * 260 + j] = same ? 0 : 1;
                               }
                             }
                             return tile;
                           }};
  CHECK(evaluate(in, truth, {}).mAP == 1);
}

// Counts places and makes lists of the input in each way that there is, without rows, and holds them against rows of exact distances. How
// many entries stand nearer than distances alone could have brought them.
int64_t check_counting(const EvaluationInput& in, double lambda, RerankVariant variant) {
  const RerankOptions options{.k1 = 9, .k2 = 3, .lambda = lambda, .variant = variant};
  CAPTURE(str(name_of(variant), ", lambda ", lambda, ", ", in.query.dtype()));
  const DistanceRows exact = exact_rows(in, options);
  DistanceRows distances = rerank(in.query, in.gallery, options);
  const Tensor all = all_rows(distances);
  CHECK(largest_difference(all, all_rows(exact)) < 1e-6);
  REQUIRE(distances.ranking);
  distances.rows = [](int64_t, int64_t) -> Tensor { fail("rows were asked for"); };
  for (const int64_t length : {1, 5, 32}) CHECK(same_lists(first_ranked(distances, length), first_ranked(exact, length)));
  for (const char* preset : {"fastreid", "torchreid", "openreid", "market-matlab"}) {
    CAPTURE(preset);
    EvaluationOptions how = evaluation_preset(preset);
    how.per_query = true;
    check_same(evaluate(in, distances, how), evaluate(in, exact, how));
  }
  return std::ranges::count_if(all.span<float>(), [&](float d) { return static_cast<double>(d) < 1 - lambda; });
}

TEST_CASE("rerank: places are counted and lists are made as rows of exact distances have them, without such rows") {
  const test::SmallBlocks small(260 * 16);  // the 40 queries in three
  EvaluationInput in = input_of(Golden("evaluation", "plain"));
  for (int64_t j = 0; j < 90; ++j) in.gallery.rows(j, j + 1).copy_from(in.gallery.rows(j / 30 * 30 + 100, j / 30 * 30 + 101));  // ties
  int64_t alone = 0;
  for (const DType dtype : {DType::f32, DType::f64}) {
    in.query = in.query.to(dtype), in.gallery = in.gallery.to(dtype);
    for (RerankVariant variant : kVariants) {
      for (const double lambda : {1.0 / 64, 0.3, 1.0}) alone += check_counting(in, lambda, variant);
    }
  }
  CHECK(alone > 1000);
}

TEST_CASE("rerank: places are counted right where values lie closer than f32 tells apart") {
  EvaluationInput in = input_of(Golden("evaluation", "plain"));
  Rng rng(3);
  for (const Tensor& side : {in.query, in.gallery}) {  // on a line, and nearly equal
    for (int64_t i = 0; i < side.dim(0); ++i) {
      const double place = 1 + 1e-4 * rng.normal();
      for (double& v : side.rows(i, i + 1).span<double>()) v = place;
    }
  }
  for (const double lambda : {0.3, 1.0}) check_counting(in, lambda, RerankVariant::zhong);
}

TEST_CASE("rerank: rows are gone by where most entries would be measured one by one") {
  const EvaluationInput in = input_of(Golden("evaluation", "plain"));
  const RerankOptions flat{.k1 = 9, .k2 = 3, .lambda = 0};
  CHECK(rerank(in.query, in.gallery, flat).ranking == nullptr);
  check_same(evaluate(in, rerank(in.query, in.gallery, flat), {.per_query = true}),
             evaluate(in, exact_rows(in, flat), {.per_query = true}));
  Tensor far = in.gallery.clone();
  for (double& v : far.rows(7, 8).span<double>()) v *= 1e5;  // the distance that all others are measured in
  CHECK(rerank(in.query, far, {.k1 = 9, .k2 = 3, .variant = RerankVariant::torchreid}).ranking == nullptr);
  CHECK(rerank(in.query, far, {.k1 = 9, .k2 = 3, .variant = RerankVariant::fastreid}).ranking != nullptr);
  const Tensor query = random_features(20, 2, DType::f32, 1), gallery = random_features(1500, 2, DType::f32, 2);
  CHECK(rerank(query, gallery, {.k1 = 700, .k2 = 300}).ranking == nullptr);
  CHECK(rerank(query, gallery, {.k1 = 20, .k2 = 6}).ranking != nullptr);
}

TEST_CASE("rerank: f64 features of any size have rows, and dtypes that differ are named") {
  const EvaluationInput in = input_of(Golden("evaluation", "plain"));
  const Tensor expected = all_rows(rerank(in.query, in.gallery, {.k1 = 9, .k2 = 3}));
  for (const double factor : {0x1p-360, 0x1p360}) {
    const Tensor query = in.query.clone(), gallery = in.gallery.clone();
    for (const Tensor& side : {query, gallery}) {
      for (double& v : side.span<double>()) v *= factor;
    }
    CHECK(bitwise_equal(all_rows(rerank(query, gallery, {.k1 = 9, .k2 = 3})), expected));
  }
  CHECK(failure_of([&] { rerank(in.query.to(DType::f32), in.gallery); }) ==
        "[rerank] query is f32 but gallery is f64: convert one of them");
}

TEST_CASE("rerank: lambda 1 is the base distance, scaled; k beyond the set is cut; progress is told") {
  const EvaluationInput in = input_of(Golden("evaluation", "plain"));
  RerankOptions options;
  options.lambda = 1;
  options.variant = RerankVariant::fastreid;
  const Tensor base = all_rows(rerank(in.query, in.gallery, options));
  CHECK(largest_difference(base.to(DType::f64), pairwise_distance(in.query, in.gallery, Metric::cosine)) < 2e-7);
  options = {};
  options.k1 = options.k2 = int64_t{1} << 60;
  double last = 0;
  const Tensor wide = all_rows(rerank(in.query.rows(0, 4), in.gallery.rows(0, 9), options, [&](double share) { last = share; }));
  CHECK(last == 1);
  for (const float value : wide.span<float>()) CHECK((value >= 0 && value <= 1));
  CHECK(rerank_bytes(3368, 15913, 2048, DType::f32, {}) > 19281 * 2048 * 4);
  CHECK(rerank_bytes(11659, 82161, 2048, DType::f32, {}) < int64_t{4} << 30);
}

TEST_CASE("rerank: wrong options and features are refused") {
  const Tensor query = random_features(4, 8, DType::f32, 1), gallery = random_features(9, 8, DType::f32, 2);
  const auto failure = [&](auto change) {
    RerankOptions options;
    change(options);
    return failure_of([&] { rerank(query, gallery, options); });
  };
  CHECK(contains(failure([](RerankOptions& o) { o.k1 = 0; }), "k1 is 0"));
  CHECK(contains(failure([](RerankOptions& o) { o.k2 = 0; }), "k2 is 0"));
  CHECK(contains(failure([](RerankOptions& o) { o.lambda = 1.5; }), "lambda is 1.5"));
  CHECK(contains(failure_of([&] { rerank(query, random_features(9, 7, DType::f32, 2)); }), "7"));
  CHECK(contains(failure_of([&] {
                   rerank(query, Tensor::zeros({3, 8}, DType::f32), {.variant = RerankVariant::bot});
                 }),
                 "row 0 is all zeros"));
  CHECK(contains(failure_of([&] { rerank(Tensor::zeros({2, 8}, DType::f32), Tensor::zeros({3, 8}, DType::f32)); }), "all rows are equal"));
  CHECK(contains(failure_of([] { parse_rerank_variant("zong"); }), "expected one of zhong, bot, torchreid, fastreid"));
}

TEST_CASE("expansion: fast-reid's rule on the union, on the database, and of queries by the gallery") {
  const Golden golden("evaluation", "expansion");
  const Tensor query = golden["query"], gallery = golden["gallery"];
  const ExpansionOptions options{golden.integer("k"), golden.number("alpha")};
  const auto check_union = [&](const ExpansionOptions& how, const char* key) {
    const ExpandedSides both = expand_union(query, gallery, how);
    const Tensor expected = golden[key];
    CHECK(largest_difference(both.query, expected.rows(0, 12)) < 1e-13);
    CHECK(largest_difference(both.gallery, expected.rows(12, 50)) < 1e-13);
  };
  check_union(options, "union");
  check_union({80, 2.0}, "wide");  // more than there are
  CHECK(largest_difference(expand_rows(gallery, options), golden["database"]) < 1e-13);
  CHECK(largest_difference(expand_queries(query, gallery, options), golden["queries"]) < 1e-13);
  CHECK(largest_difference(expand_queries(query, gallery, {1, 3}), query) == 0);
  CHECK(largest_difference(expand_rows(query, {1, 3}), query) == 0);
  // A power that is not a number counts as 0.
  const Tensor opposite = Tensor::from(std::vector<double>{1, 0, -1, 0}, {2, 2});
  CHECK(largest_difference(expand_rows(opposite, {2, 0.5}), Tensor::from(std::vector<double>{0.5, 0, -0.5, 0}, {2, 2})) == 0);
  CHECK(contains(failure_of([&] { expand_rows(query, {0, 3}); }), "k is 0"));
  CHECK(contains(failure_of([&] { expand_rows(query, {3, -1}); }), "alpha is -1"));
}
