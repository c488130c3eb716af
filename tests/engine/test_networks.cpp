// Whole networks against PyTorch in float64: feature map, features, the gradient of every parameter, running statistics.

#include "golden_network.h"

namespace reid::test {
namespace {

EncoderConfig tiny(int depth, const std::string& ibn, int64_t last_stride) {
  return {.backbone = {.depth = depth, .ibn = ibn, .last_stride = last_stride, .width = 4}};
}

void check_network(const std::string& name, const EncoderConfig& config, const std::string& gradient_file) {
  const Golden g(name, name), gradients(gradient_file, name);
  REQUIRE(g.integer("last_stride") == config.backbone.last_stride);
  Encoder encoder(config, DType::f64, Rng(0));
  const Inventory module = inventory(encoder);
  load_golden(module, g, "parameter");
  const Tensor images = scaled_images(g["pixels"]);
  Tape tape;
  const Var features = encoder(Var(images), training_pass(tape));
  CHECK(difference(features.value(), g["features"], 1e-10) == "");
  tape.backward(features, g["dy"]);
  double top = 0;
  for (const auto& [parameter, p] : module.parameters) top = std::max(top, p->trainable ? largest(p->grad) : 0);
  for (const NamedParameter& entry : module.parameters) {
    if (!entry.parameter->trainable) continue;
    const std::string key = "gradient/" + golden_name(entry.name);
    CHECK_MESSAGE(difference(filters_to_file(entry.parameter->grad), gradients[key], 1e-10, 1e-3 * top) == "", key);
  }
  for (const NamedBuffer& entry : module.buffers) {
    const std::string key = "buffer/" + golden_name(entry.name);
    CHECK_MESSAGE(difference(*entry.tensor, g[key], 1e-10) == "", key);
  }
  CHECK(difference(encoder(Var(images), inference_pass()).value(), g["eval_features"], 1e-10) == "");
}

TEST_CASE("golden: ResNet-18") { check_network("resnet18", tiny(18, "none", 2), "resnet18"); }
TEST_CASE("golden: ResNet-18-IBN-b, last stride 1") { check_network("resnet18_ibn_b", tiny(18, "b", 1), "resnet18_ibn_b"); }
TEST_CASE("golden: ResNet-50-IBN-a, last stride 1") { check_network("resnet50_ibn_a", tiny(50, "a", 1), "resnet50_ibn_a_gradients"); }

TEST_CASE("golden: the feature map of ResNet-50-IBN-a and its average") {
  const Golden g("resnet50_ibn_a", "resnet50_ibn_a");
  const EncoderConfig config = tiny(50, "a", 1);
  ResNet backbone(config.backbone, DType::f64, Rng(0));
  load_golden(inventory(backbone), g, "parameter");
  const Var map = backbone(Var(scaled_images(g["pixels"])), own_statistics_pass());
  CHECK(difference(map.value(), g["map"], 1e-10) == "");
  CHECK(difference(ops::global_average_pool(map.value()), g["pooled"], 1e-10) == "");
}

void copy_into(const Inventory& from, const Inventory& to) {
  for (size_t i = 0; i < from.parameters.size(); ++i)
    to.parameters[i].parameter->value.copy_from(from.parameters[i].parameter->value.to(DType::f64));
}

// One training pass of a ResNet-18-IBN-a: the features, then the gradient of every trainable parameter, widened.
std::vector<Tensor> pass_of(DType dtype, double noise, uint64_t seed) {
  EncoderConfig config = tiny(18, "a", 1);
  config.backbone.width = 4;
  Encoder encoder(config, DType::f32, Rng(0)), wide(config, DType::f64, Rng(0));
  copy_into(inventory(encoder), inventory(wide));
  Encoder& used = dtype == DType::f32 ? encoder : wide;
  const Inventory module = inventory(used);
  Rng rng(seed);
  for (const auto& [name, p] : module.parameters) {
    if (noise == 0) continue;
    const double terms = p->value.shape().rank() == 4 ? static_cast<double>(p->value.numel() / p->value.dim(0)) : 1;
    for (double& w : p->value.span<double>()) w *= 1 + noise * (std::sqrt(terms) + 4) * rng.uniform(-1, 1);
  }
  Tape tape;
  const Tensor images = normal_tensor("f32 images", {6, 32, 32, 3}, DType::f32).to(dtype);
  const Var y = used(Var(images), training_pass(tape));
  tape.backward(y, normal_tensor("f32 dy", y.shape(), DType::f32).to(dtype));
  std::vector<Tensor> results{y.value().to(DType::f64)};
  for (const auto& [name, p] : module.parameters)
    if (p->trainable) results.push_back(p->grad.to(DType::f64));
  return results;
}

// A layer computed in f32 is the exact layer of slightly other weights. Adding K terms in f32 errs like weights that are off by
// sqrt(K / 2) u each (partial sums grow evenly); here by (sqrt(K) + 4) u, norms' gains included. So the bound is measured: how far
// such weights move the double path, the largest of three draws, times 3 for the backward pass, which rounds as often. The images
// are few: in a large batch some pre-activation lies within rounding of zero, and its ReLU may go the other way.
TEST_CASE("f32 networks stay within rounding of the double path") {
  const std::vector<Tensor> exact = pass_of(DType::f64, 0, 0), rounded = pass_of(DType::f32, 0, 0);
  std::vector<double> moved(exact.size());
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const std::vector<Tensor> other = pass_of(DType::f64, 0x1p-24, seed);
    for (size_t i = 0; i < exact.size(); ++i) moved[i] = std::max(moved[i], largest(ops::add(other[i], exact[i], -1)));
  }
  for (size_t i = 0; i < exact.size(); ++i) {
    const double error = largest(ops::add(rounded[i], exact[i], -1));
    CHECK_MESSAGE(error <= 3 * moved[i], "tensor ", i, ": ", error, " against ", moved[i]);
    CHECK_MESSAGE(3 * moved[i] < 0.01 * largest(exact[i]), "tensor ", i, ": the bound says nothing");
  }
}

TEST_CASE("networks: names, shapes and settings") {
  ResNet r50({.depth = 50, .ibn = "a", .width = 8}, DType::f32, Rng(0));
  std::map<std::string, Shape> shapes;
  const Inventory module = inventory(r50);
  for (const auto& [name, p] : module.parameters) shapes[name] = p->value.shape();
  CHECK(shapes.at("conv1.weight") == Shape{8, 7, 7, 3});
  CHECK(shapes.at("layer1.0.bn1.IN.weight") == Shape{4});
  CHECK(shapes.at("layer3.5.bn1.BN.bias") == Shape{16});
  CHECK(shapes.at("layer4.0.bn1.weight") == Shape{64});
  CHECK(shapes.at("layer4.0.downsample.0.weight") == Shape{256, 1, 1, 128});
  CHECK(shapes.at("layer4.0.downsample.1.bias") == Shape{256});
  CHECK(shapes.count("layer1.0.bn1.weight") == 0);
  CHECK(shapes.size() == 53 * 3 + 2 * 13);  // 53 convolutions, a norm each; 13 norms are two
  int64_t total = 0;
  for (const auto& [name, shape] : shapes) total += shape.numel();
  CHECK(total == 374152);  // counted by PyTorch
  ResNet b({.depth = 50, .ibn = "b", .width = 8}, DType::f32, Rng(0));
  shapes.clear();
  const Inventory module_b = inventory(b);
  for (const auto& [name, p] : module_b.parameters) shapes[name] = p->value.shape();
  CHECK(shapes.at("layer1.2.IN.weight") == Shape{32});
  CHECK(shapes.at("layer2.3.IN.bias") == Shape{64});
  CHECK(shapes.count("layer3.5.IN.weight") == 0);
  const auto map = [](const ResNetConfig& config) {
    ResNet net(config, DType::f32, Rng(0));
    return net(Var(Tensor::zeros({1, 64, 32, 3}, DType::f32)), inference_pass()).shape();
  };
  CHECK(map({.depth = 18, .ibn = "none", .last_stride = 1, .width = 4}) == Shape{1, 4, 2, 32});
  CHECK(map({.depth = 34, .ibn = "none", .last_stride = 2, .width = 4}) == Shape{1, 2, 1, 32});
  CHECK(map({.depth = 101, .ibn = "b", .last_stride = 2, .width = 2, .max_pool = "ceil"}) == Shape{1, 2, 1, 64});
  CHECK(map({.depth = 152, .ibn = "a", .last_stride = 1, .width = 2}) == Shape{1, 4, 2, 64});
  CHECK_THROWS_WITH_AS(check(ResNetConfig{.depth = 20}), "model.depth = 20 is not one of 18, 34, 50, 101, 152", Error);
  CHECK_THROWS_AS(check(ResNetConfig{.ibn = "c"}), Error);
  CHECK_THROWS_AS(check(ResNetConfig{.last_stride = 3}), Error);
  CHECK_THROWS_AS(check(ResNetConfig{.width = 5}), Error);
  CHECK_THROWS_AS(check(ResNetConfig{.max_pool = "same"}), Error);
}

TEST_CASE("networks: the same seed gives the same weights, a pass in inference changes nothing") {
  Encoder a(tiny(18, "a", 1), DType::f32, Rng(5)), b(tiny(18, "a", 1), DType::f32, Rng(5)), c(tiny(18, "a", 1), DType::f32, Rng(6));
  const Inventory ia = inventory(a), ib = inventory(b), ic = inventory(c);
  bool other = false;
  for (size_t i = 0; i < ia.parameters.size(); ++i) {
    CHECK(bitwise_equal(ia.parameters[i].parameter->value, ib.parameters[i].parameter->value));
    other = other || !bitwise_equal(ia.parameters[i].parameter->value, ic.parameters[i].parameter->value);
  }
  CHECK(other);
  const Var images(normal_tensor("images", {4, 32, 16, 3}, DType::f32));
  const Tensor before = ia.buffers[0].tensor->clone();
  a(images, inference_pass());
  CHECK(bitwise_equal(before, *ia.buffers[0].tensor));
  a(images, own_statistics_pass());
  CHECK(!bitwise_equal(before, *ia.buffers[0].tensor));
}

TEST_CASE("networks: the running statistics of a backbone move in one operation, as many as there are") {
  Encoder encoder(tiny(50, "a", 1), DType::f32, Rng(0));
  const Tensor images = normal_tensor("images", {2, 32, 16, 3}, DType::f32);
  std::vector<std::string> lines;
  trace_to(&lines);
  encoder(Var(images), own_statistics_pass());
  trace_to(nullptr);
  CHECK(std::ranges::count_if(lines, [](const std::string& line) { return line.starts_with("running_update "); }) == 2);  // and the neck's

  std::vector<ops::RunningStep> steps;  // more than fit in one
  for (int i = 0; i < 130; ++i) {
    const auto filled = [](const Shape& shape, double value) { return Tensor::full(shape, value, DType::f32); };
    steps.push_back({{filled({2}, 1), filled({2}, 2)}, {filled({1, 2}, i), filled({1, 2}, 2 * i)}, 0.5, 2});
  }
  ops::update_running(steps);
  for (int i = 0; i < 130; ++i) {
    CHECK(steps[static_cast<size_t>(i)].running.mean.data<float>()[1] == static_cast<float>(0.5 + 0.5 * i));
    CHECK(steps[static_cast<size_t>(i)].running.variance.data<float>()[1] == static_cast<float>(1 + 2 * i));
  }
  steps = {steps[0], steps[1]};
  steps[1].running.mean = Tensor::zeros({3}, DType::f32);
  CHECK_THROWS_WITH_AS(ops::update_running(steps), doctest::Contains("running_update"), Error);
}

TEST_CASE("networks: groups of images in batch norm are batches of their own") {
  Encoder joint(tiny(18, "a", 1), DType::f64, Rng(5)), alone(tiny(18, "a", 1), DType::f64, Rng(5));
  const Tensor images = normal_tensor("grouped images", {6, 32, 16, 3});
  const Tensor together = joint(Var(images), own_statistics_pass(2)).value();
  const Tensor first = alone(Var(images.rows(0, 3)), own_statistics_pass()).value();
  CHECK(difference(together.rows(0, 3), first, 1e-12) == "");
  CHECK_THROWS_AS(joint(Var(images), own_statistics_pass(4)), Error);
}

TEST_CASE("encoder: the embedding before the neck is that of a network without one") {
  EncoderConfig config = tiny(18, "a", 1);
  config.feature = "before";
  Encoder before(config, DType::f64, Rng(5));
  config.neck = "none";
  Encoder none(config, DType::f64, Rng(5));
  CHECK(inventory(before).parameters.size() == inventory(none).parameters.size() + 2);
  const Var images(normal_tensor("neck images", {2, 32, 16, 3}));
  CHECK(bitwise_equal(before(images, own_statistics_pass()).value(), none(images, own_statistics_pass()).value()));
  config.neck = "batch norm";
  CHECK_THROWS_WITH_AS(Encoder(config, DType::f64, Rng(5)), doctest::Contains("model.neck = 'batch norm' is not one of bn, none"), Error);
}

TEST_CASE("encoder: a batch norm on the last map commutes with average pooling at inference") {
  EncoderConfig config = tiny(18, "none", 1);
  config.neck = "none";
  Encoder plain(config, DType::f64, Rng(5));
  config.map_norm = true;
  Encoder normed(config, DType::f64, Rng(5));
  const int64_t d = normed.features();
  Tensor scale, mean;
  for (const auto& [name, p] : inventory(normed).parameters)
    if (name == "map_norm.weight") p->value.copy_from(scale = normal_tensor("map scale", {d}));
  for (const auto& [name, buffer] : inventory(normed).buffers)
    if (name == "map_norm.running_mean") buffer->copy_from(mean = normal_tensor("map mean", {d}));
  REQUIRE(scale.defined());
  REQUIRE(mean.defined());
  const Var images(normal_tensor("map images", {2, 32, 16, 3}));
  const Tensor x = plain(images, inference_pass()).value(), y = normed(images, inference_pass()).value();
  Tensor expected = Tensor::empty(x.shape(), DType::f64);  // running variance 1
  for (int64_t i = 0; i < x.numel(); ++i) {
    const auto at = static_cast<size_t>(i), channel = static_cast<size_t>(i % d);
    expected.span<double>()[at] =
        (x.span<double>()[at] - mean.span<double>()[channel]) / std::sqrt(1 + 1e-5) * scale.span<double>()[channel];
  }
  CHECK(difference(y, expected, 1e-12) == "");
}

TEST_CASE("golden: GeM pooling learns its exponent") {
  EncoderConfig config = tiny(18, "none", 1);
  config.pooling = "gem";
  Encoder encoder(config, DType::f64, Rng(5));
  const Inventory module = inventory(encoder);
  Tape tape;
  const Var y = encoder(Var(normal_tensor("gem images", {4, 32, 16, 3})), training_pass(tape));
  tape.backward(y, normal_tensor("gem dy", y.shape()));
  bool found = false;
  for (const auto& [name, p] : module.parameters) {
    if (name != "pool.p") continue;
    found = true;
    CHECK(p->value.item() == 3);
    CHECK(std::abs(p->grad.item()) > 0);
  }
  CHECK(found);
}

}  // namespace
}  // namespace reid::test
