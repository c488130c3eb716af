#pragma once
// Small maths of the synthetic world: vectors, and sine, power and noise made of + - * / and sqrt only.
//
// The C library picks its sin, cos, exp and pow by processor and they differ in the last bit; a world must have the same
// bytes everywhere, so nothing in this folder calls them. Functions that take several random numbers take them in
// separate statements or in braces, because compilers order call arguments as they like.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "reid/engine/base.h"

namespace reid::synth {

inline constexpr float kPi = 3.14159265358979f;

struct Vec3 {
  float x = 0, y = 0, z = 0;
};
inline Vec3 operator+(Vec3 a, Vec3 b) { return {a.x + b.x, a.y + b.y, a.z + b.z}; }
inline Vec3 operator-(Vec3 a, Vec3 b) { return {a.x - b.x, a.y - b.y, a.z - b.z}; }
inline Vec3 operator*(Vec3 a, float s) { return {a.x * s, a.y * s, a.z * s}; }
inline Vec3 operator*(Vec3 a, Vec3 b) { return {a.x * b.x, a.y * b.y, a.z * b.z}; }  // per component: light on albedo
inline float dot(Vec3 a, Vec3 b) { return a.x * b.x + a.y * b.y + a.z * b.z; }
inline Vec3 cross(Vec3 a, Vec3 b) { return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x}; }
inline float length(Vec3 a) { return std::sqrt(dot(a, a)); }
inline Vec3 normalized(Vec3 a) {
  const float l = length(a);
  return l > 1e-12f ? a * (1.0f / l) : Vec3{0, 1, 0};
}
inline Vec3 mix(Vec3 a, Vec3 b, float t) { return a + (b - a) * t; }
inline float mix(float a, float b, float t) { return a + (b - a) * t; }
inline float clamp01(float x) { return std::min(1.0f, std::max(0.0f, x)); }
inline float smoothstep(float low, float high, float x) {
  const float t = clamp01((x - low) / (high - low));
  return t * t * (3.0f - 2.0f * t);
}
inline float as_float(int x) { return static_cast<float>(x); }
// For |x| below 2^31. Truncation and a comparison: without SSE 4.1 std::floor is a function call, and this is the hot spot.
inline int floor_to_int(float x) {
  const int whole = static_cast<int>(x);
  return as_float(whole) > x ? whole - 1 : whole;
}
inline float fraction(float x) { return x - as_float(floor_to_int(x)); }

// Absolute error below 1e-6 for |x| up to a few hundred.
float sine(float x);
inline float cosine(float x) { return sine(x + 0.5f * kPi); }
// base^exponent for base >= 0; relative error below 1e-6.
float power(float base, float exponent);

// Colors are linear-light RGB. sRGB values 0..255 are how palettes are written down.
using Color = Vec3;
Color from_srgb(int r, int g, int b);
float luminance(Color c);

// A number in [0, 1) for a lattice point, and smooth noise over the plane with features one unit wide.
float lattice(int x, int y, uint32_t salt);
float value_noise(float x, float y, uint32_t salt);
float cloud_noise(float x, float y, uint32_t salt);  // three octaves, mean about 0.5

inline float draw(Rng& rng, float low, float high) { return static_cast<float>(rng.uniform(low, high)); }
inline uint32_t salt(Rng& rng) { return static_cast<uint32_t>(rng.bits() >> 32); }
// An index drawn with the given weights (not all zero).
template <class Weights>
int draw_index(Rng& rng, const Weights& weights) {
  float total = 0;
  for (const float w : weights) total += w;
  float left = draw(rng, 0.0f, total);
  int index = 0, last = 0;
  for (const float w : weights) {
    if (w > 0) last = index;
    if (w > 0 && left < w) return index;
    left -= w;
    ++index;
  }
  return last;
}

}  // namespace reid::synth
