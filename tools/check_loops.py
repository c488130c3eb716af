#!/usr/bin/env python3
"""Checks the machine code of the innermost loops of the CPU kernels: as many multiply-adds and loads an iteration as their sources
promise, sums in registers, nothing on the stack. That decides their speed and needs no clock, nor a processor that can run them.

    python3 tools/check_loops.py [--build build] [--self-test]

Disassembles the objects of src/backends/cpu/x86 (objdump). Every loop there that multiplies and adds needs a line in KERNELS. Exit
status 1 when a loop is not as its line says. --self-test compiles kernels that are broken on purpose and demands that each is found out.
"""

import argparse
import os
import pathlib
import re
import subprocess
import sys
import tempfile
from typing import NamedTuple

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOURCES = "src/backends/cpu/x86"


class Kernel(NamedTuple):
    source: str
    function: str      # regular expression of its name
    instances: int     # functions of that name: templates have one for each argument
    instruction: str   # regular expression of the instruction that does the work, and the registers it works on
    registers: str
    work: int          # such instructions a step of k
    loads: int         # instructions that read memory, a step
    because: str


FMA = r"vfn?m(add|sub)\d*ps"
DOT = r"vpdpwssd"
DOT_BF16 = r"vdpbf16ps"
TILES = r"tdpbf16ps"
KERNELS = [
    Kernel("micro_kernel_avx512.cpp", r"tile<", 2, FMA, "zmm", 28, 16, "14 rows x 2 vectors of sums; 14 broadcasts of A, 2 vectors of B"),
    Kernel("micro_kernel_avx2.cpp", r"tile<", 2, FMA, "ymm", 12, 8, "6 rows x 2 vectors of sums; 6 broadcasts of A, 2 vectors of B"),
    Kernel("micro_kernel_bf16.cpp", r"tile", 1, DOT_BF16, "zmm", 28, 16, "14 rows x 2 vectors of sums; 14 broadcasts of A, 2 vectors of B"),
    Kernel("micro_kernel_amx.cpp", r"tile", 1, TILES, "tmm", 4, 4, "2 x 2 tiles of sums; 2 tiles of A, 2 of B"),
    Kernel("micro_kernel_parts.cpp", r"tile", 1, TILES, "tmm", 24, 14, "2 x 2 tiles of sums, six products; one pair of tiles loaded for each, two for the first"),
    Kernel("code_kernel_vnni.cpp", r"sum_block", 1, DOT, "zmm", 28, 16, "14 rows x 2 vectors of sums; 14 broadcasts of A, 2 vectors of B"),
]
# Whatever instruction a kernel may do its work with; but tiles of codes, whose sums leave the registers by way of memory after each block.
WORK = re.compile(r"v(fn?m(add|sub)|pdp|dpbf16)|tdpbf16")


class Instruction(NamedTuple):
    address: int
    name: str
    operands: str

    def memory(self):
        return re.search(r"\([^)]*\)", self.operands) is not None and not self.name.startswith(("lea", "nop", "prefetch"))

    def stores(self):  # AT&T order: the destination comes last
        return self.memory() and self.operands.endswith(")") and not self.name.startswith(("cmp", "test", "vucomis"))


def disassemble(file):
    """{function: [Instruction]}"""
    text = subprocess.run(["objdump", "-d", "-C", "--no-show-raw-insn", str(file)], check=True, capture_output=True, text=True).stdout
    functions, current = {}, None
    for line in text.splitlines():
        if heading := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            current = functions.setdefault(heading.group(1), [])
        elif code := re.match(r"\s*([0-9a-f]+):\s+(\S+)\s*([^<#]*)", line):
            current.append(Instruction(int(code.group(1), 16), code.group(2), code.group(3).strip()))
    return functions


def innermost_loops(code):
    """What lies between the target of a jump backward and the jump, unless another such loop lies within."""
    loops = [(int(i.operands, 16), i.address) for i in code
             if i.name.startswith("j") and re.fullmatch(r"[0-9a-f]+", i.operands) and int(i.operands, 16) <= i.address]
    inner = [(a, b) for a, b in loops if not any((c, d) != (a, b) and a <= c and d <= b for c, d in loops)]
    return [[i for i in code if first <= i.address <= last] for first, last in inner]


def working_loops(code):
    return [loop for loop in innermost_loops(code) if any(WORK.match(i.name) for i in loop)]


def uses_stack(instruction, code):
    framed = any(i.name == "mov" and i.operands == "%rsp,%rbp" for i in code)  # else %rbp is a register like any other
    registers = r"%rsp|%rbp" if framed else r"%rsp"
    return re.search(rf"\([^)]*({registers})[^)]*\)", instruction.operands) is not None or instruction.name.startswith(("push", "pop"))


def check_loop(kernel, loop, code):
    work = sum(re.fullmatch(kernel.instruction, i.name) is not None and f"%{kernel.registers}" in i.operands for i in loop)
    stores = sum(i.stores() for i in loop)
    loads = sum(i.memory() and not i.stores() for i in loop)
    stack = [f"{i.name} {i.operands}" for i in loop if uses_stack(i, code)]
    steps = max(1, work // kernel.work)  # a compiler may do several in one iteration
    found = []
    if work != steps * kernel.work:
        found.append(f"{work} multiply-adds of {kernel.registers} an iteration, expected {kernel.work} a step ({kernel.because})")
    if loads != steps * kernel.loads:
        found.append(f"{loads} loads an iteration, expected {kernel.loads} a step ({kernel.because})")
    if stores:
        found.append(f"{stores} stores in the loop: sums stay in registers")
    if stack:
        found.append(f"{len(stack)} accesses to the stack, the first: {stack[0]}")
    if any(i.name.startswith("call") for i in loop):
        found.append("a call in the loop")
    summary = f"{work} multiply-adds, {loads} loads, {len(loop)} instructions" + (f", {steps} steps" if steps > 1 else "")
    return summary, found


def check_object(source, file, say):
    """Problems of one object; prints a line for each loop."""
    problems = []
    kernels = [kernel for kernel in KERNELS if kernel.source == source]
    instances = dict.fromkeys(kernels, 0)
    for name, code in disassemble(file).items():
        short = re.sub(r"\(anonymous namespace\)::|reid::cpu::|^void |\(.*", "", name.replace("(anonymous namespace)::", ""))
        loops = working_loops(code)
        for loop in loops:
            kernel = next((kernel for kernel in kernels if re.match(kernel.function, short)), None)
            if kernel is None:
                problems.append(f"{source}: {short}: a loop that multiplies and adds, but no line in KERNELS says what belongs in it")
                continue
            summary, found = check_loop(kernel, loop, code)
            say(f"{source:<26} {short:<14} {summary}")
            problems += [f"{source}: {short}: {problem}" for problem in found]
        for kernel in kernels:
            instances[kernel] += bool(loops) and re.match(kernel.function, short) is not None
    problems += [f"{source}: {count} functions {kernel.function} with a loop, expected {kernel.instances}"
                 for kernel, count in instances.items() if count != kernel.instances]
    return problems


def check_build(build):
    folder = pathlib.Path(build) / "CMakeFiles" / "reid_engine.dir" / SOURCES
    problems = []
    for source in sorted(file.name for file in (ROOT / SOURCES).glob("*.cpp")):
        file = folder / f"{source}.o"
        problems += check_object(source, file, print) if file.exists() else [f"{source}: {file} is not there; build first (make build)"]
    gone = sorted({kernel.source for kernel in KERNELS} - {file.name for file in (ROOT / SOURCES).glob("*.cpp")})
    return problems + [f"{source}: in KERNELS, but not in {SOURCES}" for source in gone]


# Broken kernels: what is wrong with them, what is replaced in a source, and what must be found.
BREAKS = [
    ("sums of 16 rows do not fit the registers", "micro_kernel_avx512.cpp", [("kRows = 14", "kRows = 16"), ("unroll 14", "unroll 16")], "stack"),
    ("half of the products are rounded before they are added", "micro_kernel_avx512.cpp",
     [("_mm512_fmadd_ps(value, b0, left[i])", "_mm512_add_ps(_mm512_mul_ps(value, b0), left[i])")], "14 multiply-adds"),
    ("sums of 16 rows do not fit the registers", "code_kernel_vnni.cpp", [("kRows = 14", "kRows = 16"), ("unroll 14", "unroll 16")], "stack"),
]


def compile_variant(source, replacements, folder):
    text = (ROOT / SOURCES / source).read_text()
    for old, new in replacements:
        if old not in text:
            sys.exit(f"self-test: '{old}' is no longer in {source}; adapt BREAKS")
        text = text.replace(old, new)
    file = pathlib.Path(folder) / source
    file.write_text(text)
    flags = ["-std=c++20", "-O3", "-DNDEBUG", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-w", f"-I{ROOT}/include", f"-I{ROOT}/src"]
    subprocess.run([os.environ.get("CXX", "c++"), *flags, "-c", str(file), "-o", f"{file}.o"], check=True)
    return f"{file}.o"


def self_test():
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for what, source, replacements, expected in BREAKS:
            problems = check_object(source, compile_variant(source, replacements, folder), lambda line: None)
            proof = [problem for problem in problems if expected in problem]
            print(f"found out: {what}: {proof[0]}" if proof else f"NOT FOUND OUT: {source}: {what}")
            wrong += not proof
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", default="build", help="the build folder")
    parser.add_argument("--self-test", action="store_true", help="whether kernels that are broken on purpose are found out")
    words = parser.parse_args()
    if os.uname().machine != "x86_64":
        print("inner loops: skipped, there are none for this processor")
        return 0
    if words.self_test:
        return 1 if self_test() else 0
    problems = check_build(words.build)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"{len(problems)} problems in the inner loops")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
