// Separable resampling with the arithmetic of Pillow, so that a network trained elsewhere sees the same bytes here.
//
// Output pixel i looks at the input around center = (i + 1/2) * scale, scale = input / output, through a filter stretched by
// max(scale, 1). Weights are normalized in double, rounded to 22 fractional bits; sums start at one half and are cut to 8 bits.

#include <algorithm>
#include <bit>
#include <cmath>
#include <memory>
#include <numeric>
#include <vector>

#include "people/pixel_kernels.h"
#include "reid/people/transform.h"

namespace reid {
namespace {

double triangle(double x) { return std::max(0.0, 1.0 - std::fabs(x)); }

double cubic(double x) {  // Keys' kernel, a = -1/2
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * a : 0.0;
}

// Whether output i's weights are those of the output a period before, `step` inputs away: where neither window is cut at an edge, and
// centers are multiples of half a power of two, so that all distances to them are exact.
bool repeats(const Windows& w, int i, int period, int step) {
  if (i < period || !std::has_single_bit(static_cast<unsigned>(period))) return false;
  const auto now = static_cast<size_t>(i), before = static_cast<size_t>(i - period);
  return w.first[now] == w.first[before] + step && w.count[now] == w.count[before];
}

Windows windows_of(int input, int output, Filter filter) {
  const double scale = static_cast<double>(input) / output;
  const double stretch = std::max(scale, 1.0), shrink = 1.0 / stretch;
  const double support = (filter == Filter::bilinear ? 1.0 : 2.0) * stretch;
  Windows w;
  w.stride = static_cast<int>(std::ceil(support)) * 2 + 1;
  w.weights.resize(static_cast<size_t>(output) * static_cast<size_t>(w.stride));
  std::vector<double> values(static_cast<size_t>(w.stride));
  const int common = std::gcd(input, output), period = output / common, step = input / common;
  for (int i = 0; i < output; ++i) {
    const double center = (i + 0.5) * scale;
    const int begin = std::max(static_cast<int>(center - support + 0.5), 0);
    const int end = std::min(static_cast<int>(center + support + 0.5), input);
    w.first.push_back(begin);
    w.count.push_back(end - begin);
    if (repeats(w, i, period, step)) {
      const auto from = w.weights.begin() + static_cast<std::ptrdiff_t>(i - period) * w.stride;
      std::copy_n(from, end - begin, from + static_cast<std::ptrdiff_t>(period) * w.stride);
      continue;
    }
    double sum = 0;
    for (int x = begin; x < end; ++x) {
      const double at = (x - center + 0.5) * shrink;
      sum += values[static_cast<size_t>(x - begin)] = filter == Filter::bilinear ? triangle(at) : cubic(at);
    }
    for (int k = 0; k < end - begin; ++k) {
      const double weight = (sum != 0 ? values[static_cast<size_t>(k)] / sum : values[static_cast<size_t>(k)]) * (1 << kWindowBits);
      w.weights[static_cast<size_t>(i) * static_cast<size_t>(w.stride) + static_cast<size_t>(k)] =
          static_cast<int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
  }
  return w;
}

// dst row i is the weighted sum of the src rows in its window; rows are `row` bytes.
void weigh(const Windows& w, const uint8_t* src, uint8_t* dst, size_t row) {
  std::vector<Tap> taps(static_cast<size_t>(w.stride));
  for (size_t i = 0; i < w.first.size(); ++i) {
    const auto count = static_cast<size_t>(w.count[i]), first = static_cast<size_t>(w.first[i]);
    for (size_t k = 0; k < count; ++k) taps[k] = {src + (first + k) * row, w.weights[i * static_cast<size_t>(w.stride) + k]};
    pixel_kernels().weigh_rows({taps.data(), count}, kWindowBits, dst + i * row, row);
  }
}

struct Pass {
  int height, width;  // of its input
  Filter filter;
};

void resize_height(const Pass& p, const uint8_t* src, int height, uint8_t* dst) {
  weigh(windows_of(p.height, height, p.filter), src, dst, static_cast<size_t>(p.width) * 3);
}

// Where the machine cannot sum along rows, as the height, on columns: a pixel's three colors are three rows of the transposed image, so a
// window moves by three rows. Some rows at a time, so that their columns stay in cache, and memory for them is not asked of the system for
// each image.
void resize_width(const Pass& p, const uint8_t* src, int width, uint8_t* dst) {
  constexpr size_t kRows = 128;
  const auto height = static_cast<size_t>(p.height), from = static_cast<size_t>(p.width) * 3, to = static_cast<size_t>(width) * 3;
  const Windows windows = windows_of(p.width, width, p.filter);
  const auto along = pixel_kernels().weigh_pixels;
  if (along != nullptr && along(windows, src, static_cast<size_t>(p.width), dst, height)) return;
  const auto columns = std::make_unique_for_overwrite<uint8_t[]>((from + to) * std::min(kRows, height));  // [from + to, rows]
  for (size_t y = 0; y < height; y += kRows) {
    const size_t rows = std::min(kRows, height - y);
    uint8_t* const weighed = columns.get() + from * rows;
    pixel_kernels().transpose_bytes(src + y * from, from, rows, from, columns.get(), rows);
    weigh(windows, columns.get(), weighed, 3 * rows);
    pixel_kernels().transpose_bytes(weighed, rows, to, rows, dst + y * to, to);
  }
}

}  // namespace

Image resize(const Image& image, int height, int width, Filter filter, int pillow) {
  REID_CHECK(image.height > 0 && image.width > 0, "[resize] the image is empty (", image.height, " x ", image.width, ")");
  REID_CHECK(height > 0 && width > 0, "[resize] cannot make ", height, " x ", width, " pixels");
  if (image.width == width && image.height == height) return image;
  const Pass whole{image.height, image.width, filter};
  Image result(height, width);
  const uint8_t* const src = image.rgb.data();
  uint8_t* const dst = result.rgb.data();
  // The condition of Pillow 13.0, found by comparing both orders with its output on 1,453 random pairs of sizes.
  const bool height_first = pillow >= 13 && height < image.height && image.height - height > 2 * (image.width - width);
  if (image.width == width) {
    resize_height(whole, src, height, dst);
  } else if (image.height == height) {
    resize_width(whole, src, width, dst);
  } else {
    const Pass rest = height_first ? Pass{height, image.width, filter} : Pass{image.height, width, filter};
    const auto half = std::make_unique_for_overwrite<uint8_t[]>(static_cast<size_t>(rest.height) * static_cast<size_t>(rest.width) * 3);
    height_first ? resize_height(whole, src, height, half.get()) : resize_width(whole, src, width, half.get());
    height_first ? resize_width(rest, half.get(), width, dst) : resize_height(rest, half.get(), height, dst);
  }
  return result;
}

Image resize_bilinear(const Image& image, int height, int width) { return resize(image, height, width, Filter::bilinear); }
Image resize_bicubic(const Image& image, int height, int width) { return resize(image, height, width, Filter::bicubic); }

}  // namespace reid
