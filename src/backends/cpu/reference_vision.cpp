// Reference: normalization over windows of channels, max pooling, global pooling.

#include <algorithm>
#include <cmath>
#include <vector>

#include "reference.h"

namespace reid::cpu {

namespace {

// Calls f(element, statistic) for every element of one channel j of the window in group g, rows in order.
template <class F>
void for_each_row(const NormWindow& w, int64_t g, int64_t j, F&& f) {
  const int64_t base = g * w.length * w.channels + w.first + j;
  for (int64_t l = 0; l < w.length; ++l) f(base + l * w.channels);
}

template <class T>
void norm_statistics(const NormStatisticsArgs& a) {
  const T* x = in<T>(a.x);
  const double length = static_cast<double>(a.window.length);
  for (int64_t g = 0; g < a.window.groups; ++g) {
    for (int64_t j = 0; j < a.window.count; ++j) {
      double sum = 0, squares = 0;
      for_each_row(a.window, g, j, [&](int64_t i) { sum += double{x[i]}; });
      const double mean = sum / length;
      for_each_row(a.window, g, j, [&](int64_t i) { squares += (double{x[i]} - mean) * (double{x[i]} - mean); });
      out<Wide<T>>(a.mean)[g * a.window.count + j] = static_cast<Wide<T>>(mean);
      out<Wide<T>>(a.variance)[g * a.window.count + j] = static_cast<Wide<T>>(squares / length);
    }
  }
}

void set_bit(uint8_t* bits, int64_t i, bool value) {
  const auto bit = static_cast<uint8_t>(1 << i % 8);
  bits[i / 8] = static_cast<uint8_t>(value ? bits[i / 8] | bit : bits[i / 8] & ~bit);
}

template <class T>
void norm_apply(const NormApplyArgs& a) {
  const T* x = in<T>(a.x);
  const T* residual = in<T>(a.residual);
  T* y = out<T>(a.y);
  for (const NormSlice& slice : a.slices) {
    const NormWindow& w = slice.window;
    for (int64_t statistic = 0; statistic < w.groups * w.count; ++statistic) {
      const int64_t g = statistic / w.count, j = statistic % w.count;
      const double mean = double{in<Wide<T>>(slice.mean)[statistic]};
      const double scale = double{in<Wide<T>>(slice.gamma)[j]} / std::sqrt(double{in<Wide<T>>(slice.variance)[statistic]} + a.eps);
      const double beta = double{in<Wide<T>>(slice.beta)[j]};
      for_each_row(w, g, j, [&](int64_t i) {
        const double value = (double{x[i]} - mean) * scale + beta + (residual ? double{residual[i]} : 0.0);
        y[i] = static_cast<T>(a.relu && value < 0 ? 0.0 : value);
        if (a.positive) set_bit(out<uint8_t>(a.positive), i, y[i] > 0);
      });
    }
  }
}

// Channel j of a slice: dx, dresidual, and what its parameters' gradients are.
struct ParameterGradients {
  double dgamma = 0, dbeta = 0;
};
template <class T>
ParameterGradients channel_backward(const NormBackwardArgs& a, const NormSlice& slice, bool constant, int64_t j) {
  const T *x = in<T>(a.x), *y = in<T>(a.y), *dy = in<T>(a.dy);
  const NormWindow& w = slice.window;
  const double length = static_cast<double>(w.length);
  const auto masked = [&](int64_t i) { return a.relu && !(y[i] > 0) ? 0.0 : double{dy[i]}; };
  ParameterGradients all;
  for (int64_t g = 0; g < w.groups; ++g) {
    const int64_t statistic = g * w.count + j;
    const double mean = double{in<Wide<T>>(slice.mean)[statistic]};
    const double inverse = 1 / std::sqrt(double{in<Wide<T>>(slice.variance)[statistic]} + a.eps);
    double sum = 0, dot = 0;  // of dy, and of dy times the normalized x
    for_each_row(w, g, j, [&](int64_t i) {
      sum += masked(i);
      dot += masked(i) * (double{x[i]} - mean) * inverse;
    });
    const double scale = double{in<Wide<T>>(slice.gamma)[j]} * inverse;
    const double mean_sum = constant ? 0 : sum / length, mean_dot = constant ? 0 : dot / length;
    for_each_row(w, g, j, [&](int64_t i) {
      const double d = masked(i);
      if (a.dresidual) out<T>(a.dresidual)[i] = static_cast<T>(d);
      out<T>(a.dx)[i] = static_cast<T>(scale * (d - mean_sum - (double{x[i]} - mean) * inverse * mean_dot));
    });
    all.dgamma += dot;
    all.dbeta += sum;
  }
  return all;
}

template <class T>
void norm_backward(const NormBackwardArgs& a) {
  int64_t parameter = 0;
  for (int i = 0; i < 2; ++i) {
    for (int64_t j = 0; j < a.slices[i].window.count; ++j, ++parameter) {
      const ParameterGradients g = channel_backward<T>(a, a.slices[i], a.constant_statistics[i], j);
      out<Wide<T>>(a.dgamma)[parameter] = static_cast<Wide<T>>(g.dgamma);
      out<Wide<T>>(a.dbeta)[parameter] = static_cast<Wide<T>>(g.dbeta);
    }
  }
}

template <class T>
void norm_gradient(const NormGradientArgs& a) {
  const auto rows = static_cast<double>(a.length);
  for (int64_t i = 0; i < a.length * a.channels; ++i) {
    const int64_t c = i % a.channels;
    const auto of = [&](const void* channels) { return double{in<Wide<T>>(channels)[c]}; };
    const double inverse = 1 / std::sqrt(of(a.variance) + a.eps), z = (double{in<T>(a.x)[i]} - of(a.mean)) * inverse;
    const double through = a.constant_statistics ? 0 : (of(a.dbeta) + z * of(a.dgamma)) / rows;
    out<T>(a.dx)[i] = static_cast<T>(of(a.gamma) * inverse * (double{in<T>(a.d)[i]} - through));
  }
}

template <class T>
void max_pool(const MaxPoolArgs& a) {
  const PoolShape& s = a.shape;
  const T* x = in<T>(a.x);
  const int64_t p_count = s.out(s.h), q_count = s.out(s.w);
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t p = 0; p < p_count; ++p) {
      for (int64_t q = 0; q < q_count; ++q) {
        const int64_t h0 = std::max<int64_t>(p * s.stride - s.pad, 0), h1 = std::min(p * s.stride - s.pad + s.kernel, s.h);
        const int64_t w0 = std::max<int64_t>(q * s.stride - s.pad, 0), w1 = std::min(q * s.stride - s.pad + s.kernel, s.w);
        for (int64_t c = 0; c < s.c; ++c) {
          int64_t best = h0 * s.w + w0;
          for (int64_t h = h0; h < h1; ++h) {
            for (int64_t w = w0; w < w1; ++w) {
              const T value = x[(n * s.h * s.w + h * s.w + w) * s.c + c];
              const T top = x[(n * s.h * s.w + best) * s.c + c];
              if (value > top || (std::isnan(value) && !std::isnan(top))) best = h * s.w + w;
            }
          }
          const int64_t target = ((n * p_count + p) * q_count + q) * s.c + c;
          out<T>(a.y)[target] = x[(n * s.h * s.w + best) * s.c + c];
          a.index[target] = static_cast<int32_t>(best);
        }
      }
    }
  }
}

template <class T>
void max_pool_backward(const MaxPoolBackwardArgs& a) {
  const PoolShape& s = a.shape;
  const int64_t pixels = s.h * s.w, windows = s.out(s.h) * s.out(s.w);
  std::vector<double> sums(static_cast<size_t>(pixels * s.c));
  for (int64_t n = 0; n < s.n; ++n) {
    std::fill(sums.begin(), sums.end(), 0.0);
    for (int64_t i = 0; i < windows * s.c; ++i) {
      const int64_t source = n * windows * s.c + i;
      sums[static_cast<size_t>(a.index[source] * s.c + i % s.c)] += double{in<T>(a.dy)[source]};
    }
    T* dx = out<T>(a.dx) + n * pixels * s.c;
    for (size_t i = 0; i < sums.size(); ++i) dx[i] = static_cast<T>(sums[i]);
  }
}

// max(x, eps)^p in double; without p, x itself.
template <class T>
double lifted(const T x, const double* p, double eps) {
  return p ? std::pow(std::max(double{x}, eps), *p) : double{x};
}

template <class T>
void global_pool(const GlobalPoolArgs& a) {
  const T* x = in<T>(a.x);
  const double p = a.p ? double{*in<Wide<T>>(a.p)} : 1;
  for (int64_t n = 0; n < a.n; ++n) {
    for (int64_t c = 0; c < a.c; ++c) {
      double sum = 0;
      for (int64_t l = 0; l < a.length; ++l) sum += lifted(x[(n * a.length + l) * a.c + c], a.p ? &p : nullptr, a.eps);
      const double mean = sum / static_cast<double>(a.length);
      out<T>(a.y)[n * a.c + c] = static_cast<T>(a.p ? std::pow(mean, 1 / p) : mean);
    }
  }
}

// With t = max(x, eps) and M = mean t^p = y^p: dy/dx = y^(1-p) t^(p-1) / L where x > eps, and
// dy/dp = y * ((mean t^p ln t) / (p M) - ln(M) / p^2).
template <class T>
void global_pool_backward(const GlobalPoolBackwardArgs& a) {
  const T* x = in<T>(a.x);
  const double p = a.p ? double{*in<Wide<T>>(a.p)} : 1;
  const double length = static_cast<double>(a.length);
  double dp = 0;
  for (int64_t n = 0; n < a.n; ++n) {
    for (int64_t c = 0; c < a.c; ++c) {
      const double dy = double{in<T>(a.dy)[n * a.c + c]};
      const double y = a.p ? double{in<T>(a.y)[n * a.c + c]} : 1;
      double logs = 0;
      for (int64_t l = 0; l < a.length; ++l) {
        const int64_t i = (n * a.length + l) * a.c + c;
        const double value = a.p ? double{x[i]} : 1;  // the plain mean has no x to read
        const double t = std::max(value, a.eps);
        const double slope = !a.p ? 1 : value > a.eps ? std::pow(t / y, p - 1) : 0;
        out<T>(a.dx)[i] = static_cast<T>(dy * slope / length);
        if (a.p) logs += std::pow(t / y, p) * std::log(t);
      }
      if (a.p) dp += dy * y * (logs / length - std::log(y)) / p;
    }
  }
  if (a.dp) *out<Wide<T>>(a.dp) = static_cast<Wide<T>>(dp);
}

template <class T>
void stripe_pool(const StripePoolArgs& a) {
  std::vector<double> sum(static_cast<size_t>(a.c));
  const int64_t row = a.width * a.c;
  for (int64_t s = 0; s < a.stripes; ++s) {
    const StripeRows r = stripe_rows(s, a.stripes, a.height);
    const double pixels = static_cast<double>((r.end - r.begin) * a.width);
    for (int64_t n = 0; n < a.n; ++n) {
      std::fill(sum.begin(), sum.end(), 0.0);
      const T* x = in<T>(a.x) + (n * a.height + r.begin) * row;
      for (int64_t i = 0; i < (r.end - r.begin) * row; ++i) sum[static_cast<size_t>(i % a.c)] += double{x[i]};
      T* y = out<T>(a.y) + (s * a.n + n) * a.c;
      for (int64_t c = 0; c < a.c; ++c) y[c] = static_cast<T>(sum[static_cast<size_t>(c)] / pixels);
    }
  }
}

template <class T>
void stripe_pool_backward(const StripePoolBackwardArgs& a) {
  std::vector<double> gradient(static_cast<size_t>(a.c));
  for (int64_t n = 0; n < a.n; ++n) {
    for (int64_t h = 0; h < a.height; ++h) {
      std::fill(gradient.begin(), gradient.end(), 0.0);
      for (int64_t s = 0; s < a.stripes; ++s) {
        const StripeRows r = stripe_rows(s, a.stripes, a.height);
        if (h < r.begin || h >= r.end) continue;
        const double pixels = static_cast<double>((r.end - r.begin) * a.width);
        const T* dy = in<T>(a.dy) + (s * a.n + n) * a.c;
        for (int64_t c = 0; c < a.c; ++c) gradient[static_cast<size_t>(c)] += double{dy[c]} / pixels;
      }
      T* dx = out<T>(a.dx) + (n * a.height + h) * a.width * a.c;
      for (int64_t i = 0; i < a.width * a.c; ++i) dx[i] = static_cast<T>(gradient[static_cast<size_t>(i % a.c)]);
    }
  }
}

// m[e, c] = sum over the pixels of a[l, e] b[l, c].
template <class T>
std::vector<double> outer_sum(const T* a, const T* b, int64_t length, int64_t d) {
  std::vector<double> m(static_cast<size_t>(d * d));
  for (int64_t l = 0; l < length; ++l) {
    for (int64_t e = 0; e < d; ++e) {
      for (int64_t c = 0; c < d; ++c) m[static_cast<size_t>(e * d + c)] += double{a[l * d + e]} * double{b[l * d + c]};
    }
  }
  return m;
}

// y[l, c] = share sum over e of x[l, e] m[e, c], or of m[c, e].
template <class T>
void rows_times(const T* x, const std::vector<double>& m, bool transposed, double share, int64_t length, int64_t d, T* y) {
  for (int64_t l = 0; l < length; ++l) {
    for (int64_t c = 0; c < d; ++c) {
      double sum = 0;
      for (int64_t e = 0; e < d; ++e) sum += double{x[l * d + e]} * m[static_cast<size_t>(transposed ? c * d + e : e * d + c)];
      y[l * d + c] = static_cast<T>(share * sum);
    }
  }
}

template <class T>
void non_local(const NonLocalArgs& a) {
  const double share = 1 / static_cast<double>(a.length);
  for (int64_t n = 0; n < a.n; ++n) {
    const int64_t at = n * a.length * a.d;
    const std::vector<double> m = outer_sum(in<T>(a.phi) + at, in<T>(a.g) + at, a.length, a.d);
    rows_times(in<T>(a.theta) + at, m, false, share, a.length, a.d, out<T>(a.y) + at);
  }
}

template <class T>
void non_local_backward(const NonLocalBackwardArgs& a) {
  const double share = 1 / static_cast<double>(a.length);
  for (int64_t n = 0; n < a.n; ++n) {
    const int64_t at = n * a.length * a.d;
    const T *dy = in<T>(a.dy) + at, *phi = in<T>(a.phi) + at, *g = in<T>(a.g) + at;
    const std::vector<double> m = outer_sum(phi, g, a.length, a.d), dm = outer_sum(in<T>(a.theta) + at, dy, a.length, a.d);
    rows_times(dy, m, true, share, a.length, a.d, out<T>(a.dtheta) + at);
    rows_times(g, dm, true, share, a.length, a.d, out<T>(a.dphi) + at);
    rows_times(phi, dm, false, share, a.length, a.d, out<T>(a.dg) + at);
  }
}

}  // namespace

void register_reference_vision() {
  REID_REFERENCE_BF16(NonLocal, non_local);
  REID_REFERENCE_BF16(NonLocalBackward, non_local_backward);
  REID_REFERENCE_BF16(StripePool, stripe_pool);
  REID_REFERENCE_BF16(StripePoolBackward, stripe_pool_backward);
  REID_REFERENCE_BF16(NormStatistics, norm_statistics);
  REID_REFERENCE_BF16(NormApply, norm_apply);
  REID_REFERENCE_BF16(NormBackward, norm_backward);
  REID_REFERENCE_BF16(NormGradient, norm_gradient);
  REID_REFERENCE_BF16(MaxPool, max_pool);
  REID_REFERENCE_BF16(MaxPoolBackward, max_pool_backward);
  REID_REFERENCE_BF16(GlobalPool, global_pool);
  REID_REFERENCE_BF16(GlobalPoolBackward, global_pool_backward);
}

}  // namespace reid::cpu
