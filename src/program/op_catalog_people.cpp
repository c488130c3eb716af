// The catalog: distances, clustering, centroids, resizing, and whole networks.

#include "program/op.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "reid/engine/nn.h"
#include "reid/engine/ops.h"
#include "reid/formats/weights.h"
#include "reid/people/cluster.h"
#include "reid/people/transform.h"

namespace reid::program {
namespace {

Metric metric_of(const OpCall& c) { return parse_metric(c.word("metric")); }
OpAttribute metric() {
  return {"metric", OpAttribute::word, "cosine", "distance between rows", {"cosine", "euclidean", "squared_euclidean"}};
}
OpInput features(const std::string& name = "features") { return constant(name, "[N, D]", "rows"); }

JaccardOptions jaccard_of(const OpCall& c) {
  return {.k1 = c.integer("k1"), .k2 = c.integer("k2"), .k1_counts_self = c.flag("k1_counts_self")};
}

std::vector<OpAttribute> jaccard_attributes() {
  return {{"k1", OpAttribute::integer, "30", "neighbors looked at"},
          {"k2", OpAttribute::integer, "6", "rows averaged by query expansion; 1: none"},
          {"k1_counts_self", OpAttribute::flag, "true",
           "the row itself is one of the k1 (ICE, ClusterContrast), else one more (Zhong et al.)"}};
}

void run_dbscan(OpCall& c) {
  REID_CHECK(c.has("features") != c.has("distances"), c.inputs().source, ": dbscan takes either features or distances");
  const DbscanOptions options{.eps = c.number("eps"), .min_samples = c.integer("min_samples")};
  Clusters found;
  if (c.has("features")) {
    check_features(c.tensor("features"), metric_of(c), c.inputs().source);
    found = dbscan_features(c.tensor("features"), metric_of(c), options);
  } else {
    found = dbscan(c.tensor("distances"), options);
  }
  c.result("labels", Tensor::from(found.labels));
  c.result("clusters", Tensor::from(std::vector<int64_t>{found.count}));
}

void run_centroids(OpCall& c, bool cameras) {
  const Centroids found = cameras ? camera_centroids(c.tensor("features"), c.integers("labels"), c.integers("cameras"))
                                  : identity_centroids(c.tensor("features"), c.integers("labels"));
  c.result("rows", found.rows);
  c.result("labels", Tensor::from(found.labels));
  if (cameras) c.result("cameras", Tensor::from(found.cameras));
  c.result("counts", Tensor::from(found.counts));
}

OpEntry resize_entry(Filter filter) {
  const bool bilinear = filter == Filter::bilinear;
  return {.name = bilinear ? "resize_bilinear" : "resize_bicubic",
          .summary = str("resizes an image as Pillow does, ", bilinear ? "bilinear" : "bicubic"),
          .inputs = {constant("x", "[H, W, 3]", "RGB", "u8")},
          .attributes = {{"height", OpAttribute::integer, "256", "rows of the result"},
                         {"width", OpAttribute::integer, "128", "columns of the result"}},
          .results = {{"y", "[height, width, 3]", "u8"}},
          .kernels = {},
          .run = [filter](OpCall& c) {
            const Tensor& x = c.tensor("x");
            const int64_t height = c.integer("height"), width = c.integer("width");
            const auto fits = [](int64_t v) { return v >= 1 && v <= 65535; };
            REID_CHECK(fits(x.dim(0)) && fits(x.dim(1)) && fits(height) && fits(width), "an image of ", x.shape(), " to ", height, " x ",
                       width, ": sides are 1 to 65535");
            Image image(static_cast<int>(x.dim(0)), static_cast<int>(x.dim(1)));
            image.rgb.assign(x.span<uint8_t>().begin(), x.span<uint8_t>().end());
            const Image resized = resize(image, static_cast<int>(height), static_cast<int>(width), filter);
            c.result("y", Tensor::from(resized.rgb, Shape{height, width, 3}));
          }};
}

// An input as integers of 32 bits.
Tensor small_integers(const OpCall& c, const std::string& name) {
  for (const int64_t v : c.integers(name))
    REID_CHECK(std::in_range<int32_t>(v), c.inputs().source, ": ", name, " holds ", v, ", which is no number of 32 bits");
  return c.tensor(name).to(DType::i32);
}

OpEntry colors_entry() {
  return {
      .name = "color_pixels",
      .summary = "8-bit images cut, blurred and colored as Pillow and torchvision do, byte for byte",
      .inputs = {constant("x", "[N, H, W, 3]", "RGB", "u8"),
                 constant("changes", "[N, 12 + K]",
                          "down, right, mirrored, radius of the blur; four times a change (1 brightness, 2 contrast, 3 saturation, 4 hue) "
                          "and the bits of its factor (f32) or its steps; K weights of the blur, 2^15 in all",
                          "i64")},
      .attributes = {},
      .results = {{"y", "[N, H, W, 3]", "u8"}},
      .kernels = {"color_pixels"},
      .run = [](OpCall& c) { c.result("y", ops::color_pixels(c.tensor("x"), small_integers(c, "changes"))); }};
}

OpEntry mirror_entry() {
  return {.name = "mirror",
          .summary = "images with left and right exchanged",
          .inputs = {constant("x", "[N, H, W, C]", "")},
          .attributes = {},
          .results = {{"y", "[N, H, W, C]", ""}},
          .kernels = {"mirror"},
          .run = [](OpCall& c) { c.result("y", ops::mirror(c.tensor("x"))); }};
}

void run_views(OpCall& c) {
  PixelColors colors{};
  for (const auto& [name, values] : {std::pair{"mean", colors.mean}, {"std", colors.std}, {"fill", colors.fill}}) {
    if (!c.has(name)) continue;
    const Tensor given = c.tensor(name).to(DType::f32);
    std::copy_n(given.data<float>(), 3, values);
  }
  c.result("y", ops::views_from_pixels(c.tensor("x"), small_integers(c, "views"), colors, c.dtype()));
}

OpEntry views_entry() {
  return {
      .name = "views_from_pixels",
      .summary =
          "what a network reads of images: window, mirror image, (x / 255 - mean) / std rounded in f32 at each step, one rectangle erased",
      .inputs = {constant("x", "[N, H, W, 3]", "RGB", "u8"),
                 constant("views", "[N, 7]", "down, right, mirrored; top, left, height, width of the rectangle; in pixels", "i64"),
                 constant("mean", "[3]", "of x / 255"), constant("std", "[3]", "above 0"),
                 optional(constant("fill", "[3]", "of the rectangle, after normalization; 0"))},
      .attributes = {},
      .results = {{"y", "[N, H, W, 3]", "pixel (h + down, w + right), black where there is none"}},
      .kernels = {"views_from_pixels"},
      .run = run_views};
}

void run_encoder(OpCall& c) {
  const EncoderConfig config{.backbone = {.depth = static_cast<int>(c.integer("depth")),
                                          .ibn = c.word("ibn"),
                                          .last_stride = c.integer("last_stride"),
                                          .width = c.integer("width"),
                                          .max_pool = c.word("max_pool"),
                                          .non_local = c.flag("non_local"),
                                          .non_local_width = c.integer("non_local_width")},
                             .map_norm = c.flag("map_norm"),
                             .pooling = c.word("pooling"),
                             .neck = c.word("neck"),
                             .feature = c.word("feature")};
  auto encoder = std::make_shared<Encoder>(config, c.dtype(), Rng(0));
  const Inventory module = inventory(*encoder);
  load_weights(module, c.inputs());
  const bool training = c.flag("training");
  c.result("features", (*encoder)(c.var("images"), {.tape = c.tape(), .batch_statistics = training, .update_running = training}));
  if (training) {
    for (const auto& [name, buffer] : module.buffers) c.result(name, *buffer);
  }
  c.after_backward([&c, encoder, module] {
    for (const auto& [name, p] : module.parameters) {
      if (p->trainable) c.result("d" + name, filters_to_file(p->grad));
    }
  });
}

OpEntry encoder_entry() {
  return {.name = "encoder",
          .summary = "a whole network: ResNet, pooling, batch-norm neck",
          .inputs = {differentiable("images", "[N, H, W, 3]", "normalized")},
          .attributes = {{"depth", OpAttribute::integer, "50", "18, 34, 50, 101 or 152"},
                         {"ibn", OpAttribute::word, "a", "instance norm in the blocks", {"none", "a", "b"}},
                         {"last_stride", OpAttribute::integer, "1", "of the last stage, 1 or 2"},
                         {"width", OpAttribute::integer, "64", "channels of the first stage"},
                         {"max_pool", OpAttribute::word, "pad", "torchvision's or Caffe's convention", {"pad", "ceil"}},
                         {"non_local", OpAttribute::flag, "false", "non-local blocks behind the last blocks of stages 2 and 3"},
                         {"non_local_width", OpAttribute::integer, "1", "their inner channels"},
                         {"pooling", OpAttribute::word, "gap", "mean or generalized mean", {"gap", "gem"}},
                         {"map_norm", OpAttribute::flag, "false", "a batch norm on the last map, before pooling"},
                         {"neck", OpAttribute::word, "bn", "after pooling: batch norm, or nothing", {"bn", "none"}},
                         {"feature", OpAttribute::word, "after", "taken after the neck or before it", {"after", "before"}},
                         {"training", OpAttribute::flag, "false", "the batch's statistics; running ones move and are results"}},
          .results = {{"features", "[N, D]", "not normalized"}},
          .kernels = {"conv_forward", "conv_backward_data", "conv_backward_weight", "norm_statistics", "norm_apply", "norm_backward",
                      "max_pool", "max_pool_backward", "non_local", "non_local_backward", "bias_add", "global_pool", "global_pool_backward",
                      "matmul"},
          .run = run_encoder,
          .takes_parameters = true};
}

}  // namespace

std::vector<OpEntry> people_ops() {
  return {
      {.name = "pairwise_distance",
       .summary = "distances between two sets of rows",
       .inputs = {constant("a", "[M, D]", "rows"), constant("b", "[N, D]", "rows")},
       .attributes = {metric()},
       .results = {{"y", "[M, N]", ""}},
       .kernels = {"matmul"},
       .run =
           [](OpCall& c) {
             check_features(c.tensor("a"), metric_of(c), "a");
             check_features(c.tensor("b"), metric_of(c), "b");
             c.result("y", pairwise_distance(c.tensor("a"), c.tensor("b"), metric_of(c)));
           }},
      {.name = "jaccard_distance",
       .summary = "k-reciprocal Jaccard distances of rows (Zhong et al., CVPR 2017)",
       .inputs = {features()},
       .attributes = jaccard_attributes(),
       .results = {{"y", "[N, N]", ""}},
       .kernels = {"matmul"},
       .run = [](OpCall& c) { c.result("y", jaccard_distance(c.tensor("features"), jaccard_of(c))); }},
      {.name = "dbscan",
       .summary = "clusters of rows, or of a distance matrix, as scikit-learn numbers them",
       .inputs = {optional(features()), optional(constant("distances", "[N, N]", "instead of features"))},
       .attributes = {{"eps", OpAttribute::number, "0.5", "neighbors are at most this far apart"},
                      {"min_samples", OpAttribute::integer, "4", "neighbors of a core point, itself included"},
                      metric()},
       .results = {{"labels", "[N]", "i64, noise -1"}, {"clusters", "[1]", "i64, their number"}},
       .kernels = {"matmul"},
       .run = run_dbscan},
      {.name = "identity_centroids",
       .summary = "the mean row of each label, scaled to length 1",
       .inputs = {features(), constant("labels", "[N]", "negative: left out", "i64")},
       .attributes = {},
       .results = {{"rows", "[K, D]", ""}, {"labels", "[K]", ""}, {"counts", "[K]", "members"}},
       .kernels = {},
       .run = [](OpCall& c) { run_centroids(c, false); }},
      {.name = "camera_centroids",
       .summary = "the mean row of each label under each camera, scaled to length 1",
       .inputs = {features(), constant("labels", "[N]", "negative: left out", "i64"), constant("cameras", "[N]", "", "i64")},
       .attributes = {},
       .results = {{"rows", "[K, D]", ""}, {"labels", "[K]", ""}, {"cameras", "[K]", ""}, {"counts", "[K]", "members"}},
       .kernels = {},
       .run = [](OpCall& c) { run_centroids(c, true); }},
      resize_entry(Filter::bilinear),
      resize_entry(Filter::bicubic),
      colors_entry(),
      views_entry(),
      mirror_entry(),
  };
}

std::vector<OpEntry> module_ops() { return {encoder_entry()}; }

}  // namespace reid::program
