#pragma once
// The arguments of the operations on rows of embeddings, on running statistics and on flat parameter buffers: see op_args.h.

#include "reid/engine/op_args.h"

namespace reid {

// --- rows of embeddings ---

struct L2NormalizeArgs {
  const void* x;  // [B, D]
  void* y;        // x / max(|x|, eps)
  void* norm;     // [B] |x|
  int64_t rows, columns;
  double eps;
  DType dtype;
  void describe(Visitor&) const;
};
struct L2Normalize {
  using Args = L2NormalizeArgs;
  static constexpr const char* name = "l2_normalize";
};
struct L2NormalizeBackwardArgs {
  const void* dy;
  const void* y;
  const void* norm;
  void* dx;
  int64_t rows, columns;
  double eps;
  DType dtype;
  void describe(Visitor&) const;
};
struct L2NormalizeBackward {
  using Args = L2NormalizeBackwardArgs;
  static constexpr const char* name = "l2_normalize_backward";
};

// Masks of the two row losses: who is what to anchor i.
enum : uint8_t { kIgnored = 0, kPositive = 1, kNegative = 2 };

// One positive at a time against all negatives (the form of ReMix's instance and augmentation losses):
//   loss_i = weight_i * mean_p log(1 + exp(S_i - s_ip / tau_i)),  S_i = log sum_n exp(s_in / tau_i)
// and its gradient with respect to s, for dloss_i = 1. Rows without a positive or without a negative give 0.
struct OnePositiveRowsArgs {
  const void* s;        // [B, M] similarities
  const uint8_t* mask;  // [B, M]
  const void* tau;      // [B]
  const void* weight;   // [B]
  void* loss;           // [B]
  void* ds;             // [B, M]
  int64_t rows, columns;
  DType dtype;
  void describe(Visitor&) const;
};
struct OnePositiveRows {
  using Args = OnePositiveRowsArgs;
  static constexpr const char* name = "one_positive_rows";
};
// Cross-entropy of softmax(s_i / tau_i) over positives and negatives, with target (1 - smoothing) / |P| on each positive plus
// smoothing / (|P| + |N|) on all: the form of the centroid losses, of cross-entropy and of SupCon.
//   loss_i = -weight_i * sum_u q_iu log softmax_u;  rows without a positive give 0.
// Without a mask column label_i is the one positive, all others are negatives.
struct SoftmaxRowsArgs {
  const void* s;
  const uint8_t* mask;   // [B, M], or null
  const int32_t* label;  // [B], where mask is null
  const void* tau;
  const void* weight;
  void* loss;
  void* ds;
  int64_t rows, columns;
  double smoothing;
  DType dtype;
  void describe(Visitor&) const;
};
struct SoftmaxRows {
  using Args = SoftmaxRowsArgs;
  static constexpr const char* name = "softmax_rows";
};

// The mask of a row loss that keeps the hardest: of a row's negatives the `count` that are most alike, of equal ones the first; the others
// are ignored.
struct HardestNegativesArgs {
  const void* s;        // [B, M] similarities
  const uint8_t* mask;  // [B, M]
  uint8_t* kept;        // [B, M]
  int64_t rows, columns, count;
  DType dtype;
  void describe(Visitor&) const;
};
struct HardestNegatives {
  using Args = HardestNegativesArgs;
  static constexpr const char* name = "hardest_negatives";
};

// The share of rows whose first largest logit is that of their label.
struct TopShareArgs {
  const void* s;         // [B, C]
  const int32_t* label;  // [B]
  void* share;           // [1] f64, whatever the dtype
  int64_t rows, columns;
  DType dtype;
  void describe(Visitor&) const;
};
struct TopShare {
  using Args = TopShareArgs;
  static constexpr const char* name = "top_share";
};

// The memory of Cluster Contrast (Dai et al., ACCV 2022): c_y = momentum c_y + (1 - momentum) v in double, scaled to length 1, or left
// alone where that is 0. v is, by rule,
enum class MemoryRule : uint8_t {
  all,   // each row of f with label y in turn, in order
  hard,  // once, that of them whose product with c_y is least, of equal ones the first
  mean   // once, their mean
};
struct MemoryUpdateArgs {
  const void* f;         // [B, D]
  const int32_t* label;  // [B] 0 <= label < K
  void* c;               // [K, D]; read, too
  int64_t rows, clusters, columns;
  double momentum;
  MemoryRule rule;
  DType dtype;
  void describe(Visitor&) const;
};
struct MemoryUpdate {
  using Args = MemoryUpdateArgs;
  static constexpr const char* name = "memory_update";
};

// Euclidean distances of rows: d[i, j] = sqrt(max(sum over k of (x[i, k] - y[j, k])^2, floor)), from differences, so that rows close to
// each other keep their digits.
struct RowDistancesArgs {
  const void* x;  // [M, K]
  const void* y;  // [N, K]
  void* d;        // [M, N]
  int64_t m, n, k;
  double floor;
  DType dtype;
  void describe(Visitor&) const;
};
struct RowDistances {
  using Args = RowDistancesArgs;
  static constexpr const char* name = "row_distances";
};
// dx[i] = sum over j of dd[i, j] (x[i] - y[j]) / d[i, j], and dy[j] likewise with the other sign; nothing flows where the floor holds.
struct RowDistancesBackwardArgs {
  const void* dd;  // [M, N]
  const void* x;
  const void* y;
  const void* d;
  void* dx;  // [M, K]
  void* dy;  // [N, K]
  int64_t m, n, k;
  double floor;
  DType dtype;
  void describe(Visitor&) const;
};
struct RowDistancesBackward {
  using Args = RowDistancesBackwardArgs;
  static constexpr const char* name = "row_distances_backward";
};

// Triplet losses over rows of distances (mask as in the row losses):
//   g_i = max over positives of d - min over negatives of d                                (Hermans, Beyer and Leibe, 2017)
//   g_i = sum over p of softmax(d)_p d_p - sum over n of softmax(-d)_n d_n, if weighted    (Ye et al., TPAMI 2021: AGW)
//   loss_i = weight_i max(0, g_i + margin), or weight_i log(1 + exp(g_i)) where the margin is 0
// Gradients flow through the selected distances (of equal ones the first), or through all of them and their weights. Rows without a
// positive or without a negative give 0.
struct TripletRowsArgs {
  const void* d;        // [B, M]
  const uint8_t* mask;  // [B, M]
  const void* weight;   // [B]
  void* loss;           // [B]
  void* dd;             // [B, M]
  int64_t rows, columns;
  double margin;
  bool weighted;
  DType dtype;
  void describe(Visitor&) const;
};
struct TripletRows {
  using Args = TripletRowsArgs;
  static constexpr const char* name = "triplet_rows";
};

// Circle loss at class level (Sun et al., CVPR 2020): logits from cosines s, with label_i the column of row i's class.
//   y = scale max(0, 1 + margin - s) (s - (1 - margin)) there, y = scale max(0, s + margin) (s - margin) elsewhere
// The factor before the last bracket is a constant for gradients; slope holds it: dy/ds.
struct CircleLogitsArgs {
  const void* s;         // [B, C]
  const int32_t* label;  // [B]
  void* y;               // [B, C]
  void* slope;           // [B, C]
  int64_t rows, columns;
  double scale, margin;
  DType dtype;
  void describe(Visitor&) const;
};
struct CircleLogits {
  using Args = CircleLogitsArgs;
  static constexpr const char* name = "circle_logits";
};

// Probabilities of logits: q[i, c] = exp(s[i, c]) / sum over e of exp(s[i, e]).
struct SoftmaxArgs {
  const void* s;  // [B, C]
  void* q;        // [B, C]
  int64_t rows, columns;
  DType dtype;
  void describe(Visitor&) const;
};
struct Softmax {
  using Args = SoftmaxArgs;
  static constexpr const char* name = "softmax";
};
// Cross-entropy to a target distribution of each row (soft labels), whose sum need not be 1; with q as above:
//   loss_i = -weight_i sum over c of target[i, c] log q[i, c],   ds[i] = weight_i (q_i sum over c of target[i, c] - target_i)
struct SoftTargetRowsArgs {
  const void* s;       // [B, C]
  const void* target;  // [B, C]
  const void* weight;  // [B]
  void* loss;          // [B]
  void* ds;            // [B, C]
  int64_t rows, columns;
  DType dtype;
  void describe(Visitor&) const;
};
struct SoftTargetRows {
  using Args = SoftTargetRowsArgs;
  static constexpr const char* name = "soft_target_rows";
};

// Targets that mix a label, the same for all columns, and what others say of a row (PPLR: distributions of an image's parts):
//   target[i, c] = spread[i] + sum over n of share[n, i] q_n[i, c] + (own[i] where c is label[i]),
// added from left to right in double, and rounded once: the same bits everywhere.
struct MixedTargetsArgs {
  static constexpr int kMost = 64;
  const void* q[kMost];  // [B, C] each
  const double* share;   // [2 + number, B]: own, spread, then the share of each q
  const int32_t* label;  // [B]
  void* target;          // [B, C]
  int64_t rows, columns;
  int number;  // of q; may be 0
  DType dtype;
  void describe(Visitor&) const;
};
struct MixedTargets {
  using Args = MixedTargetsArgs;
  static constexpr const char* name = "mixed_targets";
};

// --- running statistics ---

// What a batch norm remembers: running = (1 - momentum) running + momentum seen, where `seen` is the mean over groups, of the variance
// times `unbiased` (Ioffe and Szegedy, ICML 2015). For many norms at once, no two of which share what they remember.
struct RunningMove {
  void *mean, *variance;                  // [count]; read, too
  const void *seen_mean, *seen_variance;  // [groups, count]
  int64_t groups, count;
  double momentum, unbiased;
};
struct RunningUpdateArgs {
  static constexpr int kMost = 60;  // as many as fit in a kernel's 4 KB of arguments
  RunningMove moves[kMost];
  int number;
  DType dtype;
  void describe(Visitor&) const;
};
struct RunningUpdate {
  using Args = RunningUpdateArgs;
  static constexpr const char* name = "running_update";
};

// Mean and biased variance of rows of which only sums are known: mean = s / rows, variance = q / rows - mean^2, not below 0, computed in
// double. Where a mean is large beside the deviation, the variance is made of digits that q in f32 no longer has.
struct SumsStatisticsArgs {
  const void* sums;       // s [count]
  const void* squares;    // q [count], sums of squares
  void *mean, *variance;  // [count]
  int64_t rows, count;
  DType dtype;
  void describe(Visitor&) const;
};
struct SumsStatistics {
  using Args = SumsStatisticsArgs;
  static constexpr const char* name = "sums_statistics";
};

// --- flat parameter buffers ---

// to += from, for many arrays at once: gradients on their way into parameters. No two pairs share elements of `to`.
struct AddPair {
  void* to;  // [count]; read, too
  const void* from;
  int64_t count;
};
struct AddPairsArgs {
  static constexpr int kMost = 120;  // as many as fit in a kernel's 4 KB of arguments
  AddPair pairs[kMost];
  int number;
  DType dtype;
  void describe(Visitor&) const;
};
struct AddPairs {
  using Args = AddPairsArgs;
  static constexpr const char* name = "add_pairs";
};

// A run of elements of a flat buffer that shares settings.
struct Segment {
  int64_t offset, count;
  double lr_factor = 1, decay_factor = 1;
  bool trainable = true;
  int64_t step = 1;  // Adam: 1 for its first update; steps in which it stands still do not count
};
// What a step makes of every weight behind its update, in the same pass over memory; of weights that stand still, too. Null, false:
// nothing.
struct StepBehind {
  void* average = nullptr;          // [count] = momentum * average + (1 - momentum) * w
  double momentum = 0;              // of the average
  void* rounded = nullptr;          // [count] bf16, w rounded
  void* average_rounded = nullptr;  // [count] bf16
  bool clear = false;               // g = 0, for the next step's sums
  bool any() const { return average || rounded || clear; }
};
struct SgdArgs {  // g += decay * w; v = momentum * v + g; w -= lr * v (nesterov: w -= lr * (g + momentum * v))
  void* w;
  void* g;  // read only, but for behind.clear
  void* v;
  const Segment* segments;
  int64_t segment_count;
  double lr, momentum, decay;
  bool nesterov;
  DType dtype;
  StepBehind behind = {};
  void describe(Visitor&) const;
};
struct SgdStep {
  using Args = SgdArgs;
  static constexpr const char* name = "sgd";
  static constexpr bool varies_by_step = true;
};
struct AdamArgs {  // Kingma and Ba, ICLR 2015; decoupled: AdamW (Loshchilov and Hutter, ICLR 2019), else decay joins the gradient
  void* w;
  void* g;  // read only, but for behind.clear
  void* m;
  void* v;
  const Segment* segments;
  int64_t segment_count;
  double lr, beta1, beta2, eps, decay;
  bool decoupled;
  DType dtype;
  StepBehind behind = {};
  void describe(Visitor&) const;
};
struct AdamStep {
  using Args = AdamArgs;
  static constexpr const char* name = "adam";
  static constexpr bool varies_by_step = true;
};
struct EmaArgs {  // average = momentum * average + (1 - momentum) * w
  void* average;
  const void* w;
  int64_t count;
  double momentum;
  DType dtype;
  void describe(Visitor&) const;
};
struct EmaUpdate {
  using Args = EmaArgs;
  static constexpr const char* name = "ema_update";
  static constexpr bool varies_by_step = true;
};

}  // namespace reid
