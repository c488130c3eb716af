#pragma once
// Windows of images: a part of an image, within black padding, as a view shows it.

#include "launch.cuh"

namespace reid::REID_TARGET {

// The place of the pixel that a window shows at (h, w); below 0: black. Unsigned sums wrap, so that what lies before an edge is beyond the
// other.
__device__ inline int64_t window_place(int down, int right, bool mirrored, int height, int width, int h, int w) {
  const unsigned row = static_cast<unsigned>(h) + static_cast<unsigned>(down);
  const unsigned column = static_cast<unsigned>(mirrored ? width - 1 - w : w) + static_cast<unsigned>(right);
  return row >= static_cast<unsigned>(height) || column >= static_cast<unsigned>(width) ? -1 : int64_t{row} * width + column;
}

}  // namespace reid::REID_TARGET
