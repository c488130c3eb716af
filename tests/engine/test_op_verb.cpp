// reid op, as a program from outside sees it: goldens in, numbers out; what is wrong is named.

#include "harness.h"
#include "program/run_program.h"

namespace reid::test {
namespace {

struct OpRun {
  std::string op;
  std::vector<std::pair<std::string, std::string>> inputs;      // golden's name, op's name
  std::vector<std::pair<std::string, std::string>> attributes;  // golden's name, op's name
  std::vector<std::pair<std::string, std::string>> results;     // golden's name, op's name
  std::vector<std::string> more = {};                           // further words of the command line
};

std::string number(double v) {
  std::ostringstream out;
  out.precision(17);
  out << v;
  return out.str();
}

// Runs the program on a golden's tensors and compares what it writes.
void check(const Golden& g, const OpRun& run) {
  const TemporaryFolder folder;
  NamedTensors inputs;
  for (const auto& [from, to] : run.inputs)
    if (g.has(from)) inputs.add(to, g[from]);
  write_safetensors(folder / "in", inputs);
  std::vector<std::string> words = {"op", "run", run.op, "--in", folder / "in", "--out", folder / "out", "--quiet"};
  if (!run.attributes.empty()) words.push_back("--set");
  for (const auto& [from, to] : run.attributes) words.push_back(to + "=" + number(g.number(from)));
  words.insert(words.end(), run.more.begin(), run.more.end());
  const Outcome outcome = run_reid(words);
  REQUIRE_MESSAGE(outcome.status == 0, g.prefix(), ": ", outcome.err);
  CHECK(outcome.out.empty());
  const NamedTensors results = read_safetensors(folder / "out");
  for (const auto& result : run.results) {
    const std::string what = g.prefix() + " " + result.second;
    const Tensor* found = results.find(result.second);
    REQUIRE_MESSAGE(found, what);
    CHECK_MESSAGE(difference(*found, g[result.first], 1e-10) == "", what);
  }
}

using Names = std::vector<std::pair<std::string, std::string>>;

Names same(std::initializer_list<const char*> names) {
  Names pairs;
  for (const char* name : names) pairs.emplace_back(name, name);
  return pairs;
}

TEST_CASE("reid op: dense ops and their gradients") {
  for (const char* name : {"conv_3x3_stride2_odd", "conv_grouped"})
    check(Golden("ops", name), {.op = "conv_forward",
                                .inputs = same({"x", "w", "dy"}),
                                .attributes = same({"stride", "pad", "dilation", "groups"}),
                                .results = same({"y", "dx", "dw"}),
                                .more = {"--grad"}});
  const Golden conv("ops", "conv_7x7_stride2");
  check(conv, {.op = "conv_backward_data",
               .inputs = same({"dy", "w"}),
               .attributes = same({"stride", "pad"}),
               .results = same({"dx"}),
               .more = {"height=16", "width=8"}});
  check(conv, {.op = "conv_backward_weight",
               .inputs = same({"dy", "x"}),
               .attributes = same({"stride", "pad"}),
               .results = same({"dw"}),
               .more = {"rows=7", "columns=7"}});
  check(Golden("ops", "matmul_tn"), {.op = "matmul",
                                     .inputs = same({"a", "b", "dy"}),
                                     .attributes = same({"transpose_a", "transpose_b"}),
                                     .results = same({"y", "da", "db"}),
                                     .more = {"--grad", "--impl", "reference"}});
  check(Golden("ops", "linear"), {.op = "linear",
                                  .inputs = same({"x", "w", "bias", "dy"}),
                                  .attributes = {},
                                  .results = same({"y", "dx", "dw", "dbias"}),
                                  .more = {"--grad"}});
  check(Golden("ops", "relu"),
        {.op = "relu", .inputs = same({"x", "dy"}), .attributes = {}, .results = same({"y", "dx"}), .more = {"--grad"}});
  check(Golden("ops", "relu"), {.op = "relu_backward", .inputs = same({"y", "dy"}), .attributes = {}, .results = same({"dx"})});
}

TEST_CASE("reid op: normalization, running statistics included") {
  const Names inputs = {{"x", "x"},
                        {"gamma", "gamma"},
                        {"beta", "beta"},
                        {"residual", "residual"},
                        {"dy", "dy"},
                        {"running_mean_before", "running_mean"},
                        {"running_var_before", "running_var"}};
  for (const char* name : {"batch_norm_train_residual_relu", "batch_norm_eval_residual_relu"})
    check(Golden("ops", name), {.op = "batch_norm",
                                .inputs = inputs,
                                .attributes = same({"relu", "training", "eps", "momentum"}),
                                .results = same({"y", "running_mean", "running_var", "dx", "dgamma", "dbeta", "dresidual"}),
                                .more = {"--grad"}});
  check(Golden("ops", "ibn_odd"), {.op = "ibn",
                                   .inputs = inputs,
                                   .attributes = same({"relu", "training", "eps", "momentum"}),
                                   .results = same({"y", "running_mean", "running_var", "dx", "dgamma", "dbeta"}),
                                   .more = {"--grad"}});
  check(Golden("ops", "instance_norm_residual_relu"), {.op = "instance_norm",
                                                       .inputs = inputs,
                                                       .attributes = same({"relu", "eps"}),
                                                       .results = same({"y", "dx", "dgamma", "dbeta", "dresidual"}),
                                                       .more = {"--grad"}});
}

TEST_CASE("reid op: pooling") {
  for (const char* name : {"max_pool", "max_pool_caffe_odd", "max_pool_ties"})
    check(Golden("ops", name), {.op = "max_pool",
                                .inputs = same({"x", "dy"}),
                                .attributes = same({"kernel", "stride", "pad", "ceil"}),
                                .results = same({"y", "index", "dx"}),
                                .more = {"--grad"}});
  check(Golden("ops", "max_pool"), {.op = "max_pool_backward",
                                    .inputs = same({"dy", "index"}),
                                    .attributes = {},
                                    .results = same({"dx"}),
                                    .more = {"--set", "height=8", "width=6"}});
  check(Golden("ops", "global_average_pool"),
        {.op = "global_average_pool", .inputs = same({"x", "dy"}), .attributes = {}, .results = same({"y", "dx"}), .more = {"--grad"}});
  check(Golden("ops", "gem_pool_clamped"), {.op = "gem_pool",
                                            .inputs = same({"x", "p", "dy"}),
                                            .attributes = same({"eps"}),
                                            .results = same({"y", "dx", "dp"}),
                                            .more = {"--grad"}});
}

TEST_CASE("reid op: rows and losses") {
  check(Golden("rows", "l2_normalize_short"),
        {.op = "l2_normalize", .inputs = same({"x", "dy"}), .attributes = same({"eps"}), .results = same({"y", "dx"}), .more = {"--grad"}});
  check(Golden("rows", "cross_entropy_0.1"), {.op = "cross_entropy",
                                              .inputs = {{"x", "logits"}, {"labels", "labels"}},
                                              .attributes = same({"smoothing"}),
                                              .results = {{"y", "loss"}, {"dx", "dlogits"}},
                                              .more = {"--grad"}});
  for (const char* name : {"one_positive_rows", "softmax_rows"})
    check(Golden("rows", name),
          {.op = name, .inputs = same({"s", "mask", "tau", "weight"}), .attributes = {}, .results = same({"ds"}), .more = {"--grad"}});
  const Names loss = {{"y", "loss"}, {"df", "df"}};
  check(Golden("losses", "instance_all_switched"), {.op = "instance_loss",
                                                    .inputs = same({"f", "m", "labels", "single"}),
                                                    .attributes = same({"tau_multi", "tau_single", "self_positive", "supcon", "pooled"}),
                                                    .results = loss,
                                                    .more = {"--set", "joint=false", "--grad"}});
  check(Golden("losses", "augmentation"), {.op = "augmentation_loss",
                                           .inputs = same({"f", "m", "labels", "single"}),
                                           .attributes = same({"tau"}),
                                           .results = loss,
                                           .more = {"--grad"}});
  check(Golden("losses", "centroid_smooth"), {.op = "centroid_loss",
                                              .inputs = same({"f", "centroids", "labels", "single"}),
                                              .attributes = same({"tau_multi", "tau_single", "smoothing", "multi_count"}),
                                              .results = loss,
                                              .more = {"--grad"}});
  for (const char* name : {"camera_centroid_ties", "camera_centroid_no_anchor"})
    check(Golden("losses", name), {.op = "camera_centroid_loss",
                                   .inputs = same({"f", "centroids", "centroid_labels", "centroid_cameras", "labels", "cameras"}),
                                   .attributes = {{"tau", "tau"}, {"hardest", "hard_negatives"}, {"own_camera", "include_own_camera"}},
                                   .results = loss,
                                   .more = {"--grad"}});
}

TEST_CASE("reid op: metric learning, parts, agreement") {
  check(Golden("clusters", "stripes_shared"), {.op = "stripe_pool",
                                               .inputs = same({"x", "dy"}),
                                               .attributes = same({"stripes"}),
                                               .results = same({"y", "dx"}),
                                               .more = {"--grad"}});
  for (const char* name : {"triplet_weighted", "triplet_normalized"})
    check(Golden("metric_losses", name), {.op = "triplet_loss",
                                          .inputs = same({"f", "labels"}),
                                          .attributes = same({"margin", "weighted", "normalize"}),
                                          .results = {{"y", "loss"}, {"df", "df"}},
                                          .more = {"--grad"}});
  check(Golden("metric_losses", "center"), {.op = "center_loss",
                                            .inputs = {{"f", "f"}, {"w", "centers"}, {"labels", "labels"}},
                                            .attributes = {},
                                            .results = {{"y", "loss"}, {"df", "df"}, {"dw", "dcenters"}},
                                            .more = {"--grad"}});
  check(Golden("clusters", "agreement_smoothing"), {.op = "agreement_smoothing_loss",
                                                    .inputs = same({"logits", "labels", "agreement"}),
                                                    .attributes = {},
                                                    .results = {{"y", "loss"}, {"df", "dlogits"}},
                                                    .more = {"--grad"}});
  check(Golden("clusters", "camera_over_batch"), {.op = "camera_centroid_loss",
                                                  .inputs = {{"f", "f"},
                                                             {"proxies", "centroids"},
                                                             {"labels", "centroid_labels"},
                                                             {"cameras", "centroid_cameras"},
                                                             {"labels", "labels"},
                                                             {"cameras", "cameras"}},
                                                  .attributes = {{"tau", "tau"}, {"hardest", "hard_negatives"}},
                                                  .results = {{"y", "loss"}, {"df", "df"}},
                                                  .more = {"over_batch=true", "--grad"}});
  check(Golden("clusters", "agreement_of_spaces"),
        {.op = "cross_agreement", .inputs = same({"a", "b"}), .attributes = same({"k"}), .results = same({"agreement"})});
}

TEST_CASE("reid op: the first step of each optimizer, the moving average") {
  // The goldens' first segment has no factors of its own.
  for (const char* name : {"adam", "adamw", "sgd_nesterov"}) {
    const Golden g("optimizers", name);
    const TemporaryFolder folder;
    NamedTensors inputs;
    inputs.add("w", g["w"].rows(0, 5).clone());
    inputs.add("g", g["g0"].rows(0, 5).clone());
    write_safetensors(folder / "in", inputs);
    std::vector<std::string> words = {"op",
                                      "run",
                                      name[0] == 's' ? "sgd" : name,
                                      "--in",
                                      folder / "in",
                                      "--out",
                                      folder / "out",
                                      "--set",
                                      "lr=" + number(g.number("lr0")),
                                      "decay=" + number(g.number("weight_decay"))};
    if (name[0] == 's') words.insert(words.end(), {"momentum=0.9", "nesterov=true"});
    const Outcome outcome = run_reid(words);
    REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
    CHECK(difference(read_safetensors(folder / "out").at("w"), g["w0"].rows(0, 5), 1e-13) == "");
  }
  check(Golden("optimizers", "ema_update"),
        {.op = "ema_update", .inputs = same({"average", "w"}), .attributes = same({"momentum"}), .results = {{"y", "average"}}});
}

TEST_CASE("reid op: a whole network with its gradients") {
  const Golden g("resnet18", "resnet18");
  const NamedTensors all = read_safetensors(REID_SOURCE_DIR "/data/golden/resnet18.safetensors");
  const auto ours = [](std::string name) {
    return name.starts_with("neck.") ? "bottleneck." + name.substr(5) : name.substr(std::string("backbone.").size());
  };
  const TemporaryFolder folder;
  NamedTensors inputs;
  Tensor images = Tensor::empty(g["pixels"].shape(), DType::f64);
  for (size_t i = 0; i < images.span<double>().size(); ++i) images.span<double>()[i] = g["pixels"].span<uint8_t>()[i] / 127.5 - 1;
  inputs.add("images", images);
  inputs.add("dy", g["dy"]);
  const std::string parameter = "resnet18/parameter/", buffer = "resnet18/buffer/";
  for (const auto& [name, t] : all.tensors) {
    if (name.starts_with(parameter)) inputs.add(ours(name.substr(parameter.size())), t);
    if (name.starts_with(buffer))
      inputs.add(ours(name.substr(buffer.size())), Tensor::full(t.shape(), name.ends_with("var") ? 1 : 0, DType::f64));
  }
  write_safetensors(folder / "in", inputs);
  const Outcome outcome = run_reid({"op", "run", "encoder", "--in", folder / "in", "--out", folder / "out", "--grad", "--set", "depth=18",
                                    "ibn=none", "last_stride=2", "width=4", "training=true"});
  REQUIRE_MESSAGE(outcome.status == 0, outcome.err);
  const NamedTensors results = read_safetensors(folder / "out");
  CHECK(difference(results.at("features"), g["features"], 1e-10) == "");
  CHECK(difference(results.at("dlayer3.0.downsample.0.weight"), g["gradient/backbone.layer3.0.downsample.0.weight"], 1e-10) == "");
  CHECK(difference(results.at("bn1.running_var"), g["buffer/backbone.bn1.running_var"], 1e-10) == "");
}

TEST_CASE("reid op: list and describe know every op the issue names") {
  const Outcome list = run_reid({"op", "list"});
  CHECK(list.status == 0);
  for (const std::string name : {"conv_forward",
                                 "conv_backward_data",
                                 "conv_backward_weight",
                                 "matmul",
                                 "batch_norm",
                                 "instance_norm",
                                 "ibn",
                                 "relu",
                                 "max_pool",
                                 "global_average_pool",
                                 "gem_pool",
                                 "linear",
                                 "l2_normalize",
                                 "cross_entropy",
                                 "instance_loss",
                                 "augmentation_loss",
                                 "centroid_loss",
                                 "camera_centroid_loss",
                                 "adam",
                                 "adamw",
                                 "sgd",
                                 "ema_update",
                                 "pairwise_distance",
                                 "jaccard_distance",
                                 "dbscan",
                                 "resize_bilinear",
                                 "resize_bicubic",
                                 "norm_statistics",
                                 "relu_backward",
                                 "one_positive_rows",
                                 "softmax_rows",
                                 "add",
                                 "column_sum"})
    CHECK_MESSAGE(("\n" + list.out).find("\n" + name + " ") != std::string::npos, name);
  const Outcome described = run_reid({"op", "describe", "conv_forward"});
  CHECK(described.status == 0);
  for (const char* part : {"[N, H, W, C]", "stride", "integer [1]", "reference", "[N, P, Q, K]"})
    CHECK_MESSAGE(described.out.find(part) != std::string::npos, part);
}

TEST_CASE("reid op: what is wrong is named") {
  const TemporaryFolder folder;
  NamedTensors good;
  good.add("x", normal_tensor("x", {2, 4, 4, 3}));
  good.add("w", normal_tensor("w", {5, 3, 3, 3}));
  write_safetensors(folder / "good", good);
  const auto fails = [&](int status, const std::string& part, std::vector<std::string> words) {
    words.insert(words.begin(), "op");
    const Outcome r = run_reid(words);
    CHECK_MESSAGE(r.status == status, r.err);
    CHECK_MESSAGE(r.says(part), r.err);
    CHECK(r.out.empty());
    CHECK(!std::filesystem::exists(folder / "out"));
  };
  const auto run = [&](const std::string& op, const std::string& in, std::vector<std::string> more = {}) {
    std::vector<std::string> words = {"run", op, "--in", folder / in, "--out", folder / "out"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  };
  fails(2, "did you mean 'matmul'?", {"describe", "matmull"});
  fails(2, "'frobnicate' is not one of list, describe, run", {"frobnicate"});
  fails(2, "needs the NAME", {"describe"});
  fails(2, "did you mean 'stride'?", run("conv_forward", "good", {"--set", "strid=2"}));
  fails(2, "stride takes an integer, not '1.5'", run("conv_forward", "good", {"--set", "stride=1.5"}));
  fails(2, "did you mean 'reference'?", run("conv_forward", "good", {"--impl", "referense"}));
  fails(2, "adam has no gradient", run("adam", "good", {"--grad"}));
  fails(1, "cannot open", run("conv_forward", "absent"));
  fails(1, "needs dy", run("conv_forward", "good", {"--grad"}));
  fails(1, "stride 0", run("conv_forward", "good", {"--set", "stride=0"}));
  fails(1, "has no input 'w'", run("relu", "good"));

  const auto with = [&](const std::string& name, const std::string& key, Tensor t) {
    NamedTensors content;
    for (const auto& [k, v] : good.tensors)
      if (k != key) content.add(k, v);
    if (t.defined()) content.add(key, t);
    write_safetensors(folder / name, content);
  };
  with("nameless", "w", Tensor());
  fails(1, "input 'w' [K, R, S, C/groups] of conv_forward is missing", run("conv_forward", "nameless"));
  with("flat", "w", normal_tensor("flat", {5, 27}));
  fails(1, "w [5, 27] does not fit [K, R, S, C/groups]", run("conv_forward", "flat"));
  with("narrow", "w", normal_tensor("narrow", {5, 3, 3, 3}, DType::f32));
  fails(1, "w is f32 but x is f64", run("conv_forward", "narrow"));
  with("extra", "weight", normal_tensor("extra", {1}));
  fails(1, "conv_forward has no input 'weight'", run("conv_forward", "extra"));
  with("integers", "w", Tensor::zeros({5, 3, 3, 3}, DType::i64));
  fails(1, "takes f32 or f64", run("conv_forward", "integers"));
  with("damaged", "w", Tensor());
  std::filesystem::resize_file(folder / "damaged", 100);
  fails(1, "damaged", run("conv_forward", "damaged"));
}

}  // namespace
}  // namespace reid::test
