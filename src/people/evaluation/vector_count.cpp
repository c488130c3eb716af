#include "people/evaluation/vector_count.h"

#include <algorithm>

namespace reid {

namespace {

inline __attribute__((always_inline)) bool compare_body(const Comparison& c) {
  bool any = false;
  for (int64_t m = 0; m < c.bars; ++m) {
    const float sure_bar = c.sure_bars[m], maybe_bar = c.maybe_bars[m];
    int32_t sure = 0, maybe = 0;
    for (int64_t j = 0; j < c.count; ++j) {
      sure += c.sure[j] > sure_bar ? 1 : 0;
      maybe += c.maybe[j] >= maybe_bar ? 1 : 0;
    }
    c.counts[m] += sure;
    if (sure == maybe) continue;
    if (!any) std::fill_n(c.undecided, c.count, uint8_t{0});
    any = true;
    for (int64_t j = 0; j < c.count; ++j) c.undecided[j] |= static_cast<uint8_t>((c.maybe[j] >= maybe_bar) & !(c.sure[j] > sure_bar));
  }
  return any;
}

#if defined(__x86_64__)
#if defined(__clang__)
#define REID_AVX512 __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq")))
#else
#define REID_AVX512 __attribute__((target("avx512f,avx512vl,avx512bw,avx512dq,prefer-vector-width=512")))
#endif
REID_AVX512 bool compare_avx512(const Comparison& c) { return compare_body(c); }
__attribute__((target("avx2"))) bool compare_avx2(const Comparison& c) { return compare_body(c); }
#endif
bool compare_portable(const Comparison& c) { return compare_body(c); }

}  // namespace

bool compare(const Comparison& c) {
  static const auto chosen = [] {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq")) {
      return compare_avx512;
    }
    if (__builtin_cpu_supports("avx2")) return compare_avx2;
#endif
    return compare_portable;
  }();
  return chosen(c);
}

}  // namespace reid
