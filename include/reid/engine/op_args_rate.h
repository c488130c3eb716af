#pragma once
// The arguments of an operation that only measures a device: see op_args.h.

#include "reid/engine/op_args.h"

namespace reid {

// The same small product again and again, to measure what a device multiplies where memory has no part in it:
//   c[t] = rounds a b for each of `tiles` tiles t, added round by round
struct RepeatedProductArgs {
  const void* a;  // [M, K]
  const void* b;  // [K, N]
  void* c;        // [tiles, M, N] wide
  int64_t tiles, m, n, k, rounds;
  DType dtype;
  void describe(Visitor&) const;
};
struct RepeatedProduct {
  using Args = RepeatedProductArgs;
  static constexpr const char* name = "repeated_product";
  // The extents that kernels take: what a block of 128 threads holds.
  static constexpr int64_t kM = 64, kN = 128;
  static constexpr int64_t depth(DType dtype) { return dtype == DType::f32 ? 2 : 64; }
};

}  // namespace reid
