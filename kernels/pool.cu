// Pooling: maxima over windows, means (plain and generalized) over whole maps, means over stripes; forward and backward.
// The equations stand beside the arguments in op_args.h; what backward adds:
//   generalized mean, t = max(x, eps): dx = dy (t / y)^(p - 1) / L where x > eps,
//   dp = sum over (n, c) of dy y (mean((t / y)^p ln t) - ln y) / p
//
// Layout: maps [N, H, W, C], channels innermost.
// Map: max_pool and stripe_pool_backward, a thread for each element of the output, or of max_pool for as many channels as 16 bytes hold
//      (vectors). max_pool_backward gathers: a thread for each pixel looks into every window that holds it, in order, so that no two
//      threads add to one element. Means: a block of 32 channels by 8 rows walks over the pixels of one map (or stripe) and adds its rows
//      in order.
// Bytes: max_pool reads x once (from the caches where windows overlap) and writes 8 an output; backward reads those and writes dx; means
//      read x. No version was measured yet.

#include "kernels.h"
#include "packs.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256;
constexpr int kLanes = 32, kRows = kThreads / kLanes;

__device__ int64_t thread_index() { return int64_t{blockIdx.x} * kThreads + threadIdx.x; }
__device__ int64_t largest(int64_t a, int64_t b) { return a > b ? a : b; }
__device__ int64_t smallest(int64_t a, int64_t b) { return a < b ? a : b; }

// --- max pooling ---

// Where a thread's V channels stand in a map [N, rows, columns, C].
struct PoolIndex {
  Divisor channels, columns, rows;  // channels: C / V
  PoolIndex(int64_t c, int64_t across, int64_t down) : channels(c), columns(across), rows(down) {}
};
template <int V>
struct PoolPlace {
  int c, column, row, image;
  __device__ PoolPlace(const PoolIndex& index, int i) {
    const int pixel = index.channels.quotient(i), line = index.columns.quotient(pixel);
    image = index.rows.quotient(line);
    c = index.channels.remainder(i, pixel) * V, column = index.columns.remainder(pixel, line), row = index.rows.remainder(line, image);
  }
};

// Of V channels, the pixels of their maxima.
template <int V>
struct Pixels {
  int32_t v[V];
};
template <int V>
__device__ Pixels<V> load_pixels(const int32_t* p) {
  if constexpr (V == 1) {
    return {*p};
  } else {
    Pixels<V> all;
    for (int i = 0; i < V; i += 4) {
      const Vec<int32_t> four = load_vec(p + i);
      for (int j = 0; j < 4; ++j) all.v[i + j] = four[j];
    }
    return all;
  }
}
template <int V>
__device__ void store_pixels(int32_t* p, const Pixels<V>& all) {
  if constexpr (V == 1) {
    *p = all.v[0];
  } else {
    for (int i = 0; i < V; i += 4) store_vec(p + i, Vec<int32_t>{{all.v[i], all.v[i + 1], all.v[i + 2], all.v[i + 3]}});
  }
}

template <int V, class T>
__global__ void max_pool_kernel(MaxPoolArgs a, PoolIndex index, int count) {
  after_predecessors();
  const PoolShape& s = a.shape;
  const int64_t i = thread_index();  // V channels of [N, P, Q, C]
  if (i >= count) return;
  const PoolPlace<V> at(index, static_cast<int>(i));
  const T* x = in<T>(a.x) + at.image * s.h * s.w * s.c + at.c;
  const auto narrow = [](int64_t v) { return static_cast<int>(v); };
  const int top = at.row * narrow(s.stride) - narrow(s.pad), left = at.column * narrow(s.stride) - narrow(s.pad);
  const int h0 = top > 0 ? top : 0, h1 = narrow(smallest(top + s.kernel, s.h));
  const int w0 = left > 0 ? left : 0, w1 = narrow(smallest(left + s.kernel, s.w));
  Pack<V> best = load<V>(x + (h0 * s.w + w0) * s.c);
  Pixels<V> found;
  for (int c = 0; c < V; ++c) found.v[c] = h0 * narrow(s.w) + w0;
  for (int h = h0; h < h1; ++h) {
    for (int w = w0; w < w1; ++w) {
      const int pixel = h * narrow(s.w) + w;
      const Pack<V> value = load<V>(x + pixel * s.c);
      for (int c = 0; c < V; ++c) {  // the first NaN wins
        if (value.v[c] > best.v[c] || (value.v[c] != value.v[c] && best.v[c] == best.v[c])) best.v[c] = value.v[c], found.v[c] = pixel;
      }
    }
  }
  store(out<T>(a.y) + i * V, best);
  store_pixels(a.index + i * V, found);
}

// index: of dx. by_stride: Divisor(stride).
template <int V, class T>
__global__ void max_pool_backward_kernel(MaxPoolBackwardArgs a, PoolIndex index, Divisor by_stride, int p_count, int q_count, int count) {
  after_predecessors();
  const PoolShape& s = a.shape;
  const int64_t i = thread_index();  // V channels of [N, H, W, C]
  if (i >= count) return;
  const PoolPlace<V> at(index, static_cast<int>(i));
  // Window p holds row h when p stride - pad <= h < p stride - pad + kernel.
  const auto first = [&](int h) { return by_stride.quotient(static_cast<int>(largest(h + s.pad - s.kernel + s.stride, 0))); };
  const auto end = [&](int h, int windows) {
    return static_cast<int>(smallest(by_stride.quotient(static_cast<int>(h + s.pad)) + 1, windows));
  };
  const int p1 = end(at.row, p_count), q0 = first(at.column), q1 = end(at.column, q_count),
            pixel = at.row * static_cast<int>(s.w) + at.column;
  Pack<V> sum{};
  for (int p = first(at.row); p < p1; ++p) {
    for (int q = q0; q < q1; ++q) {
      const int64_t window = ((int64_t{at.image} * p_count + p) * q_count + q) * s.c + at.c;
      const Pixels<V> found = load_pixels<V>(a.index + window);
      const Pack<V> dy = load<V>(in<T>(a.dy) + window);
      for (int c = 0; c < V; ++c) sum.v[c] += found.v[c] == pixel ? dy.v[c] : 0;
    }
  }
  store(out<T>(a.dx) + i * V, sum);
}

template <int V, class T>
void max_pool(const MaxPoolArgs& a, Stream& stream) {
  const int64_t p = a.shape.out(a.shape.h), q = a.shape.out(a.shape.w), count = a.shape.n * p * q * a.shape.c / V;
  if (count == 0) return;
  launch(max_pool_kernel<V, T>, blocks_for(count, kThreads), kThreads, 0, stream, a, PoolIndex(a.shape.c / V, q, p),
         static_cast<int>(count));
}
template <int V, class T>
void max_pool_backward(const MaxPoolBackwardArgs& a, Stream& stream) {
  const PoolShape& s = a.shape;
  const int64_t count = s.n * s.h * s.w * s.c / V;
  if (count == 0) return;
  launch(max_pool_backward_kernel<V, T>, blocks_for(count, kThreads), kThreads, 0, stream, a, PoolIndex(s.c / V, s.w, s.h),
         Divisor(s.stride), static_cast<int>(s.out(s.h)), static_cast<int>(s.out(s.w)), static_cast<int>(count));
}

template <bool vectors>
const char* refuse_windows(const PoolShape& s, DType dtype, std::initializer_list<const void*> arrays) {
  if (const char* reason = refuse_other_floats(dtype)) return reason;
  constexpr int64_t kMost = int64_t{1} << 31;
  if (s.n * s.h * s.w * s.c >= kMost || s.n * s.out(s.h) * s.out(s.w) * s.c >= kMost) return "takes maps of fewer than 2^31 elements";
  if (!vectors) return nullptr;
  if (s.c % (dtype == DType::bf16 ? 8 : 4) != 0) return "takes channels in whole vectors of 16 bytes";
  return aligned_to_16(arrays) ? nullptr : "takes arrays that start at multiples of 16 bytes";
}
template <bool vectors>
void add_max_pool(const char* name) {
  add<MaxPool>(
      name,
      [](const MaxPoolArgs& a) {
        return refuse_windows<vectors>(a.shape, a.dtype, {a.x, a.y, a.index});
      },
      [](const MaxPoolArgs& a, Stream& stream) {
        a.dtype == DType::bf16 ? max_pool<vectors ? 8 : 1, bf16>(a, stream) : max_pool<vectors ? 4 : 1, float>(a, stream);
      });
  add<MaxPoolBackward>(
      name,
      [](const MaxPoolBackwardArgs& a) {
        return refuse_windows<vectors>(a.shape, a.dtype, {a.dy, a.dx, a.index});
      },
      [](const MaxPoolBackwardArgs& a, Stream& stream) {
        a.dtype == DType::bf16 ? max_pool_backward<vectors ? 8 : 1, bf16>(a, stream) : max_pool_backward<vectors ? 4 : 1, float>(a, stream);
      });
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
  after_predecessors();
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
  after_predecessors();
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
  after_predecessors();
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
  after_predecessors();
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
  after_predecessors();
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
  add_max_pool<true>(REID_KERNEL_NAME("vectors"));
  add_max_pool<false>(REID_KERNEL_NAME("elements"));
  add_both<GlobalPool, global_pool<float>, global_pool<bf16>>(REID_KERNEL_NAME("channels"));
  add_both<GlobalPoolBackward, global_pool_backward<float>, global_pool_backward<bf16>>(REID_KERNEL_NAME("channels"));
  add_both<StripePool, stripe_pool<float>, stripe_pool<bf16>>(REID_KERNEL_NAME("channels"));
  add_both<StripePoolBackward, stripe_pool_backward<float>, stripe_pool_backward<bf16>>(REID_KERNEL_NAME("gather"));
}

}  // namespace reid::REID_TARGET
