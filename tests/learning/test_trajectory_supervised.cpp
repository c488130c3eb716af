// Ten steps of supervised training wholly in double against PyTorch: the strong baseline with centers, and SBS, its backbone frozen at
// first, on a batch norm over two groups.

#include "golden_network.h"
#include "reid/engine/optim.h"
#include "reid/learning/losses.h"
#include "reid/learning/supervised.h"

namespace reid::test {
namespace {

constexpr double kClose = 1e-8;

struct Student {
  Encoder encoder;
  IdentityRows classifier;
  void fields(Fields& f) {
    f.child("encoder", encoder);
    f.child("classifier", classifier);
  }
};

void check_case(const Golden& g) {
  Student student;
  student.encoder = Encoder({.backbone = {.depth = 18, .ibn = "none", .last_stride = 1, .width = 4}}, DType::f64, Rng(0));
  load_golden(inventory(student.encoder), g, "initial");
  student.classifier.weight.value = g["classifier"].clone();
  IdentityRows centers;
  centers.weight.value = g["centers"].clone();
  ParameterStore store(student), center_store(centers);
  Optimizer adam(store, {.kind = "adam", .decay = g.number("decay")}), sgd(center_store, {.kind = "sgd", .decay = 0, .momentum = 0});

  ModelSettings model;
  model.bn_groups = g.integer("groups");
  model.bn_running = "first";
  const std::vector<int64_t> labels = g.integers("labels");
  const Tensor images = scaled_images(g["images"]);
  const int64_t batch = static_cast<int64_t>(labels.size());
  const double center_weight = g.number("center_weight");
  for (int64_t step = 0; step < g.integer("steps"); ++step) {
    const int64_t first = step % g.integer("batches") * batch;
    Tape tape;
    const bool frozen = step < g.integer("frozen");
    const Pass pass = model.training(&tape), backbone = frozen ? model.inference() : pass;
    const Encoder::Sides f = student.encoder.sides(Var(images.rows(first, first + batch)), pass, backbone);
    const Var rows = tape.watch(student.classifier.weight), metric = g.flag("after") ? f.after : f.before;
    const Var logits = g.flag("circle") ? circle_classifier(f.after, rows, labels, {}) : linear(f.after, rows, Var());
    const double smoothing = g.number("smoothing");
    const Var id = cross_entropy(logits, labels, g.flag("others") ? smoothing_over_others(smoothing, logits.shape()[1]) : smoothing);
    const Var triplet = triplet_loss(metric, labels, {.margin = g.number("margin")});
    const Var center = scale(center_loss(metric, tape.watch(centers.weight), labels), center_weight);
    store.zero_grad();
    center_store.zero_grad();
    tape.backward(add(add(id, triplet), center));
    store.freeze(Encoder::backbone_prefixes("encoder."), frozen);
    adam.step(store, g.number("lr"));
    if (center_weight > 0) sgd.step(center_store, g.number("center_lr") / center_weight);
    const Tensor now = Tensor::from(std::vector<double>{id.value().item(), triplet.value().item(), center.value().item()}, Shape{1, 3});
    CHECK_MESSAGE(difference(now, g["losses"].rows(step, step + 1), kClose) == "", g.prefix(), " step ", step);
  }
  const Inventory state = inventory(student.encoder);
  for (const NamedParameter& entry : state.parameters) {
    const double floor = entry.parameter->trainable ? 0 : 1;  // the frozen bias is zero
    const Tensor& want = g["last/" + golden_name(entry.name)];
    CHECK_MESSAGE(difference(filters_to_file(entry.parameter->value), want, kClose, floor) == "", g.prefix(), " ", entry.name);
  }
  for (const NamedBuffer& entry : state.buffers)
    CHECK_MESSAGE(difference(*entry.tensor, g["buffer/" + golden_name(entry.name)], kClose) == "", g.prefix(), " ", entry.name);
  CHECK_MESSAGE(difference(student.classifier.weight.value, g["last_classifier"], kClose) == "", g.prefix());
  CHECK_MESSAGE(difference(centers.weight.value, g["last_centers"], kClose) == "", g.prefix());
}

TEST_CASE("golden: ten steps of supervised training in double") {
  check_case(Golden("trajectory_strong_baseline", "strong_baseline"));
  check_case(Golden("trajectory_sbs", "sbs"));
}

}  // namespace
}  // namespace reid::test
