#pragma once
// JPEG through libjpeg-turbo, for builds that have it.

#include <cstdint>
#include <span>
#include <string>

#include "reid/formats/image.h"

namespace reid {

void check_image_size(int64_t width, int64_t height, const std::string& name);  // throws when no sane image has it

#ifdef REID_WITH_JPEG
Image decode_with_libjpeg(std::span<const uint8_t> bytes, const std::string& name);
std::string libjpeg_version();  // "libjpeg-turbo 2.1.5"
#endif

}  // namespace reid
