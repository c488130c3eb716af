#include <doctest/doctest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "formats/scratch.h"
#include "reid/engine/base.h"
#include "reid/formats/files.h"

namespace fs = std::filesystem;
using namespace reid;
using reid::test::failure_of;
using reid::test::Scratch;

namespace {

size_t entries(const fs::path& folder) {
  size_t count = 0;
  for ([[maybe_unused]] const auto& entry : fs::directory_iterator(folder)) ++count;
  return count;
}

// Files of this process cannot grow beyond a size: the same path through write() as a full disk, without needing one.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = ::signal(SIGXFSZ, SIG_IGN);
    rlimit limit = before_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    ::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

}  // namespace

TEST_CASE("files: bytes come back, and an old file is replaced") {
  const Scratch scratch("files");
  const fs::path file = scratch / "a.txt";
  write_file(file, std::string_view("first"));
  write_file(file, std::string_view("second, longer"));
  CHECK(read_text(file) == "second, longer");
  write_file(file, std::string_view(""));
  CHECK(read_file(file).empty());
  CHECK(entries(scratch.folder) == 1);
}

TEST_CASE("files: a write that fails leaves the old file and nothing else") {
  const Scratch scratch("files");
  const fs::path file = scratch / "a.bin";
  write_file(file, std::string_view("precious"));
  std::string message;
  {
    const FileSizeLimit limit(1000);
    message = failure_of([&] { write_file(file, std::string(100000, 'x')); });
  }
  CHECK(message.find(file.string()) != std::string::npos);
  CHECK(message.find("too large") != std::string::npos);
  CHECK(read_text(file) == "precious");
  CHECK(entries(scratch.folder) == 1);
}

TEST_CASE("files: errors name the path and the reason") {
  const Scratch scratch("files");
  const std::string missing = failure_of([&] { read_file(scratch / "nowhere.txt"); });
  CHECK(missing.find("nowhere.txt") != std::string::npos);
  CHECK(missing.find("No such file") != std::string::npos);
  CHECK(failure_of([&] { read_file(scratch.folder); }).find("it is a folder") != std::string::npos);
  CHECK(failure_of([&] { write_file(scratch.folder, std::string_view("x")); }).find("it is a folder") != std::string::npos);
  CHECK(failure_of([&] { write_file(scratch / "no" / "such" / "f", std::string_view("x")); }).find("No such file") != std::string::npos);

  CHECK(failure_of([&] { check_can_write(scratch / "no" / "such" / "f"); }) ==
        str("cannot write ", (scratch / "no" / "such" / "f").string(), ": No such file or directory"));
  CHECK(failure_of([&] { check_can_write(scratch.folder); }).find("it is a folder") != std::string::npos);

  write_file(scratch / "plain", std::string_view("x"));
  for (const fs::path& fine : {scratch / "plain", scratch / "new", fs::path("/dev/null")}) CHECK_NOTHROW(check_can_write(fine));
  CHECK(failure_of([&] { check_can_write(scratch / "plain" / "below"); }).find("Not a directory") != std::string::npos);
  CHECK(failure_of([&] { check_can_write(""); }) == "a file to write has no name");
  CHECK(entries(scratch.folder) == 1);
  CHECK(failure_of([&] { make_folder(scratch / "plain"); }).find("plain") != std::string::npos);
  CHECK(failure_of([&] { make_folder(scratch / "plain" / "below"); }).find("plain") != std::string::npos);
  make_folder(scratch / "x" / "y");
  make_folder(scratch / "x" / "y");
  CHECK(fs::is_directory(scratch / "x" / "y"));
}

TEST_CASE("files: an unwritable folder is refused" * doctest::skip(::geteuid() == 0)) {
  const Scratch scratch("files");
  make_folder(scratch / "locked");
  ::chmod((scratch / "locked").c_str(), 0500);
  CHECK(failure_of([&] { make_folder(scratch / "locked"); }).find("Permission denied") != std::string::npos);
  CHECK(failure_of([&] { check_can_write(scratch / "locked" / "f"); }).find("Permission denied") != std::string::npos);
  CHECK(failure_of([&] { write_file(scratch / "locked" / "f", std::string_view("x")); }).find("Permission denied") != std::string::npos);
  ::chmod((scratch / "locked").c_str(), 0700);
}

TEST_CASE("files: links keep pointing, devices keep being devices") {
  const Scratch scratch("files");
  write_file(scratch / "target", std::string_view("old"));
  fs::create_symlink("target", scratch / "link");
  write_file(scratch / "link", std::string_view("new"));
  CHECK(fs::is_symlink(scratch / "link"));
  CHECK(read_text(scratch / "target") == "new");
  write_file("/dev/null", std::string_view("gone"));
  CHECK(fs::is_character_file("/dev/null"));
  CHECK(failure_of([] { write_file("/dev/full", std::string_view("x")); }).find("No space left") != std::string::npos);
}
