#pragma once
// Element types as files name them, and arrays of them read into tensors.

#include <cstdint>
#include <span>
#include <string_view>

#include "formats/source.h"
#include "reid/engine/tensor.h"

namespace reid {

struct ElementType {
  enum class Kind : uint8_t { same, half, brain, boolean, int8, int16 };  // `same`: memory and file agree
  const char* name;                                                       // NumPy's and PyTorch's: "float16"
  int64_t size;                                                           // bytes in the file
  DType dtype;                                                            // in memory
  Kind kind;
};
// Null when there is no such type here.
const ElementType* element_type(std::string_view name);

// CRC-32 as zip has it (polynomial 0xEDB88320), continued from `crc`.
uint32_t crc32(std::span<const uint8_t> bytes, uint32_t crc = 0);

// A shape from a file's numbers; throws, naming `what`, where Shape would.
Shape shape_from(std::span<const int64_t> extents, const std::string& what);

// `count` elements at `offset`, as one dimension. With `crc`, the checksum of their bytes goes there.
Tensor read_elements(const Source& source, uint64_t offset, int64_t count, const ElementType& type, const std::string& what,
                     uint32_t* crc = nullptr);

// The elements of a strided view of a one-dimensional tensor: a shared piece of it where they lie in row-major order, else a copy.
// Throws, naming `what`, when the view reaches outside or a copy would be larger than `budget` bytes (which it lowers).
Tensor strided_view(const Tensor& flat, int64_t offset, std::span<const int64_t> shape, std::span<const int64_t> strides,
                    const std::string& what, int64_t& budget);

}  // namespace reid
