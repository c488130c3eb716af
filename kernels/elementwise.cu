// Operations on one element at a time: relu and its gradient, y = a + scale b, products, and a bias for each column.
//
// Layout: flat arrays of `count` elements; bias_add reads them as rows of `columns`.
// Map: one thread an element (scalar), or four neighbors as one 16-byte load (vec4), 256 threads a block; the last thread of vec4
// finishes what is no whole vector.
// Bytes: every input read once, the output written once: 8 (relu) or 12 bytes an element. Floor on H200 (4.3 TB/s): 1.9 and 2.8 ps an
// element. No version was measured yet.
// In place: y may be an input, since a thread writes only elements that it alone has read.

#include "kernels.h"
#include "prims.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256;

// y[i] = f(i, a[i]) or f(i, a[i], b[i])
template <class F>
struct Unary {
  const float* a;
  float* y;
  F f;
  __device__ void at(int64_t i) const { y[i] = f(i, a[i]); }
  __device__ void at_vec(int64_t i) const {
    const Vec<float> va = load_vec(a + i);
    Vec<float> vy;
    for (int j = 0; j < 4; ++j) vy[j] = f(i + j, va[j]);
    store_vec(y + i, vy);
  }
};
template <class F>
struct Binary {
  const float* a;
  const float* b;
  float* y;
  F f;
  __device__ void at(int64_t i) const { y[i] = f(a[i], b[i]); }
  __device__ void at_vec(int64_t i) const {
    const Vec<float> va = load_vec(a + i), vb = load_vec(b + i);
    Vec<float> vy;
    for (int j = 0; j < 4; ++j) vy[j] = f(va[j], vb[j]);
    store_vec(y + i, vy);
  }
};

template <class Map>
__global__ void scalar_kernel(Map map, int64_t count) {
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) map.at(i);
}

template <class Map>
__global__ void vec4_kernel(Map map, int64_t count) {
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * 4;
  if (i + 4 <= count) return map.at_vec(i);
  for (int64_t j = i; j < count; ++j) map.at(j);
}

struct Scalar {
  template <class Map>
  static void run(const Map& map, int64_t count, Stream& stream) {
    if (count > 0) launch(scalar_kernel<Map>, blocks_for(count, kThreads), kThreads, 0, stream, map, count);
  }
  static const char* refuse(DType dtype, std::initializer_list<const void*>) { return refuse_other_than_f32(dtype); }
};
struct Vec4 {
  template <class Map>
  static void run(const Map& map, int64_t count, Stream& stream) {
    if (count > 0) launch(vec4_kernel<Map>, blocks_for(count, 4 * kThreads), kThreads, 0, stream, map, count);
  }
  static const char* refuse(DType dtype, std::initializer_list<const void*> pointers) {
    if (!aligned_to_16(pointers)) return "takes arrays that start at multiples of 16 bytes";
    return refuse_other_than_f32(dtype);
  }
};

struct ReluOf {
  __device__ float operator()(int64_t, float x) const { return x < 0 ? 0 : x; }  // NaN stays NaN
};
struct ReluGradient {
  __device__ float operator()(float dy, float y) const { return y > 0 ? dy : 0; }
};
struct ScaledSum {
  float scale;
  __device__ float operator()(float a, float b) const { return a + scale * b; }
};
struct Product {
  __device__ float operator()(float a, float b) const { return a * b; }
};
struct ColumnBias {
  const float* bias;
  int64_t columns;
  __device__ float operator()(int64_t i, float x) const { return x + bias[i % columns]; }
};

template <class Access>
void relu(const ReluArgs& a, Stream& stream) {
  Access::run(Unary<ReluOf>{in<float>(a.x), out<float>(a.y), {}}, a.count, stream);
}
template <class Access>
void relu_backward(const ReluBackwardArgs& a, Stream& stream) {
  Access::run(Binary<ReluGradient>{in<float>(a.dy), in<float>(a.y), out<float>(a.dx), {}}, a.count, stream);
}
template <class Access>
void add_scaled(const AddScaledArgs& a, Stream& stream) {
  const ScaledSum sum{static_cast<float>(a.scale)};
  Access::run(Binary<ScaledSum>{in<float>(a.a), in<float>(a.b), out<float>(a.y), sum}, a.count, stream);
}
template <class Access>
void multiply(const MultiplyArgs& a, Stream& stream) {
  Access::run(Binary<Product>{in<float>(a.a), in<float>(a.b), out<float>(a.y), {}}, a.count, stream);
}
template <class Access>
void bias_add(const BiasAddArgs& a, Stream& stream) {
  const ColumnBias bias{in<float>(a.bias), a.columns};
  Access::run(Unary<ColumnBias>{in<float>(a.x), out<float>(a.y), bias}, a.rows * a.columns, stream);
}

template <class Access>
void add_all(const char* name) {
  add<Relu>(
      name,
      [](const ReluArgs& a) {
        return Access::refuse(a.dtype, {a.x, a.y});
      },
      relu<Access>);
  add<ReluBackward>(
      name,
      [](const ReluBackwardArgs& a) {
        return Access::refuse(a.dtype, {a.dy, a.y, a.dx});
      },
      relu_backward<Access>);
  add<AddScaled>(
      name,
      [](const AddScaledArgs& a) {
        return Access::refuse(a.dtype, {a.a, a.b, a.y});
      },
      add_scaled<Access>);
  add<Multiply>(
      name,
      [](const MultiplyArgs& a) {
        return Access::refuse(a.dtype, {a.a, a.b, a.y});
      },
      multiply<Access>);
  add<BiasAdd>(
      name,
      [](const BiasAddArgs& a) {
        return Access::refuse(a.dtype, {a.x, a.y});
      },
      bias_add<Access>);
}

}  // namespace

void register_elementwise() {
  add_all<Vec4>(REID_KERNEL_NAME("vec4"));
  add_all<Scalar>(REID_KERNEL_NAME("scalar"));
}

}  // namespace reid::REID_TARGET
