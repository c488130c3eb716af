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
  int64_t panel;
};

// Walks each row of the source once, whatever the number of panels: at strides of a page and more, a walk for each panel would
// miss the cache and the page table every time. The constant width makes a copy a few vector moves.
template <int64_t kTile, class T>
REID_BODY copy_depth(const Panels<T>& p) {
  const int64_t whole = p.width / kTile, rest = p.width % kTile;
  for (int64_t k = 0; k < p.depth; ++k) {
    const T* __restrict in = p.source + k * p.stride;
    float* __restrict out = p.out + k * kTile;
    for (int64_t i = 0; i < whole; ++i, in += kTile, out += p.panel) {
      for (int64_t j = 0; j < kTile; ++j) out[j] = in[j];
    }
    for (int64_t j = 0; j < rest; ++j) out[j] = in[j];
    for (int64_t j = rest; rest > 0 && j < kTile; ++j) out[j] = 0;
  }
}
template <class T>
REID_BODY pack_depth_body(const Panels<T>& p) {
  switch (p.tile) {
    case 32: return copy_depth<32>(p);
    case 16: return copy_depth<16>(p);
    case 14: return copy_depth<14>(p);
    case 8: return copy_depth<8>(p);
    case 6: return copy_depth<6>(p);
    default: return copy_depth<4>(p);
  }
}
REID_MULTIVERSION(pack_depth, Panels<float>)
REID_MULTIVERSION(pack_depth, Panels<bf16>)

void copy_row(const float* source, int64_t count, float* out) { std::memcpy(out, source, static_cast<size_t>(count) * sizeof(float)); }
void copy_row(const bf16* source, int64_t count, float* out) { widen(source, count, out); }

}  // namespace

template <class T>
void pack_rows(const T* source, int64_t stride, int64_t rows, int64_t depth, int64_t tile, float* panels) {
  for (int64_t i = 0; i < rows; ++i) copy_row(source + i * stride, depth, panels + i * kRowStride);
  for (int64_t i = rows; i % tile != 0; ++i) std::fill_n(panels + i * kRowStride, depth, 0.0f);
}

template <class T>
void pack_depth(const T* source, int64_t stride, int64_t width, int64_t depth, int64_t tile, float* panels, int64_t panel) {
  pack_depth(Panels<T>{.source = source, .stride = stride, .width = width, .depth = depth, .tile = tile, .out = panels, .panel = panel});
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

template void pack_rows(const float*, int64_t, int64_t, int64_t, int64_t, float*);
template void pack_rows(const bf16*, int64_t, int64_t, int64_t, int64_t, float*);
template void pack_depth(const float*, int64_t, int64_t, int64_t, int64_t, float*, int64_t);
template void pack_depth(const bf16*, int64_t, int64_t, int64_t, int64_t, float*, int64_t);
template void pack_transposed(const float*, int64_t, int64_t, int64_t, int64_t, float*, int64_t);
template void pack_transposed(const bf16*, int64_t, int64_t, int64_t, int64_t, float*, int64_t);

}  // namespace reid::cpu
