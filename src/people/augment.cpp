#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "people/pixel_kernels.h"
#include "reid/people/transform.h"

namespace reid {
namespace {

void check_chance(double p, const char* name) { REID_CHECK(p >= 0 && p <= 1, "[transform] ", name, " = ", p, " is no probability"); }

void check_range(double low, double high, double least, const char* name) {
  REID_CHECK(low >= least && low <= high && std::isfinite(high), "[transform] ", name, ": [", low, ", ", high, "] is no range from ", least,
             " up");
}

// The pixels of a view before anything is erased.
struct Crop {
  const Image& src;
  const PixelView& view;

  int shift() const { return view.right; }  // from a column of the window to the source's
  int first() const { return std::clamp(-shift(), 0, src.width); }
  int last() const { return std::clamp(src.width - shift(), first(), src.width); }
  // The window's columns [first, last) of a row, before they are mirrored; nullptr where the row is black.
  const uint8_t* row(int at) const {
    const int from = at + view.down;
    return from < 0 || from >= src.height || first() == last() ? nullptr : src.at(from, first() + shift());
  }
  int pixels() const { return last() - first(); }
  int left() const { return view.mirrored ? src.width - last() : first(); }  // where those columns stand in the result
};

void copy_row(const Crop& window, const uint8_t* src, uint8_t* dst, size_t pixels) {
  if (window.view.mirrored) {
    pixel_kernels().mirror_row(src, dst, pixels);
  } else {
    std::memcpy(dst, src, 3 * pixels);
  }
}

Image crop(const Crop& window) {
  Image dst(window.src.height, window.src.width);
  for (int y = 0; y < dst.height; ++y) {
    if (const uint8_t* src = window.row(y)) copy_row(window, src, dst.at(y, window.left()), static_cast<size_t>(window.pixels()));
  }
  return dst;
}

// Random erasing (Zhong et al., AAAI 2020): area and aspect uniform, up to 100 tries to fit a rectangle.
void draw_rectangle(const TransformConfig& config, Rng rng, PixelView& view) {
  constexpr int kTries = 100;
  const double pixels = static_cast<double>(config.height) * config.width;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const double area = pixels * rng.uniform(config.erase_area_min, config.erase_area_max);
    const double aspect = rng.uniform(config.erase_aspect_min, config.erase_aspect_max);
    const double height = std::floor(std::sqrt(area * aspect) + 0.5), width = std::floor(std::sqrt(area / aspect) + 0.5);
    if (height >= config.height || width >= config.width || height < 1 || width < 1) continue;
    view.height = static_cast<int32_t>(height), view.width = static_cast<int32_t>(width);
    view.top = static_cast<int32_t>(rng.below(config.height - view.height + 1));
    view.left = static_cast<int32_t>(rng.below(config.width - view.width + 1));
    return;
  }
}

// The rectangle of a view drawn by draw_view, which lies inside of it.
void erase(float* image, const TransformConfig& config, const PixelView& view) {
  if (view.height == 0) return;
  float* const first = image + (int64_t{view.top} * config.width + view.left) * 3;
  for (int64_t x = 0; x < view.width; ++x) std::copy_n(config.erase_value.data(), 3, first + 3 * x);
  for (int64_t y = 1; y < view.height; ++y) std::copy_n(first, 3 * view.width, first + y * config.width * 3);
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
  REID_CHECK(blur_max <= kMostSigma, "[transform] blur_max = ", blur_max, " is above ", kMostSigma, " pixels");
  check_range(brightness_min, brightness_max, 0, "brightness_min, brightness_max");
  check_range(contrast_min, contrast_max, 0, "contrast_min, contrast_max");
  check_range(saturation_min, saturation_max, 0, "saturation_min, saturation_max");
  check_range(0, hue, 0, "hue");
  REID_CHECK(hue <= 0.5, "[transform] hue = ", hue, " is above half a turn");
  check_range(erase_area_min, erase_area_max, 0, "erase_area_min, erase_area_max");
  check_range(erase_aspect_min, erase_aspect_max, 1e-3, "erase_aspect_min, erase_aspect_max");
}

struct Normalizer::Tables : NormalizeArgs {};

Normalizer::Normalizer(const TransformConfig& config) {
  auto tables = std::make_shared<Tables>();
  std::vector<uint8_t> values;
  for (size_t v = 0; v < 256; ++v) {
    for (size_t c = 0; c < 3; ++c) tables->table[c][v] = (static_cast<float>(v) / 255.0f - config.mean[c]) / config.std[c];
    values.insert(values.end(), 3, static_cast<uint8_t>(v));
  }
  for (size_t i = 0; i < tables->mean.size(); ++i) {
    const double inverse = 1.0 / static_cast<double>(config.std[i % 3]);
    tables->mean[i] = config.mean[i % 3];
    tables->high[i] = static_cast<float>(inverse);
    tables->low[i] = static_cast<float>(inverse - static_cast<double>(tables->high[i]));
  }
  const auto results = [&](bool fused) {
    std::vector<float> all(values.size());
    tables->fused = fused;
    pixel_kernels().normalize_pixels(*tables, values.data(), all.data(), 256);
    return all;
  };
  const std::vector<float> by_table = results(false), fused = results(true);
  tables->fused = std::memcmp(fused.data(), by_table.data(), fused.size() * sizeof(float)) == 0;
  tables_ = std::move(tables);
}

void Normalizer::operator()(const uint8_t* rgb, float* dst, size_t pixels) const {
  pixel_kernels().normalize_pixels(*tables_, rgb, dst, pixels);
}

void weak_view(const Image& resized, const Normalizer& normalize, float* dst) {
  normalize(resized.rgb.data(), dst, resized.rgb.size() / 3);
}

PixelView draw_view(const TransformConfig& config, const Rng& rng) {
  PixelView view;
  Rng corner = rng.at("crop");
  view.down = static_cast<int32_t>(corner.below(2 * config.pad + 1)) - config.pad;
  view.right = static_cast<int32_t>(corner.below(2 * config.pad + 1)) - config.pad;
  view.mirrored = rng.at("flip").chance(config.flip);
  if (rng.at("erase").chance(config.erase)) draw_rectangle(config, rng.at("rectangle"), view);
  return view;
}

namespace {

struct DrawnColor {
  ColorChange what;
  double how_much;
};

// An augmented view as it is drawn.
struct Drawn {
  PixelView view;
  double sigma = 0;                     // 0: not blurred
  std::vector<DrawnColor> colors = {};  // in this order

  Drawn(const TransformConfig& config, const Rng& rng) : view(draw_view(config, rng)) {
    if (rng.at("blur").chance(config.blur)) sigma = rng.at("sigma").uniform(config.blur_min, config.blur_max);
    if (!rng.at("jitter").chance(config.jitter)) return;
    const Rng color = rng.at("color");
    colors = {{ColorChange::brightness, color.at("brightness").uniform(config.brightness_min, config.brightness_max)},
              {ColorChange::contrast, color.at("contrast").uniform(config.contrast_min, config.contrast_max)},
              {ColorChange::saturation, color.at("saturation").uniform(config.saturation_min, config.saturation_max)},
              {ColorChange::hue, color.at("hue").uniform(-config.hue, config.hue)}};
    color.at("order").shuffle(colors);
  }
};

void change_color(Image& image, const DrawnColor& color) {
  switch (color.what) {
    case ColorChange::brightness: return adjust_brightness(image, color.how_much);
    case ColorChange::contrast: return adjust_contrast(image, color.how_much);
    case ColorChange::saturation: return adjust_saturation(image, color.how_much);
    case ColorChange::hue: return adjust_hue(image, color.how_much);
    case ColorChange::none: return;
  }
}

}  // namespace

void augmented_view(const Image& resized, const TransformConfig& config, const Normalizer& normalize, const Rng& rng, float* dst) {
  REID_CHECK(resized.height == config.height && resized.width == config.width, "[transform] an image of ", resized.height, " x ",
             resized.width, " for a transform of ", config.height, " x ", config.width);
  const Drawn drawn(config, rng);
  Image image = crop({resized, drawn.view});
  if (drawn.sigma > 0) gaussian_blur(image, drawn.sigma);
  for (const DrawnColor& color : drawn.colors) change_color(image, color);
  // At once: by rows it lowers the clock, and costs more than passing over the bytes twice.
  weak_view(image, normalize, dst);
  erase(dst, config, drawn.view);
}

int64_t change_fields(const TransformConfig& config) {
  return kPixelChangeFields + 1 + (config.blur > 0 ? static_cast<int64_t>(std::ceil(3 * config.blur_max)) : 0);
}

PixelView draw_change(const TransformConfig& config, const Rng& rng, int32_t* fields) {
  Drawn drawn(config, rng);
  PixelView& view = drawn.view;
  PixelChange change{.down = view.down, .right = view.right, .mirrored = view.mirrored};
  std::fill_n(fields, change_fields(config), 0);
  if (drawn.sigma > 0) {
    const std::vector<uint16_t> weights = blur_weights(drawn.sigma);
    change.radius = static_cast<int32_t>(weights.size()) - 1;
    std::ranges::copy(weights, fields + kPixelChangeFields);
  }
  for (size_t i = 0; i < drawn.colors.size(); ++i) {
    const auto [what, how_much] = drawn.colors[i];
    change.colors[i] = {static_cast<int32_t>(what),
                        what == ColorChange::hue ? hue_steps(how_much) : std::bit_cast<int32_t>(static_cast<float>(how_much))};
  }
  std::memcpy(fields, &change, sizeof change);
  view.down = view.right = view.mirrored = 0;
  return view;
}

PixelColors pixel_colors(const TransformConfig& config) {
  PixelColors colors;
  std::ranges::copy(config.mean, colors.mean);
  std::ranges::copy(config.std, colors.std);
  std::ranges::copy(config.erase_value, colors.fill);
  return colors;
}

}  // namespace reid
