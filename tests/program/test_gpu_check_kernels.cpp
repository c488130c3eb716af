// tools/gpu_check.sh: what it says of kernels that are tested and sanitized.

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>

#include "played_gpu_check.h"

using namespace reid;
using namespace reid::test;

// What reid_tests would say: a test of the kernels for Hopper that ends without a count has brought the process down.
TEST_CASE("gpu_check: ops are tested one by one, and the rest goes on without kernels that fault") {
  Played played;
  played.write_script("out/build/reid_tests", R"SH(#!/bin/bash
echo "${REID_ONLY:-all}|${REID_WITHOUT:-}|$*${REID_VENDOR_TRY:+ of $REID_VENDOR_TRY}" >>"$PLAYED/tested"
for name in ${PLAYED_BROKEN:-}; do [ "${REID_ONLY:-}" != " cuda:$name " ] || exit 139; done
[ "${REID_ONLY:-}" != "${PLAYED_WRONG:-none}" ] || { echo '1 passed, 1 failed'; exit 1; }
echo '2 passed, 0 failed'
)SH");
  CHECK(played.run("--phase test") == 0);
  CHECK(played.verdict("every op and problem line") == "passed");
  const auto tested = [&](const std::string& line) { return std::ranges::count(played.lines("tested"), line) == 1; };
  for (const char* op : {"matmul", "conv_backward_data", "norm_gradient", "max_pool", "adam", "jaccard_within"}) {
    CHECK_MESSAGE(tested(str(op, " |cudnn|-tc=problems*")), op);  // the build has no cuBLASLt
  }
  CHECK(tested(" cudnn ||-tc=problems*"));
  CHECK(tested(" cudnn ||-tc=problems* of 2"));
  CHECK(played.verdict("cudnn, the fastest of 2") == "passed");
  CHECK(tested("conv_statistics |cudnn|-tc=problems*"));

  setenv("PLAYED_WRONG", "matmul ", 1);
  CHECK(played.run("--phase test") == 1);
  CHECK(played.result("every op and problem line").at("remark").string() == "matmul ");
  unsetenv("PLAYED_WRONG");

  setenv("PLAYED_BROKEN", "sm90_wgmma_bands", 1);
  setenv("PLAYED_WRONG", " cuda:sm90_clusters_256 ", 1);
  CHECK(played.run("--phase test") == 1);
  CHECK(played.verdict("cuda:sm90_wgmma") == "passed");
  CHECK(played.result("without cuda:sm90_wgmma_bands").at("remark").string() == "it faults: what follows is without it");
  CHECK(played.result("without cuda:sm90_clusters_256").at("remark").string() == "its results are wrong: what follows is without it");
  CHECK(tested("matmul |cuda:sm90_wgmma_bands,cuda:sm90_clusters_256,cudnn|-tc=problems*"));
  unsetenv("PLAYED_WRONG");
  setenv("PLAYED_BROKEN", "sm90_wgmma sm90_wgmma_bands", 1);
  CHECK(played.run("--phase test") == 1);
  CHECK(tested("matmul |cuda:sm90_wgmma,cuda:sm90_wgmma_bands,cudnn|-tc=problems*"));
  CHECK(played.run("--phase bench") == 1);  // for what failed before
  CHECK(read_text(played.folder / "without") == "cuda:sm90_wgmma,cuda:sm90_wgmma_bands\n");

  // Mended, they are tried again.
  unsetenv("PLAYED_BROKEN");
  CHECK(played.run("--phase test --phase bench") == 0);
  CHECK(read_text(played.folder / "without") == "\n");

  played.set_capability("8.0");
  CHECK(played.run("--phase test") == 0);
  CHECK(played.result("cuda:sm90_clusters_256").at("remark").string() == "only devices of compute capability 9.0 run it");
}

TEST_CASE("gpu_check: sanitizers look at the large kernels for Hopper whatever they find elsewhere, but not at those that failed") {
  Played played;
  played.write_script("bin/compute-sanitizer", R"SH(#!/bin/bash
echo "${REID_ONLY:-all} $2" >>"$PLAYED/sanitized"
[ "$2" != synccheck ] || { echo 'Device not supported'; exit 1; }
echo '1 passed, 0 failed'
[ "${REID_ONLY:-all} $2" != 'all memcheck' ] || exit 9
)SH");
  write_file(played.folder / "out/without", "cuda:sm90_wgmma_bands\n");
  CHECK(played.run("--phase sanitize") == 1);
  CHECK(played.verdict("memcheck") == "FAILED");
  CHECK(played.verdict("memcheck, cuda:sm90_wgmma_256") == "passed");
  CHECK(played.result("memcheck, cuda:sm90_wgmma_bands").at("remark").string() == "it failed its tests");
  CHECK(played.verdict("synccheck") == "skipped");
  std::vector<std::string> expected{"all memcheck"};
  for (const char* name : {"sm90_wgmma_256", "sm90_pairs", "sm90_pairs_256", "sm90_clusters_256"})
    expected.push_back(str(" cuda:", name, "  memcheck"));
  for (const char* tool : {"synccheck", "initcheck", "racecheck"}) expected.push_back(str("all ", tool));
  CHECK(played.lines("sanitized") == expected);
}
