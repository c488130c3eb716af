#pragma once
// Safetensors read from a source, each tensor's bytes straight into its memory.

#include "formats/source.h"
#include "reid/formats/safetensors.h"

namespace reid {

bool is_safetensors(const Source& source);  // by the head: a plausible length and an opening brace
NamedTensors read_safetensors(const Source& source, std::vector<std::string>* dtypes = nullptr);  // dtypes as stored: "float16"

}  // namespace reid
