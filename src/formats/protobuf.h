#pragma once
// Writes protobuf's wire format (protobuf.dev/programming-guides/encoding), as much of it as ONNX needs.
//
// Design: one buffer, written once from front to back. A message inside another is a function that writes its fields; its length
// is put in front of them afterwards, which moves its bytes once. Lengths are minimal, so the same calls give the bytes that
// Google's library gives for the same order of fields.

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reid/engine/base.h"

namespace reid {

class ProtobufWriter {
 public:
  static constexpr size_t kLimit = (size_t{1} << 31) - 1;  // bytes of a message: readers refuse more

  // `name` stands in the error of a message that grows beyond `limit`.
  explicit ProtobufWriter(std::string_view name, size_t expected, size_t limit = kLimit) : name_(name), limit_(limit) {
    bytes_.reserve(std::min(expected, limit));
  }

  void integer(uint32_t field, int64_t value) {
    key(field, 0);
    varint(static_cast<uint64_t>(value));
  }
  void number(uint32_t field, float value) {
    key(field, 5);
    const auto raw = std::bit_cast<std::array<uint8_t, 4>>(value);
    append(raw);
  }
  void text(uint32_t field, std::string_view value) { raw(field, std::span(reinterpret_cast<const uint8_t*>(value.data()), value.size())); }
  void raw(uint32_t field, std::span<const uint8_t> value) {
    key(field, 2);
    varint(value.size());
    append(value);
  }
  template <class Fields>
  void message(uint32_t field, Fields&& fields) {
    key(field, 2);
    const size_t begin = bytes_.size();
    fields();
    const auto [length, count] = encoded(bytes_.size() - begin);
    check_room(count);
    bytes_.insert(bytes_.begin() + static_cast<std::ptrdiff_t>(begin), length.begin(), length.begin() + count);
  }
  std::vector<uint8_t> take() { return std::move(bytes_); }

 private:
  using Varint = std::pair<std::array<uint8_t, 10>, uint8_t>;  // bytes and their count
  static Varint encoded(uint64_t value) {
    Varint v{};
    do {
      const uint8_t low = value & 0x7F;
      value >>= 7;
      v.first[v.second++] = static_cast<uint8_t>(low | (value ? 0x80 : 0));
    } while (value);
    return v;
  }
  void varint(uint64_t value) {
    const auto [raw, count] = encoded(value);
    append(std::span(raw).first(count));
  }
  void key(uint32_t field, uint32_t wire_type) { varint(field << 3 | wire_type); }
  void append(std::span<const uint8_t> more) {
    check_room(more.size());
    bytes_.insert(bytes_.end(), more.begin(), more.end());
  }
  void check_room(size_t more) const {
    REID_CHECK(more <= limit_ - bytes_.size(), name_, " would be larger than ", limit_,
               " bytes, protobuf's limit for a file: export a narrower or shallower network");
  }

  std::string name_;
  size_t limit_;
  std::vector<uint8_t> bytes_;
};

}  // namespace reid
