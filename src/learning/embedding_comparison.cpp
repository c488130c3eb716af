#include "reid/learning/embedding_comparison.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <vector>

#include "reid/people/cluster.h"

namespace reid {

namespace {

constexpr int64_t kBlock = 64;  // images whose distances are held at a time

double relative_difference(std::span<const double> a, std::span<const double> b) {
  double difference = 0, length = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (a[i] - b[i]) * (a[i] - b[i]);
    length += a[i] * a[i];
  }
  return std::sqrt(difference / length);
}

// All images but `self`, nearest first.
std::vector<size_t> ranking(std::span<const double> distances, size_t self) {
  std::vector<size_t> order(distances.size());
  std::iota(order.begin(), order.end(), size_t{0});
  order.erase(order.begin() + static_cast<std::ptrdiff_t>(self));
  std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) { return distances[i] < distances[j]; });
  return order;
}

// The largest distances[i] - distances[j] of an i that stands before j in `order`.
double largest_inversion(std::span<const double> distances, const std::vector<size_t>& order) {
  double farthest = 0, largest = 0;
  for (const size_t i : order) {
    largest = std::max(largest, farthest - distances[i]);
    farthest = std::max(farthest, distances[i]);
  }
  return largest;
}

}  // namespace

EmbeddingComparison compare_embeddings(const Tensor& a, const Tensor& b, const std::string& a_name, const std::string& b_name) {
  REID_CHECK(a.shape() == b.shape(), "embeddings of ", a_name, " are ", a.shape(), ", of ", b_name, " ", b.shape());
  const Tensor x = a.to(DType::f64), y = b.to(DType::f64);
  check_features(x, Metric::cosine, "the embeddings of " + a_name);
  check_features(y, Metric::cosine, "the embeddings of " + b_name);
  EmbeddingComparison result;
  result.images = x.dim(0);
  const size_t n = static_cast<size_t>(x.dim(0)), width = static_cast<size_t>(x.dim(1));
  for (int64_t begin = 0; begin < result.images; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, result.images);
    const Tensor dx = pairwise_distance(x.rows(begin, end), x, Metric::cosine);  // [block, N]
    const Tensor dy = pairwise_distance(y.rows(begin, end), y, Metric::cosine);
    for (int64_t row = begin; row < end; ++row) {
      const size_t self = static_cast<size_t>(row), at = static_cast<size_t>(row - begin) * n;
      const double relative =
          relative_difference(x.span<double>().subspan(self * width, width), y.span<double>().subspan(self * width, width));
      if (relative > result.largest_relative) {
        result.largest_relative = relative;
        result.largest_row = row;
      }
      const std::span<const double> before = dx.span<double>().subspan(at, n), after = dy.span<double>().subspan(at, n);
      const std::vector<size_t> order = ranking(after, self);
      if (order == ranking(before, self)) continue;
      ++result.changed_ranks;
      result.largest_swap = std::max(result.largest_swap, largest_inversion(before, order));
    }
  }
  return result;
}

std::string EmbeddingComparison::summary() const {
  const std::string difference =
      str("largest difference ", largest_relative, " of the embedding's length (image ", largest_row, " of ", images, ")");
  if (changed_ranks == 0) return difference + "; no rank changed";
  return str(difference, "; ", changed_ranks, " of ", images,
             " images rank the others differently, between images whose distances differ by at most ", largest_swap);
}

}  // namespace reid
