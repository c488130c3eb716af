// The tape: what is recorded, what is freed, where gradients go.

#include <memory>

#include "harness.h"

namespace reid::test {
namespace {

TEST_CASE("tape: constants record nothing") {
  Tape tape;
  const Var a(normal_tensor("a", {3, 3}));
  const Var y = relu(matmul(a, a));
  CHECK(y.tape() == nullptr);
  CHECK(y.node() == -1);
  CHECK(tape.size() == 0);
  Parameter frozen{.value = normal_tensor("w", {3, 3}), .grad = {}, .trainable = false};
  CHECK(tape.watch(frozen).tape() == nullptr);
  CHECK(tape.size() == 0);
  const Var x = tape.input(a.value());
  CHECK(matmul(x, a).tape() == &tape);
  CHECK(tape.size() == 2);
}

TEST_CASE("tape: a cast's gradient is cast back") {
  Tape tape;
  const Var x = tape.input(Tensor::full({2}, 1 + 0x1p-9, DType::f32)), y = cast(x, DType::bf16);
  CHECK(y.value().dtype() == DType::bf16);
  CHECK(y.value().rows(0, 1).item() == 1);
  CHECK(cast(y, DType::bf16).node() == y.node());  // nothing to do
  tape.backward(y, Tensor::full({2}, 0.75, DType::bf16));
  CHECK(tape.gradient(x).dtype() == DType::f32);
  CHECK(tape.gradient(x).rows(1, 2).item() == 0.75);
  const Tensor image = Tensor::zeros({1, 2, 2, 3}, DType::bf16), filter = Tensor::zeros({4, 1, 1, 3}, DType::f32);
  CHECK_THROWS_WITH_AS(ops::conv_forward(image, filter, {}), "[conv_forward] operands of dtypes bf16 and f32", Error);
  CHECK_THROWS_WITH_AS(ops::bias_add(image.reshape({4, 3}), Tensor::zeros({3}, DType::bf16)),
                       "[bias_add] bias is bf16, expected f32 beside bf16", Error);
}

TEST_CASE("tape: constants are not differentiated") {
  Tape tape;
  int asked = 0;
  const Var x = tape.input(Tensor::full({2}, 1, DType::f64)), c(Tensor::full({2}, 2, DType::f64));
  const Var y = record("probe", Tensor::full({2}, 3, DType::f64), {x, c}, [&](const Tensor& dy, Grads& d) {
    asked = d.wants(0) + 2 * d.wants(1);
    CHECK(d.pending(0) == nullptr);
    d.add(0, dy);
    d.add(1, dy);  // ignored
  });
  tape.backward(y, Tensor::full({2}, 5, DType::f64));
  CHECK(asked == 1);
  CHECK(tape.gradient(x).span<double>()[1] == 5);
}

TEST_CASE("tape: captures are freed as backward passes, and when they are never needed") {
  const auto token = std::make_shared<int>(0);
  Tape tape;
  const Var x = tape.input(Tensor::full({1}, 1, DType::f64));
  bool later_freed = false;
  const Var a = record("first", x.value(), {x}, [token, &later_freed](const Tensor& dy, Grads& d) {
    later_freed = token.use_count() == 2;  // the test's and this one: the second node's copy is gone
    d.add(0, dy);
  });
  const Var b = record("second", a.value(), {a}, [token](const Tensor& dy, Grads& d) { d.add(0, dy); });
  CHECK(token.use_count() == 3);
  tape.backward(b);
  CHECK(later_freed);
  CHECK(token.use_count() == 1);
  const Var constant(Tensor::full({1}, 1, DType::f64));
  record("unused", constant.value(), {constant}, [token](const Tensor&, Grads&) {});
  CHECK(token.use_count() == 1);
}

TEST_CASE("tape: activations are freed before backward ends") {
  const int64_t before = allocator_stats({}).bytes_in_use;
  {
    Tape tape;
    Parameter w{.value = Tensor::full({64, 64}, 0.01, DType::f64), .grad = {}};
    Var y = tape.watch(w);
    for (int i = 0; i < 10; ++i) y = relu(matmul(y, y));
    y = sum(y);
    tape.backward(y);
    // The weight, its gradient, the last value and the tape's bookkeeping: not the twenty activations.
    y = Var();
    CHECK(allocator_stats({}).bytes_in_use - before <= 3 * 64 * 64 * 8);
  }
  CHECK(allocator_stats({}).bytes_in_use == before);
}

TEST_CASE("tape: parameters accumulate over uses and over tapes") {
  Parameter w{.value = Tensor::from(std::vector<double>{2, 3}), .grad = {}};
  for (int pass = 1; pass <= 2; ++pass) {
    Tape tape;
    const Var v = tape.watch(w), again = tape.watch(w);
    tape.backward(sum(add(v, again, 3)));
    CHECK(w.grad.span<double>()[0] == 4 * pass);
  }
  w.grad.fill(0);
  Tape tape;
  tape.backward(sum(Var(tape.watch(w))));
  CHECK(w.grad.span<double>()[1] == 1);
}

TEST_CASE("tape: a value used several times gathers its gradients, and nobody else's change") {
  Tape tape;
  const Var x = tape.input(Tensor::from(std::vector<double>{1, -2}));
  const Var a = scale(x, 2);                // used three times
  const Var y = add(add(a, a), add(a, x));  // 6x + x
  tape.backward(sum(y));
  CHECK(tape.gradient(x).span<double>()[0] == 7);
  CHECK(tape.gradient(x).span<double>()[1] == 7);
}

TEST_CASE("tape: a gradient that holds what was pending takes its place") {
  Tape tape;
  const Var x = tape.input(Tensor::from(std::vector<double>{1, -2}));
  const auto adds = [](const Tensor& dy, Grads& d) { d.set(0, d.pending(0) ? ops::add(*d.pending(0), dy, 10) : dy); };
  const Var first = record("first", x.value(), {x}, adds), second = record("second", x.value(), {x}, adds);
  tape.backward(sum(add(first, second)));
  CHECK(tape.gradient(x).span<double>()[1] == 11);
}

TEST_CASE("tape: convolutions add their gradient to what other uses of their input left") {
  Tape tape;
  const Var x = tape.input(normal_tensor("x", {2, 5, 4, 3})), w(normal_tensor("w", {3, 3, 3, 3}));
  const ops::ConvGeometry same{.pad = 1};
  tape.backward(add(conv(x, w, same), x, 2), normal_tensor("dy", x.shape()));
  const Tensor dy = normal_tensor("dy", x.shape()), alone = ops::conv_backward_data(dy, w.value(), x.shape(), same);
  CHECK(largest(ops::add(ops::add(alone, dy, 2), tape.gradient(x), -1)) == 0);
  CHECK_THROWS_WITH_AS(ops::conv_backward_data(dy, w.value(), x.shape(), same, &w.value()),
                       doctest::Contains("[conv_backward_data] operands [2, 5, 4, 3] f64 and [3, 3, 3, 3] f64"), Error);
}

TEST_CASE("tape: inputs that nothing reaches have a zero gradient") {
  Tape tape;
  const Var x = tape.input(normal_tensor("x", {2, 2})), unused = tape.input(normal_tensor("u", {3}));
  const Var side = scale(x, 3);  // recorded, not part of the result
  tape.backward(sum(x));
  CHECK(side.tape() == &tape);
  CHECK(largest(tape.gradient(unused)) == 0);
  CHECK(tape.gradient(unused).shape() == Shape{3});
  CHECK(tape.gradient(x).span<double>()[3] == 1);
}

TEST_CASE("tape: misuse is refused") {
  Tape tape, other;
  const Var x = tape.input(normal_tensor("x", {2, 2})), z = other.input(normal_tensor("z", {2, 2}));
  CHECK_THROWS_AS(add(x, z), Error);
  CHECK_THROWS_AS(tape.backward(relu(x)), Error);                                     // no scalar, no dy
  CHECK_THROWS_AS(tape.backward(relu(x), Tensor::zeros({2}, DType::f64)), Error);     // another shape
  CHECK_THROWS_AS(tape.backward(relu(x), Tensor::zeros({2, 2}, DType::f32)), Error);  // another dtype
  CHECK_THROWS_AS(tape.backward(Var(x.value())), Error);                              // a constant
  CHECK_THROWS_AS(static_cast<void>(tape.gradient(relu(x))), Error);                  // not a leaf
  const Var wrong = record("wrong", x.value(), {x}, [](const Tensor&, Grads& d) { d.add(0, Tensor::zeros({3}, DType::f64)); });
  CHECK_THROWS_WITH_AS(tape.backward(wrong, x.value()), doctest::Contains("[input] a gradient of shape [3]"), Error);
}

TEST_CASE("tape: two runs, and any number of threads, give the same bits") {
  Tensor first;
  const int before = threads();
  for (const int count : {1, 1, 2, 3}) {
    set_threads(count);
    Parameter w{.value = normal_tensor("w", {16, 3, 3, 8}, DType::f32), .grad = {}};
    Tape tape;
    const Var x = tape.input(normal_tensor("x", {4, 12, 9, 8}, DType::f32));
    const Var y = relu(conv(x, tape.watch(w), {.stride = 2, .pad = 1}));
    tape.backward(sum(l2_normalize(global_average_pool(y))));
    const Tensor both = ops::matmul(w.grad.reshape({1, w.grad.numel()}), w.grad.reshape({w.grad.numel(), 1}));
    if (!first.defined()) first = w.grad;
    CHECK(bitwise_equal(first, w.grad));
    CHECK(both.item() > 0);
  }
  set_threads(before);
}

}  // namespace
}  // namespace reid::test
