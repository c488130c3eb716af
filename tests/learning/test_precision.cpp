// Networks in bf16 beside the same in f32: gradients, the course of training, and what a run says and keeps of it.

#include <cmath>

#include "harness.h"
#include "reid/learning/losses.h"
#include "reid/learning/supervised.h"

namespace reid::test {
namespace {

struct Student {
  Encoder encoder;
  IdentityRows classifier;
  void fields(Fields& f) {
    f.child("encoder", encoder);
    f.child("classifier", classifier);
  }
};

constexpr int64_t kClasses = 8, kBatch = 16;

Student make_student(const std::string& precision) {
  const EncoderConfig config{.backbone = {.depth = 18, .ibn = "none", .width = 8}, .precision = precision};
  Student student{Encoder(config, DType::f32, Rng(3)), {}};
  student.classifier = IdentityRows(kClasses, student.encoder.features(), 0.01, Rng(4));
  return student;
}

std::vector<int64_t> labels() {
  std::vector<int64_t> all;
  for (int64_t i = 0; i < kBatch; ++i) all.push_back(i % kClasses);
  return all;
}

// An image of each class and as much noise.
Tensor images_of(int64_t step) {
  const Shape image{1, 64, 32, 3};
  const Tensor batch = Tensor::empty({kBatch, 64, 32, 3}, DType::f32);
  for (int64_t i = 0; i < kBatch; ++i) {
    const Tensor drawn = normal_tensor(str("class ", i % kClasses), image, DType::f32),
                 noise = normal_tensor(str(step, " ", i), image, DType::f32);
    batch.rows(i, i + 1).copy_from(ops::add(drawn, noise));
  }
  return batch;
}

Var loss_of(Student& student, Tape& tape, const Tensor& images) {
  const Var f = student.encoder(Var(images), training_pass(tape));
  return cross_entropy(linear(f, tape.watch(student.classifier.weight), Var()), labels());
}

double length(const Tensor& t) {
  double squares = 0;
  for (const double v : t.to(DType::f64).span<double>()) squares += v * v;
  return std::sqrt(squares);
}

// The gradient of every trainable parameter after one pass. `noise` moves the weights, each by a random factor of as much.
std::vector<Tensor> gradients(const std::string& precision, double noise, uint64_t seed) {
  Student student = make_student(precision);
  Rng rng(seed);
  std::vector<Tensor> all;
  for (const auto& [name, p] : inventory(student).parameters) {
    for (float& w : p->value.span<float>()) w *= static_cast<float>(1 + noise * rng.uniform(-1, 1));
  }
  Tape tape;
  tape.backward(loss_of(student, tape, images_of(0)));
  for (const auto& [name, p] : inventory(student).parameters) {
    if (p->trainable) all.push_back(p->grad);
  }
  return all;
}

// Rounding a filter and what it meets to bf16 errs, at each of them, like weights that are off by up to 2^-8. So the bound is measured: how
// far such weights move the gradients, the largest of three draws, and half as much again for the gradients, which are rounded as well.
// It stays below a gradient's own length, by which one that is lost or doubled is off.
TEST_CASE("precision: gradients in bf16 are those in f32 of slightly other weights") {
  const std::vector<Tensor> exact = gradients("f32", 0, 0), rounded = gradients("bf16", 0, 0);
  std::vector<double> moved(exact.size());
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const std::vector<Tensor> other = gradients("f32", 0x1p-8, seed);
    for (size_t i = 0; i < exact.size(); ++i) moved[i] = std::max(moved[i], length(ops::add(other[i], exact[i], -1)));
  }
  for (size_t i = 0; i < exact.size(); ++i) {
    CHECK(rounded[i].dtype() == DType::f32);
    const double error = length(ops::add(rounded[i], exact[i], -1)), whole = length(exact[i]);
    CHECK_MESSAGE(error > 0, "tensor ", i, ": nothing was rounded");
    CHECK_MESSAGE(error <= 2 * moved[i], "tensor ", i, " ", exact[i].shape(), ": ", error / whole, " against ", moved[i] / whole);
    CHECK_MESSAGE(1.5 * moved[i] < whole, "tensor ", i, " ", exact[i].shape(), ": the bound says nothing: ", moved[i] / whole);
  }
}

// Losses of some steps with Adam. `noise` moves the first weights, `share` is what the residual blocks get of their gradients.
std::vector<double> course(const std::string& precision, double noise, double share) {
  Student student = make_student(precision);
  Rng rng(5);
  for (const auto& [name, p] : inventory(student).parameters) {
    for (float& w : p->value.span<float>()) w *= static_cast<float>(1 + noise * rng.uniform(-1, 1));
  }
  ParameterStore store(student);
  Optimizer adam(store, {.decay = 0});
  std::vector<double> losses;
  for (int64_t step = 0; step < 16; ++step) {
    Tape tape;
    const Var loss = loss_of(student, tape, images_of(step % 4));
    losses.push_back(loss.value().item());
    store.zero_grad();
    tape.backward(loss);
    for (const auto& [name, p] : inventory(student).parameters) {
      if (name.starts_with("encoder.layer")) p->grad.copy_from(ops::scale(p->grad, share));
    }
    adam.step(store, 2e-3);
  }
  return losses;
}

double apart(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += std::abs(a[i] - b[i]);
  return sum / static_cast<double>(a.size());
}

// As far from f32 as weights that are off by a rounding at the start; without the gradients of its blocks it would be another course.
TEST_CASE("precision: training in bf16 takes the course it takes in f32") {
  const std::vector<double> exact = course("f32", 0, 1), rounded = course("bf16", 0, 1);
  const double bound = 1.5 * apart(exact, course("f32", 0x1p-8, 1)), lost = apart(exact, course("f32", 0, 0));
  CHECK(exact.back() < 0.5 * exact.front());
  CHECK(apart(exact, rounded) > 0);
  CHECK(apart(exact, rounded) <= bound);
  CHECK(lost > 10 * bound);
}

}  // namespace
}  // namespace reid::test
