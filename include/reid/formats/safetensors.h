#pragma once
// Named tensors in one file, in the safetensors format (8 bytes of header length, a JSON header, raw little-endian data):
// weights, features, goldens, op inputs and outputs. Readable by the safetensors packages of other languages.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "reid/engine/tensor.h"

namespace reid {

// A list of tensors by name, in order, and free text about them.
struct NamedTensors {
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::vector<std::pair<std::string, std::string>> metadata;
  std::string source = {};  // the file it was read from, for messages

  void add(std::string name, Tensor tensor);            // throws when the name is taken
  const Tensor* find(std::string_view name) const;      // null when absent
  const Tensor& at(std::string_view name) const;        // throws, naming the file, the tensor and the names there are
  const std::string* note(std::string_view key) const;  // metadata; null when absent
};

// All tensors are on the CPU. F32, F64, I64, I32 and U8 keep their dtype, F16 and BF16 become f32, I16 and I8 i32, BOOL u8 (all
// exactly); any other dtype, a header that does not fit the file, and tensors that overlap, leave gaps or reach past the end are errors
// that name them.
NamedTensors read_safetensors(const std::filesystem::path& file);
NamedTensors parse_safetensors(std::span<const uint8_t> bytes, const std::string& name);

// The header keeps the order given; data is laid out by falling element size, so that every tensor is aligned to its type.
// Atomic, as all writing of files.h. The same content gives the same bytes.
void write_safetensors(const std::filesystem::path& file, const NamedTensors& content);
std::vector<uint8_t> serialize_safetensors(const NamedTensors& content);

}  // namespace reid
