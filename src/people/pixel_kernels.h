#pragma once
// Inside the people wing: the loops over the bytes of images, compiled for the vectors of this machine. All give the same bytes.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace reid {

// One term of a weighted sum of rows.
struct Tap {
  const uint8_t* row;
  int32_t weight;
};

// For each output of a resampled line: where its window of inputs starts, how many there are, and their weights.
struct Windows {
  int stride = 0;                 // weights reserved for each output
  std::vector<int> first, count;  // [output]; count is above 0, first does not decrease
  std::vector<int32_t> weights;   // [output, stride], of kWindowBits fractional bits
};
constexpr int kWindowBits = 22;  // 32 - 8 bits of a pixel - 2 of headroom for the negative lobes of the cubic

constexpr double kMostSigma = 100;  // of a blur, pixels

// Of a blur, of 15 fractional bits, the sum exactly one: [0] the center, [t] both pixels at distance t; none of the last ones is 0.
std::vector<uint16_t> blur_weights(double sigma);

inline uint8_t hue_steps(double turns) { return static_cast<uint8_t>(static_cast<int>(turns * 255)); }  // of 256, as torchvision has it

// The three steps of (value / 255 - mean) / std for pixels of three channels, by the table of their results or, where `fused`, by
// multiplications: x / d is fma(x, high, x * low), where high + low is 1 / d to twice the digits. That is the nearest float nearly always;
// the constructor of Normalizer finds out whether for all of the 768 results.
struct NormalizeArgs {
  std::array<std::array<float, 256>, 3> table;
  std::array<float, 48> mean, high, low;  // of 16 pixels
  bool fused = false;                     // ignored where there is no such instruction
};

struct PixelKernels {
  const char* name;

  // dst[i] = (2^(bits - 1) + the sum of weight * row[i]) >> bits, cut to a byte; the sum fits 32 bits; bits: 15 or 22. Weights are at most
  // 127 * 2^8 for 15 bits and 127 * 2^16 for 22. Serves resizing and blurring, both down and across: across, the rows are columns of a
  // transposed image, or one row shifted by pixels.
  void (*weigh_rows)(std::span<const Tap> taps, int bits, uint8_t* dst, size_t count);

  // The same of pixels (RGB) along rows, whose windows are a row's outputs: src [rows, width], dst [rows, outputs]. Null where it is not
  // there; false, and dst as it was, where windows reach too far, or a row has less than 32 bytes: transposing serves them.
  bool (*weigh_pixels)(const Windows& windows, const uint8_t* src, size_t width, uint8_t* dst, size_t rows);

  // dst[x * dst_stride + y] = src[y * src_stride + x] for y < rows, x < columns.
  void (*transpose_bytes)(const uint8_t* src, size_t src_stride, size_t rows, size_t columns, uint8_t* dst, size_t dst_stride);

  void (*mirror_row)(const uint8_t* src, uint8_t* dst, size_t pixels);  // RGB; src and dst do not overlap

  // Blends with `other`: other + factor * (value - other) in float, cut to [0, 255], the fraction dropped, as Pillow does.
  void (*blend_bytes)(uint8_t* values, size_t count, int other, float factor);
  void (*blend_with_gray)(uint8_t* rgb, size_t pixels, float factor);
  int64_t (*sum_of_gray)(const uint8_t* rgb, size_t pixels);  // gray: ITU-R 601-2 with weights of 16 bits, rounded

  // Adds to the hue of Pillow's HSV, a circle of 256 steps.
  void (*shift_hue)(uint8_t* rgb, size_t pixels, uint8_t steps);

  void (*normalize_pixels)(const NormalizeArgs& args, const uint8_t* rgb, float* dst, size_t pixels);
};

const PixelKernels& pixel_kernels();            // the best of this machine
std::vector<PixelKernels> all_pixel_kernels();  // all of them, the best first: for tests

PixelKernels avx2_pixel_kernels();    // AVX2 and FMA
PixelKernels avx512_pixel_kernels();  // AVX-512 F, BW, DQ, VL

}  // namespace reid
