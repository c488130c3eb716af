#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "formats/scratch.h"
#include "reid/engine/ops.h"
#include "reid/formats/safetensors.h"
#include "reid/people/transform.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;

namespace {

const NamedTensors& golden() {
  static const NamedTensors tensors = read_safetensors(REID_SOURCE_DIR "/data/golden/resize.safetensors");
  return tensors;
}

Image image_of(const Tensor& t) {
  Image image(static_cast<int>(t.dim(-3)), static_cast<int>(t.dim(-2)));
  std::copy_n(t.data<uint8_t>(), image.rgb.size(), image.rgb.begin());
  return image;
}

Image constant(int height, int width, uint8_t value) {
  Image image(height, width);
  std::fill(image.rgb.begin(), image.rgb.end(), value);
  return image;
}

Image noise(int height, int width, uint64_t seed) {
  Image image(height, width);
  Rng rng(seed);
  for (uint8_t& v : image.rgb) v = static_cast<uint8_t>(rng.below(256));
  return image;
}

}  // namespace

TEST_CASE("resize: equal to Pillow, byte for byte") {
  int compared = 0;
  for (const auto& tensor : golden().tensors) {
    const std::string& name = tensor.first;
    const Tensor& expected = tensor.second;
    const size_t dot = name.find('.');
    if (name.rfind("input", 0) != 0 || dot == std::string::npos) continue;
    const Image input = image_of(golden().at(name.substr(0, dot)));
    const Filter filter = name.find("bilinear") != std::string::npos ? Filter::bilinear : Filter::bicubic;
    const Image output = resize(input, static_cast<int>(expected.dim(0)), static_cast<int>(expected.dim(1)), filter);
    CAPTURE(name);
    CHECK(output.rgb == image_of(expected).rgb);
    ++compared;
  }
  CHECK(compared == 28);
}

TEST_CASE("resize: the order of the passes is that of the chosen Pillow") {
  const Image input = noise(54, 20, 11);
  const Image width_first = resize_bicubic(resize_bicubic(input, 54, 11), 30, 11);
  const Image height_first = resize_bicubic(resize_bicubic(input, 30, 20), 30, 11);
  REQUIRE(width_first.rgb != height_first.rgb);
  CHECK(resize(input, 30, 11, Filter::bicubic).rgb == height_first.rgb);
  CHECK(resize(input, 30, 11, Filter::bicubic, 12).rgb == width_first.rgb);
  const Image two_to_one = noise(40, 20, 12);  // halved: both versions agree
  CHECK(resize(two_to_one, 20, 10, Filter::bilinear).rgb == resize(two_to_one, 20, 10, Filter::bilinear, 12).rgb);
}

TEST_CASE("resize: a constant stays constant, and nonsense is refused") {
  for (const uint8_t value : {uint8_t{0}, uint8_t{37}, uint8_t{255}})
    for (const Filter filter : {Filter::bilinear, Filter::bicubic}) {
      const Image out = resize(constant(13, 29, value), 41, 7, filter);
      CHECK(std::all_of(out.rgb.begin(), out.rgb.end(), [&](uint8_t v) { return v == value; }));
    }
  CHECK(contains(failure_of([] { resize_bicubic(Image(), 4, 4); }), "the image is empty"));
  CHECK(contains(failure_of([] { resize_bilinear(Image(2, 2), 0, 4); }), "cannot make 0 x 4"));
}

TEST_CASE("color: equal to torchvision on Pillow images, byte for byte") {
  using Adjust = void (*)(Image&, double);
  const std::pair<const char*, Adjust> operations[] = {
      {"brightness", adjust_brightness}, {"contrast", adjust_contrast}, {"saturation", adjust_saturation}, {"hue", adjust_hue}};
  const Image input = image_of(golden().at("colors"));
  for (const auto& operation : operations) {
    const char* const name = operation.first;
    const Adjust adjust = operation.second;
    const Tensor expected = golden().at(str("colors.", name));
    const auto values = golden().at(str("colors.", name, ".values")).span<double>();
    for (size_t i = 0; i < values.size(); ++i) {
      Image image = input;
      adjust(image, values[i]);
      CAPTURE(name);
      CAPTURE(values[i]);
      CHECK(image.rgb == image_of(expected.rows(static_cast<int64_t>(i), static_cast<int64_t>(i) + 1)).rgb);
    }
  }
}

TEST_CASE("blur: within one level of the convolution in double, constants kept") {
  const Image input = noise(20, 14, 3);
  for (const double sigma : {0.1, 0.4, 1.0, 2.0}) {
    const int radius = static_cast<int>(std::ceil(3 * sigma));
    std::vector<double> kernel;
    double sum = 0;
    for (int t = -radius; t <= radius; ++t) sum += kernel.emplace_back(std::exp(-0.5 * t * t / (sigma * sigma)));
    Image image = input;
    gaussian_blur(image, sigma);
    double worst = 0;
    for (int y = 0; y < input.height; ++y)
      for (int x = 0; x < input.width; ++x)
        for (int c = 0; c < 3; ++c) {
          double expected = 0;
          for (int dy = -radius; dy <= radius; ++dy)
            for (int dx = -radius; dx <= radius; ++dx)
              expected += kernel[static_cast<size_t>(dy + radius)] * kernel[static_cast<size_t>(dx + radius)] / (sum * sum) *
                          input.at(std::clamp(y + dy, 0, input.height - 1), std::clamp(x + dx, 0, input.width - 1))[c];
          worst = std::max(worst, std::fabs(expected - image.at(y, x)[c]));
        }
    CAPTURE(sigma);
    CHECK(worst < 1.01);  // two roundings to 8 bits, half a level each, and weights of 15 bits
    Image flat = constant(9, 5, 200);
    gaussian_blur(flat, sigma);
    CHECK(flat.rgb == constant(9, 5, 200).rgb);
  }
}

TEST_CASE("views: the weak view is the table of pixel values") {
  const TransformConfig config{.height = 6, .width = 4};
  const Image image = noise(6, 4, 5);
  std::vector<float> view(image.rgb.size());
  weak_view(image, Normalizer(config), view.data());
  for (size_t i = 0; i < view.size(); ++i)
    CHECK(view[i] == (static_cast<float>(image.rgb[i]) / 255.0f - config.mean[i % 3]) / config.std[i % 3]);
}

TEST_CASE("views: with everything off the augmented view is the weak view; flip mirrors it; pad shifts it") {
  TransformConfig config{.height = 12, .width = 8, .pad = 0, .flip = 0, .blur = 0, .jitter = 0, .erase = 0};
  const Image image = noise(12, 8, 6);
  const Normalizer normalize(config);
  std::vector<float> weak(image.rgb.size()), view(image.rgb.size());
  weak_view(image, normalize, weak.data());
  augmented_view(image, config, normalize, Rng(1), view.data());
  CHECK(view == weak);

  config.flip = 1;
  augmented_view(image, config, normalize, Rng(1), view.data());
  for (size_t y = 0; y < 12; ++y)
    for (size_t x = 0; x < 8; ++x)
      for (size_t c = 0; c < 3; ++c) CHECK(view[(y * 8 + x) * 3 + c] == weak[(y * 8 + 7 - x) * 3 + c]);

  config.flip = 0;
  config.pad = 3;
  bool shifts[7][7] = {};
  for (uint64_t seed = 0; seed < 600; ++seed) {
    augmented_view(image, config, normalize, Rng(seed), view.data());
    int matches = 0;
    for (int dy = -3; dy <= 3; ++dy)
      for (int dx = -3; dx <= 3; ++dx) {
        bool equal = true;
        for (int y = 0; y < 12 && equal; ++y)
          for (int x = 0; x < 8 && equal; ++x) {
            const bool inside = y + dy >= 0 && y + dy < 12 && x + dx >= 0 && x + dx < 8;
            const float expected = inside ? weak[static_cast<size_t>(((y + dy) * 8 + x + dx) * 3)] : -config.mean[0] / config.std[0];
            equal = view[static_cast<size_t>((y * 8 + x) * 3)] == expected;
          }
        if (equal) shifts[dy + 3][dx + 3] = true;
        matches += equal;
      }
    REQUIRE(matches == 1);
  }
  CHECK(std::all_of(&shifts[0][0], &shifts[0][0] + 49, [](bool seen) { return seen; }));

  // Draws have names: with the same ones a flip shows the same window, its black margins too, in a mirror.
  std::vector<float> mirrored(view.size());
  for (uint64_t seed = 0; seed < 50; ++seed) {
    config.flip = 0;
    augmented_view(image, config, normalize, Rng(seed), view.data());
    config.flip = 1;
    augmented_view(image, config, normalize, Rng(seed), mirrored.data());
    bool right = true;
    for (size_t i = 0; i < view.size() / 3; ++i)
      for (size_t c = 0; c < 3; ++c) right = right && mirrored[i * 3 + c] == view[(i / 8 * 8 + 7 - i % 8) * 3 + c];
    CHECK(right);
  }
}

TEST_CASE("views: made of pixels by the operation they have the same bits, but for blur and colors") {
  const TransformConfig config{.height = 21, .width = 9, .pad = 4, .blur = 0, .jitter = 0, .erase = 0.5, .erase_value = {0.5f, -2.f, 0.f}};
  constexpr int64_t kImages = 64;
  const Normalizer normalize(config);
  PixelColors colors = pixel_colors(config);
  const Shape shape{kImages, config.height, config.width, 3};
  const Tensor x = Tensor::empty(shape, DType::u8), views = Tensor::empty({kImages, kPixelViewFields}, DType::i32);
  const Tensor weak = Tensor::empty(shape, DType::f32), augmented = Tensor::empty(shape, DType::f32);
  int erased = 0, mirrored = 0;
  for (int64_t i = 0; i < kImages; ++i) {
    const Image image = noise(config.height, config.width, static_cast<uint64_t>(i));
    const Rng rng = Rng(8).at(static_cast<uint64_t>(i));
    const PixelView view = draw_view(config, rng);
    erased += view.height > 0, mirrored += view.mirrored;
    std::ranges::copy(image.rgb, x.rows(i, i + 1).data<uint8_t>());
    const int32_t fields[] = {view.down, view.right, view.mirrored, view.top, view.left, view.height, view.width};
    std::ranges::copy(fields, views.rows(i, i + 1).data<int32_t>());
    weak_view(image, normalize, weak.rows(i, i + 1).data<float>());
    augmented_view(image, config, normalize, rng, augmented.rows(i, i + 1).data<float>());
  }
  CHECK(std::min({erased, mirrored, 64 - erased, 64 - mirrored}) > 8);
  const Tensor still = Tensor::zeros(views.shape(), DType::i32);
  CHECK(bitwise_equal(ops::views_from_pixels(x, still, colors), weak));
  CHECK(bitwise_equal(ops::views_from_pixels(x, views, colors), augmented));
  CHECK(bitwise_equal(ops::views_from_pixels(x, views, colors, DType::bf16), augmented.to(DType::bf16)));
  CHECK(bitwise_equal(ops::views_from_pixels(x, views, colors, DType::f64), augmented.to(DType::f64)));
  CHECK_THROWS_AS(ops::views_from_pixels(x, views.rows(0, 3), colors), Error);
  CHECK_THROWS_AS(ops::views_from_pixels(weak, views, colors), Error);
  colors.std[1] = 0;
  CHECK_THROWS_AS(ops::views_from_pixels(x, views, colors), Error);
}

TEST_CASE("views: made of pixels by two operations they have the bits of augmented views, blur and colors too") {
  for (const auto& [blur, jitter] : {std::pair{0.0, 0.0}, {1.0, 0.0}, {0.0, 1.0}, {0.5, 0.5}}) {
    const TransformConfig config{
        .height = 21, .width = 9, .pad = 4, .blur = blur, .jitter = jitter, .erase = 0.5, .erase_value = {0.5f, -2.f, 0.f}};
    const Normalizer normalize(config);
    constexpr int64_t kImages = 48;
    const Shape shape{kImages, config.height, config.width, 3};
    const Tensor x = Tensor::empty(shape, DType::u8), expected = Tensor::empty(shape, DType::f32);
    const Tensor changes = Tensor::empty({kImages, change_fields(config)}, DType::i32);
    CHECK(changes.dim(1) == 12 + (blur > 0 ? 7 : 1));  // sigma 2 reaches 6 pixels
    const Tensor views = Tensor::empty({kImages, kPixelViewFields}, DType::i32);
    int blurred = 0, colored = 0;
    for (int64_t i = 0; i < kImages; ++i) {
      const Image image = noise(config.height, config.width, static_cast<uint64_t>(i));
      const Rng rng = Rng(8).at(static_cast<uint64_t>(i));
      std::ranges::copy(image.rgb, x.rows(i, i + 1).data<uint8_t>());
      augmented_view(image, config, normalize, rng, expected.rows(i, i + 1).data<float>());
      int32_t* const change = changes.rows(i, i + 1).data<int32_t>();
      const PixelView view = draw_change(config, rng, change);
      CHECK(view.down == 0);
      CHECK(view.right == 0);
      CHECK(view.mirrored == 0);
      std::memcpy(views.rows(i, i + 1).data<int32_t>(), &view, sizeof view);
      blurred += change[3] > 0, colored += change[4] > 0;
    }
    CHECK(bitwise_equal(ops::views_from_pixels(ops::color_pixels(x, changes), views, pixel_colors(config)), expected));
    if (blur == 0.5) CHECK(std::min({blurred, colored, 48 - blurred, 48 - colored}) > 10);
  }
  const Tensor x = Tensor::zeros({2, 4, 4, 3}, DType::u8);
  CHECK_THROWS_AS(ops::color_pixels(x, Tensor::zeros({2, 12}, DType::i32)), Error);  // no weight
  CHECK_THROWS_AS(ops::color_pixels(x, Tensor::zeros({3, 13}, DType::i32)), Error);
  CHECK_THROWS_AS(ops::color_pixels(x, Tensor::zeros({2, 13}, DType::f32)), Error);
  CHECK_THROWS_AS(ops::color_pixels(Tensor::zeros({2, 4, 4, 3}, DType::f32), Tensor::zeros({2, 13}, DType::i32)), Error);
}

TEST_CASE("views: draws are named, so one operation's switch leaves the others' draws alone") {
  TransformConfig config{.height = 16, .width = 8, .pad = 2};
  const Image image = noise(16, 8, 7);
  const Normalizer normalize(config);
  std::vector<float> a(image.rgb.size()), b(image.rgb.size());
  augmented_view(image, config, normalize, Rng(9).at(1), a.data());
  augmented_view(image, config, normalize, Rng(9).at(1), b.data());
  CHECK(a == b);
  augmented_view(image, config, normalize, Rng(9).at(2), b.data());
  CHECK(a != b);

  config.erase = 1;
  augmented_view(image, config, normalize, Rng(9).at(1), b.data());
  size_t changed = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    changed += a[i] != b[i];
    CHECK((a[i] == b[i] || b[i] == 0.0f));
  }
  CHECK(changed > a.size() / 100);
  CHECK(changed < a.size() / 2);
}

TEST_CASE("views: the configured shares of images are changed") {
  const Image image = noise(10, 6, 8);
  const auto share = [&](TransformConfig config) {
    const Normalizer normalize(config);
    std::vector<float> weak(image.rgb.size()), view(image.rgb.size());
    weak_view(image, normalize, weak.data());
    int changed = 0;
    for (uint64_t i = 0; i < 1000; ++i) {
      augmented_view(image, config, normalize, Rng(4).at(i), view.data());
      changed += view != weak;
    }
    return changed / 1000.0;
  };
  const TransformConfig off{.height = 10, .width = 6, .pad = 0, .flip = 0, .blur = 0, .jitter = 0};
  TransformConfig config = off;
  CHECK(share(config) == 0);
  config.flip = 0.5;
  CHECK(std::fabs(share(config) - 0.5) < 0.06);  // 3.8 standard deviations
  config = off;
  config.blur = 0.5, config.blur_min = 0.5;
  CHECK(std::fabs(share(config) - 0.5) < 0.06);
  config = off;
  config.jitter = 0.25;
  CHECK(std::fabs(share(config) - 0.25) < 0.06);
}

TEST_CASE("views: nonsense parameters are refused by name") {
  const auto refusal = [](auto change) {
    TransformConfig config;
    change(config);
    return failure_of([&] { config.check(); });
  };
  CHECK(refusal([](TransformConfig&) {}).empty());
  CHECK(contains(refusal([](TransformConfig& c) { c.flip = 1.5; }), "flip = 1.5"));
  CHECK(contains(refusal([](TransformConfig& c) { c.blur_min = 0; }), "blur_min"));
  CHECK(contains(refusal([](TransformConfig& c) { c.brightness_max = 0.1; }), "brightness_min"));
  CHECK(contains(refusal([](TransformConfig& c) { c.hue = 0.7; }), "hue = 0.7"));
  CHECK(contains(refusal([](TransformConfig& c) { c.blur_max = 101; }), "blur_max = 101 is above 100"));
  CHECK(contains(refusal([](TransformConfig& c) { c.pad = -1; }), "pad = -1"));
  CHECK(contains(refusal([](TransformConfig& c) { c.width = 0; }), "256 x 0"));
}
