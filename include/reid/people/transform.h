#pragma once
// From a decoded image to the numbers a network sees: Pillow-compatible resizing, color operations, the two views of training.
//
// Design: everything up to the last step works on 8-bit pixels with integer or exactly rounded arithmetic, so that a view is
// the same on every machine; the only use of libm is exp() for the blur kernel, which is then rounded to 16 bits.

#include <array>
#include <cstdint>
#include <memory>

#include "reid/engine/base.h"
#include "reid/engine/op_args_pixels.h"
#include "reid/formats/image.h"

namespace reid {

enum class Filter : uint8_t { bilinear, bicubic };

// Equal, byte for byte, to Pillow's Image.resize((width, height), BILINEAR or BICUBIC): support grows with the reduction
// (antialiasing), 22-bit fixed-point weights, 8 bits between the two passes. Pillow before 13 resizes the width first, always;
// since 13 the height goes first when it shrinks by more than twice the pixels by which the width shrinks. `pillow` chooses
// between them (they differ in the last bits, and not at all for the usual enlargements and halvings of 2:1 crops).
Image resize(const Image& image, int height, int width, Filter filter, int pillow = 13);
Image resize_bilinear(const Image& image, int height, int width);
Image resize_bicubic(const Image& image, int height, int width);

// Color operations as torchvision defines them for Pillow images, byte for byte. Each blends with another image,
// other + factor * (image - other), truncated and clipped; factor 1 changes nothing.
void adjust_brightness(Image& image, double factor);  // other: black
void adjust_contrast(Image& image, double factor);    // other: the mean of the gray image, rounded
void adjust_saturation(Image& image, double factor);  // other: the gray image
void adjust_hue(Image& image, double shift);          // shift in turns, [-0.5, 0.5], on Pillow's 8-bit HSV

// Gaussian blur, kernel cut at 3 sigma (rounded up), edge pixels repeated. sigma in pixels, above 0, at most 100.
void gaussian_blur(Image& image, double sigma);

// Defaults: those of the ReMix recipe at 256 x 128 (bicubic, ImageNet statistics, no erasing). A smaller input wants a smaller pad.
struct TransformConfig {
  int height = 256, width = 128;
  Filter filter = Filter::bicubic;
  std::array<float, 3> mean = {0.485f, 0.456f, 0.406f}, std = {0.229f, 0.224f, 0.225f};  // of pixel / 255

  // The augmented view, in this order; every probability may be 0 (off).
  int pad = 10;       // pixels of black on each side, then a random crop back to size
  double flip = 0.5;  // probability of the mirror image
  double blur = 0.5;  // probability; sigma uniform in [blur_min, blur_max] pixels
  double blur_min = 0.1, blur_max = 2.0;
  double jitter = 0.5;                                // probability; the four operations in random order
  double brightness_min = 0.5, brightness_max = 2.0;  // factors, uniform
  double contrast_min = 0.5, contrast_max = 2.0;
  double saturation_min = 0.5, saturation_max = 2.0;
  double hue = 0.1;                                        // shift uniform in [-hue, hue] turns
  double erase = 0.0;                                      // probability of one erased rectangle
  double erase_area_min = 0.02, erase_area_max = 0.4;      // of the image, uniform
  double erase_aspect_min = 0.3, erase_aspect_max = 3.33;  // height / width, uniform
  std::array<float, 3> erase_value = {0, 0, 0};            // after normalization: 0 is the mean color

  bool colors() const { return blur > 0 || jitter > 0; }  // whether an augmented view may be blurred or colored
  void check() const;                                     // throws, naming the first parameter that makes no sense
};

// Normalization of 8-bit values: (v / 255 - mean) / std in f32, rounded at each step, as torchvision computes it. Copies share tables.
class Normalizer {
 public:
  explicit Normalizer(const TransformConfig& config);
  void operator()(const uint8_t* rgb, float* dst, size_t pixels) const;  // rgb and dst [pixels, 3]

 private:
  struct Tables;
  std::shared_ptr<const Tables> tables_;
};

// `resized` has the config's size. dst [height, width, 3] f32, fully overwritten.
// Every draw is rng.at(its name), so switching one operation off leaves the draws of the others as they were.
void weak_view(const Image& resized, const Normalizer& normalize, float* dst);
void augmented_view(const Image& resized, const TransformConfig& config, const Normalizer& normalize, const Rng& rng, float* dst);

// What augmented_view draws of where pixels lie: its window, mirror image and rectangle.
PixelView draw_view(const TransformConfig& config, const Rng& rng);

// The same view made by operations, bit for bit: ops::color_pixels of the resized image, by the change that is written to the row `fields`
// of change_fields() integers, and ops::views_from_pixels of that, by the view returned (its rectangle).
int64_t change_fields(const TransformConfig& config);
PixelView draw_change(const TransformConfig& config, const Rng& rng, int32_t* fields);
PixelColors pixel_colors(const TransformConfig& config);  // of both views

}  // namespace reid
