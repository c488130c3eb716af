#!/usr/bin/env python3
"""The progressions of kernels, as docs/kernels.md shows them, from bench/kernels.json: versions, their ideas, problems with bytes and flop (a test holds
these against the registry), and what nvcc says of them.

Usage: tools/kernel_tables.py REPORT...     REPORT: what nvcc said of one file (build/cuda/kernels/**/*.ptxas after `make cuda`): renews the
                                            registers in bench/kernels.json; tools/readme_tables.py then writes the page.
Measured times are those of bench/gpu/kernels_DTYPE_64.json, copies of what tools/gpu_check.sh left; without them a cell says so."""

import json
import sys
from pathlib import Path

import check_kernels
from bench_tables import table

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "bench/kernels.json"
RATES = {"f32": 67e12, "bf16": 790e12}  # an H200's flop/s, and its bytes/s: what the floors are calculated with
BANDWIDTH = 4.3e12


def compiled(reports):
    """{"gemm.cu shared_tile_kernel": {"sm_80": (registers, bytes of static shared memory)}}"""
    rows = [(Path(path).name.removesuffix(".o.ptxas"), *row) for path in reports for row in check_kernels.read_report(path)]
    names = check_kernels.demangled([row[1] for row in rows])
    found = {}
    for file, mangled, arch, registers, shared, _, _ in rows:
        found.setdefault(f"{file} {names[mangled]}", {})[arch] = (registers, shared)
    return found


def renew(reports):
    record, found = json.loads(RECORD.read_text()), compiled(reports)
    for family in record["families"]:
        for version in family["versions"]:
            version["compiled"] = {}
            for wanted in version["kernels"]:
                kernels = [of for name, of in found.items() if name.startswith(wanted)]
                if not kernels:
                    sys.exit(f"kernel_tables: no report names '{wanted}'")
                for arch in sorted({arch for of in kernels for arch in of}):
                    if version["names"][0].startswith("sm90_") and arch != "sm_90a":
                        continue  # traps there
                    most = [max(of[arch][i] for of in kernels if arch in of) for i in (0, 1)]
                    before = version["compiled"].get(arch, [0, 0])
                    version["compiled"][arch] = [max(pair) for pair in zip(before, most)]
    RECORD.write_text(json.dumps(record, indent=1) + "\n")


def measured(dtype, batch):
    """{(row, version): seconds or why it refused}; empty where no GPU was there."""
    file = ROOT / f"bench/gpu/kernels_{dtype}_{batch}.json"
    rows = json.loads(file.read_text())["rows"] if file.exists() else []
    return {(row["name"], version["implementation"].removeprefix("cuda:")): version["times"]["median"] if "times" in version else version["refused"]
            for row in rows for version in row["versions"]}


def milliseconds(seconds):
    return f"{1e3 * seconds:.3f}"


def progressions():
    record = json.loads(RECORD.read_text())
    rows = []
    for family in record["families"]:
        dtype, passes = family["dtype"], family["passes"]
        floors = ", ".join(milliseconds(max(p["bytes"] / BANDWIDTH, p["flop"] / RATES[dtype])) for p in passes)
        work = ", ".join(f"{p['bytes'] / 1e6:.1f}" for p in passes) + " MB" + (f", {passes[0]['flop'] / 1e9:.1f} GFLOP" + (" each" if len(passes) > 1 else "")
                                                                              if passes[0]["flop"] else "")
        rows.append([f"**{family['title']}**, {dtype}", work, "", f"floor: {floors}"])
        times = measured(dtype, record["batch"])
        for version in family["versions"]:
            distinct = [name for name in dict.fromkeys(version["names"]) if name]
            cells = [times.get((p["row"], name)) if name else "-" for p, name in zip(passes, version["names"])]
            cells = [milliseconds(cell) if isinstance(cell, float) else cell or "not yet measured" for cell in cells]
            built = "; ".join(f"{registers}, {shared}" for _, (registers, shared) in sorted(version["compiled"].items()))
            rows.append([", ".join(f"`{name}`" for name in distinct), version["idea"], built,
                         "not yet measured" if set(cells) <= {"not yet measured", "-"} else ", ".join(cells)])
    return (table(["version", "idea; of a problem the bytes it must move and its flop", "registers, static shared bytes", "ms on an H200"], rows)
            + "\n\nFloors are **calculated**, not measured: bytes over 4.3 TB/s or flop over 67 (f32) and 790 (bf16) TFLOP/s, whichever is longer. Registers are "
            "the most of a version's kernels, for sm_80; sm_90a (of `sm90_` for sm_90a alone), by nvcc 13.0. `reid bench kernels --device cuda --batch 64` times all versions.")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    renew(sys.argv[1:])
