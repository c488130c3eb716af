#!/usr/bin/env python3
"""What ptxas says of the kernels: registers, shared memory and stack of each, in one table. Fails on spills and on products that wait.

Usage: tools/check_kernels.py REPORT...     REPORT: the output of nvcc -Xptxas -v of one file, as `make cuda` keeps it.
       tools/check_kernels.py --self-test   whether the faults below are found in reports that have them.
Exit status 1 when a kernel keeps registers in memory (spills, or a stack of its own) without standing in MAY_SPILL, and when ptxas sees
wgmma that it must run one after the other.
"""

import re
import subprocess
import sys
import tempfile
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


def check(reports):
    """([(file, *row) of read_report], {mangled name: name}, how many kernels spill, all problems in words)"""
    rows, spills, losses = [], [], []
    for path in reports:
        file = Path(path).name.removesuffix(".o.ptxas")
        rows += [(file, *row) for row in read_report(path)]
        losses += [(file, *loss) for loss in read_losses(path)]
    names = demangled([row[1] for row in rows] + [loss[1] for loss in losses])
    for file, mangled, arch, _, _, stack, spilled in rows:
        if (stack or spilled) and names[mangled].split("<")[0] not in MAY_SPILL:
            spills.append(f"{file}: {names[mangled]} on {arch}: {stack} bytes of stack, {spilled} bytes spilled")
    return rows, names, len(spills), spills + [f"{file}: {names[mangled]}: {loss}" for file, mangled, loss in losses]


# What ptxas of CUDA 13 says of a kernel, and what becomes of it where the kernel spills, has a stack or has its wgmma run in turn.
SOUND = """ptxas info    : Compiling entry function '_Z3addPf' for 'sm_90a'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 40 registers, used 1 barriers, 1024 bytes smem
"""
BREAKS = [
    ("0 bytes spill loads", "24 bytes spill loads", "add on sm_90a: 0 bytes of stack, 24 bytes spilled"),
    ("0 bytes spill stores", "8 bytes spill stores", "add on sm_90a: 0 bytes of stack, 8 bytes spilled"),
    ("0 bytes stack frame", "16 bytes stack frame", "add on sm_90a: 16 bytes of stack, 0 bytes spilled"),
    ("ptxas info    : Used", "ptxas info    : (C7520) Potential Performance Loss: wgmma.mma_async instructions are serialized due to "
     "ill formed pipeline stage in the function '_Z3addPf'\nptxas info    : Used", "add: wgmma.mma_async instructions are serialized"),
]


def self_test():
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "add.o.ptxas"
        for old, new, expected in [("", "", None), *BREAKS]:
            report.write_text(SOUND.replace(old, new, 1))
            rows, _, _, problems = check([report])
            right = len(rows) == 1 and (len(problems) == 1 and expected in problems[0] if expected else not problems)
            print(f"{'found out' if right else 'NOT FOUND OUT'}: {expected or 'no fault in a sound report'}")
            wrong += not right
    return wrong


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if sys.argv[1] == "--self-test":
        sys.exit(1 if self_test() else 0)
    rows, names, spilling, problems = check(sys.argv[1:])
    if not rows:
        sys.exit("check_kernels: the reports name no kernel")
    table = {}
    for file, mangled, arch, registers, shared, _, _ in rows:
        table.setdefault((file, names[mangled]), {})[arch] = f"{registers} regs, {shared} B"
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
