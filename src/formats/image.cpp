#include "reid/formats/image.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <memory>

#include "formats/inflate.h"
#include "formats/jpeg.h"
#include "reid/engine/base.h"
#include "reid/formats/files.h"

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_ONLY_BMP
#define STBI_NO_STDIO
#define STBI_NO_HDR
#define STBI_NO_LINEAR
#define STBI_FAILURE_USERMSG
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

namespace reid {
namespace {

constexpr std::array<uint8_t, 8> kPngSignature = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};

uint32_t big_endian(const uint8_t* p) {
  return static_cast<uint32_t>(p[0]) << 24 | static_cast<uint32_t>(p[1]) << 16 | static_cast<uint32_t>(p[2]) << 8 | p[3];
}

uint32_t crc32(std::span<const uint8_t> bytes) {  // ISO 3309, as the PNG specification asks, annex D
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> t{};
    for (uint32_t n = 0; n < 256; ++n) {
      uint32_t c = n;
      for (int bit = 0; bit < 8; ++bit) c = (c & 1) ? 0xEDB88320u ^ (c >> 1) : c >> 1;
      t[n] = c;
    }
    return t;
  }();
  uint32_t c = 0xFFFFFFFFu;
  for (const uint8_t b : bytes) c = table[(c ^ b) & 0xFF] ^ (c >> 8);
  return ~c;
}

// stb_image checks neither checksums nor the end chunk.
void check_png(std::span<const uint8_t> bytes, const std::string& name) {
  size_t at = kPngSignature.size();
  for (;;) {
    REID_CHECK(bytes.size() - at >= 12, name, ": truncated PNG (it ends after ", bytes.size(), " bytes, before its end chunk)");
    const size_t length = big_endian(bytes.data() + at);
    REID_CHECK(length <= bytes.size() - at - 12, name, ": truncated PNG (a chunk of ", length, " bytes reaches past the end of the file)");
    const uint32_t stored = big_endian(bytes.data() + at + 8 + length);
    REID_CHECK(crc32(bytes.subspan(at + 4, length + 4)) == stored, name, ": damaged PNG (wrong checksum at byte ", at, ")");
    if (std::memcmp(bytes.data() + at + 4, "IEND", 4) == 0) return;
    at += 12 + length;
  }
}

uint32_t little_endian(const uint8_t* p) {
  return static_cast<uint32_t>(p[3]) << 24 | static_cast<uint32_t>(p[2]) << 16 | static_cast<uint32_t>(p[1]) << 8 | p[0];
}

// stb_image would paint the missing part of a BMP black. Rows are padded to four bytes and stand uncompressed behind the offset.
void check_bmp(std::span<const uint8_t> bytes, const std::string& name) {
  REID_CHECK(bytes.size() >= 54, name, ": truncated BMP (only ", bytes.size(), " bytes)");
  const uint64_t offset = little_endian(bytes.data() + 10), width = little_endian(bytes.data() + 18);
  const auto signed_height = static_cast<int64_t>(static_cast<int32_t>(little_endian(bytes.data() + 22)));  // negative: top to bottom
  const uint64_t height = static_cast<uint64_t>(signed_height < 0 ? -signed_height : signed_height);
  const uint64_t bits = little_endian(bytes.data() + 26) >> 16, compression = little_endian(bytes.data() + 30);
  REID_CHECK(little_endian(bytes.data() + 14) >= 40 && (compression == 0 || compression == 3), name,
             ": a compressed or very old BMP, which is not supported: convert it to PNG");
  check_image_size(static_cast<int64_t>(width), static_cast<int64_t>(height), name);
  REID_CHECK(offset + (width * bits + 31) / 32 * 4 * height <= bytes.size(), name, ": truncated BMP (", width, " x ", height,
             " pixels do not fit ", bytes.size(), " bytes)");
}

// A JPEG is complete when the markers lead to an end-of-image marker. stb_image would paint the missing part gray.
bool jpeg_reaches_its_end(std::span<const uint8_t> bytes) {
  size_t at = 2;
  bool entropy_coded = false;
  while (at + 1 < bytes.size()) {
    if (bytes[at] != 0xFF) {
      if (!entropy_coded) return true;  // no marker where one must stand: the decoder names the damage
      const void* next = std::memchr(bytes.data() + at, 0xFF, bytes.size() - at);
      if (next == nullptr) return false;
      at = static_cast<size_t>(static_cast<const uint8_t*>(next) - bytes.data());
      continue;
    }
    const uint8_t marker = bytes[at + 1];
    const bool stuffing = marker == 0x00 || (marker >= 0xD0 && marker <= 0xD7);
    if (marker == 0xD9) return true;
    if (marker == 0xFF || stuffing || marker == 0x01) {
      at += marker == 0xFF ? 1 : 2;
      continue;
    }
    if (at + 3 >= bytes.size()) return false;
    entropy_coded = marker == 0xDA;
    at += 2 + (static_cast<size_t>(bytes[at + 2]) << 8 | bytes[at + 3]);
  }
  return false;
}

Image decode_with_stb(std::span<const uint8_t> bytes, const std::string& name, const char* kind) {
  REID_CHECK(bytes.size() <= 0x7FFFFFFF, name, ": ", kind, " of more than 2 GiB");
  const int size = static_cast<int>(bytes.size());
  int width = 0, height = 0, channels = 0;
  REID_CHECK(stbi_info_from_memory(bytes.data(), size, &width, &height, &channels) == 1, name, ": damaged ", kind, " (",
             stbi_failure_reason(), ")");
  check_image_size(width, height, name);
  struct Free {
    void operator()(stbi_uc* p) const { stbi_image_free(p); }
  };
  const std::unique_ptr<stbi_uc, Free> pixels(stbi_load_from_memory(bytes.data(), size, &width, &height, &channels, 3));
  REID_CHECK(pixels != nullptr, name, ": damaged ", kind, " (", stbi_failure_reason(), ")");
  Image image(height, width);
  std::copy_n(pixels.get(), image.rgb.size(), image.rgb.begin());
  return image;
}

void append(void* context, void* data, int size) {
  auto& bytes = *static_cast<std::vector<uint8_t>*>(context);
  const auto* first = static_cast<const uint8_t*>(data);
  bytes.insert(bytes.end(), first, first + size);
}

void check_pixels(const Image& image) {
  REID_CHECK(image.height > 0 && image.width > 0, "[image] cannot encode an empty image (", image.height, " x ", image.width, ")");
  REID_CHECK(image.rgb.size() == static_cast<size_t>(image.height) * static_cast<size_t>(image.width) * 3, "[image] ", image.rgb.size(),
             " bytes do not make ", image.height, " x ", image.width, " RGB pixels");
}

}  // namespace

void check_image_size(int64_t width, int64_t height, const std::string& name) {
  constexpr int64_t kMaxPixels = int64_t{1} << 27;  // 400 MB decoded: a header that claims more is damage or an attack
  REID_CHECK(width > 0 && height > 0 && width <= kMaxPixels / height, name, ": an image of ", width, " x ", height,
             " pixels is not supported (at most 134 million)");
}

namespace {

enum class Kind : uint8_t { jpeg, png, bmp };

// Which format the bytes are of; throws when of none, or when they end too early.
Kind check_bytes(std::span<const uint8_t> bytes, const std::string& name) {
  REID_CHECK(!bytes.empty(), name, ": the file is empty");
  if (bytes.size() >= 3 && bytes[0] == 0xFF && bytes[1] == 0xD8 && bytes[2] == 0xFF) {
    REID_CHECK(jpeg_reaches_its_end(bytes), name, ": truncated JPEG (it ends after ", bytes.size(), " bytes, before its end marker)");
    return Kind::jpeg;
  }
  const size_t compared = std::min(bytes.size(), kPngSignature.size());
  if (std::equal(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(compared), kPngSignature.begin())) {
    REID_CHECK(compared == kPngSignature.size(), name, ": truncated PNG (only ", bytes.size(), " bytes)");
    check_png(bytes, name);
    return Kind::png;
  }
  REID_CHECK(bytes.size() >= 2 && bytes[0] == 'B' && bytes[1] == 'M', name, ": not a JPEG, PNG or BMP image");
  check_bmp(bytes, name);
  return Kind::bmp;
}

}  // namespace

ImageSize probe_image(std::span<const uint8_t> bytes, const std::string& name) {
  check_bytes(bytes, name);
  ImageSize size;
  int channels = 0;
  REID_CHECK(bytes.size() <= 0x7FFFFFFF, name, ": an image of more than 2 GiB");
  REID_CHECK(stbi_info_from_memory(bytes.data(), static_cast<int>(bytes.size()), &size.width, &size.height, &channels) == 1, name,
             ": damaged image (", stbi_failure_reason(), ")");
  check_image_size(size.width, size.height, name);
  return size;
}

Image decode_image(std::span<const uint8_t> bytes, const std::string& name) {
  switch (check_bytes(bytes, name)) {
    case Kind::png: return decode_with_stb(bytes, name, "PNG");
    case Kind::bmp: return decode_with_stb(bytes, name, "BMP");
    case Kind::jpeg: break;
  }
#ifdef REID_WITH_JPEG
  return decode_with_libjpeg(bytes, name);
#else
  return decode_with_stb(bytes, name, "JPEG");
#endif
}

std::string image_decoder() {
#ifdef REID_WITH_JPEG
  return libjpeg_version();
#else
  return "stb_image";
#endif
}

std::vector<uint8_t> encode_jpeg(const Image& image, int quality) {
  check_pixels(image);
  REID_CHECK(quality >= 1 && quality <= 100, "[image] JPEG quality ", quality, " is not within 1..100");
  REID_CHECK(image.width <= 65535 && image.height <= 65535, "[image] ", image.height, " x ", image.width, " pixels do not fit a JPEG");
  std::vector<uint8_t> bytes;
  const int ok = stbi_write_jpg_to_func(append, &bytes, image.width, image.height, 3, image.rgb.data(), quality);
  REID_CHECK(ok != 0, "[image] JPEG encoding failed");
  return bytes;
}

std::vector<uint8_t> encode_png(const Image& image) {
  check_pixels(image);
  std::vector<uint8_t> bytes;
  const int ok = stbi_write_png_to_func(append, &bytes, image.width, image.height, 3, image.rgb.data(), image.width * 3);
  REID_CHECK(ok != 0, "[image] PNG encoding failed");
  return bytes;
}

void write_png(const std::filesystem::path& file, const Image& image) { write_file(file, encode_png(image)); }

bool inflate(std::span<const uint8_t> packed, std::span<uint8_t> out) {
  // stb_image looks ahead and takes the end of its input for an error when nothing (PNG: a checksum) follows the last code.
  std::vector<uint8_t> padded(packed.begin(), packed.end());
  padded.resize(packed.size() + 4);
  const int got = stbi_zlib_decode_noheader_buffer(reinterpret_cast<char*>(out.data()), static_cast<int>(out.size()),
                                                   reinterpret_cast<const char*>(padded.data()), static_cast<int>(padded.size()));
  return got >= 0 && static_cast<size_t>(got) == out.size();
}

}  // namespace reid
