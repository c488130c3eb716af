#pragma once
// Where a reader's bytes come from: a file, read where and when they are needed, or a buffer. Every read is checked against the
// size, so a reader cannot run past the end; it can only be told that the file is too short.

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace reid {

class Source {
 public:
  explicit Source(const std::filesystem::path& file);                          // throws, naming the file and the system's reason
  Source(std::span<const uint8_t> bytes, std::string name);                    // the bytes stay the caller's
  Source(std::vector<uint8_t> bytes, std::string name);                        // owns them
  Source part(uint64_t offset, uint64_t size, const std::string& what) const;  // throws when it is not inside

  uint64_t size() const { return size_; }
  const std::string& name() const { return name_; }
  void read(uint64_t offset, std::span<uint8_t> out, const std::string& what) const;  // all of it, or an error naming `what`
  std::vector<uint8_t> bytes(uint64_t offset, uint64_t count, const std::string& what) const;
  template <class T>
  T number(uint64_t offset, const std::string& what) const {  // little-endian
    T value{};
    read(offset, std::span<uint8_t>(reinterpret_cast<uint8_t*>(&value), sizeof value), what);
    return value;
  }

 private:
  void check(uint64_t offset, uint64_t count, const std::string& what) const;

  struct File;
  std::shared_ptr<const File> file_;
  std::shared_ptr<const std::vector<uint8_t>> owned_;
  std::span<const uint8_t> memory_;  // used when there is no file
  uint64_t start_ = 0, size_ = 0;
  std::string name_;
};

// Reads a source from front to back through a window.
class Cursor {
 public:
  explicit Cursor(const Source& source, uint64_t position = 0) : source_(source), next_(position) {}

  uint64_t position() const { return next_ - (window_.size() - used_); }
  void seek(uint64_t position);
  bool done() const { return position() >= source_.size(); }
  const std::string& name() const { return source_.name(); }
  uint8_t byte() {
    if (used_ == window_.size()) refill();
    return window_[used_++];
  }
  std::string text(uint64_t count);  // throws when fewer are left; allocates no more than there is
  std::string line();                // up to and without '\n'
  template <class T>
  T number() {
    T value{};
    auto* to = reinterpret_cast<uint8_t*>(&value);
    for (size_t i = 0; i < sizeof value; ++i) to[i] = byte();
    return value;
  }

 private:
  void refill();
  Source source_;
  std::vector<uint8_t> window_;
  size_t used_ = 0;
  uint64_t next_ = 0;  // of the source, behind the window
};

}  // namespace reid
