// The C interface: the same bits as the engine gives, and every mistake of a caller answered with text.

#include "reid/embedder.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <thread>

#include "formats/scratch.h"
#include "learning/small_encoder.h"
#include "reid/formats/files.h"
#include "reid/learning/embedding.h"

using namespace reid;
using namespace reid::test;

namespace {

// A random encoder for small images, in a file.
struct EncoderFile {
  Scratch scratch{"embedder"};
  std::string path = (scratch / "encoder.safetensors").string();
  EncoderFile() { write_small_encoder(path); }
};
const std::string& encoder_path() {
  static const EncoderFile file;
  return file.path;
}

// Noise over a slope that rises to the right: not equal to its mirror image.
Image picture(int height, int width, uint64_t seed) {
  Image image(height, width);
  Rng rng(seed);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) image.at(y, x)[c] = static_cast<uint8_t>(rng.below(128) + 127 * x / width);
  return image;
}

std::vector<Image> pictures() {
  std::vector<Image> images;
  for (int i = 0; i < 5; ++i) images.push_back(picture(20 + 13 * i, 50 - 9 * i, static_cast<uint64_t>(i)));
  return images;
}

reid_image view(const Image& image) { return {image.rgb.data(), image.height, image.width, 0}; }

std::vector<reid_image> views(const std::vector<Image>& images) {
  std::vector<reid_image> list;
  for (const Image& image : images) list.push_back(view(image));
  return list;
}

// What `reid embed` does with decoded images.
std::vector<float> expected(const std::vector<Image>& images, const EmbedOptions& options) {
  LoadedEncoder encoder(encoder_path());
  const TransformConfig& t = encoder.transform();
  const Normalizer normalize(t);
  const auto count = static_cast<int64_t>(images.size());
  const Tensor batch = Tensor::empty({count, t.height, t.width, 3}, DType::f32);
  for (int64_t i = 0; i < count; ++i)
    weak_view(resize(images[static_cast<size_t>(i)], t.height, t.width, t.filter), normalize, batch.rows(i, i + 1).data<float>());
  const Tensor rows = embed(encoder, batch, options);
  return {rows.data<float>(), rows.data<float>() + rows.numel()};
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::string load_error(const char* path, const reid_embedder_options* options = nullptr) {
  char error[512] = "untouched";
  reid_embedder* const e = reid_embedder_load(path, options, error, sizeof error);
  CHECK(e == nullptr);
  reid_embedder_free(e);
  return error;
}

}  // namespace

TEST_CASE("embedder: vectors are bitwise those of the encoder, one by one, in batches, on any number of threads") {
  const std::vector<Image> images = pictures();
  for (const bool flip : {false, true}) {
    for (const bool normalize : {false, true}) {
      const std::vector<float> wanted = expected(images, {.flip = flip, .normalize = normalize});
      for (const int threads : {1, 3}) {
        Embedder embedder(encoder_path(), {.threads = threads, .flip = flip, .normalize = normalize});
        REQUIRE(embedder.width() == 32);  // depth 18: 8 times the first width
        CHECK(same_bits(embedder.embed(views(images)), wanted));
        std::vector<float> singly;
        for (const Image& image : images) {
          const std::vector<float> one = embedder.embed(image.rgb.data(), image.height, image.width);
          singly.insert(singly.end(), one.begin(), one.end());
        }
        CHECK(same_bits(singly, wanted));
      }
    }
  }
  std::vector<Image> many;  // more than go through the network at once
  for (int i = 0; i < 70; ++i) many.push_back(picture(32, 16, static_cast<uint64_t>(i)));
  CHECK(same_bits(Embedder(encoder_path()).embed(views(many)), expected(many, {})));
}

TEST_CASE("embedder: flip is the mean with the mirror image, normalize gives unit vectors") {
  Image image = picture(32, 16, 1), mirror = image;  // already of the encoder's size: mirroring commutes with nothing in between
  for (int y = 0; y < 32; ++y)
    for (int x = 0; x < 16; ++x) std::copy_n(image.at(y, 15 - x), 3, mirror.at(y, x));
  Embedder plain(encoder_path()), flipped(encoder_path(), {.flip = true}), unit(encoder_path(), {.normalize = true});
  const std::vector<float> a = plain.embed({view(image)}), b = plain.embed({view(mirror)}), mean = flipped.embed({view(image)});
  const std::vector<float> direction = unit.embed({view(image)});
  CHECK_FALSE(same_bits(a, b));
  CHECK(same_bits(mean, flipped.embed({view(mirror)})));
  double length = 0, unit_length = 0;
  for (size_t d = 0; d < a.size(); ++d) {
    CHECK(mean[d] == (a[d] + b[d]) * 0.5f);
    length += double{a[d]} * double{a[d]};
    unit_length += double{direction[d]} * double{direction[d]};
  }
  // 32 squares of numbers rounded twice (length, quotient), each by at most 2^-24 of itself.
  CHECK(unit_length == doctest::Approx(1).epsilon(8 * std::ldexp(1.0, -24)));
  for (size_t d = 0; d < a.size(); ++d) CHECK(double{direction[d]} == doctest::Approx(double{a[d]} / std::sqrt(length)).epsilon(1e-6));
}

TEST_CASE("embedder: a stride steps over what lies between rows") {
  const Image image = picture(24, 10, 2);
  constexpr int64_t kStride = 37;
  std::vector<uint8_t> padded(static_cast<size_t>(23 * kStride + 30), 0xAB);  // not a byte after the last pixel
  for (int y = 0; y < 24; ++y) std::copy_n(image.at(y, 0), 30, padded.begin() + y * kStride);
  Embedder embedder(encoder_path());
  CHECK(same_bits(embedder.embed(padded.data(), 24, 10, kStride), embedder.embed({view(image)})));
}

TEST_CASE("embedder: several threads, each with embedders of its own, which change the size of the common pool meanwhile") {
  const std::vector<Image> images = pictures();
  const std::vector<float> wanted = expected(images, {});
  std::vector<int> right(4, 0);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < right.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 3; ++round) {
        Embedder embedder(encoder_path(), {.threads = static_cast<int>(t) + round + 1});
        right[t] += same_bits(embedder.embed(views(images)), wanted) ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(right == std::vector<int>{3, 3, 3, 3});
}

TEST_CASE("embedder: what cannot be loaded is NULL and one line of text") {
  const Scratch scratch("embedder_errors");
  const std::string absent = (scratch / "absent.safetensors").string(), other = (scratch / "other.safetensors").string();
  const std::string text = (scratch / "text").string();
  CHECK(contains(load_error(absent.c_str()), "absent.safetensors: No such file"));
  NamedTensors content;
  content.add("features", Tensor::zeros({2, 2}, DType::f32));
  write_safetensors(other, content);
  CHECK(contains(load_error(other.c_str()), "other.safetensors is not an encoder"));
  write_file(text, std::string("no tensors, a line of text that is long enough"));
  CHECK(contains(load_error(text.c_str()), text));
  CHECK(contains(load_error(scratch.folder.c_str()), "folder"));
  CHECK(contains(load_error(nullptr), "NULL"));

  CHECK(reid_embedder_load(absent.c_str(), nullptr, nullptr, 0) == nullptr);  // who wants no text gets none
  char cut[8];
  CHECK(reid_embedder_load(absent.c_str(), nullptr, cut, sizeof cut) == nullptr);
  CHECK(std::string(cut) == load_error(absent.c_str()).substr(0, 7));
  CHECK_THROWS_AS(Embedder{absent}, std::runtime_error);
}

TEST_CASE("embedder: options of older and newer callers") {
  const char* path = encoder_path().c_str();
  reid_embedder_options options = REID_EMBEDDER_OPTIONS_INIT;
  options.struct_size = 0;
  CHECK(contains(load_error(path, &options), "REID_EMBEDDER_OPTIONS_INIT"));
  options = REID_EMBEDDER_OPTIONS_INIT;
  options.threads = -1;
  CHECK(contains(load_error(path, &options), "threads is -1"));
  options.threads = 2000;
  CHECK(contains(load_error(path, &options), "threads is 2000"));
  options.threads = 0;
  options.reserved = 1;
  CHECK(contains(load_error(path, &options), "reserved"));

  struct Newer {
    reid_embedder_options known = REID_EMBEDDER_OPTIONS_INIT;
    int64_t future = 0;
  } newer;
  newer.known.struct_size = sizeof newer;
  reid_embedder* const e = reid_embedder_load(path, &newer.known, nullptr, 0);
  CHECK(e != nullptr);
  reid_embedder_free(e);
  newer.future = 1;
  CHECK(contains(load_error(path, &newer.known), "does not know"));
}

TEST_CASE("embedder: mistakes of the caller are said, and nothing is written") {
  const Image image = picture(8, 8, 3);
  const reid_image good = view(image);
  reid_embedder* const e = reid_embedder_load(encoder_path().c_str(), nullptr, nullptr, 0);
  REQUIRE(e != nullptr);
  CHECK(std::string(reid_embedder_error(e)).empty());
  std::vector<float> out(64, 7.0f);
  const auto refused = [&](std::vector<reid_image> images, const std::string& part) {
    images.insert(images.begin(), good);
    CHECK(reid_embedder_embed_batch(e, images.data(), images.size(), out.data()) != 0);
    INFO(reid_embedder_error(e));
    CHECK(contains(reid_embedder_error(e), part));
    CHECK(std::all_of(out.begin(), out.end(), [](float v) { return v == 7.0f; }));
  };
  refused({{nullptr, 8, 8, 0}}, "image 1: its pixels are NULL");
  refused({{image.rgb.data(), 0, 8, 0}}, "image 1: 8 x 0");
  refused({{image.rgb.data(), 8, -1, 0}}, "image 1: -1 x 8");
  const int32_t most = std::numeric_limits<int32_t>::max();
  refused({{image.rgb.data(), most, most, 0}}, "at most 134 million");
  refused({{image.rgb.data(), 8, 8, 23}}, "stride of 23");
  refused({{image.rgb.data(), 8, 8, -24}}, "stride of -24");

  CHECK(reid_embedder_embed_batch(e, &good, 1, nullptr) != 0);
  CHECK(contains(reid_embedder_error(e), "NULL"));
  CHECK(reid_embedder_embed_batch(e, nullptr, 1, out.data()) != 0);
  CHECK(reid_embedder_embed_batch(e, nullptr, 0, nullptr) == 0);  // nothing to do is no mistake
  CHECK(reid_embedder_embed_rgb(e, good.rgb, 8, 8, 0, out.data()) == 0);
  reid_embedder_free(e);

  CHECK(reid_embedder_embed_rgb(nullptr, good.rgb, 8, 8, 0, out.data()) != 0);
  CHECK(reid_embedder_width(nullptr) == 0);
  CHECK(contains(reid_embedder_error(nullptr), "NULL"));
  reid_embedder_free(nullptr);
  CHECK(std::string(reid_version()).starts_with("0."));
}
