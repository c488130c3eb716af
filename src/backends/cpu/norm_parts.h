#pragma once
// How passes over rows of normalized windows are cut into tasks, and channels into vectors.

#include <algorithm>

#include "reid/engine/device.h"
#include "reid/engine/op_args.h"

namespace reid::cpu {

// Rows of a pointwise pass a task takes: about 256 KB of x.
inline int64_t pass_rows(const NormWindow& w) { return std::max<int64_t>(1, (int64_t{1} << 16) / std::max<int64_t>(w.count, 1)); }

// Calls f(group, row, rows) for every task of a pass over all rows; tasks do not cross groups.
template <class F>
void for_each_part(const NormWindow& w, F&& f) {
  const int64_t rows = pass_rows(w), parts = (w.length + rows - 1) / rows;
  parallel_for(w.groups * parts, 1, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) f(i / parts, i % parts * rows, std::min(rows, w.length - i % parts * rows));
  });
}

// Rows of a group that are summed together; 64 channels of them are 64 KB: a second look hits L2.
inline constexpr int64_t kChunkRows = 256;
inline int64_t chunks_of(const NormWindow& w) { return (w.length + kChunkRows - 1) / kChunkRows; }

inline constexpr int64_t kWide = 64, kNarrow = 16;  // channels of a block: 4 vectors, 1 vector (of 16 lanes)
// Calls f.template operator()<width>(channel) over blocks of channels; the last few go one by one.
#define REID_CHANNEL_BLOCKS(count, block)                      \
  int64_t j = 0;                                               \
  for (; j + kWide <= (count); j += kWide) block(kWide);       \
  for (; j + kNarrow <= (count); j += kNarrow) block(kNarrow); \
  for (; j < (count); ++j) block(1)

}  // namespace reid::cpu
