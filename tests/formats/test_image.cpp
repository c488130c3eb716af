#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>

#include "formats/scratch.h"
#include "reid/formats/files.h"
#include "reid/formats/image.h"

using namespace reid;
using reid::test::contains;
using reid::test::failure_of;
using reid::test::Scratch;

namespace {

Image gradient(int height, int width) {
  Image image(height, width);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      image.at(y, x)[0] = static_cast<uint8_t>(255 * y / height);
      image.at(y, x)[1] = static_cast<uint8_t>(255 * x / width);
      image.at(y, x)[2] = static_cast<uint8_t>(128 + 40 * ((x / 8 + y / 8) % 2));
    }
  return image;
}

std::string decode_failure(std::vector<uint8_t> bytes) {
  return failure_of([&] { decode_image(bytes, "f.img"); });
}

}  // namespace

TEST_CASE("image: PNG is exact") {
  const Scratch scratch("image");
  for (const int width : {1, 7, 64}) {
    const Image image = gradient(33, width);
    write_png(scratch / "a.png", image);
    const Image back = read_image(scratch / "a.png");
    CHECK(back.height == 33);
    CHECK(back.width == width);
    CHECK(back.rgb == image.rgb);
  }
}

TEST_CASE("image: JPEG is close, and the same image gives the same bytes") {
  const Image image = gradient(64, 32);
  const std::vector<uint8_t> bytes = encode_jpeg(image, 95);
  CHECK(bytes == encode_jpeg(image, 95));
  CHECK(encode_jpeg(image, 30).size() < bytes.size());
  const Image back = decode_image(bytes, "x.jpg");
  REQUIRE(back.rgb.size() == image.rgb.size());
  double sum = 0;
  for (size_t i = 0; i < image.rgb.size(); ++i) sum += std::abs(int{image.rgb[i]} - int{back.rgb[i]});
  CHECK(sum / static_cast<double>(image.rgb.size()) < 3);
}

TEST_CASE("image: the rows of a JPEG are the same wherever they begin in memory") {
  const Image whole = gradient(24, 80);
  const Image expected = decode_image(encode_jpeg(whole, 95), "x.jpg");
  for (int width = 8; width < whole.width; width += 8) {  // at this quality no block of 8 x 8 pixels depends on another
    Image part(whole.height, width);
    for (int y = 0; y < whole.height; ++y) std::copy_n(whole.at(y, 0), 3 * width, part.at(y, 0));
    const Image back = decode_image(encode_jpeg(part, 95), "x.jpg");
    REQUIRE(back.width == width);
    CAPTURE(width);
    for (int y = 0; y < whole.height; ++y) CHECK(std::equal(back.at(y, 0), back.at(y, 0) + 3 * width, expected.at(y, 0)));
  }
}

TEST_CASE("image: gray and alpha files become RGB") {
  // A PNG of 2 x 1 pixels, gray and alpha: (200, 0) and (10, 255).
  const std::vector<uint8_t> gray_alpha = {
      0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A, 0x00, 0x00, 0x00, 0x0D, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00,
      0x00, 0x02, 0x00, 0x00, 0x00, 0x01, 0x08, 0x04, 0x00, 0x00, 0x00, 0x5E, 0x2B, 0xB7, 0x01, 0x00, 0x00, 0x00,
      0x0D, 0x49, 0x44, 0x41, 0x54, 0x78, 0x9C, 0x63, 0x38, 0xC1, 0xC0, 0xF5, 0x1F, 0x00, 0x04, 0x38, 0x01, 0xD2,
      0xBC, 0xC7, 0x48, 0xB1, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4E, 0x44, 0xAE, 0x42, 0x60, 0x82,
  };
  const Image image = decode_image(gray_alpha, "ga.png");
  CHECK(image.rgb == std::vector<uint8_t>{200, 200, 200, 10, 10, 10});
}

TEST_CASE("image: an uncompressed BMP, as VIPeR has them") {
  // 2 x 2 pixels of 24 bits, bottom row first, rows padded to four bytes: red, green above blue, white.
  std::vector<uint8_t> bmp = {
      'B', 'M', 70, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 2, 0,   0, 0, 2,   0,   0,   0, 1, 0, 24, 0,   0, 0,   0, 0, 16,
      0,   0,   0,  0, 0, 0, 0, 0, 0, 0, 0,  0, 0, 0, 0,  0, 0, 0, 0, 255, 0, 0, 255, 255, 255, 0, 0, 0, 0,  255, 0, 255, 0, 0, 0,
  };
  const Image image = decode_image(bmp, "f.bmp");
  CHECK(image.height == 2);
  CHECK(image.rgb == std::vector<uint8_t>{255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255});
  const ImageSize size = probe_image(bmp, "f.bmp");
  CHECK(size.height == 2);
  CHECK(size.width == 2);
  for (size_t length = 2; length < bmp.size(); ++length) {
    CAPTURE(length);
    CHECK(contains(decode_failure({bmp.begin(), bmp.begin() + static_cast<std::ptrdiff_t>(length)}), "f.img: truncated BMP"));
  }
  bmp[30] = 1;  // run lengths
  CHECK(contains(decode_failure(bmp), "f.img: a compressed or very old BMP"));
  bmp[30] = 0;
  bmp[20] = 1;  // 65538 pixels wide
  CHECK(contains(decode_failure(bmp), "truncated BMP"));
}

TEST_CASE("image: headers tell the size and whether the file is whole") {
  const Scratch scratch("image");
  write_png(scratch / "a.png", gradient(20, 30));
  for (std::vector<uint8_t> whole : {read_file(scratch / "a.png"), encode_jpeg(gradient(20, 30), 80)}) {
    const ImageSize size = probe_image(whole, "f");
    CHECK(size.height == 20);
    CHECK(size.width == 30);
    whole.erase(whole.end() - 10, whole.end());
    CHECK(contains(failure_of([&] { probe_image(whole, "f"); }), "f: truncated"));
  }
}

TEST_CASE("image: a JPEG cut anywhere is an error that names the file") {
  const std::vector<uint8_t> whole = encode_jpeg(gradient(48, 40), 80);
  for (size_t size = 4; size < whole.size(); size += 1 + size / 16) {
    const std::string message = decode_failure({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)});
    CAPTURE(size);
    CHECK(contains(message, "f.img: truncated JPEG"));
  }
}

TEST_CASE("image: a JPEG with scan data cut out is an error") {
  std::vector<uint8_t> bytes = encode_jpeg(gradient(48, 40), 80);
  bytes.erase(bytes.end() - 300, bytes.end() - 2);  // the end marker stays
  CHECK(contains(decode_failure(bytes), "f.img: "));
}

TEST_CASE("image: a damaged or cut PNG is an error that names the file") {
  const Scratch scratch("image");
  write_png(scratch / "a.png", gradient(20, 30));
  const std::vector<uint8_t> whole = read_file(scratch / "a.png");
  for (size_t size = 2; size < whole.size(); size += 7) {
    CAPTURE(size);
    CHECK(contains(decode_failure({whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size)}), "f.img: truncated PNG"));
  }
  std::vector<uint8_t> bad = whole;
  bad[bad.size() / 2] ^= 0x10;
  CHECK(contains(decode_failure(bad), "f.img: damaged PNG (wrong checksum"));
}

TEST_CASE("image: what is no image, nothing or missing says so") {
  CHECK(decode_failure({}) == "f.img: the file is empty");
  CHECK(decode_failure({'h', 'e', 'l', 'l', 'o'}) == "f.img: not a JPEG, PNG or BMP image");
  CHECK(contains(failure_of([] { read_image("/nowhere/x.jpg"); }), "cannot open /nowhere/x.jpg"));
  CHECK(contains(failure_of([] { encode_jpeg(Image(), 90); }), "empty image"));
  CHECK(contains(failure_of([] { encode_jpeg(Image(2, 2), 0); }), "quality 0"));
}

TEST_CASE("image: a header that claims enormous pixels is refused before memory is taken") {
  std::vector<uint8_t> bytes = encode_jpeg(gradient(16, 16), 80);
  for (size_t i = 0; i + 8 < bytes.size(); ++i)
    if (bytes[i] == 0xFF && bytes[i + 1] == 0xC0) {
      bytes[i + 5] = bytes[i + 7] = 0x80;  // 32784 x 32784
      break;
    }
  CHECK(contains(decode_failure(bytes), "is not supported"));
}
