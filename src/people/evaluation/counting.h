#pragma once
// Inside the people wing: how many entries of a row of distances come before given ones.

#include <cstdint>
#include <utility>
#include <vector>

namespace reid {

template <class T>
using Places = std::vector<std::pair<T, int64_t>>;  // (value, index), ascending

// before[m] = how many of the `count` values come before entries[m] = (distance, index) in the order of (value, index). Entries ascend.
// They need not be values of the row: an index of `count` asks for all values up to and at the distance. No NaN.
template <class T>
void count_before(const T* values, int64_t count, const Places<T>& entries, std::vector<int64_t>& before);

// For each value that an entry has, what asks for all values up to and at it.
template <class T>
Places<T> ends_of_ties(const Places<T>& entries, int64_t count) {
  Places<T> ends;
  for (const auto& [value, j] : entries) {
    if (ends.empty() || ends.back().first != value) ends.emplace_back(value, count);
  }
  return ends;
}

}  // namespace reid
