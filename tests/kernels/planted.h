#pragma once
// How the tests of the emulator run kernels that hold a bug: as text of the error, or in a process of its own that dies.

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "mma.cuh"

#if defined(__SANITIZE_ADDRESS__)
#define REID_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define REID_TEST_ASAN 1
#endif
#endif

namespace reid::emu::test {

inline Stream& stream() { return current_stream(Device{}); }

struct WithSchedule {
  explicit WithSchedule(Schedule s) { set_schedule(s); }
  ~WithSchedule() { set_schedule(Schedule::lockstep); }
};

// Runs f under every schedule.
template <class F>
void under_every_schedule(F&& f) {
  for (const Schedule s : kSchedules) {
    const WithSchedule with(s);
    INFO("schedule ", name_of(s));
    f();
  }
}

// The message of the error that f throws, "" when it throws none.
template <class F>
std::string error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

inline void check_says(const std::string& message, std::initializer_list<const char*> parts) {
  for (const char* part : parts) CHECK_MESSAGE(message.find(part) != std::string::npos, "'", std::string(part), "' is not in: ", message);
}

// What a child process that calls f writes to its standard error before it dies; "" when it survives.
template <class F>
std::string last_words(F&& f) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    dup2(ends[1], 2);
    close(ends[0]);
    f();
    _exit(0);
  }
  close(ends[1]);
  std::string words;
  char buffer[4096];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;) words.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? "" : words;
}

}  // namespace reid::emu::test
