// What Cluster Contrast and PPLR are made of, against PyTorch's goldens, and what each refuses.

#include "harness.h"
#include "reid/learning/cluster_memory.h"
#include "reid/learning/losses.h"
#include "reid/learning/losses_parts.h"

namespace reid::test {
namespace {

constexpr double kTight = 1e-10;

PartAgreement agreement_of(const Tensor& rows) {
  PartAgreement agreement;
  for (int64_t n = 0; n < rows.dim(0); ++n) {
    const Tensor row = rows.rows(n, n + 1);
    agreement.emplace_back(row.data<double>(), row.data<double>() + row.numel());
  }
  return agreement;
}

void check_gradient(const Golden& g, Tape& tape, const Var& leaf, const Var& y) {
  CHECK_MESSAGE(difference(y.value(), g["y"], kTight) == "", g.prefix());
  tape.backward(y);
  CHECK_MESSAGE(difference(tape.gradient(leaf), g["df"], kTight) == "", g.prefix(), " df");
}

TEST_CASE("golden: the cluster memory, its loss and its updates") {
  for (const Golden& g : golden_cases("clusters", "memory")) {
    const std::string update = g.prefix().substr(g.prefix().rfind('_') + 1);
    ClusterMemory memory(g["memory"].clone(), {.tau = g.number("tau"), .momentum = g.number("momentum"), .update = update});
    const std::vector<int64_t> labels = g.integers("labels");
    Tape tape;
    const Var f = tape.input(g["f"]), y = memory.loss(f, labels);
    memory.update(g["f"], labels);  // before backward: the gradient is that of the rows as they were
    check_gradient(g, tape, f, y);
    CHECK_MESSAGE(difference(memory.rows(), g["updated"], kTight) == "", g.prefix());
  }
}

TEST_CASE("golden: pseudo labels refined by parts and smoothed by agreement") {
  for (const Golden& g : golden_cases("clusters", "refined")) {
    Tape tape;
    const Var logits = tape.input(g["logits"]);
    std::vector<Var> parts;
    const Tensor& all = g["parts"];
    for (int64_t n = 0; n < all.dim(0); ++n) parts.push_back(tape.input(all.rows(n, n + 1).reshape(logits.shape())));
    check_gradient(g, tape, logits,
                   refined_label_loss(logits, parts, g.integers("labels"), agreement_of(g["agreement"]), g.number("beta")));
    for (const Var& part : parts) CHECK(difference(tape.gradient(part), Tensor::zeros(part.shape(), DType::f64), 0) == "");
  }
  const Golden g("clusters", "agreement_smoothing");
  Tape tape;
  const Var logits = tape.input(g["logits"]);
  const Tensor& a = g["agreement"];
  check_gradient(g, tape, logits, agreement_smoothing_loss(logits, g.integers("labels"), {a.data<double>(), a.data<double>() + a.numel()}));
}

TEST_CASE("golden: camera-aware proxies as a mean over the batch") {
  const Golden g("clusters", "camera_over_batch");
  const std::vector<int64_t> labels = g.integers("labels"), cameras = g.integers("cameras");
  Centroids proxies;
  proxies.rows = g["proxies"], proxies.labels = labels, proxies.cameras = cameras;
  Tape tape;
  const Var f = tape.input(g["f"]);
  const CameraCentroidLossOptions options{.tau = g.number("tau"), .hard_negatives = g.integer("hardest"), .over_batch = true};
  check_gradient(g, tape, f, camera_centroid_loss(f, proxies, {labels, cameras, std::vector<uint8_t>(labels.size())}, options));
}

TEST_CASE("golden: how far two spaces agree about neighbors") {
  for (const Golden& g : golden_cases("clusters", "agreement_of")) {
    const std::vector<double> found = cross_agreement(g["a"], g["b"], g.integer("k"));
    CHECK_MESSAGE(difference(Tensor::from(found), g["agreement"], 1e-15) == "", g.prefix());
  }
}

TEST_CASE("clusters: what makes no sense is refused") {
  const Tensor rows = Tensor::full({3, 2}, 0.5, DType::f64);
  CHECK_THROWS_AS(ClusterMemory(rows, {.tau = 0}), Error);
  CHECK_THROWS_AS(ClusterMemory(rows, {.momentum = 1.5}), Error);
  CHECK_THROWS_AS(ClusterMemory(rows, {.update = "some"}), Error);
  ClusterMemory memory(rows.clone(), {});
  CHECK_THROWS_AS(memory.update(Tensor::zeros({2, 2}, DType::f64), {0, 3}), Error);
  CHECK_THROWS_AS(memory.update(Tensor::zeros({2, 3}, DType::f64), {0, 1}), Error);
  CHECK_THROWS_AS(memory.loss(Var(Tensor::zeros({2, 2}, DType::f64)), {0, -1}), Error);
  const Var logits(Tensor::zeros({2, 3}, DType::f64));
  CHECK_THROWS_AS(agreement_smoothing_loss(logits, {0, 3}, {0.5, 0.5}), Error);
  CHECK_THROWS_AS(agreement_smoothing_loss(logits, {0, 1}, {0.5, 1.5}), Error);
  CHECK_THROWS_AS(refined_label_loss(logits, {logits}, {0, 1}, {}, 0.5), Error);
  CHECK_THROWS_AS(refined_label_loss(logits, {logits}, {0, 1}, {{0.5, 0.5}}, 2), Error);
  CHECK_THROWS_AS(cross_agreement(normal_tensor("a", {4, 2}), normal_tensor("b", {4, 3}), 4), Error);
  CHECK_THROWS_AS(cross_agreement(normal_tensor("a", {4, 2}), normal_tensor("b", {5, 2}), 1), Error);
}

TEST_CASE("clusters: a memory row that an update would cancel stays") {
  ClusterMemory memory(Tensor::from(std::vector<double>{1, 0}, {1, 2}), {.momentum = 0.5});
  memory.update(Tensor::from(std::vector<double>{-1, 0}, {1, 2}), {0});
  CHECK(memory.rows().data<double>()[0] == 1);
}

}  // namespace
}  // namespace reid::test
