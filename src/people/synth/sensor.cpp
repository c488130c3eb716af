// What a camera does to light: resolution, blur, color, tone and noise.

#include <array>

#include "people/synth/render.h"

namespace reid::synth {
namespace {

struct Plane {
  int height = 0, width = 0;
  std::vector<Color> pixels;
  const Color& at(int y, int x) const { return pixels[static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)]; }
  Color& at(int y, int x) { return pixels[static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)]; }
};

// Mean over the area a smaller pixel covers, along x; `transpose` swaps the axes of the result, so two calls shrink both.
Plane shrink(const Plane& in, int width) {
  Plane out{width, in.height, std::vector<Color>(in.pixels.size() / static_cast<size_t>(in.width) * static_cast<size_t>(width))};
  const float ratio = as_float(in.width) / as_float(width);
  for (int x = 0; x < width; ++x) {
    const float from = as_float(x) * ratio, to = std::min(as_float(in.width), from + ratio);
    for (int y = 0; y < in.height; ++y) {
      Color sum;
      for (int k = floor_to_int(from); k < in.width && as_float(k) < to; ++k) {
        const float share = std::min(to, as_float(k + 1)) - std::max(from, as_float(k));
        if (share > 0) sum = sum + in.at(y, k) * share;
      }
      out.at(x, y) = sum * (1 / ratio);
    }
  }
  return out;
}

Plane enlarge(const Plane& in, int height, int width) {
  Plane out{height, width, std::vector<Color>(static_cast<size_t>(height) * static_cast<size_t>(width))};
  for (int y = 0; y < height; ++y) {
    const float sy = std::max(0.0f, (as_float(y) + 0.5f) * as_float(in.height) / as_float(height) - 0.5f);
    const int y0 = std::min(in.height - 1, floor_to_int(sy)), y1 = std::min(in.height - 1, y0 + 1);
    for (int x = 0; x < width; ++x) {
      const float sx = std::max(0.0f, (as_float(x) + 0.5f) * as_float(in.width) / as_float(width) - 0.5f);
      const int x0 = std::min(in.width - 1, floor_to_int(sx)), x1 = std::min(in.width - 1, x0 + 1);
      const float fx = sx - as_float(x0), fy = sy - as_float(y0);
      out.at(y, x) = mix(mix(in.at(y0, x0), in.at(y0, x1), fx), mix(in.at(y1, x0), in.at(y1, x1), fx), fy);
    }
  }
  return out;
}

// Gaussian of the given deviation in pixels, along x, transposing.
Plane blurred(const Plane& in, float deviation) {
  std::array<float, 5> weights{};
  float total = 0;
  for (int k = -2; k <= 2; ++k) {
    const float z = as_float(k) / std::max(0.05f, deviation);
    weights[static_cast<size_t>(k + 2)] = power(2.718281828f, -0.5f * z * z);
    total += weights[static_cast<size_t>(k + 2)];
  }
  Plane out{in.width, in.height, std::vector<Color>(in.pixels.size())};
  for (int y = 0; y < in.height; ++y)
    for (int x = 0; x < in.width; ++x) {
      Color sum;
      for (int k = -2; k <= 2; ++k) sum = sum + in.at(y, std::min(in.width - 1, std::max(0, x + k))) * weights[static_cast<size_t>(k + 2)];
      out.at(x, y) = sum * (1 / total);
    }
  return out;
}

// The camera's tone curve, as a table over the square root of the light.
class Tone {
 public:
  explicit Tone(const Camera& camera) {
    const float exponent = 2 / (2.2f * camera.gamma);  // twice: the table's argument is a square root
    for (size_t i = 0; i < table_.size(); ++i) {
      const float root = static_cast<float>(i) / (kSize - 1);
      table_[i] = camera.haze + (1 - camera.haze) * power(root, exponent);
    }
  }
  float operator()(float light) const {
    // Highlights are compressed softly above 0.75.
    const float held = light < 0.75f ? std::max(0.0f, light) : 0.75f + 0.25f * (light - 0.75f) / (light - 0.5f);
    const float at = std::sqrt(held) * (kSize - 1);
    const int i = std::min(static_cast<int>(kSize) - 2, static_cast<int>(at));
    return mix(table_[static_cast<size_t>(i)], table_[static_cast<size_t>(i + 1)], at - as_float(i));
  }

 private:
  static constexpr size_t kSize = 513;
  std::array<float, kSize> table_{};
};

// About normal, mean 0, deviation 1: the sum of four 16-bit uniforms.
float grain(Rng& rng) {
  const uint64_t b = rng.bits();
  const uint64_t sum = (b & 0xffff) + ((b >> 16) & 0xffff) + ((b >> 32) & 0xffff) + (b >> 48);
  return (static_cast<float>(sum) * (1.0f / 65535) - 2) * 1.7320508f;
}

void expose(Plane& plane, const Camera& camera, Rng& rng) {
  const Tone tone(camera);
  for (Color& p : plane.pixels) {
    Color v = {tone(p.x * camera.gains.x), tone(p.y * camera.gains.y), tone(p.z * camera.gains.z)};
    const float gray = 0.299f * v.x + 0.587f * v.y + 0.114f * v.z;
    v = mix(Color{gray, gray, gray}, v, camera.saturation);
    const float common = grain(rng), red = grain(rng), blue = grain(rng);
    const float level = camera.noise * (1.25f - 0.5f * clamp01(gray));
    p = v + Color{common + 0.5f * red, common, common + 0.6f * blue} * level;
  }
}

}  // namespace

Image develop(const Picture& picture, const Camera& camera, Rng rng) {
  Plane plane{picture.height, picture.width, picture.pixels};
  const float native = std::min(1.0f, picture.native);
  const int rows = std::max(16, static_cast<int>(as_float(picture.height) * native)),
            columns = std::max(8, static_cast<int>(as_float(picture.width) * native));
  if (rows < picture.height) plane = shrink(shrink(plane, columns), rows);
  plane = blurred(blurred(plane, camera.blur), camera.blur);
  expose(plane, camera, rng);
  if (plane.height != picture.height || plane.width != picture.width) plane = enlarge(plane, picture.height, picture.width);
  Image image(picture.height, picture.width);
  for (size_t i = 0; i < plane.pixels.size(); ++i) {
    const Color& p = plane.pixels[i];
    image.rgb[3 * i] = static_cast<uint8_t>(clamp01(p.x) * 255 + 0.5f);
    image.rgb[3 * i + 1] = static_cast<uint8_t>(clamp01(p.y) * 255 + 0.5f);
    image.rgb[3 * i + 2] = static_cast<uint8_t>(clamp01(p.z) * 255 + 0.5f);
  }
  return image;
}

}  // namespace reid::synth
