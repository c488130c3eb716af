#include <algorithm>
#include <cmath>
#include <cstring>

#include "reid/people/transform.h"

namespace reid {
namespace {

void check_chance(double p, const char* name) { REID_CHECK(p >= 0 && p <= 1, "[transform] ", name, " = ", p, " is no probability"); }

void check_range(double low, double high, double least, const char* name) {
  REID_CHECK(low >= least && low <= high && std::isfinite(high), "[transform] ", name, ": [", low, ", ", high, "] is no range from ", least,
             " up");
}

// The window of `src` framed by `pad` black pixels whose top left corner is (y, x), mirrored or not.
Image crop(const Image& src, int pad, int y, int x, bool mirror) {
  Image dst(src.height, src.width);
  const int shift = x - pad, first = std::max(0, -shift), last = std::min(src.width, src.width - shift);
  for (int row = 0; row < dst.height; ++row) {
    const int from = row + y - pad;
    if (from < 0 || from >= src.height || first >= last) continue;
    std::memcpy(dst.at(row, first), src.at(from, first + shift), static_cast<size_t>(last - first) * 3);
    if (!mirror) continue;
    for (int a = 0, b = dst.width - 1; a < b; ++a, --b) std::swap_ranges(dst.at(row, a), dst.at(row, a) + 3, dst.at(row, b));
  }
  return dst;
}

void jitter(Image& image, const TransformConfig& config, const Rng& rng) {
  std::vector<int> order = {0, 1, 2, 3};
  rng.at("order").shuffle(order);
  for (const int operation : order) {
    switch (operation) {
      case 0: adjust_brightness(image, rng.at("brightness").uniform(config.brightness_min, config.brightness_max)); break;
      case 1: adjust_contrast(image, rng.at("contrast").uniform(config.contrast_min, config.contrast_max)); break;
      case 2: adjust_saturation(image, rng.at("saturation").uniform(config.saturation_min, config.saturation_max)); break;
      default: adjust_hue(image, rng.at("hue").uniform(-config.hue, config.hue)); break;
    }
  }
}

// Random erasing (Zhong et al., AAAI 2020): area and aspect uniform, up to 100 tries to fit a rectangle.
void erase(float* image, const TransformConfig& config, Rng rng) {
  constexpr int kTries = 100;
  const double pixels = static_cast<double>(config.height) * config.width;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const double area = pixels * rng.uniform(config.erase_area_min, config.erase_area_max);
    const double aspect = rng.uniform(config.erase_aspect_min, config.erase_aspect_max);
    const double height = std::floor(std::sqrt(area * aspect) + 0.5), width = std::floor(std::sqrt(area / aspect) + 0.5);
    if (height >= config.height || width >= config.width || height < 1 || width < 1) continue;
    const int64_t h = static_cast<int64_t>(height), w = static_cast<int64_t>(width);
    const int64_t top = rng.below(config.height - h + 1), left = rng.below(config.width - w + 1);
    for (int64_t y = top; y < top + h; ++y)
      for (int64_t x = left; x < left + w; ++x) std::copy_n(config.erase_value.data(), 3, image + (y * config.width + x) * 3);
    return;
  }
}

}  // namespace

void TransformConfig::check() const {
  REID_CHECK(height > 0 && width > 0, "[transform] the input size ", height, " x ", width, " is empty");
  REID_CHECK(pad >= 0, "[transform] pad = ", pad, " is negative");
  for (const float s : std) REID_CHECK(s > 0, "[transform] std ", s, " is not above 0");
  check_chance(flip, "flip");
  check_chance(blur, "blur");
  check_chance(jitter, "jitter");
  check_chance(erase, "erase");
  check_range(blur_min, blur_max, 1e-6, "blur_min, blur_max");
  check_range(brightness_min, brightness_max, 0, "brightness_min, brightness_max");
  check_range(contrast_min, contrast_max, 0, "contrast_min, contrast_max");
  check_range(saturation_min, saturation_max, 0, "saturation_min, saturation_max");
  check_range(0, hue, 0, "hue");
  REID_CHECK(hue <= 0.5, "[transform] hue = ", hue, " is above half a turn");
  check_range(erase_area_min, erase_area_max, 0, "erase_area_min, erase_area_max");
  check_range(erase_aspect_min, erase_aspect_max, 1e-3, "erase_aspect_min, erase_aspect_max");
}

Normalizer::Normalizer(const TransformConfig& config) {
  for (size_t c = 0; c < 3; ++c)
    for (size_t v = 0; v < 256; ++v) table_[c][v] = (static_cast<float>(v) / 255.0f - config.mean[c]) / config.std[c];
}

void Normalizer::operator()(const Image& image, float* dst) const {
  for (size_t i = 0; i < image.rgb.size(); i += 3)
    for (size_t c = 0; c < 3; ++c) dst[i + c] = table_[c][image.rgb[i + c]];
}

void weak_view(const Image& resized, const Normalizer& normalize, float* dst) { normalize(resized, dst); }

void augmented_view(const Image& resized, const TransformConfig& config, const Normalizer& normalize, const Rng& rng, float* dst) {
  REID_CHECK(resized.height == config.height && resized.width == config.width, "[transform] an image of ", resized.height, " x ",
             resized.width, " for a transform of ", config.height, " x ", config.width);
  Rng corner = rng.at("crop");
  const int y = static_cast<int>(corner.below(2 * config.pad + 1)), x = static_cast<int>(corner.below(2 * config.pad + 1));
  Image image = crop(resized, config.pad, y, x, rng.at("flip").chance(config.flip));
  if (rng.at("blur").chance(config.blur)) gaussian_blur(image, rng.at("sigma").uniform(config.blur_min, config.blur_max));
  if (rng.at("jitter").chance(config.jitter)) jitter(image, config, rng.at("color"));
  normalize(image, dst);
  if (rng.at("erase").chance(config.erase)) erase(dst, config, rng.at("rectangle"));
}

}  // namespace reid
