// Normalization of windows of channels, NHWC, f32 or bf16: batch norm, instance norm and IBN's halves (see NormWindow).
//
//   statistics   mean = sum x / L,  variance = sum (x - mean)^2 / L                        1 read; norm_statistics.cpp
//   apply        y = act((x - mean) * gamma / sqrt(variance + eps) + beta + residual)      1 or 2 reads, 1 write; norm_apply.cpp
//   backward     g = dy masked by y > 0;  dbeta = sum g;  dgamma = sum g xhat              3 reads
//                dx = gamma / sqrt(variance + eps) * (g - dbeta / L - xhat dgamma / L)     3 reads, 1 or 2 writes
//
// All three are bound by memory: a few flops for each float moved. Channels are the lanes: every channel's sum walks the rows
// in order whatever the vector width, so all versions of a loop agree bit for bit. Sums are taken chunk by chunk of kChunkRows rows of a
// group, and the chunks added in order: they depend on L only, so an image's do not depend on its batch, and nothing on threads.

#include <algorithm>
#include <cmath>

#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/norm_parts.h"
#include "backends/cpu/rounding.h"
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

constexpr int64_t kShortSum = 32;  // rows summed in float before the sum joins a double

// --- backward ---

// dy where y > 0. Both are loaded before the choice: a load in one branch keeps loops from becoming vector code.
inline __attribute__((always_inline)) float masked(float dy, float y) { return y > 0.0f ? dy : 0.0f; }

template <class T>
struct GradientSums {
  const T *dy, *x, *y;  // y null: no mask
  const float* mean;
  int64_t rows, stride, count;
  double *sum, *dot;  // [count] of g, and of g (x - mean)
};

template <int64_t kWidth, bool kMask, class T>
REID_BODY gradient_block(const GradientSums<T>& a, int64_t j) {
  double sum[kWidth] = {}, dot[kWidth] = {};
  for (int64_t first = 0; first < a.rows; first += kShortSum) {
    float short_sum[kWidth] = {}, short_dot[kWidth] = {};
    const int64_t end = std::min(a.rows, first + kShortSum);
    for (int64_t l = first; l < end; ++l) {
      const T* dy = a.dy + l * a.stride + j;
      const T* x = a.x + l * a.stride + j;
      const T* y = kMask ? a.y + l * a.stride + j : nullptr;
      for (int64_t i = 0; i < kWidth; ++i) {
        const float g = kMask ? masked(dy[i], y[i]) : float{dy[i]};
        short_sum[i] += g;
        short_dot[i] += g * (x[i] - a.mean[j + i]);
      }
    }
    for (int64_t i = 0; i < kWidth; ++i) {
      sum[i] += double{short_sum[i]};
      dot[i] += double{short_dot[i]};
    }
  }
  for (int64_t i = 0; i < kWidth; ++i) {
    a.sum[j + i] = sum[i];
    a.dot[j + i] = dot[i];
  }
}
template <bool kMask, class T>
REID_BODY gradient_loop(const GradientSums<T>& a) {
#define REID_BLOCK(width) (gradient_block<width, kMask>(a, j))
  REID_CHANNEL_BLOCKS(a.count, REID_BLOCK);
#undef REID_BLOCK
}
template <class T>
REID_BODY gradient_sums_body(const GradientSums<T>& a) {
  a.y ? gradient_loop<true>(a) : gradient_loop<false>(a);
}
REID_MULTIVERSION(gradient_sums, GradientSums<float>)
REID_MULTIVERSION(gradient_sums, GradientSums<bf16>)

template <class T>
struct InputGradient {
  const T *dy, *x, *y;
  T *dx, *dresidual;
  const float *mean, *scale, *offset, *slope;  // [count] dx = scale * (g - offset - (x - mean) * slope)
  int64_t rows, stride, count;
};

template <bool kMask, bool kResidual, class T>
REID_BODY input_gradient_loop(const InputGradient<T>& a) {
  for (int64_t l = 0; l < a.rows; ++l) {
    const int64_t at = l * a.stride;
    REID_INDEPENDENT
    for (int64_t j = 0; j < a.count; ++j) {
      const float g = kMask ? masked(a.dy[at + j], a.y[at + j]) : float{a.dy[at + j]};
      const float dx = a.scale[j] * (g - a.offset[j] - (a.x[at + j] - a.mean[j]) * a.slope[j]);
      if (kResidual) a.dresidual[at + j] = static_cast<T>(g);
      a.dx[at + j] = static_cast<T>(dx);
    }
  }
}
template <class T>
REID_BODY input_gradient_body(const InputGradient<T>& a) {
  if (a.y) {
    a.dresidual ? input_gradient_loop<true, true>(a) : input_gradient_loop<true, false>(a);
  } else {
    a.dresidual ? input_gradient_loop<false, true>(a) : input_gradient_loop<false, false>(a);
  }
}
REID_MULTIVERSION(input_gradient, InputGradient<float>)
REID_MULTIVERSION(input_gradient, InputGradient<bf16>)

template <class T>
void sum_gradient_chunks(const NormBackwardArgs& a, const NormSlice& slice, double* partial) {
  const NormWindow& w = slice.window;
  const int64_t chunks = chunks_of(w);
  parallel_for(w.groups * chunks, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t group = i / chunks, row = i % chunks * kChunkRows;
      const int64_t offset = (group * w.length + row) * w.channels + w.first;
      double* sum = partial + i * 2 * w.count;
      gradient_sums(GradientSums<T>{.dy = static_cast<const T*>(a.dy) + offset,
                                    .x = static_cast<const T*>(a.x) + offset,
                                    .y = a.relu ? static_cast<const T*>(a.y) + offset : nullptr,
                                    .mean = static_cast<const float*>(slice.mean) + group * w.count,
                                    .rows = std::min(kChunkRows, w.length - row),
                                    .stride = w.channels,
                                    .count = w.count,
                                    .sum = sum,
                                    .dot = sum + w.count});
    }
  });
}

struct Coefficients {
  float *scale, *offset, *slope;  // [G, count], see InputGradient
};

// The chunks' sums to coefficients of dx, and over groups to dgamma and dbeta [count].
void merge_gradient_chunks(const NormSlice& slice, double eps, bool constant, const double* partial, const Coefficients& out, float* dgamma,
                           float* dbeta) {
  const NormWindow& w = slice.window;
  const int64_t chunks = chunks_of(w);
  const auto length = static_cast<double>(w.length);
  parallel_for(w.count, 64, [&](int64_t begin, int64_t end, int) {
    for (int64_t j = begin; j < end; ++j) {
      double all_dots = 0, all_sums = 0;
      for (int64_t g = 0; g < w.groups; ++g) {
        double sum = 0, dot = 0;
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
          const double* part = partial + (g * chunks + chunk) * 2 * w.count + j;
          sum += part[0];
          dot += part[w.count];
        }
        const int64_t i = g * w.count + j;
        const double inverse = 1 / std::sqrt(double{static_cast<const float*>(slice.variance)[i]} + eps);
        dot *= inverse;
        out.scale[i] = static_cast<float>(double{static_cast<const float*>(slice.gamma)[j]} * inverse);
        out.offset[i] = constant ? 0.0f : static_cast<float>(sum / length);
        out.slope[i] = constant ? 0.0f : static_cast<float>(dot / length * inverse);
        all_dots += dot;
        all_sums += sum;
      }
      dgamma[j] = static_cast<float>(all_dots);
      dbeta[j] = static_cast<float>(all_sums);
    }
  });
}

// before: channels of the slices before this one.
template <class T>
void slice_backward(const NormBackwardArgs& a, const NormSlice& slice, bool constant, int64_t before, Stream& stream) {
  const NormWindow& w = slice.window;
  const int64_t columns = w.groups * w.count, sums = columns * chunks_of(w) * 2;
  auto* partial =
      static_cast<double*>(stream.workspace(static_cast<size_t>(sums) * sizeof(double) + static_cast<size_t>(3 * columns) * sizeof(float)));
  auto* scale = reinterpret_cast<float*>(partial + sums);
  const Coefficients coefficients{.scale = scale, .offset = scale + columns, .slope = scale + 2 * columns};
  sum_gradient_chunks<T>(a, slice, partial);
  merge_gradient_chunks(slice, a.eps, constant, partial, coefficients, static_cast<float*>(a.dgamma) + before,
                        static_cast<float*>(a.dbeta) + before);
  for_each_part(w, [&](int64_t group, int64_t row, int64_t rows) {
    const int64_t offset = (group * w.length + row) * w.channels + w.first;
    input_gradient(InputGradient<T>{.dy = static_cast<const T*>(a.dy) + offset,
                                    .x = static_cast<const T*>(a.x) + offset,
                                    .y = a.relu ? static_cast<const T*>(a.y) + offset : nullptr,
                                    .dx = static_cast<T*>(a.dx) + offset,
                                    .dresidual = a.dresidual ? static_cast<T*>(a.dresidual) + offset : nullptr,
                                    .mean = static_cast<const float*>(slice.mean) + group * w.count,
                                    .scale = coefficients.scale + group * w.count,
                                    .offset = coefficients.offset + group * w.count,
                                    .slope = coefficients.slope + group * w.count,
                                    .rows = rows,
                                    .stride = w.channels,
                                    .count = w.count});
  });
}

template <class T>
void norm_backward(const NormBackwardArgs& a, Stream& stream) {
  const auto& [first, second] = a.slices;
  slice_backward<T>(a, first, a.constant_statistics[0], 0, stream);
  if (second.window.count > 0) slice_backward<T>(a, second, a.constant_statistics[1], first.window.count, stream);
}

}  // namespace

void register_norm() { add_both<NormBackward, norm_backward<float>, norm_backward<bf16>>("chunked"); }

}  // namespace reid::cpu
