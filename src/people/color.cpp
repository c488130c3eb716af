// Color operations with the arithmetic of Pillow: 8-bit results, truncated blends, HSV of 8 bits a channel.

#include <algorithm>
#include <cmath>
#include <vector>

#include "reid/people/transform.h"

namespace reid {
namespace {

// (Pillow computes in float and drops the fraction.)
uint8_t blend(int other, int value, float factor) {
  const float mixed = static_cast<float>(other) + factor * static_cast<float>(value - other);
  return static_cast<uint8_t>(std::clamp(mixed, 0.0f, 255.0f));
}

uint8_t gray(const uint8_t* p) {  // ITU-R 601-2, 16-bit weights
  return static_cast<uint8_t>((p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16);
}

void map_values(Image& image, int other, float factor) {
  std::array<uint8_t, 256> table;
  for (int v = 0; v < 256; ++v) table[static_cast<size_t>(v)] = blend(other, v, factor);
  for (uint8_t& v : image.rgb) v = table[v];
}

struct Hsv {
  uint8_t h, s, v;
};

Hsv to_hsv(const uint8_t* p) {
  const int r = p[0], g = p[1], b = p[2];
  const int high = std::max({r, g, b}), low = std::min({r, g, b});
  if (high == low) return {0, 0, static_cast<uint8_t>(high)};
  const float range = static_cast<float>(high - low);
  const float saturation = range / static_cast<float>(high);
  const float rc = static_cast<float>(high - r) / range, gc = static_cast<float>(high - g) / range,
              bc = static_cast<float>(high - b) / range;
  float hue = 0;
  if (r == high) {
    hue = bc - gc;
  } else if (g == high) {
    hue = static_cast<float>(2.0 + static_cast<double>(rc) - static_cast<double>(bc));
  } else {
    hue = static_cast<float>(4.0 + static_cast<double>(gc) - static_cast<double>(rc));
  }
  double turns = static_cast<double>(hue) / 6.0 + 1.0;  // in [5/6, 2): the remainder of 1 needs no division
  if (turns >= 1.0) turns -= 1.0;
  hue = static_cast<float>(turns);
  return {static_cast<uint8_t>(std::min(static_cast<int>(static_cast<double>(hue) * 255.0), 255)),
          static_cast<uint8_t>(std::min(static_cast<int>(static_cast<double>(saturation) * 255.0), 255)), static_cast<uint8_t>(high)};
}

uint8_t rounded(double value) { return static_cast<uint8_t>(value + 0.5); }  // value in [0, 255]

void to_rgb(Hsv c, uint8_t* p) {
  if (c.s == 0) {
    p[0] = p[1] = p[2] = c.v;
    return;
  }
  const double sixth = c.h * 6.0 / 255.0;
  const int sector = static_cast<int>(sixth);
  const double f = static_cast<double>(static_cast<float>(sixth - sector)), s = static_cast<double>(static_cast<float>(c.s / 255.0));
  const uint8_t low = rounded(c.v * (1.0 - s)), falling = rounded(c.v * (1.0 - s * f)), rising = rounded(c.v * (1.0 - s * (1.0 - f)));
  const auto set = [p](uint8_t r, uint8_t g, uint8_t b) { p[0] = r, p[1] = g, p[2] = b; };
  switch (sector % 6) {
    case 0: return set(c.v, rising, low);
    case 1: return set(falling, c.v, low);
    case 2: return set(low, c.v, rising);
    case 3: return set(low, falling, c.v);
    case 4: return set(rising, low, c.v);
    default: return set(c.v, low, falling);
  }
}

// Weights of 15 fractional bits that sum to exactly one: [0] the center, [t] both pixels at distance t.
std::vector<uint16_t> blur_weights(double sigma) {
  const int radius = static_cast<int>(std::ceil(3 * sigma));
  std::vector<double> values;
  double sum = 0;
  for (int t = 0; t <= radius; ++t) {
    values.push_back(std::exp(-0.5 * t * t / (sigma * sigma)));
    sum += t == 0 ? 1.0 : 2 * values.back();
  }
  std::vector<uint16_t> weights(values.size());
  int rest = 1 << 15;
  for (size_t t = 1; t < values.size(); ++t) {
    weights[t] = static_cast<uint16_t>(std::floor(values[t] / sum * (1 << 15) + 0.5));
    rest -= 2 * weights[t];
  }
  weights[0] = static_cast<uint16_t>(rest);
  while (weights.size() > 1 && weights.back() == 0) weights.pop_back();
  return weights;
}

// dst[i] = sum over t of weight * (src[i - t * step] + src[i + t * step]); src must be readable that far on both sides.
void convolve(const uint8_t* src, std::ptrdiff_t step, const std::vector<uint16_t>& weights, uint32_t* sums, uint8_t* dst, size_t count) {
  for (size_t i = 0; i < count; ++i) sums[i] = (1u << 14) + uint32_t{weights[0]} * src[i];
  for (size_t t = 1; t < weights.size(); ++t) {
    const uint8_t* before = src - static_cast<std::ptrdiff_t>(t) * step;
    const uint8_t* after = src + static_cast<std::ptrdiff_t>(t) * step;
    const uint16_t weight = weights[t];
    for (size_t i = 0; i < count; ++i) {
      const auto pair = static_cast<uint16_t>(before[i] + after[i]);
      sums[i] += uint32_t{weight} * uint32_t{pair};
    }
  }
  for (size_t i = 0; i < count; ++i) dst[i] = static_cast<uint8_t>(sums[i] >> 15);
}

}  // namespace

void adjust_brightness(Image& image, double factor) { map_values(image, 0, static_cast<float>(factor)); }

void adjust_contrast(Image& image, double factor) {
  int64_t sum = 0;
  for (size_t i = 0; i < image.rgb.size(); i += 3) sum += gray(&image.rgb[i]);
  const double pixels = static_cast<double>(image.rgb.size() / 3);
  map_values(image, static_cast<int>(static_cast<double>(sum) / pixels + 0.5), static_cast<float>(factor));
}

void adjust_saturation(Image& image, double factor) {
  const float f = static_cast<float>(factor);
  for (size_t i = 0; i < image.rgb.size(); i += 3) {
    const int other = gray(&image.rgb[i]);
    for (size_t c = 0; c < 3; ++c) image.rgb[i + c] = blend(other, image.rgb[i + c], f);
  }
}

void adjust_hue(Image& image, double shift) {
  const auto steps = static_cast<uint8_t>(static_cast<int>(shift * 255));  // wraps: hue is a circle of 256 steps
  for (size_t i = 0; i < image.rgb.size(); i += 3) {
    Hsv color = to_hsv(&image.rgb[i]);
    color.h = static_cast<uint8_t>(color.h + steps);
    to_rgb(color, &image.rgb[i]);
  }
}

void gaussian_blur(Image& image, double sigma) {
  REID_CHECK(sigma > 0 && sigma <= 100, "[blur] sigma ", sigma, " is not within (0, 100]");
  const std::vector<uint16_t> weights = blur_weights(sigma);
  const int radius = static_cast<int>(weights.size()) - 1;
  const size_t row = static_cast<size_t>(image.width) * 3, margin = static_cast<size_t>(radius) * 3;
  std::vector<uint32_t> sums(row);

  // Across, into a copy whose first and last rows are repeated, so that the pass down needs no edges.
  std::vector<uint8_t> padded(row + 2 * margin), tall(row * static_cast<size_t>(image.height + 2 * radius));
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* src = image.at(y, 0);
    for (int r = 0; r < radius; ++r) {
      std::copy_n(src, 3, padded.data() + 3 * r);
      std::copy_n(src + row - 3, 3, padded.data() + margin + row + 3 * static_cast<size_t>(r));
    }
    std::copy_n(src, row, padded.data() + margin);
    convolve(padded.data() + margin, 3, weights, sums.data(), tall.data() + row * static_cast<size_t>(y + radius), row);
  }
  for (int r = 0; r < radius; ++r) {
    std::copy_n(tall.data() + row * static_cast<size_t>(radius), row, tall.data() + row * static_cast<size_t>(r));
    std::copy_n(tall.data() + row * static_cast<size_t>(radius + image.height - 1), row,
                tall.data() + row * static_cast<size_t>(radius + image.height + r));
  }
  for (int y = 0; y < image.height; ++y)
    convolve(tall.data() + row * static_cast<size_t>(y + radius), static_cast<std::ptrdiff_t>(row), weights, sums.data(), image.at(y, 0),
             row);
}

}  // namespace reid
