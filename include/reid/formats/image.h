#pragma once
// 8-bit RGB images in memory, and their files: JPEG, PNG and BMP in, JPEG and PNG out.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

namespace reid {

// Rows top to bottom, three bytes R, G, B a pixel, no padding between rows.
struct Image {
  int height = 0, width = 0;
  std::vector<uint8_t> rgb;  // [height, width, 3]

  Image() = default;
  Image(int height_, int width_) : height(height_), width(width_), rgb(static_cast<size_t>(height_) * static_cast<size_t>(width_) * 3) {}
  uint8_t* at(int y, int x) { return rgb.data() + (static_cast<size_t>(y) * static_cast<size_t>(width) + static_cast<size_t>(x)) * 3; }
  const uint8_t* at(int y, int x) const { return const_cast<Image*>(this)->at(y, x); }
};

// Decodes JPEG (through libjpeg-turbo where the build has it, else stb_image), PNG and uncompressed BMP; gray becomes RGB, alpha is
// dropped. Throws reid::Error that names the file and says whether it is missing, truncated, damaged or no image at all.
// A file may also be named CONTAINER!KEY: the entry KEY of an LMDB database. A file that exists under the whole name comes first; else
// the last "!" with a database before it separates.
Image read_image(const std::filesystem::path& file);
std::vector<uint8_t> read_image_bytes(const std::filesystem::path& file);  // what read_image() decodes
bool has_image(const std::filesystem::path& file);                         // whether there is such a file or entry
Image decode_image(std::span<const uint8_t> bytes, const std::string& name);

// What the headers tell, without decoding: the size. Throws as decode_image() does on empty, foreign and truncated files; damage among the
// pixels shows only when they are decoded.
struct ImageSize {
  int height = 0, width = 0;
};
ImageSize probe_image(std::span<const uint8_t> bytes, const std::string& name);
std::string image_decoder();  // "libjpeg-turbo 2.1.5" or "stb_image 2.27": decoders differ in the last bit, so runs record it

// The encoder is always stb_image_write, so that a seed gives the same bytes on every machine. quality 1..100.
std::vector<uint8_t> encode_jpeg(const Image&, int quality);
std::vector<uint8_t> encode_png(const Image&);
void write_png(const std::filesystem::path& file, const Image&);

}  // namespace reid
