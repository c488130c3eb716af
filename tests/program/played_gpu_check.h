#pragma once
// tools/gpu_check.sh with programs in place of the real ones that note how they were called.

#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "program/run_program.h"
#include "reid/formats/json.h"

namespace reid::test {

namespace fs = std::filesystem;

// What `reid bench` leaves, in the same keys, with numbers that make the table's ratios plain.
inline constexpr const char* kReid = R"SH(#!/bin/bash
echo "$*" >>"$PLAYED/calls"
echo "${REID_VENDOR_ALLOW:-}" >"$PLAYED/allowed"
echo "${REID_VENDOR_TRY:-} $*" >>"$PLAYED/tries"
echo "${REID_WITHOUT:-}" >"$PLAYED/without"
[ "${REID_OVERLAP:-0}" = 0 ] || echo "$*" >>"$PLAYED/overlapping"
[ -z "${REID_IMPL:-}" ] || echo "$REID_IMPL $*" >>"$PLAYED/preferred"
verb=$1
while [ $# -gt 0 ]; do case $1 in --json) json=$2 ;; --out) out=$2 ;; esac; shift; done
name=$(basename "${json:-${out:-none}}" .json)
[ "$name" != "${PLAYED_SLOW:-}" ] || sleep 60
[ "$name" != "${PLAYED_BROKEN:-}" ] || { echo 'reid: it broke' >&2; exit 1; }
passes() { echo "\"count\": 1, \"forward\": {\"times\": {\"median\": $1}}, \"data\": $2, \"weight\": {\"times\": {\"median\": $1}}"; }
timed='{"times": {"median": 1e-6}}' refused='{"refused": "no"}' sum='{"median": 2e-6, "share_of_floor": 0.5}'
case $name in
  network*) echo '{"first_step_seconds": 1.5, "replayed_steps": 32, "graphs": 1, "peak_bytes": 2147483648, "inference": {"images_per_second": 30000},
                   "training": {"images_per_second": 12000, "processors": 0.5, "times": {"median": 5e-3, "least": 4e-3, "most": 6e-3}}}' >"$json" ;;
  layers_cudnn*) echo "{\"rows\": [{\"name\": \"a\", $(passes 4e-6 "$refused")}, {\"name\": \"b\", $(passes 1e-6 "$refused")}]}" >"$json" ;;
  layers*) echo "{\"sums\": {\"all\": {\"forward\": $sum, \"data\": $sum, \"weight\": $sum}},
                  \"rows\": [{\"name\": \"a\", $(passes 1e-6 "$timed")}, {\"name\": \"b\", $(passes 1e-6 "$timed")}]}" >"$json" ;;
  ops*) row() { echo "{\"name\": \"batch norm 64 x 8 x 4: $1\", \"times\": {\"median\": $2}, \"gigabytes_per_second\": 1, \"share_of_floor\": 1}"; }
    echo "{\"rows\": [$(row statistics 1e-6), $(row 'apply, ReLU' 2e-6), $(row 'backward, ReLU' 4e-6)]}" >"$json" ;;
  search_market1501) echo '{"rows": [{"name": "clusters of 9", "median": 0.004, "found": "3 clusters"}]}' >"$json" ;;
  search_market1501_cpu) echo '{"rows": [{"name": "clusters of 9", "median": 0.1, "found": "3 clusters"}]}' >"$json" ;;
  world) mkdir "$out" || exit ;;
  start) mkdir "$out" || exit; touch "$out/encoder.safetensors" ;;
  train) mkdir "$out" || exit; touch "$out/encoder.safetensors" "$out/checkpoint.safetensors"
    part() { echo "{\"extraction\": $1, \"clustering\": 1, \"training\": 10.24, \"evaluation\": 0, \"checkpoints\": 0.76, \"images\": 102400}"; }
    echo "{\"evaluation\": ${PLAYED_EVALUATED:-4}, \"epochs\": [$(part 9), $(part 2)]}" >"$out/times.json"
    echo '{"data": {"market1501:w": {"train": {"images": 13152}}}}' >"$out/manifest.json"
    printf '%s\n' '{"kind": "epoch", "clusters": 9.0, "noise": 0.5}' '{"kind": "step"}' '{"kind": "epoch", "clusters": 600.0, "noise": 0.25}' '{"ki' >"$out/metrics.jsonl" ;;
  none) ;;
  *) echo '{}' >"$json" ;;
esac
echo "the last line of $name"
)SH";
inline constexpr const char* kPython = R"SH(#!/bin/bash
[ "$1" != -c ] || exit 0
echo "$*" >>"$PLAYED/python_calls"
script=$1
while [ $# -gt 0 ]; do [ "$1" = --out ] && out=$2; shift; done
norm() { echo "{\"name\": \"batch norm 64 x 8 x 4\", \"form\": \"$1, ReLU\", \"median\": $2}"; }
case $script in *torch_norms.py) echo "{\"rows\": [$(norm forward 6e-6), $(norm backward 2e-6), $(norm 'forward, residual' 1e-6)]}" >"$out"; exit ;; esac
layer() { echo "{\"count\": 1, \"forward_us\": $1, \"dgrad_us\": $1, \"wgrad_us\": $1}"; }
echo '{"train_eager_b64_bfloat16_ibn": {"images_per_s": 6000}, "train_graph_b64_bfloat16_ibn": "failed: no memory",
 "layers_b64": ['"$(layer 0.5), $(layer 2)"']}' >"$out"
)SH";

struct Played {
  TemporaryFolder folder;
  const std::string path = std::getenv("PATH");
  Played() {
    fs::create_directories(folder / "out/build");
    fs::create_directories(folder / "bin");
    set_capability("9.0");
    setenv("PATH", (std::string(folder / "bin") + ":" + path).c_str(), 1);
    write_script("out/build/reid", kReid);
    write_script("out/build/reid_tests", "#!/bin/bash\n");
    write_script("python", kPython);
    write_file(folder / "baseline.py", "");
    write_file(folder / "out/build/CMakeCache.txt", "REID_CUDNN_USED:INTERNAL=ON\nREID_CUBLAS_USED:INTERNAL=OFF\n");
    setenv("PLAYED", (folder / ".").c_str(), 1);
    setenv("PYTHON", (folder / "python").c_str(), 1);
  }
  ~Played() {
    setenv("PATH", path.c_str(), 1);
    for (const char* name : {"PLAYED", "PYTHON", "PLAYED_SLOW", "PLAYED_BROKEN", "PLAYED_WRONG", "PLAYED_EVALUATED"}) unsetenv(name);
  }
  void write_script(const std::string& name, const std::string& text) const {
    write_file(folder / name, text);
    fs::permissions(folder / name, fs::perms::owner_all);
  }
  void set_capability(const std::string& of) const { write_script("bin/nvidia-smi", "#!/bin/bash\necho " + of + "\n"); }
  int run(const std::string& arguments) const {
    const std::string command = std::string("'" REID_SOURCE_DIR "/tools/gpu_check.sh' --out '") + (folder / "out") + "' " + arguments +
                                " >'" + (folder / "said") + "' 2>&1";
    const int status = std::system(command.c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }
  std::vector<std::string> lines(const std::string& file) const {
    std::istringstream in(read_text(folder / file));
    std::vector<std::string> all;
    for (std::string line; std::getline(in, line);) all.push_back(line);
    return all;
  }
  Json result(const std::string& step) const {
    const Json results = parse_json(read_text(folder / "out/results.json"), "results.json");
    for (const Json& row : results.items()) {
      if (row.at("step").string() == step) return row;
    }
    FAIL(step, " is not among the results:\n", read_text(folder / "said"));
    return {};
  }
  std::string verdict(const std::string& step) const { return result(step).at("verdict").string(); }
};

}  // namespace reid::test
