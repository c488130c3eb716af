// Batch norm, instance norm and norms over groups of images, training and inference: statistics, y = act((x - mean) / sqrt(variance + eps)
// * gamma + beta + residual), and all gradients. With s = 1 / sqrt(variance + eps), z = (x - mean) s and d = dy where y > 0 (with relu):
//   dbeta = sum d,   dgamma = sum d z,   dx = gamma s (d - mean(d) - z mean(d z)),   dresidual = d
// where the means are over the rows that share statistics, and fall away for given statistics (Ioffe and Szegedy, ICML 2015).
//
// Layout: x [G, L, C], channels innermost; G groups of L rows share statistics, channels [first, first + count) take part. Batch norm is
// one group of N*H*W rows, instance norm N groups of H*W. Two norms of neighboring channels, as in IBN, are one launch: a block's rows are
// of one group of the first, and so of one of the second, and a thread takes what it needs of the norm that its channels belong to. So
// a block of IBN's 64 channels of layer 1 reads whole rows, where each norm alone would read 64 bytes of every 128 with half its threads.
// Map: a block takes a chunk of 256 rows of one group and one tile of channels. channels: 32 lanes along channels by 8 rows, a warp
//      reads 128 neighboring bytes. vectors: 16 lanes of 4 channels by 16 rows, 256 neighboring bytes for half a warp; in bf16 8 lanes
//      of 8 channels by 32 rows, 128 neighboring bytes for a quarter. A chunk's results are merged by a second kernel (merge.cuh), which a
//      group of one chunk does without (instance norm of the last stage): chunks to groups of the first norm, these to groups of the
//      second, and these to the parameters' gradients.
// Statistics: a chunk's mean, then its squares about that mean while the chunk is in the caches, corrected for what the mean was off by.
// Backward: sums of d and of d (x - mean) in a first pass, dx in a second one. Where y came of x alone (beta says so), its sign is computed
//      again from x as apply computed it, and y is not read. With a residual the first pass writes d, which is dresidual, and the second
//      reads that instead of dy and y. Where a convolution made d and the sums (NormSumsArgs), by signs
//      that apply wrote, a bit each, the second pass is all there is.
// Types: maps are f32 or bf16; statistics, parameters and all sums are f32.
// Bytes an element: statistics 4; apply 8, with a residual 12; backward 8 + 12, with relu 4 more each time where y is read, with a
//      residual 12 + 4 + 12; half of them in bf16. Floors on H200 (4.3 TB/s) in f32: 0.9, 1.9 and 4.7 ps. No version was measured yet.

#include "kernels.h"
#include "merge.cuh"
#include "norm.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256;
constexpr int kBlocks = 3;       // meant to share a processor, at least: 80 registers a thread
constexpr int64_t kChunk = 256;  // rows

// What a thread works on: V channels from `column` of the window, rows begin + row, begin + row + kRows, ... below end.
template <int V>
struct Place {
  static constexpr int kLanes = V == 8 ? 8 : V == 4 ? 16 : 32, kRows = kThreads / kLanes;
  int lane, row;
  int64_t group, chunk, column, begin, end;
  bool live;  // the tile may stick out of the window

  __device__ explicit Place(const NormWindow& w) {
    // No more of either than there are blocks: 32 bits divide in a fifth of the time.
    const auto tiles = static_cast<unsigned>((w.count + kLanes * V - 1) / (kLanes * V));
    const auto chunks = static_cast<unsigned>((w.length + kChunk - 1) / kChunk);
    const unsigned line = blockIdx.x / tiles;
    lane = static_cast<int>(threadIdx.x) % kLanes, row = static_cast<int>(threadIdx.x) / kLanes;
    column = (int64_t{blockIdx.x - line * tiles} * kLanes + lane) * V;
    group = line / chunks, chunk = line % chunks;
    begin = chunk * kChunk, end = begin + kChunk < w.length ? begin + kChunk : w.length;
    live = column < w.count;
  }
  __device__ int64_t element(const NormWindow& w, int64_t l) const { return (group * w.length + l) * w.channels + w.first + column; }
  __device__ int64_t partial(const NormWindow& w) const { return (group * ((w.length + kChunk - 1) / kChunk) + chunk) * w.count + column; }
};

// Of one norm's rows and channels, or of both's, cut as the first's groups are.
__host__ __device__ inline NormWindow together(const NormSlice (&slices)[2]) {
  NormWindow w = slices[0].window;
  w.count += slices[1].window.count;
  return w;
}

// The norm that a thread's channels belong to, and where in its groups and channels they lie.
template <int V>
struct Norm {
  bool second;
  const NormSlice& slice;
  int64_t column, group;

  __device__ Norm(const NormSlice (&slices)[2], const Place<V>& at)
      : second(at.column >= slices[0].window.count), slice(slices[second]), column(at.column), group(at.group) {
    if (!second) return;
    column -= slices[0].window.count;
    group = static_cast<unsigned>(group) / (static_cast<unsigned>(slices[0].window.groups) / static_cast<unsigned>(slice.window.groups));
  }
  __device__ Pack<V> of_group(const void* statistics) const { return load<V>(in<float>(statistics) + group * slice.window.count + column); }
  __device__ Pack<V> of_channel(const void* parameters) const { return load<V>(in<float>(parameters) + column); }
  __device__ Pack<V> scale(double eps) const {
    const Pack<V> variance = of_group(slice.variance), gamma = of_channel(slice.gamma);
    Pack<V> scale;
    for (int i = 0; i < V; ++i) scale.v[i] = norm_scale(gamma.v[i], variance.v[i], eps);
    return scale;
  }
};

// A thread's rows, two at a time: both are fetched before the first is used. Behind a store the compiler would fetch none in advance, and
// blocks with so many registers are too few to hide it.
template <int V, class Fetch, class Use>
__device__ void each_row(const Place<V>& at, const NormWindow& w, Fetch fetch, Use use) {
  DO_NOT_UNROLL
  for (int64_t l = at.begin + at.row; l < at.end; l += 2 * at.kRows) {
    const bool both = l + at.kRows < at.end;
    const int64_t first = at.element(w, l), second = both ? at.element(w, l + at.kRows) : first;
    const auto one = fetch(first), two = fetch(second);
    use(one, first);
    if (both) use(two, second);
  }
}

// Sum over the rows of the block for each lane, as a tree: one after the other they would take as many instructions as the rows that were
// read. `part` [kRows, kLanes]: in a step the lower half is written, the upper half read; free behind the last barrier.
template <int V>
__device__ Pack<V> sum_rows(const Place<V>& at, Pack<V>* part, Pack<V> own) {
  part[threadIdx.x] = own;
  for (int half = at.kRows / 2; half > 0; half /= 2) {
    __syncthreads();
    if (at.row >= half) continue;
    const Pack<V>& other = part[static_cast<int>(threadIdx.x) + half * at.kLanes];
    for (int i = 0; i < V; ++i) own.v[i] += other.v[i];
    part[threadIdx.x] = own;
  }
  __syncthreads();
  const Pack<V> sum = part[at.lane];
  __syncthreads();
  return sum;
}

// --- statistics ---

// The moments of each chunk; where there is one (moments: null), the mean and the variance. What the first mean is off by, the sum of
// deviations from it tells: it corrects both.
template <int V, class T>
__global__ void statistics_kernel(const T* x, NormWindow w, Moments* moments, float* means, float* variances) {
  after_predecessors();
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
    if (moments) {
      moments[at.partial(w) + i] = {mean.v[i] + off, about_mean};
    } else {
      means[at.partial(w) + i] = mean.v[i] + off, variances[at.partial(w) + i] = about_mean / rows;
    }
  }
}

// --- apply ---

// Bit i: whether number i is above zero.
__device__ inline uint8_t signs_of(const Vec<bf16>& of) {
  unsigned bits = 0;
  UNROLL
  for (int i = 0; i < 8; ++i) bits |= to_float(of[i]) > 0 ? 1u << i : 0;
  return static_cast<uint8_t>(bits);
}

template <int V, class T>
__global__ void __launch_bounds__(kThreads, kBlocks) apply_kernel(const NormApplyArgs GRID_CONSTANT a) {
  after_predecessors();
  const NormWindow w = together(a.slices);
  const Place<V> at(w);
  if (!at.live) return;
  const T* residual = in<T>(a.residual);
  auto* const positive = out<uint8_t>(a.positive);
  const Norm<V> norm(a.slices, at);
  const ChannelNorms<V> norms{norm.of_group(norm.slice.mean), norm.scale(a.eps), norm.of_channel(norm.slice.beta)};
  struct Row {
    Raw<V, T> x, more;
  };
  const auto fetch = [&](int64_t element) {
    Row row{load_raw<V>(in<T>(a.x) + element), {}};
    if (residual) row.more = load_raw<V>(residual + element);
    return row;
  };
  each_row(at, w, fetch, [&](const Row& row, int64_t element) {
    Pack<V> y = norms(widened(row.x));
    if (residual) y = sum_of(y, widened(row.more));
    if (a.relu) y = relu_of(y);
    store(out<T>(a.y) + element, y);
    if constexpr (V == 8) {
      if (positive) positive[element / 8] = signs_of(narrowed<T>(y));
    }
  });
}

// --- backward ---

// How d is found: it is dy, or dy where y > 0, where y is read or computed again.
enum class Mask { none, read, computed };

// A thread's d, row by row.
template <int V, class T, Mask mask>
struct Gradient {
  const NormBackwardArgs& a;
  Pack<V> mean, scale, beta;

  __device__ Gradient(const NormBackwardArgs& args, const Norm<V>& norm) : a(args) {
    mean = norm.of_group(norm.slice.mean);
    scale = norm.scale(a.eps);
    if constexpr (mask == Mask::computed) beta = norm.of_channel(norm.slice.beta);
  }
  struct Row {
    Raw<V, T> dy, x, y;
  };
  __device__ Row fetch(const T* dy, int64_t element) const {
    Row row{load_raw<V>(dy + element), load_raw<V>(in<T>(a.x) + element), {}};
    if constexpr (mask == Mask::read) row.y = load_raw<V>(in<T>(a.y) + element);
    return row;
  }
  __device__ Pack<V> masked(const Row& row, const Pack<V>& x) const {
    Pack<V> d = widened(row.dy);
    if constexpr (mask == Mask::read) {
      const Pack<V> y = widened(row.y);
      for (int i = 0; i < V; ++i) d.v[i] = y.v[i] > 0 ? d.v[i] : 0;
    }
    if constexpr (mask == Mask::computed) {
      for (int i = 0; i < V; ++i) d.v[i] = applied(x.v[i], mean.v[i], scale.v[i], beta.v[i]) > 0 ? d.v[i] : 0;
    }
    return d;
  }
};

// Sums of d and of d z, for each chunk; dresidual. The mask computed here takes 86 registers: a bound of 80 spills.
template <int V, class T, Mask mask>
__global__ void __launch_bounds__(kThreads, mask == Mask::computed ? 2 : kBlocks)
    gradient_sums_kernel(const NormBackwardArgs GRID_CONSTANT a, float* sums, float* dots) {
  after_predecessors();
  SHARED_ARRAY(Pack<V>, part, kThreads);  // see sum_rows
  const NormWindow w = together(a.slices);
  const Place<V> at(w);
  Pack<V> sum{}, dot{};
  if (at.live) {
    const Gradient<V, T, mask> gradient(a, Norm<V>(a.slices, at));
    const auto fetch = [&](int64_t element) { return gradient.fetch(in<T>(a.dy), element); };
    each_row(at, w, fetch, [&](const auto& row, int64_t element) {
      const Pack<V> x = widened(row.x), d = gradient.masked(row, x);
      if (a.dresidual) store(out<T>(a.dresidual) + element, d);
      for (int i = 0; i < V; ++i) sum.v[i] += d.v[i], dot.v[i] += d.v[i] * (x.v[i] - gradient.mean.v[i]);
    });
  }
  sum = sum_rows(at, part, sum);
  dot = sum_rows(at, part, dot);
  if (!at.live || at.row > 0) return;
  const Norm<V> norm(a.slices, at);
  const Pack<V> variance = norm.of_group(norm.slice.variance);
  for (int i = 0; i < V; ++i) {
    sums[at.partial(w) + i] = sum.v[i];
    dots[at.partial(w) + i] = dot.v[i] / sqrtf(variance.v[i] + static_cast<float>(a.eps));
  }
}

// Sums of d and of d z over the groups of a norm: [G, count], with the channels of both.
struct GroupSums {
  const float *sums, *dots;
};
struct AllSums {
  GroupSums of[2];  // the first norm's groups, the second's
};

// dy: where d is masked already, dresidual.
template <int V, class T, Mask mask>
__global__ void __launch_bounds__(kThreads, kBlocks)
    gradient_kernel(const NormBackwardArgs GRID_CONSTANT a, const T* dy, const AllSums GRID_CONSTANT all) {
  after_predecessors();
  const NormWindow w = together(a.slices);
  const Place<V> at(w);
  if (!at.live) return;
  const Norm<V> norm(a.slices, at);
  const Gradient<V, T, mask> gradient(a, norm);
  const float share = a.constant_statistics[norm.second] ? 0 : 1 / static_cast<float>(norm.slice.window.length);
  const int64_t from = norm.group * w.count + at.column;
  const GroupSums& group = all.of[norm.second];
  Pack<V> offset, slope = norm.of_group(norm.slice.variance);
  for (int i = 0; i < V; ++i) {
    offset.v[i] = group.sums[from + i] * share;
    slope.v[i] = group.dots[from + i] * share / sqrtf(slope.v[i] + static_cast<float>(a.eps));
  }
  const auto fetch = [&](int64_t element) { return gradient.fetch(dy, element); };
  each_row(at, w, fetch, [&](const auto& row, int64_t element) {
    const Pack<V> x = widened(row.x);
    Pack<V> d = gradient.masked(row, x);
    for (int i = 0; i < V; ++i) d.v[i] = gradient.scale.v[i] * (d.v[i] - offset.v[i] - (x.v[i] - gradient.mean.v[i]) * slope.v[i]);
    store(out<T>(a.dx) + element, d);
  });
}

// --- running statistics ---

__device__ void move_running(float* running, const float* seen, const RunningMove& m, int64_t column, double share) {
  float sum = 0;
  for (int64_t g = 0; g < m.groups; ++g) sum += seen[g * m.count + column];
  running[column] = static_cast<float>(1 - m.momentum) * running[column] + static_cast<float>(share) * sum;
}

__global__ void running_update_kernel(const RunningUpdateArgs GRID_CONSTANT a) {
  after_predecessors();
  const RunningMove& m = a.moves[blockIdx.y];
  const int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (column >= m.count) return;
  const double share = m.momentum / static_cast<double>(m.groups);
  move_running(out<float>(m.mean), in<float>(m.seen_mean), m, column, share);
  move_running(out<float>(m.variance), in<float>(m.seen_variance), m, column, share * m.unbiased);
}

void running_update(const RunningUpdateArgs& a, Stream& stream) {
  int64_t most = 0;
  for (int i = 0; i < a.number; ++i) most = a.moves[i].count > most ? a.moves[i].count : most;
  if (most > 0) launch(running_update_kernel, dim3(blocks_for(most, kThreads), static_cast<unsigned>(a.number)), kThreads, 0, stream, a);
}

__global__ void sums_statistics_kernel(const float* sums, const float* squares, double rows, int64_t count, float* mean, float* variance) {
  after_predecessors();
  const int64_t column = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (column >= count) return;
  const double middle = double{sums[column]} / rows, rest = double{squares[column]} / rows - middle * middle;
  mean[column] = static_cast<float>(middle);
  variance[column] = static_cast<float>(rest < 0 ? 0 : rest);  // NaN stays NaN
}

void sums_statistics(const SumsStatisticsArgs& a, Stream& stream) {
  if (a.count == 0) return;
  launch(sums_statistics_kernel, blocks_for(a.count, kThreads), kThreads, 0, stream, in<float>(a.sums), in<float>(a.squares),
         static_cast<double>(a.rows), a.count, out<float>(a.mean), out<float>(a.variance));
}

// --- launchers ---

bool empty(const NormWindow& w) { return w.groups == 0 || w.length == 0 || w.count == 0; }
int64_t chunks_of(const NormWindow& w) { return ceil_div(w.length, kChunk); }
template <int V>
unsigned blocks_of(const NormWindow& w) {
  return blocks_for(ceil_div(w.count, Place<V>::kLanes * V) * chunks_of(w) * w.groups, 1);
}
template <int V, class T>
void statistics(const NormStatisticsArgs& a, Stream& stream) {
  const NormWindow& w = a.window;
  if (empty(w)) return;
  const int64_t chunks = chunks_of(w);
  auto* moments =
      chunks == 1 ? nullptr : static_cast<Moments*>(stream.workspace(static_cast<size_t>(w.groups * chunks * w.count) * sizeof(Moments)));
  launch(statistics_kernel<V, T>, blocks_of<V>(w), kThreads, 0, stream, in<T>(a.x), w, moments, out<float>(a.mean), out<float>(a.variance));
  if (moments) merge_moments(moments, {kChunk, w.count, w.first}, &a, 1, stream);
}

template <int V, class T>
void apply(const NormApplyArgs& a, Stream& stream) {
  const NormWindow w = together(a.slices);
  if (!empty(w)) launch(apply_kernel<V, T>, blocks_of<V>(w), kThreads, 0, stream, a);
}

// The chunks' sums [items, count], behind them their dots: to those of the norms' groups, and to dbeta and dgamma. `room` takes what lies
// between: sums and dots of the first norm's groups, then of the second's.
AllSums merge_groups(const NormBackwardArgs& a, const float* chunks, float* room, Stream& stream) {
  const NormWindow w = together(a.slices);
  const bool both = a.slices[1].window.count > 0;
  const int64_t groups[2] = {w.groups, both ? a.slices[1].window.groups : w.groups};
  const GroupSums all{out<float>(a.dbeta), out<float>(a.dgamma)};
  AllSums found{{all, all}};
  const float* sums = chunks;  // of `items`
  int64_t items = w.groups * chunks_of(w);
  for (int i = 0; i < 2; ++i) {
    if (groups[i] == 1) continue;  // then its sums are the parameters' gradients
    const int64_t columns = groups[i] * w.count;
    if (items > groups[i]) {
      merge_sums(sums, groups[i], items / groups[i], w.count, room, room + columns, stream);
      sums = room, room += 2 * columns, items = groups[i];
    }
    found.of[i] = {sums, sums + columns};
  }
  merge_sums(sums, 1, items, w.count, out<float>(a.dbeta), out<float>(a.dgamma), stream);
  return found;
}

template <int V, class T, Mask mask>
void backward(const NormBackwardArgs& a, Stream& stream) {
  const NormWindow w = together(a.slices);
  const int64_t items = w.groups * chunks_of(w), of_groups = w.groups + a.slices[1].window.groups;
  auto* chunks = static_cast<float*>(stream.workspace(static_cast<size_t>(2 * w.count * (items + of_groups)) * sizeof(float)));
  launch(gradient_sums_kernel<V, T, mask>, blocks_of<V>(w), kThreads, 0, stream, a, chunks, chunks + w.count * items);
  const AllSums all = merge_groups(a, chunks, chunks + 2 * w.count * items, stream);
  if (a.dresidual) {
    launch(gradient_kernel<V, T, Mask::none>, blocks_of<V>(w), kThreads, 0, stream, a, in<T>(a.dresidual), all);
  } else {
    launch(gradient_kernel<V, T, mask>, blocks_of<V>(w), kThreads, 0, stream, a, in<T>(a.dy), all);
  }
}
template <int V, class T>
void backward(const NormBackwardArgs& a, Stream& stream) {
  if (empty(together(a.slices))) return;
  if (!a.relu) {
    backward<V, T, Mask::none>(a, stream);
  } else if (a.slices[0].beta) {
    backward<V, T, Mask::computed>(a, stream);
  } else {
    backward<V, T, Mask::read>(a, stream);
  }
}

// The second pass alone.
template <int V, class T>
void gradient(const NormGradientArgs& a, Stream& stream) {
  NormBackwardArgs second{};
  const NormWindow w{1, a.length, a.channels, 0, a.channels};
  if (empty(w)) return;
  second.x = a.x, second.dx = a.dx, second.slices[0] = {w, a.mean, a.variance, a.gamma, nullptr};
  second.eps = a.eps, second.constant_statistics[0] = a.constant_statistics;
  const AllSums all{{{in<float>(a.dbeta), in<float>(a.dgamma)}, {}}};
  launch(gradient_kernel<V, T, Mask::none>, blocks_of<V>(w), kThreads, 0, stream, second, in<T>(a.d), all);
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
const char* refuse_slices(DType dtype, const NormSlice (&slices)[2], std::initializer_list<const void*> maps) {
  if (const char* reason = refuse<vectors>(dtype, slices[0].window, maps)) return reason;
  for (const NormSlice& s : slices) {
    if (s.window.count == 0) continue;
    if (const char* reason = refuse<vectors>(dtype, s.window, {s.mean, s.variance, s.gamma, s.beta})) return reason;
  }
  return nullptr;
}
template <bool vectors>
const char* refuse_apply(const NormApplyArgs& a) {
  if (a.positive && !(vectors && a.dtype == DType::bf16)) return "tells signs of eight neighbors in bf16 only";
  return refuse_slices<vectors>(a.dtype, a.slices, {a.x, a.y, a.residual});
}
template <bool vectors>
const char* refuse_backward(const NormBackwardArgs& a) {
  return refuse_slices<vectors>(a.dtype, a.slices, {a.dy, a.x, a.relu ? a.y : nullptr, a.dx, a.dresidual});
}
template <bool vectors>
const char* refuse_gradient(const NormGradientArgs& a) {
  return refuse<vectors>(a.dtype, {1, a.length, a.channels, 0, a.channels},
                         {a.d, a.x, a.dx, a.mean, a.variance, a.gamma, a.dgamma, a.dbeta});
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
  add<NormGradient>(name, refuse_gradient<vectors>, [](const NormGradientArgs& a, Stream& stream) {
    a.dtype == DType::bf16 ? gradient<vectors ? 8 : 1, bf16>(a, stream) : gradient<vectors ? 4 : 1, float>(a, stream);
  });
}

}  // namespace

void register_norm() {
  add_all<true>(REID_KERNEL_NAME("vectors"));
  add_all<false>(REID_KERNEL_NAME("channels"));
  add<RunningUpdate>(
      REID_KERNEL_NAME("channel_a_thread"), [](const RunningUpdateArgs& a) { return refuse_other_than_f32(a.dtype); }, running_update);
  add<SumsStatistics>(
      REID_KERNEL_NAME("channel_a_thread"), [](const SumsStatisticsArgs& a) { return refuse_other_than_f32(a.dtype); }, sums_statistics);
}

}  // namespace reid::REID_TARGET
