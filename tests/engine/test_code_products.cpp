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

namespace {

// Every implementation against the reference, bit for bit.
void compare(const Codes& a, const Codes& b, int64_t m, int64_t n, int64_t k) {
  CAPTURE(m);
  CAPTURE(n);
  CAPTURE(k);
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

}  // namespace

TEST_CASE("code products: several groups of columns") {
  initialize();
  const int64_t m = 3, n = 4700, k = 2050;  // more than 16 MB of packed b
  compare(random_codes(m * k, Rng(1)), random_codes(n * k, Rng(2)), m, n, k);
}

TEST_CASE("code products: tiles and blocks that are not whole, an odd and an even number of blocks, several groups of them") {
  initialize();
  for (int64_t k : {1, 31, 32, 33, 63, 64, 65, 128, 191, 511, 512, 513, 577, 1100}) {
    for (const auto& [m, n] : {std::pair<int64_t, int64_t>{1, 1}, {15, 33}, {16, 32}, {17, 15}, {31, 17}, {225, 3}}) {
      compare(random_codes(m * k, Rng(5)), random_codes(n * k, Rng(6)), m, n, k);
    }
  }
}

TEST_CASE("code products: codes whose bytes are the largest, and those around the carry from one byte to the other") {
  initialize();
  const std::vector<int16_t> codes = {-32768, 32767, -32767, 32513, -32513, 32640, 255,  256, 257,
                                      -255,   -256,  -257,   127,   128,    -128,  -129, -1};
  const auto rows = static_cast<int64_t>(codes.size()), k = int64_t{130};
  Codes a(static_cast<size_t>(rows * k), 0), ones(a);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t at : {i, 64 + (5 * i) % 64, k - 1}) {  // one in a block: its square is at most 2^30
      a[static_cast<size_t>(i * k + at)] = codes[static_cast<size_t>(i)];
      for (int64_t j = 0; j < rows; ++j) ones[static_cast<size_t>(j * k + at)] = codes[static_cast<size_t>((i + j) % 17)] / 6;
    }
  }
  compare(a, a, rows, rows, k);
  compare(a, ones, rows, rows, k);
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
