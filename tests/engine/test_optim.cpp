// Optimizers against PyTorch, the flat store, the moving average, schedules.

#include "harness.h"
#include "reid/engine/optim.h"

namespace reid::test {
namespace {

// Three parameters, the middle one frozen, as in the goldens.
struct Three {
  Parameter a, b, c;
  void fields(Fields& f) {
    f.parameter("a", a);
    f.parameter("b", b);
    f.parameter("c", c);
  }
};

Three three_from(const Golden& g) {
  Three module;
  Parameter* parts[] = {&module.a, &module.b, &module.c};
  int64_t begin = 0;
  for (size_t i = 0; i < 3; ++i) {
    const int64_t count = g["counts"].span<int64_t>()[i];
    parts[i]->value = g["w"].rows(begin, begin + count).clone();
    parts[i]->lr_factor = g["lr_factors"].span<double>()[i];
    parts[i]->decay_factor = g["decay_factors"].span<double>()[i];
    begin += count;
  }
  module.b.trainable = false;
  return module;
}

TEST_CASE("golden: optimizers") {
  for (const Golden& g : golden_cases("optimizers")) {
    if (g.prefix() == "ema_update") continue;
    OptimizerConfig config;
    config.kind = g.prefix().substr(0, g.prefix().find('_'));
    config.decay = g.number("weight_decay");
    if (config.kind == "sgd") {
      config.momentum = g.number("momentum");
      config.nesterov = g.flag("nesterov");
    } else {
      config.beta1 = g.number("beta1"), config.beta2 = g.number("beta2"), config.eps = g.number("eps");
    }
    Three module = three_from(g);
    ParameterStore store(module);
    Optimizer optimizer(store, config);
    for (int64_t step = 0; step < g.integer("steps"); ++step) {
      store.grads().copy_from(g[str("g", step)]);
      optimizer.step(store, g.number(str("lr", step)));
      CHECK_MESSAGE(difference(store.values(), g[str("w", step)], 1e-13) == "", g.prefix(), " step ", step);
    }
    CHECK(bitwise_equal(module.b.value, g["w"].rows(5, 8)));  // frozen, and still the store's window
  }
}

TEST_CASE("golden: ema_update") {
  const Golden g("optimizers", "ema_update");
  Three average, source;
  for (Three* m : {&average, &source}) {
    const Tensor& values = m == &average ? g["average"] : g["w"];
    m->a.value = values.rows(0, 5).clone(), m->b.value = values.rows(5, 8).clone(), m->c.value = values.rows(8, 13).clone();
  }
  ParameterStore to(average), from(source);
  ema_update(to, from, g.number("momentum"));
  CHECK(difference(to.values(), g["y"], 1e-14) == "");
  CHECK(bitwise_equal(from.values(), g["w"]));
  CHECK_THROWS_AS(ema_update(to, from, 1.5), Error);
}

TEST_CASE("parameter store: one buffer, the module's tensors are windows of it") {
  Three module;
  module.a.value = Tensor::full({2, 3}, 1, DType::f32), module.b.value = Tensor::full({4}, 2, DType::f32),
  module.c.value = Tensor::full({1}, 3, DType::f32);
  ParameterStore store(module);
  CHECK(store.values().shape() == Shape{11});
  CHECK(module.a.value.shape() == Shape{2, 3});
  store.values().fill(7);
  CHECK(module.c.value.item() == 7);
  module.b.grad.fill(5);
  CHECK(store.grads().span<float>()[6] == 5);
  CHECK(store.grads().span<float>()[0] == 0);
  store.zero_grad();
  CHECK(store.grads().span<float>()[6] == 0);
  REQUIRE(store.segments().size() == 3);
  CHECK(store.segments()[1].offset == 6);
  CHECK(store.segments()[1].count == 4);
  Three mixed = module;
  mixed.c.value = Tensor::zeros({1}, DType::f64);
  CHECK_THROWS_AS(ParameterStore{mixed}, Error);
  CHECK_THROWS_AS(Optimizer(store, {.kind = "adagrad"}), Error);
}

TEST_CASE("optimizers converge: a quadratic bowl") {
  for (const std::string kind : {"adam", "adamw", "sgd"}) {
    Three module;
    module.a.value = normal_tensor("bowl", {5}), module.b.value = Tensor::zeros({1}, DType::f64),
    module.c.value = Tensor::zeros({1}, DType::f64);
    ParameterStore store(module);
    Optimizer optimizer(store, {.kind = kind, .decay = 0});
    for (int step = 0; step < 600; ++step) {
      store.grads().copy_from(store.values());
      optimizer.step(store, 0.02);
    }
    for (const double w : store.values().span<double>()) CHECK_MESSAGE(std::abs(w) < 1e-2, kind);
  }
}

TEST_CASE("schedules") {
  const Schedule step{
      .lr = 2, .kind = "step", .epochs = 100, .warmup_epochs = 10, .warmup_factor = 0.1, .milestones = {40, 70}, .gamma = 0.1};
  CHECK(step.at(0) == doctest::Approx(0.2).epsilon(1e-15));
  CHECK(step.at(5) == doctest::Approx(2 * (0.1 * 0.5 + 0.5)).epsilon(1e-15));
  CHECK(step.at(10) == 2);
  CHECK(step.at(39.9) == 2);
  CHECK(step.at(40) == doctest::Approx(0.2).epsilon(1e-15));
  CHECK(step.at(70) == doctest::Approx(0.02).epsilon(1e-15));
  const Schedule constant{.lr = 3, .kind = "constant", .warmup_epochs = 0};
  CHECK(constant.at(0) == 3);
  CHECK(constant.at(1000) == 3);
  const Schedule cosine{.lr = 1, .kind = "cosine", .epochs = 30, .warmup_epochs = 10, .final_factor = 0.01};
  CHECK(cosine.at(10) == doctest::Approx(1).epsilon(1e-15));
  CHECK(cosine.at(20) == doctest::Approx(0.01 + 0.99 * 0.5).epsilon(1e-15));
  CHECK(cosine.at(30) == doctest::Approx(0.01).epsilon(1e-12));
  CHECK(cosine.at(99) == doctest::Approx(0.01).epsilon(1e-12));
  double before = 2;
  for (int i = 100; i <= 300; ++i) {
    CHECK(cosine.at(i / 10.0) <= before);
    before = cosine.at(i / 10.0);
  }
  CHECK_THROWS_AS(static_cast<void>(Schedule{.kind = "linear"}.at(50)), Error);
}

}  // namespace
}  // namespace reid::test
