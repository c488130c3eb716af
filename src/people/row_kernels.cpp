#include "people/row_kernels.h"

#include <cmath>

namespace reid {

namespace {

// Each body is inlined into a function for each instruction set. Contraction is off and the order of sums fixed, so all give the
// same bits.
#define REID_INLINE static inline __attribute__((always_inline))

template <class T>
REID_INLINE double squared_body(const T* a, double scale_a, const T* b, double scale_b, int64_t width) {
  constexpr int kLanes = 32;  // independent sums: four vectors of 8 hide the latency of an addition
  double sums[kLanes] = {};
  int64_t k = 0;
  for (; k + kLanes <= width; k += kLanes) {
    for (int l = 0; l < kLanes; ++l) {
      const double d = static_cast<double>(a[k + l]) * scale_a - static_cast<double>(b[k + l]) * scale_b;
      sums[l] += d * d;
    }
  }
  for (; k < width; ++k) {
    const double d = static_cast<double>(a[k]) * scale_a - static_cast<double>(b[k]) * scale_b;
    sums[k % kLanes] += d * d;
  }
  for (int half = kLanes / 2; half > 0; half /= 2) {
    for (int l = 0; l < half; ++l) sums[l] += sums[l + half];
  }
  return sums[0];
}

template <class T>
REID_INLINE void center_body(const T* __restrict x, double scale, const double* __restrict center, float* __restrict y, int64_t width) {
  for (int64_t k = 0; k < width; ++k) y[k] = static_cast<float>(static_cast<double>(x[k]) * scale - center[k]);
}

REID_INLINE RowReach reach_body(const float* __restrict y, int64_t width, int64_t block) {
  constexpr int kLanes = 32;
  RowReach most;
  float entries[kLanes] = {};
  for (int64_t begin = 0; begin < width; begin += block) {
    const int64_t end = begin + block < width ? begin + block : width;
    double squares[kLanes] = {};
    int64_t k = begin;
    for (; k + kLanes <= end; k += kLanes) {
      for (int l = 0; l < kLanes; ++l) {
        const float square = y[k + l] * y[k + l];
        squares[l] += static_cast<double>(y[k + l]) * static_cast<double>(y[k + l]);
        entries[l] = square > entries[l] ? square : entries[l];
      }
    }
    for (; k < end; ++k) {
      squares[0] += static_cast<double>(y[k]) * static_cast<double>(y[k]);
      entries[0] = y[k] * y[k] > entries[0] ? y[k] * y[k] : entries[0];
    }
    double sum = 0;
    for (double s : squares) sum += s;
    most.squares = sum > most.squares ? sum : most.squares;
  }
  float entry = 0;
  for (float e : entries) entry = e > entry ? e : entry;
  most.entry = std::sqrt(static_cast<double>(entry));
  return most;
}

REID_INLINE double code_body(const float* __restrict y, float scale, int16_t* __restrict codes, int64_t width) {
  constexpr double kRound = 0x1.8p52;  // added and subtracted, it leaves the nearest integer of a small number
  constexpr int kLanes = 16;
  const double s = static_cast<double>(scale), inverse = 1 / s;
  double error[kLanes] = {}, length[kLanes] = {};
  const auto code = [&](int64_t k, int l) {
    const double value = static_cast<double>(y[k]), c = (value * inverse + kRound) - kRound, e = value - s * c;
    codes[k] = static_cast<int16_t>(static_cast<int32_t>(c));
    error[l] += e * e;
    length[l] += value * value;
  };
  int64_t k = 0;
  for (; k + kLanes <= width; k += kLanes) {
    for (int l = 0; l < kLanes; ++l) code(k + l, l);
  }
  for (; k < width; ++k) code(k, static_cast<int>(k % kLanes));
  double errors = 0, lengths = 0;
  for (int l = 0; l < kLanes; ++l) errors += error[l], lengths += length[l];
  return std::sqrt(errors / lengths);
}

template <class T>
struct Portable {
  static double squared(const T* a, double sa, const T* b, double sb, int64_t width) { return squared_body(a, sa, b, sb, width); }
  static void center(const T* x, double s, const double* c, float* y, int64_t width) { center_body(x, s, c, y, width); }
  static RowReach reach(const float* y, int64_t width, int64_t block) { return reach_body(y, width, block); }
  static double code(const float* y, float s, int16_t* c, int64_t width) { return code_body(y, s, c, width); }
};

#if defined(__x86_64__)
#if defined(__clang__)
#define REID_AVX512 __attribute__((target("avx512f")))
#else
#define REID_AVX512 __attribute__((target("avx512f,prefer-vector-width=512")))
#endif
template <class T>
struct Avx2 {
  __attribute__((target("avx2"))) static double squared(const T* a, double sa, const T* b, double sb, int64_t width) {
    return squared_body(a, sa, b, sb, width);
  }
  __attribute__((target("avx2"))) static void center(const T* x, double s, const double* c, float* y, int64_t width) {
    center_body(x, s, c, y, width);
  }
  __attribute__((target("avx2"))) static RowReach reach(const float* y, int64_t width, int64_t block) {
    return reach_body(y, width, block);
  }
  __attribute__((target("avx2"))) static double code(const float* y, float s, int16_t* c, int64_t width) {
    return code_body(y, s, c, width);
  }
};
template <class T>
struct Avx512 {
  REID_AVX512 static double squared(const T* a, double sa, const T* b, double sb, int64_t width) {
    return squared_body(a, sa, b, sb, width);
  }
  REID_AVX512 static void center(const T* x, double s, const double* c, float* y, int64_t width) { center_body(x, s, c, y, width); }
  REID_AVX512 static RowReach reach(const float* y, int64_t width, int64_t block) { return reach_body(y, width, block); }
  REID_AVX512 static double code(const float* y, float s, int16_t* c, int64_t width) { return code_body(y, s, c, width); }
};
#endif

template <class T>
struct Kernels {
  decltype(&Portable<T>::squared) squared = Portable<T>::squared;
  decltype(&Portable<T>::center) center = Portable<T>::center;
  decltype(&Portable<T>::reach) reach = Portable<T>::reach;
  decltype(&Portable<T>::code) code = Portable<T>::code;
  Kernels() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
      squared = Avx512<T>::squared;
      center = Avx512<T>::center;
      reach = Avx512<T>::reach;
      code = Avx512<T>::code;
    } else if (__builtin_cpu_supports("avx2")) {
      squared = Avx2<T>::squared;
      center = Avx2<T>::center;
      reach = Avx2<T>::reach;
      code = Avx2<T>::code;
    }
#endif
  }
};

template <class T>
const Kernels<T>& kernels() {
  static const Kernels<T> chosen;
  return chosen;
}

}  // namespace

double squared_difference(const float* a, double scale_a, const float* b, double scale_b, int64_t width) {
  return kernels<float>().squared(a, scale_a, b, scale_b, width);
}
double squared_difference(const double* a, double scale_a, const double* b, double scale_b, int64_t width) {
  return kernels<double>().squared(a, scale_a, b, scale_b, width);
}
void center_row(const float* x, double scale, const double* center, float* y, int64_t width) {
  kernels<float>().center(x, scale, center, y, width);
}
void center_row(const double* x, double scale, const double* center, float* y, int64_t width) {
  kernels<double>().center(x, scale, center, y, width);
}

RowReach row_reach(const float* y, int64_t width, int64_t block) { return kernels<float>().reach(y, width, block); }
double code_row(const float* y, float scale, int16_t* c, int64_t width) { return kernels<float>().code(y, scale, c, width); }

}  // namespace reid
