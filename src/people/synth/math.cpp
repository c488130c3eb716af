#include "people/synth/math.h"

namespace reid::synth {

float sine(float x) {
  const double turns = static_cast<double>(x) * 0.15915494309189535;
  const double t = turns - static_cast<double>(static_cast<int64_t>(turns + (turns < 0 ? -0.5 : 0.5)));  // [-0.5, 0.5]
  const double folded = t > 0.25 ? 0.5 - t : (t < -0.25 ? -0.5 - t : t);
  const double a = folded * 6.283185307179586;
  const double a2 = a * a;
  // Taylor to a^11: the next term at pi/2 is 6e-8.
  return static_cast<float>(a * (1 - a2 / 6 * (1 - a2 / 20 * (1 - a2 / 42 * (1 - a2 / 72 * (1 - a2 / 110))))));
}

float power(float base, float exponent) {
  if (!(base > 0)) return 0;
  int binary = 0;
  const double mantissa = std::frexp(static_cast<double>(base), &binary);  // [0.5, 1), exact
  const double z = (mantissa - 0.7071067811865476) / (mantissa + 0.7071067811865476);
  const double z2 = z * z;
  // log2(m) = log2(sqrt(1/2)) + 2 atanh(z) / ln 2, with |z| < 0.172.
  const double series = z * (1 + z2 * (1.0 / 3 + z2 * (1.0 / 5 + z2 * (1.0 / 7 + z2 / 9))));
  const double log2 = binary - 0.5 + 2.8853900817779268 * series;
  const double y = log2 * static_cast<double>(exponent);
  const double whole = std::floor(y + 0.5);
  const double r = (y - whole) * 0.6931471805599453;
  const double e = 1 + r * (1 + r / 2 * (1 + r / 3 * (1 + r / 4 * (1 + r / 5 * (1 + r / 6 * (1 + r / 7))))));
  const double limited = std::min(120.0, std::max(-120.0, whole));
  return static_cast<float>(std::ldexp(e, static_cast<int>(limited)));
}

Color from_srgb(int r, int g, int b) {
  return {power(as_float(r) / 255.0f, 2.2f), power(as_float(g) / 255.0f, 2.2f), power(as_float(b) / 255.0f, 2.2f)};
}

float luminance(Color c) { return 0.2126f * c.x + 0.7152f * c.y + 0.0722f * c.z; }

namespace {

// The finalizer of MurmurHash3 (Appleby): every input bit reaches every output bit.
uint32_t scramble(uint32_t h) {
  h ^= h >> 16;
  h *= 0x85ebca6bu;
  h ^= h >> 13;
  h *= 0xc2b2ae35u;
  return h ^ (h >> 16);
}

}  // namespace

float lattice(int x, int y, uint32_t salt) {
  const uint32_t h = scramble(static_cast<uint32_t>(x) * 0x9E3779B1u + static_cast<uint32_t>(y) * 0x632BE5ABu + salt * 0xC2B2AE35u);
  return static_cast<float>(h >> 8) * 0x1p-24f;
}

float value_noise(float x, float y, uint32_t salt) {
  const int ix = floor_to_int(x), iy = floor_to_int(y);
  float fx = x - as_float(ix), fy = y - as_float(iy);
  fx = fx * fx * (3 - 2 * fx);
  fy = fy * fy * (3 - 2 * fy);
  const float top = mix(lattice(ix, iy, salt), lattice(ix + 1, iy, salt), fx);
  const float bottom = mix(lattice(ix, iy + 1, salt), lattice(ix + 1, iy + 1, salt), fx);
  return mix(top, bottom, fy);
}

float cloud_noise(float x, float y, uint32_t salt) {
  const float a = value_noise(x, y, salt), b = value_noise(x * 2.1f, y * 2.1f, salt + 1), c = value_noise(x * 4.3f, y * 4.3f, salt + 2);
  return 0.55f * a + 0.3f * b + 0.15f * c;
}

}  // namespace reid::synth
