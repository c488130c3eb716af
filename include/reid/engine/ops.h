#pragma once
// The ops as functions on tensors: each checks shapes and dtypes, allocates its result and dispatches to the first
// implementation that accepts. Forward and backward stand together. All take f32 and f64, those before the rows of embeddings bf16 too:
// op_args.h says which of their tensors stay f32 then. Errors name the op and the shapes. Nothing here records gradients: see autograd.h.

#include <optional>

#include "reid/engine/op_args_pixels.h"
#include "reid/engine/registry.h"
#include "reid/engine/tensor.h"

namespace reid::ops {

// --- dense ---
// [M, K] x [K, N] -> [M, N]; other_sums: see ConvShape
Tensor matmul(const Tensor& a, const Tensor& b, bool transpose_a = false, bool transpose_b = false, bool other_sums = false);

struct ConvGeometry {
  int64_t stride = 1, pad = 0, dilation = 1, groups = 1;  // the same along rows and columns
  bool other_sums = false;                                // see ConvShape
  WeightCache* cache = nullptr;                           // forward: see ConvForwardArgs
  const Tensor* rounded = nullptr;                        // the filters as bf16, where they are kept: see Parameter
};
Tensor conv_forward(const Tensor& x, const Tensor& w, const ConvGeometry& g);  // [N,H,W,C], [K,R,S,C/groups] -> [N,P,Q,K]
// -> dw, or nothing where `sum` is given and the implementation adds: then it was added to that.
Tensor conv_backward_weight(const Tensor& x, const Tensor& dy, const Shape& w_shape, const ConvGeometry& g, const Tensor* sum = nullptr);

// --- 16-bit codes ---
// Rows a [M, K] and b [N, K] of codes (i16) with a scale each -> scalar products [M, N] f32, see CodeProductsArgs. Throws where a block of
// codes is too large for exact sums.
Tensor code_products(const Tensor& a, const Tensor& b, const Tensor& scale_a, const Tensor& scale_b);
bool fast_code_products();  // whether this CPU has them faster than products of f32: AVX-512 VNNI about twice, AMX three times

// --- normalization ---
struct Statistics {
  Tensor mean, variance;  // [G, count], variance biased
};
Statistics norm_statistics(const Tensor& x, const NormWindow& window);
// conv_forward and norm_statistics of one or two windows of its result y, taken on y's way to memory where the implementation can: on the
// CPU with the same bits.
struct ConvStatistics {
  Tensor y;
  std::vector<Statistics> taken;  // one for each window
};
ConvStatistics conv_statistics(const Tensor& x, const Tensor& w, const ConvGeometry& g, const std::vector<NormWindow>& windows);
Shape conv_output(const Shape& x, const Shape& w, const ConvGeometry& g);  // [N, P, Q, K]
// act(norm(conv(x, w)) + residual) with given statistics [1, K] of all channels, bit for bit as norm_apply of conv_forward; the norm is
// applied on y's way to memory where the implementation can. f32 and bf16. residual may be undefined.
Tensor conv_norm(const Tensor& x, const Tensor& w, const ConvGeometry& g, const Statistics& s, const Tensor& gamma, const Tensor& beta,
                 const Tensor& residual, double eps, bool relu);
// What a norm of a window of channels needs; see NormSlice.
struct NormOperands {
  NormWindow window;
  Statistics statistics;
  Tensor gamma, beta;        // [count]
  bool constant_statistics;  // they were given: no gradient flows through them
};
// By one norm or two, of channels that are neighbors; groups of the second are unions of groups of the first. Writes these channels of y
// only; y has x's shape. residual may be undefined.
// positive: nullable; becomes the bits of y > 0 (NormApplyArgs) where what computes y says so in passing, else undefined.
void norm_apply(const Tensor& x, const std::vector<NormOperands>& norms, const Tensor& residual, double eps, bool relu, const Tensor& y,
                Tensor* positive = nullptr);
// Moves each `running` [C] towards the mean over groups of its `seen` [G, C], in place; RunningMove says how. No two share tensors.
struct RunningStep {
  Statistics running, seen;
  double momentum, unbiased;
};
void update_running(const std::vector<RunningStep>& steps);
struct NormGradients {
  Tensor gamma, beta;  // [count]
};
// -> the gradients of each norm's parameters. Writes their channels of dx (and of dresidual, if defined). The norms' beta: undefined where
// y has a residual; else y may be told from x.
std::vector<NormGradients> norm_backward(const Tensor& dy, const Tensor& x, const Tensor& y, const std::vector<NormOperands>& norms,
                                         double eps, bool relu, const Tensor& dx, const Tensor& dresidual);

// What a data's gradient may do for the batch norm over all rows and channels, with ReLU, whose y the convolution takes: see NormSumsArgs.
struct NormBefore {
  Tensor x, positive;
  Statistics statistics;  // [1, C]
  double eps;
  NormGradients gradients = {};  // once they were taken: then the gradient of y is that of what the ReLU let through
};
// -> dx with the addend, if any, in its sums. norm: nullable; taken where the implementation can do so in passing.
Tensor conv_backward_data(const Tensor& dy, const Tensor& w, const Shape& x_shape, const ConvGeometry& g, const Tensor* addend = nullptr,
                          NormBefore* norm = nullptr);
// What is left of norm_backward then: d -> dx
Tensor norm_gradient(const Tensor& d, const NormBefore& norm, const Tensor& gamma, bool constant_statistics);

// --- pointwise ---
Tensor relu(const Tensor& x);
Tensor relu_backward(const Tensor& dy, const Tensor& y);
Tensor add(const Tensor& a, const Tensor& b, double scale = 1);     // a + scale * b
void add_into(const Tensor& a, const Tensor& b, double scale = 1);  // a += scale * b
// a += b for pairs (a, b) of which no two a share elements: on an accelerator, many small ones at once.
void add_pairs(const std::vector<std::pair<Tensor, Tensor>>& pairs);
Tensor scale(const Tensor& x, double factor);
Tensor scale(const Tensor& x, const Tensor& scalar, double factor = 1);  // x * (factor * scalar); on an accelerator nobody waits for it
Tensor multiply(const Tensor& a, const Tensor& b);
Tensor bias_add(const Tensor& x, const Tensor& bias);  // [B, D] + [D]
Tensor column_sum(const Tensor& x);                    // [B, D] -> [D]
Tensor cast(const Tensor& x, DType dtype);             // f32, f64 or bf16; itself when nothing changes

// --- pooling ---
struct PoolGeometry {
  int64_t kernel = 3, stride = 2, pad = 1;
  bool ceil = false;
};
struct MaxPooled {
  Tensor y, index;  // [N,P,Q,C], i32
};
MaxPooled max_pool(const Tensor& x, const PoolGeometry& g);
Tensor max_pool_backward(const Tensor& dy, const Tensor& index, const Shape& x_shape, const PoolGeometry& g);
Tensor global_average_pool(const Tensor& x);  // [N,H,W,C] -> [N,C]
Tensor global_average_pool_backward(const Tensor& dy, const Shape& x_shape);
Tensor gem_pool(const Tensor& x, const Tensor& p, double eps = 1e-6);  // p [1]
struct GemGradients {
  Tensor x, p;
};
GemGradients gem_pool_backward(const Tensor& dy, const Tensor& x, const Tensor& p, const Tensor& y, double eps = 1e-6);

Tensor stripe_pool(const Tensor& x, int64_t stripes);  // [N,H,W,C] -> [stripes N, C]
Tensor stripe_pool_backward(const Tensor& dy, const Shape& x_shape, int64_t stripes);

// --- attention ---
Tensor non_local(const Tensor& theta, const Tensor& phi, const Tensor& g);  // [N,H,W,D] each -> [N,H,W,D]
struct NonLocalGradients {
  Tensor theta, phi, g;
};
NonLocalGradients non_local_backward(const Tensor& dy, const Tensor& theta, const Tensor& phi, const Tensor& g);

// --- images ---
// Views [N, H, W, 3] f32, f64 or bf16 of images x u8 [N, H, W, 3], all on one device: see ViewsFromPixelsArgs. A row of views (i32 [N, 7])
// is a PixelView. Equal, bit for bit, to weak_view and to what augmented_view does beside blur and colors (people/transform.h).
Tensor views_from_pixels(const Tensor& x, const Tensor& views, const PixelColors& colors, DType dtype = DType::f32);
Tensor color_pixels(const Tensor& x, const Tensor& changes);  // u8 [N, H, W, 3], i32 [N, 12 + weights] -> u8: see ColorPixelsArgs
Tensor mirror(const Tensor& x);                               // [N, H, W, C]: left and right exchanged

// --- rows of embeddings ---
struct Normalized {
  Tensor y, norm;  // [B, D] unit rows, [B] their lengths before
};
Normalized l2_normalize(const Tensor& x, double eps = 1e-12);
Tensor l2_normalize_backward(const Tensor& dy, const Tensor& y, const Tensor& norm, double eps = 1e-12);

struct RowLoss {
  Tensor loss, ds;  // [B] weighted losses; [B, M] their gradient with respect to the similarities
};
RowLoss one_positive_rows(const Tensor& s, const Tensor& mask, const Tensor& tau, const Tensor& weight);  // mask u8 [B, M]
// [B, M] similarities, u8 mask of kPositive and kNegative -> the mask with the `count` hardest negatives of each row, see op_args_rows.h.
Tensor hardest_negatives(const Tensor& s, const Tensor& mask, int64_t count);
// [B, C] logits, i32 [B] labels -> f64 [1], see TopShareArgs.
Tensor top_share(const Tensor& logits, const Tensor& labels);
// Changes c [K, D] by the rows of f [B, D], whose labels i32 [B] are below K.
void memory_update(const Tensor& c, const Tensor& f, const Tensor& labels, double momentum, MemoryRule rule);
// positives: a mask, u8 [B, M], or i32 [B], the column of each row's one positive: all others are negatives then.
RowLoss softmax_rows(const Tensor& s, const Tensor& positives, const Tensor& tau, const Tensor& weight, double smoothing = 0);

// What each row x_i of centroid_rows is held against, all [B]. Its positives are the columns with its label among first[i], ...,
// end[i] - 1, its negatives the others among these; 0 <= first <= end <= M, which is for the caller to see to.
struct CentroidRowSettings {
  Tensor label, first, end;  // i32
  Tensor tau, weight;        // wide: as in softmax_rows
};
struct CentroidRowLoss {
  Tensor loss, dx;  // [B] weighted losses; [B, D] their gradient with respect to x; both wide
};
// softmax_rows of s = x c^T with x [B, D] and c [M, D], in f32, f64 or bf16: no mask, and only part of s at a time when M is large. A
// column's label is column_label (i32 [M]) or, where that is undefined, its number.
CentroidRowLoss centroid_rows(const Tensor& x, const Tensor& c, const CentroidRowSettings& rows, const Tensor& column_label = {},
                              double smoothing = 0);

// --- k-reciprocal encodings: see op_args_jaccard.h. index: lists i32 [N, width]; a set among itself ---
struct SparseRows {
  Tensor offset, column, value;  // i64 [N + 1], i32 and f64 [entries]: of row i those from offset[i] on, columns ascending
};
struct ReciprocalSets {
  Tensor member, joins;  // u8 [N, full]
  int64_t half;
};
ReciprocalSets reciprocal_members(const Tensor& index, int64_t full, int64_t half);
// x [N, D] f32 or f64, scale f64 [N], distance f64 [N, width]; largest f64 [N], or undefined. Waits for the number of entries, as mean_rows
// does.
SparseRows reciprocal_rows(const Tensor& x, const Tensor& scale, const Tensor& index, const Tensor& distance, const ReciprocalSets& sets,
                           const Tensor& largest = {}, int power = 2);
SparseRows mean_rows(const SparseRows& rows, const Tensor& index, int64_t terms);
SparseRows transpose_rows(const SparseRows& rows);
struct RowsWithin {
  Tensor count, found, distance;  // i32 [rows], i32 and f64 [rows, capacity]; where count is above capacity the last are missing
};
// Of rows [first, end), columns from first_column on; distances where they are wanted.
RowsWithin jaccard_within(const SparseRows& v, const SparseRows& inverse, int64_t first, int64_t end, double radius, int64_t capacity,
                          int64_t first_column = 0, bool distances = false);

// --- metric learning ---
Tensor row_distances(const Tensor& x, const Tensor& y, double floor = 1e-12);  // [M, K], [N, K] -> [M, N]; the floor is of the square
struct PairGradients {
  Tensor x, y;
};
PairGradients row_distances_backward(const Tensor& dd, const Tensor& x, const Tensor& y, const Tensor& d, double floor = 1e-12);
RowLoss triplet_rows(const Tensor& d, const Tensor& mask, const Tensor& weight, double margin, bool weighted);  // ds is dd
struct CircleLogitsResult {
  Tensor y, slope;  // [B, C]
};
CircleLogitsResult circle_logits(const Tensor& s, const Tensor& label, double scale, double margin);  // label i32 [B]

Tensor softmax(const Tensor& s);  // [B, C] -> [B, C], by rows
// Of distributions q [B, C], which give the dtype; share [2 + q's, B] f64, label [B] i32 with values in 0..columns - 1: see
// MixedTargetsArgs.
Tensor mixed_targets(const std::vector<Tensor>& q, const Tensor& share, const Tensor& label, int64_t columns, DType dtype);
RowLoss soft_target_rows(const Tensor& s, const Tensor& target, const Tensor& weight);  // target [B, C]

Tensor sum(const Tensor& x);  // all elements, in index order, to a scalar of shape []

}  // namespace reid::ops
