#pragma once
// Zip archives, as PyTorch and NumPy write them: members stored or deflated, with or without the 64-bit fields.

#include <cstdint>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "formats/source.h"

namespace reid {

// Reads the directory at once and members on demand. Every size is checked against the file; a deflated member may not claim
// more than deflate can hold (1032 to 1), and is refused above 1 GiB.
class ZipReader {
 public:
  struct Member {
    std::string name;
    uint64_t size = 0, packed = 0, header = 0;
    uint32_t crc = 0;
    bool deflated = false, encrypted = false;
  };

  explicit ZipReader(const Source& source);
  const std::vector<Member>& members() const { return members_; }
  const Member* find(const std::string& name) const;
  // The content of a member: a part of the file where it is stored, else unpacked in memory. What is unpacked has its checksum
  // verified; of what is stored, the caller may.
  Source open(const Member& member) const;

 private:
  void read_directory(uint64_t offset, uint64_t size, uint64_t count);
  Source source_;
  std::vector<Member> members_;
  std::unordered_map<std::string, size_t> by_name_;
};

// Lays members out one after another, stored, each one's data at a multiple of 64 bytes. Refuses what needs 64-bit fields.
class ZipWriter {
 public:
  // `data` must stay alive until the archive is written.
  void add(const std::string& name, std::span<const uint8_t> data);
  // Everything in order, for write_file: headers, paddings and the members' own memory.
  std::vector<std::span<const uint8_t>> finish();

 private:
  struct Entry {
    std::string name;
    std::span<const uint8_t> data;
    uint32_t crc;
    uint64_t header;
  };
  std::vector<Entry> entries_;
  std::vector<std::vector<uint8_t>> headers_;  // of the members, then the directory
  uint64_t position_ = 0;
};

}  // namespace reid
