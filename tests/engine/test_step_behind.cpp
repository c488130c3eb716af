// What an optimizer's step makes of the weights behind their update has the bits of the passes it stands for; and rounded copies are never
// older than the weights.

#include <string_view>
#include <utility>

#include "engine/fast_cpu.h"
#include "harness.h"
#include "reid/engine/optim.h"
#include "reid/engine/weight_cache.h"
#include "reid/formats/weights.h"
#include "reid/learning/state.h"

namespace reid::test {
namespace {

constexpr int64_t kCount = 70007;

// The middle one stands still; borders within vectors, tasks and blocks of threads.
std::vector<Segment> segments_of_three() {
  return {{.offset = 0, .count = 33001, .lr_factor = 2, .step = 3},
          {.offset = 33001, .count = 5003, .trainable = false, .step = 3},
          {.offset = 38004, .count = kCount - 38004, .decay_factor = 0, .step = 3}};
}

struct Buffers {
  Tensor w, g, first, second, average, rounded, average_rounded;
  Buffers()
      : w(random("w")),
        g(random("g")),
        first(random("first")),
        second(ops::multiply(w, w)),
        average(random("average")),
        rounded(Tensor::zeros({kCount}, DType::bf16)),
        average_rounded(Tensor::zeros({kCount}, DType::bf16)) {}
  static Tensor random(const char* name) { return normal_tensor(name, {kCount}, DType::f32); }
};

template <class Op>
typename Op::Args args_of(const Buffers& b, const std::vector<Segment>& segments) {
  typename Op::Args a{};
  a.w = b.w.raw(), a.g = b.g.raw(), a.v = b.first.raw();
  if constexpr (std::is_same_v<Op, AdamStep>) a.m = b.first.raw(), a.v = b.second.raw(), a.beta1 = 0.9, a.beta2 = 0.999, a.eps = 1e-8;
  if constexpr (std::is_same_v<Op, SgdStep>) a.momentum = 0.9;
  a.segments = segments.data(), a.segment_count = 3, a.lr = 0.1, a.decay = 0.01, a.dtype = DType::f32;
  return a;
}

// The moving average by the same kind of arithmetic.
void move_average(std::string_view step, const Buffers& b, double momentum) {
  const EmaArgs args{.average = b.average.raw(), .w = b.w.raw(), .count = kCount, .momentum = momentum, .dtype = DType::f32};
  for (const Impl<EmaUpdate>& impl : Registry::implementations<EmaUpdate>(DeviceType::cpu)) {
    if (std::string_view(impl.name).starts_with("emu:") != step.starts_with("emu:")) continue;
    return impl.run(args, current_stream(Device{}));
  }
  FAIL("no moving average beside ", step);
}

}  // namespace

TEST_CASE_TEMPLATE("a step's average, rounded copies and cleared gradients are those of passes of their own", Op, SgdStep, AdamStep) {
  initialize();
  const fast_test::Threads restore;
  const std::vector<Segment> segments = segments_of_three();
  for (const Impl<Op>& impl : Registry::implementations<Op>(DeviceType::cpu)) {
    const Buffers apart;
    impl.run(args_of<Op>(apart, segments), current_stream(Device{}));
    move_average(impl.name, apart, 0.7);
    for (const int threads : {1, 3}) {
      set_threads(threads);
      const Buffers together, some;
      auto args = args_of<Op>(together, segments);
      args.behind = {.average = together.average.raw(),
                     .momentum = 0.7,
                     .rounded = together.rounded.raw(),
                     .average_rounded = together.average_rounded.raw(),
                     .clear = true};
      impl.run(args, current_stream(Device{}));
      CHECK_MESSAGE(bitwise_equal(together.w, apart.w), impl.name);
      CHECK_MESSAGE(bitwise_equal(together.first, apart.first), impl.name);
      CHECK_MESSAGE(bitwise_equal(together.second, apart.second), impl.name);
      CHECK_MESSAGE(bitwise_equal(together.average, apart.average), impl.name);
      CHECK_MESSAGE(bitwise_equal(together.rounded, ops::cast(apart.w, DType::bf16)), impl.name);
      CHECK_MESSAGE(bitwise_equal(together.average_rounded, ops::cast(apart.average, DType::bf16)), impl.name);
      CHECK_MESSAGE(bitwise_equal(together.g, Tensor::zeros({kCount}, DType::f32)), impl.name);

      args = args_of<Op>(some, segments);
      args.behind.rounded = some.rounded.raw();  // and nothing else
      impl.run(args, current_stream(Device{}));
      CHECK_MESSAGE(bitwise_equal(some.rounded, together.rounded), impl.name);
      CHECK_MESSAGE(bitwise_equal(some.average, Buffers::random("average")), impl.name);
      CHECK_MESSAGE(bitwise_equal(some.g, Buffers::random("g")), impl.name);
    }
  }
}

namespace {

struct Student {
  Encoder encoder{{.backbone = {.depth = 18, .ibn = "a", .width = 4}, .precision = "bf16"}, DType::f32, Rng(5)};
  ParameterStore store;
  Optimizer optimizer;
  explicit Student(bool keep_rounded) : store(encoder, keep_rounded), optimizer(store, {}) {}

  Tensor embed(const Tensor& images) { return encoder(Var(images), inference_pass()).value(); }
  void step(const Tensor& images, const StepExtras& extras) {
    if (!extras.clear_gradients) store.zero_grad();
    Tape tape;
    tape.backward(sum(encoder(Var(images), training_pass(tape))));
    optimizer.step(store, 0.01, extras);
  }
};

}  // namespace

TEST_CASE("kept copies of filters in bf16 train like those that are rounded in every pass, and follow what writes the weights") {
  const Tensor images = normal_tensor("images", {4, 32, 16, 3}, DType::f32);
  Student kept(true), rounding(false), kept_average(true), average(false);
  CHECK(kept.store.rounded().dtype() == DType::bf16);
  CHECK(!rounding.store.rounded().defined());
  for (int i = 0; i < 3; ++i) {
    kept.step(images, {.average = &kept_average.store, .momentum = 0.6, .clear_gradients = true});
    rounding.step(images, {});
    ema_update(average.store, rounding.store, 0.6);
    CHECK(bitwise_equal(kept.store.values(), rounding.store.values()));
    CHECK(bitwise_equal(kept_average.store.values(), average.store.values()));
    CHECK(bitwise_equal(kept.embed(images), rounding.embed(images)));
    CHECK(bitwise_equal(kept_average.embed(images), average.embed(images)));
  }
  // A moving average by itself, a state that is read and a module that is copied.
  ema_update(kept_average.store, kept.store, 0.5);
  ema_update(average.store, rounding.store, 0.5);
  CHECK(bitwise_equal(kept_average.embed(images), average.embed(images)));
  State writes;
  writes.module("encoder", kept.encoder);
  State reads(writes.take());
  reads.module("encoder", kept_average.encoder);
  CHECK(bitwise_equal(kept_average.embed(images), kept.embed(images)));
  copy_state(inventory(average.encoder), inventory(kept.encoder));
  CHECK(bitwise_equal(kept.embed(images), average.embed(images)));
  // Weights that are loaded; a module that leaves its store, whose copies then follow it no more.
  load_weights(inventory(kept.encoder), module_weights(inventory(rounding.encoder)));
  CHECK(bitwise_equal(kept.embed(images), rounding.embed(images)));
  move_to(Device{}, inventory(kept_average.encoder));
  for (const NamedParameter& p : inventory(kept_average.encoder).parameters) CHECK_MESSAGE(!p.parameter->rounded.defined(), p.name);
  CHECK_THROWS_WITH_AS(kept.step(images, {.average = &average.store, .momentum = 2}), doctest::Contains("momentum 2"), Error);
  Parameter wide{.value = Tensor::zeros({3}, DType::f64), .grad = {}};
  Inventory module;
  module.parameters.push_back({"wide", &wide});
  CHECK_THROWS_WITH_AS(ParameterStore(std::as_const(module), true), doctest::Contains("of f32 only"), Error);
}

// What is rounded in a pass is gone after it, and its place becomes another filter's.
TEST_CASE("a cache of what is made of weights knows kept copies of filters in bf16, and none that are rounded in a pass") {
  const Tensor images = normal_tensor("images", {2, 32, 16, 3}, DType::f32);
  for (const bool keeps : {true, false}) {
    Student student(keeps);
    const Tensor expected = student.embed(images);
    WeightCache cache;
    Pass pass = inference_pass();
    pass.cache = &cache;
    for (int i = 0; i < 2; ++i) CHECK(bitwise_equal(student.encoder(Var(images), pass).value(), expected));
    CHECK((cache.bytes() > 0) == keeps);
  }
}

}  // namespace reid::test
