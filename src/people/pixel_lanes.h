// The loops over the bytes of images, for vectors of REID_LANES lanes of 32 bits and the instructions of REID_LANES_TARGET: included by one
// .cpp for each of them. The attribute stands at every function, because compilers take vectors apart where it is missing, inlined or not.

#pragma once

#include <algorithm>
#include <cstring>

#include "people/color_lanes.h"
#include "people/pixel_kernels.h"
#include "people/weigh_rows.h"

namespace reid {
namespace {

// ---- Weighted sums of rows

REID_LANES_TARGET void weigh_rows(std::span<const Tap> taps, int bits, uint8_t* __restrict dst, size_t count) {
  constexpr size_t kBlock = 64;
  for (size_t begin = 0; begin < count; begin += kBlock) {
    const size_t size = std::min(kBlock, count - begin);
    int32_t sums[kBlock];
    for (size_t i = 0; i < kBlock; ++i) sums[i] = 1 << (bits - 1);
    for (size_t t = 0; t < taps.size(); t += 4) {
      const auto [row, weight] = four_taps(taps, t);
      const uint8_t *a = row[0] + begin, *b = row[1] + begin, *c = row[2] + begin, *d = row[3] + begin;
      const int32_t wa = weight[0], wb = weight[1], wc = weight[2], wd = weight[3];
      if (size == kBlock) {
        for (size_t i = 0; i < kBlock; ++i) sums[i] += wa * a[i] + wb * b[i] + (wc * c[i] + wd * d[i]);
      } else {
        for (size_t i = 0; i < size; ++i) sums[i] += wa * a[i] + wb * b[i] + (wc * c[i] + wd * d[i]);
      }
    }
    uint8_t bytes[kBlock];
    for (size_t i = 0; i < kBlock; ++i) bytes[i] = static_cast<uint8_t>(std::clamp(sums[i] >> bits, 0, 255));
    std::memcpy(dst + begin, bytes, size);
  }
}

// ---- Bytes in another order

// Four rounds of a perfect shuffle of 16 rows of 16 bytes exchange rows and columns.
REID_LANES_INLINE void transpose_block(const uint8_t* src, size_t src_stride, uint8_t* dst, size_t dst_stride) {
  Bytes x[16], y[16];
#pragma GCC unroll 16
  for (size_t i = 0; i < 16; ++i) x[i] = load(src + i * src_stride);
#pragma GCC unroll 4
  for (int round = 0; round < 4; ++round) {
#pragma GCC unroll 8
    for (size_t i = 0; i < 8; ++i) {
      y[2 * i] = picked<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(x[i], x[i + 8]);
      y[2 * i + 1] = picked<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(x[i], x[i + 8]);
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; ++i) x[i] = y[i];
  }
#pragma GCC unroll 16
  for (size_t i = 0; i < 16; ++i) store(dst + i * dst_stride, x[i]);
}

REID_LANES_TARGET void transpose_bytes(const uint8_t* src, size_t src_stride, size_t rows, size_t columns, uint8_t* dst,
                                       size_t dst_stride) {
  const auto plainly = [&](size_t y0, size_t y1, size_t x0, size_t x1) {
    for (size_t x = x0; x < x1; ++x)
      for (size_t y = y0; y < y1; ++y) dst[x * dst_stride + y] = src[y * src_stride + x];
  };
  const size_t whole_rows = rows / 16 * 16, whole_columns = columns / 16 * 16;
  for (size_t y = 0; y < whole_rows; y += 16)
    for (size_t x = 0; x < whole_columns; x += 16)
      transpose_block(src + y * src_stride + x, src_stride, dst + x * dst_stride + y, dst_stride);
  plainly(0, whole_rows, whole_columns, columns);
  plainly(whole_rows, rows, 0, columns);
}

// Five pixels a step, from both ends; the 16th byte of a step is overwritten by the next.
REID_LANES_TARGET void mirror_row(const uint8_t* src, uint8_t* dst, size_t pixels) {
  size_t done = 0;
  for (; done + 6 <= pixels; done += 5) {
    const Bytes x = load(src + 3 * (pixels - done) - 16);  // a byte of the pixel before, then five pixels
    store(dst + 3 * done, picked<13, 14, 15, 10, 11, 12, 7, 8, 9, 4, 5, 6, 1, 2, 3, 0>(x, x));
  }
  for (; done < pixels; ++done) std::memcpy(dst + 3 * done, src + 3 * (pixels - 1 - done), 3);
}

// ---- Normalization

REID_LANES_INLINE Floats load_floats(const float* p) {
  Floats x;
  std::memcpy(&x, p, sizeof x);
  return x;
}

// x * (high + low), rounded once: the nearest float to x / d nearly always.
REID_LANES_INLINE Floats times(Floats x, Floats high, Floats low) { return fused_sum(x, high, x * low); }

REID_LANES_TARGET void normalize_pixels(const NormalizeArgs& args, const uint8_t* __restrict rgb, float* __restrict dst, size_t pixels) {
  constexpr size_t kValues = 48;
  constexpr float kHigh = 1.0f / 255.0f, kLow = static_cast<float>(1.0 / 255.0 - static_cast<double>(kHigh));
  const size_t values = 3 * pixels;
  size_t i = 0;
  if constexpr (kFuses) {
    const Floats high = Floats{} + kHigh, low = Floats{} + kLow;
    while (args.fused && values >= kValues && i < values) {
      const size_t at = std::min(i, values - kValues);  // the last ones anew: of the same three colors, since both are whole pixels
      for (size_t k = 0; k < kValues; k += kLanes) {
        const Floats part = times(to_floats(widen(rgb + at + k)), high, low) - load_floats(&args.mean[k]);
        const Floats result = times(part, load_floats(&args.high[k]), load_floats(&args.low[k]));
        std::memcpy(dst + at + k, &result, sizeof result);
      }
      i = at + kValues;
    }
  }
  for (; i < values; i += 3)
    for (size_t c = 0; c < 3; ++c) dst[i + c] = args.table[c][rgb[i + c]];
}

PixelKernels lanes_kernels(const char* name) {
  return {name, weigh_rows, nullptr, transpose_bytes, mirror_row, blend_bytes, blend_with_gray, sum_of_gray, shift_hue, normalize_pixels};
}

}  // namespace
}  // namespace reid
