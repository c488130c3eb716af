#pragma once
// What the tests of the fast CPU implementations share: fills, guarded outputs, and the loop over implementations.

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "reid/engine/registry.h"

namespace reid::fast_test {

using Floats = std::vector<float>;

inline constexpr double kEps = 0x1p-24;  // f32 unit roundoff

// A sum of k products in any order, each step rounded once or twice: error <= 2 (k + 1) eps sum |a b|, and in practice, by the
// random walk of roundings, far below c sqrt(k) eps |a| |b| with c = 8 (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019).
inline double product_bound(int64_t k, double norm_a, double norm_b) {
  return 8 * kEps * std::sqrt(double(k) + 1) * norm_a * norm_b + 1e-30;
}

// Small integers: every product and sum of up to 2^24 / 9 of them is exact, so any order of summation gives the same bits.
inline Floats integers(int64_t count, Rng rng) {
  Floats values(static_cast<size_t>(count));
  for (float& v : values) v = static_cast<float>(rng.below(7) - 3);
  return values;
}
inline Floats normals(int64_t count, Rng rng) {
  Floats values(static_cast<size_t>(count));
  for (float& v : values) v = static_cast<float>(rng.normal());
  return values;
}
inline std::vector<double> doubled(const Floats& values) { return {values.begin(), values.end()}; }

// An output filled with NaN, with guards on both sides that must not change.
class Guarded {
 public:
  explicit Guarded(int64_t count) : values_(static_cast<size_t>(count) + 2 * kGuard, std::numeric_limits<float>::quiet_NaN()) {
    std::fill_n(values_.begin(), kGuard, kMark);
    std::fill_n(values_.end() - kGuard, kGuard, kMark);
  }
  float* data() { return values_.data() + kGuard; }
  Floats take() const {
    bool intact = true;
    for (size_t i = 0; i < kGuard; ++i) intact = intact && values_[i] == kMark && values_[values_.size() - 1 - i] == kMark;
    CHECK_MESSAGE(intact, "an output was written out of bounds");
    return {values_.begin() + kGuard, values_.end() - kGuard};
  }

 private:
  static constexpr size_t kGuard = 64;
  static constexpr float kMark = 12345.0f;
  Floats values_;
};

inline bool same_bits(const Floats& a, const Floats& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

// Index of the first element further than bound[i] from the expected one (NaN is far), or -1.
inline int64_t first_far(const Floats& got, const std::vector<double>& expected, const std::vector<double>& bound) {
  for (size_t i = 0; i < got.size(); ++i) {
    if (!(std::fabs(double{got[i]} - expected[i]) <= bound[i])) return static_cast<int64_t>(i);
  }
  return -1;
}

template <class Op>
void run_reference(const typename Op::Args& args) {
  for (const Impl<Op>& impl : Registry::implementations<Op>(DeviceType::cpu)) {
    if (std::string_view(impl.name) == "reference") return impl.run(args, current_stream(Device{}));
  }
  fail(str(Op::name, " has no reference"));
}

// Calls check(run, name) for every implementation of the CPU's own but the reference that accepts the arguments.
template <class Op, class Check>
int for_each_fast(const typename Op::Args& args, Check&& check) {
  int count = 0;
  for (const Impl<Op>& impl : Registry::implementations<Op>(DeviceType::cpu)) {
    const std::string_view name = impl.name;
    if (name == "reference" || name.starts_with("emu:") || (impl.refuses && impl.refuses(args))) continue;
    check([&](const typename Op::Args& a) { impl.run(a, current_stream(Device{})); }, impl.name);
    ++count;
  }
  return count;
}

// Restores the number of threads at the end of a test.
struct Threads {
  int before = threads();
  ~Threads() { set_threads(before); }
};

inline ConvShape conv(int64_t n, int64_t h, int64_t w, int64_t c, int64_t k, int64_t filter, int64_t stride, int64_t pad,
                      int64_t dilation = 1) {
  return {.n = n,
          .h = h,
          .w = w,
          .c = c,
          .k = k,
          .r = filter,
          .s = filter,
          .stride = {stride, stride},
          .pad = {pad, pad},
          .dilation = {dilation, dilation}};
}

}  // namespace reid::fast_test
