#pragma once
// Named tensors out of any file that people keep weights or features in: PyTorch's three containers, safetensors, NumPy.
//
// Design: a file is read without running anything in it. Pickles go through an interpreter that knows numbers, strings, lists,
// tuples, dicts and tensors; every other object becomes an opaque value that is passed over and listed. Readers take exactly
// the bytes they need from the file, so memory stays near the size of the tensors.

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "reid/formats/safetensors.h"

namespace reid {

struct TensorFile {
  std::string container;  // "PyTorch zip", "PyTorch stream", "PyTorch tar", "safetensors", "NumPy array", "NumPy archive"
  // Names are the path to a tensor, joined by dots: {"state_dict": {"module.conv1.weight": t}} gives
  // "state_dict.module.conv1.weight"; list items are numbered; a lone tensor is "tensor". The metadata has the file's numbers,
  // booleans and short strings in the same way ("epoch" -> "50"). Tensors that are one in the file share their memory here.
  NamedTensors content;
  std::vector<std::string> dtypes;   // of each tensor as stored: "float16"
  std::vector<std::string> skipped;  // what was passed over, one line each: "optimizer: torch.optim.SGD"
};

// Recognizes the container by its bytes, never by its name. All tensors are on the CPU, contiguous: float32, float64, int64, int32
// and uint8 as they are; float16 and bfloat16 become f32, bool u8, int8 and int16 i32 (all exactly). Throws reid::Error that names the
// file and what is wrong with it: truncated, damaged, encrypted, of no known kind, with sizes that overflow or do not fit the file.
TensorFile read_tensor_file(const std::filesystem::path& file);
TensorFile parse_tensor_file(std::span<const uint8_t> bytes, const std::string& name);

// A state dict as torch.load reads it (the zip container of PyTorch 1.6 and newer): an OrderedDict of tensors. Atomic; the same
// content gives the same bytes. The metadata is left out: PyTorch has no place for it.
void write_torch(const std::filesystem::path& file, const NamedTensors& content);

// One array in NumPy's .npy format, version 1.0, C order.
void write_npy(const std::filesystem::path& file, const Tensor& array);

}  // namespace reid
