// Tensor, the registry, and the checks of the ops.

#include "harness.h"

namespace reid::test {
namespace {

TEST_CASE("tensor: making, sharing, cloning") {
  const Tensor a = Tensor::from(std::vector<float>{1, 2, 3, 4, 5, 6}, Shape{2, 3});
  CHECK(a.dtype() == DType::f32);
  CHECK(a.bytes() == 24);
  const Tensor shared = a, copy = a.clone();
  shared.span<float>()[0] = 9;
  CHECK(a.span<float>()[0] == 9);
  CHECK(copy.span<float>()[0] == 1);
  CHECK(Tensor::zeros({3}, DType::i64).span<int64_t>()[2] == 0);
  CHECK(Tensor::full({}, 2.5, DType::f64).item() == 2.5);
  CHECK(Tensor::full({2}, 3, DType::i32).span<int32_t>()[1] == 3);
  CHECK(Tensor::empty({0, 4}, DType::f32).numel() == 0);
  CHECK(!Tensor().defined());
  CHECK(Tensor().raw() == nullptr);
}

TEST_CASE("tensor: windows share storage") {
  const Tensor a = Tensor::from(std::vector<double>{1, 2, 3, 4, 5, 6}, Shape{3, 2});
  const Tensor middle = a.rows(1, 3);
  CHECK(middle.shape() == Shape{2, 2});
  CHECK(middle.span<double>()[0] == 3);
  middle.fill(7);
  CHECK(a.span<double>()[5] == 7);
  CHECK(a.span<double>()[1] == 2);
  CHECK(a.rows(2, 3).rows(0, 1).reshape({2}).span<double>()[1] == 7);
  CHECK(a.rows(1, 1).numel() == 0);
  CHECK(a.reshape({6}).raw() == a.raw());
  const Tensor target = Tensor::zeros({6}, DType::f64);
  target.copy_from(a);  // another shape of as many elements
  CHECK(target.span<double>()[1] == 2);
}

TEST_CASE("tensor: conversion") {
  const Tensor a = Tensor::from(std::vector<double>{0.1, -2.75, 3e9});
  CHECK(a.to(DType::f64).raw() == a.raw());
  CHECK(a.to(DType::f32).span<float>()[0] == 0.1F);
  CHECK(a.to(DType::f32).to(DType::f64).span<double>()[1] == -2.75);
  CHECK(a.to(DType::i64).span<int64_t>()[2] == 3000000000);
  CHECK(a.to(DType::bf16).span<bf16>()[0].bits == 0x3DCD);
  CHECK(a.to(DType::bf16).to(DType::f32).span<float>()[1] == -2.75F);
  CHECK(Tensor::full({2}, 3.01, DType::bf16).rows(1, 2).item() == 3.015625);
  CHECK(Tensor::from(std::vector<uint8_t>{255}).to(DType::f32).item() == 255);
  CHECK(Tensor::from(std::vector<int32_t>{-4}).to(DType::i64).item() == -4);
}

TEST_CASE("tensor: misuse is refused") {
  const Tensor a = Tensor::zeros({2, 3}, DType::f32);
  CHECK_THROWS_AS(a.data<double>(), Error);
  CHECK_THROWS_AS(Tensor().data<float>(), Error);
  CHECK_THROWS_AS(a.reshape({7}), Error);
  CHECK_THROWS_AS(a.rows(1, 3), Error);
  CHECK_THROWS_AS(a.rows(-1, 1), Error);
  CHECK_THROWS_AS(a.rows(2, 1), Error);
  CHECK_THROWS_AS(static_cast<void>(a.item()), Error);
  CHECK_THROWS_AS(a.copy_from(Tensor::zeros({7}, DType::f32)), Error);
  CHECK_THROWS_AS(a.copy_from(Tensor::zeros({6}, DType::f64)), Error);
  CHECK_THROWS_AS(Tensor::from(std::vector<float>{1, 2}, Shape{3}), Error);
}

TEST_CASE("tensor: bitwise equality") {
  const Tensor a = Tensor::from(std::vector<float>{0.0F, 1.0F}), b = Tensor::from(std::vector<float>{-0.0F, 1.0F});
  CHECK(bitwise_equal(a, a.clone()));
  CHECK(!bitwise_equal(a, b));
  CHECK(!bitwise_equal(a, a.reshape({2, 1})));
  CHECK(!bitwise_equal(a, a.to(DType::f64)));
}

// --- the registry ---

TEST_CASE("registry: references stand last but for emulated kernels, forcing and tracing name what ran") {
  for (const OpInfo& op : Registry::ops()) {
    const auto reference = std::ranges::find(op.implementations, "reference");
    REQUIRE_MESSAGE(reference != op.implementations.end(), op.name);
    const auto of_kernel = [](const std::string& name) { return emulated(name.c_str()); };
    CHECK_MESSAGE(std::all_of(reference + 1, op.implementations.end(), of_kernel), op.name);
    CHECK_MESSAGE(std::none_of(op.implementations.begin(), reference, of_kernel), op.name);
  }
  const Tensor a = normal_tensor("a", {8, 8}, DType::f32);
  std::vector<std::string> lines;
  trace_to(&lines);
  ops::matmul(a, a);
  Registry::force("matmul", "reference");
  ops::matmul(a, a);
  Registry::force("matmul", "");
  ops::matmul(a, a);
  trace_to(nullptr);
  ops::matmul(a, a);
  REQUIRE(lines.size() == 3);
  CHECK(lines[1].find("matmul reference a[8,8]f32 b[8,8]f32 transpose_a=0") == 0);
  CHECK(lines[0] == lines[2]);
}

TEST_CASE("registry: an implementation that is unknown or refuses is an error that says why") {
  const Tensor a = normal_tensor("a", {4, 4});
  Registry::force("matmul", "nonsense");
  CHECK_THROWS_WITH_AS(ops::matmul(a, a), doctest::Contains("no implementation is named nonsense"), Error);
  Registry::force("matmul", "");
  CHECK_NOTHROW(ops::matmul(a, a));
  const Tensor integers = Tensor::zeros({4, 4}, DType::i64);
  CHECK_THROWS_WITH_AS(ops::matmul(integers, integers), doctest::Contains("reference: takes f32 and f64 only"), Error);
}

TEST_CASE("ops: wrong shapes and dtypes are named") {
  const Tensor a = normal_tensor("a", {4, 5}), x = normal_tensor("x", {2, 6, 5, 4}), w = normal_tensor("w", {3, 3, 3, 4});
  CHECK_THROWS_WITH_AS(ops::matmul(a, a), doctest::Contains("[matmul] a [4, 5] f64, b [4, 5] f64"), Error);
  CHECK_THROWS_AS(ops::matmul(a, a.to(DType::f32), false, true), Error);
  CHECK_THROWS_AS(ops::matmul(x, a), Error);
  CHECK_THROWS_WITH_AS(ops::conv_forward(x, normal_tensor("w", {3, 3, 3, 5}), {}), doctest::Contains("[conv_forward]"), Error);
  CHECK_THROWS_AS(ops::conv_forward(x, w, {.stride = 0}), Error);
  CHECK_THROWS_AS(ops::conv_forward(x, w, {.groups = 3}), Error);
  CHECK_THROWS_AS(ops::conv_forward(x, normal_tensor("big", {3, 7, 7, 4}), {}), Error);
  CHECK_THROWS_AS(ops::conv_backward_data(x, w, {2, 6, 5, 4}, {}), Error);
  CHECK_THROWS_AS(ops::add(a, x), Error);
  CHECK_THROWS_AS(ops::bias_add(a, normal_tensor("b", {4})), Error);
  CHECK_THROWS_AS(ops::column_sum(x), Error);
  CHECK_THROWS_AS(ops::max_pool(a, {}), Error);
  CHECK_THROWS_AS(ops::max_pool(x, {.kernel = 0}), Error);
  CHECK_THROWS_AS(ops::gem_pool(x, normal_tensor("p", {2})), Error);
  CHECK_THROWS_AS(ops::l2_normalize(x), Error);
  CHECK_THROWS_AS(
      ops::one_positive_rows(a, Tensor::zeros({4, 5}, DType::i64), Tensor::full({4}, 1, DType::f64), Tensor::full({4}, 1, DType::f64)),
      Error);
  CHECK_THROWS_AS(
      ops::softmax_rows(a, Tensor::zeros({4, 5}, DType::u8), Tensor::full({3}, 1, DType::f64), Tensor::full({4}, 1, DType::f64)), Error);
  for (const Tensor& positives : {Tensor::zeros({4, 5}, DType::i32), Tensor::zeros({4}, DType::u8), Tensor::zeros({4}, DType::i64)})
    CHECK_THROWS_AS(ops::softmax_rows(a, positives, Tensor::full({4}, 1, DType::f64), Tensor::full({4}, 1, DType::f64)), Error);
}

TEST_CASE("ops: empty batches and inner extents of zero") {
  const Tensor none = ops::matmul(Tensor::zeros({0, 3}, DType::f32), Tensor::zeros({3, 2}, DType::f32));
  CHECK(none.shape() == Shape{0, 2});
  const Tensor zero = ops::matmul(Tensor::zeros({2, 0}, DType::f32), Tensor::zeros({0, 2}, DType::f32));
  CHECK(largest(zero) == 0);  // an empty sum
}

TEST_CASE("ops: NaN and infinity go through, they do not vanish") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  std::vector<float> values(40, 1.0F);
  values[17] = nan;
  values[30] = inf;
  const Tensor x = Tensor::from(values, Shape{40});
  CHECK(std::isnan(ops::relu(x).span<float>()[17]));
  CHECK(ops::relu(x).span<float>()[30] == inf);
  const Tensor row = ops::matmul(x.reshape({1, 40}), Tensor::full({40, 3}, 1, DType::f32));
  CHECK(std::isnan(row.span<float>()[0]));
  const Tensor map = x.reshape({1, 5, 4, 2});
  CHECK(std::isnan(ops::global_average_pool(map).span<float>()[1]));
}

}  // namespace
}  // namespace reid::test
