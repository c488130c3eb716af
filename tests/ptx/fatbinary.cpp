// The texts of PTX that nvcc lays into an object ("fat binary"): uncompressed ones (nvcc --no-compress), as tools/kernels.cmake asks for
// where REID_PLAYED_CARD is set.

#include "ptx/fatbinary.h"

#include <cstdint>
#include <cstring>

#include "ptx/machine.h"

namespace reid::test::ptx {

namespace {

struct Header {
  uint32_t magic;
  uint16_t version, bytes;
  uint64_t content;
};
struct Entry {
  uint16_t kind, version;
  uint32_t bytes;
  uint64_t content;
  uint32_t unused[6];
  uint64_t flags;
};
constexpr uint32_t kMagic = 0xBA55ED50;
constexpr uint16_t kPtx = 1;
constexpr uint64_t kCompressed = 0x2000 | 0x8000;  // as nvcc 13 sets them for --compress-mode=speed and the others

template <class T>
T read(const unsigned char* at) {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

}  // namespace

std::vector<std::string> texts_of(const void* fatbinary) {
  const auto* at = static_cast<const unsigned char*>(fatbinary);
  const auto header = read<Header>(at);
  if (header.magic != kMagic) throw Fault("that is no fat binary");
  std::vector<std::string> texts;
  const unsigned char* const end = at + header.bytes + header.content;
  for (at += header.bytes; at < end;) {
    const auto entry = read<Entry>(at);
    if (entry.kind == kPtx) {
      if (entry.flags & kCompressed) throw Fault("the PTX is compressed: configure with -DREID_PLAYED_CARD=ON");
      texts.emplace_back(reinterpret_cast<const char*>(at + entry.bytes), entry.content);
    }
    at += entry.bytes + entry.content;
  }
  return texts;
}

}  // namespace reid::test::ptx
