#include "formats/jpeg.h"

#ifdef REID_WITH_JPEG

#include <csetjmp>
#include <cstdio>  // jpeglib.h needs FILE and size_t, and does not include them
#include <cstring>
#include <vector>

#include <jerror.h>
#include <jpeglib.h>

#include "reid/engine/base.h"

namespace reid {
namespace {

// libjpeg reports errors by a callback that must not return: it jumps back into the function that called setjmp.
// Those functions hold trivial locals only, since a jump over a destructor is undefined.
struct Decoder {
  jpeg_decompress_struct info;  // first: the callbacks get a pointer to it
  jpeg_error_mgr errors;
  jmp_buf failure;
  char message[JMSG_LENGTH_MAX];
  bool truncated, damaged;
};

Decoder& decoder_of(j_common_ptr info) { return *reinterpret_cast<Decoder*>(info); }

[[noreturn]] void on_error(j_common_ptr info) {
  info->err->format_message(info, decoder_of(info).message);
  longjmp(decoder_of(info).failure, 1);
}

// Warnings mean that pixels were made up, except those about harmless header oddities and stray bytes between segments.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  Decoder& decoder = decoder_of(info);
  const int code = info->err->msg_code;
  const bool ends_early = code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER;
  const bool bad_data = code == JWRN_HUFF_BAD_CODE || code == JWRN_MUST_RESYNC || code == JWRN_NOT_SEQUENTIAL;
  if (!(ends_early || bad_data) || decoder.truncated || decoder.damaged) return;
  (ends_early ? decoder.truncated : decoder.damaged) = true;
  info->err->format_message(info, decoder.message);
}

void silent(j_common_ptr) {}

bool read_header(Decoder& d, const uint8_t* bytes, size_t size) {
  d.info.err = jpeg_std_error(&d.errors);
  d.errors.error_exit = on_error;
  d.errors.emit_message = on_message;
  d.errors.output_message = silent;
  if (setjmp(d.failure)) return false;
  jpeg_create_decompress(&d.info);
  jpeg_mem_src(&d.info, bytes, static_cast<unsigned long>(size));
  jpeg_read_header(&d.info, TRUE);
  return true;
}

// Where a row of pixels begins at a multiple of its vectors' size, libjpeg-turbo stores it past the caches. What reads it next, and soon,
// waits for memory: an image of 128 x 64 pixels took 82 us, and takes 31 (Xeon at 2.3 GHz, 2026-11). Such a row is decoded beside them.
constexpr uintptr_t kSmallestVector = 16;  // bytes

// spare: a row, and a byte more.
bool read_pixels(Decoder& d, uint8_t* rgb, uint8_t* spare) {
  if (setjmp(d.failure)) return false;
  d.info.out_color_space = JCS_RGB;
  d.info.dct_method = JDCT_ISLOW;  // integer arithmetic: the same pixels on every machine
  jpeg_start_decompress(&d.info);
  const size_t size = static_cast<size_t>(d.info.output_width) * 3;
  const auto aligned = [](const uint8_t* p) { return reinterpret_cast<uintptr_t>(p) % kSmallestVector == 0; };
  uint8_t* const beside = aligned(spare) ? spare + 1 : spare;
  while (d.info.output_scanline < d.info.output_height) {
    uint8_t* const place = rgb + d.info.output_scanline * size;
    JSAMPROW row = aligned(place) ? beside : place;
    jpeg_read_scanlines(&d.info, &row, 1);
    if (row != place) std::memcpy(place, row, size);
  }
  jpeg_finish_decompress(&d.info);
  return true;
}

struct Guard {
  Decoder& decoder;
  ~Guard() { jpeg_destroy_decompress(&decoder.info); }
};

}  // namespace

Image decode_with_libjpeg(std::span<const uint8_t> bytes, const std::string& name) {
  Decoder decoder;
  std::memset(&decoder, 0, sizeof decoder);
  const Guard guard{decoder};
  REID_CHECK(read_header(decoder, bytes.data(), bytes.size()), name, ": damaged JPEG (", decoder.message, ")");
  const J_COLOR_SPACE space = decoder.info.jpeg_color_space;
  REID_CHECK(space == JCS_GRAYSCALE || space == JCS_YCbCr || space == JCS_RGB, name, ": a JPEG with CMYK colors; convert it to RGB");
  check_image_size(decoder.info.image_width, decoder.info.image_height, name);
  Image image(static_cast<int>(decoder.info.image_height), static_cast<int>(decoder.info.image_width));
  std::vector<uint8_t> spare(3 * static_cast<size_t>(image.width) + 1);
  const bool finished = read_pixels(decoder, image.rgb.data(), spare.data());
  REID_CHECK(!decoder.truncated, name, ": truncated JPEG (", decoder.message, ")");
  REID_CHECK(finished && !decoder.damaged, name, ": damaged JPEG (", decoder.message, ")");
  return image;
}

#define REID_QUOTE(text) #text
#define REID_VALUE(macro) REID_QUOTE(macro)

std::string libjpeg_version() {
#ifdef LIBJPEG_TURBO_VERSION
  return "libjpeg-turbo " REID_VALUE(LIBJPEG_TURBO_VERSION);
#else
  return "libjpeg " REID_VALUE(JPEG_LIB_VERSION);
#endif
}

}  // namespace reid

#endif  // REID_WITH_JPEG
