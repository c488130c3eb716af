// Ten steps of ReMix training wholly in double against PyTorch: parameters, the teacher's buffers, the losses of every step.

#include "golden_network.h"
#include "reid/engine/optim.h"
#include "reid/learning/losses.h"

namespace reid::test {
namespace {

constexpr double kClose = 1e-8;

struct Losses {
  Var instance, augmentation, centroid, camera;
};

Losses losses_of(const Golden& g, const Var& f, const Tensor& m) {
  BatchPeople people;
  const auto labels = g["labels"].span<int64_t>(), cameras = g["cameras"].span<int64_t>();
  people.labels.assign(labels.begin(), labels.end());
  people.cameras.assign(cameras.begin(), cameras.end());
  people.cameras.resize(people.labels.size());
  people.single.assign(g["single"].span<uint8_t>().begin(), g["single"].span<uint8_t>().end());
  const auto centroid_labels = g["centroid_labels"].span<int64_t>(), centroid_cameras = g["centroid_cameras"].span<int64_t>();
  const Centroids views{.rows = g["camera_centroids"],
                        .labels = {centroid_labels.begin(), centroid_labels.end()},
                        .cameras = {centroid_cameras.begin(), centroid_cameras.end()},
                        .counts = std::vector<int64_t>(centroid_labels.size(), 1)};
  return {instance_loss(f, m, people, {.tau_multi = g.number("tau_ins_multi"), .tau_single = g.number("tau_ins_single"), .scope = {}}),
          augmentation_loss(f, m, people, {.tau = g.number("tau_aug"), .scope = {}}),
          centroid_loss(f, g["centroids"], g.integer("multi_count"), people,
                        {.tau_multi = g.number("tau_cen_multi"), .tau_single = g.number("tau_cen_single"), .scope = {}}),
          scale(camera_centroid_loss(f, views, people, {.tau = g.number("tau_cc"), .hard_negatives = g.integer("hardest")}),
                g.number("lambda_cc"))};
}

void check_state(const Inventory& module, const Golden& g, const std::string& who) {
  for (const NamedParameter& entry : module.parameters) {
    const std::string key = who + "/" + golden_name(entry.name);
    const double floor = entry.parameter->trainable ? 0 : 1;  // the frozen bias is zero
    CHECK_MESSAGE(difference(filters_to_file(entry.parameter->value), g[key], kClose, floor) == "", key);
  }
  for (const NamedBuffer& entry : module.buffers) {
    const std::string key = who + "_buffer/" + golden_name(entry.name);
    CHECK_MESSAGE(difference(*entry.tensor, g[key], kClose) == "", key);
  }
}

TEST_CASE("golden: ten training steps in double") {
  const Golden g("trajectory", "trajectory");
  const EncoderConfig config{.backbone = {.depth = 18, .ibn = "none", .last_stride = 1, .width = 4}};
  Encoder student(config, DType::f64, Rng(0)), teacher(config, DType::f64, Rng(1));
  const Inventory student_state = inventory(student), teacher_state = inventory(teacher);
  load_golden(student_state, g, "initial");
  copy_state(student_state, teacher_state);
  ParameterStore student_store(student_state), teacher_store(teacher_state);
  Optimizer adam(student_store, {.kind = "adam", .decay = g.number("decay")});
  const Schedule schedule{.lr = g.number("lr"), .kind = "constant", .warmup_epochs = 10, .warmup_factor = 0.1};  // a step is an epoch here
  const Tensor augmented = scaled_images(g["augmented"]), original = scaled_images(g["original"]);
  const int64_t batch = g["labels"].numel();
  for (int64_t step = 0; step < g.integer("steps"); ++step) {
    const int64_t first = step % g.integer("batches") * batch;
    Tape tape;
    const Var f = l2_normalize(student(Var(augmented.rows(first, first + batch)), training_pass(tape)));
    const Tensor m = ops::l2_normalize(teacher(Var(original.rows(first, first + batch)), own_statistics_pass()).value()).y;
    const Losses losses = losses_of(g, f, m);
    student_store.zero_grad();
    tape.backward(add(add(losses.instance, losses.augmentation), add(losses.centroid, losses.camera)));
    CHECK(schedule.at(static_cast<double>(step)) == doctest::Approx(g["lrs"].span<double>()[static_cast<size_t>(step)]).epsilon(1e-14));
    adam.step(student_store, schedule.at(static_cast<double>(step)));
    ema_update(teacher_store, student_store, g.number("ema"));
    const Tensor now = Tensor::from(std::vector<double>{losses.instance.value().item(), losses.augmentation.value().item(),
                                                        losses.centroid.value().item(), losses.camera.value().item()},
                                    Shape{1, 4});
    CHECK_MESSAGE(difference(now, g["losses"].rows(step, step + 1), kClose) == "", "step ", step);
  }
  check_state(student_state, g, "student");
  check_state(teacher_state, g, "teacher");
}

}  // namespace
}  // namespace reid::test
