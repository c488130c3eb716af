#include "backends/cpu/patches.h"

#include <algorithm>
#include <cstring>
#include <type_traits>

#include "backends/cpu/isa.h"

namespace reid::cpu {
namespace {

// The points of one copy: x and y run over a grid of q by p, images follow each other.
template <class T, class Out>
struct Copy {
  const T* image;
  int64_t h, row_values, c;
  int64_t x, y, p, q, step_x, step_y, points;
  const Patches::Run* runs;
  int64_t run_count;
  Out* out;
  int64_t stride;
};

template <int64_t kCount, class T, class Out>
inline __attribute__((always_inline)) void copy_vector(const T* __restrict in, Out* __restrict out) {
  if constexpr (std::is_same_v<T, Out>) {
    std::memcpy(out, in, kCount * sizeof(Out));
  } else {
    for (int64_t j = 0; j < kCount; ++j) out[j] = in[j];
  }
}
// By vectors of kCount, the last of which reaches back over the one before.
template <int64_t kCount, class T, class Out>
inline __attribute__((always_inline)) void copy_vectors(const T* in, int64_t count, Out* out) {
  for (int64_t i = 0; i + kCount < count; i += kCount) copy_vector<kCount>(in + i, out + i);
  copy_vector<kCount>(in + count - kCount, out + count - kCount);
}
template <class T, class Out>
inline __attribute__((always_inline)) void copy_values(const T* in, int64_t count, Out* out) {
  constexpr int64_t kMost = sizeof(Out) == 2 ? 32 : 16;  // 64 bytes
  if (count >= kMost) return copy_vectors<kMost>(in, count, out);
  if (kMost > 16 && count >= 16) return copy_vectors<16>(in, count, out);
  if (count >= 4) return copy_vectors<4>(in, count, out);
  for (int64_t i = 0; i < count; ++i) out[i] = in[i];
}

// A run that reaches over the image's edge: the part inside is copied, the rest is zero.
template <class T, class Out>
void copy_clipped(const T* row, int64_t begin, int64_t length, int64_t row_values, Out* out) {
  const int64_t low = std::clamp<int64_t>(-begin, 0, length), high = std::clamp<int64_t>(row_values - begin, low, length);
  std::fill_n(out, low, Out(0.0f));
  std::copy_n(row + begin + low, high - low, out + low);
  std::fill_n(out + high, length - high, Out(0.0f));
}

template <class T, class Out>
REID_BODY copy_points_body(const Copy<T, Out>& a) {
  int64_t x = a.x, y = a.y;
  const T* image = a.image;
  Out* out = a.out;
  for (int64_t i = 0; i < a.points; ++i, out += a.stride) {
    const int64_t left = x * a.step_x * a.c, top = y * a.step_y;
    for (int64_t r = 0; r < a.run_count; ++r) {
      const Patches::Run run = a.runs[r];
      const int64_t row = top + run.row, begin = left + run.offset;
      if (static_cast<uint64_t>(row) >= static_cast<uint64_t>(a.h)) {
        std::fill_n(out + run.to, run.length, Out(0.0f));
      } else if (begin < 0 || begin + run.length > a.row_values) {
        copy_clipped(image + row * a.row_values, begin, run.length, a.row_values, out + run.to);
      } else {
        copy_values(image + row * a.row_values + begin, run.length, out + run.to);
      }
    }
    if (++x == a.q) {
      x = 0;
      if (++y == a.p) {
        y = 0;
        image += a.h * a.row_values;
      }
    }
  }
}
using CopyFloats = Copy<float, float>;
using Widen = Copy<bf16, float>;
using CopyNarrow = Copy<bf16, bf16>;
REID_MULTIVERSION(copy_points, CopyFloats)
REID_MULTIVERSION(copy_points, Widen)
REID_MULTIVERSION(copy_points, CopyNarrow)

}  // namespace

Patches::Patches(Image image, Grid grid, std::vector<int64_t> rows, std::vector<int64_t> columns)
    : image_(image), grid_(grid), rows_(std::move(rows)), columns_(std::move(columns)) {
  bool neighbors = true;
  for (size_t j = 1; j < columns_.size(); ++j) neighbors = neighbors && columns_[j] == columns_[j - 1] + 1;
  joined_ = neighbors ? static_cast<int64_t>(columns_.size()) : 1;
}

void Patches::cut(int64_t first, int64_t count, int64_t tile, int64_t panel, std::vector<Run>& runs) const {
  const int64_t length = joined_ * image_.c, across = static_cast<int64_t>(columns_.size()) / joined_;
  runs.clear();
  for (int64_t at = 0; at < count;) {
    const int64_t group = (first + at) / length, inside = (first + at) % length;
    const int64_t take = std::min({length - inside, count - at, tile - at % tile});
    const auto i = static_cast<size_t>(group / across), j = static_cast<size_t>(group % across * joined_);
    runs.push_back({.row = rows_[i], .offset = columns_[j] * image_.c + inside, .to = at / tile * panel + at % tile, .length = take});
    at += take;
  }
}

template <class T, class Out>
void Patches::copy_as(int64_t point, int64_t points, const std::vector<Run>& runs, Out* out, int64_t stride) const {
  const int64_t row_values = image_.w * image_.c;
  copy_points(Copy<T, Out>{.image = static_cast<const T*>(image_.data) + point / grid_.q / grid_.p * image_.h * row_values,
                           .h = image_.h,
                           .row_values = row_values,
                           .c = image_.c,
                           .x = point % grid_.q,
                           .y = point / grid_.q % grid_.p,
                           .p = grid_.p,
                           .q = grid_.q,
                           .step_x = grid_.step_x,
                           .step_y = grid_.step_y,
                           .points = points,
                           .runs = runs.data(),
                           .run_count = static_cast<int64_t>(runs.size()),
                           .out = out,
                           .stride = stride});
}

template <class Out>
void Patches::copy(int64_t point, int64_t points, int64_t first, int64_t count, Out* out, int64_t stride, int64_t tile,
                   int64_t panel) const {
  static thread_local std::vector<Run> runs;  // keeps its memory from call to call
  cut(first, count, tile, panel, runs);
  if (image_.dtype == DType::bf16) {
    copy_as<bf16>(point, points, runs, out, stride);
  } else if constexpr (std::is_same_v<Out, float>) {
    copy_as<float>(point, points, runs, out, stride);
  } else {
    fail("floats are not rounded on the way into panels");
  }
}
template void Patches::copy(int64_t, int64_t, int64_t, int64_t, float*, int64_t, int64_t, int64_t) const;
template void Patches::copy(int64_t, int64_t, int64_t, int64_t, bf16*, int64_t, int64_t, int64_t) const;

}  // namespace reid::cpu
