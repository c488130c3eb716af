// Operations on one element at a time: relu and its gradient, y = a + scale b, products, a bias for each column, casts.
//
// Layout: flat arrays of `count` elements; bias_add reads them as rows of `columns`.
// Types: f32 and bf16, computed in float; biases are f32.
// Map: one thread an element (scalars), or 16 bytes of neighbors as one load (vectors), 256 threads a block; the last thread of
// `vectors` finishes what is no whole vector.
// Bytes: every input read once, the output written once: 8 (relu) or 12 bytes an element in f32, half in bf16. Floor on H200 (4.3
// TB/s): 1.9 and 2.8 ps an element in f32. No version was measured yet.
// In place: y may be an input, since a thread writes only elements that it alone has read.

#include "kernels.h"
#include "prims.cuh"

namespace reid::REID_TARGET {

namespace {

constexpr int kThreads = 256;

// y[i] = f(i, a[i]) or f(a[i], b[i]), computed in float
template <class T, class F>
struct Unary {
  using Element = T;
  const T* a;
  T* y;
  F f;
  __device__ void at(int64_t i) const { y[i] = from_float<T>(f(i, to_float(a[i]))); }
  __device__ void at_vec(int64_t i) const {
    const Vec<T> va = load_vec(a + i);
    Vec<T> vy;
    for (int j = 0; j < Vec<T>::kCount; ++j) vy[j] = from_float<T>(f(i + j, to_float(va[j])));
    store_vec(y + i, vy);
  }
};
template <class T, class F>
struct Binary {
  using Element = T;
  const T* a;
  const T* b;
  T* y;
  F f;
  __device__ void at(int64_t i) const { y[i] = from_float<T>(f(to_float(a[i]), to_float(b[i]))); }
  __device__ void at_vec(int64_t i) const {
    const Vec<T> va = load_vec(a + i), vb = load_vec(b + i);
    Vec<T> vy;
    for (int j = 0; j < Vec<T>::kCount; ++j) vy[j] = from_float<T>(f(to_float(va[j]), to_float(vb[j])));
    store_vec(y + i, vy);
  }
};

template <class Map>
__global__ void scalar_kernel(Map map, int64_t count) {
  after_predecessors();
  const int64_t i = int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (i < count) map.at(i);
}

template <class Map>
__global__ void vector_kernel(Map map, int64_t count) {
  after_predecessors();
  constexpr int kCount = Vec<typename Map::Element>::kCount;
  const int64_t i = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * kCount;
  if (i + kCount <= count) return map.at_vec(i);
  for (int64_t j = i; j < count; ++j) map.at(j);
}

// y[i] = x[i] in another type; both vectors of a thread are whole: eight elements
template <class From, class To>
struct Conversion {
  static constexpr int kEach = 8;
  using Element = bf16;  // of which eight fill a vector
  const From* x;
  To* y;
  __device__ void at(int64_t i) const { y[i] = from_float<To>(to_float(x[i])); }
  __device__ void at_vec(int64_t i) const {
    float values[kEach];
    for (int part = 0; part < kEach; part += Vec<From>::kCount) {
      const Vec<From> vx = load_vec(x + i + part);
      for (int j = 0; j < Vec<From>::kCount; ++j) values[part + j] = to_float(vx[j]);
    }
    for (int part = 0; part < kEach; part += Vec<To>::kCount) {
      Vec<To> vy;
      for (int j = 0; j < Vec<To>::kCount; ++j) vy[j] = from_float<To>(values[part + j]);
      store_vec(y + i + part, vy);
    }
  }
};

struct Scalars {
  template <class Map>
  static void run(const Map& map, int64_t count, Stream& stream) {
    if (count > 0) launch(scalar_kernel<Map>, blocks_for(count, kThreads), kThreads, 0, stream, map, count);
  }
  static const char* refuse(DType dtype, std::initializer_list<const void*>) { return refuse_other_floats(dtype); }
};
struct Vectors {
  template <class Map>
  static void run(const Map& map, int64_t count, Stream& stream) {
    constexpr int kCount = Vec<typename Map::Element>::kCount;
    if (count > 0) launch(vector_kernel<Map>, blocks_for(count, kCount * kThreads), kThreads, 0, stream, map, count);
  }
  static const char* refuse(DType dtype, std::initializer_list<const void*> pointers) {
    if (!aligned_to_16(pointers)) return "takes arrays that start at multiples of 16 bytes";
    return refuse_other_floats(dtype);
  }
};

// Runs f over arrays of the type that `dtype` says.
template <class Access, class F>
void map_one(DType dtype, const void* a, void* y, const F& f, int64_t count, Stream& stream) {
  with_type(dtype, [&](auto element) {
    using T = decltype(element);
    Access::run(Unary<T, F>{in<T>(a), out<T>(y), f}, count, stream);
  });
}
template <class Access, class F>
void map_two(DType dtype, const void* a, const void* b, void* y, const F& f, int64_t count, Stream& stream) {
  with_type(dtype, [&](auto element) {
    using T = decltype(element);
    Access::run(Binary<T, F>{in<T>(a), in<T>(b), out<T>(y), f}, count, stream);
  });
}

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
  map_one<Access>(a.dtype, a.x, a.y, ReluOf{}, a.count, stream);
}
template <class Access>
void relu_backward(const ReluBackwardArgs& a, Stream& stream) {
  map_two<Access>(a.dtype, a.dy, a.y, a.dx, ReluGradient{}, a.count, stream);
}
template <class Access>
void add_scaled(const AddScaledArgs& a, Stream& stream) {
  map_two<Access>(a.dtype, a.a, a.b, a.y, ScaledSum{static_cast<float>(a.scale)}, a.count, stream);
}
template <class Access>
void multiply(const MultiplyArgs& a, Stream& stream) {
  map_two<Access>(a.dtype, a.a, a.b, a.y, Product{}, a.count, stream);
}
template <class Access>
void bias_add(const BiasAddArgs& a, Stream& stream) {
  map_one<Access>(a.dtype, a.x, a.y, ColumnBias{in<float>(a.bias), a.columns}, a.rows * a.columns, stream);
}

template <class Access>
void cast(const CastArgs& a, Stream& stream) {
  with_type(a.from, [&](auto from) {
    with_type(a.to, [&](auto to) {
      using From = decltype(from);
      using To = decltype(to);
      Access::run(Conversion<From, To>{in<From>(a.x), out<To>(a.y)}, a.count, stream);
    });
  });
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
  add<Cast>(
      name,
      [](const CastArgs& a) {
        const char* reason = Access::refuse(a.from, {a.x, a.y});
        return reason ? reason : refuse_other_floats(a.to);
      },
      cast<Access>);
}

}  // namespace

void register_elementwise() {
  add_all<Vectors>(REID_KERNEL_NAME("vectors"));
  add_all<Scalars>(REID_KERNEL_NAME("scalars"));
}

}  // namespace reid::REID_TARGET
