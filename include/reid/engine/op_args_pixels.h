#pragma once
// The arguments of the operations that make a network's input of 8-bit images: see op_args.h.

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

// How an image is cut, blurred and colored while its pixels have 8 bits: the window and mirror image of a PixelView, then a blur, then up
// to four changes of colors, one behind the other. A row of integers has this and, behind it, the blur's weights: [0] of the center, [t] of
// both pixels at distance t, of 15 fractional bits, the sum 2^15.
enum class ColorChange : int32_t { none, brightness, contrast, saturation, hue };
struct PixelChange {
  int32_t down = 0, right = 0, mirrored = 0;  // as in PixelView
  int32_t radius = 0;                         // of the blur, within the weights that there are; 0: none
  struct {
    int32_t what = 0;      // a ColorChange; of several contrasts the first counts
    int32_t how_much = 0;  // the bits of a factor (f32) or, for hue, of 256 steps of the circle
  } colors[4] = {};
};
inline constexpr int64_t kPixelChangeFields = 12;
static_assert(sizeof(PixelChange) == kPixelChangeFields * sizeof(int32_t), "rows of i32 tensors are read as changes");

// y = x changed. Gaussian weights are rounded to integers, edges repeated, across before down, to 8 bits each time; colors as Pillow
// changes them: blends other + factor (value - other) with black, the mean of the gray image, or the gray image, cut to 8 bits, and hue in
// its 8-bit HSV. Every rounding is named: all devices give the same bytes.
struct ColorPixelsArgs {
  const uint8_t* x;        // [N, H, W, 3]
  const int32_t* changes;  // [N, 12 + weights] a PixelChange and weights each
  uint8_t* y;              // [N, H, W, 3]
  int64_t n, h, w, weights;
  void describe(Visitor&) const;
};
struct ColorPixels {
  using Args = ColorPixelsArgs;
  static constexpr const char* name = "color_pixels";
};

// y[n, h, w, c] = x[n, h, W - 1 - w, c].
struct MirrorArgs {
  const void* x;  // [N, H, W, C]
  void* y;        // [N, H, W, C]
  int64_t n, h, w, c;
  DType dtype;
  void describe(Visitor&) const;
};
struct Mirror {
  using Args = MirrorArgs;
  static constexpr const char* name = "mirror";
};

}  // namespace reid
