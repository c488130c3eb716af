// y = act((x - mean) * gamma / sqrt(variance + eps) + beta + residual), NHWC, f32 or bf16: 1 or 2 reads, 1 write; see norm.cpp. Also for
// rows that a convolution has just written, which are still in cache (behind.h).

#include <cmath>

#include "backends/cpu/behind.h"
#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/norm_parts.h"
#include "backends/cpu/rounding.h"
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

template <class T>
struct ApplyRows {
  const T *x, *residual;
  T* y;
  const float *mean, *scale, *beta;  // [count]
  int64_t rows, stride, count;
  bool relu;
};

template <bool kResidual, bool kRelu, class T>
REID_BODY apply_loop(const ApplyRows<T>& a) {
  for (int64_t l = 0; l < a.rows; ++l) {
    const T* x = a.x + l * a.stride;
    const T* residual = kResidual ? a.residual + l * a.stride : nullptr;
    T* y = a.y + l * a.stride;
    REID_INDEPENDENT
    for (int64_t j = 0; j < a.count; ++j) {
      float value = (x[j] - a.mean[j]) * a.scale[j] + a.beta[j];
      if (kResidual) value += residual[j];
      y[j] = static_cast<T>(kRelu && value < 0.0f ? 0.0f : value);
    }
  }
}
template <class T>
REID_BODY apply_rows_body(const ApplyRows<T>& a) {
  if (a.residual) {
    a.relu ? apply_loop<true, true>(a) : apply_loop<true, false>(a);
  } else {
    a.relu ? apply_loop<false, true>(a) : apply_loop<false, false>(a);
  }
}
REID_MULTIVERSION(apply_rows, ApplyRows<float>)
REID_MULTIVERSION(apply_rows, ApplyRows<bf16>)

void scales(const NormSlice& slice, double eps, float* scale) {
  const auto* variance = static_cast<const float*>(slice.variance);
  const auto* gamma = static_cast<const float*>(slice.gamma);
  const NormWindow& w = slice.window;
  for (int64_t i = 0; i < w.groups * w.count; ++i) {
    scale[i] = static_cast<float>(double{gamma[i % w.count]} / std::sqrt(double{variance[i]} + eps));
  }
}

template <class T>
void slice_apply(const NormApplyArgs& a, const NormSlice& slice, Stream& stream) {
  const NormWindow& w = slice.window;
  auto* scale = static_cast<float*>(stream.workspace(static_cast<size_t>(w.groups * w.count) * sizeof(float)));
  scales(slice, a.eps, scale);
  for_each_part(w, [&](int64_t group, int64_t row, int64_t rows) {
    const int64_t offset = (group * w.length + row) * w.channels + w.first;
    apply_rows(ApplyRows<T>{.x = static_cast<const T*>(a.x) + offset,
                            .residual = a.residual ? static_cast<const T*>(a.residual) + offset : nullptr,
                            .y = static_cast<T*>(a.y) + offset,
                            .mean = static_cast<const float*>(slice.mean) + group * w.count,
                            .scale = scale + group * w.count,
                            .beta = static_cast<const float*>(slice.beta),
                            .rows = rows,
                            .stride = w.channels,
                            .count = w.count,
                            .relu = a.relu});
  });
}

template <class T>
void norm_apply(const NormApplyArgs& a, Stream& stream) {
  for (const NormSlice& slice : a.slices) {
    if (slice.window.count > 0) slice_apply<T>(a, slice, stream);
  }
}

template <class T>
void finish_rows(const NormApplyArgs& a, const float* scale, int64_t row, int64_t rows, int64_t first, int64_t count) {
  const NormSlice& slice = a.slices[0];
  const int64_t offset = row * slice.window.channels + first, at = first - slice.window.first;
  apply_rows(ApplyRows<T>{.x = static_cast<const T*>(a.x) + offset,
                          .residual = a.residual ? static_cast<const T*>(a.residual) + offset : nullptr,
                          .y = static_cast<T*>(a.y) + offset,
                          .mean = static_cast<const float*>(slice.mean) + at,
                          .scale = scale + at,
                          .beta = static_cast<const float*>(slice.beta) + at,
                          .rows = rows,
                          .stride = slice.window.channels,
                          .count = count,
                          .relu = a.relu});
}

}  // namespace

Finish::Finish(const NormApplyArgs& norm) : norm_(norm), scale_(static_cast<size_t>(norm.slices[0].window.count)) {
  scales(norm.slices[0], norm.eps, scale_.data());
}

void Finish::operator()(int64_t row, int64_t rows, int64_t column, int64_t columns) const {
  const NormWindow& w = norm_.slices[0].window;
  const int64_t first = std::max(column, w.first), count = std::min(column + columns, w.first + w.count) - first;
  if (count <= 0) return;
  norm_.dtype == DType::bf16 ? finish_rows<bf16>(norm_, scale_.data(), row, rows, first, count)
                             : finish_rows<float>(norm_, scale_.data(), row, rows, first, count);
}

void register_norm_apply() {
  add_both<NormApply, norm_apply<float>, norm_apply<bf16>>(
      "vectorized", [](const NormApplyArgs& a) { return a.positive ? "says nothing of signs" : refuse_wider(a.dtype); });
}

}  // namespace reid::cpu
