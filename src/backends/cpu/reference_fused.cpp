// Reference: losses over similarities to centroids. Whole rows of the matrix at a time.

#include <algorithm>
#include <vector>

#include "reference.h"
#include "reid/engine/op_args_fused.h"

namespace reid::cpu {

namespace {

double dot(const auto* x, const auto* y, int64_t count) {
  double sum = 0;
  for (int64_t d = 0; d < count; ++d) sum += double{x[d]} * double{y[d]};
  return sum;
}

template <class T>
void centroid_rows(const CentroidRowsArgs& a) {
  using W = Wide<T>;
  std::vector<double> z(static_cast<size_t>(a.columns)), sum(static_cast<size_t>(a.depth));
  for (int64_t i = 0; i < a.rows; ++i) {
    const T* x = in<T>(a.x) + i * a.depth;
    const double tau = in<W>(a.tau)[i], weight = in<W>(a.weight)[i];
    const auto positive = [&](int64_t j) { return (a.column_label ? a.column_label[j] : j) == a.row_label[i]; };
    const int64_t first = a.first_column[i], end = a.end_column[i];
    int64_t positives = 0;
    for (int64_t j = first; j < end; ++j) {
      z[static_cast<size_t>(j)] = dot(x, in<T>(a.c) + j * a.depth, a.depth) / tau;
      positives += positive(j);
    }
    const double total = log_sum_exp(end - first, [&](int64_t j) { return z[static_cast<size_t>(first + j)]; });
    double loss = 0;
    std::fill(sum.begin(), sum.end(), 0.0);
    for (int64_t j = first; positives > 0 && j < end; ++j) {
      const double floor = a.smoothing / static_cast<double>(end - first), log_probability = z[static_cast<size_t>(j)] - total;
      const double target = floor + (positive(j) ? (1 - a.smoothing) / static_cast<double>(positives) : 0);
      if (target != 0) loss -= target * log_probability;
      const double ds = weight * (std::exp(log_probability) - target) / tau;
      for (int64_t d = 0; d < a.depth; ++d) sum[static_cast<size_t>(d)] += ds * double{in<T>(a.c)[j * a.depth + d]};
    }
    out<W>(a.loss)[i] = static_cast<W>(weight * loss);
    std::transform(sum.begin(), sum.end(), out<W>(a.dx) + i * a.depth, [](double v) { return static_cast<W>(v); });
  }
}

}  // namespace

void register_reference_fused() { REID_REFERENCE_BF16(CentroidRows, centroid_rows); }

}  // namespace reid::cpu
