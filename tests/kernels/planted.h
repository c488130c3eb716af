#pragma once
// How the tests of the emulator run kernels that hold a bug: as text of the error, or in a process of its own that dies.

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "last_words.h"
#include "mma.cuh"

namespace reid::emu::test {

using reid::test::last_words;

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

}  // namespace reid::emu::test
