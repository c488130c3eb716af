// Sums and moments that parts of a work left, made one: merge.cuh.
//
// Sums of few parts are a thread's each, of more a block's: the weights' gradient of a narrow convolution has hundreds of parts of
// few elements. Moments of a and b over n_a and n_b rows (Chan, Golub and LeVeque, The American Statistician 37(3), 1983):
//   m = m_a + (m_b - m_a) n_b / n,   M = M_a + M_b + (m_b - m_a)^2 n_a n_b / n,   n = n_a + n_b

#include "merge.cuh"

namespace reid::REID_TARGET {

namespace {

// rows 0: of none.
struct Share {
  Moments of;
  float rows;
};

__device__ Share joined(const Share& a, const Share& b) {
  if (a.rows == 0) return b;
  if (b.rows == 0) return a;
  const float rows = a.rows + b.rows, difference = b.of.mean - a.of.mean, part = b.rows / rows;
  return {{a.of.mean + difference * part, a.of.squares + b.of.squares + difference * difference * (a.rows * part)}, rows};
}

// Of one window or of two: the blocks of the second come behind those of the first.
struct MomentsWork {
  NormStatisticsArgs windows[2];
  int chunks[2];
  unsigned first_blocks;
};

__global__ void merge_moments_kernel(const Moments* moments, MomentsLayout layout, const MomentsWork GRID_CONSTANT work) {
  after_predecessors();
  SHARED_ARRAY(Share, shares, kMergeLanes * kMostMergeSlices);  // see merge_slices
  const bool second = blockIdx.x >= work.first_blocks;
  const NormStatisticsArgs& s = work.windows[second];
  const NormWindow& w = s.window;
  const int chunks = work.chunks[second];
  const MergePlace at(w.count, chunks, blockIdx.x - (second ? work.first_blocks : 0));
  const Moments* from = moments + at.group * chunks * layout.channels + (w.first - layout.first) + at.column;
  Share own{};
  for (int chunk = at.begin; at.live && chunk < at.end; ++chunk) {
    const int64_t left = w.length - chunk * layout.rows;
    own = joined(own, {from[chunk * layout.channels], static_cast<float>(left < layout.rows ? left : layout.rows)});
  }
  own = merge_slices(at, shares, own, [](const Share& a, const Share& b) { return joined(a, b); });
  if (!at.writes()) return;
  out<float>(s.mean)[at.group * w.count + at.column] = own.of.mean;
  out<float>(s.variance)[at.group * w.count + at.column] = own.of.squares / static_cast<float>(w.length);
}

constexpr int kThreads = 256, kFewParts = 8;

__global__ void add_few_parts_kernel(const float* parts, int number, int64_t count, float* y, bool accumulate) {
  after_predecessors();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= count) return;
  float sum = parts[i];
  for (int part = 1; part < number; ++part) sum += parts[part * count + i];
  y[i] = accumulate ? y[i] + sum : sum;
}

__global__ void add_parts_kernel(const float* parts, int number, int64_t count, float* y, bool accumulate) {
  after_predecessors();
  SHARED_ARRAY(float, sums, kMergeLanes* kMostMergeSlices);  // see merge_slices
  const MergePlace at(count, number);
  float own = 0;
  for (int part = at.begin; at.live && part < at.end; ++part) own += parts[part * count + at.column];
  own = merge_slices(at, sums, own, [](float a, float b) { return a + b; });
  if (at.writes()) y[at.column] = accumulate ? y[at.column] + own : own;
}

__global__ void merge_sums_kernel(const float* sums, const float* dots, int64_t count, int items, float* all_sums, float* all_dots) {
  after_predecessors();
  SHARED_ARRAY(GradientSums, shares, kMergeLanes * kMostMergeSlices);  // see merge_slices
  const MergePlace at(count, items);
  GradientSums own{};
  for (int item = at.begin; at.live && item < at.end; ++item) {
    const int64_t from = (at.group * items + item) * count + at.column;
    own.sum += sums[from], own.dot += dots[from];
  }
  own = merge_slices(at, shares, own, [](const GradientSums& a, const GradientSums& b) { return merged(a, b); });
  if (!at.writes()) return;
  all_sums[at.group * count + at.column] = own.sum, all_dots[at.group * count + at.column] = own.dot;
}

}  // namespace

void add_parts(const float* parts, int64_t number, int64_t count, float* y, bool accumulate, Stream& stream) {
  const int all = static_cast<int>(number);
  if (number <= kFewParts) {
    launch(add_few_parts_kernel, blocks_for(count, kThreads), kThreads, 0, stream, parts, all, count, y, accumulate);
  } else {
    launch(add_parts_kernel, merge_blocks(1, count), merge_threads(number), 0, stream, parts, all, count, y, accumulate);
  }
}

void merge_sums(const float* sums, int64_t groups, int64_t items, int64_t count, float* all_sums, float* all_dots, Stream& stream) {
  launch(merge_sums_kernel, merge_blocks(groups, count), merge_threads(items), 0, stream, sums, sums + groups * items * count, count,
         static_cast<int>(items), all_sums, all_dots);
}

void merge_moments(const Moments* moments, const MomentsLayout& layout, const NormStatisticsArgs* windows, int number, Stream& stream) {
  MomentsWork work{};
  unsigned blocks = 0, threads = 0;
  for (int i = 0; i < number; ++i) {
    const NormWindow& w = windows[i].window;
    work.windows[i] = windows[i], work.chunks[i] = static_cast<int>(ceil_div(w.length, layout.rows));
    work.first_blocks = i == 0 ? merge_blocks(w.groups, w.count) : work.first_blocks;
    blocks += merge_blocks(w.groups, w.count);
    threads = std::max(threads, merge_threads(work.chunks[i]));
  }
  launch(merge_moments_kernel, blocks, threads, 0, stream, moments, layout, work);
}

}  // namespace reid::REID_TARGET
