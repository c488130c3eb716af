#pragma once
// The arguments of the operations that pool maps or relate their pixels: see op_args.h.

#include "reid/engine/op_args.h"

namespace reid {

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
  const void* p;  // [1] wide, or null
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
  const void* p;  // [1] wide, or null
  const void* y;
  void* dx;
  void* dp;  // [1] wide; null when p is
  int64_t n, length, c;
  double eps;
  DType dtype;
  void describe(Visitor&) const;
};
struct GlobalPoolBackward {
  using Args = GlobalPoolBackwardArgs;
  static constexpr const char* name = "global_pool_backward";
};
// Means over horizontal stripes of maps, stripe k covering the rows floor(k H / S) up to ceil((k + 1) H / S), as PyTorch's adaptive
// average pooling cuts them (neighbors share a row where S does not divide H). The stripes' blocks of N rows follow one another.
struct StripePoolArgs {
  const void* x;  // [N, H, W, C]
  void* y;        // [S N, C]
  int64_t n, height, width, c, stripes;
  DType dtype;
  void describe(Visitor&) const;
};
struct StripePool {
  using Args = StripePoolArgs;
  static constexpr const char* name = "stripe_pool";
};
struct StripePoolBackwardArgs {
  const void* dy;  // [S N, C]
  void* dx;        // [N, H, W, C]
  int64_t n, height, width, c, stripes;
  DType dtype;
  void describe(Visitor&) const;
};
struct StripePoolBackward {
  using Args = StripePoolBackwardArgs;
  static constexpr const char* name = "stripe_pool_backward";
};
// A stripe's rows of a map: [begin, end).
struct StripeRows {
  int64_t begin, end;
};
inline StripeRows stripe_rows(int64_t stripe, int64_t stripes, int64_t height) {
  return {stripe * height / stripes, ((stripe + 1) * height + stripes - 1) / stripes};
}
// A non-local block's core by dot products (Wang et al., CVPR 2018), over the L pixels of each map:
//   y[i] = (1 / L) sum over j of (theta[i] . phi[j]) g[j] = (1 / L) theta[i] M,   M = sum over j of phi[j] g[j]^T
// M is [D, D] for each image, so that no L x L matrix arises. Backward, with dM = (1 / L) sum over i of theta[i] dy[i]^T:
//   dtheta[i] = (1 / L) M dy[i],   dphi[j] = dM g[j],   dg[j] = dM^T phi[j]
struct NonLocalArgs {
  const void* theta;  // [N, L, D]
  const void* phi;    // [N, L, D]
  const void* g;      // [N, L, D]
  void* y;            // [N, L, D]
  int64_t n, length, d;
  DType dtype;
  void describe(Visitor&) const;
};
struct NonLocal {
  using Args = NonLocalArgs;
  static constexpr const char* name = "non_local";
};
struct NonLocalBackwardArgs {
  const void* dy;  // [N, L, D], as all of these
  const void* theta;
  const void* phi;
  const void* g;
  void* dtheta;
  void* dphi;
  void* dg;
  int64_t n, length, d;
  DType dtype;
  void describe(Visitor&) const;
};
struct NonLocalBackward {
  using Args = NonLocalBackwardArgs;
  static constexpr const char* name = "non_local_backward";
};

}  // namespace reid
