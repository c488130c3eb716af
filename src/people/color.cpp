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
  // Sextants from red: 0 + b - g, 2 + r - b or 4 + g - r, each as its share of the distance from the highest channel.
  const bool red = r == high, green = !red && g == high;
  const float range = static_cast<float>(high - low), saturation = range / static_cast<float>(high);
  const float plus = static_cast<float>(high - (red ? b : green ? r : g)) / range;
  const float minus = static_cast<float>(high - (red ? g : green ? b : r)) / range;
  float hue = static_cast<float>((red ? 0.0 : green ? 2.0 : 4.0) + static_cast<double>(plus) - static_cast<double>(minus));
  double turns = static_cast<double>(hue) / 6.0 + 1.0;  // in [5/6, 2): the remainder of 1 needs no division
  if (turns >= 1.0) turns -= 1.0;
  hue = static_cast<float>(turns);
  return {static_cast<uint8_t>(std::min(static_cast<int>(static_cast<double>(hue) * 255.0), 255)),
          static_cast<uint8_t>(std::min(static_cast<int>(static_cast<double>(saturation) * 255.0), 255)), static_cast<uint8_t>(high)};
}

// What a hue or a saturation of 8 bits stands for, so that no pixel needs a division.
struct HsvTables {
  struct Hue {
    int sector;       // 0..5: which channels are highest and lowest
    double fraction;  // within the sector
  };
  std::array<Hue, 256> hue;
  std::array<double, 256> saturation;
  HsvTables() {
    for (size_t i = 0; i < 256; ++i) {
      const double sixths = static_cast<double>(i) * 6.0 / 255.0;
      const int sector = static_cast<int>(sixths);
      hue[i] = {sector % 6, static_cast<double>(static_cast<float>(sixths - sector))};
      saturation[i] = static_cast<double>(static_cast<float>(static_cast<double>(i) / 255.0));
    }
  }
};

uint8_t rounded(double value) { return static_cast<uint8_t>(static_cast<int>(value + 0.5)); }  // value in [0, 255]

void to_rgb(Hsv c, const HsvTables& tables, uint8_t* p) {
  constexpr uint8_t kOrder[6][3] = {{0, 1, 2}, {1, 0, 2}, {2, 0, 1}, {2, 1, 0}, {1, 2, 0}, {0, 2, 1}};  // of sector: r, g, b in `level`
  const auto& [sector, f] = tables.hue[c.h];
  const double s = tables.saturation[c.s], v = c.v;
  const double mix = sector % 2 == 0 ? 1.0 - f : f;  // the middle channel rises in even sectors and falls in odd ones
  const uint8_t level[3] = {c.v, rounded(v * (1.0 - s * mix)), rounded(v * (1.0 - s))};
  for (size_t i = 0; i < 3; ++i) p[i] = level[kOrder[sector][i]];
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
  static const HsvTables tables;
  const auto steps = static_cast<uint8_t>(static_cast<int>(shift * 255));  // wraps: hue is a circle of 256 steps
  for (size_t i = 0; i < image.rgb.size(); i += 3) {
    Hsv color = to_hsv(&image.rgb[i]);
    color.h = static_cast<uint8_t>(color.h + steps);
    to_rgb(color, tables, &image.rgb[i]);
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
