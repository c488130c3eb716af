#include "formats/zip.h"

#include <algorithm>
#include <cstring>

#include "formats/elements.h"
#include "formats/inflate.h"

namespace reid {
namespace {

// Signatures and fixed sizes of APPNOTE.TXT 6.3.
constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr uint64_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kLocatorSize = 20, kMaxComment = 65535;
constexpr uint64_t kMaxUnpacked = uint64_t{1} << 30, kDeflateRatio = 1032;
constexpr uint32_t kSee64 = 0xffffffffu;

template <class T>
void put(std::vector<uint8_t>& out, T value) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof value);
}

// The end record lies before a comment of unknown length: look for it from the back.
uint64_t find_end(const Source& source) {
  REID_CHECK(source.size() >= kEndSize, source.name(), ": too short for a zip archive (truncated file?)");
  const uint64_t span = std::min(source.size(), kEndSize + kMaxComment), start = source.size() - span;
  const std::vector<uint8_t> tail = source.bytes(start, span, "the end of the zip archive");
  for (uint64_t i = span - kEndSize + 1; i-- > 0;) {
    uint32_t signature = 0;
    std::memcpy(&signature, tail.data() + i, 4);
    if (signature == kEnd) return start + i;
  }
  fail(source.name() + ": the zip archive has no directory at its end (truncated file?)");
}

// Replaces the sizes that did not fit into 32 bits by those of the extra field 1.
void read_extra64(const std::string& extra, uint32_t size, uint32_t packed, uint32_t header, ZipReader::Member& member) {
  for (size_t at = 0; at + 4 <= extra.size();) {
    uint16_t id = 0, length = 0;
    std::memcpy(&id, extra.data() + at, 2);
    std::memcpy(&length, extra.data() + at + 2, 2);
    at += 4;
    if (id == 1) {
      size_t field = at;
      const size_t end = std::min<size_t>(extra.size(), at + length);
      const auto next = [&](uint32_t small, uint64_t& value) {
        if (small != kSee64 || field + 8 > end) return;
        std::memcpy(&value, extra.data() + field, 8);
        field += 8;
      };
      next(size, member.size);
      next(packed, member.packed);
      next(header, member.header);
    }
    at += length;
  }
}

}  // namespace

ZipReader::ZipReader(const Source& source) : source_(source) {
  const uint64_t end = find_end(source);
  uint64_t count = source.number<uint16_t>(end + 10, "the zip end record");
  uint64_t size = source.number<uint32_t>(end + 12, "the zip end record"), offset = source.number<uint32_t>(end + 16, "the zip end record");
  if (end >= kLocatorSize && source.number<uint32_t>(end - kLocatorSize, "the zip64 locator") == kLocator64) {
    const auto record = source.number<uint64_t>(end - kLocatorSize + 8, "the zip64 locator");
    REID_CHECK(source.number<uint32_t>(record, "the zip64 end record") == kEnd64, source.name(),
               ": damaged zip archive (zip64 end record)");
    count = source.number<uint64_t>(record + 32, "the zip64 end record");
    size = source.number<uint64_t>(record + 40, "the zip64 end record");
    offset = source.number<uint64_t>(record + 48, "the zip64 end record");
  }
  read_directory(offset, size, count);
}

void ZipReader::read_directory(uint64_t offset, uint64_t size, uint64_t count) {
  const Source directory = source_.part(offset, size, "the zip directory");
  REID_CHECK(count <= size / kCentralSize, source_.name(), ": the zip directory of ", size, " bytes cannot hold ", count, " members");
  Cursor at(directory);
  for (uint64_t i = 0; i < count; ++i) {
    REID_CHECK(at.number<uint32_t>() == kCentral, source_.name(), ": damaged zip directory (entry ", i, ")");
    at.text(4);  // versions
    const auto flags = at.number<uint16_t>(), method = at.number<uint16_t>();
    at.text(4);  // time and date
    Member member;
    member.crc = at.number<uint32_t>();
    const auto packed = at.number<uint32_t>(), unpacked = at.number<uint32_t>();
    const auto name = at.number<uint16_t>(), extra = at.number<uint16_t>(), comment = at.number<uint16_t>();
    at.text(8);  // disk, attributes
    const auto header = at.number<uint32_t>();
    member.name = at.text(name);
    member.size = unpacked;
    member.packed = packed;
    member.header = header;
    member.deflated = method == 8;
    member.encrypted = (flags & 1) != 0;
    read_extra64(at.text(extra), unpacked, packed, header, member);
    at.text(comment);
    REID_CHECK(method == 0 || method == 8, source_.name(), ": member '", member.name, "' is packed by method ", method,
               "; only stored and deflated ones can be read");
    REID_CHECK(method == 8 || member.packed == member.size, source_.name(), ": member '", member.name, "' is stored with two sizes, ",
               member.packed, " and ", member.size, " bytes");
    by_name_.emplace(member.name, members_.size());
    members_.push_back(std::move(member));
  }
}

const ZipReader::Member* ZipReader::find(const std::string& name) const {
  const auto found = by_name_.find(name);
  return found == by_name_.end() ? nullptr : &members_[found->second];
}

Source ZipReader::open(const Member& member) const {
  const std::string what = "member '" + member.name + "'";
  REID_CHECK(!member.encrypted, source_.name(), ": ", what, " is encrypted");
  const auto field = [&](uint64_t at) { return member.header + at; };
  REID_CHECK(member.header <= source_.size() && source_.number<uint32_t>(member.header, what) == kLocal, source_.name(), ": ", what,
             " has no header where the directory says (damaged archive)");
  const uint64_t start = field(kLocalSize) + source_.number<uint16_t>(field(26), what) + source_.number<uint16_t>(field(28), what);
  const Source packed = source_.part(start, member.packed, what);
  if (!member.deflated) return packed;

  REID_CHECK(member.size <= kMaxUnpacked && member.packed < kMaxUnpacked, source_.name(), ": ", what, " would unpack to ", member.size,
             " bytes; at most 1 GiB is allowed. Unpack it first");
  REID_CHECK(member.size / kDeflateRatio <= member.packed, source_.name(), ": ", what, " claims ", member.size, " bytes out of ",
             member.packed, ", more than deflate can hold");
  const std::vector<uint8_t> bytes = packed.bytes(0, member.packed, what);
  std::vector<uint8_t> out(member.size);
  REID_CHECK(inflate(bytes, out) && crc32(out) == member.crc, source_.name(), ": ", what,
             " does not unpack to what the directory promises (damaged archive)");
  return {std::move(out), source_.name() + " (" + what + ")"};
}

void ZipWriter::add(const std::string& name, std::span<const uint8_t> data) {
  constexpr uint64_t kAlignment = 64;
  const uint64_t after = position_ + kLocalSize + name.size();
  uint64_t padding = (kAlignment - after % kAlignment) % kAlignment;
  if (padding > 0 && padding < 4) padding += kAlignment;  // an extra field has 4 bytes at least
  REID_CHECK(after + padding + data.size() < kSee64 && entries_.size() < 65535,
             "[zip] more than 4 GiB or 65535 members; write safetensors instead");
  entries_.push_back({name, data, crc32(data), position_});
  std::vector<uint8_t> header;
  put(header, kLocal);
  put<uint16_t>(header, 20);          // needs version 2.0
  put<uint16_t>(header, 0);           // flags
  put<uint16_t>(header, 0);           // stored
  put<uint32_t>(header, 0x00210000);  // 1980-01-01: the same content gives the same bytes
  put<uint32_t>(header, entries_.back().crc);
  put(header, static_cast<uint32_t>(data.size()));
  put(header, static_cast<uint32_t>(data.size()));
  put(header, static_cast<uint16_t>(name.size()));
  put(header, static_cast<uint16_t>(padding));
  header.insert(header.end(), name.begin(), name.end());
  if (padding > 0) {
    put<uint16_t>(header, 0x4246);  // "FB": padding, as PyTorch marks it
    put(header, static_cast<uint16_t>(padding - 4));
    header.insert(header.end(), padding - 4, uint8_t{'Z'});
  }
  position_ += header.size() + data.size();
  headers_.push_back(std::move(header));
}

std::vector<std::span<const uint8_t>> ZipWriter::finish() {
  std::vector<uint8_t> directory;
  for (const Entry& e : entries_) {
    put(directory, kCentral);
    put<uint16_t>(directory, 20);
    put<uint16_t>(directory, 20);
    put<uint32_t>(directory, 0);  // flags, method
    put<uint32_t>(directory, 0x00210000);
    put(directory, e.crc);
    put(directory, static_cast<uint32_t>(e.data.size()));
    put(directory, static_cast<uint32_t>(e.data.size()));
    put(directory, static_cast<uint16_t>(e.name.size()));
    for (int zeros = 0; zeros < 6; ++zeros) put<uint16_t>(directory, 0);  // extra, comment, disk, attributes
    put(directory, static_cast<uint32_t>(e.header));
    directory.insert(directory.end(), e.name.begin(), e.name.end());
  }
  const auto size = static_cast<uint32_t>(directory.size());
  put(directory, kEnd);
  put<uint32_t>(directory, 0);  // disks
  put(directory, static_cast<uint16_t>(entries_.size()));
  put(directory, static_cast<uint16_t>(entries_.size()));
  put(directory, size);
  put(directory, static_cast<uint32_t>(position_));
  put<uint16_t>(directory, 0);  // comment
  headers_.push_back(std::move(directory));
  std::vector<std::span<const uint8_t>> parts;
  for (size_t i = 0; i < entries_.size(); ++i) {
    parts.emplace_back(headers_[i]);
    parts.push_back(entries_[i].data);
  }
  parts.emplace_back(headers_.back());
  return parts;
}

}  // namespace reid
