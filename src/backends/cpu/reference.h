#pragma once
// The reference implementations: plain loops in float, double and bf16, sums in double. They are the oracle that every other
// implementation is held against, so they are written to be read, not to be fast. T is the type of the activations, Wide<T> of what is
// `wide` beside them (op_args.h): a T widens by itself, static_cast<T> rounds.

#include <algorithm>
#include <cmath>
#include <limits>

#include "reid/engine/registry.h"

namespace reid::cpu {

void register_reference_dense();
void register_reference_vision();
void register_reference_rows();
void register_reference_metric();
void register_reference_optim();
void register_reference_fused();
void register_reference_pairs();
void register_reference_pixels();
void register_reference_jaccard();

inline const char* refuse_other_dtypes(DType dtype) {
  return dtype == DType::f32 || dtype == DType::f64 ? nullptr : "takes f32 and f64 only";
}
inline const char* refuse_integers(DType dtype) { return dtype == DType::bf16 ? nullptr : refuse_other_dtypes(dtype); }

// Registers body<float> and body<double> as one implementation named "reference".
#define REID_REFERENCE(Op, body)                                                                                   \
  Registry::add<Op>(DeviceType::cpu, {"reference", [](const Op::Args& a) { return refuse_other_dtypes(a.dtype); }, \
                                      [](const Op::Args& a, Stream&) { a.dtype == DType::f32 ? body<float>(a) : body<double>(a); }})

// Registers body<bf16> with them.
#define REID_REFERENCE_BF16(Op, body)                                                                          \
  Registry::add<Op>(DeviceType::cpu, {"reference", [](const Op::Args& a) { return refuse_integers(a.dtype); }, \
                                      [](const Op::Args& a, Stream&) {                                         \
                                        if (a.dtype == DType::bf16) return body<bf16>(a);                      \
                                        a.dtype == DType::f32 ? body<float>(a) : body<double>(a);              \
                                      }})

template <class T>
const T* in(const void* p) {
  return static_cast<const T*>(p);
}
template <class T>
T* out(void* p) {
  return static_cast<T*>(p);
}

// log of the sum over j < count of exp(value(j)), without overflow; -inf where all are.
template <class F>
double log_sum_exp(int64_t count, F&& value) {
  double top = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t j = 0; j < count; ++j) top = std::max(top, value(j));
  if (std::isinf(top) && top < 0) return top;
  for (int64_t j = 0; j < count; ++j) sum += std::exp(value(j) - top);
  return top + std::log(sum);
}

// log(1 + e^x) and its derivative, without overflow.
inline double softplus(double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); }
inline double sigmoid(double x) { return x > 0 ? 1 / (1 + std::exp(-x)) : std::exp(x) / (1 + std::exp(x)); }

// The sum of term(k)^2, k < count, in 32 lanes, whose upper halves are added to the lower ones until one is left.
double sum_of_squares(int64_t count, auto&& term) {
  constexpr int64_t kLanes = 32;
  double lanes[kLanes] = {};
  for (int64_t k = 0; k < count; ++k) {
    const double t = term(k);
    lanes[k % kLanes] += t * t;
  }
  for (int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (int64_t l = 0; l < half; ++l) lanes[l] += lanes[l + half];
  }
  return lanes[0];
}

}  // namespace reid::cpu
