// Convolutions by implicit GEMM, in floats and in floats of three parts, against the reference: exact on small integers, within a derived
// bound on normal values, bitwise independent of threads, of batch size and of the position in the batch.

#include <bit>
#include <type_traits>

#include "engine/fast_cpu.h"
#include "harness.h"
#include "reid/engine/ops.h"
#include "reid/engine/weight_cache.h"

using namespace reid;
using namespace reid::fast_test;

namespace {

std::vector<ConvShape> conv_cases() {
  std::vector<ConvShape> cases{
      conv(2, 17, 9, 3, 13, 7, 2, 3),     // the stem, odd extents
      conv(1, 16, 8, 3, 64, 7, 2, 3),     // the stem, even
      conv(2, 7, 5, 33, 15, 3, 1, 1),     // 3x3
      conv(1, 8, 6, 64, 32, 3, 1, 1),     // whole tiles
      conv(2, 9, 7, 14, 31, 3, 2, 1),     // stride 2, odd
      conv(1, 8, 6, 16, 33, 3, 2, 1),     // stride 2, even
      conv(3, 5, 3, 40, 14, 1, 1, 0),     // 1x1
      conv(2, 7, 5, 13, 9, 1, 2, 0),      // 1x1 stride 2: three of four phases are empty
      conv(1, 6, 4, 12, 10, 1, 2, 0),     // the same, even
      conv(1, 9, 11, 5, 7, 3, 1, 2, 2),   // dilated
      conv(1, 11, 10, 5, 6, 3, 2, 2, 2),  // dilated with a stride
      conv(2, 4, 3, 6, 4, 3, 1, 3),       // padding beyond the image's reach
      conv(1, 1, 1, 1, 1, 3, 1, 1),       // one pixel
      conv(1, 3, 2, 1, 70, 2, 1, 0),      // even filter
      conv(1, 10, 10, 4, 3, 5, 3, 2),     // stride 3
      conv(1, 20, 15, 70, 20, 3, 1, 1),   // several blocks of k
      conv(40, 4, 4, 2, 3, 3, 1, 1),      // many small images
  };
  ConvShape uneven = conv(2, 9, 12, 5, 6, 3, 1, 1);  // axes that differ in everything
  uneven.r = 2, uneven.stride[1] = 2, uneven.pad[0] = 0, uneven.pad[1] = 2, uneven.dilation[0] = 3;
  cases.push_back(uneven);
  return cases;
}

int64_t x_count(const ConvShape& s) { return s.n * s.h * s.w * s.c; }
int64_t y_count(const ConvShape& s) { return s.n * s.p() * s.q() * s.k; }
int64_t w_count(const ConvShape& s) { return s.k * s.r * s.s * s.c; }

// What the three convolution ops have in common for a test: two inputs, one output, the length of their sums.
struct ForwardTrait {
  using Op = ConvForward;
  static ConvForwardArgs args(const ConvShape& s, const void* a, const void* b, void* out, DType t) { return {a, b, out, s, t}; }
  static int64_t first(const ConvShape& s) { return x_count(s); }
  static int64_t second(const ConvShape& s) { return w_count(s); }
  static int64_t result(const ConvShape& s) { return y_count(s); }
  static int64_t terms(const ConvShape& s) { return s.r * s.s * s.c; }
};
struct DataTrait {
  using Op = ConvBackwardData;
  static ConvBackwardDataArgs args(const ConvShape& s, const void* a, const void* b, void* out, DType t) { return {a, b, out, s, t}; }
  static int64_t first(const ConvShape& s) { return y_count(s); }
  static int64_t second(const ConvShape& s) { return w_count(s); }
  static int64_t result(const ConvShape& s) { return x_count(s); }
  static int64_t terms(const ConvShape& s) { return s.r * s.s * s.k; }
};
struct WeightTrait {
  using Op = ConvBackwardWeight;
  static ConvBackwardWeightArgs args(const ConvShape& s, const void* a, const void* b, void* out, DType t) { return {a, b, out, s, t}; }
  static int64_t first(const ConvShape& s) { return x_count(s); }
  static int64_t second(const ConvShape& s) { return y_count(s); }
  static int64_t result(const ConvShape& s) { return w_count(s); }
  static int64_t terms(const ConvShape& s) { return s.n * s.p() * s.q(); }
};

template <class Trait, class Run>
Floats conv_result(Run&& run, const ConvShape& s, const Floats& a, const Floats& b) {
  Guarded out(Trait::result(s));
  run(Trait::args(s, a.data(), b.data(), out.data(), DType::f32));
  return out.take();
}

template <class Trait>
std::vector<double> conv_exact(const ConvShape& s, const Floats& a, const Floats& b) {
  const std::vector<double> a64 = doubled(a), b64 = doubled(b);
  std::vector<double> out(static_cast<size_t>(Trait::result(s)));
  run_reference<typename Trait::Op>(Trait::args(s, a64.data(), b64.data(), out.data(), DType::f64));
  return out;
}

}  // namespace

TEST_CASE_TEMPLATE("implicit gemm equals the reference", Trait, ForwardTrait, DataTrait, WeightTrait) {
  using Op = typename Trait::Op;
  initialize();
  for (const ConvShape& s : conv_cases()) {
    const Floats a = integers(Trait::first(s), Rng(1)), b = integers(Trait::second(s), Rng(2));
    const std::vector<double> exact = conv_exact<Trait>(s, a, b);
    const Floats u = normals(Trait::first(s), Rng(3)), v = normals(Trait::second(s), Rng(4));
    const std::vector<double> expected = conv_exact<Trait>(s, u, v);
    // Standard normal factors: a sum of k products has absolute terms of about k in all; see product_bound.
    const std::vector<double> zero(exact.size(), 0.0),
        bound(exact.size(), product_bound(Trait::terms(s), 2 * std::sqrt(double(Trait::terms(s)) + 8), 2));
    const auto args = Trait::args(s, a.data(), b.data(), nullptr, DType::f32);
    const int count = for_each_fast<Op>(args, [&](auto&& run, const char* name) {
      CHECK_MESSAGE(first_far(conv_result<Trait>(run, s, a, b), exact, zero) == -1, name, " ", problem_line(args));
      CHECK_MESSAGE(first_far(conv_result<Trait>(run, s, u, v), expected, bound) == -1, name, " ", problem_line(args));
    });
    REQUIRE(count >= 1);
  }
}

TEST_CASE_TEMPLATE("convolutions give the same bits for any number of threads", Trait, ForwardTrait, DataTrait, WeightTrait) {
  using Op = typename Trait::Op;
  initialize();
  const Threads restore;
  for (const ConvShape& s : {conv(3, 17, 15, 20, 40, 3, 1, 1), conv(2, 18, 9, 12, 35, 3, 2, 1), conv(16, 32, 32, 3, 4, 1, 1, 0)}) {
    const Floats a = normals(Trait::first(s), Rng(1)), b = normals(Trait::second(s), Rng(2));
    for_each_fast<Op>(Trait::args(s, a.data(), b.data(), nullptr, DType::f32), [&](auto&& run, const char* name) {
      set_threads(1);
      const Floats expected = conv_result<Trait>(run, s, a, b);
      for (int count : {2, 3}) {
        set_threads(count);
        CHECK_MESSAGE(same_bits(conv_result<Trait>(run, s, a, b), expected), name, " threads ", count);
      }
    });
  }
}

TEST_CASE("the convolution of an image does not depend on its batch") {
  initialize();
  for (ConvShape one : {conv(1, 17, 9, 3, 33, 7, 2, 3), conv(1, 5, 7, 40, 20, 3, 1, 1), conv(1, 6, 5, 32, 64, 3, 1, 1),
                        conv(1, 3, 3, 1300, 64, 1, 1, 0), conv(1, 4, 3, 1300, 72, 1, 1, 0)}) {
    for (const int kind : {0, 1, 2, 3}) {
      const DType dtype = (kind & 1) != 0 ? DType::bf16 : DType::f32;
      one.other_sums = (kind & 2) != 0;
      ConvShape batch = one;
      batch.n = 9;
      const auto tensor = [&](Shape shape, Rng rng) { return ops::cast(Tensor::from(normals(shape.numel(), rng), shape), dtype); };
      const Tensor x = tensor({9, one.h, one.w, one.c}, Rng(1)), w = tensor({one.k, one.r, one.s, one.c}, Rng(2));
      const Tensor y = Tensor::empty({9, one.p(), one.q(), one.k}, dtype), alone = Tensor::empty({1, one.p(), one.q(), one.k}, dtype);
      ConvForwardArgs args{.x = x.raw(), .w = w.raw(), .y = y.raw(), .shape = batch, .dtype = dtype};
      for_each_fast<ConvForward>(args, [&](auto&& run, const char* name) {
        run(args);
        for (int64_t i : {0, 4, 8}) {
          run(ConvForwardArgs{.x = x.rows(i, i + 1).raw(), .w = w.raw(), .y = alone.raw(), .shape = one, .dtype = dtype});
          CHECK_MESSAGE(bitwise_equal(alone, y.rows(i, i + 1)), name, " image ", i, ": ", problem_line(args));
        }
      });
    }
  }
}

TEST_CASE("convolutions keep what they make of weights in a cache, and use it") {
  initialize();
  for (bool other_sums : {false, true}) {
    ConvShape s = conv(2, 6, 9, 32, 64, 3, 1, 1);
    s.other_sums = other_sums;
    const Floats x = normals(x_count(s), Rng(1)), w = normals(w_count(s), Rng(2)), other = normals(w_count(s), Rng(3));
    Floats y(static_cast<size_t>(y_count(s)));
    ConvForwardArgs args = ForwardTrait::args(s, x.data(), w.data(), y.data(), DType::f32);
    for_each_fast<ConvForward>(args, [&](auto&& run, const char* name) {
      const Floats expected = conv_result<ForwardTrait>(run, s, x, w);
      WeightCache cache;
      args.cache = &cache;
      args.w = w.data();
      run(args);
      CHECK_MESSAGE(same_bits(y, expected), name, " filling the cache");
      const int64_t held = cache.bytes();
      CHECK_MESSAGE(held >= w_count(s) * 4, name);
      Floats kept = w;
      args.w = kept.data();
      run(args);
      std::fill(kept.begin(), kept.end(), 0.0f);  // against the promise: it shows that nothing is made again
      run(args);
      CHECK_MESSAGE(same_bits(y, expected), name, " from the cache");
      CHECK_MESSAGE(cache.bytes() == 2 * held, name);
      args.w = other.data();
      run(args);
      CHECK_MESSAGE(same_bits(y, conv_result<ForwardTrait>(run, s, x, other)), name, " other weights");
      CHECK_MESSAGE(cache.bytes() == 3 * held, name);
    });
  }
}

namespace {

// Shapes that the convolutions of floats in parts take: 32 channels and more, for the data gradient in multiples of 32.
std::vector<ConvShape> part_cases() {
  std::vector<ConvShape> cases{
      conv(2, 7, 5, 33, 32, 3, 1, 1),      // a channel more than a step of the kernel
      conv(1, 8, 6, 64, 96, 3, 2, 1),      // whole tiles, stride 2
      conv(3, 5, 3, 40, 64, 1, 1, 0),      // 1x1
      conv(2, 7, 5, 47, 32, 1, 2, 0),      // 1x1 stride 2
      conv(1, 9, 11, 35, 32, 3, 1, 2, 2),  // dilated
      conv(2, 19, 14, 32, 64, 3, 2, 1),    // stride 2, more rows of the data gradient than a tile has
      conv(1, 20, 15, 70, 32, 3, 1, 1),    // several blocks of k
  };
  for (ConvShape& s : cases) s.other_sums = true;
  return cases;
}

// Calls check(run) with the implementation by parts, where this processor has it.
template <class Op, class Check>
void with_parts(const typename Op::Args& args, Check&& check) {
  for_each_fast<Op>(args, [&](auto&& run, const char* name) {
    if (std::string_view(name).ends_with("_parts")) check(run);
  });
}

// Values of which one in each sum of a convolution of 1x1 is not zero: one channel of a pixel, or one pixel.
Floats lone(int64_t pixels, int64_t channels, bool one_pixel, Rng rng) {
  Floats values(static_cast<size_t>(pixels * channels));
  for (int64_t i = 0; i < pixels; ++i) {
    for (int64_t c = 0; c < channels; ++c) {
      if (one_pixel ? i == pixels / 2 : c == i % channels) values[static_cast<size_t>(i * channels + c)] = static_cast<float>(rng.normal());
    }
  }
  return values;
}

}  // namespace

TEST_CASE_TEMPLATE("convolutions of floats in parts", Trait, ForwardTrait, DataTrait, WeightTrait) {
  using Op = typename Trait::Op;
  initialize();
  const Threads restore;
  for (const ConvShape& s : part_cases()) {
    const Floats a = integers(Trait::first(s), Rng(1)), b = integers(Trait::second(s), Rng(2));
    const std::vector<double> exact = conv_exact<Trait>(s, a, b);
    const Floats u = normals(Trait::first(s), Rng(3)), v = normals(Trait::second(s), Rng(4));
    const std::vector<double> expected = conv_exact<Trait>(s, u, v);
    const std::vector<double> zero(exact.size(), 0.0),
        bound(exact.size(), product_bound(Trait::terms(s), 2 * std::sqrt(double(Trait::terms(s)) + 8), 2));
    const auto args = Trait::args(s, a.data(), b.data(), nullptr, DType::f32);
    with_parts<Op>(args, [&](auto&& run) {
      set_threads(1);
      const Floats once = conv_result<Trait>(run, s, u, v);
      CHECK_MESSAGE(first_far(conv_result<Trait>(run, s, a, b), exact, zero) == -1, problem_line(args));
      CHECK_MESSAGE(first_far(once, expected, bound) == -1, problem_line(args));
      set_threads(3);
      CHECK_MESSAGE(same_bits(conv_result<Trait>(run, s, u, v), once), problem_line(args));
    });
  }
}

// h h' is exact, and all that is added to it before is 2^-8 of it: one rounding and a little, and 2^-26 that is left out. Without one of
// the six products it would be 2^-18.
TEST_CASE_TEMPLATE("a product of floats in parts errs by less than one and a half roundings", Trait, ForwardTrait, DataTrait, WeightTrait) {
  initialize();
  ConvShape s = conv(3, 5, 7, 64, 96, 1, 1, 0);
  s.other_sums = true;
  const int64_t channels = std::is_same_v<Trait, DataTrait> ? s.k : s.c;
  const Floats a = lone(Trait::first(s) / channels, channels, std::is_same_v<Trait, WeightTrait>, Rng(1));
  const Floats b = normals(Trait::second(s), Rng(2));
  const std::vector<double> exact = conv_exact<Trait>(s, a, b);
  std::vector<double> bound(exact.size());
  for (size_t i = 0; i < exact.size(); ++i) bound[i] = 1.5 * kEps * std::fabs(exact[i]);
  with_parts<typename Trait::Op>(Trait::args(s, a.data(), b.data(), nullptr, DType::f32),
                                 [&](auto&& run) { CHECK(first_far(conv_result<Trait>(run, s, a, b), exact, bound) == -1); });
}

TEST_CASE("floats in parts: NaN and infinity give NaN, the largest numbers bf16 has their products, few channels are refused") {
  initialize();
  ConvShape s = conv(1, 1, 6, 32, 32, 1, 1, 0);
  s.other_sums = true;
  Floats x(static_cast<size_t>(x_count(s))), w(static_cast<size_t>(w_count(s)), 0.5f);
  const float values[6] = {std::numeric_limits<float>::quiet_NaN(),
                           std::bit_cast<float>(0x7FFFFFFF),
                           std::numeric_limits<float>::infinity(),
                           3.38e38f,
                           -3.38e38f,
                           0x1p-120f};
  for (size_t i = 0; i < 6; ++i) x[i * 32 + 7] = values[i];
  with_parts<ConvForward>(ForwardTrait::args(s, x.data(), w.data(), nullptr, DType::f32), [&](auto&& run) {
    const Floats y = conv_result<ForwardTrait>(run, s, x, w);
    for (size_t i = 0; i < 3; ++i) CHECK(std::isnan(y[i * 32]));
    for (size_t i = 3; i < 6; ++i) CHECK(y[i * 32] == values[i] * 0.5f);
  });
  with_parts<ConvForward>(ForwardTrait::args(conv(1, 8, 8, 16, 32, 1, 1, 0), x.data(), w.data(), nullptr, DType::f32),
                          [](auto&&) { FAIL("16 channels were taken"); });
}
