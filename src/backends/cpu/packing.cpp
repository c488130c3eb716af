#include "backends/cpu/packing.h"

#include <algorithm>
#include <cstring>

#include "backends/cpu/isa.h"
#include "backends/cpu/micro_kernel.h"

namespace reid::cpu {
namespace {

struct Panels {
  const float* source;
  int64_t stride, width, depth, tile;
  float* out;
  int64_t lead, panel;
};

// Walks each row of the source once, whatever the number of panels: at strides of a page and more, a walk for each panel would
// miss the cache and the page table every time. Whole vectors are copied, also where a tile is narrower: what they take from the next
// tile is not read. The last row is copied as it is, for nothing may lie behind it.
template <int64_t kTile, int64_t kVector>
REID_BODY copy_depth(const Panels& p) {
  const int64_t whole = p.width / kTile, rest = p.width % kTile;
  for (int64_t k = 0; k < p.depth; ++k) {
    const float* in = p.source + k * p.stride;
    float* out = p.out + k * p.lead;
    if (k + 1 < p.depth || kTile % kVector == 0) {
      for (int64_t i = 0; i < whole; ++i, in += kTile, out += p.panel) {
        for (int64_t j = 0; j < kTile; j += kVector) {
          Vector<kVector> v;
          load(v, in + j);
          store(out + j, v);
        }
      }
    } else {
      for (int64_t i = 0; i < whole; ++i, in += kTile, out += p.panel) std::memcpy(out, in, kTile * sizeof(float));
    }
    for (int64_t j = 0; j < rest; ++j) out[j] = in[j];
    for (int64_t j = rest; rest > 0 && j < kTile; ++j) out[j] = 0;
  }
}
REID_BODY pack_depth_body(const Panels& p) {
  switch (p.tile) {
    case 32: return copy_depth<32, 16>(p);
    case 16: return copy_depth<16, 16>(p);
    case 14: return copy_depth<14, 16>(p);
    case 8: return copy_depth<8, 8>(p);
    case 6: return copy_depth<6, 8>(p);
    default: return copy_depth<4, 4>(p);
  }
}
REID_MULTIVERSION(pack_depth, Panels)

}  // namespace

void pack_rows(const float* source, int64_t stride, int64_t rows, int64_t depth, int64_t tile, float* panels) {
  for (int64_t i = 0; i < rows; ++i) std::memcpy(panels + i * kRowStride, source + i * stride, static_cast<size_t>(depth) * sizeof(float));
  for (int64_t i = rows; i % tile != 0; ++i) std::fill_n(panels + i * kRowStride, depth, 0.0f);
}

void pack_depth(const float* source, int64_t stride, int64_t width, int64_t depth, int64_t tile, float* panels, int64_t lead,
                int64_t panel) {
  pack_depth(
      {.source = source, .stride = stride, .width = width, .depth = depth, .tile = tile, .out = panels, .lead = lead, .panel = panel});
}

void pack_transposed(const float* source, int64_t stride, int64_t width, int64_t depth, int64_t tile, float* panels, int64_t panel) {
  constexpr int64_t kLine = 16;  // floats of a cache line: each line read is used at once
  for (int64_t first = 0; first < width; first += tile, panels += panel) {
    const int64_t columns = std::min(tile, width - first);
    for (int64_t k = 0; k < depth; k += kLine) {
      const int64_t steps = std::min(kLine, depth - k);
      float* out = panels + k * tile;
      for (int64_t j = 0; j < columns; ++j) {
        const float* in = source + (first + j) * stride + k;
        for (int64_t i = 0; i < steps; ++i) out[i * tile + j] = in[i];
      }
      for (int64_t i = 0; i < steps; ++i) std::fill_n(out + i * tile + columns, tile - columns, 0.0f);
    }
  }
}

}  // namespace reid::cpu
