// Products of 8-bit codes: what the lines of problems/edges.txt do not reach.

#include "fast_cpu.h"

#include "reid/engine/ops.h"

using namespace reid;
using namespace reid::fast_test;

namespace {

using Codes = std::vector<uint8_t>;

Codes random_codes(int64_t count, Rng rng) {
  Codes codes(static_cast<size_t>(count));
  for (uint8_t& c : codes) c = static_cast<uint8_t>(rng.below(256));
  return codes;
}

constexpr int32_t kUnwritten = 0x55555555;

template <class Run>
std::vector<int32_t> products(Run&& run, const Codes& a, const Codes& b, int64_t m, int64_t n, int64_t k) {
  constexpr size_t kGuard = 64;
  std::vector<int32_t> c(static_cast<size_t>(m * n) + 2 * kGuard, kUnwritten);
  run(CodeProductsArgs{.a = a.data(), .b = b.data(), .c = c.data() + kGuard, .m = m, .n = n, .k = k});
  for (size_t i = 0; i < kGuard; ++i) CHECK((c[i] == kUnwritten && c[c.size() - 1 - i] == kUnwritten));
  return {c.begin() + kGuard, c.end() - kGuard};
}

std::vector<int32_t> expected(const Codes& a, const Codes& b, int64_t m, int64_t n, int64_t k) {
  return products([](const CodeProductsArgs& args) { run_reference<CodeProducts>(args); }, a, b, m, n, k);
}

}  // namespace

TEST_CASE("code products: several groups of columns") {
  initialize();
  const int64_t m = 3, n = 9000, k = 2050;  // more than 16 MB of packed b
  const Codes a = random_codes(m * k, Rng(1)), b = random_codes(n * k, Rng(2));
  const std::vector<int32_t> right = expected(a, b, m, n, k);
  for_each_fast<CodeProducts>({.a = a.data(), .b = b.data(), .c = nullptr, .m = m, .n = n, .k = k},
                              [&](auto&& run, const char* name) { CHECK_MESSAGE(products(run, a, b, m, n, k) == right, name); });
}

TEST_CASE("code products: the reference counts code c as c - 128; the largest sums fit") {
  initialize();
  const Codes a = {128, 129, 0}, b = {1, 127, 255, 128, 130, 0};
  CHECK(expected(a, b, 1, 2, 3) == std::vector<int32_t>{-1 - 128 * 127, 2 + 128 * 128});
  const int64_t k = kMostCodes;
  const Codes low(static_cast<size_t>(k), 0), high(static_cast<size_t>(k), 255);
  for (const auto& [x, y, value] :
       {std::tuple{&low, &low, 128 * 128}, {&low, &high, -128 * 127}, {&high, &low, -128 * 127}, {&high, &high, 127 * 127}}) {
    const std::vector<int32_t> right = {static_cast<int32_t>(value * k)};
    CHECK(expected(*x, *y, 1, 1, k) == right);
    const Codes& first = *x;
    const Codes& second = *y;
    for_each_fast<CodeProducts>({.a = nullptr, .b = nullptr, .c = nullptr, .m = 1, .n = 1, .k = k},
                                [&](auto&& run, const char* name) { CHECK_MESSAGE(products(run, first, second, 1, 1, k) == right, name); });
  }
}

TEST_CASE("code products: threads do not matter, and what makes no sense is refused") {
  const Threads restore;
  const Codes a = random_codes(300 * 64, Rng(3)), b = random_codes(500 * 64, Rng(4));
  const Tensor left = Tensor::from(a, Shape{300, 64}), right = Tensor::from(b, Shape{500, 64});
  set_threads(1);
  const Tensor one = ops::code_products(left, right);
  set_threads(3);
  const Tensor three = ops::code_products(left, right);
  CHECK(std::equal(one.span<int32_t>().begin(), one.span<int32_t>().end(), three.span<int32_t>().begin()));
  CHECK_THROWS_WITH(ops::code_products(left, right.rows(0, 0).reshape({0, 32})), doctest::Contains("expected u8 [M, K] and [N, K]"));
  CHECK_THROWS_WITH(ops::code_products(left, left.to(DType::f32)), doctest::Contains("[code_products] a"));
}
