// Networks in bf16 beside the same in f32: gradients, the course of training, and what a run says and keeps of it.

#include <cmath>

#include "harness.h"
#include "learning/small_run.h"
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
  const EncoderConfig config{.backbone = {.depth = 18, .ibn = "a", .width = 8}, .precision = precision};
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
  const Shape image{1, 32, 16, 3};
  const Tensor batch = Tensor::empty({kBatch, 32, 16, 3}, DType::f32);
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
    MESSAGE(i, " ", exact[i].shape(), " error ", error / whole, " moved ", moved[i] / whole);
  }
}

// Losses of some steps with Adam. `lost`: the gradients of parameters whose name begins so are lost.
std::vector<double> course(const std::string& precision, const std::string& lost) {
  Student student = make_student(precision);
  ParameterStore store(student);
  Optimizer adam(store, {.decay = 0});
  std::vector<double> losses;
  for (int64_t step = 0; step < 40; ++step) {
    Tape tape;
    const Var loss = loss_of(student, tape, images_of(step));
    losses.push_back(loss.value().item());
    store.zero_grad();
    tape.backward(loss);
    if (!lost.empty()) {
      for (const auto& [name, p] : inventory(student).parameters)
        if (name.starts_with(lost)) p->grad.fill(0);
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

TEST_CASE("precision: training in bf16 takes the course it takes in f32") {
  const std::vector<double> f32 = course("f32", ""), bf16s = course("bf16", "");
  for (size_t i = 0; i < f32.size(); i += 3) MESSAGE(i, " ", f32[i], " ", bf16s[i]);
  MESSAGE("apart ", apart(f32, bf16s));
  for (const char* lost : {"encoder.conv1", "encoder.layer1", "encoder.layer2", "encoder.layer3", "encoder.layer4"})
    MESSAGE(lost, " ", apart(f32, course("f32", lost)));
}

}  // namespace
}  // namespace reid::test
