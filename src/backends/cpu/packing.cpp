#include "backends/cpu/packing.h"

#include <algorithm>
#include <cstring>

#include "backends/cpu/isa.h"
#include "backends/cpu/micro_kernel.h"
#include "backends/cpu/rounding.h"

namespace reid::cpu {
namespace {

template <class T>
struct Panels {
  const T* source;
  int64_t stride, width, depth, tile;
  float* out;
  int64_t lead, panel;
};

template <int64_t count>
inline __attribute__((always_inline)) void copy_vector(const float* in, float* out) {
  if constexpr (count % 4 == 0) {
    Vector<count> v;
    load(v, in);
    store(out, v);
  } else {
    std::memcpy(out, in, count * sizeof(float));
  }
}
template <int64_t count>
inline __attribute__((always_inline)) void copy_vector(const bf16* in, float* out) {
  for (int64_t j = 0; j < count; ++j) out[j] = in[j];
}

// Walks each row of the source once, whatever the number of panels: at strides of a page and more, a walk for each panel would
// miss the cache and the page table every time. Whole vectors are copied, also where a tile is narrower: what they take from the next
// tile is not read. The last row is copied as it is, for nothing may lie behind it.
template <int64_t kTile, int64_t kVector, class T>
REID_BODY copy_depth(const Panels<T>& p) {
  const int64_t whole = p.width / kTile, rest = p.width % kTile;
  for (int64_t k = 0; k < p.depth; ++k) {
    const T* in = p.source + k * p.stride;
    float* out = p.out + k * p.lead;
    if (k + 1 < p.depth || kTile % kVector == 0) {
      for (int64_t i = 0; i < whole; ++i, in += kTile, out += p.panel) {
        for (int64_t j = 0; j < kTile; j += kVector) {
          copy_vector<kVector>(in + j, out + j);
        }
      }
    } else {
      for (int64_t i = 0; i < whole; ++i, in += kTile, out += p.panel) copy_vector<kTile>(in, out);
    }
    for (int64_t j = 0; j < rest; ++j) out[j] = in[j];
    for (int64_t j = rest; rest > 0 && j < kTile; ++j) out[j] = 0;
  }
}
template <class T>
REID_BODY pack_depth_body(const Panels<T>& p) {
  switch (p.tile) {
    case 32: return copy_depth<32, 16>(p);
    case 16: return copy_depth<16, 16>(p);
    case 14: return copy_depth<14, 16>(p);
    case 8: return copy_depth<8, 8>(p);
    case 6: return copy_depth<6, 8>(p);
    default: return copy_depth<4, 4>(p);
  }
}
REID_MULTIVERSION(pack_depth, Panels<float>)
REID_MULTIVERSION(pack_depth, Panels<bf16>)

void copy_row(const float* source, int64_t count, float* out) { std::memcpy(out, source, static_cast<size_t>(count) * sizeof(float)); }
void copy_row(const bf16* source, int64_t count, float* out) { widen(source, count, out); }

}  // namespace

template <class T>
void pack_rows(const T* source, int64_t stride, int64_t rows, int64_t depth, int64_t tile, float* panels, int64_t row_stride) {
  for (int64_t i = 0; i < rows; ++i) copy_row(source + i * stride, depth, panels + i * row_stride);
  for (int64_t i = rows; i % tile != 0; ++i) std::fill_n(panels + i * row_stride, depth, 0.0f);
}

template <class T>
void pack_depth(const T* source, int64_t stride, int64_t width, int64_t depth, int64_t tile, float* panels, int64_t lead, int64_t panel) {
  pack_depth(Panels<T>{
      .source = source, .stride = stride, .width = width, .depth = depth, .tile = tile, .out = panels, .lead = lead, .panel = panel});
}

template <class T>
void pack_transposed(const T* source, int64_t stride, int64_t width, int64_t depth, int64_t tile, float* panels, int64_t panel) {
  constexpr int64_t kLine = 16;  // floats of a cache line: each line read is used at once
  for (int64_t first = 0; first < width; first += tile, panels += panel) {
    const int64_t columns = std::min(tile, width - first);
    for (int64_t k = 0; k < depth; k += kLine) {
      const int64_t steps = std::min(kLine, depth - k);
      float* out = panels + k * tile;
      for (int64_t j = 0; j < columns; ++j) {
        const T* in = source + (first + j) * stride + k;
        for (int64_t i = 0; i < steps; ++i) out[i * tile + j] = in[i];
      }
      for (int64_t i = 0; i < steps; ++i) std::fill_n(out + i * tile + columns, tile - columns, 0.0f);
    }
  }
}

template void pack_rows(const float*, int64_t, int64_t, int64_t, int64_t, float*, int64_t);
template void pack_rows(const bf16*, int64_t, int64_t, int64_t, int64_t, float*, int64_t);
template void pack_depth(const float*, int64_t, int64_t, int64_t, int64_t, float*, int64_t, int64_t);
template void pack_depth(const bf16*, int64_t, int64_t, int64_t, int64_t, float*, int64_t, int64_t);
template void pack_transposed(const float*, int64_t, int64_t, int64_t, int64_t, float*, int64_t);
template void pack_transposed(const bf16*, int64_t, int64_t, int64_t, int64_t, float*, int64_t);

}  // namespace reid::cpu
