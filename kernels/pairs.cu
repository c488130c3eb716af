// The steps of an exact search among rows of features: centered rows, distances of single pairs in double, the nearest rows while tiles of
// products go by, and the pairs of a tile that reach a bar. What each computes stands beside its arguments in op_args_pairs.h.
//
// Layout: features [N, D], tiles of products [M, N], lists [M, count], row-major.
// Map: center_rows, pair_distances  a warp for each row or pair: its lanes are those of the definition.
//      merge_nearest   a block of 128 threads for each row picks the smallest number above the last picked, `count` times; a thread
//                      remembers the smallest of its own and looks again only when that was picked.
//      rank_nearest    a warp for each place within the slack measures it; then a place's rank is the number of places before it.
//      select_*        a block for each row counts, one block adds up where rows begin, and blocks write again what they counted: no order
//                      depends on who comes first.
//      count_before    a block for each row searches every column's place among the bars and counts it in a bin; sums of bins follow.
// Bytes: 8 D a pair of f32 rows, which L2 holds for the lists of neighboring rows; a tile is read once, or twice to select.
// Floors on H200 (4.3 TB/s, 34 Tflop/s in double): 12,936 lists of 31 candidates x 2048, 6.6 GB if nothing were read from L2: 1.5 ms; a
// tile of 8192 x 8192, 62 us. No version was measured yet.

#include <utility>

#include "kernels.h"
#include "pair_distance.cuh"
#include "reid/engine/op_args_pairs.h"
#include "rows.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kWarps = kRowThreads / kWarpSize;  // of a block, a pair each
constexpr int kBins = 1024;                      // of a row's places that fit into shared memory

// Calls f with float or double.
template <class F>
void with_real(DType dtype, F f) {
  dtype == DType::f64 ? f(double()) : f(float());
}

// The number of this warp in the grid.
__device__ int64_t own_warp() { return int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarpSize; }
__device__ bool first_lane() { return threadIdx.x % kWarpSize == 0; }

// --- rows and pairs ---

template <class T>
__global__ void center_rows_kernel(CenterRowsArgs a) {
  after_predecessors();
  const int64_t row = own_warp();
  if (row >= a.rows) return;
  const double scale = in<double>(a.scale)[row];
  double sum = 0;
  for (int64_t k = threadIdx.x % kWarpSize; k < a.columns; k += kWarpSize) {
    const int64_t at = row * a.columns + k;
    const float y = static_cast<float>(__dsub_rn(__dmul_rn(static_cast<double>(in<T>(a.x)[at]), scale), in<double>(a.center)[k]));
    const bf16 high = to_bf16(y);
    out<bf16>(a.high)[at] = high;
    out<bf16>(a.low)[at] = to_bf16(y - to_float(high));
    sum = __dadd_rn(sum, __dmul_rn(static_cast<double>(y), static_cast<double>(y)));
  }
  sum = sum_of_lanes(sum);
  if (first_lane()) out<double>(a.half)[row] = sum / 2;
}

template <class T>
__device__ double distance_of(const RowSets& r, int64_t i, int64_t j) {
  const double square = squared_difference(in<T>(r.x) + i * r.columns, in<double>(r.scale_x)[i], in<T>(r.y) + j * r.columns,
                                           in<double>(r.scale_y)[j], r.columns);
  if (r.form == DistanceForm::euclidean) return __dsqrt_rn(square);
  return r.form == DistanceForm::cosine ? fmin(2.0, square / 2) : square;
}

template <class T>
__global__ void pair_distances_kernel(PairDistancesArgs a) {
  after_predecessors();
  const int64_t pair = own_warp();
  if (pair >= a.count) return;
  const double distance = distance_of<T>(a, a.pairs[2 * pair], a.pairs[2 * pair + 1]);
  if (first_lane()) out<double>(a.d)[pair] = distance;
}

void center_rows(const CenterRowsArgs& a, Stream& stream) {
  if (a.rows == 0) return;
  with_real(a.dtype,
            [&](auto element) { launch(center_rows_kernel<decltype(element)>, blocks_for(a.rows, kWarps), kRowThreads, 0, stream, a); });
}
void pair_distances(const PairDistancesArgs& a, Stream& stream) {
  if (a.count == 0) return;
  with_real(a.dtype, [&](auto element) {
    launch(pair_distances_kernel<decltype(element)>, blocks_for(a.count, kWarps), kRowThreads, 0, stream, a);
  });
}

// --- nearest rows ---

static_assert(kLastPlace == kFreePlace);

// The key of rows.cuh's place_of.
__device__ double key_of(uint64_t place) {
  const uint32_t ordered = static_cast<uint32_t>(place >> 32);
  const uint32_t bits = (ordered & 0x80000000u) != 0 ? ordered & 0x7FFFFFFFu : ~ordered;
  float key;
  memcpy(&key, &bits, sizeof(key));
  return static_cast<double>(key);
}

__global__ void merge_nearest_kernel(MergeNearestArgs a) {
  after_predecessors();
  const int64_t row = blockIdx.x, own_column = a.own_column < 0 ? -1 : a.own_column + row - a.first_column;  // of the tile
  const float* products = a.products + row * a.n;
  const uint64_t* before = in<uint64_t>(a.before) + row * a.count;
  uint64_t* after = out<uint64_t>(a.after) + row * a.count;
  const auto next = [&](uint64_t last, bool any) {
    uint64_t least = kFreePlace;
    const auto offer = [&](uint64_t place) { least = (any || place > last) && place < least ? place : least; };
    for_columns(a.n, [&](int64_t j) {
      const float key = a.farthest ? a.edge[j] + products[j] : a.edge[j] - products[j];
      offer(j == own_column ? kFreePlace : place_of(key, a.first_column + j));
    });
    for_columns(a.count, [&](int64_t e) { offer(before[e]); });
    return least;
  };
  pick_least(a.count, next, [&](int64_t e, uint64_t place, bool) {
    if (threadIdx.x == 0) after[e] = place;
  });
}

void merge_nearest(const MergeNearestArgs& a, Stream& stream) {
  if (a.m * a.count > 0) launch(merge_nearest_kernel, blocks_for(a.m, 1), kRowThreads, 0, stream, a);
}

// Whether place `e` of a row may be among the first `wanted`.
__device__ bool is_candidate(const RankNearestArgs& a, const uint64_t* list, int64_t e) {
  return list[e] != kFreePlace && key_of(list[e]) <= key_of(list[a.wanted - 1]) + a.slack;
}

template <class T>
__global__ void measure_nearest_kernel(RankNearestArgs a, double* d) {
  after_predecessors();
  const int64_t place = own_warp(), row = place / a.count;
  if (row >= a.m) return;
  const uint64_t* list = in<uint64_t>(a.lists) + row * a.count;
  if (!is_candidate(a, list, place % a.count)) return;  // the whole warp
  const double distance = distance_of<T>(a, row, static_cast<int64_t>(in<uint64_t>(a.lists)[place] & 0xFFFFFFFFu));
  if (first_lane()) d[place] = distance;
}

__global__ void rank_nearest_kernel(RankNearestArgs a, const double* distances) {
  after_predecessors();
  const int64_t row = blockIdx.x;
  const uint64_t* list = in<uint64_t>(a.lists) + row * a.count;
  const double* d = distances + row * a.count;
  // Keys ascend, so that candidates are the first places.
  int64_t candidates = row_first(a.count, [&](int64_t e) { return !is_candidate(a, list, e); });
  for_columns(candidates, [&](int64_t e) {
    const uint32_t column = static_cast<uint32_t>(list[e]);
    int64_t rank = 0;
    for (int64_t f = 0; f < candidates; ++f) {
      const bool ahead = a.farthest ? d[f] > d[e] : d[f] < d[e];
      rank += ahead || (d[f] == d[e] && static_cast<uint32_t>(list[f]) < column) ? 1 : 0;
    }
    if (rank >= a.wanted) return;
    a.index[row * a.wanted + rank] = static_cast<int32_t>(column);
    out<double>(a.d)[row * a.wanted + rank] = d[e];
  });
  if (threadIdx.x == 0) a.open[row] = candidates == a.count ? 1 : 0;
}

void rank_nearest(const RankNearestArgs& a, Stream& stream) {
  if (a.m == 0) return;
  auto* d = static_cast<double*>(stream.workspace(static_cast<size_t>(a.m * a.count) * sizeof(double)));
  with_real(a.dtype, [&](auto element) {
    launch(measure_nearest_kernel<decltype(element)>, blocks_for(a.m * a.count, kWarps), kRowThreads, 0, stream, a, d);
  });
  launch(rank_nearest_kernel, blocks_for(a.m, 1), kRowThreads, 0, stream, a, d);
}

// --- sums of counts ---

// Calls put(i, sum of get(0), ..., get(i - 1)) for i < count and returns the whole sum; all threads of the block must call it. get(i) is
// read before put(i).
template <class Get, class Put>
__device__ int32_t block_prefix_sums(int64_t count, Get get, Put put) {
  SHARED_ARRAY(int32_t, partial, kRowThreads);
  const int64_t each = (count + kRowThreads - 1) / kRowThreads, begin = threadIdx.x * each;
  const int64_t end = begin + each < count ? begin + each : count;
  int32_t own = 0;
  for (int64_t i = begin; i < end; ++i) own += get(i);
  partial[threadIdx.x] = own;
  __syncthreads();
  int32_t before = 0, total = 0;
  for (unsigned t = 0; t < kRowThreads; ++t) {
    before += t < threadIdx.x ? partial[t] : 0;
    total += partial[t];
  }
  __syncthreads();
  for (int64_t i = begin; i < end; ++i) {
    const int32_t value = get(i);
    put(i, before);
    before += value;
  }
  return total;
}

// --- pairs of a tile, for a Rule with extents m and n and chosen(i, j) ---

template <class Rule>
__global__ void count_chosen_kernel(Rule rule, int32_t* counts) {
  after_predecessors();
  int32_t own = 0;
  for_columns(rule.n, [&](int64_t j) { own += rule.chosen(blockIdx.x, j) ? 1 : 0; });
  const int32_t all = block_reduce(own, Add());
  if (threadIdx.x == 0) counts[blockIdx.x] = all;
}

__global__ void first_pairs_kernel(const int32_t* counts, int64_t rows, int32_t* first, int32_t* found) {
  after_predecessors();
  const int32_t total = block_prefix_sums(
      rows, [&](int64_t i) { return counts[i]; }, [&](int64_t i, int32_t sum) { first[i] = sum; });
  if (threadIdx.x == 0) *found = total;
}

template <class Rule>
__global__ void write_chosen_kernel(Rule rule, FoundPairs out, const int32_t* counts, const int32_t* first) {
  after_predecessors();
  SHARED_ARRAY(int32_t, of_warp, kWarps);
  if (counts[blockIdx.x] == 0) return;
  int64_t next = first[blockIdx.x];
  const unsigned lane = threadIdx.x % kWarpSize, warp = threadIdx.x / kWarpSize;
  for (int64_t from = 0; from < rule.n; from += kRowThreads) {
    const int64_t j = from + threadIdx.x;
    const bool chosen = j < rule.n && rule.chosen(blockIdx.x, j);
    const unsigned votes = __ballot_sync(0xFFFFFFFFu, chosen ? 1 : 0);
    if (lane == 0) of_warp[warp] = __popc(votes);
    __syncthreads();
    int64_t at = next + __popc(votes & ((1u << lane) - 1));
    for (unsigned w = 0; w < kWarps; ++w) {
      at += w < warp ? of_warp[w] : 0;
      next += of_warp[w];
    }
    __syncthreads();
    if (!chosen || at >= out.capacity) continue;
    out.pairs[2 * at] = static_cast<int32_t>(out.first_row + blockIdx.x);
    out.pairs[2 * at + 1] = static_cast<int32_t>(out.first_column + j);
  }
}

__global__ void no_pairs_kernel(int32_t* found) {
  after_predecessors();
  if (threadIdx.x == 0) *found = 0;
}

template <class Rule>
void select(const Rule& rule, const FoundPairs& out, Stream& stream) {
  if (rule.m * rule.n == 0) return launch(no_pairs_kernel, 1, kWarpSize, 0, stream, out.found);
  auto* counts = static_cast<int32_t*>(stream.workspace(static_cast<size_t>(2 * rule.m) * sizeof(int32_t)));
  int32_t* first = counts + rule.m;
  launch(count_chosen_kernel<Rule>, blocks_for(rule.m, 1), kRowThreads, 0, stream, rule, counts);
  launch(first_pairs_kernel, 1, kRowThreads, 0, stream, counts, rule.m, first, out.found);
  launch(write_chosen_kernel<Rule>, blocks_for(rule.m, 1), kRowThreads, 0, stream, rule, out, counts, first);
}

struct ReachesBar {
  const float *products, *edge, *bar;
  int64_t m, n, first_above;  // above: the first column of row 0 that counts, one more with each row
  bool above, below;
  __device__ bool chosen(int64_t i, int64_t j) const {
    const float gap = products[i * n + j] - edge[j];
    return (below ? gap <= bar[i] : gap >= bar[i]) && (!above || j >= first_above + i);
  }
};

void select_pairs(const SelectPairsArgs& a, Stream& stream) {
  select(ReachesBar{a.products, a.edge, a.bar, a.m, a.n, a.first_row - a.first_column + 1, a.above, a.below}, a, stream);
}

// --- places in a ranking ---

struct Undecided : RankedTile {
  // The first place of row i that the product comes surely before. Bars descend.
  __device__ int32_t sure_place(int64_t i, int64_t j) const {
    const float sure = products[i * n + j] - sure_edge[j];
    int32_t begin = places[i], end = places[i + 1];
    while (begin < end) {
      const int32_t middle = (begin + end) / 2;
      if (sure > sure_bar[middle]) {
        end = middle;
      } else {
        begin = middle + 1;
      }
    }
    return begin;
  }
  // Given that place: the one before it has the lowest bar of those before.
  __device__ bool is_undecided(int64_t i, int64_t j, int32_t sure) const {
    return sure > places[i] && products[i * n + j] - maybe_edge[j] >= maybe_bar[sure - 1];
  }
  __device__ bool chosen(int64_t i, int64_t j) const { return is_undecided(i, j, sure_place(i, j)); }
};

// bins [P]: zeros, of rows with more places than shared memory has room for.
__global__ void count_before_kernel(Undecided tile, int32_t* before, int32_t* bins) {
  after_predecessors();
  SHARED_ARRAY(int32_t, few, kBins);
  const int64_t row = blockIdx.x;
  const int32_t begin = tile.places[row], end = tile.places[row + 1], count = end - begin;
  if (count == 0) return;
  int32_t* const bin = count <= kBins ? few : bins + begin;
  for_columns(count, [&](int64_t p) { bin[p] = 0; });
  __syncthreads();
  for_columns(tile.n, [&](int64_t j) {
    const int32_t sure = tile.sure_place(row, j);
    if (sure < end && !tile.is_undecided(row, j, sure)) atomicAdd(&bin[sure - begin], 1);
  });
  __syncthreads();
  block_prefix_sums(
      count, [&](int64_t p) { return bin[p]; }, [&](int64_t p, int32_t sum) { before[begin + p] += sum + bin[p]; });
}

void count_before(const CountBeforeArgs& a, Stream& stream) {
  if (a.m * a.n * a.place_count == 0) return;
  auto* bins = static_cast<int32_t*>(stream.workspace(static_cast<size_t>(a.place_count) * sizeof(int32_t)));
  launch(count_before_kernel, blocks_for(a.m, 1), kRowThreads, 0, stream, Undecided{a}, a.before, bins);
}
void select_undecided(const SelectUndecidedArgs& a, Stream& stream) { select(Undecided{a}, a, stream); }

const char* refuse_other_reals(DType dtype) { return dtype == DType::f32 || dtype == DType::f64 ? nullptr : "takes f32 and f64 only"; }
template <class Args>
const char* refuse_dtype(const Args& a) {
  return refuse_other_reals(a.dtype);
}

}  // namespace

void register_pairs() {
  add<CenterRows>(REID_KERNEL_NAME("warp_a_row"), refuse_dtype<CenterRowsArgs>, center_rows);
  add<PairDistances>(REID_KERNEL_NAME("warp_a_pair"), refuse_dtype<PairDistancesArgs>, pair_distances);
  add<MergeNearest>(REID_KERNEL_NAME("block_a_row"), nullptr, merge_nearest);
  add<RankNearest>(REID_KERNEL_NAME("warp_a_place"), refuse_dtype<RankNearestArgs>, rank_nearest);
  add<SelectPairs>(REID_KERNEL_NAME("count_then_write"), nullptr, select_pairs);
  add<CountBefore>(REID_KERNEL_NAME("bins"), nullptr, count_before);
  add<SelectUndecided>(REID_KERNEL_NAME("count_then_write"), nullptr, select_undecided);
}

}  // namespace reid::REID_TARGET
