#pragma once
// What the op functions check before they dispatch.

#include "reid/engine/ops.h"

namespace reid::ops {

inline void require_same_dtype(const char* op, const Tensor& a, const Tensor& b) {
  REID_CHECK(a.dtype() == b.dtype(), "[", op, "] operands of dtypes ", a.dtype(), " and ", b.dtype());
}

inline void require_alike(const char* op, const Tensor& a, const Tensor& b) {
  REID_CHECK(a.shape() == b.shape() && a.dtype() == b.dtype(), "[", op, "] operands ", a.shape(), " ", a.dtype(), " and ", b.shape(), " ",
             b.dtype(), " differ");
}

// For what is f32 beside bf16 activations.
inline void require_wide(const char* op, const char* name, const Tensor& t, const Tensor& activations) {
  REID_CHECK(t.dtype() == wide(activations.dtype()), "[", op, "] ", name, " is ", t.dtype(), ", expected ", wide(activations.dtype()),
             " beside ", activations.dtype());
}

inline void require_shape(const char* op, const char* name, const Tensor& t, const Shape& wanted) {
  REID_CHECK(t.defined() && t.shape() == wanted, "[", op, "] ", name, " is ", t.shape(), ", expected ", wanted);
}

inline void require_window(const char* op, const Tensor& x, const NormWindow& w) {
  REID_CHECK(w.groups >= 1 && w.length >= 1 && w.groups * w.length * w.channels == x.numel(), "[", op, "] x ", x.shape(), " is not ",
             w.groups, " groups of ", w.length, " rows of ", w.channels, " channels");
  REID_CHECK(w.first >= 0 && w.count >= 1 && w.first + w.count <= w.channels, "[", op, "] channels ", w.first, "..", w.first + w.count,
             " of ", w.channels);
}

}  // namespace reid::ops
