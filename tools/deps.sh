#!/bin/sh
# Makes sure that what the build needs is there: a C++20 compiler, CMake, a few header-only libraries; and what it can do without:
# libjpeg-turbo, libmatio, liblmdb.
# Looks by trying, touches network and root only when something is missing, and prints the exact package command when it
# may not install. Usage: tools/deps.sh [--check-tools]   (--check-tools: also clang-format, python3, pkg-config and, on x86, valgrind, for
# `make check`, `make guard` and tools/check_install.sh)
set -eu
cd "$(dirname "$0")/.."
cxx=${CXX:-c++}

has_header() {
  if [ "$have_compiler" = 1 ]; then
    printf '#if !__has_include(<%s>)\n#error missing\n#endif\n' "$1" | "$cxx" -std=c++20 -isystem third_party -x c++ -E - >/dev/null 2>&1
  else  # then headers are looked for where packages put them
    [ -e "third_party/$1" ] || [ -e "/usr/include/$1" ]
  fi
}
cmake_is_new() {
  cmake --version 2>/dev/null | awk 'NR == 1 { split($3, v, "."); exit !(v[1] > 3 || (v[1] == 3 && v[2] >= 22)) } END { if (NR == 0) exit 1 }'
}
look() {
  need=''      # packages that the build cannot do without
  optional=''  # packages that it can
  lost=''      # by doing without them
  have_compiler=1
  echo 'int main() {}' | "$cxx" -std=c++20 -x c++ -fsyntax-only - >/dev/null 2>&1 || { have_compiler=0; need='g++'; }
  cmake_is_new || need="$need cmake"
  has_header doctest/doctest.h || need="$need doctest-dev"
  has_header stb/stb_image.h && has_header stb/stb_image_write.h || need="$need libstb-dev"
  has_header CLI/CLI.hpp || need="$need libcli11-dev"
  has_header toml++/toml.h || need="$need libtomlplusplus-dev"
  has_header nlohmann/json.hpp || need="$need nlohmann-json3-dev"
  has_header jpeglib.h || { optional='libjpeg-dev'; lost='JPEG files go through stb_image'; }
  has_header matio.h || { optional="$optional libmatio-dev"; lost="${lost:+$lost; }no data sets in MATLAB files (MARS, CUHK03 as released, GRID, iLIDS-VID)"; }
  has_header lmdb.h || { optional="$optional liblmdb-dev"; lost="${lost:+$lost; }no data sets in LMDB databases (LUPerson)"; }
  if [ "$tools" = 1 ]; then
    clang-format --version >/dev/null 2>&1 || need="$need clang-format"
    python3 --version >/dev/null 2>&1 || need="$need python3"
    pkg-config --version >/dev/null 2>&1 || need="$need pkg-config"
    [ "$(uname -m)" != x86_64 ] || valgrind --version >/dev/null 2>&1 || need="$need valgrind"
  fi
  packages=$(echo $need $optional)
}
tools=0
[ "${1:-}" != --check-tools ] || tools=1
look
[ -n "$packages" ] || exit 0
command="apt-get install --no-install-recommends -y $packages"

stop() {  # stop REASON: fatal only when something indispensable is missing
  if [ -z "$need" ]; then
    echo "deps: $1; building without ($lost). To have it: $command" >&2
    exit 0
  fi
  echo "deps: $1. Run this as root, then try again:" >&2
  echo "  $command" >&2
  exit 1
}
command -v apt-get >/dev/null 2>&1 || stop "missing: $packages, and this system has no apt-get to install it with"
if [ "$(id -u)" = 0 ]; then
  as_root=''
elif sudo -n true >/dev/null 2>&1; then
  as_root='sudo -n'
else
  stop "missing: $packages, and installing takes root"
fi
echo "deps: $command"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() { $as_root apt-get install --no-install-recommends -y "$@" >"$log" 2>&1; }
# Package lists of a fresh machine are often empty or old: refresh them once when the first try fails. Systems name optional packages
# differently: one that does not exist must not keep the others out.
if ! install $packages; then
  $as_root apt-get update >"$log" 2>&1 || true
  if ! install $packages; then
    [ -z "$need" ] || install $need || { tail -n 5 "$log" >&2; stop "installing $need failed (is there a network?)"; }
    for package in $optional; do install "$package" || true; done
  fi
fi
look
command="apt-get install --no-install-recommends -y $packages"
[ -z "$packages" ] || stop "still missing after installing: $packages"
