#!/bin/bash
# Everything that needs a GPU, on a machine that has one: builds, tests, measures, compares, sanitizes. No network, no root; works from
# `make bundle`'s archive, whose third_party/ holds the header-only libraries. Leaves JSON files and a table in --out.
#
#   tools/gpu_check.sh [--phase build|test|bench|search|train|compare|compile|sanitize]... [--out FOLDER] [--archive FILE] [--seconds N]
#                      [--baseline SCRIPT]
#
# Without --phase all of them run, in this order; each ends by itself within N seconds (default 480): what does not fit is reported as skipped,
# a step that takes longer than its own limit as cut. A tool that is missing or refuses the device is reported as skipped, never passed over.
# Results, the table and FILE, an archive of all but the build and the drawn images, are written after every phase. Where kernels for Hopper
# fault, the rest goes on without them. SCRIPT measures PyTorch on the same card (default: ../shared/bench/torch_baseline.py). Exit status 1
# when anything failed.
set -uo pipefail
cd "$(dirname "$0")/.." || exit

phases=() out=gpu_check archive='' seconds=480 baseline=../shared/bench/torch_baseline.py
while [ $# -gt 0 ]; do
  case $1 in
    --phase) phases+=("$2"); shift 2 ;;
    --out) out=$2; shift 2 ;;
    --archive) archive=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    --baseline) baseline=$2; shift 2 ;;
    *) sed -n '2,/^set/p' "$0" | sed '$d; s/^# \{0,1\}//'; exit 2 ;;
  esac
done
[ ${#phases[@]} -gt 0 ] || phases=(build test bench search train compare compile sanitize)
mkdir -p "$out"
out=$(cd "$out" && pwd)
build=$out/build
results=$out/results.tsv   # phase, step, verdict, seconds, remark
touch "$results"
python=${PYTHON:-python3}
asked_without=${REID_WITHOUT:-}
only_hopper='only devices of compute capability 9.0 run it'
no_overlap='only from compute capability 9.0 on do launches overlap'
tries=8   # acceptable offers of cuDNN and cuBLASLt, of which the fastest is compared with; tools/gpu_tables.py says so
graph_tries=2   # the same of whole steps and of tests: cuDNN compiles what it fuses, about a second an offer
large='cuda:sm90_wgmma_bands cuda:sm90_wgmma_256 cuda:sm90_pairs cuda:sm90_pairs_256 cuda:sm90_clusters_256'  # what small problems do not come to
hopper="cuda:sm90_wgmma cuda:sm90_clusters $large"   # what is for Hopper alone
# without NAME...: what is left out: what the caller leaves out, what faulted, and these.
without() { printf '%s\n' "$asked_without" "$(cat "$out/without" 2>/dev/null)" "$@" | sed '/^$/d' | paste -sd, -; }

# A step that is said twice in a phase counts as it was said last.
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
  remark=$(tail -n 1 "$log" | tr '\t' ' ' | tr -cd '[:print:]' | cut -c 1-100)
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

# Whether kernels for Hopper run there; where nothing says what it is, trying tells.
is_hopper() { case $(architecture) in 90a | '80;90a') ;; *) return 1 ;; esac; }
# Whether the card can let a kernel begin while the one before ends: 9.0 and above; again trying tells.
overlaps() { local built; built=$(architecture); [ "$built" = '80;90a' ] || [ "${built%a}" -ge 90 ]; }

# cuDNN of the Python package nvidia-cudnn, where no other is named.
python_cudnn() { timeout 20 "$python" -c 'import importlib.util as u; print(list(u.find_spec("nvidia.cudnn").submodule_search_locations)[0])' 2>/dev/null; }

phase_build() {
  rm -f "$out/without"
  command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ] || { verdict build configure FAILED 0 'nvcc was not found'; return 1; }
  local generator=()
  if command -v ninja >/dev/null && [ ! -f "$build/CMakeCache.txt" ]; then generator=(-G Ninja); fi
  CUDNN_HOME=${CUDNN_HOME:-$(python_cudnn)} step build configure cmake -S . -B "$build" "${generator[@]}" -DCMAKE_BUILD_TYPE=Release \
    -DREID_WITH_CUDA=ON -DREID_CUDA_ARCH="$(architecture)" || return
  step build program cmake --build "$build" -j "$(nproc)" --target reid || return
  step build tests cmake --build "$build" -j "$(nproc)" --target reid_tests
  step build 'registers and spills' cmake --build "$build" --target reid_kernels_cuda
}

# Every op's problem lines in a process of its own, several at a time: a fault or a hang in one takes no other with it.
test_ops() {
  local begin=$SECONDS left=$((deadline - SECONDS)) op status failed='' cut=''
  if [ "$left" -le 0 ]; then skip test 'every op and problem line' 'no time left in this phase'; return; fi
  rm -rf "$out/ops" && mkdir "$out/ops"
  { sed -n 's/.*const char\* name = "\([a-z0-9_]*\)";.*/\1/p' include/reid/engine/op_args*.h; printf '%s\n' conv_statistics conv_finish; } | sort -u >"$out/ops/names"
  # shellcheck disable=SC2016
  REID_DEVICE=cuda timeout "$left" xargs -P 6 -n 1 sh -c \
    'REID_ONLY="$2 " timeout --foreground -k 5 90 "$0" -tc="problems*" >"$1/$2.log" 2>&1; echo $? >"$1/$2.status"' \
    "$build/reid_tests" "$out/ops" <"$out/ops/names"
  while read -r op; do
    status=$(cat "$out/ops/$op.status" 2>/dev/null || echo 124)
    case $status in
      0) ;;
      124 | 137) cut="$cut$op " ;;
      *) failed="$failed$op " ;;
    esac
  done <"$out/ops/names"
  if [ -n "$failed" ]; then
    verdict test 'every op and problem line' FAILED $((SECONDS - begin)) "$failed"
  elif [ -n "$cut" ]; then
    verdict test 'every op and problem line' 'cut' $((SECONDS - begin)) "$cut"
  else
    verdict test 'every op and problem line' passed $((SECONDS - begin)) "$(wc -l <"$out/ops/names") ops"
  fi
}

has() { grep -q "^REID_$1_USED:INTERNAL=ON" "$build/CMakeCache.txt"; }  # whether the build has CUDNN, CUBLAS beside our kernels
vendors() {  # their implementations, where it does
  if has CUDNN; then echo cudnn; fi
  if has CUBLAS; then echo cublaslt; fi
}

# Each in a process of its own: what the copy engine and wgmma may do to one ends with it.
test_hopper() {
  local log name why
  for name in $hopper; do
    if ! is_hopper; then skip test "$name" "$only_hopper"; continue; fi
    log=$out/test-${name//[^a-z0-9]/_}.log
    REID_DEVICE=cuda REID_ONLY=" $name " most=60 step test "$name" "$build/reid_tests" -tc='problems*'
    case $? in
      0) continue ;;
      124 | 137) why='it hangs, or was cut for being slow' ;;
      *) if grep -qE '^[0-9]+ passed, [0-9]+ failed$' "$log"; then why='its results are wrong'; else why='it faults'; fi ;;
    esac
    echo "$name" >>"$out/without"
    skip test "without $name" "$why: what follows is without it"
  done
}

phase_test() {
  rm -f "$out/without"  # what faulted before is tried again
  REID_WITHOUT=$(without)
  REID_DEVICE=cuda most=60 step test 'tensors go there and come back' "$build/reid_tests" -tc='device: tensors go there*' || return
  test_hopper
  # shellcheck disable=SC2046
  REID_WITHOUT=$(without $(vendors)) test_ops
  REID_WITHOUT=$(without)
  for name in $(vendors); do
    REID_VENDOR_ALLOW=loose-statistics REID_DEVICE=cuda REID_ONLY=" $name " most=90 step test "$name" "$build/reid_tests" -tc='problems*'
    REID_VENDOR_ALLOW=loose-statistics REID_VENDOR_TRY=$graph_tries REID_DEVICE=cuda REID_ONLY=" $name " most=120 step test "$name, the fastest of $graph_tries" "$build/reid_tests" -tc='problems*'
  done
  REID_DEVICE=cuda most=120 step test 'tensors, networks, graphs, transfers, clocks' "$build/reid_tests" -tc='device:*,device bench:*,device feed:*,replay:*,transfer:*'
  REID_DEVICE=cuda most=90 step test 'searches among rows, Jaccard pairs: the bits of the CPU' "$build/reid_tests" -tc='accelerator*,jaccard device:*'
  if overlaps; then
    REID_OVERLAP=1 REID_DEVICE=cuda most=120 step test 'launches that overlap' "$build/reid_tests" -tc='device:*,device feed:*,replay:*,accelerator*,jaccard device:*'
  else
    skip test 'launches that overlap' "$no_overlap"
  fi
  REID_DEVICE=cuda most=120 step test 'runs: agree with the CPU, repeat, resume' "$build/reid_tests" -tc='device runs:*'
}

# Hazards of barriers of the copy engine and of wgmma are told falsely by sanitizers before 2026: of those kernels racecheck says nothing here.
phase_sanitize() {
  local tool those log name refusal='not supported|unable to attach|Insufficient|Target application terminated before first instrumented'
  command -v compute-sanitizer >/dev/null || PATH=$PATH:/usr/local/cuda/bin
  command -v compute-sanitizer >/dev/null || { skip sanitize compute-sanitizer 'it was not found'; return 0; }
  for tool in memcheck synccheck initcheck racecheck; do
    those=
    [ "$tool" != racecheck ] || those=$hopper
    # shellcheck disable=SC2046,SC2086
    REID_DEVICE=cuda REID_WITHOUT=$(without $(vendors) $those) most=$((seconds / 6)) step sanitize "$tool" compute-sanitizer --tool "$tool" --error-exitcode 9 \
        "$build/reid_tests" -tc='problems: edges*'
    # Without a count of the tests nothing ran.
    log=$out/sanitize-$tool.log
    if ! grep -qsE '^[0-9]+ passed, [0-9]+ failed$' "$log" && grep -qsiE "$refusal" "$log"; then
      skip sanitize "$tool" "it refuses this device: $(grep -m 1 -iE "$refusal" "$log" | cut -c 1-80)"
      continue
    fi
    [ "$tool" = memcheck ] || continue  # the others would take more than this phase has
    for name in $large; do
      if ! is_hopper; then skip sanitize "$tool, $name" "$only_hopper"; continue; fi
      if grep -qsx "$name" "$out/without"; then skip sanitize "$tool, $name" 'it failed its tests'; continue; fi
      REID_DEVICE=cuda REID_ONLY=" $name " most=$((seconds / 16)) step sanitize "$tool, $name" compute-sanitizer --tool "$tool" --error-exitcode 9 \
        "$build/reid_tests" -tc='problems: work*'
    done
  done
}


# What matters most comes first, for what comes last may find no time left: seconds at most, name of the step and of its JSON, what must have
# been found when the program was built (or OVERLAP: be possible there), arguments of reid bench. The limits of our own kernels in bf16 add up to 480. No step was timed on a
# GPU yet; a limit is about five times what the work should take there, of whole steps by the vendors twice (cuDNN compiles for a minute).
bench_steps() {
  cat <<'STEPS'
40 network_bf16_64 - network --dtype bf16 --batch 64 --steps 30
40 network_bf16_128 - network --dtype bf16 --batch 128 --steps 30
45 network_bf16_256 - network --dtype bf16 --batch 256 --steps 20
30 network_overlap_bf16_64 OVERLAP network --dtype bf16 --batch 64 --steps 30
40 layers_bf16_64 - layers --dtype bf16 --batch 64 --steps 20
20 machine - machine
40 ops_bf16_64 - ops --dtype bf16 --batch 64 --steps 20
90 layers_cudnn_bf16_64 CUDNN layers --impl cudnn --dtype bf16 --batch 64 --steps 20
40 kernels_bf16_64 - kernels --dtype bf16 --batch 64 --steps 10 --patience 1
25 gemm_bf16 - gemm --dtype bf16 --steps 20 --size 4096x4096x4096 8192x8192x8192 8192x12936x2048
25 gemm_cublaslt_bf16 CUBLAS gemm --impl cublaslt --dtype bf16 --steps 20 --size 4096x4096x4096 8192x8192x8192 8192x12936x2048
150 network_vendors_bf16_128 CUDNN network --dtype bf16 --batch 128 --steps 20
40 network_bf16_128_stride2 - network --dtype bf16 --batch 128 --last-stride 2 --steps 20
40 layers_bf16_128 - layers --dtype bf16 --batch 128 --steps 10
40 layers_bf16_256 - layers --dtype bf16 --batch 256 --steps 10
90 layers_cudnn_bf16_128 CUDNN layers --impl cudnn --dtype bf16 --batch 128 --steps 10
90 layers_cudnn_bf16_256 CUDNN layers --impl cudnn --dtype bf16 --batch 256 --steps 10
40 ops_bf16_128 - ops --dtype bf16 --batch 128 --steps 10
60 network_f32_64 - network --dtype f32 --batch 64 --steps 5
60 kernels_f32_64 - kernels --dtype f32 --batch 64 --steps 5 --patience 1
60 layers_f32_64 - layers --dtype f32 --batch 64 --steps 5
90 layers_cudnn_f32_64 CUDNN layers --impl cudnn --dtype f32 --batch 64 --steps 5
30 gemm_f32 - gemm --dtype f32 --steps 5
30 gemm_cublaslt_f32 CUBLAS gemm --impl cublaslt --dtype f32 --steps 5
STEPS
}

phase_bench() {
  local limit name needs arguments preferred overlap offers
  nvidia-smi --query-gpu=name,driver_version,clocks.sm,clocks.mem,power.limit --format=csv >"$out/card.csv" 2>/dev/null
  while read -r limit name needs arguments; do
    if [ "$needs" = OVERLAP ]; then
      overlaps || { skip bench "$name" "$no_overlap"; continue; }
    elif [ "$needs" != - ] && ! has "$needs"; then skip bench "$name" "$needs was not found when the program was built, or left out"; continue; fi
    rm -f "$out/$name.json"
    preferred='' offers=$tries
    [[ $name != *vendors* ]] || { preferred=$(vendors | paste -sd,); offers=$graph_tries; }  # whole steps with their convolutions and products
    overlap=${REID_OVERLAP:-0}
    [[ $name != *overlap* ]] || overlap=1
    # cuDNN's gradients of bf16 filters are rounded to bf16, which ours are not, and the statistics that it takes behind a convolution are
    # of sums of squares. Where vendors compute, also beside ours in "kernels", it is by the fastest of several offers. The words of the arguments are separate ones.
    # shellcheck disable=SC2086
    REID_IMPL=${preferred:-${REID_IMPL:-}} REID_VENDOR_ALLOW=rounded-gradients,loose-statistics REID_VENDOR_TRY=$offers REID_OVERLAP=$overlap most=$limit step bench "$name" "$build/reid" bench $arguments --device cuda --json "$out/$name.json" </dev/null
  done < <(bench_steps)
}

searches() {  # searches SCALE STEPS
  rm -f "$out/search_$1.json"
  most=150 step search "search_$1" "$build/reid" bench search --scale "$1" --steps "$2" --device cuda --json "$out/search_$1.json"
}

# Clustering, evaluation and neighbors at the sizes of data sets, host and device together; at Market-1501's on the CPU alone, too.
phase_search() {
  searches market1501 5
  rm -f "$out/search_market1501_cpu.json"
  most=90 step search search_market1501_cpu "$build/reid" bench search --scale market1501 --steps 3 --json "$out/search_market1501_cpu.json"
  searches msmt17 5
  searches large 5
  searches million 1
}

# Cluster Contrast at Market-1501's size, from image files, for its time, not its accuracy; of its two epochs the first warms up. From random
# weights it finds almost no clusters, so 400 supervised steps come before it. What results do not depend on is chosen for a GPU.
phase_train() {
  local world=$out/world start=$out/start run=$out/train
  rm -rf "$out"/.world.*.part "$start" "$run"  # of steps that were cut, of an earlier run
  [ -d "$world" ] || most=150 step train 'world' "$build/reid" synth --preset market1501 --out "$world"
  local settings=(model.ibn=a model.precision=bf16 "data.multi=market1501:$world/source" run.iterations=400 run.workers=8
    run.checkpoint_every=1000000 data.embed_batch=256 --device cuda)
  [ ! -d "$world" ] || most=90 step train 'supervised start' "$build/reid" train configs/strong-baseline.toml run.epochs=1 \
    schedule.warmup_epochs=0 model.pooling=gem 'data.evaluate=[]' "${settings[@]}" --out "$start"
  if [ -f "$start/encoder.safetensors" ]; then
    most=240 step train 'Cluster Contrast' "$build/reid" train configs/cluster-contrast.toml run.epochs=2 \
      "model.weights=$start/encoder.safetensors" "data.evaluate=market=market1501:$world/source" "${settings[@]}" --out "$run"
  else
    skip train 'Cluster Contrast' 'no world, or no weights to begin with'
  fi
  rm -f "$start"/*.safetensors "$run"/*.safetensors
}

pytorch() {  # pytorch PHASE NAME FILE SCRIPT ARGUMENTS...: it writes what it has after every measurement, so that a cut one leaves the first of them
  if ! timeout 120 "$python" -c 'import torch; assert torch.cuda.is_available()' 2>/dev/null; then
    skip "$1" "$2" 'no PyTorch with CUDA here'
  elif [ ! -f "$4" ]; then
    skip "$1" "$2" "$4 is not there: name it with --baseline"
  else
    rm -f "$out/$3.json"
    TORCHINDUCTOR_CACHE_DIR=$out/inductor step "$1" "$2" "$python" "${@:4}" --out "$out/$3.json"
  fi
}
phase_compare() {
  if [ -f "$out/ops_bf16_64.json" ]; then
    most=90 pytorch compare 'PyTorch: norms' torch_norms tools/torch_norms.py "$out/ops_bf16_64.json" --seconds 60
  else
    skip compare 'PyTorch: norms' 'phase bench has not timed ours'
  fi
  pytorch compare 'PyTorch: eager, graph' torch "$baseline" --what ceilings,train,infer,layers
}
phase_compile() { pytorch compile 'PyTorch: compiled' torch_compiled "$baseline" --what infer,compile; }

needs() {  # needs PHASE: the program that it runs
  case $1 in
    bench | search | train) echo reid ;;
    test | sanitize) echo reid_tests ;;
  esac
}

# What there is so far, for whoever has to leave.
record() {  # record PHASE
  if command -v python3 >/dev/null; then
    deadline=$((SECONDS + 60)) step "$1" table python3 tools/gpu_tables.py "$out"
  else
    skip "$1" table 'no python3 here'
  fi
  awk -F'\t' 'BEGIN { print "[" } { gsub(/["\\]/, "", $5); printf "%s  {\"phase\": \"%s\", \"step\": \"%s\", \"verdict\": \"%s\", \"seconds\": %s, \"remark\": \"%s\"}", (NR > 1 ? ",\n" : ""), $1, $2, $3, $4, $5 } END { print "\n]" }' \
    "$results" >"$out/results.json"
  [ -z "$archive" ] || tar -czf "$archive" --exclude=./build --exclude=./inductor --exclude=./world --exclude='./.world.*' -C "$out" . ||
    verdict "$1" archive FAILED 0 "tar could not write $archive"
}

for phase in "${phases[@]}"; do
  declare -F "phase_$phase" >/dev/null || { echo "gpu_check: no phase is called $phase" >&2; exit 2; }
  deadline=$((SECONDS + seconds))
  program=$(needs "$phase")
  awk -F'\t' -v p="$phase" '$1 != p' "$results" >"$results.part" && mv "$results.part" "$results"  # what it says is said anew
  REID_WITHOUT=$(without)
  export REID_WITHOUT
  if [ -n "$program" ] && [ ! -x "$build/$program" ]; then
    verdict "$phase" all FAILED 0 "no $program is built: run --phase build first"
  else
    "phase_$phase"
  fi
  record "$phase"
done

echo
column -t -s $'\t' "$results" 2>/dev/null || cat "$results"
[ ! -f "$out/table.md" ] || cat "$out/table.md"
! cut -f 3 "$results" | grep -qE 'FAILED|cut'
