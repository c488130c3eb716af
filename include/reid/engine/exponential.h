#pragma once
// e^x for x <= 0 in double, with the same bits on every device: the libraries of hosts and GPUs differ in the last bits.

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#define REID_ANYWHERE __host__ __device__
#else
#define REID_ANYWHERE
#endif

namespace reid {

namespace exact {
// Rounded each by itself. nvcc fuses a product and a sum that are written as operators; the host's compiler is told not to.
#ifdef __CUDA_ARCH__
__device__ inline double sum(double a, double b) { return __dadd_rn(a, b); }
__device__ inline double product(double a, double b) { return __dmul_rn(a, b); }
#else
REID_ANYWHERE inline double sum(double a, double b) { return a + b; }
REID_ANYWHERE inline double product(double a, double b) { return a * b; }
#endif
// 2^k, for -1022 <= k <= 1023.
REID_ANYWHERE inline double power_of_two(int k) {
  const uint64_t bits = static_cast<uint64_t>(1023 + k) << 52;
  double value;
  memcpy(&value, &bits, sizeof(value));
  return value;
}
}  // namespace exact

// x <= 0 and not NaN; the error is below 1 ulp, and e^0 is 1.
// x = k ln 2 + r with |r| <= ln(2) / 2 and k an integer. ln 2 is taken in two parts, of which k times the first is exact; Taylor's series
// of e^r, which ends behind r^13 / 13!, lacks 2^-57 of its value. It is summed as 1 + (r + r^2 q), where the last two sums are what counts:
// an ulp of results in [0.7, 1) is 2^-53, r + r^2 q adds at most 2^-55 to the half of it that rounding costs, the rest less.
REID_ANYWHERE inline double exponential(double x) {
  using exact::product, exact::sum;
  constexpr double kPerLn2 = 0x1.71547652b82fep+0, kRound = 0x1.8p52;      // 1 / ln 2; added and subtracted, it leaves the nearest integer
  constexpr double kLn2 = 0x1.62e42feep-1, kRest = 0x1.a39ef35793c76p-33;  // ln 2: its first 32 bits, what is left
  constexpr double kFactorial[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800, 1.0 / 362880, 1.0 / 40320,
                                   1.0 / 5040,       1.0 / 720,       1.0 / 120,      1.0 / 24,      1.0 / 6,      1.0 / 2};
  if (x < -746) return 0;  // below half of the least number
  const double whole = sum(sum(product(x, kPerLn2), kRound), -kRound);
  const double high = sum(x, product(-whole, kLn2)), low = product(-whole, kRest), r = sum(high, low);
  double q = kFactorial[0];
  for (int n = 1; n < 12; ++n) q = sum(product(q, r), kFactorial[n]);
  const double lost = sum(sum(high, -r), low);  // of r
  const double above_one = sum(r, sum(product(product(r, r), q), lost)), value = sum(1, above_one);
  const int k = static_cast<int>(whole), half = k / 2;  // in two steps: 2^k itself may be too small for a number
  return product(product(value, exact::power_of_two(half)), exact::power_of_two(k - half));
}

}  // namespace reid
