// Reference: distances of rows, triplet losses over them, logits with a margin, soft targets.

#include <algorithm>
#include <cmath>
#include <vector>

#include "reference.h"

namespace reid::cpu {

namespace {

template <class T>
void row_distances(const RowDistancesArgs& a) {
  for (int64_t i = 0; i < a.m; ++i) {
    const T* x = in<T>(a.x) + i * a.k;
    for (int64_t j = 0; j < a.n; ++j) {
      const T* y = in<T>(a.y) + j * a.k;
      double squares = 0;
      for (int64_t k = 0; k < a.k; ++k) {
        const double difference = double{x[k]} - double{y[k]};
        squares += difference * difference;
      }
      out<T>(a.d)[i * a.n + j] = static_cast<T>(std::sqrt(std::max(squares, a.floor)));
    }
  }
}

template <class T>
void row_distances_backward(const RowDistancesBackwardArgs& a) {
  const T least = static_cast<T>(std::sqrt(a.floor));
  const auto factor = [&](int64_t i, int64_t j) {
    const T d = in<T>(a.d)[i * a.n + j];
    return d > least ? double{in<T>(a.dd)[i * a.n + j]} / double{d} : 0.0;
  };
  // `other` has `others` rows; a row's gradient is the sum of its differences to all of them.
  const auto side = [&](const T* own, const T* other, int64_t rows, int64_t others, T* gradient, const auto& factor_of) {
    std::vector<double> sum(static_cast<size_t>(a.k));
    for (int64_t r = 0; r < rows; ++r) {
      std::fill(sum.begin(), sum.end(), 0.0);
      for (int64_t o = 0; o < others; ++o) {
        const double f = factor_of(r, o);
        if (f == 0) continue;
        for (int64_t k = 0; k < a.k; ++k) sum[static_cast<size_t>(k)] += f * (double{own[r * a.k + k]} - double{other[o * a.k + k]});
      }
      for (int64_t k = 0; k < a.k; ++k) gradient[r * a.k + k] = static_cast<T>(sum[static_cast<size_t>(k)]);
    }
  };
  side(in<T>(a.x), in<T>(a.y), a.m, a.n, out<T>(a.dx), factor);
  side(in<T>(a.y), in<T>(a.x), a.n, a.m, out<T>(a.dy), [&](int64_t j, int64_t i) { return factor(i, j); });
}

// The hardest distance of a kind, or the mean of all with softmax weights; writes its gradient into `share`. sign +1: positives,
// farthest first; -1: negatives, nearest first. False when there is none.
template <class T>
bool select(const T* d, const uint8_t* mask, int64_t count, uint8_t kind, double sign, bool weighted, double& value, double* share) {
  int64_t hardest = -1;
  for (int64_t j = 0; j < count; ++j) {
    if (mask[j] == kind && (hardest < 0 || sign * double{d[j]} > sign * double{d[hardest]})) hardest = j;
  }
  if (hardest < 0) return false;
  const double top = double{d[hardest]};
  value = top;
  if (!weighted) {
    share[hardest] = 1;
    return true;
  }
  double sum = 0, mean = 0;
  for (int64_t j = 0; j < count; ++j) {
    if (mask[j] != kind) continue;
    const double w = std::exp(sign * (double{d[j]} - top));
    sum += w;
    mean += w * double{d[j]};
  }
  value = mean / sum;
  for (int64_t j = 0; j < count; ++j) {
    if (mask[j] == kind) share[j] = std::exp(sign * (double{d[j]} - top)) / sum * (1 + sign * (double{d[j]} - value));
  }
  return true;
}

template <class T>
void triplet_rows(const TripletRowsArgs& a) {
  std::vector<double> near(static_cast<size_t>(a.columns)), far(near.size());
  for (int64_t b = 0; b < a.rows; ++b) {
    const T* d = in<T>(a.d) + b * a.columns;
    const uint8_t* mask = a.mask + b * a.columns;
    T* dd = out<T>(a.dd) + b * a.columns;
    std::fill(dd, dd + a.columns, T{0});
    out<T>(a.loss)[b] = 0;
    std::fill(far.begin(), far.end(), 0.0);
    std::fill(near.begin(), near.end(), 0.0);
    double farthest = 0, nearest = 0;
    if (!select(d, mask, a.columns, kPositive, 1, a.weighted, farthest, far.data())) continue;
    if (!select(d, mask, a.columns, kNegative, -1, a.weighted, nearest, near.data())) continue;
    const double gap = farthest - nearest, weight = double{in<T>(a.weight)[b]};
    const double slope = a.margin > 0 ? (gap + a.margin > 0 ? 1.0 : 0.0) : sigmoid(gap);
    out<T>(a.loss)[b] = static_cast<T>(weight * (a.margin > 0 ? std::max(0.0, gap + a.margin) : softplus(gap)));
    for (int64_t j = 0; j < a.columns; ++j) {
      const size_t at = static_cast<size_t>(j);
      dd[j] = static_cast<T>(weight * slope * (far[at] - near[at]));
    }
  }
}

template <class T>
void circle_logits(const CircleLogitsArgs& a) {
  for (int64_t b = 0; b < a.rows; ++b) {
    for (int64_t j = 0; j < a.columns; ++j) {
      const int64_t at = b * a.columns + j;
      const double s = double{in<T>(a.s)[at]};
      const bool own = j == a.label[b];
      const double slope = a.scale * std::max(0.0, own ? 1 + a.margin - s : s + a.margin);
      out<T>(a.slope)[at] = static_cast<T>(slope);
      out<T>(a.y)[at] = static_cast<T>(slope * (own ? s - (1 - a.margin) : s - a.margin));
    }
  }
}

template <class T>
void softmax(const SoftmaxArgs& a) {
  for (int64_t b = 0; b < a.rows; ++b) {
    const T* s = in<T>(a.s) + b * a.columns;
    const double total = log_sum_exp(a.columns, [&](int64_t c) { return double{s[c]}; });
    for (int64_t c = 0; c < a.columns; ++c) out<T>(a.q)[b * a.columns + c] = static_cast<T>(std::exp(double{s[c]} - total));
  }
}

template <class T>
void mixed_targets(const MixedTargetsArgs& a) {
  for (int64_t b = 0; b < a.rows; ++b) {
    for (int64_t c = 0; c < a.columns; ++c) {
      double sum = a.share[a.rows + b];
      for (int n = 0; n < a.number; ++n) sum += a.share[(2 + n) * a.rows + b] * double{in<T>(a.q[n])[b * a.columns + c]};
      if (c == a.label[b]) sum += a.share[b];
      out<T>(a.target)[b * a.columns + c] = static_cast<T>(sum);
    }
  }
}

template <class T>
void soft_target_rows(const SoftTargetRowsArgs& a) {
  for (int64_t b = 0; b < a.rows; ++b) {
    const T *s = in<T>(a.s) + b * a.columns, *target = in<T>(a.target) + b * a.columns;
    const double total = log_sum_exp(a.columns, [&](int64_t c) { return double{s[c]}; }), weight = double{in<T>(a.weight)[b]};
    double mass = 0, loss = 0;
    for (int64_t c = 0; c < a.columns; ++c) {
      mass += double{target[c]};
      loss += double{target[c]} * (total - double{s[c]});
    }
    out<T>(a.loss)[b] = static_cast<T>(weight * loss);
    for (int64_t c = 0; c < a.columns; ++c)
      out<T>(a.ds)[b * a.columns + c] = static_cast<T>(weight * (mass * std::exp(double{s[c]} - total) - double{target[c]}));
  }
}

}  // namespace

void register_reference_metric() {
  REID_REFERENCE(Softmax, softmax);
  REID_REFERENCE(MixedTargets, mixed_targets);
  REID_REFERENCE(SoftTargetRows, soft_target_rows);
  REID_REFERENCE(RowDistances, row_distances);
  REID_REFERENCE(RowDistancesBackward, row_distances_backward);
  REID_REFERENCE(TripletRows, triplet_rows);
  REID_REFERENCE(CircleLogits, circle_logits);
}

}  // namespace reid::cpu
