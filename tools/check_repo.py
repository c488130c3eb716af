#!/usr/bin/env python3
"""Checks what the compiler does not: who includes whom, sizes, formatting, headers that stand alone.

Usage: tools/check_repo.py [--no-format] [--no-headers]     Exit status 1 when anything is found; prints a size table.
The tables below are the rules; changing one is a reviewed line in a diff. Needs python3 alone (clang-format and a
C++ compiler for the two checks that can be switched off).
"""

import concurrent.futures
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Who may include whom: a wing sees itself and the wings named here.
WINGS = {
    "engine": set(),
    "formats": {"engine"},
    "people": {"formats", "engine"},
    "learning": {"people", "formats", "engine"},
    "program": {"learning", "people", "formats", "engine"},
    "backends": {"engine", "kernels"},
    "kernels": {"engine"},
}
# Kernels and backends see these headers of the engine and no others.
DEVICE_LEVEL = {f"reid/engine/{name}.h" for name in ("base", "device", "accelerator", "op_args", "op_args_rows", "op_args_vision", "op_args_fused", "op_args_pairs", "op_args_pixels", "op_args_jaccard", "op_args_rate", "exponential", "registry", "weight_cache")}

# Floors inside a wing, lowest first; headers of one floor do not see each other. A .cpp belongs to the floor of its first include.
FLOORS = {
    "engine": [["base", "exponential"], ["device", "op_args"], ["accelerator", "op_args_rows", "op_args_vision", "op_args_fused", "op_args_pairs", "op_args_pixels", "op_args_jaccard", "op_args_rate", "weight_cache"], ["registry"], ["tensor"], ["transfer", "replay", "ops"], ["autograd"], ["nn"], ["optim"]],
    "people": [["transform", "dataset", "protocol"], ["data", "dataset_check"], ["synth", "cluster"], ["evaluation"], ["rerank", "verification"], ["gallery"]],
}

# Headers that are installed: they see no other header of the project and compile as C11 and as C++17. None else stands above the wings.
INSTALLED = {"include/reid/embedder.h"}

# Each of these is slow to compile or defines an implementation: exactly one .cpp may contain it.
HEAVY = ["#include <CLI/", "#include <toml++/", "#include <nlohmann/", "#include <jpeglib.h>", "#include <matio.h>", "#include <hdf5.h>",
         "#include <lmdb.h>", "#define STB_IMAGE_IMPLEMENTATION", "#define STB_IMAGE_WRITE_IMPLEMENTATION"]

# g++ 12 or clang 14 lacks them, or the style forbids them.
FORBIDDEN = ["#include <format>", "#include <source_location>", "#include <ranges>", "std::views::", "-ffast-math"]

# What device code may not use, and the files below kernels/ that may all the same (docs/kernels.md says why).
KERNEL_FORBIDDEN = {
    r"<<<": set(),
    r"\b__shared__\b": {"launch.cuh"},
    r"\basm\b": {"prims.cuh", "mma.cuh", "sm90/hopper.cuh", "emu/fiber.cpp"},
    r"\b__constant__\b|\bprintf\b": set(),
    r"#include <(cub|thrust|cuda/std|cooperative_groups)": set(),
}

MAX_LINES = 400          # a file
MAX_KERNEL_LINES = 500   # a file of device code
MAX_FUNCTION = 60        # lines of a function, tests excepted
MAX_BYTES = 1 << 20      # any tracked file

# Lines a folder may hold, everything below it included.
BUDGET = {
    "include/reid": 5700,
    "kernels": 9900,
    "src/backends": 8400,
    "src/engine": 5000,
    "src/formats": 6000,
    "src/people": 13450,
    "src/learning": 5000,
    "src/program": 6950,
    "tests": 27900,
    "tools": 6760,
}

TOP_LEVEL = {
    ".ci", ".clang-format", ".clang-tidy", ".gitattributes", ".github", ".gitignore", "CHANGELOG.md", "CMakeLists.txt",
    "CMakePresets.json", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "bench", "configs", "data", "docs", "include",
    "kernels", "src", "tests", "third_party", "tools",
}

CODE = {".h", ".c", ".cpp", ".cu", ".cuh"}
problems = []


def problem(file, line, text):
    problems.append(f"{file}:{line}: {text}" if line else f"{file}: {text}")


def list_files():
    try:
        out = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT,
                             capture_output=True, check=True).stdout.decode()
        names = [n for n in out.split("\0") if n]
    except (OSError, subprocess.CalledProcessError):  # a source bundle
        names = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()]
        skipped = re.compile(r"^(build[^/]*|dist|demo|runs|third_party|\.git)/|__pycache__")
        names = [n for n in names if not skipped.search(n)]
    return sorted(n for n in names if (ROOT / n).is_file())


def wing_of(name):
    parts = Path(name).parts
    if parts[:2] == ("include", "reid") and len(parts) > 3:
        return parts[2]
    if parts[0] == "src" and len(parts) > 2:
        return parts[1]
    return "kernels" if parts[0] == "kernels" else None


def floor_of(wing, stem):
    for height, names in enumerate(FLOORS.get(wing, [])):
        if stem in names:
            return height
    return None


def included_file(name, target):
    """The repository path an #include "..." means, or None."""
    for base in ("include", "src", "kernels", "tests", str(Path(name).parent), "."):
        path = os.path.normpath(os.path.join(base, target))
        if (ROOT / path).is_file():
            return path
    return None


def check_includes(name, lines):
    wing = wing_of(name)
    own_floor = None
    if wing in FLOORS and name.startswith("include/"):
        own_floor = floor_of(wing, Path(name).stem)
        if own_floor is None:
            problem(name, 0, f"has no floor in FLOORS['{wing}'] of tools/check_repo.py")
    first = True
    for number, line in enumerate(lines, 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if not match:
            continue
        target = included_file(name, match.group(1))
        if target is None:
            problem(name, number, f'included file "{match.group(1)}" does not exist')
            continue
        other = wing_of(target)
        if name in INSTALLED:
            problem(name, number, f"is installed and may not include {match.group(1)}, which is not")
        if wing is None or other is None:
            continue
        if other != wing and other not in WINGS.get(wing, set()):
            problem(name, number, f"wing '{wing}' may not include wing '{other}' ({match.group(1)})")
        elif wing in ("backends", "kernels") and other == "engine" and match.group(1) not in DEVICE_LEVEL:
            problem(name, number, f"{wing} see the engine's base, device and registry headers only, not {match.group(1)}")
        if other == wing and target.startswith("include/"):
            floor = floor_of(wing, Path(target).stem)
            if first and own_floor is None:
                own_floor = floor
            elif own_floor is not None and floor is not None and floor >= own_floor and Path(target).stem != Path(name).stem:
                above = floor > own_floor or name.startswith("include/")
                if above:
                    problem(name, number, f"includes upward or sideways inside '{wing}': {match.group(1)}")
        first = False


def check_functions(name, lines):
    """Definitions at column 0, as clang-format leaves them: from the line that opens the brace to the closing '}'."""
    start = None
    for number, line in enumerate(lines, 1):
        if start is None:
            opens = line.endswith("{") and line[:1] not in (" ", "}", "#", "/", "") and "= {" not in line
            if opens and not re.match(r"(inline )?(namespace|struct|class|enum|union|extern|constexpr)\b", line):
                start = number
        elif line.startswith("}"):
            if number - start + 1 > MAX_FUNCTION:
                problem(name, start, f"a function of {number - start + 1} lines; at most {MAX_FUNCTION}")
            start = None


def check_text(name, text, lines):
    suffix = Path(name).suffix
    limit = MAX_KERNEL_LINES if name.startswith("kernels/") else MAX_LINES
    if len(lines) > limit and suffix in CODE | {".py", ".sh"}:
        problem(name, 0, f"{len(lines)} lines; at most {limit}")
    for number, line in enumerate(lines, 1):
        if line != line.rstrip() and suffix != ".md":
            problem(name, number, "trailing white space")
        if re.search(r"\bTODO\b(?!\(#\d+\))", line) and name != "tools/check_repo.py" and suffix in CODE | {".py", ".sh"}:
            problem(name, number, "a TODO names its issue: TODO(#12)")
    if re.fullmatch(r"include/reid/[^/]*", name) and name not in INSTALLED:
        problem(name, 0, "belongs to a wing, or into INSTALLED of tools/check_repo.py")
    if suffix in CODE:
        for word in FORBIDDEN:
            if word in text:
                problem(name, 0, f"{word} is not used in this project")
    if name.startswith("kernels/") and suffix in CODE:
        for match in re.finditer(r"__global__ [^;{]*\{\s*", text):
            if not name.startswith("kernels/emu/") and not text.startswith("after_predecessors();", match.end()):
                problem(name, text.count("\n", 0, match.end()) + 1, "a kernel begins with after_predecessors(): prims.cuh")
        for number, line in enumerate(lines, 1):
            for pattern, allowed in KERNEL_FORBIDDEN.items():
                if re.search(pattern, line.split("//")[0]) and name.removeprefix("kernels/") not in allowed:
                    problem(name, number, f"device code does without {re.search(pattern, line).group(0)}: docs/kernels.md")
    if suffix in (".h", ".cuh"):
        if "#pragma once" not in lines[:5]:
            problem(name, 1, "a header starts with #pragma once")
        if re.search(r"^\s*using namespace\b", text, re.M):
            problem(name, 0, "no 'using namespace' in headers")


def check_heavy(texts):
    for marker in HEAVY:
        users = [n for n, t in texts.items() if marker in t and Path(n).suffix in CODE]
        if len(users) > 1 or any(not n.endswith(".cpp") for n in users):
            problem(users[0], 0, f"{marker} belongs in exactly one .cpp, found in {', '.join(users)}")


def check_sizes(texts):
    print(f"{'folder':<16}{'files':>7}{'lines':>8}{'budget':>8}")
    total = 0
    for folder, budget in BUDGET.items():
        inside = [t for n, t in texts.items() if n.startswith(folder + "/") and Path(n).suffix in CODE | {".py", ".sh"}]
        lines = sum(t.count("\n") for t in inside)
        total += lines
        print(f"{folder:<16}{len(inside):>7}{lines:>8}{budget:>8}")
        if lines > budget:
            problem(folder, 0, f"{lines} lines; its budget is {budget}")
    print(f"{'total':<16}{'':>7}{total:>8}")


def check_format(names):
    def run(chunk):
        return subprocess.run(["clang-format", "--dry-run", "-Werror", *chunk], cwd=ROOT, capture_output=True, text=True).stderr

    chunks = [names[i::16] for i in range(16) if names[i::16]]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        output = "".join(pool.map(run, chunks))
    for file in sorted(set(re.findall(r"^(\S+?):\d+:\d+: error", output, re.M))):
        problem(file, 0, "is not formatted: make format")


def check_headers(names):
    compiler = os.environ.get("CXX", "c++")

    def run(name, language="c++", standard="c++20"):
        command = [compiler, f"-std={standard}", "-fsyntax-only", "-Wall", "-Wextra", "-Wno-pragma-once-outside-header", "-Iinclude", "-Isrc",
                   "-Ikernels", "-Itests",
                   '-DREID_PROGRAM=""', '-DREID_SOURCE_DIR=""', '-DREID_VERSION=""', "-isystem", "third_party", "-x", language, name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        if re.search(r"fatal error: '?(cuda_runtime_api|cudnn|cublasLt|doctest/doctest)\.h", done.stderr):
            return name, None  # not everywhere: the CUDA backend or the tests are left out there
        errors = [line for line in done.stderr.splitlines() if " error: " in line]
        return name, (errors or ["fails to compile"])[0] if done.returncode else None

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        installed = [run(name, *how) for name in sorted(INSTALLED) for how in (("c", "c11"), ("c++", "c++17"))]
        for name, error in [*pool.map(run, names), *installed]:
            if error:
                problem(name, 0, f"does not compile alone: {error}")


def main():
    unknown = set(sys.argv[1:]) - {"--no-format", "--no-headers"}
    if unknown:
        sys.exit(f"unknown argument {sorted(unknown)[0]}\n\n{__doc__}")
    names = list_files()
    texts = {}
    for name in names:
        if name.split("/")[0] not in TOP_LEVEL:
            problem(name, 0, "is not part of the fixed top level")
        if (ROOT / name).stat().st_size > MAX_BYTES:
            problem(name, 0, f"is larger than {MAX_BYTES >> 10} KiB")
        if Path(name).suffix in CODE | {".py", ".sh", ".md", ".toml", ".txt"}:
            texts[name] = (ROOT / name).read_text(encoding="utf-8")
    for name, text in texts.items():
        lines = text.split("\n")[: text.count("\n") + (not text.endswith("\n"))]
        check_text(name, text, lines)
        if Path(name).suffix in CODE:
            check_includes(name, lines)
            if not name.startswith("tests/"):
                check_functions(name, lines)
    check_heavy(texts)
    check_sizes(texts)
    code = [n for n in texts if Path(n).suffix in CODE]
    if "--no-format" not in sys.argv:
        check_format(code)
    if "--no-headers" not in sys.argv:
        check_headers([n for n in code if n.endswith((".h", ".cuh"))])
    for text in problems:
        print(text, file=sys.stderr)
    print(f"{len(problems)} problems in {len(names)} files")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
