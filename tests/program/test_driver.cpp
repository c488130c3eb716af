// What the program says of a driver that it cannot compute with: the runtime library is the real one, the driver beneath it is played.

#include <doctest/doctest.h>

#include <cstdlib>
#include <string>

#include "program/run_program.h"

namespace reid::test {
namespace {

// A variable of the programs that are started in a scope.
class Variable {
 public:
  Variable(const char* name, const std::string& value) : name_(name), before_(std::getenv(name) ? std::getenv(name) : "") {
    setenv(name, value.c_str(), 1);
  }
  ~Variable() {
    if (before_.empty()) {
      unsetenv(name_);
    } else {
      setenv(name_, before_.c_str(), 1);
    }
  }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
  std::string before_;
};

TEST_CASE("program: a driver that is old, has no device or does not answer is one sentence with the remedy") {
#ifdef REID_PLAYED_DRIVER
  const char* paths = std::getenv("LD_LIBRARY_PATH");
  const Variable path("LD_LIBRARY_PATH", std::string(REID_PLAYED_DRIVER) + (paths ? std::string(":") + paths : ""));
  const auto says = [](const char* version, const char* answer, const std::string& begin, const std::string& end) {
    const Variable first("PLAYED_DRIVER_VERSION", version), second("PLAYED_DRIVER_ANSWER", answer);
    const Outcome r = run_reid({"embed", "--weights", "w", "--out", "o.npy", "x.jpg", "--device", "cuda"});
    CHECK(r.status == 1);
    CHECK_MESSAGE(r.err.starts_with("reid: device cuda: " + begin), r.err);
    CHECK_MESSAGE(r.err.ends_with(end + ", or use --device cpu\n"), r.err);
  };
  says("11080", "0", "the NVIDIA driver is too old: it knows CUDA 11.8, this program was built with ", ": update the driver");
  const std::string none = "the driver is there, but shows no NVIDIA GPU (is CUDA_VISIBLE_DEVICES right?)";
  says("99000", "100", none, none + ": make one visible");  // CUDA_ERROR_NO_DEVICE
  says("99000", "999", "the driver does not answer: ", " (cudaErrorUnknown)");
  says("99000", "803", "the driver does not answer: ", " (cudaErrorSystemDriverMismatch)");
#else
  MESSAGE("the program has no CUDA backend");
#endif
}

}  // namespace
}  // namespace reid::test
