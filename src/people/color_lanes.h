// The loops over colors: see pixel_lanes.h.

#pragma once

#include <algorithm>
#include <cstring>

#include "people/pixel_kernels.h"

#ifndef REID_LANES  // 128 bits, which every processor has in some form
#define REID_LANES 4
#define REID_LANES_TARGET
#define REID_LANES_FUSE false
#endif
#if REID_LANES > 4
#include <immintrin.h>
#endif
#define REID_LANES_INLINE REID_LANES_TARGET static inline __attribute__((always_inline))

namespace reid {
namespace {

constexpr size_t kLanes = REID_LANES;
constexpr bool kFuses = REID_LANES_FUSE;  // multiplications and additions are rounded once

using Bytes = uint8_t __attribute__((vector_size(16)));
using Ints = int32_t __attribute__((vector_size(4 * REID_LANES)));
using Floats = float __attribute__((vector_size(4 * REID_LANES)));

REID_LANES_INLINE Bytes load(const uint8_t* p) {
  Bytes x;
  std::memcpy(&x, p, sizeof x);
  return x;
}
REID_LANES_INLINE void store(uint8_t* p, Bytes x) { std::memcpy(p, &x, sizeof x); }
// Bytes at these places of a and, from 16 on, of b.
template <int... places>
REID_LANES_INLINE Bytes picked(Bytes a, Bytes b) {
#if __has_builtin(__builtin_shufflevector)
  return __builtin_shufflevector(a, b, places...);
#else  // g++ 11
  return __builtin_shuffle(a, b, Bytes{places...});
#endif
}

// As many bytes as there are lanes, to numbers and, of numbers in [0, 255], back. (g++ 12 takes conversions of vectors of bytes apart.)
#if REID_LANES == 16
REID_LANES_INLINE Ints widen(const uint8_t* p) {
  return reinterpret_cast<Ints>(_mm512_maskz_cvtepu8_epi32(0xFFFF, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
}
REID_LANES_INLINE Floats fused_sum(Floats a, Floats b, Floats c) {
  return reinterpret_cast<Floats>(_mm512_fmadd_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
}
REID_LANES_INLINE void narrow(Ints x, uint8_t* p) { _mm512_mask_cvtepi32_storeu_epi8(p, 0xFFFF, reinterpret_cast<__m512i>(x)); }
#elif REID_LANES == 8
REID_LANES_INLINE Ints widen(const uint8_t* p) {
  return reinterpret_cast<Ints>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}
REID_LANES_INLINE Floats fused_sum(Floats a, Floats b, Floats c) {
  return reinterpret_cast<Floats>(_mm256_fmadd_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(c)));
}
REID_LANES_INLINE void narrow(Ints x, uint8_t* p) {
  const auto all = reinterpret_cast<__m256i>(x);
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256(all, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
}
#else
REID_LANES_INLINE Ints widen(const uint8_t* p) { return Ints{p[0], p[1], p[2], p[3]}; }
REID_LANES_INLINE Floats fused_sum(Floats a, Floats b, Floats c) { return a * b + c; }  // not fused, and not used
REID_LANES_INLINE void narrow(Ints x, uint8_t* p) {
  for (size_t l = 0; l < kLanes; ++l) p[l] = static_cast<uint8_t>(x[l]);
}
#endif
REID_LANES_INLINE Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }
REID_LANES_INLINE Ints to_ints(Floats x) { return __builtin_convertvector(x, Ints); }
REID_LANES_INLINE Ints larger(Ints a, Ints b) { return a > b ? a : b; }
REID_LANES_INLINE Ints smaller(Ints a, Ints b) { return a < b ? a : b; }

// ---- Pixels, taken apart

struct Planes {
  uint8_t r[16], g[16], b[16];
};
struct Pixels {
  Ints r, g, b;
};

// Byte j of vector m of 48 bytes is of channel (16 m + j) % 3 = (m + j) % 3. Channel c of all three vectors is at 16 different j, pixel k
// at (3 k + c) % 16; backwards, j is of pixel 11 (j - c) % 16, as 3 * 11 % 16 = 1.
constexpr Bytes kThirds[3] = {{255, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 255},  // j % 3 = 0, 1, 2
                              {0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0},
                              {0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0}};

REID_LANES_INLINE void split(const uint8_t* rgb, Planes& p) {
  const Bytes x = load(rgb), y = load(rgb + 16), z = load(rgb + 32);
  const Bytes red = (x & kThirds[0]) | (y & kThirds[2]) | (z & kThirds[1]);
  const Bytes green = (x & kThirds[1]) | (y & kThirds[0]) | (z & kThirds[2]);
  const Bytes blue = (x & kThirds[2]) | (y & kThirds[1]) | (z & kThirds[0]);
  store(p.r, picked<0, 3, 6, 9, 12, 15, 2, 5, 8, 11, 14, 1, 4, 7, 10, 13>(red, red));
  store(p.g, picked<1, 4, 7, 10, 13, 0, 3, 6, 9, 12, 15, 2, 5, 8, 11, 14>(green, green));
  store(p.b, picked<2, 5, 8, 11, 14, 1, 4, 7, 10, 13, 0, 3, 6, 9, 12, 15>(blue, blue));
}

REID_LANES_INLINE void join(const Planes& p, uint8_t* rgb) {
  const Bytes r = load(p.r), g = load(p.g), b = load(p.b);
  const Bytes red = picked<0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10, 5>(r, r);
  const Bytes green = picked<5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15, 10>(g, g);
  const Bytes blue = picked<10, 5, 0, 11, 6, 1, 12, 7, 2, 13, 8, 3, 14, 9, 4, 15>(b, b);
  store(rgb, (red & kThirds[0]) | (green & kThirds[1]) | (blue & kThirds[2]));
  store(rgb + 16, (red & kThirds[2]) | (green & kThirds[0]) | (blue & kThirds[1]));
  store(rgb + 32, (red & kThirds[1]) | (green & kThirds[2]) | (blue & kThirds[0]));
}

REID_LANES_INLINE Pixels pixels_at(const Planes& p, size_t i) { return {widen(p.r + i), widen(p.g + i), widen(p.b + i)}; }

template <class Argument, void (*change)(Argument, Pixels&)>
REID_LANES_INLINE void change_block(Argument argument, uint8_t* rgb) {
  Planes planes;
  split(rgb, planes);
  for (size_t i = 0; i < 16; i += kLanes) {
    Pixels p = pixels_at(planes, i);
    change(argument, p);
    narrow(p.r, planes.r + i);
    narrow(p.g, planes.g + i);
    narrow(p.b, planes.b + i);
  }
  join(planes, rgb);
}

// change(argument, pixels) for all pixels, some at a time; those that are missing from the last 16 are black.
template <class Argument, void (*change)(Argument, Pixels&)>
REID_LANES_INLINE void change_pixels(Argument argument, uint8_t* rgb, size_t pixels) {
  for (; pixels >= 16; pixels -= 16, rgb += 48) change_block<Argument, change>(argument, rgb);
  uint8_t last[48] = {};
  std::memcpy(last, rgb, 3 * pixels);
  change_block<Argument, change>(argument, last);
  std::memcpy(rgb, last, 3 * pixels);
}

// ---- Blends

REID_LANES_INLINE Ints blend(Ints other, Ints value, float factor) {
  const Floats black = {}, white = black + 255.0f, mixed = to_floats(other) + factor * to_floats(value - other);
  const Floats low = mixed > black ? mixed : black;
  return to_ints(low < white ? low : white);
}

REID_LANES_TARGET void blend_bytes(uint8_t* values, size_t count, int other, float factor) {
  const Ints others = Ints{} + other;
  for (; count >= kLanes; count -= kLanes, values += kLanes) narrow(blend(others, widen(values), factor), values);
  uint8_t last[kLanes] = {};
  std::memcpy(last, values, count);
  narrow(blend(others, widen(last), factor), last);
  std::memcpy(values, last, count);
}

REID_LANES_INLINE Ints gray(const Pixels& p) { return (p.r * 19595 + p.g * 38470 + p.b * 7471 + 0x8000) >> 16; }

REID_LANES_INLINE void blend_pixels(float factor, Pixels& p) {
  const Ints other = gray(p);
  p = {blend(other, p.r, factor), blend(other, p.g, factor), blend(other, p.b, factor)};
}

REID_LANES_TARGET void blend_with_gray(uint8_t* rgb, size_t pixels, float factor) {
  change_pixels<float, blend_pixels>(factor, rgb, pixels);
}

// Of blocks that lie one behind the other; a lane holds the sum of 2^20.
REID_LANES_INLINE int64_t sum_of_blocks(const uint8_t* rgb, size_t blocks) {
  Ints sums = {};
  for (size_t n = 0; n < blocks; ++n) {
    Planes planes;
    split(rgb + 48 * n, planes);
    for (size_t i = 0; i < 16; i += kLanes) sums += gray(pixels_at(planes, i));
  }
  int64_t total = 0;
  for (size_t l = 0; l < kLanes; ++l) total += sums[l];
  return total;
}

REID_LANES_TARGET int64_t sum_of_gray(const uint8_t* rgb, size_t pixels) {
  constexpr size_t kMost = 1 << 20;
  int64_t total = 0;
  for (; pixels >= 16;) {
    const size_t blocks = std::min(kMost, pixels / 16);
    total += sum_of_blocks(rgb, blocks);
    rgb += 48 * blocks;
    pixels -= 16 * blocks;
  }
  uint8_t last[48] = {};  // black, whose gray is 0
  std::memcpy(last, rgb, 3 * pixels);
  return total + sum_of_blocks(last, 1);
}

// ---- Hue

// floor(255 x), x in [0, 1], of the product before it is rounded: 256 x - n has no more digits than a float holds.
REID_LANES_INLINE Ints floor255(Floats x) {
  const Ints n = to_ints(x * 255.0f);
  return n + (256.0f * x - to_floats(n) < x);  // a comparison that holds is -1
}

// Pillow counts sextants from red: 0 + b - g, 2 + r - b or 4 + g - r, where a letter is that channel's distance from the highest in units
// of the range. The lowest channel's is 1, so one quotient is enough. Pillow goes on in double; that this gives the same bytes was found
// by trying all colors.
REID_LANES_INLINE void to_hsv(Pixels& p) {
  const Ints r = p.r, g = p.g, b = p.b, zero = {}, one = zero + 1;
  const Floats nothing = {}, whole = nothing + 1.0f;
  const Ints high = larger(larger(r, g), b), low = smaller(smaller(r, g), b), range = high - low;
  const Ints red = r == high, green = g == high, after = red ? b : green ? r : g;  // the channel whose distance is added
  const Floats share = to_floats(low + 2 * high - r - g - b) / to_floats(larger(range, one));
  const Floats center = red ? nothing : green ? 2.0f * whole : 4.0f * whole;
  const Floats hue = after == low ? center + 1.0f - share : center - 1.0f + share;
  const Floats turns = hue / 6.0f;
  p.r = floor255(hue < nothing ? whole + turns : turns) & (range != zero);
  p.g = floor255(to_floats(range) / to_floats(larger(high, one)));
  p.b = high;
}

// 510 steps are a turn here, hence 85 a sextant. The middle channel is v (1 - s mix), the lowest v (1 - s), in fractions of 255 and of 85,
// to the nearest; no fraction is a half, since the denominators are odd.
REID_LANES_INLINE void to_rgb(int32_t steps, Pixels& p) {
  const Ints s = p.g, v = p.b, turn = 2 * ((p.r + steps) & 255);
  const Ints sector = (turn * 772) >> 16, rest = turn - 85 * sector;  // 772 / 65536: 1 / 85, rounded up; sector 6 is 0 again
  const Ints mix = (sector & 1) != 0 ? rest : 85 - rest;              // that channel rises in even sectors and falls in odd ones
  const Ints middle = to_ints(to_floats(2 * v * (85 * 255 - s * mix) + 85 * 255) / (2.0f * 85 * 255));
  const Ints product = v * (255 - s) + 128, low = (product + (product >> 8)) >> 8;
  const Ints is1 = sector == 1, is2 = sector == 2, is3 = sector == 3, is4 = sector == 4, is5 = sector == 5;
  p.r = (is1 | is4) ? middle : (is2 | is3) ? low : v;
  p.g = (is1 | is2) ? v : (is4 | is5) ? low : middle;
  p.b = (is3 | is4) ? v : (is2 | is5) ? middle : low;
}

REID_LANES_INLINE void turn_pixels(int32_t steps, Pixels& p) {
  to_hsv(p);
  to_rgb(steps, p);
}

REID_LANES_TARGET void shift_hue(uint8_t* rgb, size_t pixels, uint8_t steps) { change_pixels<int32_t, turn_pixels>(steps, rgb, pixels); }

}  // namespace
}  // namespace reid
