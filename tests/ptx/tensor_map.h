#pragma once
// What the played driver writes into a tensor map, and the machine's copy engine reads. A GPU's own form is known to its driver alone.

#include <cstdint>

namespace reid::test::ptx {

struct EncodedMap {
  static constexpr uint64_t kMark = 0x70616D20726F736EULL;
  uint64_t mark = kMark;
  uint64_t data = 0;
  uint64_t extent[4] = {}, bytes[3] = {};  // elements; from one to the next along axes 1 to 3
  uint32_t box[4] = {}, every[4] = {};     // elements, those between them included
};
static_assert(sizeof(EncodedMap) <= 128);

}  // namespace reid::test::ptx
