#pragma once
// V neighboring elements that one thread works on: 1, or as many as one or two loads of 16 bytes fetch.

#include <type_traits>

#include "prims.cuh"

namespace reid::REID_TARGET {

// In registers, as floats.
template <int V>
struct Pack {
  float v[V];
};
template <int V, class T>
__device__ Pack<V> load(const T* p) {
  Pack<V> pack;
  if constexpr (V == 1) {
    pack.v[0] = to_float(*p);
  } else {
    for (int i = 0; i < V; i += Vec<T>::kCount) {
      const Vec<T> part = load_vec(p + i);
      for (int j = 0; j < Vec<T>::kCount; ++j) pack.v[i + j] = to_float(part[j]);
    }
  }
  return pack;
}
// The same as it lies in memory: half the registers in bf16.
template <int V, class T>
using Raw = std::conditional_t<V == 1, T, Vec<T>>;
template <int V, class T>
__device__ Raw<V, T> load_raw(const T* p) {
  if constexpr (V == 1) {
    return *p;
  } else {
    return load_vec(p);
  }
}
template <class T>
__device__ Pack<Vec<T>::kCount> widened(const Vec<T>& raw) {
  Pack<Vec<T>::kCount> pack;
  for (int i = 0; i < Vec<T>::kCount; ++i) pack.v[i] = to_float(raw[i]);
  return pack;
}
template <class T>
__device__ Pack<1> widened(T raw) {
  return {to_float(raw)};
}

template <class T>
__device__ Vec<T> narrowed(const Pack<Vec<T>::kCount>& pack) {
  Vec<T> raw;
  for (int i = 0; i < Vec<T>::kCount; ++i) raw[i] = from_float<T>(pack.v[i]);
  return raw;
}

template <int V, class T>
__device__ void store(T* p, const Pack<V>& pack) {
  if constexpr (V == 1) {
    *p = from_float<T>(pack.v[0]);
  } else {
    store_vec(p, narrowed<T>(pack));
  }
}

}  // namespace reid::REID_TARGET
