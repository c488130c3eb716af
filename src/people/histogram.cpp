// The color-histogram baseline.

#include <algorithm>
#include <cmath>

#include "reid/people/evaluation.h"

namespace reid {

namespace {

// Saturation, value in [0, 1], hue in [0, 12) twelfths of the circle, from the usual hexcone.
int bin_of(const uint8_t* rgb) {
  const int r = rgb[0], g = rgb[1], b = rgb[2];
  const int high = std::max({r, g, b}), low = std::min({r, g, b}), spread = high - low;
  if (8 * spread < high || 8 * high < 255) return std::min(7, high * 8 / 255);  // gray: saturation or value below 1/8
  double sixth = 0;                                                             // hue in [0, 6)
  if (high == r)
    sixth = static_cast<double>(g - b) / spread + (g < b ? 6 : 0);
  else if (high == g)
    sixth = static_cast<double>(b - r) / spread + 2;
  else
    sixth = static_cast<double>(r - g) / spread + 4;
  const auto third = [](double share) { return std::min(2, static_cast<int>((share - 0.125) / 0.875 * 3)); };
  const int hue = std::min(11, static_cast<int>(sixth * 2));
  const int saturation = third(static_cast<double>(spread) / high), value = third(high / 255.0);
  return 8 + (hue * 3 + saturation) * 3 + value;
}

}  // namespace

std::array<float, kHistogramWidth> color_histogram(const Image& image) {
  REID_CHECK(image.height >= kHistogramStripes && image.width >= 1, "[color_histogram] the image is ", image.height, " x ", image.width,
             " pixels, expected at least ", kHistogramStripes, " x 1");
  std::array<float, kHistogramWidth> feature{};
  for (int stripe = 0; stripe < kHistogramStripes; ++stripe) {
    const int top = image.height * stripe / kHistogramStripes, bottom = image.height * (stripe + 1) / kHistogramStripes;
    std::array<int64_t, kHistogramBins> counts{};
    for (int y = top; y < bottom; ++y) {
      for (int x = 0; x < image.width; ++x) ++counts[static_cast<size_t>(bin_of(image.at(y, x)))];
    }
    const double pixels = static_cast<double>(bottom - top) * image.width * kHistogramStripes;
    for (size_t bin = 0; bin < kHistogramBins; ++bin) {
      feature[static_cast<size_t>(stripe) * kHistogramBins + bin] =
          static_cast<float>(std::sqrt(static_cast<double>(counts[bin]) / pixels));
    }
  }
  return feature;
}

Tensor color_histograms(std::span<const Image> images) {
  Tensor features = Tensor::empty({static_cast<int64_t>(images.size()), kHistogramWidth}, DType::f32);
  float* out = features.data<float>();
  parallel_for(static_cast<int64_t>(images.size()), 8, [&](int64_t begin, int64_t end, int) {
    for (int64_t i = begin; i < end; ++i) {
      const auto feature = color_histogram(images[static_cast<size_t>(i)]);
      std::copy(feature.begin(), feature.end(), out + i * kHistogramWidth);
    }
  });
  return features;
}

}  // namespace reid
