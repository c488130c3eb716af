#!/bin/bash
# tools/check_install.sh [BUILD]: installs BUILD (default: build) into a temporary folder, builds docs/examples/embed against it with
# CMake's find_package and with pkg-config, and compares what the examples print with `reid embed`. Ends with "N passed, N failed".
# Needs cmake, a C and a C++ compiler, python3; says so and goes on where pkg-config is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
work=$(mktemp -d)
passed=0 failed=0
trap 'rm -rf "$work"' EXIT

check() {  # check NAME COMMAND...
  local name=$1
  shift
  if "$@" >"$work/log" 2>&1; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    echo "install: $name failed"
    tail -n 20 "$work/log"
  fi
}
strict='-Wall -Wextra -Wconversion -pedantic -Werror'
prefix="$work/moved"

DESTDIR="$work/stage" cmake --install "$build" --prefix /opt/reid >/dev/null
mv "$work/stage/opt/reid" "$prefix"  # the installed tree knows no absolute path
library=$(echo "$prefix"/lib*/libreid.so "$prefix"/lib*/*/libreid.so | tr ' ' '\n' | grep -v '\*' | head -n 1)
libraries=$(dirname "$library")
exported() { nm -D --defined-only "$library" | awk '{ sub(/@.*/, "", $3); if ($3 !~ /^(reid_version|reid_embedder_[a-z_]*|REID_0)$/) { print $3; bad = 1 } } END { exit bad }'; }
check 'only the C interface is exported' exported
check 'the installed program' "$prefix/bin/reid" --version
for standard in c11 c17; do
  check "the header as $standard" sh -c "echo '#include <reid/embedder.h>' | ${CC:-cc} -std=$standard $strict -I$prefix/include -x c -fsyntax-only -"
done
for standard in c++17 c++20; do
  check "the header as $standard" sh -c "echo '#include <reid/embedder.h>' | ${CXX:-c++} -std=$standard $strict -I$prefix/include -x c++ -fsyntax-only -"
done

cp -r "$prefix/share/doc/reid/examples/embed" "$work/example"
check 'find_package' cmake -S "$work/example" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_C_FLAGS="$strict" -DCMAKE_CXX_FLAGS="$strict"
check 'building with CMake' cmake --build "$work/cmake"
examples=("$work/cmake/embed")
if command -v pkg-config >/dev/null; then
  with_pkg_config() {
    local flags
    flags=$(PKG_CONFIG_PATH="$libraries/pkgconfig" pkg-config --cflags --libs "reid >= 0.1")
    ${CC:-cc} -std=c11 $strict "$work/example/main.c" $flags -lm -Wl,-rpath,"$libraries" -o "$work/embed"
  }
  check 'building with pkg-config' with_pkg_config
  examples+=("$work/embed")
else
  echo 'install: SKIPPED: pkg-config is not installed, reid.pc is not tested (apt-get install pkg-config)'
fi

# An encoder from one step of training, and two pictures as PNG (for the program) and PPM or raw (for the examples).
"$prefix/bin/reid" synth --preset tiny --out "$work/world" --quiet
"$prefix/bin/reid" train configs/tiny.toml run.epochs=1 run.iterations=1 model.width=4 run.evaluate_every=0 \
  data.multi="['market1501:$work/world/source']" data.single="['videos:$work/world/videos']" --out "$work/run" --quiet
python3 - "$work" <<'EOF'
import struct, sys, zlib
raw = b""
for name, seed in (("one", 7), ("two", 11)):
    height, width = 61, 33
    rows = [bytes((x * seed + y * y + 85 * c * x * y) % 251 for x in range(width) for c in range(3)) for y in range(height)]
    chunk = lambda kind, data: struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    png += chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))) + chunk(b"IEND", b"")
    open(f"{sys.argv[1]}/{name}.png", "wb").write(png)
    open(f"{sys.argv[1]}/{name}.ppm", "wb").write(b"P6\n%d %d\n255\n" % (width, height) + b"".join(rows))
    raw += b"".join(rows)
open(f"{sys.argv[1]}/both.rgb", "wb").write(raw)
EOF
encoder="$work/run/encoder.safetensors"
"$prefix/bin/reid" embed --weights "$encoder" --flip --out "$work/e.csv" --quiet "$work/one.png" "$work/two.png"
same_numbers() {  # the first three numbers of each image, as floats, bit for bit
  "$1" "$encoder" "$work/one.ppm" "$work/two.ppm" >"$work/printed"
  python3 - "$work/e.csv" "$work/printed" <<'EOF'
import struct, sys
bits = lambda texts: [struct.pack("<f", float(text)) for text in texts]
wanted = [bits(line.split(",")[1:4]) for line in open(sys.argv[1]).read().splitlines()[1:]]
printed = [bits(line.split(": ")[1].split()[:3]) for line in open(sys.argv[2]).read().splitlines()[1:]]
sys.exit(0 if wanted == printed and len(wanted) == 2 else f"{wanted} is not {printed}")
EOF
}
for example in "${examples[@]}"; do check "$example prints what reid embed writes" same_numbers "$example"; done
refuses() { ! "$1" "$work/one.ppm" "$work/one.ppm"; }
check 'the example refuses a file that is no encoder' refuses "${examples[0]}"
in_cpp() { "$work/cmake/embed_cpp" "$encoder" 61 33 <"$work/both.rgb" | python3 -c 'import sys; sys.exit(not -1 <= float(sys.stdin.read()) <= 1)'; }
check 'the example in C++' in_cpp

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
