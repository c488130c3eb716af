// Reference: losses over similarities to centroids, and nearest rows. Whole rows of the matrix at a time.

#include <algorithm>
#include <numeric>
#include <vector>

#include "reference.h"
#include "reid/engine/op_args_fused.h"

namespace reid::cpu {

namespace {

template <class T>
void centroid_rows(const CentroidRowsArgs& a) {
  std::vector<double> s(static_cast<size_t>(a.columns)), sum(static_cast<size_t>(a.depth));
  for (int64_t i = 0; i < a.rows; ++i) {
    const T* x = in<T>(a.x) + i * a.depth;
    const double tau = in<T>(a.tau)[i], weight = in<T>(a.weight)[i];
    const auto positive = [&](int64_t j) { return a.column_label[j] == a.row_label[i]; };
    int64_t positives = 0;
    for (int64_t j = 0; j < a.columns; ++j) {
      const T* c = in<T>(a.c) + j * a.depth;
      s[static_cast<size_t>(j)] = std::inner_product(x, x + a.depth, c, 0.0, std::plus<>(), [](double u, double v) { return u * v; }) / tau;
      positives += positive(j);
    }
    const double total = log_sum_exp(a.columns, [&](int64_t j) { return s[static_cast<size_t>(j)]; });
    double loss = 0;
    std::fill(sum.begin(), sum.end(), 0.0);
    for (int64_t j = 0; positives > 0 && j < a.columns; ++j) {
      const double floor = a.smoothing / static_cast<double>(a.columns);
      const double target = floor + (positive(j) ? (1 - a.smoothing) / static_cast<double>(positives) : 0), z = s[static_cast<size_t>(j)];
      loss += target * (total - z);
      const double ds = weight * (std::exp(z - total) - target) / tau;
      for (int64_t d = 0; d < a.depth; ++d) sum[static_cast<size_t>(d)] += ds * in<T>(a.c)[j * a.depth + d];
    }
    out<T>(a.loss)[i] = static_cast<T>(weight * loss);
    std::transform(sum.begin(), sum.end(), out<T>(a.dx) + i * a.depth, [](double v) { return static_cast<T>(v); });
  }
}

template <class T>
void nearest_rows(const NearestRowsArgs& a) {
  std::vector<double> squares(static_cast<size_t>(a.n));
  std::vector<int32_t> order(static_cast<size_t>(a.n));
  for (int64_t i = 0; i < a.m; ++i) {
    const T* x = in<T>(a.x) + i * a.k;
    for (int64_t j = 0; j < a.n; ++j) {
      const auto square = [](double u, double v) { return (u - v) * (u - v); };
      squares[static_cast<size_t>(j)] = std::inner_product(x, x + a.k, in<T>(a.y) + j * a.k, 0.0, std::plus<>(), square);
    }
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t u, int32_t v) { return squares[static_cast<size_t>(u)] < squares[static_cast<size_t>(v)]; });
    for (int64_t r = 0; r < a.count; ++r) {
      a.index[i * a.count + r] = order[static_cast<size_t>(r)];
      out<T>(a.d)[i * a.count + r] = static_cast<T>(std::sqrt(squares[static_cast<size_t>(order[static_cast<size_t>(r)])]));
    }
  }
}

}  // namespace

void register_reference_fused() {
  REID_REFERENCE(CentroidRows, centroid_rows);
  REID_REFERENCE(NearestRows, nearest_rows);
}

}  // namespace reid::cpu
