#include "formats/elements.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <vector>

namespace reid {
namespace {

using Kind = ElementType::Kind;

constexpr ElementType kTypes[] = {{"float32", 4, DType::f32, Kind::same}, {"float64", 8, DType::f64, Kind::same},
                                  {"float16", 2, DType::f32, Kind::half}, {"bfloat16", 2, DType::f32, Kind::brain},
                                  {"int64", 8, DType::i64, Kind::same},   {"int32", 4, DType::i32, Kind::same},
                                  {"int16", 2, DType::i32, Kind::int16},  {"int8", 1, DType::i32, Kind::int8},
                                  {"uint8", 1, DType::u8, Kind::same},    {"bool", 1, DType::u8, Kind::boolean}};

float half_to_float(uint16_t half) {
  const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16;
  const uint32_t exponent = (half >> 10) & 31, fraction = half & 1023;
  if (exponent == 0) {  // zero and subnormals: fraction * 2^-24, exact in f32
    const float magnitude = static_cast<float>(fraction) * 0x1p-24f;
    return sign ? -magnitude : magnitude;
  }
  const uint32_t widened = exponent == 31 ? 255 : exponent + 112;  // bias 15 to bias 127
  return std::bit_cast<float>(sign | widened << 23 | fraction << 13);
}

float brain_to_float(uint16_t value) { return std::bit_cast<float>(static_cast<uint32_t>(value) << 16); }

// Elements [begin, begin + count) of `out`, from the file's bytes.
void convert(Kind kind, const uint8_t* src, int64_t begin, int64_t count, Tensor& out) {
  const auto word = [&](int64_t i) { return static_cast<uint16_t>(src[2 * i] | src[2 * i + 1] << 8); };
  for (int64_t i = 0; i < count; ++i) {
    switch (kind) {
      case Kind::half: out.data<float>()[begin + i] = half_to_float(word(i)); break;
      case Kind::brain: out.data<float>()[begin + i] = brain_to_float(word(i)); break;
      case Kind::boolean: out.data<uint8_t>()[begin + i] = src[i] != 0; break;
      case Kind::int8: out.data<int32_t>()[begin + i] = static_cast<int8_t>(src[i]); break;
      case Kind::int16: out.data<int32_t>()[begin + i] = static_cast<int16_t>(word(i)); break;
      case Kind::same: break;
    }
  }
}

// Eight tables, so that eight bytes are taken in a step (Kounavis and Berry, "slicing-by-8", 2005).
constexpr auto kCrc = [] {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = (c & 1) ? 0xEDB88320u ^ (c >> 1) : c >> 1;
    tables[0][i] = c;
  }
  for (size_t t = 1; t < 8; ++t)
    for (size_t i = 0; i < 256; ++i) tables[t][i] = tables[0][tables[t - 1][i] & 255] ^ (tables[t - 1][i] >> 8);
  return tables;
}();

}  // namespace

const ElementType* element_type(std::string_view name) {
  for (const ElementType& type : kTypes)
    if (name == type.name) return &type;
  return nullptr;
}

uint32_t crc32(std::span<const uint8_t> bytes, uint32_t crc) {
  crc = ~crc;
  size_t i = 0;
  for (; i + 8 <= bytes.size(); i += 8) {
    uint64_t next = 0;
    std::memcpy(&next, bytes.data() + i, 8);
    next ^= crc;
    crc = 0;
    for (size_t b = 0; b < 8; ++b) crc ^= kCrc[7 - b][(next >> (8 * b)) & 255];
  }
  for (; i < bytes.size(); ++i) crc = kCrc[0][(crc ^ bytes[i]) & 255] ^ (crc >> 8);
  return ~crc;
}

Shape shape_from(std::span<const int64_t> extents, const std::string& what) {
  try {
    return Shape(extents);
  } catch (const Error& e) {
    fail(what + ": " + e.what());
  }
}

Tensor read_elements(const Source& source, uint64_t offset, int64_t count, const ElementType& type, const std::string& what,
                     uint32_t* crc) {
  const uint64_t left = source.size() - std::min(offset, source.size());
  REID_CHECK(count >= 0 && static_cast<uint64_t>(count) <= left / static_cast<uint64_t>(type.size), source.name(), ": ", what, " would be ",
             count, " elements of ", type.name, " at byte ", offset, ", but only ", left, " bytes are left (truncated file?)");
  Tensor out = Tensor::empty({count}, type.dtype);
  if (type.kind == Kind::same) {
    const std::span<uint8_t> bytes(static_cast<uint8_t*>(out.raw()), static_cast<size_t>(out.bytes()));
    source.read(offset, bytes, what);
    if (crc) *crc = crc32(bytes);
    return out;
  }
  constexpr int64_t kChunk = 64 * 1024;
  std::vector<uint8_t> chunk(static_cast<size_t>(std::min(kChunk, count) * type.size));
  uint32_t sum = 0;
  for (int64_t i = 0; i < count; i += kChunk) {
    const int64_t step = std::min(kChunk, count - i);
    const std::span<uint8_t> bytes(chunk.data(), static_cast<size_t>(step * type.size));
    source.read(offset + static_cast<uint64_t>(i * type.size), bytes, what);
    if (crc) sum = crc32(bytes, sum);
    convert(type.kind, bytes.data(), i, step, out);
  }
  if (crc) *crc = sum;
  return out;
}

Tensor strided_view(const Tensor& flat, int64_t offset, std::span<const int64_t> shape, std::span<const int64_t> strides,
                    const std::string& what, int64_t& budget) {
  const Shape extents = shape_from(shape, what);
  const int64_t numel = extents.numel();
  REID_CHECK(shape.size() == strides.size(), what, ": ", shape.size(), " extents with ", strides.size(), " strides");
  if (numel == 0) return Tensor::empty(extents, flat.dtype());
  __int128 last = offset, dense = 1;
  bool row_major = true;
  for (size_t axis = shape.size(); axis-- > 0;) {
    REID_CHECK(strides[axis] >= 0, what, ": a negative stride");
    last += static_cast<__int128>(shape[axis] - 1) * strides[axis];
    if (shape[axis] > 1) row_major = row_major && strides[axis] == dense;
    dense *= shape[axis];
  }
  REID_CHECK(offset >= 0 && last < flat.numel(), what, ": reaches outside of its ", flat.numel(), " stored elements");
  if (row_major) return flat.rows(offset, offset + numel).reshape(extents);

  const int64_t bytes = numel <= budget / 8 ? numel * size_of(flat.dtype()) : budget + 1;
  REID_CHECK(bytes <= budget, what, ": unfolds to ", numel, " elements, far more than the file holds; refused");
  budget -= bytes;
  Tensor out = Tensor::empty(extents, flat.dtype());
  const auto size = static_cast<size_t>(size_of(flat.dtype()));
  const auto* from = static_cast<const char*>(flat.raw());
  auto* to = static_cast<char*>(out.raw());
  std::array<int64_t, Shape::kMaxRank> index{}, step{};
  for (size_t axis = 0; axis < shape.size(); ++axis) step[axis] = shape[axis] > 1 ? strides[axis] : 0;
  int64_t at = offset;
  for (int64_t i = 0; i < numel; ++i, to += size) {
    std::memcpy(to, from + static_cast<size_t>(at) * size, size);
    for (size_t axis = shape.size(); axis-- > 0;) {  // the odometer's next reading
      at += step[axis];
      if (++index[axis] < shape[axis]) break;
      at -= shape[axis] * step[axis];
      index[axis] = 0;
    }
  }
  return out;
}

}  // namespace reid
