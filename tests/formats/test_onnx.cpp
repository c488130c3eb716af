// ONNX models: their structure, what they compute, and what the onnx package and ONNX Runtime say of them.

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <cstdlib>

#include "formats/onnx_run.h"
#include "formats/protobuf.h"
#include "formats/scratch.h"
#include "reid/formats/files.h"
#include "reid/formats/onnx.h"
#include "reid/formats/weights.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;
using reid::test::OnnxModel;
using reid::test::Scratch;

namespace {

constexpr int64_t kHeight = 64, kWidth = 32;
constexpr double kU = 0x1p-24;  // half an ulp of 1 in f32

struct Head {
  const char* pooling;
  const char* neck;
  const char* feature;
  bool map_norm;
};
constexpr Head kHeads[] = {
    {"gap", "bn", "after", false}, {"gem", "bn", "before", false}, {"gap", "none", "after", true}, {"gem", "bn", "after", true}};

// Every depth and IBN with every head; the two strides and the two max pools take turns.
std::vector<EncoderConfig> variants() {
  std::vector<EncoderConfig> all;
  for (const int depth : {18, 50}) {
    for (const char* ibn : {"none", "a", "b"}) {
      for (const Head& head : kHeads) {
        EncoderConfig c;
        const bool odd = all.size() % 2 == 1;
        c.backbone = {.depth = depth, .ibn = ibn, .last_stride = odd ? 2 : 1, .width = 4, .max_pool = all.size() % 3 == 1 ? "ceil" : "pad"};
        c.pooling = head.pooling;
        c.neck = head.neck;
        c.feature = head.feature;
        c.map_norm = head.map_norm;
        all.push_back(c);
      }
    }
  }
  return all;
}

std::string name_of(const EncoderConfig& c) {
  return str("r", c.backbone.depth, "-", c.backbone.ibn, "-stride", c.backbone.last_stride, "-", c.backbone.max_pool, "-", c.pooling, "-",
             c.neck, "-", c.feature, c.map_norm ? "-map" : "");
}

// A trained network's look: no scale is 1, no mean or shift 0, so that a fold that forgets one of them shows. The values are those
// of floats in either dtype.
void randomize(const Inventory& network, uint64_t seed) {
  const auto fill = [&](const std::string& name, const Tensor& t, auto draw) {
    Rng rng = Rng(seed).at(name);
    Tensor values = Tensor::empty(t.shape(), DType::f32);
    for (float& v : values.span<float>()) v = static_cast<float>(draw(rng));
    t.copy_from(values.to(t.dtype()));
  };
  const auto scale = [](Rng& rng) { return rng.uniform(0.5, 1.5) * (rng.chance(0.2) ? -1 : 1); };
  const auto shift = [](Rng& rng) { return 0.3 * rng.normal(); };
  for (const auto& [name, p] : network.parameters) {
    if (name == "pool.p") {
      fill(name, p->value, [](Rng&) { return 2.7; });
    } else if (p->value.shape().rank() == 4) {
      const double deviation = std::sqrt(2.0 / static_cast<double>(p->value.numel() / p->value.dim(0)));
      fill(name, p->value, [&](Rng& rng) { return deviation * rng.normal(); });
    } else {
      name.ends_with(".weight") ? fill(name, p->value, scale) : fill(name, p->value, shift);
    }
  }
  for (const auto& [name, buffer] : network.buffers)
    name.ends_with("_var") ? fill(name, *buffer, [](Rng& rng) { return rng.uniform(0.05, 2); }) : fill(name, *buffer, shift);
}

Tensor random_images(int64_t n, DType dtype) {
  Tensor images = Tensor::empty({n, kHeight, kWidth, 3}, DType::f32);
  Rng rng = Rng(5).at("images");
  for (float& v : images.span<float>()) v = static_cast<float>(rng.uniform(-2, 2));
  return images.to(dtype);
}

struct Network {
  Encoder encoder;
  EncoderConfig config;
  explicit Network(const EncoderConfig& c, DType dtype = DType::f32) : encoder(c, dtype, Rng(1)), config(c) {
    randomize(inventory(encoder), 7);
  }
  NamedTensors weights() {
    NamedTensors w = module_weights(inventory(encoder));
    w.source = "trained.safetensors";
    return w;
  }
  Tensor embed(const Tensor& images) { return encoder(Var(images), inference_pass()).value(); }
};

OnnxOptions small() {
  OnnxOptions options;
  options.height = kHeight;
  options.width = kWidth;
  return options;
}

test::Value value_of(const Tensor& t) {
  const Tensor wide = t.to(DType::f64);
  return {{t.shape().extents().begin(), t.shape().extents().end()}, {wide.span<double>().begin(), wide.span<double>().end()}};
}

// max over rows of |a - b| / |a|.
double distance(const Tensor& a, std::span<const double> b) {
  const Tensor wide = a.to(DType::f64);
  REQUIRE(static_cast<size_t>(a.numel()) == b.size());
  const size_t width = static_cast<size_t>(a.dim(1));
  double largest = 0;
  for (size_t begin = 0; begin < b.size(); begin += width) {
    double difference = 0, length = 0;
    for (size_t i = begin; i < begin + width; ++i) {
      const double value = wide.span<double>()[i];
      difference += (value - b[i]) * (value - b[i]);
      length += value * value;
    }
    largest = std::max(largest, std::sqrt(difference / length));
  }
  return largest;
}
double distance(const Tensor& a, const Tensor& b) { return distance(a, value_of(b).numbers); }

// What rounding every weight once does to the embedding: the distance after random changes of at most u, the largest of three draws.
// A folded weight is rounded once, but it is not known which way; eight times what chance does leaves nothing to luck, and a
// wrong fold changes the embedding 10^4 times more.
double rounding_of_weights(const EncoderConfig& config, const Tensor& images, const Tensor& exact) {
  double largest = 0;
  for (uint64_t draw = 0; draw < 3; ++draw) {
    Network rounded(config, DType::f64);
    Rng rng = Rng(11).at(draw);
    for (const auto& [name, p] : inventory(rounded.encoder).parameters)
      for (double& v : p->value.span<double>()) v *= 1 + kU * rng.uniform(-1, 1);
    largest = std::max(largest, distance(exact, rounded.embed(images)));
  }
  return 8 * largest;
}

int64_t instance_norms(const ResNetConfig& c) {
  const bool basic = c.depth == 18;
  return c.ibn == "a" ? (basic ? 6 : 13) : c.ibn == "b" ? 3 : 0;
}

}  // namespace

TEST_CASE("onnx: protobuf's encoding, as its documentation shows it, and its limit") {
  ProtobufWriter out("x.onnx", 0);
  out.integer(1, 150);
  out.text(2, "testing");
  out.message(3, [&] { out.integer(1, 150); });
  out.integer(1, -1);
  out.number(2, 1.0f);
  const std::vector<uint8_t> expected{0x08, 0x96, 0x01, 0x12, 0x07, 0x74, 0x65, 0x73, 0x74, 0x69, 0x6e, 0x67, 0x1a, 0x03, 0x08, 0x96, 0x01,
                                      0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0x15, 0x00, 0x00, 0x80, 0x3f};
  CHECK(out.take() == expected);
  ProtobufWriter narrow("x.onnx", 0, 100);
  narrow.text(2, std::string(98, 'a'));  // key, length and text: 100 bytes
  CHECK(contains(failure_of([&] { narrow.integer(1, 1); }), "x.onnx would be larger than 100 bytes"));
  ProtobufWriter nested("x.onnx", 0, 100);
  CHECK(contains(failure_of([&] { nested.message(1, [&] { nested.text(1, std::string(97, 'a')); }); }), "larger than 100 bytes"));
}

TEST_CASE("onnx: the graph has the network's nodes, and no batch norm is left") {
  for (const EncoderConfig& config : variants()) {
    CAPTURE(name_of(config));
    Network network(config);
    const OnnxModel model = test::read_onnx(serialize_onnx(config, network.weights(), small()));
    CHECK(model.ir_version == 8);
    CHECK(model.opset == 17);
    CHECK(model.producer == "reid");
    CHECK(contains(model.description, str("ResNet-", config.backbone.depth)));
    REQUIRE(model.inputs.size() == 1);
    CHECK(model.inputs[0].name == "images");
    CHECK(model.inputs[0].type == 1);
    CHECK(model.inputs[0].shape == std::vector<std::string>{"N", "3", "64", "32"});
    REQUIRE(model.outputs.size() == 1);
    CHECK(model.outputs[0].name == "embedding");
    CHECK(model.outputs[0].shape == std::vector<std::string>{"N", config.backbone.depth == 18 ? "32" : "128"});
    const bool basic = config.backbone.depth == 18;
    const int64_t ibn_a = config.backbone.ibn == "a" ? instance_norms(config.backbone) : 0;
    CHECK(model.count("BatchNormalization") == 0);
    CHECK(model.count("Conv") == (basic ? 20 : 53));
    CHECK(model.count("Relu") == (basic ? 17 : 49));
    CHECK(model.count("InstanceNormalization") == instance_norms(config.backbone));
    CHECK(model.count("Split") == ibn_a);
    CHECK(model.count("Concat") == ibn_a);
    CHECK(model.count("MaxPool") == 1);
    const int64_t affines = (config.map_norm ? 1 : 0) + (config.neck == "bn" && config.feature == "after" ? 1 : 0);
    CHECK(model.count("Mul") == affines);
    CHECK(model.count("Add") == (basic ? 8 : 16) + affines);
    CHECK(model.count("Pow") == (config.pooling == "gem" ? 2 : 0));
    CHECK(model.constants.at("layer2.0.conv1.weight").shape == std::vector<int64_t>{8, basic ? 4 : 16, basic ? 3 : 1, basic ? 3 : 1});
    CHECK(model.constants.at("layer2.0.conv1.bias").shape == std::vector<int64_t>{8});
    CHECK(model.constants.count("conv1.bias") == (config.backbone.ibn == "b" ? 0 : 1));
  }
}

TEST_CASE("onnx: run operator by operator in double, the graph is the network but for the rounding of folded weights") {
  const Tensor images = random_images(2, DType::f64);
  for (const EncoderConfig& config : variants()) {
    CAPTURE(name_of(config));
    const Tensor exact = Network(config, DType::f64).embed(images);
    const OnnxModel model = test::read_onnx(serialize_onnx(config, Network(config).weights(), small()));
    const test::Value result = test::run_onnx(model, value_of(filters_to_file(images)));
    CHECK(result.shape == std::vector<int64_t>{2, exact.dim(1)});
    const double tolerance = rounding_of_weights(config, images, exact);
    CHECK(tolerance < 1e-4);
    CHECK(distance(exact, result.numbers) <= tolerance);
  }
}

TEST_CASE("onnx: preprocessing inside the graph takes pixels as they are") {
  EncoderConfig config = variants()[4];
  OnnxOptions options = small();
  options.mean = {0.5f, 0.4f, 0.3f};
  options.std = {0.2f, 0.25f, 0.3f};
  options.preprocess = true;
  Tensor pixels = Tensor::empty({2, kHeight, kWidth, 3}, DType::u8);
  Tensor normalized = Tensor::empty(pixels.shape(), DType::f64);
  Rng rng(3);
  for (size_t i = 0; i < pixels.span<uint8_t>().size(); ++i) {
    pixels.span<uint8_t>()[i] = static_cast<uint8_t>(rng.below(256));
    normalized.span<double>()[i] = (pixels.span<uint8_t>()[i] / 255.0 - double{options.mean[i % 3]}) / double{options.std[i % 3]};
  }
  const NamedTensors weights = Network(config).weights();
  const OnnxModel model = test::read_onnx(serialize_onnx(config, weights, options));
  CHECK(model.inputs.at(0).type == 2);
  CHECK(model.inputs.at(0).shape == std::vector<std::string>{"N", "64", "32", "3"});
  const Tensor exact = Network(config, DType::f64).embed(normalized);
  const Tensor wide = Tensor::from(std::vector<double>(pixels.span<uint8_t>().begin(), pixels.span<uint8_t>().end()), pixels.shape());
  CHECK(distance(exact, test::run_onnx(model, value_of(wide)).numbers) <= rounding_of_weights(config, normalized, exact));
}

TEST_CASE("onnx: the same bytes each time; metadata in its order") {
  Network network(variants()[5]);
  OnnxOptions options = small();
  options.metadata = {{"model", "{\"depth\":18}"}, {"preprocessing", "{}"}, {"origin", "a test"}};
  const std::vector<uint8_t> bytes = serialize_onnx(network.config, network.weights(), options);
  CHECK(bytes == serialize_onnx(network.config, network.weights(), options));
  const OnnxModel model = test::read_onnx(bytes);
  CHECK(model.metadata == std::map<std::string, std::string>{options.metadata.begin(), options.metadata.end()});
  NamedTensors more = network.weights();
  more.add("classifier.weight", Tensor::zeros({7, 3}, DType::f32));
  CHECK(bytes == serialize_onnx(network.config, more, options));
  const Scratch scratch("onnx");
  write_onnx(scratch / "a.onnx", network.config, network.weights(), options);
  CHECK(read_file(scratch / "a.onnx") == bytes);
}

TEST_CASE("onnx: errors name the file and the tensor") {
  Network network(variants()[5]);  // ResNet-18-IBN-a, GeM
  const auto failure = [&](const std::string& name, const Tensor& replacement) {
    NamedTensors weights = network.weights();
    auto& tensors = weights.tensors;
    const auto at = std::find_if(tensors.begin(), tensors.end(), [&](const auto& t) { return t.first == name; });
    REQUIRE(at != tensors.end());
    replacement.defined() ? void(at->second = replacement) : void(tensors.erase(at));
    const std::string message = failure_of([&] { serialize_onnx(network.config, weights, small()); });
    CHECK(contains(message, "trained.safetensors"));
    return message;
  };
  CHECK(contains(failure("layer2.0.bn1.BN.running_var", {}), "layer2.0.bn1.BN.running_var"));
  CHECK(contains(failure("layer2.0.conv1.weight", Tensor::zeros({8, 4, 1, 1}, DType::f32)),
                 "layer2.0.conv1.weight is [8, 4, 1, 1], the network has"));
  CHECK(contains(failure("bn1.running_var", Tensor::full({4}, -1, DType::f32)), "conv1.weight would have a value that is not finite"));
  CHECK(contains(failure("layer1.0.bn1.IN.weight", Tensor::full({2}, INFINITY, DType::f32)), "layer1.0.bn1.IN.weight"));
  CHECK(contains(failure("pool.p", Tensor::full({1}, -2, DType::f32)), "pool.p = -2"));
  OnnxOptions tiny = small();
  tiny.width = 4;
  CHECK(contains(failure_of([&] { serialize_onnx(network.config, network.weights(), tiny); }), "64 x 4"));
  EncoderConfig attentive = network.config;
  attentive.backbone.depth = 50;
  attentive.backbone.non_local = true;
  CHECK(contains(failure_of([&] { serialize_onnx(attentive, network.weights(), small()); }), "non-local blocks cannot be written"));
  EncoderConfig unknown = network.config;
  unknown.backbone.depth = 20;
  CHECK(contains(failure_of([&] { serialize_onnx(unknown, network.weights(), small()); }), "model.depth = 20"));
}

// tools/check_onnx.py reads what this writes: a model beside the images and what the network makes of them. The tolerance is
// eight times what rounding does to the network's own embedding in f32: a runtime sums the same numbers in another order.
// REID_ONNX_FOLDER keeps the files.
TEST_CASE("onnx: the onnx package's checker and ONNX Runtime") {
  const Scratch scratch("onnx");
  const char* kept = std::getenv("REID_ONNX_FOLDER");
  const std::filesystem::path folder = kept ? kept : scratch.folder;
  make_folder(folder);
  const Tensor images = random_images(3, DType::f32);
  for (const EncoderConfig& config : variants()) {
    Network network(config);
    const Tensor exact = Network(config, DType::f64).embed(images.to(DType::f64));
    NamedTensors expected;
    expected.add("images", filters_to_file(images));
    expected.add("embeddings", exact);
    const double tolerance =
        std::max(8 * distance(exact, network.embed(images)), rounding_of_weights(config, images.to(DType::f64), exact));
    CHECK(tolerance < 1e-4);
    expected.metadata = {{"tolerance", str(tolerance)}};
    write_safetensors(folder / (name_of(config) + ".safetensors"), expected);
    write_onnx(folder / (name_of(config) + ".onnx"), config, network.weights(), small());
  }
  const char* python = std::getenv("REID_PYTHON");
  const std::string command =
      str("'", python ? python : "python3", "' '", REID_SOURCE_DIR, "/tools/check_onnx.py' '", folder.string(), "'");
  const int status = std::system(command.c_str());
  REQUIRE(WIFEXITED(status));
  if (WEXITSTATUS(status) == 3 || WEXITSTATUS(status) == 127) {
    MESSAGE("skipped: the packages onnx, onnxruntime and numpy are not there; REID_PYTHON names a Python that has them");
    return;
  }
  CHECK(WEXITSTATUS(status) == 0);
}
