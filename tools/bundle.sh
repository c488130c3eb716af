#!/bin/bash
# tools/bundle.sh: writes dist/reid-VERSION.tar.gz, the sources plus the header-only libraries in third_party/.
# The archive builds offline with only a compiler and CMake (libjpeg is used where it is found).
set -euo pipefail
cd "$(dirname "$0")/.."
name="reid-$(sed -n 's/^project(reid VERSION \([0-9.]*\).*/\1/p' CMakeLists.txt)"
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/$name/third_party" dist

if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
  git ls-files -z | while IFS= read -r -d '' file; do [ ! -f "$file" ] || printf '%s\0' "$file"; done >"$stage/list"
else  # a bundle can bundle itself
  find . -type f -not -path './build*' -not -path './dist/*' -not -path './demo/*' -not -path './runs/*' -print0 >"$stage/list"
fi
tar -c --null -T "$stage/list" | tar -x -C "$stage/$name"

# Headers and their licenses; a package's copyright file is named after the package.
take() {  # take PACKAGE PATH...: each PATH relative to an include root
  local package=$1 root path
  shift
  for path in "$@"; do
    for root in third_party /usr/local/include /usr/include; do
      [ -e "$root/$path" ] || continue
      mkdir -p "$stage/$name/third_party/$(dirname "$path")"
      cp -rL "$root/$path" "$stage/$name/third_party/$(dirname "$path")/"
      continue 2
    done
    echo "bundle: $path is missing; install $package (make deps)" >&2
    exit 1
  done
  mkdir -p "$stage/$name/third_party/licenses"
  for path in "/usr/share/doc/$package/copyright" "third_party/licenses/$package"; do
    [ ! -f "$path" ] || cp "$path" "$stage/$name/third_party/licenses/$package"
  done
}
take doctest-dev doctest/doctest.h
take libstb-dev stb/stb_image.h stb/stb_image_write.h
take libcli11-dev CLI
take libtomlplusplus-dev toml++
take nlohmann-json3-dev nlohmann

# Same sources, same bytes: sorted names, no owner, one time stamp.
stamp=$(git log -1 --format=%ct 2>/dev/null || echo 0)
tar -C "$stage" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$stamp" -c "$name" | gzip -9n >"dist/$name.tar.gz.part"
mv "dist/$name.tar.gz.part" "dist/$name.tar.gz"
echo "dist/$name.tar.gz"
