#pragma once
// Inside the people wing: how many entries of a row of distances come before given ones.

#include <cstdint>
#include <utility>
#include <vector>

namespace reid {

// before[m] = how many of the `count` values come before entries[m] = (distance, index) in the order of (value, index). Entries ascend.
// They need not be values of the row: an index of `count` asks for all values up to and at the distance. No NaN.
template <class T>
void count_before(const T* values, int64_t count, const std::vector<std::pair<T, int64_t>>& entries, std::vector<int64_t>& before);

}  // namespace reid
