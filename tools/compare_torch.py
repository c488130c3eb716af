#!/usr/bin/env python3
"""How fast this program is beside PyTorch, oneDNN, OpenBLAS and torchvision: one run on one machine, interleaved.

    python3 tools/compare_torch.py --out bench/torch.json [--quick] [--only network,layers,gemm,loader] [--reid build/reid]

  network  training step and inference of ResNet-50-IBN-a, 256x128, last stride 1: PyTorch out of the box and tuned (jemalloc that keeps
           memory, transparent huge pages, threads bound to cores), both channels_last, in f32 and under bf16 autocast
  layers   each convolution of it: forward, data and weight gradient, through PyTorch's oneDNN, tuned as above
  gemm     products of matrices, with any fixed sums and strict ones: numpy's OpenBLAS with OPENBLAS_CORETYPE=SkylakeX where the processor has AVX-512
  loader   decoding and augmenting JPEGs on one core: Pillow and torchvision

PyTorch is installed from the Python registry into an environment of its own (--venv; some gigabytes), unless --python names one that has
torch, torchvision, numpy, safetensors and threadpoolctl. Both sides take turns, and who begins changes from round to round. Ratios are
between medians; their spread is that of the rounds. The inputs are random real numbers. Before anything is measured, both sides must agree
on the embedding of a few images. What runs beside is recorded: run it on a quiet machine. A whole run takes about ten minutes, --quick three.
"""

import argparse
import datetime
import json
import os
import pathlib
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import bench_tables
from compare_scale import cpu, memory_mib, python_of

TOOLS = pathlib.Path(__file__).resolve().parent
PACKAGES = ["torch", "torchvision", "numpy", "pillow", "safetensors", "threadpoolctl"]
PARTS = ("network", "layers", "gemm", "loader")
PASSES = ("forward", "data", "weight")
LONG = 15  # seconds: a call of the other side that takes longer is not repeated, and a turn that takes LONG_TURN not either
LONG_TURN = 60
# What PyTorch's tuning guide asks of jemalloc: memory once touched is kept, in huge pages.
JEMALLOC = "thp:always,metadata_thp:auto,background_thread:true,oversize_threshold:1,dirty_decay_ms:-1,muzzy_decay_ms:-1"


def jemalloc():
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"):
        for file in sorted(pathlib.Path(folder).glob("libjemalloc.so*")):
            return str(file)
    sys.exit("compare_torch: PyTorch tuned needs libjemalloc. Debian: apt-get install libjemalloc2")


class Side:
    """A process of the other side, alive between requests."""

    def __init__(self, python, threads, **environment):
        counts = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        self.process = subprocess.Popen([python, str(TOOLS / "torch_side.py")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, "PYTHONWARNINGS": "ignore", **counts, **environment})
        self.warm = set()

    def ask(self, request, warmup=1):
        """Warms up only what it was not asked for before."""
        key = json.dumps(request)
        request = {"steps": 1, **request, "warmup": 0 if key in self.warm else warmup, "limit": LONG}
        self.warm.add(key)
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"compare_torch: the other side ended while it did '{request['do']}'")
        return json.loads(answer)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


class Run:
    def __init__(self, words):
        self.words, self.python = words, python_of(words, PACKAGES)
        self.rounds = {"network": 2, "layers": 2, "gemm": 2, "loader": 2} if words.quick else {"network": 3, "layers": 4, "gemm": 5, "loader": 5}
        self.sides = {}
        self.machine = self.reid("machine")

    def side(self, name):
        """Started when first asked for: default, tuned, openblas, loader."""
        if name not in self.sides:
            environment, threads = {}, 1 if name == "loader" else self.words.threads
            if name == "tuned":
                environment = {"LD_PRELOAD": jemalloc(), "MALLOC_CONF": JEMALLOC, "OMP_PROC_BIND": "close", "OMP_PLACES": "cores"}
            if name == "openblas" and cpu()[1]:
                environment = {"OPENBLAS_CORETYPE": "SkylakeX"}
            self.sides[name] = Side(self.python, threads, **environment)
        return self.sides[name]

    def reid(self, what, *options):
        command = [self.words.reid, "bench", what, "--threads", self.words.threads, "--json", "-", *options]
        done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"compare_torch: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def take_turns(self, part, contenders):
        """contenders: {name: function}. Calls each once a round; returns {name: [result of each round]}."""
        results, names, seconds = {name: [] for name in contenders}, list(contenders), {}
        for i in range(self.rounds[part]):
            for name in names[i % len(names):] + names[:i % len(names)]:
                if seconds.get(name, 0) < LONG_TURN:
                    start = time.time()
                    results[name].append(contenders[name]())
                    seconds[name] = time.time() - start
                    time.sleep(0.05)  # threads of the last one go to sleep
            turns = ", ".join(f"{name} {seconds[name]:.0f} s" for name in names)
            print(f"{part}: round {i + 1} of {self.rounds[part]}: {turns}", file=sys.stderr, flush=True)
        return results


def summary(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def beside(ours, theirs):
    """Seconds of the rounds of both: medians, how many times faster ours is, and the spread of that over the rounds."""
    ratios = [their / our for our, their in zip(ours, theirs)]
    return {"reid": summary(ours), "other": summary(theirs),
            "faster": {"median": statistics.median(theirs) / statistics.median(ours), "least": min(ratios), "most": max(ratios)}}


# --- the parts ---


def network(run):
    """Ours in each of its dtypes, also with strict numerics; PyTorch in f32, out of the box and tuned, and tuned in bf16."""
    words = run.words
    request = {"do": "network", "batch": words.batch, "height": 256, "width": 128}
    steps = 1 if words.quick else 2

    def ours(dtype, numerics):
        return lambda: run.reid("network", "--dtype", dtype, "--numerics", numerics, "--batch", words.batch, "--warmup", 1, "--steps", steps)

    def theirs(side, dtype):
        return lambda: {what: statistics.median(run.side(side).ask({**request, "what": what, "dtype": dtype, "steps": steps})["seconds"])
                        for what in ("training", "inference", "single")}

    contenders = {f"reid {dtype}": ours(dtype, "deterministic") for dtype in run.machine["dtypes"]["network"]}
    contenders["reid f32,strict"] = ours("f32", "strict")
    for dtype in ("f32", "bf16"):
        if dtype == "f32" or has_bf16() or not words.quick:
            contenders |= {f"{side} {dtype}": theirs(side, dtype) for side in ("default", "tuned")}
    results = run.take_turns("network", contenders)

    own_rounds = [r for name, rounds in results.items() if name.startswith("reid") for r in rounds]
    peak = max(r["peak"]["gflops"] for r in own_rounds)
    record = {"batch": words.batch, "size": [256, 128], "peak_gflops": peak, "training": {}, "inference": {}, "single": {}}
    for what in ("training", "inference", "single"):
        images = 1 if what == "single" else words.batch
        seconds = {}
        for name, rounds in results.items():
            ours_here = name.startswith("reid")
            seconds[name] = [r[what]["times"]["median"] if ours_here else r[what] for r in rounds]
            record[what][name] = {"images_per_second": images / statistics.median(seconds[name]), "seconds": summary(seconds[name])}
            record[what][name]["share_of_peak"] = own_rounds[0][what]["gflop"] / statistics.median(seconds[name]) / peak
        for name in contenders:
            own, dtype = name.split()
            if own != "reid":  # beside ours of the same dtype, where there is one, else f32
                match = f"reid {dtype}" if f"reid {dtype}" in results else "reid f32"
                record[what][name] |= {"beside": match, "faster": beside(seconds[match], seconds[name])["faster"]}
                if what == "training" and dtype == "f32":
                    record[what][name]["faster_strict"] = beside(seconds["reid f32,strict"], seconds[name])["faster"]
    return record


def layers(run):
    return {dtype: layers_of(run, dtype) for dtype in run.machine["dtypes"]["layers"]}


def layers_of(run, dtype):
    words = run.words
    steps = 1 if words.quick else 2
    shapes = run.reid("layers", "--dtype", dtype, "--batch", 2, "--warmup", 0, "--steps", 1)["rows"]
    rows = [{"in": r["in"], "out": r["out"], "height": r["height"], "width": r["width"], "kernel": int(r["kind"].split("x")[0]),
             "stride": int(r["kind"].split("/")[1]), "data": "refused" not in r["data"]} for r in shapes]
    request = {"do": "layers", "dtype": dtype, "batch": words.batch, "rows": rows, "steps": steps}
    results = run.take_turns("layers", {"reid": lambda: run.reid("layers", "--dtype", dtype, "--batch", words.batch, "--warmup", 1, "--steps", steps),
                                        "torch": lambda: run.side("tuned").ask(request)})

    def seconds(layer, name):
        return {"reid": [r["rows"][layer][name]["times"]["median"] for r in results["reid"]],
                "torch": [statistics.median(r["rows"][layer][name]) for r in results["torch"]]}

    record, sums = {"batch": words.batch, "rows": [], "sums": {}}, {}
    for i, row in enumerate(results["reid"][0]["rows"]):
        entry = {key: row[key] for key in ("name", "count", "kind", "in", "out", "height", "width", "gflop")}
        for name in PASSES:
            if "refused" in row[name]:
                continue
            both = seconds(i, name)
            entry[name] = {"implementation": row[name]["implementation"], **beside(both["reid"], both["torch"])}
            for key in ((row["kind"], name), (row["kind"], "all"), ("all", name), ("all", "all")):
                total = sums.setdefault(key, {"gflop": 0, "reid": [0] * len(both["reid"]), "torch": [0] * len(both["torch"])})
                total["gflop"] += row["count"] * row["gflop"]
                for side in ("reid", "torch"):
                    total[side] = [a + row["count"] * b for a, b in zip(total[side], both[side])]
        record["rows"].append(entry)
    peak = max(r["peak"]["gflops"] for r in results["reid"])
    for (kind, name), total in sums.items():
        entry = {"gflop": total["gflop"], **beside(total["reid"], total["torch"])}
        entry["reid"]["share_of_peak"] = total["gflop"] / entry["reid"]["median"] / peak
        entry["other"]["share_of_peak"] = total["gflop"] / entry["other"]["median"] / peak
        record["sums"].setdefault(kind, {})[name] = entry
    return record | {"peak_gflops": peak}


def gemm(run):
    return {dtype: gemm_of(run, dtype) for dtype in run.machine["dtypes"]["gemm"] if dtype == "f32"}  # OpenBLAS has no other in numpy


def gemm_of(run, dtype):
    steps = 2 if run.words.quick else 3
    rows = run.reid("gemm", "--dtype", dtype, "--warmup", 0, "--steps", 1)["rows"]
    request = {"do": "gemm", "rows": [{key: row[key] for key in "mnk"} for row in rows], "steps": steps}
    ours = {name: (lambda numerics=numerics: run.reid("gemm", "--dtype", dtype, "--numerics", numerics, "--warmup", 1, "--steps", steps))
            for name, numerics in (("reid", "deterministic"), ("strict", "strict"))}
    results = run.take_turns("gemm", ours | {"openblas": lambda: run.side("openblas").ask(request)})
    peak = max(r["peak"]["gflops"] for name in ours for r in results[name])
    record = {"rows": [], "peak_gflops": peak}
    for i, row in enumerate(rows):
        gflop, theirs = 2e-9 * row["m"] * row["n"] * row["k"], [statistics.median(r["rows"][i]) for r in results["openblas"]]
        both = beside([r["rows"][i]["times"]["median"] for r in results["reid"]], theirs)
        strict = beside([r["rows"][i]["times"]["median"] for r in results["strict"]], theirs)
        both |= {"strict": strict["reid"], "faster_strict": strict["faster"]}
        for side in ("reid", "strict", "other"):
            both[side]["share_of_peak"] = gflop / both[side]["median"] / peak
        record["rows"].append({key: row[key] for key in "mnk"} | {"implementation": row["implementation"], "gflop": gflop, **both})
    return record


def loader(run):
    with tempfile.TemporaryDirectory() as folder:
        images = pathlib.Path(folder) / "images"
        steps = 3 if run.words.quick else 5
        first = run.reid("loader", "--images", images, "--warmup", 0, "--steps", 1)
        results = run.take_turns("loader", {"reid": lambda: run.reid("loader", "--images", images, "--warmup", 1, "--steps", steps),
                                            "torch": lambda: run.side("loader").ask({"do": "loader", "folder": str(images), "steps": steps})})
    record = {"decoder": first["decoder"], "rows": []}
    for i, row in enumerate(first["rows"]):
        count = row["images"]
        entry = {"name": row["name"], "images": count, "bytes": row["bytes"]}
        for what in ("decode", "augment", "remix"):
            entry[what] = beside([r["rows"][i][what]["times"]["median"] / count for r in results["reid"]],
                                 [statistics.median(r["rows"][i][what]) / count for r in results["torch"]])
        entry["loader"] = summary([r["rows"][i]["loader"]["times"]["median"] / count for r in results["reid"]])
        record["rows"].append(entry)
    return record


# --- the machine ---


def has_bf16():
    """With what the processor multiplies bf16 itself; empty: oneDNN does it by way of f32, slower than f32."""
    flags = pathlib.Path("/proc/cpuinfo").read_text()
    return next((name for flag, name in (("amx_bf16", "AMX"), ("avx512_bf16", "AVX512-BF16"), ("bf16", "bf16")) if re.search(rf"\b{flag}\b", flags)), "")


def ticks():
    """Seconds that the processors were busy with anything, and that the host took away."""
    user, nice, system, _, _, irq, soft, steal = (int(word) / os.sysconf("SC_CLK_TCK") for word in pathlib.Path("/proc/stat").read_text().split()[1:9])
    return user + nice + system + irq + soft, steal


def own_seconds():
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def agreement(run):
    """Both sides compute the same: tools/check_encoder.py at a small size; ends the program when they do not."""
    command = [run.python, str(TOOLS / "check_encoder.py"), "--program", run.words.reid, "--images", "2", "--height", "64", "--width", "32"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"compare_torch: the two sides do not agree: {done.stdout}{done.stderr}")
    return done.stdout.strip().replace("\n", "; ")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="JSON to write, e.g. bench/torch.json")
    parser.add_argument("--reid", default="build/reid", help="the program")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, e.g. network,gemm")
    parser.add_argument("--quick", action="store_true", help="fewer rounds: under three minutes")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--venv", default="build/torch_venv", help="where the Python packages are installed")
    parser.add_argument("--python", help="a Python that has the packages, instead")
    words = parser.parse_args()
    parts = words.only.split(",")
    if unknown := [part for part in parts if part not in PARTS]:
        parser.error(f"--only: there is no part {unknown[0]}; there are {', '.join(PARTS)}")
    if not os.access(words.reid, os.X_OK):
        parser.error(f"--reid: there is no program {words.reid}; build it first (make build)")
    run = Run(words)
    agreed = agreement(run)
    load, start, before, own = os.getloadavg()[0], time.time(), ticks(), own_seconds()
    record = {part: globals()[part](run) for part in parts}
    versions = run.side("tuned").ask({"do": "versions"}) | (run.side("openblas").ask({"do": "blas"}) if "gemm" in parts else {})
    for side in run.sides.values():
        side.end()
    seconds, after = time.time() - start, ticks()
    share = 100 / (seconds * os.cpu_count())
    report = {"what": "reid.cpp beside PyTorch, oneDNN, OpenBLAS and torchvision", "date": datetime.date.today().isoformat(), "quick": words.quick,
              "cpu": cpu()[0], "device": run.machine["device"], "threads": words.threads, "memory_gib": memory_mib() / 1024, "has_bf16": has_bf16(),
              "seconds": seconds,
              "disturbance": {"load_before": load, "others_percent": max(0.0, after[0] - before[0] - (own_seconds() - own)) * share,
                              "stolen_percent": (after[1] - before[1]) * share},
              "program": run.machine["program"], "versions": versions, "agreement": agreed, "peak": run.machine["peak"], **record}
    pathlib.Path(words.out).write_text(json.dumps(report, indent=1) + "\n")
    print(bench_tables.everything(report))


if __name__ == "__main__":
    main()
