// Reference: views of 8-bit images. In f32 whatever the dtype of y, since the roundings are part of the definition. Colors in the types of
// Pillow, float and double.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "reference.h"
#include "reid/engine/op_args_pixels.h"

namespace reid::cpu {

namespace {

// Where a pixel of a window comes from; null: it is black.
const uint8_t* window_pixel(const PixelView& view, const uint8_t* image, int64_t height, int64_t width, int64_t h, int64_t w) {
  const int64_t row = h + view.down, column = (view.mirrored ? width - 1 - w : w) + view.right;
  const bool inside = row >= 0 && row < height && column >= 0 && column < width;
  return inside ? image + (row * width + column) * 3 : nullptr;
}

template <class T>
void views_from_pixels(const ViewsFromPixelsArgs& a) {
  T* y = out<T>(a.y);
  for (int64_t i = 0; i < a.n; ++i) {
    const int32_t* fields = a.views + i * kPixelViewFields;
    const PixelView view{fields[0], fields[1], fields[2], fields[3], fields[4], fields[5], fields[6]};
    for (int64_t h = 0; h < a.h; ++h) {
      for (int64_t w = 0; w < a.w; ++w) {
        const uint8_t* from = window_pixel(view, a.x + i * a.h * a.w * 3, a.h, a.w, h, w);
        const bool erased = h >= view.top && h - view.top < view.height && w >= view.left && w - view.left < view.width;
        for (int64_t c = 0; c < 3; ++c) {
          const float pixel = from ? static_cast<float>(from[c]) : 0;
          const float normal = (pixel / 255.0f - a.colors.mean[c]) / a.colors.std[c];
          *y++ = static_cast<T>(erased ? a.colors.fill[c] : normal);
        }
      }
    }
  }
}

// ---- Colors

using Pixel = std::array<int, 3>;

int blend(int other, int value, float factor) {
  const float mixed = static_cast<float>(other) + factor * static_cast<float>(value - other);
  return mixed > 0 ? static_cast<int>(std::min(mixed, 255.0f)) : 0;
}
int gray(const Pixel& p) { return (p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16; }

Pixel to_hsv(const Pixel& p) {
  const auto [r, g, b] = p;
  const int high = std::max({r, g, b}), low = std::min({r, g, b});
  if (high == low) return {0, 0, high};
  const float range = static_cast<float>(high - low);
  const auto distance = [&](int channel) { return static_cast<double>(static_cast<float>(high - channel) / range); };
  const double sextants = r == high   ? distance(b) - distance(g)
                          : g == high ? 2.0 + distance(r) - distance(b)
                                      : 4.0 + distance(g) - distance(r);
  const float turns = static_cast<float>(std::fmod(static_cast<double>(static_cast<float>(sextants)) / 6.0 + 1.0, 1.0));
  const double saturation = static_cast<double>(range / static_cast<float>(high));
  return {static_cast<int>(static_cast<double>(turns) * 255.0), static_cast<int>(saturation * 255.0), high};
}
Pixel to_rgb(const Pixel& hsv) {
  const auto [h, s, v] = hsv;
  const double sextants = h * 6.0 / 255.0;
  const int sector = static_cast<int>(sextants);
  const double f = static_cast<double>(static_cast<float>(sextants - sector)), share = static_cast<double>(static_cast<float>(s / 255.0));
  const auto level = [v = v](double x) { return static_cast<int>(v * x + 0.5); };
  const int m = level(1 - share), q = level(1 - share * f), t = level(1 - share * (1 - f));
  const Pixel colors[] = {{v, t, m}, {q, v, m}, {m, v, t}, {m, q, v}, {t, m, v}, {v, m, q}};
  return colors[sector % 6];
}

// Of [pixels] of one image.
void change_colors(std::vector<Pixel>& image, ColorChange what, int32_t how_much) {
  const float factor = std::bit_cast<float>(how_much);
  int64_t sum = 0;
  for (const Pixel& p : image) sum += gray(p);
  const int mean = static_cast<int>(static_cast<double>(sum) / static_cast<double>(image.size()) + 0.5);
  for (Pixel& p : image) {
    if (what == ColorChange::hue) {
      Pixel hsv = to_hsv(p);
      hsv[0] = (hsv[0] + (how_much & 255)) & 255;
      p = to_rgb(hsv);
    } else {
      const int other = what == ColorChange::brightness ? 0 : what == ColorChange::contrast ? mean : gray(p);
      for (int& value : p) value = blend(other, value, factor);
    }
  }
}

// The weighted sum of pixels along rows (down 0, right 1) or columns (1, 0).
std::vector<Pixel> blur(const std::vector<Pixel>& image, int64_t h, int64_t w, int64_t down, int64_t right,
                        std::span<const int32_t> weights) {
  std::vector<Pixel> blurred(image.size());
  for (int64_t y = 0; y < h; ++y) {
    for (int64_t x = 0; x < w; ++x) {
      const auto value = [&](int64_t away, size_t c) {
        const int64_t row = std::clamp<int64_t>(y + away * down, 0, h - 1), column = std::clamp<int64_t>(x + away * right, 0, w - 1);
        return image[static_cast<size_t>(row * w + column)][c];
      };
      for (size_t c = 0; c < 3; ++c) {
        int64_t sum = (1 << 14) + int64_t{weights[0]} * value(0, c);
        for (size_t t = 1; t < weights.size(); ++t)
          sum += int64_t{weights[t]} * (value(-static_cast<int64_t>(t), c) + value(static_cast<int64_t>(t), c));
        blurred[static_cast<size_t>(y * w + x)][c] = static_cast<int>(std::clamp<int64_t>(sum >> 15, 0, 255));
      }
    }
  }
  return blurred;
}

void color_pixels(const ColorPixelsArgs& a) {
  if (a.h * a.w == 0) return;
  for (int64_t i = 0; i < a.n; ++i) {
    const int32_t* fields = a.changes + i * (kPixelChangeFields + a.weights);
    PixelChange change;
    std::memcpy(static_cast<void*>(&change), fields, sizeof change);
    const PixelView view{change.down, change.right, change.mirrored};
    std::vector<Pixel> image;
    for (int64_t h = 0; h < a.h; ++h)
      for (int64_t w = 0; w < a.w; ++w) {
        const uint8_t* from = window_pixel(view, a.x + i * a.h * a.w * 3, a.h, a.w, h, w);
        image.push_back(from ? Pixel{from[0], from[1], from[2]} : Pixel{});
      }
    const auto radius = static_cast<size_t>(std::clamp<int64_t>(change.radius, 0, a.weights - 1));
    const std::span<const int32_t> weights(fields + kPixelChangeFields, radius + 1);
    if (radius > 0) image = blur(blur(image, a.h, a.w, 0, 1, weights), a.h, a.w, 1, 0, weights);
    bool contrasted = false;
    for (const auto& [what, how_much] : change.colors) {
      const auto kind = static_cast<ColorChange>(what);
      const bool known = kind > ColorChange::none && kind <= ColorChange::hue;
      if (known && !(kind == ColorChange::contrast && std::exchange(contrasted, true))) change_colors(image, kind, how_much);
    }
    uint8_t* y = a.y + i * a.h * a.w * 3;
    for (const Pixel& p : image)
      for (const int value : p) *y++ = static_cast<uint8_t>(value);
  }
}

template <class T>
void mirror(const MirrorArgs& a) {
  const T* x = in<T>(a.x);
  T* y = out<T>(a.y);
  for (int64_t row = 0; row < a.n * a.h; ++row, x += a.w * a.c)
    for (int64_t w = 0; w < a.w; ++w, y += a.c) std::copy_n(x + (a.w - 1 - w) * a.c, a.c, y);
}

}  // namespace

void register_reference_pixels() {
  REID_REFERENCE_BF16(ViewsFromPixels, views_from_pixels);
  REID_REFERENCE_BF16(Mirror, mirror);
  Registry::add<ColorPixels>(DeviceType::cpu, {"reference", nullptr, [](const ColorPixelsArgs& a, Stream&) { color_pixels(a); }});
}

}  // namespace reid::cpu
