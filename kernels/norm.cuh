#pragma once
// What norm_apply makes of elements, for norm.cu and for the kernels that do it in passing: y = act((x - mean) scale + beta + residual)
// with scale = gamma / sqrt(variance + eps). The same roundings in the same order wherever it is done, so the same bits.

#include "packs.cuh"
#include "reid/engine/op_args.h"

namespace reid::REID_TARGET {

__device__ inline float norm_scale(float gamma, float variance, double eps) { return gamma / sqrtf(variance + static_cast<float>(eps)); }

// What becomes of x before a residual and ReLU. Backward asks for the sign of it: each rounding is named, so that both see the same.
// From the difference: x * scale + shift would lose the digits that x shares with the mean.
__device__ inline float applied(float x, float mean, float scale, float beta) { return fmaf(x - mean, scale, beta); }

// Of V neighboring channels.
template <int V>
struct ChannelNorms {
  Pack<V> mean, scale, beta;
  __device__ Pack<V> operator()(Pack<V> x) const {
    for (int i = 0; i < V; ++i) x.v[i] = applied(x.v[i], mean.v[i], scale.v[i], beta.v[i]);
    return x;
  }
};
template <int V>
__device__ Pack<V> sum_of(Pack<V> x, const Pack<V>& y) {
  for (int i = 0; i < V; ++i) x.v[i] += y.v[i];
  return x;
}
template <int V>
__device__ Pack<V> relu_of(Pack<V> x) {
  for (int i = 0; i < V; ++i) x.v[i] = x.v[i] < 0 ? 0 : x.v[i];
  return x;
}

// What a convolution makes of its result in bf16 before it is stored (NormFinishArgs), 8 neighboring channels at a time.
struct NormFinish {
  const float *mean, *variance, *gamma, *beta;
  const bf16* residual;  // null: none
  double eps;
  bool relu;
  explicit NormFinish(const NormFinishArgs& a)
      : mean(in<float>(a.mean)),
        variance(in<float>(a.variance)),
        gamma(in<float>(a.gamma)),
        beta(in<float>(a.beta)),
        residual(in<bf16>(a.residual)),
        eps(a.eps),
        relu(a.relu) {}

  __device__ float scale(int64_t channel) const { return norm_scale(gamma[channel], variance[channel], eps); }
  __device__ ChannelNorms<8> channels(int64_t first) const {
    ChannelNorms<8> norms;
    for (int i = 0; i < 8; ++i) norms.mean.v[i] = mean[first + i], norms.scale.v[i] = scale(first + i), norms.beta.v[i] = beta[first + i];
    return norms;
  }
  // more: of the residual, or null.
  __device__ Vec<bf16> operator()(const Vec<bf16>& x, const ChannelNorms<8>& norms, const Vec<bf16>* more) const {
    Pack<8> y = norms(widened(x));
    if (more) y = sum_of(y, widened(*more));
    return narrowed<bf16>(relu ? relu_of(y) : y);
  }
};

// A Problem whose results are finished so has a member `finish`.
template <class Problem>
inline constexpr bool kFinishes = requires {
  &Problem::finish;
};

}  // namespace reid::REID_TARGET
