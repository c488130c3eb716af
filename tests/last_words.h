#pragma once
// What a process says before AddressSanitizer ends it: for tests that plant accesses out of bounds.

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <string>

#if defined(__SANITIZE_ADDRESS__)
#define REID_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define REID_TEST_ASAN 1
#endif
#endif

namespace reid::test {

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

}  // namespace reid::test
