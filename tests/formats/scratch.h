#pragma once
// What several tests of files share: a temporary folder, and the message of an expected error.

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>

#include "reid/engine/base.h"

namespace reid::test {

// A fresh folder below the system's temporary folder, gone at the end of the test.
struct Scratch {
  std::filesystem::path folder;
  explicit Scratch(const std::string& name) {
    static std::atomic<int> count{0};
    folder = std::filesystem::temp_directory_path() / str("reid_test_", name, "_", ::getpid(), "_", ++count);
    std::filesystem::create_directories(folder);
  }
  ~Scratch() {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return folder / name; }
};

// The message of the reid::Error that `action` throws, empty when it throws none. Other exceptions pass through.
template <class Action>
std::string failure_of(Action&& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  return {};
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace reid::test
