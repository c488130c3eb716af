#pragma once
// The arguments of every operation: plain pointers and sizes, which describe themselves. Products, norms, convolutions and what is done
// element by element are here, pools in op_args_vision.h, rows of embeddings and flat buffers in op_args_rows.h.
//
// `dtype` is that of the activations (x, y, a residual and their gradients), of filters and of the factors of a product. With bf16 what
// stands beside a pointer as `wide` is f32 (wide(dtype) in base.h): sums, statistics, the parameters of norms, poolings and biases, and
// the gradients of all parameters. Sums are then taken in f32 or wider and every bf16 element is rounded once.

#include <cstdint>
#include <string_view>

#include "reid/engine/base.h"

namespace reid {

class WeightCache;  // weight_cache.h

// Reads an op's arguments one by one: problem lines, traces, byte counts.
class Visitor {
 public:
  virtual ~Visitor() = default;
  virtual void input(const char* name, const void* data, const Shape& shape, DType dtype) = 0;
  virtual void output(const char* name, void* data, const Shape& shape, DType dtype) = 0;
  virtual void attribute(const char* name, double value) = 0;
};

// --- dense ---

// c = op(a) op(b), or c += with accumulate; c is wide. op(a) is [M, K], op(b) [K, N], all row-major; transposed operands are stored [K, M],
// [N, K]. Every element sums over k in one fixed order, so a row of c does not depend on the other rows of a.
struct GemmArgs {
  const void* a;
  const void* b;
  void* c;
  int64_t m, n, k;
  bool transpose_a = false, transpose_b = false, accumulate = false, other_sums = false;  // the last: see ConvShape
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

// --- normalization: batch norm, instance norm and groups of images differ only in which rows share statistics ---

// x is [G, L, C]: G groups of L rows (pixels) share statistics per channel. Batch norm: G = 1, L = N*H*W; instance norm: G = N,
// L = H*W. Only channels [first, first + count) are touched, so that IBN runs two norms on one tensor; statistics and
// affine parameters have `count` columns.
struct NormWindow {
  int64_t groups, length, channels, first, count;
};
struct NormStatisticsArgs {
  const void* x;
  void* mean;      // [G, count] wide
  void* variance;  // [G, count] wide, biased (divided by L); from (x - mean), not from squares, unless a library's loose ones are allowed
  NormWindow window;
  DType dtype;
  void describe(Visitor&) const;
};
struct NormStatistics {
  using Args = NormStatisticsArgs;
  static constexpr const char* name = "norm_statistics";
};
// What one norm of a map needs beside the map. count 0: there is none.
struct NormSlice {
  NormWindow window;
  const void* mean;      // [G, count] wide
  const void* variance;  // [G, count] wide
  const void* gamma;     // [count] wide
  const void* beta;      // [count] wide
};
// y = act((x - mean) / sqrt(variance + eps) * gamma + beta + residual), in the channels of one norm or of two, as in IBN. Two are of
// neighboring channels, and groups of the second are unions of groups of the first.
struct NormApplyArgs {
  const void* x;
  NormSlice slices[2];
  const void* residual;  // nullable, laid out like x
  void* y;               // laid out like x; may be x
  double eps;
  bool relu;
  DType dtype;
  void* positive = nullptr;  // nullable: [G L, C / 8] u8, for channels in eights; bit c % 8 of byte c / 8 of a row: y > 0
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
  const void* y;        // read only with relu
  NormSlice slices[2];  // beta null, in both: y may be made of more than x. Else y is what NormApply made of x, and may be told from it
  void* dx;             // laid out like x; may be dy
  void* dresidual;      // nullable
  void* dgamma;         // [count] wide, of the first slice, then of the second
  void* dbeta;          // as dgamma
  double eps;
  bool relu;
  bool constant_statistics[2];  // of each slice: they were given (running ones), and no gradient flows through them
  DType dtype;
  void describe(Visitor&) const;
};
struct NormBackward {
  using Args = NormBackwardArgs;
  static constexpr const char* name = "norm_backward";
};

// The second half of norm_backward, where somebody made the first (NormSumsArgs): dx from d, the gradient that the ReLU let through.
struct NormGradientArgs {
  const void* d;  // [L, C], as x and dx
  const void* x;
  const void *mean, *variance, *gamma;  // [C] wide
  const void *dgamma, *dbeta;           // [C] wide: sums of d z and of d
  void* dx;                             // may be d
  int64_t length, channels;
  double eps;
  bool constant_statistics;
  DType dtype;
  void describe(Visitor&) const;
};
struct NormGradient {
  using Args = NormGradientArgs;
  static constexpr const char* name = "norm_gradient";
};
// The first half, of a batch norm over all rows and channels: what is read and found on the way of dy to memory.
struct NormSumsArgs {
  const void* x = nullptr;      // of the norm; null: nothing is wanted
  const void* positive;         // where the norm and its ReLU made more than 0 (NormApplyArgs): dy becomes d, which is 0 elsewhere
  const void *mean, *variance;  // [C] wide
  void *dgamma, *dbeta;         // [C] wide
  double eps;
};

// norm_apply of one group and all channels on the way of x to memory.
struct NormFinishArgs {
  const void* mean = nullptr;           // [C] wide; null: nothing is wanted
  const void *variance, *gamma, *beta;  // [C] wide
  const void* residual;                 // nullable, laid out like the result
  double eps;
  bool relu;
};

// --- convolution ---

struct ConvShape {
  int64_t n, h, w, c, k;  // batch, input rows and columns, input and output channels
  int64_t r, s;           // filter rows and columns
  int64_t stride[2] = {1, 1}, pad[2] = {0, 0}, dilation[2] = {1, 1};
  int64_t groups = 1;
  bool other_sums = false;  // may be computed by other sums than the definition's (minimal filtering, floats in parts): a little less exact
  int64_t p() const { return (h + 2 * pad[0] - dilation[0] * (r - 1) - 1) / stride[0] + 1; }  // output rows
  int64_t q() const { return (w + 2 * pad[1] - dilation[1] * (s - 1) - 1) / stride[1] + 1; }  // output columns
};
struct ConvForwardArgs {
  const void* x;  // [N, H, W, C]
  const void* w;  // [K, R, S, C/groups]
  void* y;        // [N, P, Q, K]
  ConvShape shape;
  DType dtype;
  WeightCache* cache = nullptr;  // where what is made of w may be kept; null: it is made at every call
  // Statistics that are taken of y on its way to memory: windows whose x is y; null: none. Two for IBN.
  NormStatisticsArgs statistics[2] = {};
  NormFinishArgs finish = {};  // what is then made of y, which is rounded before, as if norm_apply did it
  NormApplyArgs finishing() const;
  void describe(Visitor&) const;
};
// Why kernels that do nothing with y beside writing it cannot compute this, or null.
template <class Args>
const char* refuse_behind(const Args& a) {
  if constexpr (requires { a.finish; }) return a.finish.mean ? "finishes nothing" : a.statistics[0].x ? "takes no statistics" : nullptr;
  return nullptr;
}
template <class Args>
const char* refuse_sums(const Args& a) {
  if constexpr (requires { a.norm; }) return a.norm.x ? "takes no sums of a norm's" : nullptr;
  return nullptr;
}
template <class Args>
const char* refuse_addend(const Args& a) {
  if constexpr (requires { a.addend; }) return a.addend ? "adds nothing" : refuse_sums(a);
  if constexpr (requires { a.accumulate; }) return a.accumulate ? "adds nothing" : nullptr;
  return nullptr;
}
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
  const void* addend = nullptr;  // laid out like dx, added to its sums before they are rounded; null: nothing is
  NormSumsArgs norm = {};        // that made the convolution's x, of which dx with the addend is dy: dx becomes d
  void describe(Visitor&) const;
};
struct ConvBackwardData {
  using Args = ConvBackwardDataArgs;
  static constexpr const char* name = "conv_backward_data";
};
struct ConvBackwardWeightArgs {
  const void* x;
  const void* dy;
  void* dw;  // wide
  ConvShape shape;
  DType dtype;
  bool accumulate = false;  // dw +=
  void describe(Visitor&) const;
};
struct ConvBackwardWeight {
  using Args = ConvBackwardWeightArgs;
  static constexpr const char* name = "conv_backward_weight";
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
struct MultiplyArgs {  // y = a b, element by element
  const void* a;
  const void* b;
  void* y;
  int64_t count;
  DType dtype;
  void describe(Visitor&) const;
};
struct Multiply {
  using Args = MultiplyArgs;
  static constexpr const char* name = "multiply";
};
struct BiasAddArgs {  // y[b, d] = x[b, d] + bias[d]; y may be x
  const void* x;
  const void* bias;  // wide
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
  void* y;  // wide
  int64_t rows, columns;
  DType dtype;
  void describe(Visitor&) const;
};
struct ColumnSum {
  using Args = ColumnSumArgs;
  static constexpr const char* name = "column_sum";
};

// From one floating type to another, rounded to nearest.
struct CastArgs {
  const void* x;
  void* y;
  int64_t count;
  DType from, to;
  void describe(Visitor&) const;
};
struct Cast {
  using Args = CastArgs;
  static constexpr const char* name = "cast";
};

}  // namespace reid
