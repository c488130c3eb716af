// The one test binary: runs the cases of every wing and ends with the line "N passed, N failed".
//
// Exit status: 0 only when at least one case ran and none failed.

#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#ifdef REID_EMULATED_KERNELS
#include "emu/device.h"
#include "kernels.h"
#endif
#if defined(REID_PLAYED_CUDNN) && defined(REID_PLAYED_CUBLASLT)
#include "backends/played.h"
#endif

namespace {

struct Count {
  unsigned passed = 0, failed = 0;
  void print() const {
    std::printf("%u passed, %u failed\n", passed, failed);
    std::fflush(stdout);
  }
};
Count g_count;

struct Counter : doctest::IReporter {
  explicit Counter(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats& run) override {
    g_count.failed = run.numTestCasesFailed;
    g_count.passed = started - run.numTestCasesFailed;  // doctest's own count takes no notice of --first and --last
    if (crashed) g_count.print();                       // the process is about to die by its signal: main() will not get to say it
  }
  void test_case_start(const doctest::TestCaseData&) override { ++started; }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException& e) override { crashed = crashed || e.is_crash; }
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}

  unsigned started = 0;
  bool crashed = false;
};
REGISTER_LISTENER("count", 1, Counter);

}  // namespace

int main(int argc, char** argv) {
#ifdef REID_EMULATED_KERNELS
  reid::initialize();  // the CPU's own come first: nothing runs in the emulator unless a test asks for it
  reid::emu::register_kernels();
  reid::emu::install_device();
#endif
#if defined(REID_PLAYED_CUDNN) && defined(REID_PLAYED_CUBLASLT)
  reid::initialize();  // behind the CPU's own
  reid::test::register_played(REID_PLAYED_CUDNN, REID_PLAYED_CUBLASLT);
#endif
  doctest::Context context(argc, argv);
  context.setOption("no-intro", true);
  const int status = context.run();
  if (context.shouldExit()) return status;  // --list-test-cases, --help and the like
  g_count.print();
  return status != 0 || g_count.passed == 0 ? 1 : 0;
}
