#!/bin/sh
# Random input for every reader of foreign bytes, each starting from files that are right. SECONDS_EACH (600) is the time for each;
# what is found lies in build-fuzz/found. Needs clang with libFuzzer. Usage: tools/fuzz.sh [READER ...]
set -eu
cd "$(dirname "$0")/.."
seconds=${SECONDS_EACH:-600}
build=build-fuzz
mkdir -p $build/found

seeds_of() {
  case $1 in
    torch_zip) ls data/golden/weights/[!o]*.pth | grep -v _stream ;;
    torch_stream) ls data/golden/weights/*_stream.pth ;;
    torch_tar) ls data/golden/weights/*.tar ;;
    numpy) ls data/golden/weights/*.np[yz] ;;
    safetensors) ls data/golden/rows.safetensors data/golden/optimizers.safetensors ;;
    image) ls $build/images/* ;;
    text) ls data/golden/manifest.json configs/*.toml ;;
    *) echo "fuzz: there is no reader '$1' (torch_zip torch_stream torch_tar numpy safetensors image text)" >&2; exit 2 ;;
  esac
}
target_of() {
  case $1 in image | text) echo "$1" ;; *) echo tensor_file ;; esac
}

for reader in ${@:-torch_zip torch_stream torch_tar numpy safetensors image text}; do
  if [ "$reader" = image ] && [ ! -d $build/images ]; then
    [ -x build/reid ] || { echo 'fuzz: the image seeds are drawn by build/reid; run make build first' >&2; exit 1; }
    build/reid synth --preset tiny --out $build/world --quiet
    mkdir -p $build/images
    find $build/world -name '*.jpg' | sort | head -4 | xargs -I{} cp {} $build/images
    cp $build/world/*.png $build/images 2>/dev/null || true
  fi
  corpus=$build/corpus/$reader
  mkdir -p "$corpus"
  for seed in $(seeds_of "$reader"); do cp "$seed" "$corpus"; done
  echo "== $reader, $seconds s"
  # Libraries print complaints about damaged files; only what the fuzzer itself says is of interest.
  $build/fuzz_"$(target_of "$reader")" "$corpus" -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=3000 -timeout=20 \
    -artifact_prefix=$build/found/"$reader"- -print_final_stats=1 2>&1 | grep -E '^stat::number_of_executed_units|ERROR|SUMMARY|Test unit' ||
    { echo "fuzz: $reader failed; see $build/found" >&2; exit 1; }
  if ls $build/found/"$reader"-* >/dev/null 2>&1; then
    echo "fuzz: $reader found something: $(ls $build/found/"$reader"-*)" >&2
    exit 1
  fi
done
echo 'fuzz: nothing found'
