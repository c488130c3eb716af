// Convolution by its definition, in three directions: what the other versions are read against.
//
//   y[n, p, q, k] = sum over r, t, c of x[n, p stride + r dilation - pad, q ..., c] w[k, r, t, c]
// and the gradients are the same products gathered by another index:
//   dx[n, h, w, c] = sum over r, t, k of the dy whose window holds (h, w);   dw[k, r, t, c] = sum over n, p, q
//
// Layout: x [N, H, W, C], w [K, R, S, C/groups], y [N, P, Q, K].
// Map: a thread for each element of the output, neighbors along the innermost axis. Every sum has the order of its loops.
// Bytes: two loads for each product, from the caches at best: an order of magnitude from the floor. No version was measured yet.

#include "kernels.h"
#include "prims.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256;

__device__ int64_t thread_index() { return int64_t{blockIdx.x} * kThreads + threadIdx.x; }

__global__ void forward_kernel(ConvForwardArgs a, int64_t p_count, int64_t q_count) {
  after_predecessors();
  const ConvShape& s = a.shape;
  const int64_t i = thread_index();  // of [N, P, Q, K]
  if (i >= s.n * p_count * q_count * s.k) return;
  const int64_t k = i % s.k, q = i / s.k % q_count, p = i / s.k / q_count % p_count, n = i / s.k / q_count / p_count;
  const int64_t channels = s.c / s.groups, first = k / (s.k / s.groups) * channels;
  float sum = 0;
  for (int64_t r = 0; r < s.r; ++r) {
    const int64_t h = p * s.stride[0] - s.pad[0] + r * s.dilation[0];
    for (int64_t t = 0; t < s.s; ++t) {
      const int64_t w = q * s.stride[1] - s.pad[1] + t * s.dilation[1];
      if (h < 0 || h >= s.h || w < 0 || w >= s.w) continue;
      const float* x = in<float>(a.x) + ((n * s.h + h) * s.w + w) * s.c + first;
      const float* filter = in<float>(a.w) + ((k * s.r + r) * s.s + t) * channels;
      for (int64_t c = 0; c < channels; ++c) sum += x[c] * filter[c];
    }
  }
  out<float>(a.y)[i] = sum;
}

__global__ void backward_data_kernel(ConvBackwardDataArgs a, int64_t p_count, int64_t q_count) {
  after_predecessors();
  const ConvShape& s = a.shape;
  const int64_t i = thread_index();  // of [N, H, W, C]
  if (i >= s.n * s.h * s.w * s.c) return;
  const int64_t channels = s.c / s.groups, filters = s.k / s.groups;
  const int64_t c = i % s.c, w = i / s.c % s.w, h = i / s.c / s.w % s.h, n = i / s.c / s.w / s.h, group = c / channels;
  float sum = 0;
  for (int64_t r = 0; r < s.r; ++r) {
    const int64_t ph = h + s.pad[0] - r * s.dilation[0];  // p * stride
    for (int64_t t = 0; t < s.s; ++t) {
      const int64_t qw = w + s.pad[1] - t * s.dilation[1];
      if (ph < 0 || ph % s.stride[0] != 0 || ph / s.stride[0] >= p_count) continue;
      if (qw < 0 || qw % s.stride[1] != 0 || qw / s.stride[1] >= q_count) continue;
      const float* dy = in<float>(a.dy) + ((n * p_count + ph / s.stride[0]) * q_count + qw / s.stride[1]) * s.k;
      for (int64_t k = group * filters; k < (group + 1) * filters; ++k) {
        sum += dy[k] * in<float>(a.w)[((k * s.r + r) * s.s + t) * channels + c % channels];
      }
    }
  }
  out<float>(a.dx)[i] = a.addend ? sum + in<float>(a.addend)[i] : sum;
}

__global__ void backward_weight_kernel(ConvBackwardWeightArgs a, int64_t p_count, int64_t q_count) {
  after_predecessors();
  const ConvShape& s = a.shape;
  const int64_t i = thread_index(), channels = s.c / s.groups;  // i of [K, R, S, C/groups]
  if (i >= s.k * s.r * s.s * channels) return;
  const int64_t t = i / channels % s.s, r = i / channels / s.s % s.r, k = i / channels / s.s / s.r;
  const int64_t c = k / (s.k / s.groups) * channels + i % channels;
  float sum = 0;
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t p = 0; p < p_count; ++p) {
      const int64_t h = p * s.stride[0] - s.pad[0] + r * s.dilation[0];
      if (h < 0 || h >= s.h) continue;
      for (int64_t q = 0; q < q_count; ++q) {
        const int64_t w = q * s.stride[1] - s.pad[1] + t * s.dilation[1];
        if (w < 0 || w >= s.w) continue;
        sum += in<float>(a.x)[((n * s.h + h) * s.w + w) * s.c + c] * in<float>(a.dy)[((n * p_count + p) * q_count + q) * s.k + k];
      }
    }
  }
  out<float>(a.dw)[i] = a.accumulate ? out<float>(a.dw)[i] + sum : sum;
}

template <class Args>
void run(void (*kernel)(Args, int64_t, int64_t), const Args& a, int64_t count, Stream& stream) {
  if (count > 0) launch(kernel, blocks_for(count, kThreads), kThreads, 0, stream, a, a.shape.p(), a.shape.q());
}
void forward(const ConvForwardArgs& a, Stream& stream) {
  run(forward_kernel, a, a.shape.n * a.shape.p() * a.shape.q() * a.shape.k, stream);
}
void backward_data(const ConvBackwardDataArgs& a, Stream& stream) {
  run(backward_data_kernel, a, a.shape.n * a.shape.h * a.shape.w * a.shape.c, stream);
}
void backward_weight(const ConvBackwardWeightArgs& a, Stream& stream) {
  run(backward_weight_kernel, a, a.shape.k * a.shape.r * a.shape.s * (a.shape.c / a.shape.groups), stream);
}

template <class Args>
const char* refuse(const Args& a) {
  const char* reason = refuse_behind(a);
  if (!reason) reason = refuse_sums(a);
  return reason ? reason : refuse_other_than_f32(a.dtype);
}

}  // namespace

void register_conv_direct() {
  add<ConvForward>(REID_KERNEL_NAME("direct"), refuse<ConvForwardArgs>, forward);
  add<ConvBackwardData>(REID_KERNEL_NAME("direct"), refuse<ConvBackwardDataArgs>, backward_data);
  add<ConvBackwardWeight>(REID_KERNEL_NAME("direct"), refuse<ConvBackwardWeightArgs>, backward_weight);
}

}  // namespace reid::REID_TARGET
