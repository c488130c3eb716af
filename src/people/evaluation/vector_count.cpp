#include "people/evaluation/vector_count.h"

#include <algorithm>
#include <limits>

namespace reid {

namespace {

inline __attribute__((always_inline)) float largest(const float* values, int64_t count) {
  constexpr int kLanes = 32;
  float lanes[kLanes];
  std::fill_n(lanes, kLanes, -std::numeric_limits<float>::infinity());
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) {
    for (int l = 0; l < kLanes; ++l) lanes[l] = values[j + l] > lanes[l] ? values[j + l] : lanes[l];
  }
  for (; j < count; ++j) lanes[0] = std::max(lanes[0], values[j]);
  return *std::max_element(lanes, lanes + kLanes);
}

inline __attribute__((always_inline)) bool compare_body(const Comparison& c) {
  for (int64_t j = 0; j < c.count; ++j) {
    c.sure[j] = c.products[j] - c.sure_edges[j];
    c.maybe[j] = c.products[j] - c.maybe_edges[j];
  }
  // Bars descend: those above the largest value are reached by none.
  const float most = largest(c.maybe, c.count);
  int64_t m = std::partition_point(c.maybe_bars, c.maybe_bars + c.bars, [most](float bar) { return bar > most; }) - c.maybe_bars;
  bool any = false;
  for (; m < c.bars; ++m) {
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
