#!/bin/sh
# Runs a test binary in several processes, a stretch of the cases each: most tests keep one thread busy.
#   tools/run_tests.sh BINARY [FILTERS...]
# Prints what all print, then the count of all together; fails when one fails. A process that ends without a count is a failure.
set -eu
[ -x "$1" ] || { echo "run_tests: there is no $1: the build left the tests out, and configuring it says why (cmake --preset release)" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
for option in "$@"; do
  case $option in -l* | --list* | -h* | --help | -v | --version | -c | --count) "$@"; exit ;; esac
done
count=$("$@" --count | sed -n 's/.*filters: //p')
stretch=$(((${count:-0} + 119) / 120))
[ "$stretch" -gt 0 ] || { "$@"; exit; }
# Each has a thread for every core beside the one that it keeps busy: of more processes the threads would be too many.
processes=$(nproc)
[ "$processes" -le 8 ] || processes=8

status=0
# shellcheck disable=SC2016
seq 1 "$stretch" "$count" |
  xargs -P "$processes" -I@first@ sh -c 'out=$1 first=$2 last=$(($2 + $3 - 1)); shift 3
    "$@" --first="$first" --last="$last" >"$out/$first" 2>&1 || exit 1' - "$work" @first@ "$stretch" "$@" || status=1
counted='^[0-9]+ passed, [0-9]+ failed$'
grep -hEv "$counted|^\[doctest\]|^=+\$" "$work"/* || true
lost=$(((count + stretch - 1) / stretch - $(grep -lE "$counted" "$work"/* | wc -l)))
[ "$lost" = 0 ] || { status=1; echo "processes that ended before they had counted: $lost, each a failure of the count below"; }
awk -v lost="$lost" '/^[0-9]+ passed, [0-9]+ failed$/ { p += $1; f += $3 } END { printf "%d passed, %d failed\n", p, f + lost }' "$work"/*
exit $status
