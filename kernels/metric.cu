// Metric learning over rows of distances and cosines: triplet losses, circle logits, and the gradient of Euclidean distances. The equations
// stand beside the arguments in op_args_rows.h. Gradients of the weighted triplet, with softmax weights w_p = exp(d_p) / sum exp(d) of the
// positives and their mean m = sum w_p d_p:  dm / dd_p = w_p (1 + d_p - m); of the negatives, with exp(-d):  w_n (1 - d_n + m).
//
// Layout: [B, M], row-major.
// Map: triplet_rows, a block of 128 threads for each row, see rows.cuh. circle_logits, a thread for each element. row_distances_backward, a
//      thread for each element of dx and of dy, which sums over the other side in order: neighbors read neighboring features.
// Bytes: circle_logits 4 read, 8 written an element; triplet_rows 5 and 4. row_distances_backward reads the other side once for each row: a
//      matrix product's traffic without its reuse. No version was measured yet.

#include "kernels.h"
#include "rows.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256;

// The hardest distance of a kind, or the mean of all with softmax weights, and what each distance adds to it.
struct Selection {
  const float* d;
  const uint8_t* mask;
  uint8_t kind;
  float sign;  // +1: positives, the farthest is hardest; -1: negatives, the nearest
  bool weighted;
  int64_t hardest;  // the first of equals; `columns` when there is none
  float value, sum;

  __device__ Selection(const float* d_, const uint8_t* mask_, int64_t columns, uint8_t kind_, float sign_, bool weighted_)
      : d(d_), mask(mask_), kind(kind_), sign(sign_), weighted(weighted_), sum(1) {
    const float top = row_max(columns, [&](int64_t c) { return mask[c] == kind ? sign * d[c] : -INFINITY; });
    hardest = row_first(columns, [&](int64_t c) { return mask[c] == kind && sign * d[c] == top; });
    value = sign * top;
    if (!weighted) return;  // the same for all threads
    const auto weight = [&](int64_t c) { return mask[c] == kind ? expf(sign * d[c] - top) : 0; };
    sum = row_sum(columns, weight);
    value = row_sum(columns, [&](int64_t c) { return mask[c] == kind ? weight(c) * d[c] : 0; }) / sum;
    base = top;
  }
  __device__ float share(int64_t c) const {
    if (mask[c] != kind) return 0;
    if (!weighted) return c == hardest ? 1 : 0;
    return expf(sign * d[c] - base) / sum * (1 + sign * (d[c] - value));
  }

 private:
  float base = 0;  // of the exponents
};

__global__ void triplet_rows_kernel(TripletRowsArgs a) {
  after_predecessors();
  const float* d = in<float>(a.d) + blockIdx.x * a.columns;
  const uint8_t* mask = a.mask + blockIdx.x * a.columns;
  float* dd = out<float>(a.dd) + blockIdx.x * a.columns;
  const Selection far(d, mask, a.columns, kPositive, 1, a.weighted), near(d, mask, a.columns, kNegative, -1, a.weighted);
  const bool counts = far.hardest < a.columns && near.hardest < a.columns;
  const float gap = counts ? far.value - near.value : 0, margin = static_cast<float>(a.margin);
  const float weight = in<float>(a.weight)[blockIdx.x];
  const float loss = margin > 0 ? fmaxf(0, gap + margin) : softplus(gap);
  const float slope = margin > 0 ? (gap + margin > 0 ? 1.0f : 0.0f) : sigmoid(gap);
  for_columns(a.columns, [&](int64_t c) { dd[c] = counts ? weight * slope * (far.share(c) - near.share(c)) : 0; });
  if (threadIdx.x == 0) out<float>(a.loss)[blockIdx.x] = counts ? weight * loss : 0;
}

__global__ void circle_logits_kernel(CircleLogitsArgs a) {
  after_predecessors();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i >= a.rows * a.columns) return;
  const float s = in<float>(a.s)[i], scale = static_cast<float>(a.scale), margin = static_cast<float>(a.margin);
  const bool own = i % a.columns == a.label[i / a.columns];
  const float slope = scale * fmaxf(0, own ? 1 + margin - s : s + margin);
  out<float>(a.slope)[i] = slope;
  out<float>(a.y)[i] = slope * (own ? s - (1 - margin) : s - margin);
}

void circle_logits(const CircleLogitsArgs& a, Stream& stream) {
  if (a.rows * a.columns > 0) launch(circle_logits_kernel, blocks_for(a.rows * a.columns, kThreads), kThreads, 0, stream, a);
}

// One side's gradient: `own` [rows, K] against `other` [others, K]; distance (r, o) stands at r * row_step + o * other_step.
struct Side {
  const float* own;
  const float* other;
  float* gradient;
  int64_t rows, others, row_step, other_step;
};

__global__ void row_distances_backward_kernel(RowDistancesBackwardArgs a, Side side, float least) {
  after_predecessors();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;  // of [rows, K]
  if (i >= side.rows * a.k) return;
  const int64_t r = i / a.k, k = i % a.k;
  const float mine = side.own[i];
  float sum = 0;
  for (int64_t o = 0; o < side.others; ++o) {
    const int64_t at = r * side.row_step + o * side.other_step;
    const float d = in<float>(a.d)[at];
    if (d > least) sum += in<float>(a.dd)[at] / d * (mine - side.other[o * a.k + k]);
  }
  side.gradient[i] = sum;
}

void row_distances_backward(const RowDistancesBackwardArgs& a, Stream& stream) {
  const float least = sqrtf(static_cast<float>(a.floor));
  const Side sides[] = {{in<float>(a.x), in<float>(a.y), out<float>(a.dx), a.m, a.n, a.n, 1},
                        {in<float>(a.y), in<float>(a.x), out<float>(a.dy), a.n, a.m, 1, a.n}};
  for (const Side& side : sides) {
    if (side.rows * a.k > 0)
      launch(row_distances_backward_kernel, blocks_for(side.rows * a.k, kThreads), kThreads, 0, stream, a, side, least);
  }
}

}  // namespace

void register_metric() {
  add<TripletRows>(
      REID_KERNEL_NAME("block_a_row"), [](const TripletRowsArgs& a) { return refuse_other_than_f32(a.dtype); },
      [](const TripletRowsArgs& a, Stream& stream) { launch_rows(triplet_rows_kernel, a, stream); });
  add<CircleLogits>(
      REID_KERNEL_NAME("element_a_thread"), [](const CircleLogitsArgs& a) { return refuse_other_than_f32(a.dtype); }, circle_logits);
  add<RowDistancesBackward>(
      REID_KERNEL_NAME("element_a_thread"), [](const RowDistancesBackwardArgs& a) { return refuse_other_than_f32(a.dtype); },
      row_distances_backward);
}

}  // namespace reid::REID_TARGET
