#!/usr/bin/env python3
"""Images a second of training ResNet-50-IBN-a: this program beside PyTorch, in one run on one machine, interleaved.

    python tools/bench_training.py --out bench/training_MACHINE.json [--program build/reid] [--batch 64] [--rounds 3]

The same work on both sides: 256x128 random images, last stride 1, f32, forward, softmax over 1,000 unit centroids, backward, Adam
with L2 decay. PyTorch runs channels_last, out of the box and, where libjemalloc is installed, with it and transparent huge pages.
Needs torch (any Python that has it). Prints and stores each round, medians and ratios.
"""

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

TOOLS = pathlib.Path(__file__).resolve().parent


def torch_side(words):
    import torch

    sys.path.insert(0, str(TOOLS))
    from golden_networks import IBN_A, Embedder, ResNet

    torch.relu = torch.relu_  # in place, as the field's networks do
    torch.manual_seed(1)
    torch.set_num_threads(words.threads)
    model = Embedder(ResNet(**IBN_A, width=64)).float().train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters(), lr=3.5e-4, weight_decay=5e-4)
    images = torch.randn(words.batch, 3, 256, 128).contiguous(memory_format=torch.channels_last)
    centroids = torch.nn.functional.normalize(torch.randn(1000, 2048))
    labels = torch.arange(words.batch) % 1000

    def step():
        features = torch.nn.functional.normalize(model(images)[2])
        loss = torch.nn.functional.cross_entropy(features @ centroids.T / 0.05, labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    seconds = []
    for i in range(words.warmup + words.steps):
        start = time.perf_counter()
        step()
        if i >= words.warmup:
            seconds.append(time.perf_counter() - start)
    print(json.dumps({"images_per_second": words.batch / statistics.median(seconds), "torch": torch.__version__}))


def jemalloc():
    for folder in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"):
        for file in sorted(pathlib.Path(folder).glob("libjemalloc.so*")):
            return str(file)
    return None


def ours(words):
    command = [words.program, "bench", "--batch", words.batch, "--steps", words.steps, "--warmup", words.warmup, "--threads", words.threads,
               "--json", "-"]
    result = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True)
    return json.loads(result.stdout)["training"]["images_per_second"]


def pytorch(words, library):
    environment = dict(os.environ, OMP_NUM_THREADS=str(words.threads))
    if library:
        environment.update(LD_PRELOAD=library, MALLOC_CONF="thp:always")
    command = [sys.executable, __file__, "--torch-side", "--batch", words.batch, "--steps", words.steps, "--warmup", words.warmup, "--threads",
               words.threads, "--out", "-"]
    result = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True, env=environment)
    return json.loads(result.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True)
    parser.add_argument("--program", default="build/reid")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--torch-side", action="store_true", help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.torch_side:
        return torch_side(words)
    library = jemalloc()
    rates = {"reid": [], "torch": [], "torch+jemalloc": []}
    for _ in range(words.rounds):
        rates["reid"].append(ours(words))
        default = pytorch(words, None)
        rates["torch"].append(default["images_per_second"])
        if library:
            rates["torch+jemalloc"].append(pytorch(words, library)["images_per_second"])
        print("  ".join(f"{name} {values[-1]:.2f}" for name, values in rates.items() if values), "images/s", flush=True)
    medians = {name: statistics.median(values) for name, values in rates.items() if values}
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), platform.machine())
    report = {"what": "training ResNet-50-IBN-a, 256x128, last stride 1, f32, images/s", "cpu": cpu, "threads": words.threads, "batch": words.batch,
              "torch_version": default["torch"], "rounds": rates, "median": medians,
              "ratio": {name: medians["reid"] / value for name, value in medians.items() if name != "reid"}}
    pathlib.Path(words.out).write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report["ratio"]))


if __name__ == "__main__":
    main()
