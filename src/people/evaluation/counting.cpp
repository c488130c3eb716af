#include "people/evaluation/counting.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace reid {

namespace {

constexpr int64_t kChunk = 1024;       // values compared with every entry while they lie in the first-level cache
constexpr int64_t kManyEntries = 512;  // from here on a search for each value costs less than a comparison with each entry

// counts[m] += how many of the values are below limits[m].
template <class T>
struct Comparison {
  const T* values;
  int64_t count;
  const T* limits;
  int64_t limit_count;
  int64_t* counts;
};

template <class T>
inline __attribute__((always_inline)) void compare_body(const Comparison<T>& c) {
  for (int64_t m = 0; m < c.limit_count; ++m) {
    const T limit = c.limits[m];
    int32_t below = 0;
    for (int64_t j = 0; j < c.count; ++j) below += c.values[j] < limit ? 1 : 0;
    c.counts[m] += below;
  }
}

// One body for three instruction sets, chosen at run time: builds carry no -march flags.
#if defined(__x86_64__)
template <class T>
__attribute__((target("avx512f,avx512vl,avx512dq"))) void compare_avx512(const Comparison<T>& c) {
  compare_body(c);
}
template <class T>
__attribute__((target("avx2"))) void compare_avx2(const Comparison<T>& c) {
  compare_body(c);
}
#endif

template <class T>
void compare(const Comparison<T>& c) {
#if defined(__x86_64__)
  static const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  static const bool avx2 = __builtin_cpu_supports("avx2");
  if (avx512) return compare_avx512(c);
  if (avx2) return compare_avx2(c);
#endif
  compare_body(c);
}

// A value at its distance comes before an entry exactly when its index does: in chunks that end before the entry's index "at" counts as
// below, after it it does not, and the chunk around it is looked through once more.
template <class T>
void by_comparison(const T* values, int64_t count, const Places<T>& entries, std::vector<int64_t>& before) {
  std::vector<T> limits(entries.size());
  for (int64_t begin = 0; begin < count; begin += kChunk) {
    const int64_t end = std::min(begin + kChunk, count);
    for (size_t m = 0; m < entries.size(); ++m) {
      const auto& [distance, index] = entries[m];
      limits[m] = end <= index ? std::nextafter(distance, std::numeric_limits<T>::infinity()) : distance;
      if (index <= begin || index >= end) continue;
      for (int64_t j = begin; j < index; ++j) before[m] += values[j] == distance ? 1 : 0;
    }
    compare<T>({values + begin, end - begin, limits.data(), static_cast<int64_t>(limits.size()), before.data()});
  }
}

template <class T>
void by_search(const T* values, int64_t count, const Places<T>& entries, std::vector<int64_t>& before) {
  for (int64_t j = 0; j < count; ++j) {
    if (values[j] > entries.back().first) continue;
    const auto place = std::upper_bound(entries.begin(), entries.end(), std::pair<T, int64_t>(values[j], j));
    if (place != entries.end()) ++before[static_cast<size_t>(place - entries.begin())];
  }
  for (size_t m = 1; m < before.size(); ++m) before[m] += before[m - 1];
}

}  // namespace

template <class T>
void count_before(const T* values, int64_t count, const Places<T>& entries, std::vector<int64_t>& before) {
  before.assign(entries.size(), 0);
  if (entries.empty()) return;
  if (static_cast<int64_t>(entries.size()) < kManyEntries) {
    by_comparison(values, count, entries, before);
  } else {
    by_search(values, count, entries, before);
  }
}

template void count_before(const float*, int64_t, const Places<float>&, std::vector<int64_t>&);
template void count_before(const double*, int64_t, const Places<double>&, std::vector<int64_t>&);

}  // namespace reid
