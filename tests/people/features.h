#pragma once
// What the tests of features share: random ones, how far two tensors are apart, and equal results with any number of threads.

#include <cmath>
#include <string>
#include <vector>

#include "harness.h"
#include "reid/engine/device.h"
#include "reid/people/cluster.h"

namespace reid::test {

// The largest |a - b| over two f64 or f32 tensors of one shape; infinite when a NaN is about.
inline double largest_difference(const Tensor& a, const Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  const Tensor x = a.to(DType::f64), y = b.to(DType::f64);
  double largest = 0;
  for (int64_t i = 0; i < x.numel(); ++i) {
    const double difference = std::fabs(x.data<double>()[i] - y.data<double>()[i]);
    largest = difference <= largest ? largest : std::isnan(difference) ? INFINITY : difference;
  }
  return largest;
}

inline Tensor random_features(int64_t rows, int64_t width, DType dtype, uint64_t seed) {
  Rng rng(seed);
  std::vector<double> values(static_cast<size_t>(rows * width));
  for (double& v : values) v = rng.normal();
  return Tensor::from(values, {rows, width}).to(dtype);
}

inline bool same_lists(const NearestRows& a, const NearestRows& b) {
  return bitwise_equal(a.index, b.index) && bitwise_equal(a.distance, b.distance);
}

// Runs the action with each number of threads and demands equal results.
template <class Action>
void same_with_threads(Action&& action) {
  const int before = threads();
  set_threads(1);
  const auto one = action();
  for (int count : {2, 5}) {
    set_threads(count);
    CHECK(action() == one);
  }
  set_threads(before);
}

}  // namespace reid::test
