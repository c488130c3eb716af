#!/usr/bin/env python3
"""Trains the demonstration in f32 and in bf16, three seeds each, and records the courses of the losses and what the encoders reach.

    python3 tools/measure_precision.py --work DIR --out bench/precision.json [--program build/reid]

Runs configs/demo.toml on the world that `reid synth --preset demo --seed 1` draws. Finished runs in DIR are kept, a stopped one is resumed.
`python3 tools/readme_tables.py` writes the table of docs/benchmarks.md and draws docs/precision.svg.
"""

import argparse
import datetime
import json
import pathlib
import statistics

from measure_methods import SEEDS, processor, read, reid

PRECISIONS = ("f32", "bf16")


def train(words, world, precision, seed):
    folder = words.work / f"{precision}-{seed}"
    if not (folder / "results.json").exists():
        sets = ",".join(f'"{domain}=market1501:{world / domain}"' for domain in ("source", "target"))
        resume = ["--resume"] if (folder / "config.toml").exists() else []
        reid(words.program, "train", "configs/demo.toml", f"run.seed={seed}", f"model.precision={precision}", f"data.multi=market1501:{world / 'source'}",
             f"data.single=videos:{world / 'videos'}", f"data.evaluate=[{sets}]", "--out", folder, *resume)
    steps = [line for line in map(json.loads, (folder / "metrics.jsonl").read_text().splitlines()) if line["kind"] == "step"]
    epochs = sorted({step["epoch"] for step in steps})
    return {"seed": seed, "results": read(folder / "results.json"),
            "loss": [statistics.fmean(step["loss"] for step in steps if step["epoch"] == epoch) for epoch in epochs]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--program", default="build/reid", type=pathlib.Path)
    words = parser.parse_args()
    world = words.work / "world"
    if not (world / "world.json").exists():
        reid(words.program, "synth", "--preset", "demo", "--seed", 1, "--out", world)
    runs = {precision: [train(words, world, precision, seed) for seed in SEEDS] for precision in PRECISIONS}
    record = {"date": datetime.date.today().isoformat(), "machine": processor(), "runs": runs}
    words.out.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
