// Errors, shapes, dtypes, random numbers, hashes. Known answers come from an independent computation.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "reid/engine/base.h"

namespace reid {
namespace {

TEST_CASE("shape: extents, axes from the end, equality, text") {
  const Shape s{4, 16, 8, 3};
  CHECK(s.rank() == 4);
  CHECK(s[0] == 4);
  CHECK(s[-1] == 3);
  CHECK(s.numel() == 1536);
  CHECK(str(s) == "[4, 16, 8, 3]");
  CHECK(s == Shape{4, 16, 8, 3});
  CHECK(!(s == Shape{4, 16, 8}));
  CHECK(!(Shape{1} == Shape{}));
  CHECK(Shape{}.numel() == 1);
  CHECK(Shape{3, 0, 2}.numel() == 0);
}

TEST_CASE("shape: what cannot be is refused") {
  CHECK_THROWS_WITH_AS((Shape{2, -1}), "[shape] extent -1 at axis 1 is negative", Error);
  CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1, 1, 1}), Error);
  CHECK_THROWS_AS((Shape{int64_t{1} << 31, int64_t{1} << 31}), Error);
  CHECK_NOTHROW((Shape{int64_t{1} << 30, int64_t{1} << 31}));
}

TEST_CASE("errors carry what str() joins") {
  CHECK_THROWS_WITH_AS(REID_CHECK(1 > 2, "one ", 1, " two ", DType::bf16), "one 1 two bf16", Error);
  CHECK_NOTHROW(REID_CHECK(true, "never made"));
  for (const DType d : {DType::f32, DType::bf16, DType::f64, DType::i64, DType::i32, DType::u8}) CHECK(std::string(name_of(d)) != "?");
  CHECK(size_of(DType::f64) == 8);
  CHECK(size_of(DType::bf16) == 2);
  CHECK(size_of(DType::u8) == 1);
}

TEST_CASE("bf16: every one widens and comes back, NaN as a quiet one") {
  for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
    bf16 x;
    x.bits = static_cast<uint16_t>(bits);
    const float wide = x;
    const bool nan = std::isnan(wide);
    CHECK(bf16(wide).bits == (nan ? bits | 0x40 : bits));
    CHECK(bf16(double{wide}).bits == (nan ? bits | 0x40 : bits));
  }
  CHECK(std::isnan(float{bf16(std::bit_cast<float>(0x7F800001))}));  // its upper half alone would be infinity
}

TEST_CASE("bf16: rounds once, to nearest, ties to even") {
  // Halfway between 1 and its upper neighbor, a little beside it, and halfway to the next but one.
  for (const auto& [x, rounded] : std::initializer_list<std::pair<double, double>>{{1 + 0x1p-8, 1},
                                                                                   {1 + 0x1p-8 + 0x1p-23, 1 + 0x1p-7},
                                                                                   {1 + 0x1p-8 - 0x1p-24, 1},
                                                                                   {1 + 3 * 0x1p-8, 1 + 0x1p-6},
                                                                                   {-1 - 0x1p-8, -1},
                                                                                   {0x1p-134, 0},
                                                                                   {0x1.8p-133, 0x1p-132}}) {
    CHECK(double{bf16(static_cast<float>(x))} == rounded);
    CHECK(double{bf16(x)} == rounded);
  }
  // These doubles are closer to halfway than a float can tell: rounding by way of one would go to even.
  CHECK(double{bf16(1 + 0x1p-8 + 0x1p-40)} == 1 + 0x1p-7);
  CHECK(double{bf16(1 + 3 * 0x1p-8 - 0x1p-40)} == 1 + 0x1p-7);
  CHECK(double{bf16(-1 - 0x1p-8 - 0x1p-40)} == -1 - 0x1p-7);
  CHECK(double{bf16(0x1p-134 + 0x1p-170)} == 0x1p-133);
  CHECK(double{bf16(0x1.FEp127)} == 0x1.FEp127);
  CHECK(std::isinf(float{bf16(0x1.FFp127)}));  // halfway to 2^128
  CHECK(std::isinf(float{bf16(1e300)}));
  CHECK(double{bf16(0x1.FEFFFFFFFFp127)} == 0x1.FEp127);
  CHECK(double{bf16(int64_t{257})} == 256);
}

TEST_CASE("random numbers: known answers") {
  Rng zero(0);
  CHECK(zero.bits() == 0xa706dd2f4d197e6full);
  CHECK(zero.bits() == 0xb382a305f4414f5eull);
  CHECK(zero.bits() == 0x631a9154fbabf717ull);
  Rng path = Rng(42).at(3).at(5);
  CHECK(path.bits() == 0x81cb40800d6c9c6dull);
  CHECK(path.bits() == 0xf3c8c814a443df37ull);
  Rng named = Rng(7).at("init");
  CHECK(named.uniform() == 0.487261441820505);
  CHECK(named.uniform() == 0.34968788309155474);
  Rng integers(3);
  for (const int64_t expected : {5, 0, 0, 6, 2, 3, 9, 1}) CHECK(integers.below(10) == expected);
  Rng gauss(1);
  for (const double expected : {-0.15855199083906063, -0.7032460307787808, 0.6741503262813601})
    CHECK(gauss.normal() == doctest::Approx(expected).epsilon(1e-15));
}

TEST_CASE("random numbers: streams depend on their path and on nothing else") {
  Rng a(1);
  a.bits();
  Rng before = Rng(1).at(7), after = a.at(7);  // drawing does not move what at() derives
  CHECK(before.bits() == after.bits());
  std::set<uint64_t> keys;
  for (uint64_t i = 0; i < 100; ++i)
    for (uint64_t j = 0; j < 100; ++j) keys.insert(Rng(5).at(i).at(j).key());
  CHECK(keys.size() == 10000);
  CHECK(Rng(1).at(2).at(3).key() != Rng(1).at(3).at(2).key());
  CHECK(Rng(1).at("a").key() != Rng(1).at("b").key());
}

TEST_CASE("random numbers: moments, bounds, shuffles") {
  Rng rng(11);
  double sum = 0, squares = 0, fourth = 0;
  constexpr int kCount = 200000;
  for (int i = 0; i < kCount; ++i) {
    const double v = rng.normal();
    sum += v, squares += v * v, fourth += v * v * v * v;
  }
  // Five standard errors of each moment.
  CHECK(std::abs(sum / kCount) < 5 / std::sqrt(kCount));
  CHECK(std::abs(squares / kCount - 1) < 5 * std::sqrt(2.0 / kCount));
  CHECK(std::abs(fourth / kCount - 3) < 5 * std::sqrt(96.0 / kCount));
  int buckets[7] = {};
  for (int i = 0; i < 70000; ++i) ++buckets[rng.below(7)];
  for (const int b : buckets) CHECK(std::abs(b - 10000) < 5 * std::sqrt(10000.0 * 6 / 7));
  for (int i = 0; i < 1000; ++i) {
    const double v = rng.uniform(-2, 3);
    CHECK((v >= -2 && v < 3));
  }
  CHECK(rng.below(1) == 0);
  std::vector<int> items(50), sorted(50);
  std::iota(items.begin(), items.end(), 0);
  sorted = items;
  rng.shuffle(items);
  CHECK(items != sorted);
  std::sort(items.begin(), items.end());
  CHECK(items == sorted);
  std::vector<int> none;
  rng.shuffle(none);
  CHECK(!rng.chance(0));
  CHECK(rng.chance(1));
}

TEST_CASE("hashes: published FNV-1a values") {
  const auto hash = [](std::string_view s) { return hash_bytes({reinterpret_cast<const uint8_t*>(s.data()), s.size()}); };
  CHECK(hash("") == 0xcbf29ce484222325ull);
  CHECK(hash("a") == 0xaf63dc4c8601ec8cull);
  CHECK(hash("foobar") == 0x85944171f73967e8ull);
  CHECK(hex(0xaf63dc4c8601ec8cull) == "af63dc4c8601ec8c");
  CHECK(hex(1) == "0000000000000001");
}

}  // namespace
}  // namespace reid
