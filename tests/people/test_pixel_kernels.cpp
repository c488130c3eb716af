#include "people/pixel_kernels.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "reid/people/transform.h"

using namespace reid;

namespace {

std::vector<uint8_t> random_bytes(size_t count, Rng rng) {
  std::vector<uint8_t> bytes(count);
  for (uint8_t& v : bytes) v = static_cast<uint8_t>(rng.below(256));
  return bytes;
}

// Around the widths of all vectors: none, one, one less and one more than a whole number of them.
constexpr size_t kCounts[] = {1, 2, 3, 5, 6, 7, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 127, 128, 129, 200};

// The conversion to HSV and back with the arithmetic of Pillow: float, double where its C promotes.
void shift_hue_plainly(uint8_t* p, uint8_t steps) {
  const int r = p[0], g = p[1], b = p[2], high = std::max({r, g, b}), low = std::min({r, g, b});
  uint8_t h = 0, s = 0;
  if (high != low) {
    const float range = static_cast<float>(high - low);
    const auto distance = [&](int channel) { return static_cast<double>(static_cast<float>(high - channel) / range); };
    const float hue = static_cast<float>(r == high   ? distance(b) - distance(g)
                                         : g == high ? 2.0 + distance(r) - distance(b)
                                                     : 4.0 + distance(g) - distance(r));
    const float turns = static_cast<float>(std::fmod(static_cast<double>(hue) / 6.0 + 1.0, 1.0));
    h = static_cast<uint8_t>(std::min(static_cast<int>(static_cast<double>(turns) * 255.0), 255));
    s = static_cast<uint8_t>(static_cast<int>(static_cast<double>(range / static_cast<float>(high)) * 255.0));
  }
  const double sextants = static_cast<uint8_t>(h + steps) * 6.0 / 255.0;
  const int sector = static_cast<int>(sextants);
  const double f = static_cast<double>(static_cast<float>(sextants - sector)), share = static_cast<double>(static_cast<float>(s / 255.0));
  const auto level = [&](double x) { return static_cast<uint8_t>(static_cast<int>(high * x + 0.5)); };
  const uint8_t v = static_cast<uint8_t>(high), m = level(1 - share), q = level(1 - share * f), t = level(1 - share * (1 - f));
  const uint8_t colors[6][3] = {{v, t, m}, {q, v, m}, {m, v, t}, {m, q, v}, {t, m, v}, {v, m, q}};
  std::copy_n(colors[sector % 6], 3, p);
}

}  // namespace

TEST_CASE("pixels: weighted sums of rows are those of the definition, for every instruction set") {
  Rng rng(1);
  for (const int bits : {15, 22}) {
    const int64_t most = int64_t{127} << (bits - 7 + (bits == 22 ? 1 : 0));  // 127 * 2^8 and 127 * 2^16
    for (const size_t count : kCounts) {
      const size_t terms = static_cast<size_t>(count == 128 ? 70 : 1 + rng.below(9));  // 70: more than are kept at hand
      const std::vector<uint8_t> rows = random_bytes(count + terms, rng.at(count));
      std::vector<Tap> taps;
      int64_t left = int64_t{2} << bits;  // the sum stays within 32 bits
      for (size_t t = 0; t < terms; ++t) {
        const int64_t reach = std::min(most, left / static_cast<int64_t>(terms - t));  // something is left for the last one
        taps.push_back({rows.data() + t, static_cast<int32_t>(t == 0 ? most - rng.below(3) : rng.below(2 * reach + 1) - reach)});
        left -= std::abs(taps.back().weight);
      }
      std::vector<uint8_t> expected(count);
      for (size_t i = 0; i < count; ++i) {
        int64_t sum = int64_t{1} << (bits - 1);
        for (const Tap& tap : taps) sum += int64_t{tap.weight} * tap.row[i];
        expected[i] = static_cast<uint8_t>(std::clamp<int64_t>(sum >> bits, 0, 255));
      }
      for (const PixelKernels& kernels : all_pixel_kernels()) {
        std::vector<uint8_t> sums(count + 1, 77);
        kernels.weigh_rows(taps, bits, sums.data(), count);
        CAPTURE(kernels.name);
        CAPTURE(count);
        CHECK(std::equal(expected.begin(), expected.end(), sums.begin()));
        CHECK(sums.back() == 77);
      }
    }
  }
}

TEST_CASE("pixels: weighted sums along rows are those of the definition, for every instruction set that has them") {
  struct Case {
    int width, outputs, most;  // pixels, pixels, taps
  };
  const Case cases[] = {{22, 1, 1},    {22, 5, 4},   {23, 64, 4},  {64, 128, 4}, {64, 127, 2}, {110, 128, 5}, {128, 128, 4}, {150, 85, 9},
                        {200, 100, 8}, {97, 106, 3}, {30, 30, 12}, {300, 21, 4}, {21, 40, 4},  {90, 8, 70},   {10, 20, 4}};
  constexpr int kRows = 37;
  int refused = 0, computed = 0;
  for (const auto& [width, outputs, most] : cases) {
    Rng rng = Rng(static_cast<uint64_t>(width)).at(static_cast<uint64_t>(outputs));
    Windows windows{.stride = most + 1, .first = {}, .count = {}, .weights = {}};
    for (int x = 0; x < outputs; ++x) {
      windows.count.push_back(1 + static_cast<int>(rng.below(most)));
      windows.first.push_back(x * (width - windows.count.back()) / outputs);
      windows.first.back() = std::max(windows.first.back(), x == 0 ? 0 : windows.first[static_cast<size_t>(x - 1)]);
      windows.count.back() = std::min(windows.count.back(), width - windows.first.back());
      for (int k = 0; k <= most; ++k)  // of both signs, the largest sum within 32 bits; those beyond the count are none
        windows.weights.push_back(static_cast<int32_t>(rng.below(k == 0 ? 4 << 20 : (4 << 20) / most)) -
                                  (k % 2 == 1 ? (1 << 20) / most : 0));
    }
    const auto rows = static_cast<size_t>(kRows), from = static_cast<size_t>(3 * width), to = static_cast<size_t>(3 * outputs);
    const std::vector<uint8_t> src = random_bytes(rows * from, rng);
    std::vector<uint8_t> expected(rows * to);
    for (size_t i = 0; i < expected.size(); ++i) {
      const size_t x = i % to / 3;
      int64_t sum = int64_t{1} << (kWindowBits - 1);
      for (size_t k = 0; k < static_cast<size_t>(windows.count[x]); ++k)
        sum += int64_t{windows.weights[x * static_cast<size_t>(windows.stride) + k]} *
               src[i / to * from + 3 * (static_cast<size_t>(windows.first[x]) + k) + i % 3];
      expected[i] = static_cast<uint8_t>(std::clamp<int64_t>(sum >> kWindowBits, 0, 255));
    }
    for (const PixelKernels& kernels : all_pixel_kernels()) {
      if (kernels.weigh_pixels == nullptr) continue;
      std::vector<uint8_t> sums(expected.size() + 1, 77);
      const bool done = kernels.weigh_pixels(windows, src.data(), static_cast<size_t>(width), sums.data(), rows);
      CAPTURE(kernels.name);
      CAPTURE(windows.count.size());
      CHECK(sums.back() == 77);
      if (done) sums.pop_back();
      CHECK(sums == (done ? expected : std::vector<uint8_t>(expected.size() + 1, 77)));
      (done ? computed : refused) += 1;
    }
  }
  const bool known = all_pixel_kernels().front().weigh_pixels != nullptr;
  CHECK(computed == (known ? 12 : 0));
  CHECK(refused == (known ? 3 : 0));  // outputs too far from each other, twice; a row of 30 bytes
}

TEST_CASE("pixels: transposing and mirroring move every byte to its place, for every instruction set") {
  for (const PixelKernels& kernels : all_pixel_kernels()) {
    CAPTURE(kernels.name);
    for (const size_t columns : kCounts) {
      for (const size_t rows : {size_t{1}, size_t{16}, size_t{35}}) {
        const std::vector<uint8_t> src = random_bytes(rows * (columns + 2), Rng(columns));
        std::vector<uint8_t> dst(columns * (rows + 1), 77);
        kernels.transpose_bytes(src.data(), columns + 2, rows, columns, dst.data(), rows + 1);
        bool right = true;
        for (size_t x = 0; x < columns; ++x) {
          for (size_t y = 0; y < rows; ++y) right = right && dst[x * (rows + 1) + y] == src[y * (columns + 2) + x];
          right = right && dst[x * (rows + 1) + rows] == 77;
        }
        CHECK(right);
      }
      const std::vector<uint8_t> src = random_bytes(3 * columns, Rng(columns));
      std::vector<uint8_t> dst(3 * columns + 1, 77);
      kernels.mirror_row(src.data(), dst.data(), columns);
      bool right = dst.back() == 77;
      for (size_t i = 0; i < 3 * columns; ++i) right = right && dst[i] == src[3 * (columns - 1 - i / 3) + i % 3];
      CHECK(right);
    }
  }
}

TEST_CASE("pixels: blends and gray are those of the definition, for every instruction set") {
  const auto blend = [](int other, int value, float factor) {
    const float mixed = static_cast<float>(other) + factor * static_cast<float>(value - other);
    return static_cast<uint8_t>(std::clamp(mixed, 0.0f, 255.0f));
  };
  const auto gray = [](const uint8_t* p) { return (p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16; };
  for (const PixelKernels& kernels : all_pixel_kernels()) {
    CAPTURE(kernels.name);
    for (const size_t pixels : kCounts) {
      const float factor = static_cast<float>(Rng(pixels).uniform(0, 3));
      const std::vector<uint8_t> src = random_bytes(3 * pixels, Rng(pixels));
      std::vector<uint8_t> with_constant = src, with_gray = src, expected(src.size()), expected_gray(src.size());
      int64_t sum = 0;
      for (size_t i = 0; i < src.size(); ++i) {
        const int own = gray(&src[i / 3 * 3]);
        sum += i % 3 == 0 ? own : 0;
        expected[i] = blend(93, src[i], factor);
        expected_gray[i] = blend(own, src[i], factor);
      }
      kernels.blend_bytes(with_constant.data(), with_constant.size(), 93, factor);
      kernels.blend_with_gray(with_gray.data(), pixels, factor);
      CHECK(with_constant == expected);
      CHECK(with_gray == expected_gray);
      CHECK(kernels.sum_of_gray(src.data(), pixels) == sum);
    }
  }
}

TEST_CASE("pixels: hues are shifted as Pillow does in double, for every instruction set") {
  // All distances between channels, in all orders: hues depend on nothing else. And colors of all brightnesses.
  std::vector<uint8_t> colors;
  for (int range = 0; range < 256; ++range) {
    for (int middle = 0; middle <= range; ++middle) {
      const uint8_t a = static_cast<uint8_t>(range), b = static_cast<uint8_t>(middle);
      for (const auto& color : {std::array<uint8_t, 3>{a, b, 0}, {a, 0, b}, {b, a, 0}, {0, a, b}, {b, 0, a}, {0, b, a}})
        colors.insert(colors.end(), color.begin(), color.end());
    }
  }
  const std::vector<uint8_t> more = random_bytes(300'003, Rng(2));
  colors.insert(colors.end(), more.begin(), more.end());
  for (const uint8_t steps : {uint8_t{0}, uint8_t{13}, uint8_t{243}}) {
    std::vector<uint8_t> expected = colors;
    for (size_t i = 0; i < expected.size(); i += 3) shift_hue_plainly(&expected[i], steps);
    for (const PixelKernels& kernels : all_pixel_kernels()) {
      std::vector<uint8_t> shifted = colors;
      kernels.shift_hue(shifted.data(), shifted.size() / 3, steps);
      CAPTURE(kernels.name);
      CHECK(shifted == expected);
    }
  }
}

TEST_CASE("pixels: normalization multiplies only where that gives the three roundings of the definition") {
  Rng rng(3);
  for (int round = 0; round < 40; ++round) {
    TransformConfig config;
    for (size_t c = 0; c < 3 && round > 0; ++c) {  // first the defaults
      config.mean[c] = static_cast<float>(rng.uniform());
      config.std[c] = static_cast<float>(rng.uniform(0.01, 1));
    }
    const Normalizer normalize(config);
    const size_t pixels = round < 20 ? 768 : 1 + static_cast<size_t>(rng.below(100));
    std::vector<uint8_t> values(3 * pixels);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<uint8_t>(i / 3);
    std::vector<float> results(values.size() + 1, -7.0f);
    normalize(values.data(), results.data(), pixels);
    bool right = results.back() == -7.0f;
    for (size_t i = 0; i < values.size(); ++i)
      right = right && results[i] == (static_cast<float>(values[i]) / 255.0f - config.mean[i % 3]) / config.std[i % 3];
    CHECK(right);
  }
}

TEST_CASE("pixels: normalizing gives the three rounded steps, by table and by multiplications, for every instruction set") {
  const TransformConfig config;  // for whose statistics multiplications are exact
  NormalizeArgs args{};
  const auto definition = [&](size_t v, size_t c) { return (static_cast<float>(v) / 255.0f - config.mean[c]) / config.std[c]; };
  for (size_t i = 0; i < 768; ++i) args.table[i / 256][i % 256] = definition(i % 256, i / 256);
  for (size_t i = 0; i < args.mean.size(); ++i) {
    const double inverse = 1.0 / static_cast<double>(config.std[i % 3]);
    args.mean[i] = config.mean[i % 3];
    args.high[i] = static_cast<float>(inverse);
    args.low[i] = static_cast<float>(inverse - static_cast<double>(args.high[i]));
  }
  for (const PixelKernels& kernels : all_pixel_kernels()) {
    for (const size_t pixels : kCounts) {
      for (const bool fused : {false, true}) {
        args.fused = fused;
        const std::vector<uint8_t> src = random_bytes(3 * pixels, Rng(pixels));
        std::vector<float> dst(3 * pixels + 1, -7.0f);
        kernels.normalize_pixels(args, src.data(), dst.data(), pixels);
        bool right = dst.back() == -7.0f;
        for (size_t i = 0; i < src.size(); ++i) right = right && dst[i] == definition(src[i], i % 3);
        CAPTURE(kernels.name);
        CAPTURE(pixels);
        CHECK(right);
      }
    }
  }
}
