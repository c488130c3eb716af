#!/bin/bash
# Everything that needs a GPU, on a machine that has one: builds, tests, sanitizes, measures, compares. No network, no root; works from
# `make bundle`'s archive. Leaves JSON files and a table in --out.
#
#   tools/gpu_check.sh [--phase build|test|sanitize|bench|compare]... [--out FOLDER] [--seconds N]
#
# Without --phase all of them run, in this order; each ends by itself within N seconds (default 480, the phase is then reported as cut short).
# A tool that is missing or refuses the device is reported as skipped, never passed over. Exit status 1 when anything failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

phases=() out=gpu_check seconds=480
while [ $# -gt 0 ]; do
  case $1 in
    --phase) phases+=("$2"); shift 2 ;;
    --out) out=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    *) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 2 ;;
  esac
done
[ ${#phases[@]} -gt 0 ] || phases=(build test sanitize bench compare)
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

step() {  # step PHASE NAME COMMAND...: its output goes to a log, whose last line is the remark
  local phase=$1 name=$2 begin=$SECONDS status=0
  shift 2
  local log=$out/$phase-${name//[^a-zA-Z0-9]/_}.log left=$((deadline - SECONDS))
  if [ "$left" -le 0 ]; then verdict "$phase" "$name" skipped 0 'no time left in this phase'; return 0; fi
  timeout "$left" "$@" >"$log" 2>&1 || status=$?
  local remark
  remark=$(tail -n 1 "$log" | tr '\t' ' ' | cut -c 1-100)
  case $status in
    0) verdict "$phase" "$name" passed $((SECONDS - begin)) "$remark" ;;
    124) verdict "$phase" "$name" 'cut' $((SECONDS - begin)) "after $left s" ;;
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
  REID_DEVICE=cuda step test 'tensors, networks, graphs, transfers' "$build/reid_tests" -tc='device:*,replay:*,transfer:*'
  REID_DEVICE=cuda step test 'runs: agree with the CPU, repeat, resume' "$build/reid_tests" -tc='device runs:*'
  step test 'the suite on the CPU' "$build/reid_tests" -tce='problems*,device*,replay:*,transfer:*'
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

phase_bench() {
  local batch dtype
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv >"$out/card.csv" 2>/dev/null
  # Ours, and what the vendor's library takes of the same; its gradients of bf16 filters are rounded to bf16, which ours are not.
  for batch in 64 128 256; do
    for dtype in bf16 f32; do
      step bench "network, $dtype, batch $batch" "$build/reid" bench network --device cuda --dtype "$dtype" --batch "$batch" --steps 20 --json "$out/network_${dtype}_$batch.json"
      step bench "layers, $dtype, batch $batch" "$build/reid" bench layers --device cuda --dtype "$dtype" --batch "$batch" --steps 10 --json "$out/layers_${dtype}_$batch.json"
      has CUDNN || continue
      REID_VENDOR_ALLOW=rounded-gradients step bench "layers by cuDNN, $dtype, batch $batch" "$build/reid" bench layers --impl cudnn --device cuda --dtype "$dtype" \
        --batch "$batch" --steps 10 --json "$out/layers_cudnn_${dtype}_$batch.json"
    done
  done
  for dtype in bf16 f32; do
    step bench "products, $dtype" "$build/reid" bench gemm --device cuda --dtype "$dtype" --steps 20 --json "$out/gemm_$dtype.json"
    has CUBLAS || continue
    step bench "products by cuBLASLt, $dtype" "$build/reid" bench gemm --impl cublaslt --device cuda --dtype "$dtype" --steps 20 --json "$out/gemm_cublaslt_$dtype.json"
  done
  has CUDNN || skip bench 'layers by cuDNN' 'it was not found when the program was built, or left out'
  has CUBLAS || skip bench 'products by cuBLASLt' 'it was not found when the program was built, or left out'
  skip bench 'floors: measured bandwidth and rates' 'reid bench machine measures the CPU only so far'
}

phase_compare() {
  local python=${PYTHON:-python3} script=../shared/bench/torch_baseline.py
  "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null || { skip compare PyTorch 'no PyTorch with CUDA here'; return 0; }
  [ -f tools/torch_gpu.py ] && script=tools/torch_gpu.py
  [ -f "$script" ] || { skip compare PyTorch 'its script is not there'; return 0; }
  step compare 'PyTorch: eager, graph, compiled' "$python" "$script" --out "$out/torch.json"
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
