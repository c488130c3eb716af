// libFuzzer: any text is JSON that survives writing and reading again, or one reid::Error; the same text as TOML.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "reid/engine/base.h"
#include "reid/formats/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  try {
    const reid::Json value = reid::parse_json(text, "fuzzed");
    const std::string once = value.dump();
    if (reid::parse_json(once, "dumped").dump() != once) __builtin_trap();
  } catch (const reid::Error&) {  // anything else is a finding
  }
  try {
    reid::parse_toml(text, "fuzzed");
  } catch (const reid::Error&) {
  }
  return 0;
}
