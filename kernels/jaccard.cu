// k-reciprocal encodings and the pairs within a Jaccard distance (Zhong et al., CVPR 2017). Definitions stand beside the arguments in
// op_args_jaccard.h; results have the reference's bits: sums are in its order and never fused.
//
// Layout: lists [N, width] with k1 = `full` used entries, sparse rows of about 2 k1 entries, of about 5 k1 after expansion.
// Map: a warp, which is a block, for each row. What a row is made of is gathered in a table of columns in shared memory (open addressing)
//      and leaves it in ascending order, by counting smaller ones. Lists that are added to sums follow one another and the 32 lanes take
//      entries of one list, which are in different columns: no two threads meet in a sum, and each sum has the order of the lists. A row
//      of more columns than the table takes is done in ranges of columns, halved until they fit: any length is right, a long one slower.
//      reciprocal_members  a thread for each list entry; then a lane for each candidate, whose list is looked up in the table
//      reciprocal_rows     a union in the table; distances that lists lack by the whole warp
//      mean_rows           sums in the table; where a range begins and ends in a row the lanes find for 32 rows at a time
//      transpose_rows      counts and places by integer atomics; the order that they leave to chance is mended in the table
//      jaccard_within      as mean_rows, over the columns of row i and the rows of the transpose
// State: 6 KB of table a block, 2 KB without sums; in global memory 4 bytes a row while counting, and 4 an entry more while transposing.
// Bytes: N = 12936, k1 = 30, k2 = 6, D = 2048 in f32, rows of 60 and 150 entries. reciprocal_rows reads the rows of about 30 members that
//      its list lacks, 8 KB each: 3.2 GB, or 106 MB if each row came from memory once. jaccard_within reads half of what shares a column
//      with a row, 12 bytes each: 150^2 / 2 x 12 N = 1.7 GB, or 47 MB. The others move below 0.2 GB. Calculated floor, by 4.3 TB/s: 0.07 ms
//      if all that is read again stayed in a cache, 1.2 ms if nothing did. 0.8 billion differences take 5 operations in double each, not
//      fused: 0.24 ms by half of 34 TFLOP/s. Not measured yet.

#include "kernels.h"
#include "pair_distance.cuh"
#include "reid/engine/exponential.h"
#include "reid/engine/op_args_jaccard.h"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256;  // of what has no rows
constexpr int kSlots = 512;    // 32 blocks, all that a multiprocessor holds, have room for 6 KB each
constexpr int kMost = 384;     // taken slots. The 32 lanes may put one more each before they see that it is reached
constexpr int32_t kEmpty = -1;
constexpr unsigned kAll = 0xFFFFFFFFu;
static_assert(kMost + kWarpSize < kSlots, "a search must end");

__device__ inline int lane() { return static_cast<int>(threadIdx.x); }
__device__ inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// The first of the ascending columns [begin, end) that is not below `wanted`.
__device__ inline int64_t first_from(const int32_t* column, int64_t begin, int64_t end, int64_t wanted) {
  while (begin < end) {
    const int64_t middle = begin + (end - begin) / 2;
    const bool below = column[middle] < wanted;
    begin = below ? middle + 1 : begin;
    end = below ? end : middle;
  }
  return begin;
}

// Columns of a range, each with a sum where there are sums, for a warp.
struct Table {
  volatile int32_t* column;  // [kSlots]
  double* sum;               // [kSlots] or null
  volatile int32_t* taken;   // slots

  __device__ void clear() const {
    for (int s = lane(); s < kSlots; s += kWarpSize) {
      column[s] = kEmpty;
      if (sum) sum[s] = 0;
    }
    if (lane() == 0) *taken = 0;
    __syncwarp();
  }
  __device__ int slot_before(int32_t c) const { return static_cast<int>((static_cast<uint32_t>(c) * 2654435769u) >> 23); }  // 9 bits
  __device__ bool has(int32_t c) const {
    int s = slot_before(c);
    while (column[s] != kEmpty && column[s] != c) s = (s + 1) % kSlots;
    return column[s] == c;
  }
  // The slot of a column, taken for it if it has none; -1 when the table is full.
  __device__ int put(int32_t c) const {
    for (int s = slot_before(c);; s = (s + 1) % kSlots) {
      int32_t there = column[s];
      if (there == kEmpty) {
        if (*taken >= kMost) return -1;
        there = atomicCAS(const_cast<int32_t*>(column + s), kEmpty, c);
        if (there == kEmpty) atomicAdd(const_cast<int32_t*>(taken), 1);
      }
      if (there == kEmpty || there == c) return s;
    }
  }
  // Calls use(column, sum, place) for the columns whose sums are kept, ascending, with places from `place` on; returns the next place.
  template <class Kept, class Use>
  __device__ int64_t in_order(int64_t place, Kept kept, Use use) const {
    int count = 0;
    for (int base = 0; base < kSlots; base += kWarpSize) {  // what is kept moves to the front
      const int32_t c = column[base + lane()];
      const double value = sum ? sum[base + lane()] : 0;
      const bool moves = c != kEmpty && kept(value);
      const unsigned votes = __ballot_sync(kAll, moves);
      const int to = count + __popc(votes & ((1u << lane()) - 1));
      __syncwarp();  // votes order no memory: all have read before one writes
      if (moves) column[to] = c;
      if (moves && sum) sum[to] = value;
      count += __popc(votes);
      __syncwarp();
    }
    for (int m = lane(); m < count; m += kWarpSize) {
      const int32_t c = column[m];
      int smaller = 0;
      for (int n = 0; n < count; ++n) smaller += column[n] < c ? 1 : 0;
      use(c, sum ? sum[m] : 0, place + smaller);
    }
    __syncwarp();
    return place + count;
  }
};

// Fills the table by fill(first, end), which puts the columns of that range, and calls done(first, end), for ranges that cover [begin, end)
// in order and fit. All lanes of the warp must call it.
template <class Fill, class Done>
__device__ void for_ranges(const Table& table, int64_t begin, int64_t end, Fill fill, Done done) {
  for (int64_t width = end - begin; begin < end;) {
    const int64_t stop = least(begin + width, end);
    table.clear();
    fill(begin, stop);
    __syncwarp();
    const bool full = *table.taken >= kMost;
    __syncwarp();
    if (full) {
      width = (stop - begin) / 2;
      continue;
    }
    done(begin, stop);
    begin = stop;
  }
}

// Adds term(own(e), value) to the sums of the columns in [first, end) of row which(e) of a sparse matrix, for e = 0, ..., count - 1 in this
// order, or stops when the table is full.
template <class Which, class Own, class Term>
__device__ void add_rows(const Table& table, int64_t first, int64_t end, const int64_t* offset, const int32_t* column, const double* value,
                         int64_t count, Which which, Own own, Term term) {
  for (int64_t base = 0; base < count; base += kWarpSize) {
    int64_t from = 0, to = 0;
    double mine = 0;
    if (base + lane() < count) {
      const int64_t row = which(base + lane());
      from = first_from(column, offset[row], offset[row + 1], first);
      to = first_from(column, from, offset[row + 1], end);
      mine = own(base + lane());
    }
    for (int l = 0; l < least(kWarpSize, count - base); ++l) {
      const int64_t begin = __shfl_sync(kAll, from, l), stop = __shfl_sync(kAll, to, l);
      const double given = __shfl_sync(kAll, mine, l);
      for (int64_t at = begin + lane(); at < stop; at += kWarpSize) {
        const int s = table.put(column[at]);
        if (s >= 0) table.sum[s] = __dadd_rn(table.sum[s], term(given, value[at]));
      }
      __syncwarp();
      if (*table.taken >= kMost) return;  // for all lanes: it is one number
    }
  }
}

// --- where entries begin ---

constexpr int kEach = 8;  // counts of a thread

// total[0] = 0, total[r + 1] = total[r] + count[r]; one block.
__global__ void running_total_kernel(const int32_t* count, int64_t rows, int64_t* totals) {
  after_predecessors();
  SHARED_ARRAY(int64_t, of_warps, kThreads / kWarpSize);
  const int thread = static_cast<int>(threadIdx.x), in_warp = thread % kWarpSize, warp = thread / kWarpSize;
  int64_t total = 0;
  if (thread == 0) totals[0] = 0;
  for (int64_t base = 0; base < rows; base += kThreads * kEach) {
    const int64_t first = base + thread * kEach;
    int64_t own = 0;
    for (int64_t r = first; r < least(first + kEach, rows); ++r) own += count[r];
    int64_t up_to = own;
    for (int d = 1; d < kWarpSize; d *= 2) {
      const int64_t before = __shfl_up_sync(kAll, up_to, static_cast<unsigned>(d));
      up_to += in_warp >= d ? before : 0;
    }
    if (in_warp == kWarpSize - 1) of_warps[warp] = up_to;
    __syncthreads();
    int64_t sum = total + up_to - own;
    for (int w = 0; w < kThreads / kWarpSize; ++w) {
      sum += w < warp ? of_warps[w] : 0;
      total += of_warps[w];
    }
    for (int64_t r = first; r < least(first + kEach, rows); ++r) {
      sum += count[r];
      totals[r + 1] = sum;
    }
    __syncthreads();
  }
}

// Launches what fills the rows of a sparse matrix or, where it has no offset yet, counts their entries.
template <class Kernel, class Args>
void launch_counted(Kernel kernel, const Args& a, Stream& stream) {
  int32_t* const counts = a.offset ? nullptr : static_cast<int32_t*>(stream.workspace(static_cast<size_t>(a.rows) * sizeof(int32_t)));
  if (a.rows > 0) launch(kernel, blocks_for(a.rows, 1), kWarpSize, 0, stream, a, counts);
  if (!a.offset) launch(running_total_kernel, 1, kThreads, 0, stream, counts, a.rows, a.made);
}

// --- reciprocal_members ---

__global__ void members_kernel(ReciprocalMembersArgs a) {
  after_predecessors();
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x, i = at / a.full, e = at % a.full;
  if (i >= a.rows) return;
  const int32_t* back = a.index + a.index[i * a.width + e] * a.width;
  int64_t place = 0;
  while (place < a.full && back[place] != i) ++place;
  a.member[at] = static_cast<uint8_t>((place < a.full ? 1 : 0) + (e < a.half && place < a.half ? 2 : 0));
}

__global__ void joins_kernel(ReciprocalMembersArgs a) {
  after_predecessors();
  SHARED_ARRAY(int32_t, columns, kSlots);
  SHARED_ARRAY(int32_t, taken, 1);
  const Table own{columns, nullptr, taken};
  const int64_t i = blockIdx.x;
  const int32_t* list = a.index + i * a.width;
  const uint8_t* member = a.member + i * a.full;
  for (int64_t base = 0; base < a.full; base += kWarpSize) {
    const int64_t e = base + lane(), c = e < a.full ? list[e] : i;
    int64_t size = 0, common = 0;
    const auto put_members = [&](int64_t first, int64_t end) {
      for (int64_t m = lane(); m < a.full; m += kWarpSize) {
        if ((member[m] & 1) && list[m] >= first && list[m] < end) own.put(list[m]);
      }
    };
    for_ranges(own, 0, a.rows, put_members, [&](int64_t first, int64_t end) {
      for (int64_t t = 0; t < a.half; ++t) {
        const int32_t j = a.index[c * a.width + t];
        if (!(a.member[c * a.full + t] & 2) || j < first || j >= end) continue;
        ++size;
        common += own.has(j) ? 1 : 0;
      }
      __syncwarp();
    });
    if (e < a.full) a.joins[i * a.full + e] = (member[e] & 1) && 3 * common > 2 * size ? 1 : 0;
  }
}

void reciprocal_members(const ReciprocalMembersArgs& a, Stream& stream) {
  if (a.rows == 0) return;
  launch(members_kernel, blocks_for(a.rows * a.full, kThreads), kThreads, 0, stream, a);
  launch(joins_kernel, blocks_for(a.rows, 1), kWarpSize, 0, stream, a);
}

// --- reciprocal_rows ---

// R*(i), ascending, to `column`, where it is not null; returns how many they are.
__device__ int64_t expanded_set(const ReciprocalRowsArgs& a, const Table& table, int64_t i, int32_t* column) {
  const int32_t* list = a.index + i * a.width;
  int64_t count = 0;
  const auto put = [&](int64_t first, int64_t end, int32_t j) {
    if (j >= first && j < end) table.put(j);
  };
  const auto put_sets = [&](int64_t first, int64_t end) {
    for (int64_t e = lane(); e < a.full; e += kWarpSize) {
      const int64_t c = list[e];
      if (a.member[i * a.full + e] & 1) put(first, end, list[e]);
      for (int64_t t = 0; a.joins[i * a.full + e] && t < a.half; ++t) {
        if (a.member[c * a.full + t] & 2) put(first, end, a.index[c * a.width + t]);
      }
    }
  };
  for_ranges(table, 0, a.rows, put_sets, [&](int64_t, int64_t) {
    count = table.in_order(
        count, [](double) { return true; },
        [&](int32_t j, double, int64_t place) {
          if (column) column[place] = j;
        });
  });
  return count;
}

__device__ inline double distance_of(const ReciprocalRowsArgs& a, double square) {
  if (a.largest) return __dsqrt_rn(square);
  return square < 4 ? __dmul_rn(square, 0.5) : 2;
}
// Of e in the weight of row i, negated.
__device__ inline double exponent(const ReciprocalRowsArgs& a, int64_t i, double distance) {
  if (!a.largest) return __dmul_rn(2, distance);
  const double share = __ddiv_rn(distance, a.largest[i]), square = __dmul_rn(share, share);
  return a.power == 4 ? __dmul_rn(square, square) : square;
}

template <class T>
__global__ void reciprocal_rows_kernel(ReciprocalRowsArgs a, int32_t* counts) {
  after_predecessors();
  SHARED_ARRAY(int32_t, columns, kSlots);
  SHARED_ARRAY(int32_t, taken, 1);
  const int64_t i = blockIdx.x, start = a.offset ? a.offset[i] : 0;
  int32_t* const column = a.offset ? a.column + start : nullptr;
  const int64_t count = expanded_set(a, {columns, nullptr, taken}, i, column);
  if (!a.offset) {
    if (lane() == 0) counts[i] = static_cast<int32_t>(count);
    return;
  }
  double* const value = a.value + start;
  for (int64_t m = lane(); m < count; m += kWarpSize) value[m] = -1;
  __syncwarp();
  for (int64_t e = lane(); e < a.width; e += kWarpSize) {
    const int32_t j = a.index[i * a.width + e];
    const int64_t m = first_from(column, 0, count, j);
    if (m < count && column[m] == j) value[m] = a.distance[i * a.width + e];
  }
  __syncwarp();
  const T* const x = in<T>(a.x);
  for (int64_t m = 0; m < count; ++m) {
    if (value[m] >= 0) continue;  // for all lanes: it is one number
    const int64_t j = column[m];
    const double square = squared_difference(x + i * a.depth, a.scale[i], x + j * a.depth, a.scale[j], a.depth);
    __syncwarp();
    if (lane() == 0) value[m] = distance_of(a, square);
  }
  __syncwarp();
  for (int64_t m = lane(); m < count; m += kWarpSize) value[m] = exponential(-exponent(a, i, value[m]));
  __syncwarp();
  double sum = 0;  // in every lane
  for (int64_t m = 0; m < count; ++m) sum = __dadd_rn(sum, value[m]);
  __syncwarp();
  for (int64_t m = lane(); m < count; m += kWarpSize) value[m] = __ddiv_rn(value[m], sum);
}

void reciprocal_rows(const ReciprocalRowsArgs& a, Stream& stream) {
  launch_counted(a.dtype == DType::f64 ? reciprocal_rows_kernel<double> : reciprocal_rows_kernel<float>, a, stream);
}

// --- mean_rows ---

__global__ void mean_rows_kernel(MeanRowsArgs a, int32_t* counts) {
  after_predecessors();
  SHARED_ARRAY(int32_t, columns, kSlots);
  SHARED_ARRAY(double, sums, kSlots);
  SHARED_ARRAY(int32_t, taken, 1);
  const Table table{columns, sums, taken};
  const int64_t i = blockIdx.x, start = a.offset ? a.offset[i] : 0;
  const int32_t* const list = a.index + i * a.width;
  int64_t count = 0;
  const auto add_all = [&](int64_t first, int64_t end) {
    add_rows(
        table, first, end, a.in_offset, a.in_column, a.in_value, a.terms, [&](int64_t e) { return list[e]; }, [](int64_t) { return 0.0; },
        [](double, double value) { return value; });
  };
  for_ranges(table, 0, a.rows, add_all, [&](int64_t, int64_t) {
    count = table.in_order(
        count, [](double) { return true; },
        [&](int32_t g, double sum, int64_t place) {
          if (!a.offset) return;
          a.column[start + place] = g;
          a.value[start + place] = __ddiv_rn(sum, static_cast<double>(a.terms));
        });
  });
  if (!a.offset && lane() == 0) counts[i] = static_cast<int32_t>(count);
}

void mean_rows(const MeanRowsArgs& a, Stream& stream) { launch_counted(mean_rows_kernel, a, stream); }

// --- transpose_rows ---

__global__ void clear_kernel(int32_t* counts, int64_t count) {
  after_predecessors();
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at < count) counts[at] = 0;
}
__global__ void count_columns_kernel(const int32_t* column, int64_t entries, int32_t* counts) {
  after_predecessors();
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (at < entries) atomicAdd(counts + column[at], 1);
}
// The rows of each column, in any order; counts go back to 0.
__global__ void scatter_rows_kernel(TransposeRowsArgs a, int32_t* counts, int32_t* rows) {
  after_predecessors();
  const int64_t i = blockIdx.x;
  for (int64_t e = a.in_offset[i] + lane(); e < a.in_offset[i + 1]; e += kWarpSize) {
    const int32_t g = a.in_column[e];
    rows[a.offset[g] + atomicAdd(counts + g, -1) - 1] = static_cast<int32_t>(i);
  }
}
__global__ void order_rows_kernel(TransposeRowsArgs a, const int32_t* rows) {
  after_predecessors();
  SHARED_ARRAY(int32_t, columns, kSlots);
  SHARED_ARRAY(int32_t, taken, 1);
  const Table table{columns, nullptr, taken};
  const int64_t g = blockIdx.x;
  int64_t place = a.offset[g];
  const auto put_rows = [&](int64_t first, int64_t end) {
    for (int64_t e = a.offset[g] + lane(); e < a.offset[g + 1]; e += kWarpSize) {
      if (rows[e] >= first && rows[e] < end) table.put(rows[e]);
    }
  };
  for_ranges(table, 0, a.rows, put_rows, [&](int64_t, int64_t) {
    place = table.in_order(
        place, [](double) { return true; },
        [&](int32_t i, double, int64_t at) {
          a.column[at] = i;
          a.value[at] = a.in_value[first_from(a.in_column, a.in_offset[i], a.in_offset[i + 1], g)];
        });
  });
}

void transpose_rows(const TransposeRowsArgs& a, Stream& stream) {
  int32_t* const counts = static_cast<int32_t*>(stream.workspace(static_cast<size_t>(a.rows + a.entries) * sizeof(int32_t)));
  int32_t* const rows = counts + a.rows;
  if (a.rows > 0) launch(clear_kernel, blocks_for(a.rows, kThreads), kThreads, 0, stream, counts, a.rows);
  if (a.entries > 0) launch(count_columns_kernel, blocks_for(a.entries, kThreads), kThreads, 0, stream, a.in_column, a.entries, counts);
  launch(running_total_kernel, 1, kThreads, 0, stream, counts, a.rows, a.offset);
  if (a.entries == 0) return;
  launch(scatter_rows_kernel, blocks_for(a.rows, 1), kWarpSize, 0, stream, a, counts, rows);
  launch(order_rows_kernel, blocks_for(a.rows, 1), kWarpSize, 0, stream, a, rows);
}

// --- jaccard_within ---

__global__ void within_kernel(JaccardWithinArgs a) {
  after_predecessors();
  SHARED_ARRAY(int32_t, columns, kSlots);
  SHARED_ARRAY(double, sums, kSlots);
  SHARED_ARRAY(int32_t, taken, 1);
  const Table table{columns, sums, taken};
  const int64_t r = blockIdx.x, i = a.first + r, start = a.offset[i];
  int32_t* const found = a.found + r * a.capacity;
  double* const distance = a.distance ? a.distance + r * a.capacity : nullptr;
  for (int64_t c = lane(); c < a.capacity; c += kWarpSize) {
    found[c] = -1;
    if (distance) distance[c] = 1;
  }
  const auto apart = [](double s) {
    const double d = __dsub_rn(1, __ddiv_rn(s, __dsub_rn(2, s)));
    return d > 0 ? d : 0;
  };
  int64_t count = 0;
  const auto add_shared = [&](int64_t first, int64_t end) {
    add_rows(
        table, first, end, a.inverse_offset, a.inverse_column, a.inverse_value, a.offset[i + 1] - start,
        [&](int64_t e) { return a.column[start + e]; }, [&](int64_t e) { return a.value[start + e]; },
        [](double own, double other) { return own < other ? own : other; });
  };
  for_ranges(table, i + 1 > a.first_column ? i + 1 : a.first_column, a.total, add_shared, [&](int64_t, int64_t) {
    count = table.in_order(
        count, [&](double s) { return apart(s) <= a.radius; },
        [&](int32_t j, double s, int64_t place) {
          if (place >= a.capacity) return;
          found[place] = j;
          if (distance) distance[place] = apart(s);
        });
  });
  if (lane() == 0) a.count[r] = static_cast<int32_t>(count);
}

void jaccard_within(const JaccardWithinArgs& a, Stream& stream) {
  if (a.rows > 0) launch(within_kernel, blocks_for(a.rows, 1), kWarpSize, 0, stream, a);
}

const char* refuse_bf16(const ReciprocalRowsArgs& a) {
  return a.dtype == DType::f32 || a.dtype == DType::f64 ? nullptr : "takes f32 and f64 only";
}

}  // namespace

void register_jaccard() {
  add<ReciprocalMembers>(REID_KERNEL_NAME("list_entries"), nullptr, reciprocal_members);
  add<ReciprocalRows>(REID_KERNEL_NAME("warp_rows"), refuse_bf16, reciprocal_rows);
  add<MeanRows>(REID_KERNEL_NAME("warp_rows"), nullptr, mean_rows);
  add<TransposeRows>(REID_KERNEL_NAME("counted"), nullptr, transpose_rows);
  add<JaccardWithin>(REID_KERNEL_NAME("warp_rows"), nullptr, jaccard_within);
}

}  // namespace reid::REID_TARGET
