#include "reid/formats/onnx.h"

#include <bit>
#include <cmath>

#include "formats/onnx_graph.h"
#include "reid/formats/files.h"

namespace reid {

namespace {

static_assert(std::endian::native == std::endian::little, "ONNX data is little-endian and copied as it is");

constexpr int64_t kFormatVersion = 8, kOperatorSet = 17;  // of ONNX 1.12 (2022): older runtimes refuse newer numbers
constexpr double kNormEps = 1e-5, kGemEps = 1e-6;         // as in Norm and gem_pool

std::vector<double> numbers(const Tensor& t) {
  const Tensor wide = t.to(DType::f64);
  return {wide.span<double>().begin(), wide.span<double>().end()};
}

std::vector<float> rounded(std::span<const double> values) {
  std::vector<float> result(values.size());
  for (size_t i = 0; i < values.size(); ++i) result[i] = static_cast<float>(values[i]);
  return result;
}

std::string source_of(const NamedTensors& weights) { return weights.source.empty() ? "the network's weights" : weights.source; }

// What a batch norm does at inference: x * scale + shift, channel by channel.
struct Affine {
  std::vector<double> scale, shift;
};

// Walks an encoder and writes its graph. Functions take and return names of values; the names of nodes are those of the weights.
class EncoderGraph {
 public:
  EncoderGraph(const EncoderConfig& config, const NamedTensors& weights, const OnnxOptions& options, ProtobufWriter& out)
      : config_(config),
        plan_(plan_of(config.backbone)),
        weights_(weights),
        options_(options),
        source_(source_of(weights)),
        graph_(out, source_) {
    REID_CHECK(!config.backbone.non_local, source_, ": non-local blocks cannot be written as ONNX yet; export an encoder without them");
  }

  void write() {
    const std::string images = options_.preprocess ? preprocessing() : normalized_input();
    std::string map = backbone(images);
    if (config_.map_norm) map = affine(map, "map_norm", {plan_.features, 1, 1}, "map_norm");
    const bool neck = config_.neck == "bn" && config_.feature == "after";
    const std::string pooled = pooling(map, neck ? "pool" : "embedding");
    if (neck) affine(pooled, "bottleneck", {plan_.features}, "embedding");
    graph_.output("embedding", OnnxGraph::float32, {{0, "N"}, {plan_.features}});
  }

 private:
  std::string normalized_input() {
    graph_.input("images", OnnxGraph::float32, {{0, "N"}, {3}, {options_.height}, {options_.width}});
    return "images";
  }

  // Not folded into the first convolution: that one pads with zeros AFTER normalization. The order of the operations is the
  // program's own, so the pixels come out bit for bit as it makes them.
  std::string preprocessing() {
    graph_.input("images", OnnxGraph::uint8, {{0, "N"}, {options_.height}, {options_.width}, {3}});
    const float most = 255;
    const std::string pixels = graph_.node("preprocess.float", "Cast", {"images"}, {{"to", int64_t{OnnxGraph::float32}}});
    const std::string planes = graph_.node("preprocess.planes", "Transpose", {pixels}, {{"perm", std::vector<int64_t>{0, 3, 1, 2}}});
    const std::string shares = graph_.node("preprocess.scaled", "Div", {planes, graph_.constant("preprocess.255", {}, {&most, 1})});
    const std::string mean = graph_.constant("preprocess.mean", {3, 1, 1}, options_.mean);
    const std::string centered = graph_.node("preprocess.centered", "Sub", {shares, mean});
    return graph_.node("preprocess.normalized", "Div", {centered, graph_.constant("preprocess.std", {3, 1, 1}, options_.std)});
  }

  std::string backbone(const std::string& images) {
    std::string x = relu(conv_norm(images, plan_.stem, "conv1", "bn1"), "relu");
    x = max_pool(x);
    for (const BlockPlan& b : plan_.blocks) x = block(x, b);
    return x;
  }

  std::string block(const std::string& x, const BlockPlan& plan) {
    const std::string path = plan.name() + ".";
    std::string y = x;
    for (size_t i = 1; i <= plan.convs.size(); ++i) {
      y = conv_norm(y, plan.convs[i - 1], str(path, "conv", i), str(path, "bn", i));
      if (i < plan.convs.size()) y = relu(y, str(path, "relu", i));
    }
    const std::string shortcut = plan.shortcut ? conv_norm(x, *plan.shortcut, path + "downsample.0", path + "downsample.1") : x;
    y = graph_.node(path + "add", "Add", {y, shortcut});
    if (plan.norm_after) y = instance_norm(y, path + "IN", plan.convs.back().out);
    return relu(y, str(path, "relu", plan.convs.size()));
  }

  std::string conv_norm(const std::string& x, const ConvPlan& plan, const std::string& conv_name, const std::string& norm_name) {
    switch (plan.norm) {
      case Norm::Kind::batch: return conv(x, plan, conv_name, batch_norm(norm_name, plan.out));
      case Norm::Kind::instance: return instance_norm(conv(x, plan, conv_name, {}), norm_name, plan.out);
      case Norm::Kind::ibn: return instance_batch_norm(x, plan, conv_name, norm_name);
    }
    fail("[onnx] unknown norm");
  }

  // The first half of the channels keeps its instance norm; the batch norm of the second half goes into the convolution.
  std::string instance_batch_norm(const std::string& x, const ConvPlan& plan, const std::string& conv_name, const std::string& norm_name) {
    const int64_t half = plan.out / 2, rest = plan.out - half;
    Affine folded{std::vector<double>(static_cast<size_t>(half), 1), std::vector<double>(static_cast<size_t>(half), 0)};
    const Affine second = batch_norm(norm_name + ".BN", rest);
    folded.scale.insert(folded.scale.end(), second.scale.begin(), second.scale.end());
    folded.shift.insert(folded.shift.end(), second.shift.begin(), second.shift.end());
    const std::string y = conv(x, plan, conv_name, folded);
    const std::string first_half = norm_name + ".first", second_half = norm_name + ".BN";
    const std::string halves = graph_.constant(norm_name + ".halves", std::array{half, rest});
    graph_.nodes(norm_name + ".split", "Split", {y, halves}, {first_half, second_half}, {{"axis", int64_t{1}}});
    const std::string instance = instance_norm(first_half, norm_name + ".IN", half);
    return graph_.node(norm_name, "Concat", {instance, second_half}, {{"axis", int64_t{1}}});
  }

  // Without `folded` there is no bias.
  std::string conv(const std::string& x, const ConvPlan& plan, const std::string& name, const Affine& folded) {
    const Shape shape{plan.out, plan.in, plan.kernel, plan.kernel};
    const Tensor stored = weight(name + ".weight", shape).to(DType::f64);
    const std::span<const double> w = stored.span<double>();
    std::vector<float> filters(w.size());
    const size_t length = w.size() / static_cast<size_t>(plan.out);
    for (size_t k = 0; k < static_cast<size_t>(plan.out); ++k) {
      const double scale = folded.scale.empty() ? 1 : folded.scale[k];
      for (size_t i = k * length; i < (k + 1) * length; ++i) filters[i] = static_cast<float>(w[i] * scale);
    }
    std::vector<std::string> inputs{x, graph_.constant(name + ".weight", shape, filters)};
    if (!folded.shift.empty()) inputs.push_back(graph_.constant(name + ".bias", {plan.out}, rounded(folded.shift)));
    const std::vector<int64_t> kernel(2, plan.kernel), strides(2, plan.stride), pads(4, plan.kernel / 2);
    return graph_.node(name, "Conv", inputs, {{"kernel_shape", kernel}, {"strides", strides}, {"pads", pads}});
  }

  std::string instance_norm(const std::string& x, const std::string& name, int64_t channels) {
    const std::string scale = graph_.constant(name + ".weight", {channels}, rounded(numbers(weight(name + ".weight", {channels}))));
    const std::string shift = graph_.constant(name + ".bias", {channels}, rounded(numbers(weight(name + ".bias", {channels}))));
    return graph_.node(name, "InstanceNormalization", {x, scale, shift}, {{"epsilon", static_cast<float>(kNormEps)}});
  }

  // A batch norm that has no convolution to go into. `shape` aligns its channels with those of x.
  std::string affine(const std::string& x, const std::string& name, const Shape& shape, const std::string& result) {
    const Affine a = batch_norm(name, plan_.features);
    const std::string scaled = graph_.node(name + ".scaled", "Mul", {x, graph_.constant(name + ".scale", shape, rounded(a.scale))});
    return graph_.node(result, "Add", {scaled, graph_.constant(name + ".shift", shape, rounded(a.shift))});
  }

  std::string relu(const std::string& x, const std::string& name) { return graph_.node(name, "Relu", {x}); }

  std::string max_pool(const std::string& x) {
    const bool ceil = config_.backbone.max_pool == "ceil";
    const std::vector<int64_t> kernel(2, 3), strides(2, 2), pads(4, ceil ? 0 : 1);
    return graph_.node("maxpool", "MaxPool", {x},
                       {{"kernel_shape", kernel}, {"strides", strides}, {"pads", pads}, {"ceil_mode", int64_t{ceil}}});
  }

  // GeM: (mean max(x, eps)^p)^(1/p).
  std::string pooling(const std::string& map, const std::string& result) {
    std::string x = map;
    if (config_.pooling == "gem") {
      const double p = numbers(weight("pool.p", {1}))[0];
      REID_CHECK(p > 0, source_, ": pool.p = ", p, " must be positive");
      const std::string exponent = graph_.constant("pool.p", {}, rounded({&p, 1})),
                        least = graph_.constant("pool.eps", {}, rounded({&kGemEps, 1}));
      const double inverse = 1 / p;
      x = graph_.node("pool.power", "Pow", {graph_.node("pool.clip", "Clip", {x, least}), exponent});
      x = graph_.node("pool.mean", "GlobalAveragePool", {x});
      x = graph_.node("pool.root", "Pow", {x, graph_.constant("pool.inverse_p", {}, rounded({&inverse, 1}))});
    } else {
      x = graph_.node("pool.mean", "GlobalAveragePool", {x});
    }
    return graph_.node(result, "Flatten", {x}, {{"axis", int64_t{1}}});
  }

  Affine batch_norm(const std::string& name, int64_t channels) const {
    const auto stored = [&](const char* field) { return numbers(weight(name + field, {channels})); };
    const std::vector<double> gamma = stored(".weight"), beta = stored(".bias");
    const std::vector<double> mean = stored(".running_mean"), variance = stored(".running_var");
    Affine a{std::vector<double>(gamma.size()), std::vector<double>(gamma.size())};
    for (size_t c = 0; c < gamma.size(); ++c) {
      a.scale[c] = gamma[c] / std::sqrt(variance[c] + kNormEps);
      a.shift[c] = beta[c] - mean[c] * a.scale[c];
    }
    return a;
  }

  const Tensor& weight(const std::string& name, const Shape& shape) const {
    const Tensor& t = weights_.at(name);
    REID_CHECK(t.shape() == shape, source_, ": ", name, " is ", t.shape(), ", the network has ", shape,
               " (other depth, width or pooling?)");
    return t;
  }

  const EncoderConfig& config_;
  const ResNetPlan plan_;
  const NamedTensors& weights_;
  const OnnxOptions& options_;
  const std::string source_;
  OnnxGraph graph_;
};

std::string description(const EncoderConfig& config, const OnnxOptions& options) {
  const std::string size = str(options.height, " x ", options.width);
  return str(
      "Person re-identification: images to embeddings, to be compared by their cosine. ResNet-", config.backbone.depth,
      config.backbone.ibn == "none" ? "" : "-IBN-" + config.backbone.ibn, " of width ", config.backbone.width, ". Input images: ",
      options.preprocess ? "[N, height, width, 3] uint8, RGB, already resized to " : "[N, 3, height, width] float32, normalized, of ", size,
      " pixels. Output embedding: [N, D] float32, not normalized.");
}

}  // namespace

std::vector<uint8_t> serialize_onnx(const EncoderConfig& config, const NamedTensors& weights, const OnnxOptions& options) {
  REID_CHECK(options.height >= 8 && options.width >= 8, "[onnx] images of ", options.height, " x ", options.width,
             " pixels are too small: at least 8 x 8, of which the stem leaves 2 x 2");
  size_t expected = 1 << 20;
  for (const auto& [name, tensor] : weights.tensors) expected += static_cast<size_t>(tensor.bytes());
  ProtobufWriter out("the ONNX model of " + source_of(weights), expected);
  out.integer(1, kFormatVersion);
  out.text(2, "reid");
  out.text(3, REID_VERSION);
  out.text(6, description(config, options));
  out.message(7, [&] {  // the graph
    out.text(2, "encoder");
    EncoderGraph(config, weights, options, out).write();
  });
  out.message(8, [&] { out.integer(2, kOperatorSet); });
  for (const auto& entry : options.metadata) {
    out.message(14, [&] {
      out.text(1, entry.first);
      out.text(2, entry.second);
    });
  }
  return out.take();
}

void write_onnx(const std::filesystem::path& file, const EncoderConfig& config, const NamedTensors& weights, const OnnxOptions& options) {
  write_file(file, serialize_onnx(config, weights, options));
}

}  // namespace reid
