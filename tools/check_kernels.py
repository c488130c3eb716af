#!/usr/bin/env python3
"""What ptxas says of the kernels: registers, shared memory and stack of each, in one table. Fails on spills and on products that wait.

Usage: tools/check_kernels.py REPORT...     REPORT: the output of nvcc -Xptxas -v of one file, as `make cuda` keeps it.
Exit status 1 when a kernel keeps registers in memory (spills, or a stack of its own) without standing in MAY_SPILL, and when ptxas sees
wgmma that it must run one after the other.
"""

import re
import subprocess
import sys
from pathlib import Path

# Kernels that are known to spill, each with its reason: changing the table is a reviewed line in a diff.
MAY_SPILL = {}


def demangled(names):
    """The kernels' names as their files write them, template arguments included."""
    out = subprocess.run(["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True).stdout.splitlines()
    plain = {}
    for mangled, name in zip(names, out):
        name = re.sub(r"\(anonymous namespace\)::|reid::cuda::|^void |reid::", "", name)
        name = re.sub(r"\((int|bool|unsigned)\)|\(\([^()]*\)(\d+)\)", r"\2", name)
        depth, end = 0, len(name)
        for i, letter in enumerate(name):  # up to the list of parameters
            depth += (letter == "<") - (letter == ">")
            if letter == "(" and depth == 0:
                end = i
                break
        plain[mangled] = name[:end]
    return plain


def read_report(path):
    """[(mangled name, architecture, registers, shared bytes, stack bytes, spilled bytes)]"""
    rows, name, arch, stack, spilled = [], None, None, 0, 0
    for line in Path(path).read_text().splitlines():
        if match := re.search(r"Compiling entry function '(\w+)' for '(\w+)'", line):
            name, arch, stack, spilled = *match.groups(), 0, 0
        elif match := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line):
            stack, spilled = int(match.group(1)), int(match.group(2)) + int(match.group(3))
        elif (match := re.search(r"Used (\d+) registers", line)) and name:
            shared = re.search(r"(\d+) bytes smem", line)
            rows.append((name, arch, int(match.group(1)), int(shared.group(1)) if shared else 0, stack, spilled))
            name = None
    return rows


def read_losses(path):
    """[(mangled name, what ptxas warns of)]: it compiles such a kernel without an error, and at a fraction of its speed."""
    return [match.groups()[::-1] for match in re.finditer(r"Potential Performance Loss: (.*) in the function '(\w+)'", Path(path).read_text())]


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    rows = [(Path(path).name.removesuffix(".o.ptxas"), *row) for path in sys.argv[1:] for row in read_report(path)]
    if not rows:
        sys.exit("check_kernels: the reports name no kernel")
    names = demangled([row[1] for row in rows])
    table, problems = {}, []
    for file, mangled, arch, registers, shared, stack, spilled in rows:
        kernel = names[mangled]
        table.setdefault((file, kernel), {})[arch] = f"{registers} regs, {shared} B"
        if (stack or spilled) and kernel.split("<")[0] not in MAY_SPILL:
            problems.append(f"{file}: {kernel} on {arch}: {stack} bytes of stack, {spilled} bytes spilled")
    spilling = len(problems)
    losses = [(Path(path).name.removesuffix(".o.ptxas"), *loss) for path in sys.argv[1:] for loss in read_losses(path)]
    names |= demangled([mangled for _, mangled, _ in losses])
    problems += [f"{file}: {names[mangled]}: {loss}" for file, mangled, loss in losses]
    architectures = sorted({row[2] for row in rows})
    print(f"{'file':<18}" + "".join(f"{arch + ' (registers, shared)':<28}" for arch in architectures) + "kernel")
    for (file, kernel), found in sorted(table.items()):
        print(f"{file:<18}" + "".join(f"{found.get(arch, '-'):<28}" for arch in architectures) + kernel)
    for text in problems:
        print(text, file=sys.stderr)
    print(f"{len(table)} kernels, {spilling} with spills or a stack, {len(problems) - spilling} whose products wait for each other")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
