// reid op: the ops that have no gradient, against the functions behind them.

#include <bit>

#include "harness.h"
#include "program/run_program.h"
#include "reid/people/cluster.h"
#include "reid/people/transform.h"

namespace reid::test {
namespace {

NamedTensors run(const std::string& op, const std::vector<std::pair<std::string, Tensor>>& inputs, std::vector<std::string> settings = {}) {
  const TemporaryFolder folder;
  NamedTensors content;
  for (const auto& [name, tensor] : inputs) content.add(name, tensor);
  write_safetensors(folder / "in", content);
  std::vector<std::string> words = {"op", "run", op, "--in", folder / "in", "--out", folder / "out"};
  if (!settings.empty()) words.push_back("--set");
  words.insert(words.end(), settings.begin(), settings.end());
  const Outcome outcome = run_reid(words);
  REQUIRE_MESSAGE(outcome.status == 0, op, ": ", outcome.err);
  NamedTensors results = read_safetensors(folder / "out");
  for (const auto& result : results.tensors) CHECK_MESSAGE(outcome.out.find(result.first) != std::string::npos, result.first);
  return results;
}

Tensor numbers(std::vector<int64_t> values) { return Tensor::from(values); }

TEST_CASE("reid op: pointwise ops in both dtypes") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor a = normal_tensor("a", {3, 5}, dtype), b = normal_tensor("b", {3, 5}, dtype), bias = normal_tensor("c", {5}, dtype);
    CHECK(bitwise_equal(run("add", {{"a", a}, {"b", b}}, {"scale=-0.5"}).at("y"), ops::add(a, b, -0.5)));
    CHECK(bitwise_equal(run("scale", {{"x", a}}, {"factor=3"}).at("y"), ops::scale(a, 3)));
    CHECK(bitwise_equal(run("bias_add", {{"x", a}, {"bias", bias}}).at("y"), ops::bias_add(a, bias)));
    CHECK(bitwise_equal(run("column_sum", {{"x", a}}).at("y"), ops::column_sum(a)));
    CHECK(bitwise_equal(run("sum", {{"x", a}}).at("y"), ops::sum(a)));
    const ops::Statistics s = ops::norm_statistics(a, {.groups = 3, .length = 1, .channels = 5, .first = 0, .count = 5});
    const NamedTensors found = run("norm_statistics", {{"x", a}}, {"groups=3"});
    CHECK(bitwise_equal(found.at("mean"), s.mean));
    CHECK(bitwise_equal(found.at("variance"), s.variance));
  }
}

TEST_CASE("reid op: distances of rows, margins, soft labels, attention in both dtypes") {
  for (const DType dtype : {DType::f32, DType::f64}) {
    const Tensor x = normal_tensor("x", {4, 3}, dtype), s = normal_tensor("s", {4, 5}, dtype, 0.3), q = ops::softmax(s);
    const Tensor weight = Tensor::full({4}, 0.5, dtype), d = ops::row_distances(x, x);
    CHECK(bitwise_equal(run("multiply", {{"a", s}, {"b", q}}).at("y"), ops::multiply(s, q)));
    CHECK(bitwise_equal(run("row_distances", {{"x", x}}).at("d"), d));
    CHECK(bitwise_equal(run("softmax", {{"s", s}}).at("q"), q));
    const Tensor mask = Tensor::from(std::vector<uint8_t>{1, 1, 2, 2, 1, 1, 2, 2, 2, 2, 1, 1, 2, 2, 1, 0}, Shape{4, 4});
    const std::vector<std::pair<std::string, Tensor>> triplet = {{"d", d}, {"mask", mask}, {"weight", weight}};
    CHECK(bitwise_equal(run("triplet_rows", triplet, {"margin=0.2"}).at("loss"),
                        ops::sum(ops::triplet_rows(d, mask, weight, 0.2, false).loss)));
    CHECK(bitwise_equal(run("soft_target_rows", {{"s", s}, {"target", q}, {"weight", weight}}).at("loss"),
                        ops::sum(ops::soft_target_rows(s, q, weight).loss)));
    const Tensor label = Tensor::from(std::vector<int32_t>{0, 4, 2, 1});
    CHECK(bitwise_equal(run("circle_logits", {{"s", s}, {"labels", numbers({0, 4, 2, 1})}}, {"scale=8", "margin=0.2"}).at("y"),
                        ops::circle_logits(s, label, 8, 0.2).y));
    const Tensor maps = normal_tensor("maps", {2, 3, 2, 2}, dtype), others = normal_tensor("others", {2, 3, 2, 2}, dtype);
    CHECK(bitwise_equal(run("non_local", {{"theta", maps}, {"phi", others}, {"g", maps}}).at("y"), ops::non_local(maps, others, maps)));
    // With the label's whole share a part says nothing, and the loss is plain cross-entropy.
    const Tensor labels = numbers({0, 4, 2, 1}), agreement = Tensor::full({4}, 0.3, dtype);
    const double refined =
        run("refined_label_loss", {{"logits", s}, {"part", q}, {"labels", labels}, {"agreement", agreement}}, {"beta=1"}).at("loss").item();
    const double plain = run("cross_entropy", {{"logits", s}, {"labels", labels}}).at("loss").item();
    CHECK(refined == doctest::Approx(plain).epsilon(dtype == DType::f32 ? 1e-6 : 1e-14));
  }
}

TEST_CASE("reid op: distances, clusters, centroids") {
  const Tensor a = normal_tensor("rows", {30, 6}, DType::f32), b = normal_tensor("others", {4, 6}, DType::f32);
  for (const Metric metric : {Metric::cosine, Metric::euclidean, Metric::squared_euclidean})
    CHECK(bitwise_equal(run("pairwise_distance", {{"a", a}, {"b", b}}, {str("metric=", name_of(metric))}).at("y"),
                        pairwise_distance(a, b, metric)));
  const JaccardOptions jaccard{.k1 = 8, .k2 = 3, .k1_counts_self = false};
  CHECK(bitwise_equal(run("jaccard_distance", {{"features", a}}, {"k1=8", "k2=3", "k1_counts_self=false"}).at("y"),
                      jaccard_distance(a, jaccard)));

  const DbscanOptions options{.eps = 0.45, .min_samples = 3};
  const Clusters clusters = dbscan_features(a, Metric::cosine, options);
  REQUIRE(clusters.count > 0);
  const NamedTensors found = run("dbscan", {{"features", a}}, {"eps=0.45", "min_samples=3"});
  CHECK(bitwise_equal(found.at("labels"), numbers(clusters.labels)));
  CHECK(found.at("clusters").item() == static_cast<double>(clusters.count));
  const Tensor distances = pairwise_distance(a, a, Metric::cosine);
  CHECK(bitwise_equal(run("dbscan", {{"distances", distances}}, {"eps=0.45", "min_samples=3"}).at("labels"), numbers(clusters.labels)));

  const std::vector<int64_t> labels = {0, 0, 1, -1}, cameras = {0, 1, 1, 0};
  const NamedTensors people = run("identity_centroids", {{"features", b}, {"labels", numbers(labels)}});
  CHECK(bitwise_equal(people.at("rows"), identity_centroids(b, labels).rows));
  CHECK(bitwise_equal(people.at("counts"), numbers({2, 1})));
  const NamedTensors views = run("camera_centroids", {{"features", b}, {"labels", numbers(labels)}, {"cameras", numbers(cameras)}});
  CHECK(bitwise_equal(views.at("rows"), camera_centroids(b, labels, cameras).rows));
  CHECK(bitwise_equal(views.at("cameras"), numbers({0, 1, 1})));
}

TEST_CASE("reid op: resizing") {
  Rng rng(4);
  Image image(9, 7);
  for (uint8_t& v : image.rgb) v = static_cast<uint8_t>(rng.below(256));
  const Tensor x = Tensor::from(image.rgb, Shape{9, 7, 3});
  for (const Filter filter : {Filter::bilinear, Filter::bicubic}) {
    const Tensor y = run(filter == Filter::bilinear ? "resize_bilinear" : "resize_bicubic", {{"x", x}}, {"height=16", "width=5"}).at("y");
    CHECK(bitwise_equal(y, Tensor::from(resize(image, 16, 5, filter).rgb, Shape{16, 5, 3})));
  }
}

TEST_CASE("reid op: views in both dtypes") {
  Rng rng(5);
  std::vector<uint8_t> bytes(2 * 5 * 4 * 3);
  for (uint8_t& v : bytes) v = static_cast<uint8_t>(rng.below(256));
  const Tensor x = Tensor::from(bytes, Shape{2, 5, 4, 3});
  const std::vector<int64_t> fields = {1, -2, 1, 2, 1, 2, 2, 0, 0, 0, 0, 0, 0, 0};
  const Tensor views = Tensor::from(fields, Shape{2, 7});
  const PixelColors colors{.mean = {0.5f, 0.25f, 0.f}, .std = {0.5f, 2.f, 0.75f}, .fill = {1.f, 2.f, 3.f}};
  for (const DType dtype : {DType::f32, DType::f64}) {
    const auto of = [&](const float* values) { return Tensor::from(std::vector<float>(values, values + 3)).to(dtype); };
    const Tensor y = run("views_from_pixels",
                         {{"x", x}, {"views", views}, {"mean", of(colors.mean)}, {"std", of(colors.std)}, {"fill", of(colors.fill)}})
                         .at("y");
    CHECK(bitwise_equal(y, ops::views_from_pixels(x, views.to(DType::i32), colors, dtype)));
  }
}

TEST_CASE("reid op: colors of pixels, and mirror images") {
  Rng rng(6);
  Image image(8, 6);
  for (uint8_t& v : image.rgb) v = static_cast<uint8_t>(rng.below(256));
  const Tensor x = Tensor::from(image.rgb, Shape{1, 8, 6, 3});
  // Brightness by 1.5, hue by 25 steps; no blur.
  const std::vector<int64_t> fields = {0, 0, 0, 0, 1, std::bit_cast<int32_t>(1.5f), 4, 25, 0, 0, 0, 0, 32768};
  const Tensor y = run("color_pixels", {{"x", x}, {"changes", Tensor::from(fields, Shape{1, 13})}}).at("y");
  adjust_brightness(image, 1.5), adjust_hue(image, 0.1);
  CHECK(bitwise_equal(y, Tensor::from(image.rgb, x.shape())));
  const Tensor map = normal_tensor("map", {2, 3, 2, 4}).to(DType::f32), mirrored = run("mirror", {{"x", map}}).at("y");
  for (int64_t i = 0; i < 2 * 3 * 2 * 4; ++i) CHECK(mirrored.data<float>()[i] == map.data<float>()[i / 8 * 8 + (i % 8 + 4) % 8]);
}

TEST_CASE("reid op: what a people op cannot take") {
  const TemporaryFolder folder;
  const auto error = [&](const std::string& op, const NamedTensors& inputs, const std::vector<std::string>& settings) {
    write_safetensors(folder / "in", inputs);
    std::vector<std::string> words = {"op", "run", op, "--in", folder / "in", "--out", folder / "out"};
    if (!settings.empty()) words.push_back("--set");
    words.insert(words.end(), settings.begin(), settings.end());
    const Outcome outcome = run_reid(words);
    CHECK(outcome.status != 0);
    return outcome.err;
  };
  NamedTensors none, both;
  none.add("dy", Tensor::zeros({1}, DType::f32));
  both.add("features", normal_tensor("f", {4, 2})), both.add("distances", Tensor::zeros({4, 4}, DType::f64));
  CHECK(error("dbscan", none, {}).find("either features or distances") != std::string::npos);
  CHECK(error("dbscan", both, {}).find("either features or distances") != std::string::npos);
  CHECK(error("dbscan", both, {"metric=cosin"}).find("did you mean 'cosine'?") != std::string::npos);
  NamedTensors rectangle, wide;
  rectangle.add("distances", Tensor::zeros({4, 3}, DType::f64));
  CHECK(error("dbscan", rectangle, {}).find("N is 4") != std::string::npos);
  wide.add("x", Tensor::zeros({4, 4, 4}, DType::u8));
  CHECK(error("resize_bilinear", wide, {}).find("does not fit [H, W, 3]") != std::string::npos);
  NamedTensors far;
  far.add("x", Tensor::zeros({1, 2, 2, 3}, DType::u8)), far.add("views", Tensor::full({1, 7}, 3e9, DType::i64));
  far.add("mean", Tensor::zeros({3}, DType::f32)), far.add("std", Tensor::full({3}, 1, DType::f32));
  CHECK(error("views_from_pixels", far, {}).find("no number of 32 bits") != std::string::npos);
}

}  // namespace
}  // namespace reid::test
