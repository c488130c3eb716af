// Pooling: maxima over windows, means (plain and generalized) over whole maps, means over stripes; forward and backward.
// The equations stand beside the arguments in op_args.h; what backward adds:
//   generalized mean, t = max(x, eps): dx = dy (t / y)^(p - 1) / L where x > eps,
//   dp = sum over (n, c) of dy y (mean((t / y)^p ln t) - ln y) / p
//
// Layout: maps [N, H, W, C], channels innermost.
// Map: max_pool and stripe_pool_backward, a thread for each element of the output. max_pool_backward gathers: a thread for each pixel looks
//      into every window that holds it, in order, so that no two threads add to one element. Means: a block of 32 channels by 8 rows
//      walks over the pixels of one map (or stripe) and adds its rows in order.
// Bytes: max_pool reads x once (from the caches where windows overlap) and writes 8 an output; backward reads those and writes dx; means
//      read x. No version was measured yet.

#include "kernels.h"
#include "prims.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256;
constexpr int kLanes = 32, kRows = kThreads / kLanes;

__device__ int64_t thread_index() { return int64_t{blockIdx.x} * kThreads + threadIdx.x; }
__device__ int64_t largest(int64_t a, int64_t b) { return a > b ? a : b; }
__device__ int64_t smallest(int64_t a, int64_t b) { return a < b ? a : b; }

// --- max pooling ---

template <class T>
__global__ void max_pool_kernel(MaxPoolArgs a, int64_t p_count, int64_t q_count) {
  const PoolShape& s = a.shape;
  const int64_t i = thread_index();  // of [N, P, Q, C]
  if (i >= s.n * p_count * q_count * s.c) return;
  const int64_t c = i % s.c, q = i / s.c % q_count, p = i / s.c / q_count % p_count, n = i / s.c / q_count / p_count;
  const T* x = in<T>(a.x) + n * s.h * s.w * s.c + c;
  const int64_t h0 = largest(p * s.stride - s.pad, 0), h1 = smallest(p * s.stride - s.pad + s.kernel, s.h);
  const int64_t w0 = largest(q * s.stride - s.pad, 0), w1 = smallest(q * s.stride - s.pad + s.kernel, s.w);
  int64_t best = h0 * s.w + w0;
  float top = to_float(x[best * s.c]);
  for (int64_t h = h0; h < h1; ++h) {
    for (int64_t w = w0; w < w1; ++w) {
      const float value = to_float(x[(h * s.w + w) * s.c]);
      if (value > top || (value != value && top == top)) top = value, best = h * s.w + w;  // the first NaN wins
    }
  }
  out<T>(a.y)[i] = from_float<T>(top);
  a.index[i] = static_cast<int32_t>(best);
}

template <class T>
__global__ void max_pool_backward_kernel(MaxPoolBackwardArgs a, int64_t p_count, int64_t q_count) {
  const PoolShape& s = a.shape;
  const int64_t i = thread_index();  // of [N, H, W, C]
  if (i >= s.n * s.h * s.w * s.c) return;
  const int64_t c = i % s.c, w = i / s.c % s.w, h = i / s.c / s.w % s.h, n = i / s.c / s.w / s.h;
  // Window p holds row h when p stride - pad <= h < p stride - pad + kernel.
  const int64_t p0 = largest(h + s.pad - s.kernel + s.stride, 0) / s.stride, p1 = smallest((h + s.pad) / s.stride + 1, p_count);
  const int64_t q0 = largest(w + s.pad - s.kernel + s.stride, 0) / s.stride, q1 = smallest((w + s.pad) / s.stride + 1, q_count);
  float sum = 0;
  for (int64_t p = p0; p < p1; ++p) {
    for (int64_t q = q0; q < q1; ++q) {
      const int64_t window = ((n * p_count + p) * q_count + q) * s.c + c;
      if (a.index[window] == h * s.w + w) sum += to_float(in<T>(a.dy)[window]);
    }
  }
  out<T>(a.dx)[i] = from_float<T>(sum);
}

template <class T>
void max_pool(const MaxPoolArgs& a, Stream& stream) {
  const int64_t p = a.shape.out(a.shape.h), q = a.shape.out(a.shape.w), count = a.shape.n * p * q * a.shape.c;
  if (count > 0) launch(max_pool_kernel<T>, blocks_for(count, kThreads), kThreads, 0, stream, a, p, q);
}
template <class T>
void max_pool_backward(const MaxPoolBackwardArgs& a, Stream& stream) {
  const int64_t p = a.shape.out(a.shape.h), q = a.shape.out(a.shape.w), count = a.shape.n * a.shape.h * a.shape.w * a.shape.c;
  if (count > 0) launch(max_pool_backward_kernel<T>, blocks_for(count, kThreads), kThreads, 0, stream, a, p, q);
}

// --- means over pixels ---

// A block's 32 channels of map n, whose pixels its rows walk over.
struct Place {
  int lane, row;
  int64_t map, c;
  __device__ explicit Place(int64_t channels) {
    const int64_t tiles = (channels + kLanes - 1) / kLanes;
    lane = static_cast<int>(threadIdx.x) % kLanes, row = static_cast<int>(threadIdx.x) / kLanes;
    map = blockIdx.x / tiles, c = blockIdx.x % tiles * kLanes + lane;
  }
};

// Sum over the rows of the block for each lane, in order. `part` [kRows, kLanes]: written before the barrier, read after it, not reused.
__device__ float sum_rows(const Place& at, float* part, float own) {
  part[threadIdx.x] = own;
  __syncthreads();
  float sum = part[at.lane];
  for (int r = 1; r < kRows; ++r) sum += part[r * kLanes + at.lane];
  return sum;
}

template <class T>
__global__ void global_pool_kernel(GlobalPoolArgs a) {
  SHARED_ARRAY(float, part, kThreads);  // see sum_rows
  const Place at(a.c);
  const T* x = in<T>(a.x) + at.map * a.length * a.c + at.c;
  const float p = a.p ? *in<float>(a.p) : 1, eps = static_cast<float>(a.eps);
  float own = 0;
  for (int64_t l = at.row; at.c < a.c && l < a.length; l += kRows) {
    const float value = to_float(x[l * a.c]);
    own += a.p ? powf(fmaxf(value, eps), p) : value;
  }
  const float mean = sum_rows(at, part, own) / static_cast<float>(a.length);
  if (at.row == 0 && at.c < a.c) out<T>(a.y)[at.map * a.c + at.c] = from_float<T>(a.p ? powf(mean, 1 / p) : mean);
}

// dx, and each block's share of dp.
template <class T>
__global__ void global_pool_backward_kernel(GlobalPoolBackwardArgs a, float* shares) {
  SHARED_ARRAY(float, part, kThreads);  // see sum_rows
  const Place at(a.c);
  const bool live = at.c < a.c;
  const int64_t base = at.map * a.length * a.c + at.c;
  const float dy = live ? to_float(in<T>(a.dy)[at.map * a.c + at.c]) : 0, length = static_cast<float>(a.length);
  if (!a.p) {
    for (int64_t l = at.row; live && l < a.length; l += kRows) out<T>(a.dx)[base + l * a.c] = from_float<T>(dy / length);
    return;  // all threads of all blocks, before any barrier
  }
  const float p = *in<float>(a.p), eps = static_cast<float>(a.eps), y = live ? to_float(in<T>(a.y)[at.map * a.c + at.c]) : 1;
  float own = 0;
  for (int64_t l = at.row; live && l < a.length; l += kRows) {
    const float x = to_float(in<T>(a.x)[base + l * a.c]), t = fmaxf(x, eps);
    out<T>(a.dx)[base + l * a.c] = from_float<T>(x > eps ? dy * powf(t / y, p - 1) / length : 0);
    own += powf(t / y, p) * logf(t);
  }
  const float logs = sum_rows(at, part, own);
  const float share = warp_reduce(live ? dy * y * (logs / length - logf(y)) / p : 0.0f, Add());
  if (threadIdx.x == 0) shares[blockIdx.x] = share;
}

__global__ void add_shares_kernel(const float* shares, int64_t count, float* dp) {
  float sum = 0;
  for (int64_t i = threadIdx.x; i < count; i += kThreads) sum += shares[i];
  sum = block_reduce(sum, Add());
  if (threadIdx.x == 0) *dp = sum;
}

template <class T>
void global_pool(const GlobalPoolArgs& a, Stream& stream) {
  if (a.n * a.c > 0) launch(global_pool_kernel<T>, blocks_for(a.n * ceil_div(a.c, kLanes), 1), kThreads, 0, stream, a);
}
template <class T>
void global_pool_backward(const GlobalPoolBackwardArgs& a, Stream& stream) {
  const int64_t blocks = a.n * ceil_div(a.c, kLanes);
  if (blocks == 0) return;
  float* shares = a.p ? static_cast<float*>(stream.workspace(static_cast<size_t>(blocks) * sizeof(float))) : nullptr;
  launch(global_pool_backward_kernel<T>, blocks_for(blocks, 1), kThreads, 0, stream, a, shares);
  if (a.p) launch(add_shares_kernel, 1, kThreads, 0, stream, shares, blocks, out<float>(a.dp));
}

// --- stripes: map = stripe * N + image ---

__device__ StripeRows rows_of(int64_t stripe, int64_t stripes, int64_t height) {  // stripe_rows for the device
  return {stripe * height / stripes, ((stripe + 1) * height + stripes - 1) / stripes};
}

template <class T>
__global__ void stripe_pool_kernel(StripePoolArgs a) {
  SHARED_ARRAY(float, part, kThreads);  // see sum_rows
  const Place at(a.c);
  const StripeRows rows = rows_of(at.map / a.n, a.stripes, a.height);
  const int64_t pixels = (rows.end - rows.begin) * a.width;
  const T* x = in<T>(a.x) + (at.map % a.n * a.height + rows.begin) * a.width * a.c + at.c;
  float own = 0;
  for (int64_t l = at.row; at.c < a.c && l < pixels; l += kRows) own += to_float(x[l * a.c]);
  const float sum = sum_rows(at, part, own);
  if (at.row == 0 && at.c < a.c) out<T>(a.y)[at.map * a.c + at.c] = from_float<T>(sum / static_cast<float>(pixels));
}

template <class T>
__global__ void stripe_pool_backward_kernel(StripePoolBackwardArgs a) {
  const int64_t i = thread_index();  // of [N, H, W, C]
  if (i >= a.n * a.height * a.width * a.c) return;
  const int64_t c = i % a.c, h = i / a.c / a.width % a.height, n = i / a.c / a.width / a.height;
  float sum = 0;
  for (int64_t s = 0; s < a.stripes; ++s) {
    const StripeRows rows = rows_of(s, a.stripes, a.height);
    if (h < rows.begin || h >= rows.end) continue;
    sum += to_float(in<T>(a.dy)[(s * a.n + n) * a.c + c]) / static_cast<float>((rows.end - rows.begin) * a.width);
  }
  out<T>(a.dx)[i] = from_float<T>(sum);
}

template <class T>
void stripe_pool(const StripePoolArgs& a, Stream& stream) {
  const int64_t blocks = a.stripes * a.n * ceil_div(a.c, kLanes);
  if (blocks > 0) launch(stripe_pool_kernel<T>, blocks_for(blocks, 1), kThreads, 0, stream, a);
}
template <class T>
void stripe_pool_backward(const StripePoolBackwardArgs& a, Stream& stream) {
  const int64_t count = a.n * a.height * a.width * a.c;
  if (count > 0) launch(stripe_pool_backward_kernel<T>, blocks_for(count, kThreads), kThreads, 0, stream, a);
}

// Versions that take both types.
template <class Op, void (*in_f32)(const typename Op::Args&, Stream&), void (*in_bf16)(const typename Op::Args&, Stream&)>
void add_both(const char* name) {
  using Args = typename Op::Args;
  add<Op>(
      name, [](const Args& a) { return refuse_other_floats(a.dtype); },
      [](const Args& a, Stream& stream) { a.dtype == DType::bf16 ? in_bf16(a, stream) : in_f32(a, stream); });
}

}  // namespace

void register_pool() {
  add_both<MaxPool, max_pool<float>, max_pool<bf16>>(REID_KERNEL_NAME("windows"));
  add_both<MaxPoolBackward, max_pool_backward<float>, max_pool_backward<bf16>>(REID_KERNEL_NAME("gather"));
  add_both<GlobalPool, global_pool<float>, global_pool<bf16>>(REID_KERNEL_NAME("channels"));
  add_both<GlobalPoolBackward, global_pool_backward<float>, global_pool_backward<bf16>>(REID_KERNEL_NAME("channels"));
  add_both<StripePool, stripe_pool<float>, stripe_pool<bf16>>(REID_KERNEL_NAME("channels"));
  add_both<StripePoolBackward, stripe_pool_backward<float>, stripe_pool_backward<bf16>>(REID_KERNEL_NAME("gather"));
}

}  // namespace reid::REID_TARGET
