#include "formats/source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "reid/engine/base.h"
#include "reid/formats/files.h"

namespace reid {

static_assert(std::endian::native == std::endian::little, "file formats here are little-endian and copied as they are");

struct Source::File {
  int descriptor = -1;
  File() = default;
  ~File() {
    if (descriptor >= 0) ::close(descriptor);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
};

Source::Source(const std::filesystem::path& path) : name_(path.string()) {
  const auto reason = [] { return std::generic_category().message(errno); };
  auto file = std::make_shared<File>();
  file->descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  REID_CHECK(file->descriptor >= 0, "cannot open ", name_, ": ", reason());
  struct stat info {};
  REID_CHECK(::fstat(file->descriptor, &info) == 0, "cannot read ", name_, ": ", reason());
  if (S_ISREG(info.st_mode)) {
    size_ = static_cast<uint64_t>(info.st_size);
    file_ = std::move(file);
  } else {  // a pipe cannot be read twice; read_file refuses folders
    owned_ = std::make_shared<const std::vector<uint8_t>>(read_file(path));
    memory_ = *owned_;
    size_ = memory_.size();
  }
}

Source::Source(std::span<const uint8_t> bytes, std::string name) : memory_(bytes), size_(bytes.size()), name_(std::move(name)) {}

Source::Source(std::vector<uint8_t> bytes, std::string name)
    : owned_(std::make_shared<const std::vector<uint8_t>>(std::move(bytes))),
      memory_(*owned_),
      size_(memory_.size()),
      name_(std::move(name)) {}

void Source::check(uint64_t offset, uint64_t count, const std::string& what) const {
  REID_CHECK(offset <= size_ && count <= size_ - offset, name_, ": ", what, " would be ", count, " bytes at ", offset,
             ", but there are only ", size_, " (truncated file?)");
}

Source Source::part(uint64_t offset, uint64_t size, const std::string& what) const {
  check(offset, size, what);
  Source inner = *this;
  inner.start_ += offset;
  inner.size_ = size;
  return inner;
}

void Source::read(uint64_t offset, std::span<uint8_t> out, const std::string& what) const {
  check(offset, out.size(), what);
  if (out.empty()) return;
  if (!file_) {
    std::memcpy(out.data(), memory_.data() + start_ + offset, out.size());
    return;
  }
  uint64_t at = start_ + offset;
  while (!out.empty()) {
    const ssize_t n = ::pread(file_->descriptor, out.data(), out.size(), static_cast<off_t>(at));
    if (n < 0 && errno == EINTR) continue;
    REID_CHECK(n >= 0, "cannot read ", name_, ": ", std::generic_category().message(errno));
    REID_CHECK(n > 0, name_, ": became shorter while it was read");
    out = out.subspan(static_cast<size_t>(n));
    at += static_cast<uint64_t>(n);
  }
}

std::vector<uint8_t> Source::bytes(uint64_t offset, uint64_t count, const std::string& what) const {
  check(offset, count, what);
  std::vector<uint8_t> out(count);
  read(offset, out, what);
  return out;
}

void Cursor::refill() {
  constexpr uint64_t kWindow = 64 * 1024;
  const uint64_t left = source_.size() - std::min(next_, source_.size());
  REID_CHECK(left > 0, name(), ": ends in the middle (truncated file?)");
  window_ = source_.bytes(next_, std::min(kWindow, left), "the next part");
  used_ = 0;
  next_ += window_.size();
}

void Cursor::seek(uint64_t position) {
  window_.clear();
  used_ = 0;
  next_ = position;
}

std::string Cursor::text(uint64_t count) {
  const uint64_t left = source_.size() - position();
  REID_CHECK(count <= left, name(), ": ", count, " bytes of text at ", position(), ", but only ", left, " are left (truncated file?)");
  std::string out(count, '\0');
  size_t done = 0;
  while (done < count) {
    if (used_ == window_.size()) refill();
    const size_t step = std::min(static_cast<size_t>(count) - done, window_.size() - used_);
    std::memcpy(out.data() + done, window_.data() + used_, step);
    used_ += step;
    done += step;
  }
  return out;
}

std::string Cursor::line() {
  std::string out;
  for (uint8_t c = byte(); c != '\n'; c = byte()) out.push_back(static_cast<char>(c));
  return out;
}

}  // namespace reid
