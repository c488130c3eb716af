#include "reid/formats/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "reid/engine/base.h"

namespace reid {
namespace {

namespace fs = std::filesystem;

std::string reason(int code) { return std::generic_category().message(code); }

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }
  int close() {  // delayed write errors (NFS, quotas) surface here
    const int result = ::close(fd_);
    fd_ = -1;
    return result;
  }

 private:
  int fd_;
};

using Parts = std::vector<std::span<const uint8_t>>;

// 0, or the errno of the first call that failed.
int write_all(int fd, const Parts& parts) {
  for (std::span<const uint8_t> bytes : parts) {
    while (!bytes.empty()) {
      const ssize_t n = ::write(fd, bytes.data(), bytes.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return errno;
      bytes = bytes.subspan(static_cast<size_t>(n));
    }
  }
  return 0;
}

int flush(Descriptor& file) {
  if (::fsync(file.get()) != 0) return errno;
  return file.close() == 0 ? 0 : errno;
}

// A pipe or a device (/dev/stdout, /dev/null) has no name to take over: bytes go straight in.
void write_special(const fs::path& file, const Parts& parts) {
  Descriptor out(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  REID_CHECK(out.get() >= 0, "cannot open ", file.string(), " for writing: ", reason(errno));
  const int error = write_all(out.get(), parts);
  REID_CHECK(error == 0, "cannot write ", file.string(), ": ", reason(error));
}

// Makes the new name survive a power failure; file systems that cannot do this are left as they are.
void flush_folder(const fs::path& folder) {
  const Descriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() >= 0) static_cast<void>(::fsync(fd.get()));
}

// So that a link stays and its target changes, if there is one.
fs::path behind_links(const fs::path& file) {
  std::error_code error;
  fs::path target = fs::weakly_canonical(file, error);
  return error ? file : target;
}

fs::path temporary_beside(const fs::path& target) {
  static std::atomic<uint64_t> count{0};
  return target.parent_path() / str(".", target.filename().string(), ".", ::getpid(), ".", ++count, ".tmp");
}

}  // namespace

std::vector<uint8_t> read_file(const fs::path& file) {
  const Descriptor in(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  REID_CHECK(in.get() >= 0, "cannot open ", file.string(), ": ", reason(errno));
  struct stat info {};
  REID_CHECK(::fstat(in.get(), &info) == 0, "cannot read ", file.string(), ": ", reason(errno));
  REID_CHECK(!S_ISDIR(info.st_mode), "cannot read ", file.string(), ": it is a folder");
  std::vector<uint8_t> bytes(S_ISREG(info.st_mode) ? static_cast<size_t>(info.st_size) : 0);
  size_t used = 0;
  for (;;) {  // the size is only a hint: pipes have none, and a file may grow meanwhile
    if (used == bytes.size()) {
      uint8_t more = 0;
      const ssize_t n = ::read(in.get(), &more, 1);
      if (n < 0 && errno == EINTR) continue;
      REID_CHECK(n >= 0, "cannot read ", file.string(), ": ", reason(errno));
      if (n == 0) break;
      bytes.resize(used + (used < 4096 ? 4096 : used));
      bytes[used++] = more;
      continue;
    }
    const ssize_t n = ::read(in.get(), bytes.data() + used, bytes.size() - used);
    if (n < 0 && errno == EINTR) continue;
    REID_CHECK(n >= 0, "cannot read ", file.string(), ": ", reason(errno));
    if (n == 0) break;
    used += static_cast<size_t>(n);
  }
  bytes.resize(used);
  return bytes;
}

std::string read_text(const fs::path& file) {
  const std::vector<uint8_t> bytes = read_file(file);
  return {bytes.begin(), bytes.end()};
}

void check_can_write(const fs::path& file) {
  REID_CHECK(!file.empty(), "a file to write has no name");
  const fs::path target = behind_links(file);
  std::error_code error;
  const fs::file_status status = fs::status(target, error);
  REID_CHECK(status.type() != fs::file_type::directory, "cannot write ", file.string(), ": it is a folder");
  const bool special = fs::exists(status) && status.type() != fs::file_type::regular;
  const fs::path where = special ? target : target.parent_path() / ".";  // what is no folder has none
  REID_CHECK(::access(where.c_str(), special ? W_OK : W_OK | X_OK) == 0, "cannot write ", file.string(), ": ", reason(errno));
}

void write_file(const fs::path& file, const Parts& parts) {
  const fs::path target = behind_links(file);
  std::error_code error;
  const fs::file_status status = fs::status(target, error);
  REID_CHECK(status.type() != fs::file_type::directory, "cannot write ", file.string(), ": it is a folder");
  if (fs::exists(status) && status.type() != fs::file_type::regular) return write_special(target, parts);

  const fs::path temporary = temporary_beside(target);
  Descriptor out(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
  REID_CHECK(out.get() >= 0, "cannot write ", file.string(), ": ", reason(errno));
  int code = write_all(out.get(), parts);
  if (code == 0) code = flush(out);
  if (code == 0 && ::rename(temporary.c_str(), target.c_str()) != 0) code = errno;
  if (code != 0) {
    ::unlink(temporary.c_str());
    fail(str("cannot write ", file.string(), ": ", reason(code)));
  }
  flush_folder(target.has_parent_path() ? target.parent_path() : fs::path("."));
}

void write_file(const fs::path& file, std::span<const uint8_t> bytes) { write_file(file, Parts{bytes}); }

void write_file(const fs::path& file, std::string_view text) {
  write_file(file, std::span<const uint8_t>(reinterpret_cast<const uint8_t*>(text.data()), text.size()));
}

void make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  REID_CHECK(!error, "cannot make the folder ", folder.string(), ": ", error.message());
  REID_CHECK(fs::is_directory(folder, error), "cannot make the folder ", folder.string(), ": a file of that name exists");
  REID_CHECK(::access(folder.c_str(), W_OK | X_OK) == 0, "cannot write into the folder ", folder.string(), ": ", reason(errno));
}

}  // namespace reid
