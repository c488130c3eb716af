#pragma once
// Deflated bytes unpacked by stb_image, whose implementation lives in image.cpp.

#include <cstdint>
#include <span>

namespace reid {

// Fills `out` exactly from raw deflate data (no zlib header); false when the data is damaged or of another length. Up to 2 GiB.
bool inflate(std::span<const uint8_t> packed, std::span<uint8_t> out);

}  // namespace reid
