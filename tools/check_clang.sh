#!/bin/sh
# Whether clang, which libFuzzer comes with, understands the sources as g++ does: syntax alone, in a fraction of a build.
# Where there is no clang it says so, and is content. Usage: tools/check_clang.sh [FILE ...]   (default: src, kernels, tests)
set -eu
cd "$(dirname "$0")/.."
clang=${CLANG:-$(command -v clang++ || command -v clang++-14 || true)}
[ -n "$clang" ] || { echo 'check_clang: no clang++ is there: nothing was checked'; exit 0; }
[ $# -gt 0 ] || set -- $(find src kernels tests -name '*.cpp' -o -name '*.cu')
# What includes CUDA's own headers is nvcc's and g++'s.
printf '%s\n' "$@" | grep -v -e '^src/backends/cuda/' | xargs -P "$(nproc)" -n 8 sh -c '
  clang=$1; shift; status=0
  for file in "$@"; do
    "$clang" -std=c++20 -fsyntax-only -w -DREID_VERSION=\"0\" -DREID_EMULATED_KERNELS -DREID_SOURCE_DIR=\".\" -DREID_PROGRAM=\"reid\" \
      -DREID_CUDNN_FILES=\"\" -DREID_PLAYED_CUDNN=\"\" -DREID_PLAYED_CUBLASLT=\"\" \
      -Iinclude -Isrc -Ikernels -Itests -isystem third_party -x c++ "$file" || status=1
  done
  exit $status' check_clang "$clang" || { echo 'check_clang: clang does not compile what g++ does' >&2; exit 1; }
echo 'check_clang: clang understands all of it'
