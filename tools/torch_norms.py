#!/usr/bin/env python3
"""PyTorch's time for the norms that `reid bench ops` timed, with the residual and the ReLU that follow them in a network: for gpu_check's table.

Usage: tools/torch_norms.py OPS.json [--device cuda|cpu] [--seconds N] [--out FILE]

OPS.json is what `reid bench ops --dtype bf16 --json OPS.json` wrote: shapes and batch are its. Maps are bf16, channels last, drawn anew for each shape;
parameters are f32, statistics the batch's. An IBN is IBN-Net's module: halves are made contiguous, normalized and joined. What PyTorch makes of an instance norm
is not channels last, and stays so. On a GPU the second-level cache is overwritten before each call, and the device then sleeps a millisecond, so that what is timed
is its work, not the host's launches. FILE is written after every shape; after N seconds (default 120) no further one begins.
"""

import argparse
import json
import re
import statistics
import sys
import time
from pathlib import Path

import torch
from torch import nn

NAME = re.compile(r"(batch norm|instance norm|IBN) (\d+) x (\d+) x (\d+): ")


class IBN(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.half = channels // 2
        self.instance = nn.InstanceNorm2d(self.half, affine=True)
        self.batch = nn.BatchNorm2d(channels - self.half)

    def forward(self, x):
        first, second = torch.split(x, [self.half, x.shape[1] - self.half], 1)
        return torch.cat((self.instance(first.contiguous()), self.batch(second.contiguous())), 1)


MODULES = {"batch norm": nn.BatchNorm2d, "instance norm": lambda c: nn.InstanceNorm2d(c, affine=True), "IBN": IBN}


class Clock:
    def __init__(self, device):
        self.cuda = device == "cuda"
        self.junk = torch.empty(512 << 20, dtype=torch.uint8, device=device) if self.cuda else None

    def median(self, call, repeats=20, warm=5):
        seconds = []
        for i in range(-warm, repeats):
            if self.cuda:
                self.junk.zero_()
                torch.cuda._sleep(2_000_000)  # cycles
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                begin.record()
                call()
                end.record()
                end.synchronize()
                taken = begin.elapsed_time(end) / 1e3
            else:
                start = time.perf_counter()
                call()
                taken = time.perf_counter() - start
            if i >= 0:
                seconds.append(taken)
        return statistics.median(seconds)


def forms(clock, device, kind, shape):
    """(form, seconds): forward and backward, with ReLU alone and behind a residual."""
    def drawn():
        return torch.randn(shape, device=device).bfloat16().contiguous(memory_format=torch.channels_last)

    module = MODULES[kind](shape[1]).to(device)
    x, residual = drawn().requires_grad_(), drawn().requires_grad_()
    for form, more in (("ReLU", None), ("residual, ReLU", residual))[:1 if kind == "IBN" else 2]:  # no residual follows an IBN
        def forward(more=more):
            y = module(x)
            if more is not None:
                y += more
            return torch.relu_(y)

        y = forward()
        assert y.dtype == torch.bfloat16, f"{kind}: {y.dtype}"
        wanted, dy = [x, *([more] if more is not None else []), *module.parameters()], torch.randn_like(y)
        yield f"forward, {form}", clock.median(forward)
        yield f"backward, {form}", clock.median(lambda y=y, wanted=wanted, dy=dy: torch.autograd.grad(y, wanted, dy, retain_graph=True))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ops")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--out")
    options = parser.parse_args()
    ops = json.loads(Path(options.ops).read_text())
    found = dict.fromkeys(match.groups() for row in ops["rows"] if (match := NAME.match(row["name"])))
    if not found:
        sys.exit(f"torch_norms: {options.ops} names no norm")
    clock, rows, start = Clock(options.device), [], time.monotonic()
    for kind, channels, height, width in found:
        if time.monotonic() - start > options.seconds:
            print(f"torch_norms: {len(found)} shapes take longer than {options.seconds:.0f} s; these are the first")
            break
        name = f"{kind} {channels} x {height} x {width}"
        for form, median in forms(clock, options.device, kind, (ops["batch"], int(channels), int(height), int(width))):
            rows.append({"name": name, "form": form, "median": median})
        if options.out:
            Path(options.out).write_text(json.dumps({"torch": torch.__version__, "batch": ops["batch"], "device": options.device, "rows": rows}, indent=1) + "\n")
    print(f"torch_norms: {len(rows)} times of {len(found)} norms")


if __name__ == "__main__":
    main()
