#pragma once
// Convolutions to describe to the played libraries, and the functions by which tests reach into these.

#include "harness.h"

#include <dlfcn.h>

#include "backends/played.h"

namespace reid::test {

inline ConvShape shape_of(int64_t n, int64_t h, int64_t w, int64_t c, int64_t k, int64_t r, int64_t stride, int64_t pad,
                          int64_t groups = 1) {
  ConvShape s{.n = n, .h = h, .w = w, .c = c, .k = k, .r = r, .s = r};
  s.stride[0] = s.stride[1] = stride, s.pad[0] = s.pad[1] = pad, s.groups = groups;
  return s;
}

// Memory and arguments of a convolution's three passes on the CPU.
struct Pass {
  ConvShape shape;
  DType dtype;
  Tensor x, w, y, dw;
  explicit Pass(const ConvShape& s, DType type = DType::f32) : shape(s), dtype(type) {
    x = normal_tensor("x", {s.n, s.h, s.w, s.c}, type), w = normal_tensor("w", {s.k, s.r, s.s, s.c / s.groups}, type);
    y = normal_tensor("y", {s.n, s.p(), s.q(), s.k}, type), dw = Tensor::zeros(w.shape(), wide(type));
  }
  ConvForwardArgs forward() const { return {x.raw(), w.raw(), y.raw(), shape, dtype}; }
  ConvBackwardDataArgs data() const { return {y.raw(), w.raw(), x.raw(), shape, dtype}; }
  ConvBackwardWeightArgs weight() const { return {x.raw(), y.raw(), dw.raw(), shape, dtype}; }
};

template <class Function>
Function* played(const char* file, const char* name) {
  return reinterpret_cast<Function*>(dlsym(dlopen(file, RTLD_NOW | RTLD_LOCAL), name));
}

}  // namespace reid::test
