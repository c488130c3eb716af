#!/usr/bin/env python3
"""Counts the instructions of the CPU's AVX2 kernels in a small training step and compares them with those recorded: a slower kernel shows
on a noisy machine too.

    python3 tools/check_instructions.py [--build build] [--update]

Runs `reid bench network` on one thread under valgrind's callgrind, which knows no AVX-512, so that the program takes its AVX2 kernels.
Counted are the functions that the registry calls, with all that they call, and the inner loops by themselves. Exit status 1 when one is
more than 3 % off bench/instructions.json, is new or is gone; --update records what was counted. Counts belong to a compiler: with
another one than recorded the comparison is skipped, and says so. The kernels' AVX-512 loops: tools/check_loops.py.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
RECORD = ROOT / "bench" / "instructions.json"
BUDGET = 0.03
SMALL = 20_000  # instructions; below, what surrounds a kernel outweighs it
# Of one image size that is no multiple of any tile, so that the edges count too.
SIZES = {"batch": 2, "height": 72, "width": 40, "channels": 16, "steps": 1, "warmup": 0, "threads": 1}
KERNEL = re.compile(r"[\w<>, ]+\(\w+Args\)|tile<\w+>")  # as shortened: "adam(AdamArgs)"


def compiler_of(build):
    """What the build's compiler says of itself, however it was called; ends the program when the build is none that can be compared."""
    cache = pathlib.Path(build) / "CMakeCache.txt"
    if not cache.exists():
        sys.exit(f"check_instructions: {cache} is not there; build first (make build)")
    values = dict(re.findall(r"^(CMAKE_BUILD_TYPE|CMAKE_CXX_COMPILER):\w+=(.*)$", cache.read_text(), re.M))
    if values["CMAKE_BUILD_TYPE"] != "Release":
        sys.exit(f"check_instructions: {build} is a {values['CMAKE_BUILD_TYPE']} build; counts are those of Release")
    first = subprocess.run([values["CMAKE_CXX_COMPILER"], "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]
    return re.sub(r"^(c\+\+|g\+\+|gcc)\S* ", "g++ ", first)


def run_callgrind(program, folder):
    """The profile's text."""
    profile, result = folder / "profile", folder / "result.json"
    options = [word for name, value in SIZES.items() for word in (f"--{name}", str(value))]
    command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={profile}", str(program), "bench", "network", *options, "--json", str(result)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REID_")}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"check_instructions: {' '.join(command)} failed:\n{done.stderr}")
    device = json.loads(result.read_text())["device"]
    if not device.endswith("avx2"):
        sys.exit(f"check_instructions: under valgrind the program sees '{device}', not AVX2; the counts would be those of other kernels")
    return profile.read_text()


def counts(profile):
    """{kernel: instructions}: inclusive, by the calls of each function; of the inner loops their own."""
    names, called, own = {}, collections.Counter(), collections.Counter()
    current = callee = None

    def name(text):
        number, _, full = text.partition(" ")
        if full:
            names[number] = full
        return names[number]

    for line in profile.splitlines():
        if line.startswith("fn="):
            current, callee = name(line[3:]), None
        elif line.startswith("cfn="):
            callee = name(line[4:])
        elif cost := re.match(r"[+\-*\d]\S* (\d+)$", line):  # where, and how many
            if callee:  # the line behind "calls="
                called[callee] += int(cost.group(1))
                callee = None
            else:
                own[current] += int(cost.group(1))
    found = {}
    for function in names.values():
        short = re.sub(r"\(anonymous namespace\)::|reid::cpu::|reid::|^void | const&|, reid::Stream&|&(?=\w)", "", function)
        short = re.sub(r"^(tile<\w+>).*", r"\1", short)
        count = own[function] if short.startswith("tile<") else called[function]
        if KERNEL.fullmatch(short) and count >= SMALL:
            found[short] = count
    return dict(sorted(found.items()))


def compare(recorded, counted):
    """Prints a line for each kernel; returns what is wrong."""
    problems = []
    for kernel in sorted(recorded.keys() | counted.keys()):
        before, now = recorded.get(kernel), counted.get(kernel)
        if before is None or now is None:
            problems.append(f"{kernel}: {'is new' if before is None else 'is gone'}")
            continue
        change = now / before - 1
        print(f"{now:>12,} {100 * change:+7.2f} %  {kernel}")
        if abs(change) > BUDGET:
            problems.append(f"{kernel}: {before:,} instructions became {now:,}, {100 * change:+.1f} %; the budget is {100 * BUDGET:g} %")
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="the build folder")
    parser.add_argument("--update", action="store_true", help="record the counts")
    words = parser.parse_args()
    if os.uname().machine != "x86_64":
        print("instruction counts: skipped, there are no AVX2 kernels for this processor")
        return 0
    compiler = compiler_of(words.build)
    recorded = json.loads(RECORD.read_text()) if RECORD.exists() else {"compiler": None, "kernels": {}}
    if recorded["compiler"] != compiler and not words.update:
        print(f"instruction counts: skipped, they were recorded with '{recorded['compiler']}' and this is '{compiler}'")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        counted = counts(run_callgrind(pathlib.Path(words.build) / "reid", pathlib.Path(folder)))
    problems = compare(recorded["kernels"], counted)
    if words.update:
        RECORD.write_text(json.dumps({"compiler": compiler, "network": SIZES, "kernels": counted}, indent=1) + "\n")
        print(f"recorded {len(counted)} kernels in {RECORD.relative_to(ROOT)}")
        return 0
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(problems)} problems in the instruction counts" + ("; when they are meant: tools/check_instructions.py --update" if problems else ""))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
