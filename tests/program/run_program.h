#pragma once
// Runs build/reid as a user would: arguments in; exit status, standard output and standard error back.

#include "reid/engine/base.h"
#include "reid/formats/files.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

namespace reid::test {

// A folder that lives as long as the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "reid_test_XXXXXX").string();
    REID_CHECK(mkdtemp(name.data()) != nullptr, "cannot make a temporary folder ", name);
    path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  std::filesystem::path path_;
};

struct Outcome {
  int status = -1;  // exit status, or 128 + the signal that ended it
  std::string out, err;
  bool says(const std::string& text) const { return err.find(text) != std::string::npos; }
};

// Starts the program with its output going to the two files; the caller waits. With max_file_bytes, writing more than that to
// a file fails as it would on a full disk.
inline pid_t start_reid(const std::vector<std::string>& arguments, const std::string& out, const std::string& err,
                        int64_t max_file_bytes = 0) {
  std::vector<std::string> words = arguments;
  words.insert(words.begin(), REID_PROGRAM);
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  const pid_t child = fork();
  REID_CHECK(child >= 0, "fork failed");
  if (child == 0) {
    if (max_file_bytes > 0) {
      signal(SIGXFSZ, SIG_IGN);
      const rlimit limit{static_cast<rlim_t>(max_file_bytes), static_cast<rlim_t>(max_file_bytes)};
      if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(125);
    }
    const int out_file = open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    const int err_file = open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (out_file < 0 || err_file < 0 || dup2(out_file, 1) < 0 || dup2(err_file, 2) < 0) _exit(126);
    execv(argv[0], argv.data());
    _exit(127);
  }
  return child;
}

inline int wait_for(pid_t child) {
  int status = 0;
  REID_CHECK(waitpid(child, &status, 0) == child, "waitpid failed");
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

inline Outcome run_reid(const std::vector<std::string>& arguments, int64_t max_file_bytes = 0) {
  REID_CHECK(std::filesystem::exists(REID_PROGRAM), REID_PROGRAM, " is not built; build all targets first (make build)");
  const TemporaryFolder folder;
  Outcome outcome;
  outcome.status = wait_for(start_reid(arguments, folder / "out", folder / "err", max_file_bytes));
  outcome.out = read_text(folder / "out");
  outcome.err = read_text(folder / "err");
  return outcome;
}

}  // namespace reid::test
