// What numbers drawn at random do not show: every implementation, emulated or not, treats NaN and infinities as the reference does.

#include <cmath>
#include <limits>

#include "harness.h"

namespace reid::test {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN(), kInfinity = std::numeric_limits<float>::infinity();

// Calls f(run, name) with every implementation of Op that accepts the arguments.
template <class Op, class F>
void each_implementation(const typename Op::Args& args, F&& f) {
  initialize();
  int count = 0;
  for (const Impl<Op>& impl : Registry::implementations<Op>(DeviceType::cpu)) {
    if (impl.refuses && impl.refuses(args)) continue;
    f([&](const typename Op::Args& a) { impl.run(a, current_stream(Device{})); }, impl.name);
    ++count;
  }
  CHECK(count >= 2);
}

bool same(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

TEST_CASE("special values: relu keeps NaN, its gradient passes nothing there") {
  const std::vector<float> x{kNan, -1, 0, 2, kInfinity, -kInfinity, kNan, 3, 4}, expected{kNan, 0, 0, 2, kInfinity, 0, kNan, 3, 4};
  const std::vector<float> passed{0, 0, 0, 1, 1, 0, 0, 1, 1}, ones(9, 1.0f);
  std::vector<float> y(9), dx(9);
  const ReluArgs args{.x = x.data(), .y = y.data(), .count = 9, .dtype = DType::f32};
  each_implementation<Relu>(args, [&](auto&& run, const char* name) {
    run(args);
    for (size_t i = 0; i < 9; ++i) CHECK_MESSAGE(same(y[i], expected[i]), name, " at ", i);
  });
  const ReluBackwardArgs back{.dy = ones.data(), .y = expected.data(), .dx = dx.data(), .count = 9, .dtype = DType::f32};
  each_implementation<ReluBackward>(back, [&](auto&& run, const char* name) {
    run(back);
    CHECK_MESSAGE(dx == passed, name);
  });
}

TEST_CASE("special values: a window with NaN has the first NaN as its maximum") {
  // Four windows of 2 x 2 in a row, one channel: NaN last, NaN twice, all -inf, +inf.
  const std::vector<float> x{1, 2,    kNan, 5, -kInfinity, -kInfinity, 1,         3,  //
                             3, kNan, kNan, 7, -kInfinity, -kInfinity, kInfinity, 2};
  const std::vector<float> expected{kNan, kNan, -kInfinity, kInfinity};
  const std::vector<int32_t> places{9, 2, 4, 14};
  std::vector<float> y(4);
  std::vector<int32_t> index(4);
  const MaxPoolArgs args{.x = x.data(),
                         .y = y.data(),
                         .index = index.data(),
                         .shape = {.n = 1, .h = 2, .w = 8, .c = 1, .kernel = 2, .stride = 2, .pad = 0, .ceil = false},
                         .dtype = DType::f32};
  each_implementation<MaxPool>(args, [&](auto&& run, const char* name) {
    run(args);
    for (size_t i = 0; i < 4; ++i) CHECK_MESSAGE(same(y[i], expected[i]), name, " at ", i);
    CHECK_MESSAGE(index == places, name);
  });
}

TEST_CASE("special values: statistics keep their digits when the mean is large beside the deviation") {
  const NormWindow w{.groups = 1, .length = 1099, .channels = 4, .first = 0, .count = 4};
  std::vector<float> x(static_cast<size_t>(w.length * w.channels)), mean(4), variance(4);
  Rng rng(9);
  for (float& v : x) v = static_cast<float>(1000 + rng.normal());
  const NormStatisticsArgs args{x.data(), mean.data(), variance.data(), w, DType::f32};
  std::vector<double> sum(4), squares(4);
  for (size_t i = 0; i < x.size(); ++i) sum[i % 4] += double{x[i]} / static_cast<double>(w.length);
  for (size_t i = 0; i < x.size(); ++i) squares[i % 4] += std::pow(double{x[i]} - sum[i % 4], 2) / static_cast<double>(w.length);
  each_implementation<NormStatistics>(args, [&](auto&& run, const char* name) {
    run(args);
    // A mean is stored with half an ulp of 1000 lost, or summed with a few dozen. Deviations from it are exact differences of nearby
    // floats. Where runs of at least 256 rows are merged, their means, 4 / sqrt(256) apart at most, carry those ulps into the variance.
    const double ulp = 1000 * 0x1p-24;
    for (size_t c = 0; c < 4; ++c) CHECK_MESSAGE(std::abs(double{mean[c]} - sum[c]) <= 32 * ulp, name);
    for (size_t c = 0; c < 4; ++c)
      CHECK_MESSAGE(std::abs(double{variance[c]} - squares[c]) <= 2 * ulp / 4 + 64 * 0x1p-24 * squares[c], name);
  });
}

TEST_CASE("special values: of equal distances the first is the hardest") {
  constexpr int64_t kColumns = 300;  // a thread of a block looks at several
  std::vector<float> d(kColumns, 1.0f), weight{1}, loss(1), dd(kColumns);
  std::vector<uint8_t> mask(kColumns);
  for (size_t i = 0; i < mask.size(); ++i) mask[i] = i % 2 == 0 ? kPositive : kNegative;
  mask[0] = mask[1] = kIgnored;
  d[140] = d[268] = d[270] = 3, d[141] = d[15] = d[271] = 0.5f;
  const TripletRowsArgs args{.d = d.data(),
                             .mask = mask.data(),
                             .weight = weight.data(),
                             .loss = loss.data(),
                             .dd = dd.data(),
                             .rows = 1,
                             .columns = kColumns,
                             .margin = 0.25,
                             .weighted = false,
                             .dtype = DType::f32};
  std::vector<float> expected(kColumns);
  expected[140] = 1, expected[15] = -1;
  each_implementation<TripletRows>(args, [&](auto&& run, const char* name) {
    run(args);
    CHECK_MESSAGE(loss[0] == 2.75f, name);
    CHECK_MESSAGE(dd == expected, name);
  });
}

}  // namespace
}  // namespace reid::test
