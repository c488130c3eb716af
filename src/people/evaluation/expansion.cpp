// Query and database expansion.

#include <algorithm>
#include <cmath>

#include "people/distances.h"
#include "people/evaluation/stack.h"
#include "people/neighbors.h"
#include "reid/people/rerank.h"

namespace reid {

namespace {

template <class T>
void scale_to_unit_as(const Tensor& rows) {
  const std::vector<double> squared = squared_lengths(rows);
  const int64_t width = rows.dim(1);
  parallel_for(rows.dim(0), 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const double scale = 1 / std::sqrt(squared[static_cast<size_t>(i)]);
      T* x = rows.data<T>() + i * width;
      for (int64_t d = 0; d < width; ++d) x[d] = static_cast<T>(static_cast<double>(x[d]) * scale);
    }
  });
}

// Row i of the result: the mean of `own` row i (when given, with weight 1) and of its neighbors among `others`.
template <class T>
Tensor expanded(const Tensor* own, const Tensor& others, const Neighbors& neighbors, double alpha) {
  const int64_t width = others.dim(1), count = static_cast<int64_t>(neighbors.index.size()) / std::max<int64_t>(1, neighbors.width);
  const int64_t rows = own != nullptr ? own->dim(0) : count;
  const Tensor out = Tensor::empty({rows, width}, others.dtype());
  parallel_for(rows, 16, [&](int64_t begin, int64_t end, int) {
    std::vector<double> sums(static_cast<size_t>(width));
    const auto add = [&](const T* x, double weight) {
      for (int64_t d = 0; d < width; ++d) sums[static_cast<size_t>(d)] += static_cast<double>(x[d]) * weight;
    };
    for (int64_t i = begin; i < end; ++i) {
      std::fill(sums.begin(), sums.end(), 0.0);
      if (own != nullptr) add(own->data<T>() + i * width, 1);
      const std::span<const int32_t> near = neighbors.row(i, neighbors.width);
      for (size_t e = 0; e < near.size(); ++e) {
        const double weight = std::pow(1 - neighbors.distances(i, neighbors.width)[e], alpha);
        add(others.data<T>() + near[e] * width, std::isnan(weight) ? 0 : weight);
      }
      const double total = static_cast<double>(near.size() + (own != nullptr ? 1 : 0));
      for (int64_t d = 0; d < width; ++d) out.data<T>()[i * width + d] = static_cast<T>(sums[static_cast<size_t>(d)] / total);
    }
  });
  return out;
}

Tensor expand(const Tensor* own, const Tensor& others, const Neighbors& neighbors, double alpha) {
  return others.dtype() == DType::f32 ? expanded<float>(own, others, neighbors, alpha) : expanded<double>(own, others, neighbors, alpha);
}

void check(const ExpansionOptions& options) {
  REID_CHECK(options.k >= 1, "[expand] k is ", options.k, ", expected at least 1: the row itself");
  REID_CHECK(options.alpha >= 0 && std::isfinite(options.alpha), "[expand] alpha is ", options.alpha, ", expected a number >= 0");
}

NeighborOptions with_distances() {
  NeighborOptions search;
  search.distances = true;
  return search;
}

}  // namespace

Tensor stacked(const Tensor& a, const Tensor& b) {
  REID_CHECK(a.dtype() == b.dtype() && a.dim(1) == b.dim(1), "rows ", a.shape(), " ", a.dtype(), " and ", b.shape(), " ", b.dtype(),
             " do not fit together: they come from different models");
  const Tensor all = Tensor::empty({a.dim(0) + b.dim(0), a.dim(1)}, a.dtype());
  // New memory is cleared where it is touched first: by all threads.
  const int64_t split = a.dim(0);
  parallel_for(all.dim(0), 64, [&](int64_t begin, int64_t end, int) {
    if (begin < split) all.rows(begin, std::min(end, split)).copy_from(a.rows(begin, std::min(end, split)));
    if (end > split) all.rows(std::max(begin, split), end).copy_from(b.rows(std::max(begin, split) - split, end - split));
  });
  return all;
}

void scale_to_unit(const Tensor& rows) { rows.dtype() == DType::f32 ? scale_to_unit_as<float>(rows) : scale_to_unit_as<double>(rows); }

Tensor expand_queries(const Tensor& query, const Tensor& gallery, const ExpansionOptions& options) {
  check(options);
  const DistanceTiles pairs(query, "[expand] query", gallery, "[expand] gallery", Metric::cosine, options.device);
  if (options.k == 1) return query.clone();
  return expand(&query, gallery, nearest_neighbors(pairs, options.k - 1, with_distances()), options.alpha);
}

Tensor expand_rows(const Tensor& features, const ExpansionOptions& options) {
  check(options);
  const DistanceTiles pairs(features, "[expand] features", Metric::cosine, options.device);
  return expand(nullptr, features, nearest_neighbors(pairs, options.k, with_distances()), options.alpha);
}

ExpandedSides expand_union(const Tensor& query, const Tensor& gallery, const ExpansionOptions& options) {
  const Tensor all = expand_rows(stacked(query, gallery), options);
  return {all.rows(0, query.dim(0)), all.rows(query.dim(0), all.dim(0))};
}

}  // namespace reid
