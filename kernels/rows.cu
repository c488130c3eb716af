// Rows of embeddings: scaling to unit length, and the softmax family of losses with their gradients. The equations stand beside the
// arguments in op_args_rows.h. Gradients are written together with the losses:
//   one_positive_rows, q_p = sigmoid(S - s_p / tau):  ds_p = -w q_p / (tau |P|),   ds_n = w exp(s_n / tau - S) sum_p q_p / (tau |P|)
//   softmax_rows:                                     ds_u = w (softmax_u - target_u) / tau
// memory_update sums in double, by 128 threads for each cluster of the batch.
// mixed_targets sums in double what a label, all classes alike and distributions say, and rounds once.
// hardest_negatives picks one after the other; a thread looks through its columns again when one of them was picked.
//
// Layout: [B, M], row-major.
// Map: a block of 128 threads for each row; thread t works on columns t, t + 128, ...; reductions over the block in a fixed order. The row
//      stays in the caches between its passes (2 to 4 of them), so global memory sees it about once.
// Bytes: 4 an element read, 4 written, and the mask where there is one. Floor on H200 (4.3 TB/s): 2.1 ps an element. No version was
// measured yet.

#include "kernels.h"
#include "rows.cuh"

namespace reid::REID_TARGET {

namespace {

__global__ void l2_normalize_kernel(L2NormalizeArgs a) {
  after_predecessors();
  const float* x = in<float>(a.x) + blockIdx.x * a.columns;
  float* y = out<float>(a.y) + blockIdx.x * a.columns;
  const float norm = sqrtf(row_sum(a.columns, [&](int64_t c) { return x[c] * x[c]; }));
  const float divisor = fmaxf(norm, static_cast<float>(a.eps));
  for_columns(a.columns, [&](int64_t c) { y[c] = x[c] / divisor; });
  if (threadIdx.x == 0) out<float>(a.norm)[blockIdx.x] = norm;
}

// dx = (dy - <dy, y> y) / |x|; below eps the divisor is a constant and the projection falls away.
__global__ void l2_normalize_backward_kernel(L2NormalizeBackwardArgs a) {
  after_predecessors();
  const float* dy = in<float>(a.dy) + blockIdx.x * a.columns;
  const float* y = in<float>(a.y) + blockIdx.x * a.columns;
  float* dx = out<float>(a.dx) + blockIdx.x * a.columns;
  const float norm = in<float>(a.norm)[blockIdx.x], eps = static_cast<float>(a.eps), divisor = fmaxf(norm, eps);
  const float dot = row_sum(a.columns, [&](int64_t c) { return dy[c] * y[c]; }), along = norm < eps ? 0 : dot;
  for_columns(a.columns, [&](int64_t c) { dx[c] = (dy[c] - along * y[c]) / divisor; });
}

template <class Mask>
__device__ float row_count(const Mask& mask, int64_t columns, uint8_t kind) {
  return row_sum(columns, [&](int64_t c) { return mask[c] == kind ? 1.0f : 0.0f; });
}

__global__ void one_positive_rows_kernel(OnePositiveRowsArgs a) {
  after_predecessors();
  const float* s = in<float>(a.s) + blockIdx.x * a.columns;
  const uint8_t* mask = a.mask + blockIdx.x * a.columns;
  float* ds = out<float>(a.ds) + blockIdx.x * a.columns;
  const float tau = in<float>(a.tau)[blockIdx.x];
  const float positives = row_count(mask, a.columns, kPositive), negatives = row_count(mask, a.columns, kNegative);
  const bool counts = positives > 0 && negatives > 0;  // the same for all threads: reductions below are reached by all
  const float share = counts ? in<float>(a.weight)[blockIdx.x] / positives : 0;
  const float total = row_log_sum_exp(a.columns, [&](int64_t c) { return mask[c] == kNegative ? s[c] / tau : -INFINITY; });
  const float loss = row_sum(a.columns, [&](int64_t c) { return counts && mask[c] == kPositive ? softplus(total - s[c] / tau) : 0; });
  const float pulled = row_sum(a.columns, [&](int64_t c) { return counts && mask[c] == kPositive ? sigmoid(total - s[c] / tau) : 0; });
  for_columns(a.columns, [&](int64_t c) {
    float slope = 0;
    if (counts && mask[c] == kPositive) slope = -share * sigmoid(total - s[c] / tau) / tau;
    if (counts && mask[c] == kNegative) slope = share * pulled / tau * expf(s[c] / tau - total);
    ds[c] = slope;
  });
  if (threadIdx.x == 0) out<float>(a.loss)[blockIdx.x] = counts ? share * loss : 0;
}

// The row's mask, or what stands for it.
struct RowMask {
  const uint8_t* mask;
  int64_t label;
  __device__ explicit RowMask(const SoftmaxRowsArgs& a)
      : mask(a.mask ? a.mask + blockIdx.x * a.columns : nullptr), label(a.mask ? 0 : a.label[blockIdx.x]) {}
  __device__ uint8_t operator[](int64_t c) const { return mask ? mask[c] : uint8_t{c == label ? kPositive : kNegative}; }
};

__global__ void softmax_rows_kernel(SoftmaxRowsArgs a) {
  after_predecessors();
  const float* s = in<float>(a.s) + blockIdx.x * a.columns;
  const RowMask mask(a);
  float* ds = out<float>(a.ds) + blockIdx.x * a.columns;
  const float tau = in<float>(a.tau)[blockIdx.x], weight = in<float>(a.weight)[blockIdx.x], smoothing = static_cast<float>(a.smoothing);
  const float positives = row_count(mask, a.columns, kPositive), negatives = row_count(mask, a.columns, kNegative);
  const bool counts = positives > 0;
  const float floor = counts ? smoothing / (positives + negatives) : 0, target = counts ? (1 - smoothing) / positives + floor : 0;
  const float total = row_log_sum_exp(a.columns, [&](int64_t c) { return mask[c] != kIgnored ? s[c] / tau : -INFINITY; });
  const auto target_of = [&](int64_t c) { return mask[c] == kPositive ? target : floor; };
  const float loss = row_sum(
      a.columns, [&](int64_t c) { return counts && mask[c] != kIgnored && target_of(c) != 0 ? target_of(c) * (total - s[c] / tau) : 0; });
  for_columns(a.columns,
              [&](int64_t c) { ds[c] = counts && mask[c] != kIgnored ? weight * (expf(s[c] / tau - total) - target_of(c)) / tau : 0; });
  if (threadIdx.x == 0) out<float>(a.loss)[blockIdx.x] = weight * loss;
}

__global__ void hardest_negatives_kernel(HardestNegativesArgs a) {
  after_predecessors();
  const float* s = in<float>(a.s) + blockIdx.x * a.columns;
  const uint8_t* mask = a.mask + blockIdx.x * a.columns;
  uint8_t* kept = a.kept + blockIdx.x * a.columns;
  for_columns(a.columns, [&](int64_t c) { kept[c] = mask[c] == kNegative ? uint8_t{kIgnored} : mask[c]; });
  const auto next = [&](uint64_t last, bool any) {
    uint64_t least = kLastPlace;
    for_columns(a.columns, [&](int64_t c) {
      if (mask[c] != kNegative) return;
      const uint64_t place = place_of(0.0f - s[c], c);  // not -s: zeros of either sign are alike
      least = (any || place > last) && place < least ? place : least;
    });
    return least;
  };
  pick_least(a.count < a.columns ? a.count : a.columns, next, [&](int64_t, uint64_t place, bool own) {
    if (own) kept[place & 0xFFFFFFFFu] = kNegative;  // by the thread that wrote it before
  });
}

__global__ void top_hits_kernel(TopShareArgs a, int32_t* hits) {
  after_predecessors();
  const float* s = in<float>(a.s) + blockIdx.x * a.columns;
  const float top = row_max(a.columns, [&](int64_t c) { return s[c]; });
  const int64_t first = row_first(a.columns, [&](int64_t c) { return s[c] == top; });
  if (threadIdx.x == 0) hits[blockIdx.x] = first == a.label[blockIdx.x] ? 1 : 0;
}
__global__ void share_of_hits_kernel(const int32_t* hits, int64_t rows, double* share) {
  after_predecessors();
  int32_t own = 0;
  for_columns(rows, [&](int64_t i) { own += hits[i]; });
  const int32_t all = block_reduce(own, Add());
  if (threadIdx.x == 0) *share = rows == 0 ? 0 : static_cast<double>(all) / static_cast<double>(rows);
}

void top_share(const TopShareArgs& a, Stream& stream) {
  auto* hits = static_cast<int32_t*>(stream.workspace(static_cast<size_t>(a.rows) * sizeof(int32_t)));
  if (a.rows > 0) launch(top_hits_kernel, blocks_for(a.rows, 1), kRowThreads, 0, stream, a, hits);
  launch(share_of_hits_kernel, 1, kRowThreads, 0, stream, hits, a.rows, out<double>(a.share));
}

// Block i moves the vector of row i's label, for all rows that have it, where row i is the first of them.
struct MovingVector {
  float* c;
  int64_t columns;
  double momentum;

  // Towards v(column). A thread works on the same columns each time, so that it reads what it wrote.
  template <class V>
  __device__ void move(V v) const {
    const auto moved = [&](int64_t d) { return momentum * static_cast<double>(c[d]) + (1 - momentum) * v(d); };
    double squared = 0;
    for_columns(columns, [&](int64_t d) { squared += moved(d) * moved(d); });
    squared = block_reduce(squared, Add());
    if (squared == 0) return;
    const double length = sqrt(squared);
    for_columns(columns, [&](int64_t d) { c[d] = static_cast<float>(moved(d) / length); });
  }
  __device__ double product(const float* row) const {
    double sum = 0;
    for_columns(columns, [&](int64_t d) { sum += static_cast<double>(row[d]) * static_cast<double>(c[d]); });
    return block_reduce(sum, Add());
  }
};

__global__ void memory_update_kernel(MemoryUpdateArgs a) {
  after_predecessors();
  const int64_t first = blockIdx.x;
  const int32_t own = a.label[first];
  if (row_first(first, [&](int64_t j) { return a.label[j] == own; }) < first) return;
  const MovingVector vector{out<float>(a.c) + own * a.columns, a.columns, a.momentum};
  const float *f = in<float>(a.f), *least = f + first * a.columns;
  const auto at = [](const float* row) { return [row](int64_t d) { return static_cast<double>(row[d]); }; };
  double least_product = a.rule == MemoryRule::hard ? vector.product(least) : 0;
  int64_t count = 0;
  for (int64_t j = first; j < a.rows; ++j) {
    if (a.label[j] != own) continue;
    const float* row = f + j * a.columns;
    ++count;
    if (a.rule == MemoryRule::all) vector.move(at(row));
    const double product = a.rule == MemoryRule::hard ? vector.product(row) : 0;
    if (product >= least_product) continue;
    least = row, least_product = product;
  }
  if (a.rule == MemoryRule::hard) vector.move(at(least));
  if (a.rule != MemoryRule::mean) return;
  vector.move([&](int64_t d) {
    double sum = 0;
    for (int64_t j = first; j < a.rows; ++j)
      sum += a.label[j] == own ? static_cast<double>(f[j * a.columns + d]) / static_cast<double>(count) : 0;
    return sum;
  });
}

void memory_update(const MemoryUpdateArgs& a, Stream& stream) {
  if (a.rows > 0) launch(memory_update_kernel, blocks_for(a.rows, 1), kRowThreads, 0, stream, a);
}

__global__ void softmax_kernel(SoftmaxArgs a) {
  after_predecessors();
  const float* s = in<float>(a.s) + blockIdx.x * a.columns;
  float* q = out<float>(a.q) + blockIdx.x * a.columns;
  const float total = row_log_sum_exp(a.columns, [&](int64_t c) { return s[c]; });
  for_columns(a.columns, [&](int64_t c) { q[c] = expf(s[c] - total); });
}

__global__ void mixed_targets_kernel(const MixedTargetsArgs GRID_CONSTANT a) {
  after_predecessors();
  const int64_t first = blockIdx.x * a.columns;
  const double own = a.share[blockIdx.x], spread = a.share[a.rows + blockIdx.x];
  const int64_t label = a.label[blockIdx.x];
  for_columns(a.columns, [&](int64_t c) {
    double sum = spread;
    for (int n = 0; n < a.number; ++n)
      sum = __dadd_rn(sum, __dmul_rn(a.share[(2 + n) * a.rows + blockIdx.x], static_cast<double>(in<float>(a.q[n])[first + c])));
    if (c == label) sum = __dadd_rn(sum, own);
    out<float>(a.target)[first + c] = static_cast<float>(sum);
  });
}

__global__ void soft_target_rows_kernel(SoftTargetRowsArgs a) {
  after_predecessors();
  const float* s = in<float>(a.s) + blockIdx.x * a.columns;
  const float* target = in<float>(a.target) + blockIdx.x * a.columns;
  float* ds = out<float>(a.ds) + blockIdx.x * a.columns;
  const float weight = in<float>(a.weight)[blockIdx.x];
  const float total = row_log_sum_exp(a.columns, [&](int64_t c) { return s[c]; });
  const float mass = row_sum(a.columns, [&](int64_t c) { return target[c]; });
  const float loss = row_sum(a.columns, [&](int64_t c) { return target[c] * (total - s[c]); });
  for_columns(a.columns, [&](int64_t c) { ds[c] = weight * (mass * expf(s[c] - total) - target[c]); });
  if (threadIdx.x == 0) out<float>(a.loss)[blockIdx.x] = weight * loss;
}

template <class Op, void (*kernel)(typename Op::Args)>
void add_rows() {
  using Args = typename Op::Args;
  add<Op>(
      REID_KERNEL_NAME("block_a_row"), [](const Args& a) { return refuse_other_than_f32(a.dtype); },
      [](const Args& a, Stream& stream) { launch_rows(kernel, a, stream); });
}

}  // namespace

void register_rows() {
  add_rows<L2Normalize, l2_normalize_kernel>();
  add_rows<L2NormalizeBackward, l2_normalize_backward_kernel>();
  add_rows<OnePositiveRows, one_positive_rows_kernel>();
  add_rows<SoftmaxRows, softmax_rows_kernel>();
  add_rows<HardestNegatives, hardest_negatives_kernel>();
  add<TopShare>(
      REID_KERNEL_NAME("block_a_row"), [](const TopShareArgs& a) { return refuse_other_than_f32(a.dtype); }, top_share);
  add<MemoryUpdate>(
      REID_KERNEL_NAME("block_a_cluster"), [](const MemoryUpdateArgs& a) { return refuse_other_than_f32(a.dtype); }, memory_update);
  add_rows<Softmax, softmax_kernel>();
  add_rows<MixedTargets, mixed_targets_kernel>();
  add_rows<SoftTargetRows, soft_target_rows_kernel>();
}

}  // namespace reid::REID_TARGET
