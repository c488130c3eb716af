// libFuzzer: any bytes are a tensor file that can be read, or one reid::Error. `make fuzz` runs it with seeds of each container.

#include <cstddef>
#include <cstdint>

#include "reid/formats/tensor_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const reid::TensorFile file = reid::parse_tensor_file({data, size}, "fuzzed");
    if (file.content.tensors.size() != file.dtypes.size()) __builtin_trap();
    for (const auto& [name, tensor] : file.content.tensors)
      if (tensor.numel() > 0 && tensor.raw() == nullptr) __builtin_trap();
  } catch (const reid::Error&) {  // anything else is a finding
  }
  return 0;
}
