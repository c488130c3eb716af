// libFuzzer: any bytes are an image, or one reid::Error.

#include <cstddef>
#include <cstdint>

#include "reid/engine/base.h"
#include "reid/formats/image.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const reid::Image image = reid::decode_image({data, size}, "fuzzed");
    if (image.rgb.size() != static_cast<size_t>(image.height) * static_cast<size_t>(image.width) * 3) __builtin_trap();
  } catch (const reid::Error&) {  // anything else is a finding
  }
  return 0;
}
