// Reference: views of 8-bit images. In f32 whatever the dtype of y, since the roundings are part of the definition.

#include "reference.h"
#include "reid/engine/op_args_pixels.h"

namespace reid::cpu {

namespace {

template <class T>
void views_from_pixels(const ViewsFromPixelsArgs& a) {
  T* y = out<T>(a.y);
  for (int64_t i = 0; i < a.n; ++i) {
    const int32_t* fields = a.views + i * kPixelViewFields;
    const PixelView view{fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], fields[6]};
    for (int64_t h = 0; h < a.h; ++h) {
      for (int64_t w = 0; w < a.w; ++w) {
        const int64_t row = h + view.down, column = (view.mirrored ? a.w - 1 - w : w) + view.right;
        const bool inside = row >= 0 && row < a.h && column >= 0 && column < a.w;
        const bool erased = h >= view.top && h - view.top < view.height && w >= view.left && w - view.left < view.width;
        for (int64_t c = 0; c < 3; ++c) {
          const float pixel = inside ? static_cast<float>(a.x[((i * a.h + row) * a.w + column) * 3 + c]) : 0;
          const float normal = (pixel / 255.0f - a.colors.mean[c]) / a.colors.std[c];
          *y++ = static_cast<T>(erased ? a.colors.fill[c] : normal);
        }
      }
    }
  }
}

}  // namespace

void register_reference_pixels() { REID_REFERENCE_BF16(ViewsFromPixels, views_from_pixels); }

}  // namespace reid::cpu
