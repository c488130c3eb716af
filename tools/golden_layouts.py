#!/usr/bin/env python3
"""Writes data/golden/layouts.safetensors: where tensor-core instructions find their operands and leave their sums, as CUTLASS has it.

    pip install nvidia-cutlass numpy safetensors; python tools/golden_layouts.py CUTLASS     its folder include; nvcc compiles the rest

The tests hold our own layouts (kernels/mma.cuh, kernels/sm90/hopper.cuh) and their emulation against these. Places are elements of
bf16 from the start of a tile, or indices into matrices with the first axis innermost, as CuTe counts.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
from safetensors.numpy import save_file

from golden import FOLDER, MANIFEST, script_hash, sha256

PROGRAM = r"""
#include <cstdio>
#include <string>
#include <cute/atom/copy_traits_sm75.hpp>
#include <cute/atom/mma_traits_sm80.hpp>
#include <cute/atom/mma_traits_sm90_gmma.hpp>
#include <cute/tensor.hpp>
using namespace cute;
using Bf16 = cute::bfloat16_t;

template <class At>
void table(const char* name, int rows, int columns, At at) {
  for (int r = 0; r < rows; ++r) {
    std::string row = name;
    for (int c = 0; c < columns; ++c) row += " " + std::to_string(static_cast<int>(at(r, c)));
    printf("table %s\n", row.c_str());
  }
}
template <class L>
void of_threads(const char* name, int threads, int values, L layout) {
  table(name, threads, values, [&](int t, int v) { return layout(t, v); });
}
// A row for each 16 steps of depth: where they begin (elements), leading and stride offset (bytes), the swizzle's number.
template <GMMA::Major major, class Tile>
void descriptors(const char* name, Tile tile) {
  auto tensor = make_tensor(make_smem_ptr(static_cast<Bf16*>(nullptr)), tile);
  table(name, 4, 4, [&](int step, int field) {
    auto part = local_tile(tensor, make_shape(size<0>(tile), _16{}), make_coord(0, step));
    const auto bits = GMMA::make_gmma_desc<major>(part).bitfield;
    const int fields[] = {static_cast<int>(raw_pointer_cast(part.data()) - static_cast<Bf16*>(nullptr)), bits.leading_byte_offset_ * 16,
                          bits.stride_byte_offset_ * 16, bits.layout_type_};
    return bits.base_offset_ == 0 ? fields[field] : -1;
  });
}

int main() {
  using Mma = MMA_Traits<SM80_16x8x16_F32BF16BF16F32_TN>;
  of_threads("mma/a", 32, 8, Mma::ALayout{});
  of_threads("mma/b", 32, 4, Mma::BLayout{});
  of_threads("mma/d", 32, 4, Mma::CLayout{});
  // In elements of the rows that the lanes bring, one behind the other.
  const auto load = [](const char* name, int values, auto traits) {
    table(name, 32, values, [&](int t, int v) { return typename decltype(traits)::DstLayout{}(t, 16 * v) / 16; });
  };
  load("ldmatrix/x4", 8, Copy_Traits<SM75_U32x4_LDSM_N>{});
  load("ldmatrix/x4_trans", 8, Copy_Traits<SM75_U16x8_LDSM_T>{});
  load("ldmatrix/x2", 4, Copy_Traits<SM75_U32x2_LDSM_N>{});
  load("ldmatrix/x2_trans", 4, Copy_Traits<SM75_U16x4_LDSM_T>{});
  of_threads("wgmma/d64", 128, 32, GMMA::CLayout_64x64{});
  of_threads("wgmma/d128", 128, 64, GMMA::CLayout_64x128{});
  of_threads("wgmma/d256", 128, 128, GMMA::CLayout_64x256{});
  const auto along = tile_to_shape(GMMA::Layout_K_SW128_Atom<Bf16>{}, Shape<_256, _64>{});
  const auto across = tile_to_shape(GMMA::Layout_MN_SW128_Atom<Bf16>{}, Shape<_256, _64>{}, Step<_2, _1>{});
  table("tile/along", 256, 64, as_position_independent_swizzle_layout(along));
  table("tile/across", 256, 64, as_position_independent_swizzle_layout(across));
  descriptors<GMMA::Major::K>("descriptor/along", along);
  descriptors<GMMA::Major::MN>("descriptor/across", across);
}
"""


def main(include):
    include = pathlib.Path(include)
    version = "".join((include / "cutlass" / "version.h").read_text().split("\n"))
    numbers = [re.search(rf"CUTLASS_{part}\s+(\d+)", version).group(1) for part in ("MAJOR", "MINOR", "PATCH")]
    with tempfile.TemporaryDirectory() as folder:
        source, program = pathlib.Path(folder) / "layouts.cu", pathlib.Path(folder) / "layouts"
        source.write_text(PROGRAM)
        subprocess.run(["nvcc", "-w", "-std=c++17", "--expt-relaxed-constexpr", "-arch=sm_90a", f"-I{include}", source, "-o", program], check=True)
        lines = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()
    tensors = {}
    for line in lines:
        kind, name, *row = line.split()
        if kind != "table":  # CuTe says that a host has no shared memory: where a tile begins does not matter here
            continue
        tensors.setdefault(name, []).append([int(word) for word in row])
    tensors = {name: np.array(rows, dtype=np.int32) for name, rows in tensors.items()}
    path = FOLDER / "layouts.safetensors"
    save_file(tensors, str(path))
    path.chmod(0o644)
    scripts = ["golden_layouts.py"]
    manifest = json.loads(MANIFEST.read_text())
    manifest[path.name] = {"sha256": sha256(path), "scripts": scripts, "scripts_sha256": script_hash(scripts), "tensors": len(tensors),
                           "cutlass": ".".join(numbers)}
    MANIFEST.write_text(json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
