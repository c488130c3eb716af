#pragma once
// What each op takes, and the ordered lists of functions that can compute it.
//
// Design: an op is a name and a struct of plain pointers and sizes that describes itself. An implementation is a function and
// a condition. The first implementation of the device's list that accepts the arguments runs; the reference, which accepts
// everything of its dtypes, stands last. Kernels and backends include this header and device.h, never the tensor class.
// Letters: N,H,W,C activations; K,R,S,C filters; P,Q output rows and columns; B rows, D features.

#include <string>
#include <string_view>
#include <vector>

#include "reid/engine/base.h"
#include "reid/engine/device.h"

namespace reid {

// Reads an op's arguments one by one: problem lines, traces, byte counts.
class Visitor {
 public:
  virtual ~Visitor() = default;
  virtual void input(const char* name, const void* data, const Shape& shape, DType dtype) = 0;
  virtual void output(const char* name, void* data, const Shape& shape, DType dtype) = 0;
  virtual void attribute(const char* name, double value) = 0;
};

// --- dense ---

// c = op(a) op(b), or c += with accumulate. op(a) is [M, K], op(b) [K, N], all row-major; transposed operands are stored [K, M], [N, K].
// Every element sums over k in one fixed order, so a row of c does not depend on the other rows of a.
struct GemmArgs {
  const void* a;
  const void* b;
  void* c;
  int64_t m, n, k;
  bool transpose_a = false, transpose_b = false, accumulate = false;
  DType dtype;
  void describe(Visitor&) const;
};
struct Gemm {
  using Args = GemmArgs;
  static constexpr const char* name = "matmul";
};

// Scalar products of rows of 16-bit codes with a scale for each row:
//   c[i, j] = (scale_a[i] scale_b[j]) sum over blocks of kCodeBlock codes of float(sum over the block of a[i, k] b[j, k])
// A block's sum is exact, the blocks are added in order in f32. The squares of a row's block must not add up to 2^31 or more: then no
// sum of a block leaves 32 bits (Cauchy-Schwarz), whatever the other row.
inline constexpr int64_t kCodeBlock = 64;
struct CodeProductsArgs {
  const int16_t* a;      // [M, K]
  const int16_t* b;      // [N, K]
  const float* scale_a;  // [M]
  const float* scale_b;  // [N]
  float* c;              // [M, N]
  int64_t m, n, k;
  void describe(Visitor&) const;
};
struct CodeProducts {
  using Args = CodeProductsArgs;
  static constexpr const char* name = "code_products";
};

struct ConvShape {
  int64_t n, h, w, c, k;  // batch, input rows and columns, input and output channels
  int64_t r, s;           // filter rows and columns
  int64_t stride[2] = {1, 1}, pad[2] = {0, 0}, dilation[2] = {1, 1};
  int64_t groups = 1;
  int64_t p() const { return (h + 2 * pad[0] - dilation[0] * (r - 1) - 1) / stride[0] + 1; }  // output rows
  int64_t q() const { return (w + 2 * pad[1] - dilation[1] * (s - 1) - 1) / stride[1] + 1; }  // output columns
};
struct ConvForwardArgs {
  const void* x;  // [N, H, W, C]
  const void* w;  // [K, R, S, C/groups]
  void* y;        // [N, P, Q, K]
  ConvShape shape;
  DType dtype;
  void describe(Visitor&) const;
};
struct ConvForward {
  using Args = ConvForwardArgs;
  static constexpr const char* name = "conv_forward";
};
struct ConvBackwardDataArgs {
  const void* dy;
  const void* w;
  void* dx;
  ConvShape shape;
  DType dtype;
  void describe(Visitor&) const;
};
struct ConvBackwardData {
  using Args = ConvBackwardDataArgs;
  static constexpr const char* name = "conv_backward_data";
};
struct ConvBackwardWeightArgs {
  const void* x;
  const void* dy;
  void* dw;
  ConvShape shape;
  DType dtype;
  void describe(Visitor&) const;
};
struct ConvBackwardWeight {
  using Args = ConvBackwardWeightArgs;
  static constexpr const char* name = "conv_backward_weight";
};

// --- normalization: batch norm, instance norm and groups of images differ only in which rows share statistics ---

// x is [G, L, C]: G groups of L rows (pixels) share statistics per channel. Batch norm: G = 1, L = N*H*W; instance norm: G = N,
// L = H*W. Only channels [first, first + count) are touched, so that IBN runs two norms on one tensor; statistics and
// affine parameters have `count` columns.
struct NormWindow {
  int64_t groups, length, channels, first, count;
};
struct NormStatisticsArgs {
  const void* x;
  void* mean;      // [G, count]
  void* variance;  // [G, count], biased (divided by L); computed from (x - mean), not from squares
  NormWindow window;
  DType dtype;
  void describe(Visitor&) const;
};
struct NormStatistics {
  using Args = NormStatisticsArgs;
  static constexpr const char* name = "norm_statistics";
};
// y = act((x - mean) / sqrt(variance + eps) * gamma + beta + residual)
struct NormApplyArgs {
  const void* x;
  const void* mean;      // [G, count]
  const void* variance;  // [G, count]
  const void* gamma;     // [count]
  const void* beta;      // [count]
  const void* residual;  // nullable, laid out like x
  void* y;               // laid out like x; may be x
  NormWindow window;
  double eps;
  bool relu;
  DType dtype;
  void describe(Visitor&) const;
};
struct NormApply {
  using Args = NormApplyArgs;
  static constexpr const char* name = "norm_apply";
};
// Gradients of norm_apply. With relu, dy is masked by y > 0 first; the masked dy is also the residual's gradient.
struct NormBackwardArgs {
  const void* dy;
  const void* x;
  const void* y;  // read only with relu
  const void* mean;
  const void* variance;
  const void* gamma;
  void* dx;         // laid out like x; may be dy
  void* dresidual;  // nullable
  void* dgamma;     // [count]
  void* dbeta;      // [count]
  NormWindow window;
  double eps;
  bool relu;
  bool constant_statistics;  // statistics were given (running ones): no gradient flows through them
  DType dtype;
  void describe(Visitor&) const;
};
struct NormBackward {
  using Args = NormBackwardArgs;
  static constexpr const char* name = "norm_backward";
};

// --- pointwise ---

struct ReluArgs {
  const void* x;
  void* y;
  int64_t count;
  DType dtype;
  void describe(Visitor&) const;
};
struct Relu {
  using Args = ReluArgs;
  static constexpr const char* name = "relu";
};
struct ReluBackwardArgs {
  const void* dy;
  const void* y;
  void* dx;  // dy where y > 0
  int64_t count;
  DType dtype;
  void describe(Visitor&) const;
};
struct ReluBackward {
  using Args = ReluBackwardArgs;
  static constexpr const char* name = "relu_backward";
};
struct AddScaledArgs {  // y = a + scale * b; y may be a or b
  const void* a;
  const void* b;
  void* y;
  double scale;
  int64_t count;
  DType dtype;
  void describe(Visitor&) const;
};
struct AddScaled {
  using Args = AddScaledArgs;
  static constexpr const char* name = "add_scaled";
};
struct BiasAddArgs {  // y[b, d] = x[b, d] + bias[d]; y may be x
  const void* x;
  const void* bias;
  void* y;
  int64_t rows, columns;
  DType dtype;
  void describe(Visitor&) const;
};
struct BiasAdd {
  using Args = BiasAddArgs;
  static constexpr const char* name = "bias_add";
};
struct ColumnSumArgs {  // y[d] = sum_b x[b, d]
  const void* x;
  void* y;
  int64_t rows, columns;
  DType dtype;
  void describe(Visitor&) const;
};
struct ColumnSum {
  using Args = ColumnSumArgs;
  static constexpr const char* name = "column_sum";
};

// --- pooling ---

struct PoolShape {
  int64_t n, h, w, c;
  int64_t kernel, stride, pad;
  bool ceil;  // Caffe's convention: partial windows at the far edge count
  int64_t out(int64_t extent) const;
};
struct MaxPoolArgs {
  const void* x;   // [N, H, W, C]
  void* y;         // [N, P, Q, C]
  int32_t* index;  // [N, P, Q, C] h * W + w of the maximum, the first on ties
  PoolShape shape;
  DType dtype;
  void describe(Visitor&) const;
};
struct MaxPool {
  using Args = MaxPoolArgs;
  static constexpr const char* name = "max_pool";
};
struct MaxPoolBackwardArgs {
  const void* dy;
  const int32_t* index;
  void* dx;
  PoolShape shape;
  DType dtype;
  void describe(Visitor&) const;
};
struct MaxPoolBackward {
  using Args = MaxPoolBackwardArgs;
  static constexpr const char* name = "max_pool_backward";
};
// Generalized mean (Radenovic et al., TPAMI 2019) over L pixels: y = (mean_l max(x, eps)^p)^(1/p). Without `p` (null): the plain mean.
struct GlobalPoolArgs {
  const void* x;  // [N, L, C]
  const void* p;  // [1] or null
  void* y;        // [N, C]
  int64_t n, length, c;
  double eps;
  DType dtype;
  void describe(Visitor&) const;
};
struct GlobalPool {
  using Args = GlobalPoolArgs;
  static constexpr const char* name = "global_pool";
};
struct GlobalPoolBackwardArgs {
  const void* dy;  // [N, C]
  const void* x;
  const void* p;
  const void* y;
  void* dx;
  void* dp;  // [1]; null when p is
  int64_t n, length, c;
  double eps;
  DType dtype;
  void describe(Visitor&) const;
};
struct GlobalPoolBackward {
  using Args = GlobalPoolBackwardArgs;
  static constexpr const char* name = "global_pool_backward";
};

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
struct SoftmaxRowsArgs {
  const void* s;
  const uint8_t* mask;
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

// --- flat parameter buffers ---

// A run of elements of a flat buffer that shares settings.
struct Segment {
  int64_t offset, count;
  double lr_factor = 1, decay_factor = 1;
  bool trainable = true;
};
struct SgdArgs {  // g += decay * w; v = momentum * v + g; w -= lr * v (nesterov: w -= lr * (g + momentum * v))
  void* w;
  const void* g;
  void* v;
  const Segment* segments;
  int64_t segment_count;
  double lr, momentum, decay;
  bool nesterov;
  DType dtype;
  void describe(Visitor&) const;
};
struct SgdStep {
  using Args = SgdArgs;
  static constexpr const char* name = "sgd";
};
struct AdamArgs {  // Kingma and Ba, ICLR 2015; decoupled: AdamW (Loshchilov and Hutter, ICLR 2019), else decay joins the gradient
  void* w;
  const void* g;
  void* m;
  void* v;
  const Segment* segments;
  int64_t segment_count;
  double lr, beta1, beta2, eps, decay;
  int64_t step;  // 1 for the first update
  bool decoupled;
  DType dtype;
  void describe(Visitor&) const;
};
struct AdamStep {
  using Args = AdamArgs;
  static constexpr const char* name = "adam";
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
};

// --- the lists ---

template <class Op>
struct Impl {
  const char* name;                                  // "reference", "packed_gemm"
  const char* (*refuses)(const typename Op::Args&);  // null = accepts, else the reason; the reference accepts every shape
  void (*run)(const typename Op::Args&, Stream&);
};

struct OpInfo {
  const char* name;
  std::vector<std::string> implementations;  // in order of preference on the CPU
};

// Filled once by initialize(); reading is safe from several threads.
class Registry {
 public:
  // Order of calls = order of preference.
  template <class Op>
  static void add(DeviceType device, Impl<Op> impl) {
    list<Op>(device).push_back(impl);
    note(Op::name, device, impl.name);
  }
  template <class Op>
  static const std::vector<Impl<Op>>& implementations(DeviceType device) {
    return list<Op>(device);
  }
  // The first that accepts, or the one forced by REID_IMPL=op=name[,op=name] or force(). Throws when none accepts, with all the reasons.
  template <class Op>
  static const Impl<Op>& pick(DeviceType device, const typename Op::Args& args);
  static void force(std::string op, std::string implementation);  // empty implementation: no longer forced
  static std::vector<OpInfo> ops();

 private:
  template <class Op>
  static std::vector<Impl<Op>>& list(DeviceType device) {
    static std::vector<Impl<Op>> lists[2];
    return lists[static_cast<size_t>(device)];
  }
  static void note(const char* op, DeviceType device, const char* implementation);
  static std::string forced(const char* op);  // empty: none
};

void initialize();  // fills the registry; safe to call often and from several threads

bool trace_enabled();  // REID_LOG=dispatch
void trace_line(const char* op, const char* implementation, const std::string& problem);
void trace_to(std::vector<std::string>* lines);  // collects trace lines of this thread; null stops

// The arguments as one line: "x[2,8,4,64] w[128,3,3,64] stride_h=1 ... f32".
template <class Args>
std::string problem_line(const Args& args);
class LineVisitor final : public Visitor {
 public:
  void input(const char* name, const void* data, const Shape& shape, DType dtype) override;
  void output(const char*, void*, const Shape&, DType) override {}
  void attribute(const char* name, double value) override;
  std::string line;
};
template <class Args>
std::string problem_line(const Args& args) {
  LineVisitor visitor;
  args.describe(visitor);
  return visitor.line;
}

template <class Op>
const Impl<Op>& Registry::pick(DeviceType device, const typename Op::Args& args) {
  initialize();
  const std::string wanted = forced(Op::name);
  std::string reasons;
  for (const Impl<Op>& impl : list<Op>(device)) {
    if (!wanted.empty() && wanted != impl.name) continue;
    const char* reason = impl.refuses ? impl.refuses(args) : nullptr;
    if (!reason) return impl;
    reasons += str(reasons.empty() ? "" : "; ", impl.name, ": ", reason);
  }
  if (reasons.empty()) reasons = wanted.empty() ? "none is registered" : "no implementation is named " + wanted;
  fail(str("[", Op::name, "] no implementation takes ", problem_line(args), " (", reasons, ")"));
}

template <class Op>
void dispatch(Device device, const typename Op::Args& args) {
  const Impl<Op>& impl = Registry::pick<Op>(device.type, args);
  if (trace_enabled()) trace_line(Op::name, impl.name, problem_line(args));
  impl.run(args, current_stream(device));
}

// Defined by the backends, called by initialize().
void register_cpu();
void register_cuda();  // adds nothing in a build without CUDA

}  // namespace reid
