// mean = sum x / L and variance = sum (x - mean)^2 / L, NHWC, f32 or bf16: reads x once from memory, or only from a cache, behind the
// convolution that writes it (behind.h). See norm.cpp.
//
// A chunk is kChunkRows rows of one group: a block of its channels is summed, then the deviations from that mean while the rows are still
// in cache. Chunks are merged in order, in double (Chan, Golub and LeVeque, American Statistician 37(3), 1983).

#include <algorithm>
#include <atomic>

#include "backends/cpu/behind.h"
#include "backends/cpu/fast.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/norm_parts.h"
#include "backends/cpu/rounding.h"
#include "reid/engine/registry.h"

namespace reid::cpu {
namespace {

template <class T>
struct ChunkSums {
  const T* x;  // first row and channel
  int64_t rows, stride, count;
  double* mean;     // [count]
  double* squares;  // [count] sum of squared deviations
};

template <int64_t kWidth, class T>
REID_BODY chunk_block(const ChunkSums<T>& a, int64_t j) {
  float sum[kWidth] = {}, rest[kWidth] = {}, squares[kWidth] = {}, mean[kWidth];
  const T* x = a.x + j;
  int64_t l = 0;
  for (; l + 4 <= a.rows; l += 4, x += 4 * a.stride) {
    for (int64_t i = 0; i < kWidth; ++i) sum[i] += (x[i] + x[i + a.stride]) + (x[i + 2 * a.stride] + x[i + 3 * a.stride]);
  }
  for (; l < a.rows; ++l, x += a.stride) {
    for (int64_t i = 0; i < kWidth; ++i) sum[i] += x[i];
  }
  for (int64_t i = 0; i < kWidth; ++i) mean[i] = sum[i] / static_cast<float>(a.rows);
  x = a.x + j;
  for (l = 0; l + 2 <= a.rows; l += 2, x += 2 * a.stride) {
    for (int64_t i = 0; i < kWidth; ++i) {
      const float d0 = x[i] - mean[i], d1 = x[i + a.stride] - mean[i];
      rest[i] += d0 + d1;
      squares[i] += d0 * d0 + d1 * d1;
    }
  }
  for (; l < a.rows; ++l, x += a.stride) {
    for (int64_t i = 0; i < kWidth; ++i) {
      const float d = x[i] - mean[i];
      rest[i] += d;
      squares[i] += d * d;
    }
  }
  for (int64_t i = 0; i < kWidth; ++i) {  // what the float mean missed, put back in double
    const double missed = double{rest[i]} / static_cast<double>(a.rows);
    a.mean[j + i] = double{mean[i]} + missed;
    a.squares[j + i] = double{squares[i]} - missed * double{rest[i]};
  }
}
template <class T>
REID_BODY chunk_sums_body(const ChunkSums<T>& a) {
#define REID_BLOCK(width) chunk_block<width>(a, j)
  REID_CHANNEL_BLOCKS(a.count, REID_BLOCK);
#undef REID_BLOCK
}
REID_MULTIVERSION(chunk_sums, ChunkSums<float>)
REID_MULTIVERSION(chunk_sums, ChunkSums<bf16>)

template <class T>
void sum_rows(const NormStatisticsArgs& a, int64_t row, int64_t rows, double* mean) {
  const NormWindow& w = a.window;
  chunk_sums(ChunkSums<T>{.x = static_cast<const T*>(a.x) + row * w.channels + w.first,
                          .rows = rows,
                          .stride = w.channels,
                          .count = w.count,
                          .mean = mean,
                          .squares = mean + w.count});
}

// Where a chunk lies.
struct Chunk {
  int64_t row, rows;  // counted through all groups
  Chunk(const NormWindow& w, int64_t index) {
    const int64_t begin = index % chunks_of(w) * kChunkRows;
    row = index / chunks_of(w) * w.length + begin;
    rows = std::min(kChunkRows, w.length - begin);
  }
};

int64_t all_chunks(const NormWindow& w) { return w.groups * chunks_of(w); }

}  // namespace

ChunkedStatistics::ChunkedStatistics(const NormStatisticsArgs& statistics)
    : args_(statistics),
      memory_(all_chunks(args_.window) * (2 * args_.window.count + 1) * static_cast<int64_t>(sizeof(double)), Device{}),
      partial_(static_cast<double*>(memory_.data())),
      missing_(reinterpret_cast<int64_t*>(partial_ + all_chunks(args_.window) * 2 * args_.window.count)) {
  for (int64_t i = 0; i < chunks(); ++i) missing_[i] = Chunk(args_.window, i).rows * args_.window.count;
}

int64_t ChunkedStatistics::chunks() const { return all_chunks(args_.window); }

void ChunkedStatistics::sum(int64_t chunk) const {
  const Chunk c(args_.window, chunk);
  double* mean = partial_ + chunk * 2 * args_.window.count;
  args_.dtype == DType::bf16 ? sum_rows<bf16>(args_, c.row, c.rows, mean) : sum_rows<float>(args_, c.row, c.rows, mean);
}

void ChunkedStatistics::written(int64_t row, int64_t rows, int64_t column, int64_t columns) const {
  const NormWindow& w = args_.window;
  const int64_t count = std::min(column + columns, w.first + w.count) - std::max(column, w.first);
  if (count <= 0) return;
  for (const int64_t end = row + rows; row < end;) {
    const int64_t index = row / w.length * chunks_of(w) + row % w.length / kChunkRows;
    const Chunk chunk(w, index);
    const int64_t here = std::min(end, chunk.row + chunk.rows) - row;
    // Whoever brings the last rows of a chunk must see what others wrote of it.
    if (std::atomic_ref(missing_[index]).fetch_sub(here * count, std::memory_order_acq_rel) == here * count) sum(index);
    row += here;
  }
}

void ChunkedStatistics::merge_group(int64_t group) const {
  const NormWindow& w = args_.window;
  auto* mean_out = static_cast<float*>(args_.mean) + group * w.count;
  auto* variance_out = static_cast<float*>(args_.variance) + group * w.count;
  const double* first = partial_ + group * chunks_of(w) * 2 * w.count;
  for (int64_t j = 0; j < w.count; ++j) {
    double mean = 0, squares = 0, seen = 0;
    for (int64_t chunk = 0; chunk < chunks_of(w); ++chunk) {
      const auto rows = static_cast<double>(Chunk(w, chunk).rows);
      const double* part = first + chunk * 2 * w.count + j;
      const double difference = part[0] - mean, total = seen + rows;
      mean += difference * rows / total;
      squares += part[w.count] + difference * difference * seen * rows / total;
      seen = total;
    }
    mean_out[j] = static_cast<float>(mean);
    variance_out[j] = static_cast<float>(squares / static_cast<double>(w.length));
  }
}

void ChunkedStatistics::merge() const {
  parallel_for(args_.window.groups, 4, [&](int64_t begin, int64_t end, int) {
    for (int64_t g = begin; g < end; ++g) merge_group(g);
  });
}

Behind::Behind(const ConvForwardArgs& args) {
  if (args.finish.mean) finish_.emplace(args.finishing());
  for (size_t i = 0; i < 2; ++i) {
    if (args.statistics[i].x) statistics_[i].emplace(args.statistics[i]);
  }
}

void Behind::operator()(int64_t row, int64_t rows, int64_t column, int64_t columns) const {
  for (const auto& s : statistics_) {
    if (s) s->written(row, rows, column, columns);
  }
  if (finish_) (*finish_)(row, rows, column, columns);
}

void Behind::complete() const {
  for (const auto& s : statistics_) {
    if (s) s->merge();
  }
}

namespace {

void norm_statistics(const NormStatisticsArgs& a, Stream&) {
  const ChunkedStatistics statistics(a);
  parallel_for(statistics.chunks(), 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) statistics.sum(i);
  });
  statistics.merge();
}

}  // namespace

void register_norm_statistics() { add_both<NormStatistics, norm_statistics, norm_statistics>("chunked"); }

}  // namespace reid::cpu
