// Packed products and implicit-GEMM convolutions against the reference: exact on small integers, within a derived bound on
// normal values, bitwise independent of threads, of batch size and of the position in the batch.

#include "engine/fast_cpu.h"
#include "reid/engine/weight_cache.h"

using namespace reid;
using namespace reid::fast_test;

namespace {

constexpr double kEps = 0x1p-24;  // f32 unit roundoff

// A sum of k products in any order, each step rounded once or twice: error <= 2 (k + 1) eps sum |a b|, and in practice, by the
// random walk of roundings, far below c sqrt(k) eps |a| |b| with c = 8 (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019).
double product_bound(int64_t k, double norm_a, double norm_b) { return 8 * kEps * std::sqrt(double(k) + 1) * norm_a * norm_b + 1e-30; }

struct GemmCase {
  int64_t m, n, k;
};
std::ostream& operator<<(std::ostream& out, const GemmCase& c) { return out << c.m << "x" << c.n << "x" << c.k; }

std::vector<GemmCase> gemm_cases() {
  std::vector<GemmCase> cases{{1, 1, 1},      {1, 33, 70},    {33, 1, 7},     {2, 3, 0},
                              {225, 65, 257}, {15, 290, 600}, {300, 31, 513}, {64, 100, 1000}};
  for (int64_t m : {5, 6, 7, 13, 14, 15}) cases.push_back({m, 32, 9});
  for (int64_t n : {7, 8, 15, 16, 17, 31, 32, 33}) cases.push_back({14, n, 11});
  for (int64_t k = 2; k <= 70; k += 17) cases.push_back({29, 47, k});
  return cases;
}

GemmArgs gemm_args(const GemmCase& g, const Floats& a, const Floats& b, float* c, int layout) {
  return {.a = a.data(),
          .b = b.data(),
          .c = c,
          .m = g.m,
          .n = g.n,
          .k = g.k,
          .transpose_a = (layout & 1) != 0,
          .transpose_b = (layout & 2) != 0,
          .accumulate = (layout & 4) != 0,
          .dtype = DType::f32};
}

template <class Run>
Floats gemm_result(Run&& run, const GemmCase& g, const Floats& a, const Floats& b, const Floats& start, int layout) {
  Guarded c(g.m * g.n);
  if (layout & 4) std::copy(start.begin(), start.end(), c.data());
  run(gemm_args(g, a, b, c.data(), layout));
  return c.take();
}

}  // namespace

TEST_CASE("packed gemm equals the reference exactly on small integers, all layouts") {
  initialize();
  for (const GemmCase& g : gemm_cases()) {
    const Floats a = integers(g.m * g.k, Rng(1)), b = integers(g.k * g.n, Rng(2)), start = integers(g.m * g.n, Rng(3));
    for (int layout = 0; layout < 8; ++layout) {
      const Floats expected = gemm_result([](const GemmArgs& args) { run_reference<Gemm>(args); }, g, a, b, start, layout);
      const int count = for_each_fast<Gemm>(gemm_args(g, a, b, nullptr, layout), [&](auto&& run, const char* name) {
        CHECK_MESSAGE(gemm_result(run, g, a, b, start, layout) == expected, name, " ", g, " layout ", layout);
      });
      REQUIRE(count >= 1);
    }
  }
}

TEST_CASE("packed gemm on normal values stays within the bound of its sums") {
  initialize();
  const GemmCase g{47, 61, 1500};
  const Floats a = normals(g.m * g.k, Rng(1)), b = normals(g.k * g.n, Rng(2));
  const std::vector<double> a64 = doubled(a), b64 = doubled(b);
  std::vector<double> expected(static_cast<size_t>(g.m * g.n)), bound(expected.size());
  GemmArgs exact = gemm_args(g, a, b, nullptr, 0);
  exact.a = a64.data(), exact.b = b64.data(), exact.c = expected.data(), exact.dtype = DType::f64;
  run_reference<Gemm>(exact);
  for (int64_t i = 0; i < g.m; ++i) {
    for (int64_t j = 0; j < g.n; ++j) {
      double aa = 0, bb = 0;
      for (int64_t k = 0; k < g.k; ++k) {
        aa += std::pow(a64[static_cast<size_t>(i * g.k + k)], 2);
        bb += std::pow(b64[static_cast<size_t>(k * g.n + j)], 2);
      }
      bound[static_cast<size_t>(i * g.n + j)] = product_bound(g.k, std::sqrt(aa), std::sqrt(bb));
    }
  }
  for_each_fast<Gemm>(gemm_args(g, a, b, nullptr, 0), [&](auto&& run, const char* name) {
    CHECK_MESSAGE(first_far(gemm_result(run, g, a, b, {}, 0), expected, bound) == -1, name);
  });
}

TEST_CASE("a row of a packed product does not depend on the other rows, nor on threads") {
  initialize();
  const Threads restore;
  const GemmCase whole{467, 75, 600};
  for (int layout : {0, 2}) {
    const Floats a = normals(whole.m * whole.k, Rng(1)), b = normals(whole.k * whole.n, Rng(2));
    for_each_fast<Gemm>(gemm_args(whole, a, b, nullptr, layout), [&](auto&& run, const char* name) {
      set_threads(1);
      const Floats expected = gemm_result(run, whole, a, b, {}, layout);
      for (int count : {2, 3}) {
        set_threads(count);
        CHECK_MESSAGE(same_bits(gemm_result(run, whole, a, b, {}, layout), expected), name, " threads ", count);
      }
      for (const auto& [first, rows] : {std::pair<int64_t, int64_t>{0, 1}, {466, 1}, {13, 14}, {200, 101}}) {
        const Floats part(a.begin() + first * whole.k, a.begin() + (first + rows) * whole.k);
        const Floats c = gemm_result(run, {rows, whole.n, whole.k}, part, b, {}, layout);
        CHECK_MESSAGE(same_bits(c, Floats(expected.begin() + first * whole.n, expected.begin() + (first + rows) * whole.n)), name, " rows ",
                      first, "+", rows);
      }
    });
  }
}

namespace {

ConvShape conv(int64_t n, int64_t h, int64_t w, int64_t c, int64_t k, int64_t filter, int64_t stride, int64_t pad, int64_t dilation = 1) {
  return {.n = n,
          .h = h,
          .w = w,
          .c = c,
          .k = k,
          .r = filter,
          .s = filter,
          .stride = {stride, stride},
          .pad = {pad, pad},
          .dilation = {dilation, dilation}};
}

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
  for (const ConvShape& one : {conv(1, 17, 9, 3, 33, 7, 2, 3), conv(1, 5, 7, 40, 20, 3, 1, 1), conv(1, 3, 3, 300, 64, 1, 1, 0)}) {
    ConvShape batch = one;
    batch.n = 9;
    const Floats x = normals(x_count(batch), Rng(1)), w = normals(w_count(one), Rng(2));
    for_each_fast<ConvForward>(ForwardTrait::args(one, x.data(), w.data(), nullptr, DType::f32), [&](auto&& run, const char* name) {
      const Floats all = conv_result<ForwardTrait>(run, batch, x, w);
      for (int64_t i : {0, 4, 8}) {
        const Floats image(x.begin() + i * x_count(one), x.begin() + (i + 1) * x_count(one));
        const Floats expected(all.begin() + i * y_count(one), all.begin() + (i + 1) * y_count(one));
        CHECK_MESSAGE(same_bits(conv_result<ForwardTrait>(run, one, image, w), expected), name, " image ", i);
      }
    });
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

struct NormData {
  NormWindow window;
  Floats x, gamma, beta, mean, variance, y;
};

// Statistics and the normalized tensor, with the first (preferred) implementation.
NormData normalize(const NormWindow& w, Floats x) {
  const auto columns = static_cast<size_t>(w.groups * w.count);
  NormData d{w, std::move(x), normals(w.count, Rng(2)), normals(w.count, Rng(3)), Floats(columns), Floats(columns), {}};
  d.y = d.x;
  Registry::implementations<NormStatistics>(DeviceType::cpu)[0].run({d.x.data(), d.mean.data(), d.variance.data(), w, DType::f32},
                                                                    current_stream(Device{}));
  Registry::implementations<NormApply>(DeviceType::cpu)[0].run({.x = d.x.data(),
                                                                .mean = d.mean.data(),
                                                                .variance = d.variance.data(),
                                                                .gamma = d.gamma.data(),
                                                                .beta = d.beta.data(),
                                                                .residual = nullptr,
                                                                .y = d.y.data(),
                                                                .window = w,
                                                                .eps = 1e-5,
                                                                .relu = true,
                                                                .dtype = DType::f32},
                                                               current_stream(Device{}));
  return d;
}

// dx, dgamma and dbeta behind one another.
Floats norm_gradients(const NormData& d, const Floats& dy) {
  Floats dx(dy.size()), dgamma(d.gamma.size()), dbeta(d.gamma.size());
  Registry::implementations<NormBackward>(DeviceType::cpu)[0].run({.dy = dy.data(),
                                                                   .x = d.x.data(),
                                                                   .y = d.y.data(),
                                                                   .mean = d.mean.data(),
                                                                   .variance = d.variance.data(),
                                                                   .gamma = d.gamma.data(),
                                                                   .dx = dx.data(),
                                                                   .dresidual = nullptr,
                                                                   .dgamma = dgamma.data(),
                                                                   .dbeta = dbeta.data(),
                                                                   .window = d.window,
                                                                   .eps = 1e-5,
                                                                   .relu = true,
                                                                   .constant_statistics = false,
                                                                   .dtype = DType::f32},
                                                                  current_stream(Device{}));
  dx.insert(dx.end(), dgamma.begin(), dgamma.end());
  dx.insert(dx.end(), dbeta.begin(), dbeta.end());
  return dx;
}

}  // namespace

TEST_CASE("norms give the same bits for any number of threads, and an image's own norm for any batch") {
  initialize();
  const Threads restore;
  const NormWindow batch{.groups = 1, .length = 1301, .channels = 83, .first = 0, .count = 83};
  const NormWindow images{.groups = 5, .length = 300, .channels = 83, .first = 3, .count = 77};
  for (const NormWindow& w : {batch, images}) {
    const int64_t size = w.groups * w.length * w.channels;
    const Floats dy = normals(size, Rng(5));
    set_threads(1);
    const NormData expected = normalize(w, normals(size, Rng(4)));
    const Floats gradients = norm_gradients(expected, dy);
    for (int count : {2, 3}) {
      set_threads(count);
      const NormData got = normalize(w, expected.x);
      CHECK(same_bits(got.mean, expected.mean));
      CHECK(same_bits(got.variance, expected.variance));
      CHECK(same_bits(got.y, expected.y));
      CHECK(same_bits(norm_gradients(got, dy), gradients));
    }
  }
  const NormData all = normalize(images, normals(5 * 300 * 83, Rng(4)));
  NormWindow alone = images;
  alone.groups = 1;
  const NormData last = normalize(alone, Floats(all.x.end() - 300 * 83, all.x.end()));
  CHECK(same_bits(last.y, Floats(all.y.end() - 300 * 83, all.y.end())));
}

TEST_CASE("statistics keep their digits when the mean is large beside the deviation") {
  initialize();
  const NormWindow w{.groups = 1, .length = 4099, .channels = 67, .first = 0, .count = 67};
  Floats x(static_cast<size_t>(w.length * w.channels));
  Rng rng(9);
  for (float& v : x) v = static_cast<float>(1000 + rng.normal());
  Floats mean(67), variance(67);
  std::vector<double> x64 = doubled(x), mean64(67), variance64(67);
  run_reference<NormStatistics>({x64.data(), mean64.data(), variance64.data(), w, DType::f64});
  for_each_fast<NormStatistics>({x.data(), mean.data(), variance.data(), w, DType::f32}, [&](auto&& run, const char* name) {
    run({x.data(), mean.data(), variance.data(), w, DType::f32});
    // The mean is rounded once; deviations of a few units are differences of nearby floats, hence exact, and their squares are
    // summed in runs of at most 256 rows.
    CHECK_MESSAGE(first_far(mean, mean64, std::vector<double>(67, 1000 * kEps)) == -1, name);
    CHECK_MESSAGE(first_far(variance, variance64, std::vector<double>(67, 64 * kEps)) == -1, name);
  });
}
