// What is made of a convolution's output on its way to memory, a norm or its statistics, has the bits of what is made of it afterwards.

#include "engine/fast_cpu.h"
#include "harness.h"
#include "reid/engine/ops.h"

using namespace reid;
using namespace reid::fast_test;

namespace {
Tensor normal(const char* name, Shape shape) { return test::normal_tensor(name, shape, DType::f32); }
}  // namespace

TEST_CASE("a convolution that finishes its output by a norm gives the bits of both in turn") {
  initialize();
  for (ConvShape s : {conv(2, 7, 5, 33, 15, 3, 1, 1), conv(3, 9, 6, 32, 64, 3, 1, 1), conv(2, 17, 9, 3, 64, 7, 2, 3),
                      conv(9, 8, 8, 64, 96, 1, 1, 0), conv(2, 9, 7, 64, 40, 3, 2, 1)}) {
    for (int kind = 0; kind < 8; ++kind) {
      const bool relu = (kind & 1) != 0, add = (kind & 2) != 0;
      const DType dtype = (kind & 4) != 0 ? DType::bf16 : DType::f32;
      s.other_sums = relu;
      const Tensor x = ops::cast(normal("x", {s.n, s.h, s.w, s.c}), dtype), w = ops::cast(normal("w", {s.k, s.r, s.s, s.c}), dtype);
      const Tensor residual = add ? ops::cast(normal("residual", {s.n, s.p(), s.q(), s.k}), dtype) : Tensor();
      const Tensor mean = normal("mean", {s.k}), gamma = normal("gamma", {s.k}), beta = normal("beta", {s.k});
      const Tensor variance = ops::multiply(gamma, gamma), y = Tensor::empty({s.n, s.p(), s.q(), s.k}, dtype);
      ConvForwardArgs args{.x = x.raw(), .w = w.raw(), .y = y.raw(), .shape = s, .dtype = dtype};
      ConvForwardArgs together = args;
      together.finish = {mean.raw(), variance.raw(), gamma.raw(), beta.raw(), residual.raw(), 1e-5, relu};
      const int count = for_each_fast<ConvForward>(args, [&](auto&& run, const char* name) {
        run(args);
        dispatch<NormApply>({}, together.finishing());
        const Tensor expected = y.clone();
        run(together);
        CHECK_MESSAGE(bitwise_equal(y, expected), name, " ", problem_line(together));
      });
      CHECK(count >= 1);
    }
  }
}

TEST_CASE("a convolution that takes statistics of its output gives the bits of both in turn, whatever the threads") {
  initialize();
  const Threads restore;
  struct Case {
    ConvShape shape;
    int64_t groups[2], first;  // windows: channels [0, first) if any, and the rest
  };
  for (Case c : {Case{conv(4, 17, 13, 33, 15, 3, 1, 1), {0, 2}, 0}, Case{conv(2, 37, 23, 32, 64, 3, 1, 1), {2, 1}, 32},
                 Case{conv(2, 17, 9, 3, 64, 7, 2, 3), {0, 1}, 0}, Case{conv(6, 8, 8, 64, 96, 1, 1, 0), {6, 3}, 47},
                 Case{conv(2, 9, 7, 64, 40, 3, 2, 1), {2, 2}, 20}, Case{conv(1, 40, 31, 64, 1088, 1, 1, 0), {0, 1}, 0}}) {
    const ConvShape& s = c.shape;
    const int64_t pixels = s.n * s.p() * s.q();
    for (int kind = 0; kind < 4; ++kind) {
      c.shape.other_sums = (kind & 1) != 0;
      const DType dtype = (kind & 2) != 0 ? DType::bf16 : DType::f32;
      const Tensor x = ops::cast(normal("x", {s.n, s.h, s.w, s.c}), dtype), w = ops::cast(normal("w", {s.k, s.r, s.s, s.c}), dtype);
      const Tensor y = Tensor::empty({s.n, s.p(), s.q(), s.k}, dtype);
      ConvForwardArgs args{.x = x.raw(), .w = w.raw(), .y = y.raw(), .shape = s, .dtype = dtype};
      std::vector<ops::Statistics> taken;
      for (const int64_t i : {0, 1}) {
        const int64_t groups = c.groups[i], first = i == 0 ? 0 : c.first, count = i == 0 ? c.first : s.k - c.first;
        if (groups == 0) continue;
        const ops::Statistics& t =
            taken.emplace_back(ops::Statistics{Tensor::empty({groups, count}, DType::f32), Tensor::empty({groups, count}, DType::f32)});
        args.statistics[taken.size() - 1] = {.x = y.raw(),
                                             .mean = t.mean.raw(),
                                             .variance = t.variance.raw(),
                                             .window = {groups, pixels / groups, s.k, first, count},
                                             .dtype = dtype};
      }
      for (const int threads : {1, 3}) {
        set_threads(threads);
        const int count = for_each_fast<ConvForward>(args, [&](auto&& run, const char* name) {
          run(args);
          const Tensor output = y.clone();
          ConvForwardArgs alone = args;
          for (NormStatisticsArgs& none : alone.statistics) none = {};
          run(alone);
          CHECK_MESSAGE(bitwise_equal(y, output), name, " ", problem_line(args));
          for (size_t i = 0; i < taken.size(); ++i) {
            const ops::Statistics apart = ops::norm_statistics(y, args.statistics[i].window);
            CHECK_MESSAGE(bitwise_equal(taken[i].mean, apart.mean), name, " ", problem_line(args));
            CHECK_MESSAGE(bitwise_equal(taken[i].variance, apart.variance), name, " ", problem_line(args));
            taken[i].mean.fill(-1);
            taken[i].variance.fill(-1);
          }
        });
        CHECK(count >= 1);
      }
    }
  }
}

TEST_CASE("conv_statistics is conv_forward and norm_statistics, in every type, and names what does not fit") {
  const ops::ConvGeometry g{.pad = 1};
  for (const DType dtype : {DType::f32, DType::bf16, DType::f64}) {
    const auto tensor = [&](const char* name, Shape shape) {
      return dtype == DType::f64 ? test::normal_tensor(name, shape, dtype) : ops::cast(normal(name, shape), dtype);
    };
    const Tensor x = tensor("x", {2, 6, 5, 32}), w = tensor("w", {48, 3, 3, 32}), y = ops::conv_forward(x, w, g);
    const std::vector<NormWindow> windows = {{2, 30, 48, 0, 24}, {1, 60, 48, 24, 24}};
    CHECK(ops::conv_output(x.shape(), w.shape(), g) == y.shape());
    const ops::ConvStatistics both = ops::conv_statistics(x, w, g, windows);
    CHECK(bitwise_equal(both.y, y));
    for (size_t i = 0; i < 2; ++i) {
      const ops::Statistics apart = ops::norm_statistics(y, windows[i]);
      CHECK(bitwise_equal(both.taken[i].mean, apart.mean));
      CHECK(bitwise_equal(both.taken[i].variance, apart.variance));
    }
    CHECK_THROWS_WITH_AS(ops::conv_statistics(x, w, g, {{1, 59, 48, 0, 48}}), doctest::Contains("59 rows"), Error);
    CHECK_THROWS_WITH_AS(ops::conv_statistics(x, w, g, {}), doctest::Contains("one or two windows"), Error);
  }
}

TEST_CASE("two norms of a map are of neighboring channels, the first of the smaller groups") {
  const Tensor x = normal("x", {4, 3, 16}), y = Tensor::empty(x.shape(), DType::f32);
  const auto norm = [](int64_t groups, int64_t first, int64_t count) {
    const Tensor statistics = Tensor::full({groups, count}, 1, DType::f32), parameters = Tensor::full({count}, 1, DType::f32);
    return ops::NormOperands{{groups, 12 / groups, 16, first, count}, {statistics, statistics}, parameters, parameters, false};
  };
  const auto apply = [&](const std::vector<ops::NormOperands>& norms) { ops::norm_apply(x, norms, Tensor(), 1e-5, true, y); };
  apply({norm(4, 0, 6), norm(2, 6, 10)});
  CHECK_THROWS_WITH_AS(apply({norm(4, 0, 6), norm(2, 7, 9)}), doctest::Contains("channels begin at 7, expected 6"), Error);
  CHECK_THROWS_WITH_AS(apply({norm(2, 0, 6), norm(4, 6, 10)}), doctest::Contains("4 groups are not unions of the first's 2"), Error);
  CHECK_THROWS_WITH_AS(apply({}), doctest::Contains("takes one or two norms, got 0"), Error);
  std::vector<ops::NormOperands> half{norm(4, 0, 6), norm(4, 6, 10)};
  half[1].beta = Tensor();
  CHECK_THROWS_WITH_AS(ops::norm_backward(x, x, y, half, 1e-5, true, y, Tensor()), doctest::Contains("one norm has a beta"), Error);
}

TEST_CASE("conv_norm is norm_apply of conv_forward, and names what does not fit") {
  const Tensor x = normal("x", {2, 6, 5, 32}), w = normal("w", {48, 3, 3, 32}), y = Tensor::empty({2, 6, 5, 48}, DType::f32);
  const Tensor mean = normal("mean", {1, 48}), gamma = normal("gamma", {48}), beta = normal("beta", {48});
  const ops::Statistics s{mean, ops::multiply(mean, mean)};
  const ops::ConvGeometry g{.pad = 1};
  const NormWindow window{.groups = 1, .length = 60, .channels = 48, .first = 0, .count = 48};
  ops::norm_apply(ops::conv_forward(x, w, g), {{window, s, gamma, beta, true}}, Tensor(), 1e-5, true, y);
  CHECK(bitwise_equal(ops::conv_norm(x, w, g, s, gamma, beta, Tensor(), 1e-5, true), y));
  CHECK_THROWS_WITH_AS(ops::conv_norm(x, w, g, s, gamma, mean, Tensor(), 1e-5, true), doctest::Contains("beta"), Error);
  CHECK_THROWS_WITH_AS(ops::conv_norm(x, w, g, s, gamma, beta, x, 1e-5, true), doctest::Contains("conv_norm"), Error);
}
