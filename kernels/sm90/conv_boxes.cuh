#pragma once
// What the convolutions of conv.cu and conv_weight.cu share: maps cut into boxes of pixels, which the copy engine brings, and conditions.
//
// A box of pixels is columns by rows by images (16 x 8 x 1 where the map is large enough), so that a tap's patches are a box too, moved by
// the tap: the copy engine gathers, steps by the stride, and what lies beyond the border arrives as the zeros of the padding. Maps that
// boxes do not divide lose what sticks out.

#include <algorithm>

#include "conv/gather.cuh"
#include "sm90/wgmma_tile.cuh"

namespace reid::REID_TARGET {

inline constexpr int kChannels = 64;  // of a box
inline constexpr int kMostBox = 256;  // places that the copy engine steps over along an axis

struct WgmmaPixel {
  int image, row, column;
};

// The largest power of two up to both.
inline int box_extent(int64_t extent, int most) {
  int size = 1;
  while (size * 2 <= most && size * 2 <= extent) size *= 2;
  return size;
}

// Maps cut into boxes of `pixels`. every: steps that the copy engine makes from a row, a column to the next.
struct Boxes {
  int rows, columns, images;  // of a box
  int down, across;           // boxes of an image
  Divisor by_rows, by_columns, by_down, by_across;
  Boxes() = default;
  Boxes(int pixels, int64_t map_rows, int64_t map_columns, const int (&every)[2]) {
    columns = box_extent(map_columns, 16), rows = box_extent(map_rows, std::min(pixels / columns, kMostBox / every[0]));
    images = pixels / columns / rows;
    down = static_cast<int>(ceil_div(map_rows, rows)), across = static_cast<int>(ceil_div(map_columns, columns));
    by_rows = Divisor(rows), by_columns = Divisor(columns), by_down = Divisor(down), by_across = Divisor(across);
  }
  int64_t count(int64_t all_images) const { return ceil_div(all_images, images) * down * across; }
  __device__ WgmmaPixel corner(int box) const {
    const int line = by_across.quotient(box), image = by_down.quotient(line);
    return {image * images, by_down.remainder(line, image) * rows, by_across.remainder(box, line) * columns};
  }
  // Pixel i of the box with that corner.
  __device__ WgmmaPixel pixel(const WgmmaPixel& corner, int i) const {
    const int line = by_columns.quotient(i), image = by_rows.quotient(line);
    return {corner.image + image, corner.row + by_rows.remainder(line, image), corner.column + by_columns.remainder(i, line)};
  }
};

// A map [images, rows, columns, channels], of which a box holds 64 channels of its pixels.
inline TensorMap pixel_map(const void* data, const int64_t (&extents)[4], const Boxes& box, const int (&every)[2]) {
  const auto [n, h, w, c] = extents;
  return tensor_map(in<bf16>(data),
                    {{c, w, h, n}, {1, c, w * c, h * w * c}, {kChannels, box.columns, box.rows, box.images}, {1, every[1], every[0], 1}});
}

// Calls f with the extent that tiles have along an axis of a product, as a type.
template <class F>
void with_extent(int64_t extent, F f) {
  extent <= 64 ? f(std::integral_constant<int, 64>()) : f(std::integral_constant<int, 128>());
}

// --- conditions ---

inline const char* refuse_wgmma_shape(const ConvShape& s) {
  if (s.dilation[0] != 1 || s.dilation[1] != 1 || s.groups != 1) return "takes one group, no dilation";
  if (const char* reason = refuse_wide_strides(s)) return reason;
  if (s.c % 8 != 0 || s.k % 8 != 0) return "takes channels and filters in eights";
  if (s.c < kChannels / 2 || s.k < kChannels / 2) return "takes channels and filters that fill half of a box";
  return refuse_beyond_int(s);
}
template <class Args>
const char* refuse_wgmma(const Args& a, std::initializer_list<const void*> arrays) {
  if (const char* reason = refuse_other_than_bf16(a.dtype)) return reason;
  if (const char* reason = refuse_wgmma_shape(a.shape)) return reason;
  return aligned_to_16(arrays) ? refuse_other_than_hopper() : "takes arrays that start at multiples of 16 bytes";
}

}  // namespace reid::REID_TARGET
