#!/bin/sh
# Runs a test binary in several processes, a stretch of the cases each: most tests keep one thread busy.
#   tools/run_tests.sh BINARY [FILTERS...]
# Prints what all print, then the count of all together; fails when one fails.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
count=$("$@" --count | sed -n 's/.*filters: //p')
stretch=$(((${count:-0} + 119) / 120))
[ "$stretch" -gt 0 ] || exec "$@"
# Each has a thread for every core: more processes would wait for one another's.
processes=$(nproc)
[ "$processes" -le 8 ] || processes=8

status=0
seq 1 "$stretch" "$count" |
  xargs -P "$processes" -I{} sh -c 'out=$1 first=$2 last=$(($2 + $3 - 1)); shift 3; "$@" --first="$first" --last="$last" >"$out/$first" 2>&1' \
    - "$work" {} "$stretch" "$@" || status=1
cat "$work"/* | grep -Ev '^[0-9]+ passed, [0-9]+ failed$|^\[doctest\]|^=+$' || true
lost=$(grep -LE '^[0-9]+ passed, [0-9]+ failed$' "$work"/* | wc -l)
[ "$lost" = 0 ] || echo "processes that ended before they had counted: $lost, each a failure of the count below"
cat "$work"/* | awk -v lost="$lost" '/^[0-9]+ passed, [0-9]+ failed$/ { p += $1; f += $3 } END { printf "%d passed, %d failed\n", p, f + lost }'
exit $status
