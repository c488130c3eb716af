#include "backends/cpu/patches.h"

#include <algorithm>
#include <cstring>

namespace reid::cpu {
namespace {

// Short runs (3 to 64 floats) dominate: moves of constant size beat a call.
inline void copy_floats(const float* in, int64_t count, float* out) {
  while (count >= 16) {
    std::memcpy(out, in, 16 * sizeof(float));
    in += 16, out += 16, count -= 16;
  }
  while (count >= 4) {
    std::memcpy(out, in, 4 * sizeof(float));
    in += 4, out += 4, count -= 4;
  }
  while (count-- > 0) *out++ = *in++;
}

inline void zero_floats(int64_t count, float* out) {
  if (count > 0) std::memset(out, 0, static_cast<size_t>(count) * sizeof(float));
}

}  // namespace

Patches::Patches(Image image, Grid grid, std::vector<int64_t> rows, std::vector<int64_t> columns)
    : image_(image), grid_(grid), rows_(std::move(rows)), columns_(std::move(columns)) {
  bool neighbors = true;
  for (size_t j = 1; j < columns_.size(); ++j) neighbors = neighbors && columns_[j] == columns_[j - 1] + 1;
  joined_ = neighbors ? static_cast<int64_t>(columns_.size()) : 1;
}

void Patches::cut(int64_t first, int64_t count, std::vector<Run>& runs) const {
  const int64_t length = joined_ * image_.c, across = static_cast<int64_t>(columns_.size()) / joined_;
  runs.clear();
  for (int64_t at = 0; at < count;) {
    const int64_t group = (first + at) / length, inside = (first + at) % length;
    const int64_t take = std::min(length - inside, count - at);
    const auto i = static_cast<size_t>(group / across), j = static_cast<size_t>(group % across * joined_);
    runs.push_back({.row = rows_[i], .offset = columns_[j] * image_.c + inside, .begin = at, .length = take});
    at += take;
  }
}

void Patches::copy(int64_t point, int64_t points, int64_t first, int64_t count, float* out, int64_t stride) const {
  static thread_local std::vector<Run> runs;  // keeps its memory from call to call
  cut(first, count, runs);
  int64_t x = point % grid_.q, y = point / grid_.q % grid_.p;
  const int64_t row_floats = image_.w * image_.c;
  const float* image = image_.data + point / grid_.q / grid_.p * image_.h * row_floats;
  for (int64_t i = 0; i < points; ++i, out += stride) {
    const int64_t left = x * grid_.step_x * image_.c;
    for (const Run& run : runs) {
      const int64_t row = y * grid_.step_y + run.row, begin = left + run.offset;
      float* to = out + run.begin;
      if (row < 0 || row >= image_.h || begin >= row_floats || begin + run.length <= 0) {
        zero_floats(run.length, to);
        continue;
      }
      const int64_t low = std::max<int64_t>(0, -begin), high = std::min(run.length, row_floats - begin);
      zero_floats(low, to);
      copy_floats(image + row * row_floats + begin + low, high - low, to + low);
      zero_floats(run.length - high, to + high);
    }
    if (++x == grid_.q) {
      x = 0;
      if (++y == grid_.p) {
        y = 0;
        image += image_.h * row_floats;
      }
    }
  }
}

}  // namespace reid::cpu
