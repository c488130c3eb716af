// How much two feature spaces agree about a row's neighbors.

#include <algorithm>

#include "people/neighbors.h"

namespace reid {

namespace {

// Rows of k neighbors, the row itself left out, ascending by index.
std::vector<std::vector<int32_t>> neighborhoods(const Tensor& features, const char* what, int64_t k, Device device) {
  const DistanceTiles pairs(features, what, Metric::cosine, device);
  REID_CHECK(k >= 1 && k < pairs.count(), "[cross_agreement] k = ", k, " neighbors of ", pairs.count(), " rows: at most ",
             pairs.count() - 1, " are there");
  const Neighbors found = nearest_neighbors(pairs, k + 1);
  std::vector<std::vector<int32_t>> rows;
  for (int64_t i = 0; i < pairs.count(); ++i) {
    const std::span<const int32_t> row = found.row(i, k + 1);  // the row itself stands first
    rows.emplace_back(row.begin() + 1, row.end());
    std::ranges::sort(rows.back());
  }
  return rows;
}

}  // namespace

std::vector<double> cross_agreement(const Tensor& a, const Tensor& b, int64_t k, Device device) {
  REID_CHECK(a.shape().rank() == 2 && b.shape().rank() == 2 && a.dim(0) == b.dim(0), "[cross_agreement] a ", a.shape(), " and b ",
             b.shape(), " must have as many rows");
  const auto in_a = neighborhoods(a, "[cross_agreement] a", k, device), in_b = neighborhoods(b, "[cross_agreement] b", k, device);
  std::vector<double> agreement;
  std::vector<int32_t> common;
  for (size_t i = 0; i < in_a.size(); ++i) {
    common.clear();
    std::ranges::set_intersection(in_a[i], in_b[i], std::back_inserter(common));
    const double shared = static_cast<double>(common.size());
    agreement.push_back(shared / (2 * static_cast<double>(k) - shared));
  }
  return agreement;
}

}  // namespace reid
