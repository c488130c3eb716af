// Ten steps of Cluster Contrast and of PPLR wholly in double against PyTorch.

#include "golden_network.h"
#include "reid/engine/optim.h"
#include "reid/learning/cluster_memory.h"
#include "reid/learning/losses.h"
#include "reid/learning/losses_metric.h"
#include "reid/learning/losses_parts.h"
#include "reid/learning/settings.h"

namespace reid::test {
namespace {

constexpr double kClose = 1e-8;
const EncoderConfig kEncoder{.backbone = {.depth = 18, .ibn = "none", .last_stride = 1, .width = 4}};

void check_last(const Inventory& network, const Golden& g) {
  for (const NamedParameter& entry : network.parameters) {
    if (entry.name.starts_with("classifier")) continue;
    const double floor = entry.parameter->trainable ? 0 : 1;  // the frozen bias is zero
    const Tensor& want = g["last/" + golden_name(entry.name)];
    CHECK_MESSAGE(difference(filters_to_file(entry.parameter->value), want, kClose, floor) == "", g.prefix(), " ", entry.name);
  }
  for (const NamedBuffer& entry : network.buffers)
    CHECK_MESSAGE(difference(*entry.tensor, g["buffer/" + golden_name(entry.name)], kClose) == "", g.prefix(), " ", entry.name);
}

Tensor images_of(const Golden& g, const Tensor& images, int64_t step, int64_t batch) {
  const int64_t first = step % g.integer("batches") * batch;
  return images.rows(first, first + batch);
}

TEST_CASE("golden: ten steps of Cluster Contrast in double") {
  const Golden g("trajectory_cluster_contrast", "cluster_contrast");
  Encoder encoder(kEncoder, DType::f64, Rng(0));
  load_golden(inventory(encoder), g, "initial");
  ParameterStore store(encoder);
  Optimizer adam(store, {.kind = "adam", .decay = g.number("decay")});
  ClusterMemory memory(g["memory"].clone(), {.tau = g.number("tau"), .momentum = g.number("momentum")});
  const std::vector<int64_t> labels = g.integers("labels");
  const Tensor images = scaled_images(g["images"]);
  for (int64_t step = 0; step < g.integer("steps"); ++step) {
    Tape tape;
    const Var f = l2_normalize(encoder(Var(images_of(g, images, step, 12)), training_pass(tape)));
    const Var loss = memory.loss(f, labels);
    store.zero_grad();
    tape.backward(loss);
    memory.update(f.value(), labels);
    adam.step(store, g.number("lr"));
    CHECK_MESSAGE(difference(loss.value().reshape({1}), g["losses"].rows(step, step + 1), kClose) == "", "step ", step);
  }
  check_last(inventory(encoder), g);
  CHECK(difference(memory.rows(), g["last_memory"], kClose) == "");
}

struct Student {
  PartEncoder encoder;
  std::vector<Parameter> classifiers;
  void fields(Fields& f) {
    encoder.fields(f);
    for (size_t n = 0; n < classifiers.size(); ++n) f.parameter(str("classifier.", n).c_str(), classifiers[n]);
  }
};

// View n of a golden's [4, rows, columns].
Tensor view_of(const Tensor& all, size_t n) {
  const int64_t view = static_cast<int64_t>(n);
  return all.rows(view, view + 1).reshape({all.dim(1), all.dim(2)});
}

TEST_CASE("golden: ten steps of PPLR in double") {
  const Golden g("trajectory_pplr", "pplr");
  Student student;
  student.encoder = PartEncoder(kEncoder, 3, DType::f64, Rng(0));
  load_golden(inventory(student.encoder), g, "initial");
  constexpr int64_t kSpare = 2;  // rows of the classifiers that no cluster has
  const int64_t clusters = g["classifiers"].dim(1), width = g["classifiers"].dim(2);
  std::vector<Centroids> proxies(4);
  for (size_t n = 0; n < 4; ++n) {
    student.classifiers.push_back({.value = Tensor::zeros({clusters + kSpare, width}, DType::f64), .grad = {}});
    student.classifiers[n].value.rows(0, clusters).copy_from(view_of(g["classifiers"], n));
    proxies[n].rows = view_of(g["proxies"], n);
    proxies[n].labels = g.integers("proxy_labels");
    proxies[n].cameras = g.integers("proxy_cameras");
  }
  ParameterStore store(student);
  Optimizer adam(store, {.kind = "adam", .decay = g.number("decay")});

  ModelSettings model;
  model.bn_groups = g.integer("groups");
  model.bn_running = "first";
  const BatchPeople who{g.integers("labels"), g.integers("cameras"), std::vector<uint8_t>(12)};
  const std::vector<int64_t>& labels = who.labels;
  PartAgreement agreement;
  for (int64_t n = 0; n < 3; ++n) {
    const Tensor row = g["agreement"].rows(n, n + 1);
    agreement.emplace_back(row.data<double>(), row.data<double>() + 12);
  }
  const CameraCentroidLossOptions camera{.tau = g.number("tau"), .hard_negatives = g.integer("hardest"), .over_batch = true};
  const Tensor images = scaled_images(g["images"]);
  for (int64_t step = 0; step < g.integer("steps"); ++step) {
    Tape tape;
    const std::vector<Var> views = student.encoder(Var(images_of(g, images, step, 12)), model.training(&tape));
    std::vector<Var> logits;
    Var parts, seen;
    for (size_t n = 0; n < 4; ++n) {
      logits.push_back(linear(views[n], rows(tape.watch(student.classifiers[n]), 0, clusters), Var()));
      const Var by_camera = camera_centroid_loss(l2_normalize(views[n]), proxies[n], who, camera);
      seen = n == 0 ? by_camera : add(seen, by_camera, 1.0 / 3);
      if (n == 0) continue;
      const Var part = step < 5 ? cross_entropy(logits[n], labels, g.number("smoothing"))
                                : agreement_smoothing_loss(logits[n], labels, agreement[n - 1]);
      parts = n == 1 ? scale(part, 1.0 / 3) : add(parts, part, 1.0 / 3);
    }
    const Var refined = refined_label_loss(logits[0], {logits.begin() + 1, logits.end()}, labels, agreement, g.number("beta"));
    const Var triplet = triplet_loss(views[0], labels, {.margin = 0});
    const Var cameras = scale(seen, g.number("camera_weight"));
    store.zero_grad();
    tape.backward(add(add(add(refined, triplet), parts), cameras));
    adam.step(store, g.number("lr"));
    const std::vector<double> now = {refined.value().item(), triplet.value().item(), parts.value().item(), cameras.value().item()};
    CHECK_MESSAGE(difference(Tensor::from(now, Shape{1, 4}), g["losses"].rows(step, step + 1), kClose) == "", "step ", step);
  }
  check_last(inventory(student), g);
  for (size_t n = 0; n < 4; ++n) {
    const Tensor& rows = student.classifiers[n].value;
    CHECK(difference(rows.rows(0, clusters), view_of(g["last_classifiers"], n), kClose) == "");
    CHECK(difference(rows.rows(clusters, clusters + kSpare), Tensor::zeros({kSpare, width}, DType::f64), 0) == "");
  }
}

}  // namespace
}  // namespace reid::test
