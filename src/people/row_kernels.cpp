#include "people/row_kernels.h"

#include <cmath>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

REID_INLINE CodeErrors code_body(const float* __restrict y, float scale, uint8_t* __restrict coarse, uint8_t* __restrict fine,
                                 int64_t width) {
  constexpr double kRound = 0x1.8p52;  // added and subtracted, it leaves the nearest integer of a small number
  constexpr int kLanes = 16;
  const double s = static_cast<double>(scale), inverse = 1 / s;
  double coarse_error[kLanes] = {}, fine_error[kLanes] = {}, length[kLanes] = {};
  const auto code = [&](int64_t k, int l) {
    const double value = static_cast<double>(y[k]);
    const double c = (value * inverse + kRound) - kRound, rest = value - s * c;
    const double f = (rest * (254 * inverse) + kRound) - kRound, e = rest - s * f / 254;
    coarse[k] = static_cast<uint8_t>(static_cast<int32_t>(c) + 128);
    fine[k] = static_cast<uint8_t>(static_cast<int32_t>(f) + 128);
    coarse_error[l] += rest * rest;
    fine_error[l] += e * e;
    length[l] += value * value;
  };
  int64_t k = 0;
  for (; k + kLanes <= width; k += kLanes) {
    for (int l = 0; l < kLanes; ++l) code(k + l, l);
  }
  for (; k < width; ++k) code(k, static_cast<int>(k % kLanes));
  double coarse_sum = 0, fine_sum = 0, lengths = 0;
  for (int l = 0; l < kLanes; ++l) coarse_sum += coarse_error[l], fine_sum += fine_error[l], lengths += length[l];
  return {std::sqrt(coarse_sum / lengths), std::sqrt(fine_sum / lengths)};
}

int32_t dot_portable(const uint8_t* a, const uint8_t* b, int64_t width) {
  int32_t sum = 0;
  for (int64_t k = 0; k < width; ++k) sum += (int32_t{a[k]} - 128) * (int32_t{b[k]} - 128);
  return sum;
}

#if defined(__x86_64__)
// As in the engine's products of codes: sum (a - 128) b' = sum a b' - 128 sum b' with the signed b' = b - 128.
__attribute__((target("avx512f,avx512bw,avx512vnni"))) int32_t dot_vnni(const uint8_t* a, const uint8_t* b, int32_t sum_b, int64_t width) {
  const __m512i flip = _mm512_set1_epi8(static_cast<char>(0x80));
  __m512i first = _mm512_setzero_si512(), second = first;
  int64_t k = 0;
  for (; k + 128 <= width; k += 128) {
    first = _mm512_dpbusd_epi32(first, _mm512_loadu_si512(a + k), _mm512_xor_si512(_mm512_loadu_si512(b + k), flip));
    second = _mm512_dpbusd_epi32(second, _mm512_loadu_si512(a + k + 64), _mm512_xor_si512(_mm512_loadu_si512(b + k + 64), flip));
  }
  for (; k < width; k += 64) {
    const __mmask64 some = width - k >= 64 ? ~__mmask64{0} : (__mmask64{1} << (width - k)) - 1;
    // What is masked out is 0 on the unsigned side and does not count.
    first = _mm512_dpbusd_epi32(first, _mm512_maskz_loadu_epi8(some, a + k), _mm512_xor_si512(_mm512_maskz_loadu_epi8(some, b + k), flip));
  }
  alignas(64) int32_t sums[16];
  _mm512_store_si512(sums, _mm512_add_epi32(first, second));
  int32_t sum = -128 * sum_b;
  for (int32_t part : sums) sum += part;
  return sum;
}
#endif

template <class T>
struct Portable {
  static double squared(const T* a, double sa, const T* b, double sb, int64_t width) { return squared_body(a, sa, b, sb, width); }
  static void center(const T* x, double s, const double* c, float* y, int64_t width) { center_body(x, s, c, y, width); }
  static CodeErrors code(const float* y, float s, uint8_t* c, uint8_t* f, int64_t width) { return code_body(y, s, c, f, width); }
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
  __attribute__((target("avx2"))) static CodeErrors code(const float* y, float s, uint8_t* c, uint8_t* f, int64_t width) {
    return code_body(y, s, c, f, width);
  }
};
template <class T>
struct Avx512 {
  REID_AVX512 static double squared(const T* a, double sa, const T* b, double sb, int64_t width) {
    return squared_body(a, sa, b, sb, width);
  }
  REID_AVX512 static void center(const T* x, double s, const double* c, float* y, int64_t width) { center_body(x, s, c, y, width); }
  REID_AVX512 static CodeErrors code(const float* y, float s, uint8_t* c, uint8_t* f, int64_t width) {
    return code_body(y, s, c, f, width);
  }
};
#endif

template <class T>
struct Kernels {
  decltype(&Portable<T>::squared) squared = Portable<T>::squared;
  decltype(&Portable<T>::center) center = Portable<T>::center;
  decltype(&Portable<T>::code) code = Portable<T>::code;
  Kernels() {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f")) {
      squared = Avx512<T>::squared;
      center = Avx512<T>::center;
      code = Avx512<T>::code;
    } else if (__builtin_cpu_supports("avx2")) {
      squared = Avx2<T>::squared;
      center = Avx2<T>::center;
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

CodeErrors code_row(const float* y, float scale, uint8_t* c, uint8_t* f, int64_t width) {
  return kernels<float>().code(y, scale, c, f, width);
}

int32_t code_dot(const uint8_t* a, const uint8_t* b, int32_t sum_b, int64_t width) {
#if defined(__x86_64__)
  static const bool vnni = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni");
  if (vnni) return dot_vnni(a, b, sum_b, width);
#endif
  return dot_portable(a, b, width);
}

}  // namespace reid
