// Products of 16-bit codes: what the lines of problems/edges.txt do not reach.

#include "fast_cpu.h"

#include "reid/engine/ops.h"

using namespace reid;
using namespace reid::fast_test;

namespace {

using Codes = std::vector<int16_t>;

Codes random_codes(int64_t count, Rng rng) {
  Codes codes(static_cast<size_t>(count));
  for (int16_t& c : codes) c = static_cast<int16_t>(rng.below(2 * 5792 + 1) - 5792);  // the squares of 64 of them stay below 2^31
  return codes;
}

Tensor scales(int64_t count, uint64_t seed) { return Tensor::from(normals(count, Rng(seed))); }

}  // namespace

TEST_CASE("code products: several groups of columns") {
  initialize();
  const int64_t m = 3, n = 4700, k = 2050;  // more than 16 MB of packed b
  const Codes a = random_codes(m * k, Rng(1)), b = random_codes(n * k, Rng(2));
  const Tensor scale_a = scales(m, 3), scale_b = scales(n, 4);
  const auto products = [&](auto&& run) {
    Guarded c(m * n);
    run(CodeProductsArgs{.a = a.data(),
                         .b = b.data(),
                         .scale_a = scale_a.data<float>(),
                         .scale_b = scale_b.data<float>(),
                         .c = c.data(),
                         .m = m,
                         .n = n,
                         .k = k});
    return c.take();
  };
  const Floats right = products([](const CodeProductsArgs& args) { run_reference<CodeProducts>(args); });
  for_each_fast<CodeProducts>({.a = a.data(), .b = b.data(), .scale_a = nullptr, .scale_b = nullptr, .c = nullptr, .m = m, .n = n, .k = k},
                              [&](auto&& run, const char* name) { CHECK_MESSAGE(same_bits(products(run), right), name); });
}

TEST_CASE("code products: the largest sums of a block fit, blocks are added in f32, scales come last") {
  const auto product = [](const Codes& a, const Codes& b, float scale) {
    const int64_t k = static_cast<int64_t>(a.size());
    const Tensor one = Tensor::full({1}, 1, DType::f32), own = Tensor::from(std::vector<float>{scale});
    return ops::code_products(Tensor::from(a, Shape{1, k}), Tensor::from(b, Shape{1, k}), own, one).data<float>()[0];
  };
  const Codes high(64, 5792), low(64, -5792);  // 64 * 5792^2 = 2^31 - 458,752
  CHECK(product(high, high, 1) == 2147024896.0f);
  CHECK(product(high, low, 1) == -2147024896.0f);
  CHECK(product({3, -4}, {5, 6}, 0.5f) == -4.5f);
  // 2147024896 + 1 is no float: a second block of one product is lost, as it is in f32.
  Codes longer = high;
  longer.push_back(1);
  CHECK(product(longer, longer, 1) == 2147024896.0f);
  CHECK_THROWS_WITH(product(Codes(64, 5793), high, 1), doctest::Contains("expected less than 2^31"));
}

TEST_CASE("code products: threads do not matter, and what makes no sense is refused") {
  const Threads restore;
  const Codes a = random_codes(300 * 64, Rng(3)), b = random_codes(500 * 64, Rng(4));
  const Tensor left = Tensor::from(a, Shape{300, 64}), right = Tensor::from(b, Shape{500, 64}), sa = scales(300, 1), sb = scales(500, 2);
  set_threads(1);
  const Tensor one = ops::code_products(left, right, sa, sb);
  set_threads(3);
  const Tensor three = ops::code_products(left, right, sa, sb);
  CHECK(bitwise_equal(one, three));
  CHECK_THROWS_WITH(ops::code_products(left, right.rows(0, 0).reshape({0, 32}), sa, sb),
                    doctest::Contains("expected i16 [M, K] and [N, K]"));
  CHECK_THROWS_WITH(ops::code_products(left, left.to(DType::f32), sa, sa), doctest::Contains("[code_products] a"));
  CHECK_THROWS_WITH(ops::code_products(left, right, sb, sb), doctest::Contains("scale_a"));
}
