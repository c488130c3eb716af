// Color operations with the arithmetic of Pillow: 8-bit results, truncated blends, HSV of 8 bits a channel.

#include <algorithm>
#include <cmath>
#include <vector>

#include "people/pixel_kernels.h"
#include "reid/people/transform.h"

namespace reid {
namespace {

constexpr int kBlurBits = 15;

// A tap for each weight on both sides of the center, the first at `begin`, the others `step` bytes apart; two for the center, since one
// could weigh more than weigh_rows() takes.
std::vector<Tap> taps_of(const std::vector<uint16_t>& weights, const uint8_t* begin, size_t step) {
  const size_t radius = weights.size() - 1;
  const int32_t half = weights[0] / 2;
  std::vector<Tap> taps = {{begin + radius * step, half}, {begin + radius * step, weights[0] - half}};
  for (size_t t = 1; t <= radius; ++t) {
    taps.push_back({begin + (radius - t) * step, weights[t]});
    taps.push_back({begin + (radius + t) * step, weights[t]});
  }
  return taps;
}

}  // namespace

std::vector<uint16_t> blur_weights(double sigma) {
  const int radius = static_cast<int>(std::ceil(3 * sigma));
  std::vector<double> values;
  double sum = 0;
  for (int t = 0; t <= radius; ++t) {
    values.push_back(std::exp(-0.5 * t * t / (sigma * sigma)));
    sum += t == 0 ? 1.0 : 2 * values.back();
  }
  std::vector<uint16_t> weights(values.size());
  int rest = 1 << kBlurBits;
  for (size_t t = 1; t < values.size(); ++t) {
    weights[t] = static_cast<uint16_t>(std::floor(values[t] / sum * (1 << kBlurBits) + 0.5));
    rest -= 2 * weights[t];
  }
  weights[0] = static_cast<uint16_t>(rest);
  while (weights.size() > 1 && weights.back() == 0) weights.pop_back();
  return weights;
}

void adjust_brightness(Image& image, double factor) {
  pixel_kernels().blend_bytes(image.rgb.data(), image.rgb.size(), 0, static_cast<float>(factor));
}

void adjust_contrast(Image& image, double factor) {
  const size_t pixels = image.rgb.size() / 3;
  const double mean = static_cast<double>(pixel_kernels().sum_of_gray(image.rgb.data(), pixels)) / static_cast<double>(pixels);
  pixel_kernels().blend_bytes(image.rgb.data(), image.rgb.size(), static_cast<int>(mean + 0.5), static_cast<float>(factor));
}

void adjust_saturation(Image& image, double factor) {
  pixel_kernels().blend_with_gray(image.rgb.data(), image.rgb.size() / 3, static_cast<float>(factor));
}

void adjust_hue(Image& image, double shift) { pixel_kernels().shift_hue(image.rgb.data(), image.rgb.size() / 3, hue_steps(shift)); }

// Both passes go through a padded copy as if it were one long row: across, what is computed of a row's margins is not used.
void gaussian_blur(Image& image, double sigma) {
  REID_CHECK(sigma > 0 && sigma <= kMostSigma, "[blur] sigma ", sigma, " is not within (0, ", kMostSigma, "]");
  const std::vector<uint16_t> weights = blur_weights(sigma);
  const size_t radius = weights.size() - 1, row = static_cast<size_t>(image.width) * 3, height = static_cast<size_t>(image.height);
  if (radius == 0 || image.rgb.empty()) return;
  const size_t stride = row + 6 * radius;  // bytes from row to row, margins included

  std::vector<uint8_t> wide(stride * height), tall(stride * (height + 2 * radius));  // edges repeated: left and right, above and below
  for (size_t y = 0; y < height; ++y) {
    const uint8_t* src = image.rgb.data() + y * row;
    uint8_t* dst = wide.data() + y * stride;
    for (size_t r = 0; r < radius; ++r) {
      std::copy_n(src, 3, dst + 3 * r);
      std::copy_n(src + row - 3, 3, dst + 3 * (radius + r) + row);
    }
    std::copy_n(src, row, dst + 3 * radius);
  }
  uint8_t* const inner = tall.data() + radius * stride;
  pixel_kernels().weigh_rows(taps_of(weights, wide.data(), 3), kBlurBits, inner, stride * height - 6 * radius);
  for (size_t r = 0; r < radius; ++r) {
    std::copy_n(inner, row, tall.data() + r * stride);
    std::copy_n(inner + (height - 1) * stride, row, inner + (height + r) * stride);
  }
  pixel_kernels().weigh_rows(taps_of(weights, tall.data(), stride), kBlurBits, wide.data(), stride * height);
  for (size_t y = 0; y < height; ++y) std::copy_n(wide.data() + y * stride, row, image.rgb.data() + y * row);
}

}  // namespace reid
