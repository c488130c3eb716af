// Packed products, norms and what runs over rows, against the reference: exact on small integers, within a derived bound on normal values,
// bitwise independent of threads and of the other rows.

#include "engine/fast_cpu.h"

using namespace reid;
using namespace reid::fast_test;

namespace {

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
          .other_sums = (layout & 8) != 0,
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
    for (int layout = 0; layout < 16; ++layout) {
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
  for (const int layout : {0, 8}) {
    for_each_fast<Gemm>(gemm_args(g, a, b, nullptr, layout), [&](auto&& run, const char* name) {
      CHECK_MESSAGE(first_far(gemm_result(run, g, a, b, {}, layout), expected, bound) == -1, name);
    });
  }
}

TEST_CASE("a row of a packed product does not depend on the other rows, nor on threads") {
  initialize();
  const Threads restore;
  const GemmCase whole{467, 75, 600};
  for (int layout : {0, 2, 8, 10}) {
    const Floats a = normals(whole.m * whole.k, Rng(1)), b = normals(whole.k * whole.n, Rng(2));
    for_each_fast<Gemm>(gemm_args(whole, a, b, nullptr, layout), [&](auto&& run, const char* name) {
      set_threads(1);
      const Floats expected = gemm_result(run, whole, a, b, {}, layout);
      for (int count : {2, 3}) {
        set_threads(count);
        CHECK_MESSAGE(same_bits(gemm_result(run, whole, a, b, {}, layout), expected), name, " threads ", count);
      }
      for (const auto& range : {std::pair<int64_t, int64_t>{0, 1}, {466, 1}, {13, 14}, {200, 101}}) {
        const int64_t first = range.first, rows = range.second;
        const Floats part(a.begin() + first * whole.k, a.begin() + (first + rows) * whole.k);
        const Floats c = gemm_result(run, {rows, whole.n, whole.k}, part, b, {}, layout);
        CHECK_MESSAGE(same_bits(c, Floats(expected.begin() + first * whole.n, expected.begin() + (first + rows) * whole.n)), name, " rows ",
                      first, "+", rows);
      }
    });
  }
}

namespace {

struct NormData {
  NormWindow window;
  Floats x, gamma, beta, mean, variance, y;
};

NormSlice slice_of(const NormData& d, const float* beta) { return {d.window, d.mean.data(), d.variance.data(), d.gamma.data(), beta}; }

// Statistics and the normalized tensor, with the first (preferred) implementation.
NormData normalize(const NormWindow& w, Floats x) {
  const auto columns = static_cast<size_t>(w.groups * w.count);
  NormData d{w, std::move(x), normals(w.count, Rng(2)), normals(w.count, Rng(3)), Floats(columns), Floats(columns), {}};
  d.y = d.x;
  Registry::implementations<NormStatistics>(DeviceType::cpu)[0].run({d.x.data(), d.mean.data(), d.variance.data(), w, DType::f32},
                                                                    current_stream(Device{}));
  Registry::implementations<NormApply>(DeviceType::cpu)[0].run({.x = d.x.data(),
                                                                .slices = {slice_of(d, d.beta.data())},
                                                                .residual = nullptr,
                                                                .y = d.y.data(),
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
                                                                   .slices = {slice_of(d, nullptr)},
                                                                   .dx = dx.data(),
                                                                   .dresidual = nullptr,
                                                                   .dgamma = dgamma.data(),
                                                                   .dbeta = dbeta.data(),
                                                                   .eps = 1e-5,
                                                                   .relu = true,
                                                                   .constant_statistics = {},
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
