#pragma once
// The arguments of the operation that makes a network's input of 8-bit images: see op_args.h.

#include "reid/engine/op_args.h"

namespace reid {

// Where a view of an image lies. With w' = w, or W - 1 - w in a mirrored view, pixel (h, w) of the view is pixel (h + down, w' + right) of
// the image, black where there is none; the rectangle is then filled. All values are allowed: what reaches beyond the view is cut.
// Defaults: the image itself.
struct PixelView {
  int32_t down = 0, right = 0;                       // pixels
  int32_t mirrored = 0;                              // 0: no
  int32_t top = 0, left = 0, height = 0, width = 0;  // the erased rectangle in pixels of the view; none when a side is 0 or less
};
inline constexpr int64_t kPixelViewFields = 7;
static_assert(sizeof(PixelView) == kPixelViewFields * sizeof(int32_t), "rows of i32 tensors are read as views");

struct PixelColors {
  float mean[3], std[3];            // of pixel / 255, by channel; std is above 0
  float fill[3] = {0.f, 0.f, 0.f};  // of erased rectangles, after normalization: 0 is the mean color
};

// y = (x / 255 - mean) / std of the views' pixels, rounded to f32 at each step as torchvision computes it, whatever the dtype of y, and
// then to that once. There is nothing to fuse: every device should give the same bits.
struct ViewsFromPixelsArgs {
  const uint8_t* x;      // [N, H, W, 3]
  const int32_t* views;  // [N, 7] a PixelView each
  void* y;               // [N, H, W, 3]
  int64_t n, h, w;
  PixelColors colors;
  DType dtype;  // of y
  void describe(Visitor&) const;
};
struct ViewsFromPixels {
  using Args = ViewsFromPixelsArgs;
  static constexpr const char* name = "views_from_pixels";
};

}  // namespace reid
