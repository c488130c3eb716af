// Batch norm, instance norm and norms over groups of images, training and inference: statistics, y = act((x - mean) / sqrt(variance + eps)
// * gamma + beta + residual), and all gradients. With s = 1 / sqrt(variance + eps), z = (x - mean) s and d = dy where y > 0 (with relu):
//   dbeta = sum d,   dgamma = sum d z,   dx = gamma s (d - mean(d) - z mean(d z)),   dresidual = d
// where the means are over the rows that share statistics, and fall away for given statistics (Ioffe and Szegedy, ICML 2015).
//
// Layout: x [G, L, C], channels innermost; G groups of L rows share statistics, channels [first, first + count) take part. Batch norm is
// one group of N*H*W rows, instance norm N groups of H*W.
// Map: a block takes a chunk of 256 rows of one group and one tile of channels. channels: 32 lanes along channels by 8 rows, a warp
//      reads 128 neighboring bytes. vectors: 16 lanes of 4 channels by 16 rows, 256 neighboring bytes for half a warp; in bf16 8 lanes
//      of 8 channels by 32 rows, 128 neighboring bytes for a quarter. A chunk's results are merged in order by a second kernel; where a
//      group has one chunk only they are final (instance norm of the last stage).
// Statistics: a chunk's mean, then its squares about that mean while the chunk is in the caches, corrected for what the mean was off by;
//      chunks are merged in order (Chan, Golub and LeVeque, The American Statistician 37(3), 1983):
//      m = m_a + (m_b - m_a) n_b / n,   M = M_a + M_b + (m_b - m_a)^2 n_a n_b / n
// Types: maps are f32 or bf16; statistics, parameters and all sums are f32.
// Bytes an element: statistics 4; apply 8, with a residual 12; backward 8 + 12 (with relu 4 more each time); half of them in bf16. Floors
//      on H200 (4.3 TB/s) in f32: 0.9, 1.9 and 4.7 ps. No version was measured yet.

#include "kernels.h"
#include "prims.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256;
constexpr int64_t kChunk = 256;  // rows

// V neighboring channels, which one thread works on.
template <int V>
struct Pack {
  float v[V];
};
template <int V, class T>
__device__ Pack<V> load(const T* p) {
  Pack<V> pack;
  if constexpr (V == 1) {
    pack.v[0] = to_float(*p);
  } else {
    for (int i = 0; i < V; i += Vec<T>::kCount) {
      const Vec<T> part = load_vec(p + i);
      for (int j = 0; j < Vec<T>::kCount; ++j) pack.v[i + j] = to_float(part[j]);
    }
  }
  return pack;
}
template <int V, class T>
__device__ void store(T* p, const Pack<V>& pack) {
  if constexpr (V == 1) {
    *p = from_float<T>(pack.v[0]);
  } else {
    for (int i = 0; i < V; i += Vec<T>::kCount) {
      Vec<T> part;
      for (int j = 0; j < Vec<T>::kCount; ++j) part[j] = from_float<T>(pack.v[i + j]);
      store_vec(p + i, part);
    }
  }
}

// What a thread works on: V channels from `column` of the window, rows begin + row, begin + row + kRows, ... below end.
template <int V>
struct Place {
  static constexpr int kLanes = V == 8 ? 8 : V == 4 ? 16 : 32, kRows = kThreads / kLanes;
  int lane, row;
  int64_t group, chunk, column, begin, end;
  bool live;  // the tile may stick out of the window

  __device__ explicit Place(const NormWindow& w) {
    const int64_t tiles = (w.count + kLanes * V - 1) / (kLanes * V), chunks = (w.length + kChunk - 1) / kChunk;
    lane = static_cast<int>(threadIdx.x) % kLanes, row = static_cast<int>(threadIdx.x) / kLanes;
    column = (blockIdx.x % tiles * kLanes + lane) * V;
    chunk = blockIdx.x / tiles % chunks, group = blockIdx.x / tiles / chunks;
    begin = chunk * kChunk, end = begin + kChunk < w.length ? begin + kChunk : w.length;
    live = column < w.count;
  }
  __device__ int64_t element(const NormWindow& w, int64_t l) const { return (group * w.length + l) * w.channels + w.first + column; }
  __device__ int64_t statistic(const NormWindow& w) const { return group * w.count + column; }
  __device__ int64_t partial(const NormWindow& w) const { return (group * ((w.length + kChunk - 1) / kChunk) + chunk) * w.count + column; }
};

// Sum over the rows of the block for each lane, in order. `part` [kRows, kLanes]: written before the first barrier, read before the second.
template <int V>
__device__ Pack<V> sum_rows(const Place<V>& at, Pack<V>* part, const Pack<V>& own) {
  part[threadIdx.x] = own;
  __syncthreads();
  Pack<V> sum = part[at.lane];
  for (int r = 1; r < at.kRows; ++r) {
    for (int i = 0; i < V; ++i) sum.v[i] += part[r * at.kLanes + at.lane].v[i];
  }
  __syncthreads();
  return sum;
}

// --- statistics ---

// Means and sums of squares about them, for each chunk. `last`: there is one chunk, so the squares become the variance. What the first
// mean is off by, the sum of deviations from it tells: it corrects both.
template <int V, class T>
__global__ void statistics_kernel(const T* x, NormWindow w, float* means, float* squares, bool last) {
  SHARED_ARRAY(Pack<V>, part, kThreads);  // see sum_rows
  const Place<V> at(w);
  const float rows = static_cast<float>(at.end - at.begin);
  Pack<V> sum{}, rest{}, square{};
  for (int64_t l = at.begin + at.row; at.live && l < at.end; l += at.kRows) {
    const Pack<V> values = load<V>(x + at.element(w, l));
    for (int i = 0; i < V; ++i) sum.v[i] += values.v[i];
  }
  Pack<V> mean = sum_rows(at, part, sum);
  for (int i = 0; i < V; ++i) mean.v[i] /= rows;
  for (int64_t l = at.begin + at.row; at.live && l < at.end; l += at.kRows) {
    const Pack<V> values = load<V>(x + at.element(w, l));
    for (int i = 0; i < V; ++i) {
      const float deviation = values.v[i] - mean.v[i];
      rest.v[i] += deviation, square.v[i] += deviation * deviation;
    }
  }
  rest = sum_rows(at, part, rest);
  square = sum_rows(at, part, square);
  if (!at.live || at.row > 0) return;
  for (int i = 0; i < V; ++i) {
    const float off = rest.v[i] / rows, about_mean = fmaxf(square.v[i] - rest.v[i] * off, 0);
    means[at.partial(w) + i] = mean.v[i] + off;
    squares[at.partial(w) + i] = last ? about_mean / rows : about_mean;
  }
}

// Merges the chunks of each (group, channel): one thread for each, neighbors read neighboring floats.
__global__ void merge_statistics_kernel(const float* means, const float* squares, NormWindow w, float* mean, float* variance) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= w.groups * w.count) return;
  const int64_t chunks = (w.length + kChunk - 1) / kChunk, first = i / w.count * chunks * w.count + i % w.count;
  float m = means[first], sum = squares[first];
  for (int64_t chunk = 1; chunk < chunks; ++chunk) {
    const float before = static_cast<float>(chunk * kChunk);
    const float more = static_cast<float>(chunk + 1 < chunks ? kChunk : w.length - chunk * kChunk);
    const float difference = means[first + chunk * w.count] - m, share = more / (before + more);
    m += difference * share;
    sum += squares[first + chunk * w.count] + difference * difference * before * share;
  }
  mean[i] = m;
  variance[i] = sum / static_cast<float>(w.length);
}

// --- apply ---

template <int V, class T>
__global__ void apply_kernel(NormApplyArgs a) {
  const NormWindow& w = a.window;
  const Place<V> at(w);
  if (!at.live) return;
  const T* residual = in<T>(a.residual);
  const Pack<V> mean = load<V>(in<float>(a.mean) + at.statistic(w)), variance = load<V>(in<float>(a.variance) + at.statistic(w));
  const Pack<V> gamma = load<V>(in<float>(a.gamma) + at.column), beta = load<V>(in<float>(a.beta) + at.column);
  Pack<V> scale;
  for (int i = 0; i < V; ++i) scale.v[i] = gamma.v[i] / sqrtf(variance.v[i] + static_cast<float>(a.eps));
  for (int64_t l = at.begin + at.row; l < at.end; l += at.kRows) {
    const int64_t element = at.element(w, l);
    Pack<V> y = load<V>(in<T>(a.x) + element);
    // From the difference: x * scale + shift would lose the digits that x shares with the mean.
    for (int i = 0; i < V; ++i) y.v[i] = (y.v[i] - mean.v[i]) * scale.v[i] + beta.v[i];
    if (residual) {
      const Pack<V> more = load<V>(residual + element);
      for (int i = 0; i < V; ++i) y.v[i] += more.v[i];
    }
    for (int i = 0; i < V; ++i) y.v[i] = a.relu && y.v[i] < 0 ? 0 : y.v[i];
    store(out<T>(a.y) + element, y);
  }
}

// --- backward ---

// dy where relu let the value through, and the normalized x.
template <int V, class T>
struct Gradient {
  const NormBackwardArgs& a;
  Pack<V> mean, inverse;

  __device__ Gradient(const NormBackwardArgs& args, const Place<V>& at) : a(args) {
    mean = load<V>(in<float>(a.mean) + at.statistic(a.window));
    const Pack<V> variance = load<V>(in<float>(a.variance) + at.statistic(a.window));
    for (int i = 0; i < V; ++i) inverse.v[i] = 1 / sqrtf(variance.v[i] + static_cast<float>(a.eps));
  }
  __device__ Pack<V> passed(int64_t element) const {
    Pack<V> d = load<V>(in<T>(a.dy) + element);
    if (!a.relu) return d;
    const Pack<V> y = load<V>(in<T>(a.y) + element);
    for (int i = 0; i < V; ++i) d.v[i] = y.v[i] > 0 ? d.v[i] : 0;
    return d;
  }
  __device__ Pack<V> normalized(int64_t element) const {
    Pack<V> z = load<V>(in<T>(a.x) + element);
    for (int i = 0; i < V; ++i) z.v[i] = (z.v[i] - mean.v[i]) * inverse.v[i];
    return z;
  }
};

// Sums of d and of d z, for each chunk.
template <int V, class T>
__global__ void gradient_sums_kernel(NormBackwardArgs a, float* sums, float* dots) {
  SHARED_ARRAY(Pack<V>, part, kThreads);  // see sum_rows
  const NormWindow& w = a.window;
  const Place<V> at(w);
  Pack<V> sum{}, dot{};
  if (at.live) {
    const Gradient<V, T> gradient(a, at);
    for (int64_t l = at.begin + at.row; l < at.end; l += at.kRows) {
      const Pack<V> d = gradient.passed(at.element(w, l)), z = gradient.normalized(at.element(w, l));
      for (int i = 0; i < V; ++i) sum.v[i] += d.v[i], dot.v[i] += d.v[i] * z.v[i];
    }
  }
  sum = sum_rows(at, part, sum);
  dot = sum_rows(at, part, dot);
  if (!at.live || at.row > 0) return;
  for (int i = 0; i < V; ++i) sums[at.partial(w) + i] = sum.v[i], dots[at.partial(w) + i] = dot.v[i];
}

// A thread for each channel adds up its chunks in order: over each group for dx (into the group's first chunk), over all for the
// parameters.
__global__ void merge_sums_kernel(float* sums, float* dots, NormWindow w, float* dbeta, float* dgamma) {
  const int64_t c = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (c >= w.count) return;
  const int64_t chunks = (w.length + kChunk - 1) / kChunk;
  float all_sums = 0, all_dots = 0;
  for (int64_t g = 0; g < w.groups; ++g) {
    const int64_t first = g * chunks * w.count + c;
    float sum = 0, dot = 0;
    for (int64_t chunk = 0; chunk < chunks; ++chunk) sum += sums[first + chunk * w.count], dot += dots[first + chunk * w.count];
    sums[first] = sum, dots[first] = dot;
    all_sums += sum, all_dots += dot;
  }
  dbeta[c] = all_sums, dgamma[c] = all_dots;
}

template <int V, class T>
__global__ void gradient_kernel(NormBackwardArgs a, const float* sums, const float* dots) {
  const NormWindow& w = a.window;
  const Place<V> at(w);
  if (!at.live) return;
  const Gradient<V, T> gradient(a, at);
  const int64_t merged = at.partial(w) - at.chunk * w.count;
  const float share = a.constant_statistics ? 0 : 1 / static_cast<float>(w.length);
  Pack<V> scale = load<V>(in<float>(a.gamma) + at.column), mean_sum, mean_dot;
  for (int i = 0; i < V; ++i) {
    scale.v[i] *= gradient.inverse.v[i];
    mean_sum.v[i] = sums[merged + i] * share, mean_dot.v[i] = dots[merged + i] * share;
  }
  for (int64_t l = at.begin + at.row; l < at.end; l += at.kRows) {
    const int64_t element = at.element(w, l);
    const Pack<V> d = gradient.passed(element), z = gradient.normalized(element);
    if (a.dresidual) store(out<T>(a.dresidual) + element, d);
    Pack<V> dx;
    for (int i = 0; i < V; ++i) dx.v[i] = scale.v[i] * (d.v[i] - mean_sum.v[i] - z.v[i] * mean_dot.v[i]);
    store(out<T>(a.dx) + element, dx);
  }
}

// --- launchers ---

bool empty(const NormWindow& w) { return w.groups == 0 || w.length == 0 || w.count == 0; }
int64_t chunks_of(const NormWindow& w) { return ceil_div(w.length, kChunk); }
template <int V>
unsigned blocks_of(const NormWindow& w) {
  return blocks_for(ceil_div(w.count, Place<V>::kLanes * V) * chunks_of(w) * w.groups, 1);
}
// Two arrays [G, chunks, count].
float* partials(const NormWindow& w, Stream& stream) {
  return static_cast<float*>(stream.workspace(static_cast<size_t>(2 * w.groups * chunks_of(w) * w.count) * sizeof(float)));
}

template <int V, class T>
void statistics(const NormStatisticsArgs& a, Stream& stream) {
  const NormWindow& w = a.window;
  if (empty(w)) return;
  const T* x = in<T>(a.x);
  float *mean = out<float>(a.mean), *variance = out<float>(a.variance);
  if (chunks_of(w) == 1) return launch(statistics_kernel<V, T>, blocks_of<V>(w), kThreads, 0, stream, x, w, mean, variance, true);
  float* means = partials(w, stream);
  float* squares = means + w.groups * chunks_of(w) * w.count;
  launch(statistics_kernel<V, T>, blocks_of<V>(w), kThreads, 0, stream, x, w, means, squares, false);
  launch(merge_statistics_kernel, blocks_for(w.groups * w.count, kThreads), kThreads, 0, stream, means, squares, w, mean, variance);
}

template <int V, class T>
void apply(const NormApplyArgs& a, Stream& stream) {
  if (!empty(a.window)) launch(apply_kernel<V, T>, blocks_of<V>(a.window), kThreads, 0, stream, a);
}

template <int V, class T>
void backward(const NormBackwardArgs& a, Stream& stream) {
  const NormWindow& w = a.window;
  if (empty(w)) return;
  float* sums = partials(w, stream);
  float* dots = sums + w.groups * chunks_of(w) * w.count;
  launch(gradient_sums_kernel<V, T>, blocks_of<V>(w), kThreads, 0, stream, a, sums, dots);
  launch(merge_sums_kernel, blocks_for(w.count, kThreads), kThreads, 0, stream, sums, dots, w, out<float>(a.dbeta), out<float>(a.dgamma));
  launch(gradient_kernel<V, T>, blocks_of<V>(w), kThreads, 0, stream, a, sums, dots);
}

// --- conditions and versions: channels one by one, or as many as 16 bytes hold ---

template <bool vectors>
const char* refuse(DType dtype, const NormWindow& w, std::initializer_list<const void*> pointers) {
  if (const char* reason = refuse_other_floats(dtype)) return reason;
  if (!vectors) return nullptr;
  const int64_t each = dtype == DType::bf16 ? 8 : 4;
  if (w.channels % each != 0 || w.first % each != 0 || w.count % each != 0) return "takes channels in whole vectors of 16 bytes";
  return aligned_to_16(pointers) ? nullptr : "takes arrays that start at multiples of 16 bytes";
}
template <bool vectors>
const char* refuse_statistics(const NormStatisticsArgs& a) {
  return refuse<vectors>(a.dtype, a.window, {a.x});
}
template <bool vectors>
const char* refuse_apply(const NormApplyArgs& a) {
  return refuse<vectors>(a.dtype, a.window, {a.x, a.y, a.residual, a.mean, a.variance, a.gamma, a.beta});
}
template <bool vectors>
const char* refuse_backward(const NormBackwardArgs& a) {
  return refuse<vectors>(a.dtype, a.window, {a.dy, a.x, a.relu ? a.y : nullptr, a.dx, a.dresidual, a.mean, a.variance, a.gamma});
}

template <bool vectors>
void add_all(const char* name) {
  add<NormStatistics>(name, refuse_statistics<vectors>, [](const NormStatisticsArgs& a, Stream& stream) {
    a.dtype == DType::bf16 ? statistics<vectors ? 8 : 1, bf16>(a, stream) : statistics<vectors ? 4 : 1, float>(a, stream);
  });
  add<NormApply>(name, refuse_apply<vectors>, [](const NormApplyArgs& a, Stream& stream) {
    a.dtype == DType::bf16 ? apply<vectors ? 8 : 1, bf16>(a, stream) : apply<vectors ? 4 : 1, float>(a, stream);
  });
  add<NormBackward>(name, refuse_backward<vectors>, [](const NormBackwardArgs& a, Stream& stream) {
    a.dtype == DType::bf16 ? backward<vectors ? 8 : 1, bf16>(a, stream) : backward<vectors ? 4 : 1, float>(a, stream);
  });
}

}  // namespace

void register_norm() {
  add_all<true>(REID_KERNEL_NAME("vectors"));
  add_all<false>(REID_KERNEL_NAME("channels"));
}

}  // namespace reid::REID_TARGET
