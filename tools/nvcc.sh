#!/bin/sh
# Runs a compiler and keeps what it says of the kernels: tools/nvcc.sh REPORT COMMAND... Shows it only when the compiler fails.
set -eu
report=$1
shift
if "$@" >"$report.part" 2>&1; then
  mv "$report.part" "$report"
else
  cat "$report.part" >&2
  rm -f "$report.part"
  exit 1
fi
