#!/bin/bash
# Everything that needs a GPU, on a machine that has one: builds, tests, sanitizes, measures, compares. No network, no root; works from
# `make bundle`'s archive. Leaves JSON files and a table in --out.
#
#   tools/gpu_check.sh [--phase build|test|sanitize|bench|search|compare]... [--out FOLDER] [--seconds N] [--baseline SCRIPT]
#
# Without --phase all of them run, in this order; each ends by itself within N seconds (default 480): what does not fit is reported as skipped,
# a step that takes longer than its own limit as cut. A tool that is missing or refuses the device is reported as skipped, never passed over.
# SCRIPT measures PyTorch on the same card (default: ../shared/bench/torch_baseline.py). Exit status 1 when anything failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

phases=() out=gpu_check seconds=480 baseline=../shared/bench/torch_baseline.py
while [ $# -gt 0 ]; do
  case $1 in
    --phase) phases+=("$2"); shift 2 ;;
    --out) out=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --baseline) baseline=$2; shift 2 ;;
    *) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 2 ;;
  esac
done
[ ${#phases[@]} -gt 0 ] || phases=(build test sanitize bench search compare)
mkdir -p "$out"
build=$out/build
results=$out/results.tsv   # phase, step, verdict, seconds, remark
touch "$results"

# What a later run of the same phase says replaces what an earlier one said.
verdict() {
  awk -F'\t' -v p="$1" -v s="$2" '!($1 == p && $2 == s)' "$results" >"$results.part"
  printf '%s\t%s\t%s\t%s\t%s\n' "$@" >>"$results.part"
  mv "$results.part" "$results"
  printf '%-9s %-44s %-8s %5s s  %s\n' "$@"
}

step() {  # [most=SECONDS] step PHASE NAME COMMAND...: its output goes to a log, whose last line is the remark
  local phase=$1 name=$2 begin=$SECONDS status=0
  shift 2
  local log=$out/$phase-${name//[^a-zA-Z0-9]/_}.log left=$((deadline - SECONDS))
  [ -z "${most:-}" ] || [ "$left" -le "$most" ] || left=$most
  if [ "$left" -le 0 ]; then verdict "$phase" "$name" skipped 0 'no time left in this phase'; return 0; fi
  timeout -k 5 "$left" "$@" >"$log" 2>&1 || status=$?
  local remark
  remark=$(tail -n 1 "$log" | tr '\t' ' ' | cut -c 1-100)
  case $status in
    0) verdict "$phase" "$name" passed $((SECONDS - begin)) "$remark" ;;
    124 | 137) verdict "$phase" "$name" 'cut' $((SECONDS - begin)) "after $left s" ;;
    *) verdict "$phase" "$name" FAILED $((SECONDS - begin)) "$remark" ;;
  esac
  return "$status"
}
skip() { verdict "$1" "$2" skipped 0 "$3"; }

# "90a" for a Hopper, "80" for an A100: only the card at hand is compiled for.
architecture() {
  local capability
  capability=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -n 1 | tr -d ' .')
  case $capability in
    '') echo '80;90a' ;;
    90) echo 90a ;;
    *) echo "$capability" ;;
  esac
}

phase_build() {
  command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || { verdict build configure FAILED 0 'nvcc was not found'; return 1; }
  step build configure cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Release -DREID_WITH_CUDA=ON -DREID_CUDA_ARCH="$(architecture)" || return
  step build program cmake --build "$build" -j "$(nproc)" --target reid || return
  step build tests cmake --build "$build" -j "$(nproc)" --target reid_tests || return
  step build 'registers and spills' cmake --build "$build" --target reid_kernels_cuda
}

phase_test() {
  step test 'the device answers' "$build/reid" bench machine --device cuda || return
  REID_DEVICE=cuda step test 'every op and problem line' "$build/reid_tests" -tc='problems*'
  REID_DEVICE=cuda step test 'tensors, networks, graphs, transfers, clocks' "$build/reid_tests" -tc='device:*,device bench:*,device feed:*,replay:*,transfer:*'
  REID_DEVICE=cuda step test 'searches among rows, Jaccard pairs: the bits of the CPU' "$build/reid_tests" -tc='accelerator*,jaccard device:*'
  REID_DEVICE=cuda step test 'runs: agree with the CPU, repeat, resume' "$build/reid_tests" -tc='device runs:*'
  step test 'the suite on the CPU' "$build/reid_tests" -tce='problems*,device*,replay:*,transfer:*,accelerator*'
}

phase_sanitize() {
  local tool
  command -v compute-sanitizer >/dev/null || PATH=$PATH:/usr/local/cuda/bin
  command -v compute-sanitizer >/dev/null || { skip sanitize compute-sanitizer 'it was not found'; return 0; }
  for tool in memcheck racecheck initcheck synccheck; do
    REID_DEVICE=cuda REID_WITHOUT=cudnn,cublaslt step sanitize "$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 \
      "$build/reid_tests" -tc='problems: edges*'
    if grep -qiE 'not supported|unable to attach|Insufficient|Target application terminated before first instrumented' \
        "$out/sanitize-$tool.log"; then skip sanitize "$tool" "it refuses this device: $(grep -m 1 -iE 'not supported|unable|Insufficient|terminated' "$out/sanitize-$tool.log" | cut -c 1-80)"; fi
  done
}

has() { grep -q "^REID_$1_USED:INTERNAL=ON" "$build/CMakeCache.txt"; }  # whether the build has CUDNN, CUBLAS beside our kernels

# What matters most comes first, for what comes last may find no time left: seconds at most, name of the step and of its JSON, what must have
# been found when the program was built, arguments of reid bench. The limits of our own kernels in bf16 add up to 480. No step was timed on a
# GPU yet; a limit is about five times what the work should take there.
bench_steps() {
  cat <<'STEPS'
40 network_bf16_64 - network --dtype bf16 --batch 64 --steps 30
40 network_bf16_128 - network --dtype bf16 --batch 128 --steps 30
50 network_bf16_256 - network --dtype bf16 --batch 256 --steps 20
40 layers_bf16_64 - layers --dtype bf16 --batch 64 --steps 20
20 machine - machine
45 ops_bf16_64 - ops --dtype bf16 --batch 64 --steps 20
60 layers_cudnn_bf16_64 CUDNN layers --impl cudnn --dtype bf16 --batch 64 --steps 20
45 kernels_bf16_64 - kernels --dtype bf16 --batch 64 --steps 10 --patience 1
25 gemm_bf16 - gemm --dtype bf16 --steps 20 --size 4096x4096x4096 8192x8192x8192 8192x12936x2048
25 gemm_cublaslt_bf16 CUBLAS gemm --impl cublaslt --dtype bf16 --steps 20 --size 4096x4096x4096 8192x8192x8192 8192x12936x2048
40 network_bf16_128_stride2 - network --dtype bf16 --batch 128 --last-stride 2 --steps 20
40 layers_bf16_128 - layers --dtype bf16 --batch 128 --steps 10
45 layers_bf16_256 - layers --dtype bf16 --batch 256 --steps 10
60 layers_cudnn_bf16_128 CUDNN layers --impl cudnn --dtype bf16 --batch 128 --steps 10
60 layers_cudnn_bf16_256 CUDNN layers --impl cudnn --dtype bf16 --batch 256 --steps 10
50 ops_bf16_128 - ops --dtype bf16 --batch 128 --steps 10
60 network_f32_64 - network --dtype f32 --batch 64 --steps 5
60 kernels_f32_64 - kernels --dtype f32 --batch 64 --steps 5 --patience 1
60 layers_f32_64 - layers --dtype f32 --batch 64 --steps 5
60 layers_cudnn_f32_64 CUDNN layers --impl cudnn --dtype f32 --batch 64 --steps 5
30 gemm_f32 - gemm --dtype f32 --steps 5
30 gemm_cublaslt_f32 CUBLAS gemm --impl cublaslt --dtype f32 --steps 5
STEPS
}

phase_bench() {
  local limit name needs arguments
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv >"$out/card.csv" 2>/dev/null
  while read -r limit name needs arguments; do
    if [ "$needs" != - ] && ! has "$needs"; then skip bench "$name" "$needs was not found when the program was built, or left out"; continue; fi
    # cuDNN's gradients of bf16 filters are rounded to bf16, which ours are not. The words of the arguments are separate ones.
    # shellcheck disable=SC2086
    REID_VENDOR_ALLOW=rounded-gradients most=$limit step bench "$name" "$build/reid" bench $arguments --device cuda --json "$out/$name.json" </dev/null
  done < <(bench_steps)
}

# Clustering, evaluation and neighbors at the sizes of data sets, host and device together; at Market-1501's on the CPU alone, too.
phase_search() {
  local name
  for name in market1501 msmt17 large; do
    most=150 step search "search_$name" "$build/reid" bench search --scale "$name" --steps 5 --device cuda --json "$out/search_$name.json"
  done
  most=150 step search search_market1501_cpu "$build/reid" bench search --scale market1501 --steps 3 --json "$out/search_market1501_cpu.json"
}

phase_compare() {
  local python=${PYTHON:-python3}
  if ! "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    skip compare PyTorch 'no PyTorch with CUDA here'
  elif [ ! -f "$baseline" ]; then
    skip compare PyTorch "$baseline is not there: name it with --baseline"
  else  # each writes what it has after every measurement, so that a cut one leaves the first of them
    most=260 step compare 'PyTorch: eager, graph' "$python" "$baseline" --what ceilings,train,infer,layers,norms --out "$out/torch.json"
    step compare 'PyTorch: compiled' "$python" "$baseline" --what infer,compile --out "$out/torch_compiled.json"
  fi
  command -v python3 >/dev/null || { skip compare 'table' 'no python3 here'; return 0; }
  deadline=$((SECONDS + 60)) step compare 'table' python3 tools/gpu_tables.py "$out" && cat "$out/table.md"
}

for phase in "${phases[@]}"; do
  declare -F "phase_$phase" >/dev/null || { echo "gpu_check: no phase is called $phase" >&2; exit 2; }
  deadline=$((SECONDS + seconds))
  [ "$phase" = build ] || [ -x "$build/reid_tests" ] || { verdict "$phase" all FAILED 0 'nothing is built: run --phase build first'; continue; }
  "phase_$phase"
done

echo
column -t -s $'\t' "$results" 2>/dev/null || cat "$results"
awk -F'\t' 'BEGIN { print "[" } { gsub(/["\\]/, "", $5); printf "%s  {\"phase\": \"%s\", \"step\": \"%s\", \"verdict\": \"%s\", \"seconds\": %s, \"remark\": \"%s\"}", (NR > 1 ? ",\n" : ""), $1, $2, $3, $4, $5 } END { print "\n]" }' \
  "$results" >"$out/results.json"
! cut -f 3 "$results" | grep -qE 'FAILED|cut'
