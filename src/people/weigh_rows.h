#pragma once
// Inside the people wing: what the implementations of weigh_rows() and weigh_pixels() share.

#include <cstddef>
#include <cstdint>
#include <span>

#include "people/pixel_kernels.h"

namespace reid {

struct FourTaps {
  const uint8_t* row[4];
  int32_t weight[4];
};

// Taps t .. t + 3; those beyond the last weigh nothing.
inline FourTaps four_taps(std::span<const Tap> taps, size_t t) {
  FourTaps four;
  for (size_t k = 0; k < 4; ++k) {
    const Tap& tap = taps[t + k < taps.size() ? t + k : t];
    four.row[k] = tap.row;
    four.weight[k] = t + k < taps.size() ? tap.weight : 0;
  }
  return four;
}

void weigh_rows_vnni(std::span<const Tap> taps, int bits, uint8_t* dst, size_t count);  // x86 with AVX-512 VNNI and BW
bool weigh_pixels_vbmi(const Windows& windows, const uint8_t* src, size_t width, uint8_t* dst, size_t rows);  // and with VBMI

}  // namespace reid
