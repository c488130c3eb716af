#!/usr/bin/env python3
"""Trains the recipes of docs/methods.md on the synthetic world with three seeds each and records what they reached and what it cost.

    python3 tools/measure_methods.py --work DIR --out bench/methods.json [--program build/reid] [--only pplr]

Runs configs/demo-METHOD.toml on the world that `reid synth --preset demo --seed 1` draws. The recipes without identities go on from a
short supervised run on the validation domain, "start", with the same seed. Finished runs in DIR are kept, a stopped one is resumed. The figures are those of the last epoch; where a configuration names run.best_on, those of the epoch that this set's labels
choose stand beside them. `python3 tools/readme_tables.py` writes the tables.
"""

import argparse
import datetime
import json
import pathlib
import subprocess

METHODS = ("supervised", "start", "cluster-contrast", "pplr")
START = ["run.epochs=8", "run.iterations=20"]
SEEDS = (1, 2, 3)
PER_EPOCH = ("clusters", "noise", "purity", "pair_f", "v_measure", "agreement")


def reid(program, *words):
    subprocess.run([program, *map(str, words)], check=True)


def read(file):
    return json.loads(file.read_text())


def train(program, world, method, seed, folder):
    if not (folder / "results.json").exists():
        sets = ",".join(f'"{domain}=market1501:{world / domain}"' for domain in ("source", "target"))
        settings = [f"data.multi=market1501:{world / ('validation' if method == 'start' else 'source')}", f"data.evaluate=[{sets}]"]
        if method == "start":
            settings += START
        elif method != "supervised":
            settings.append(f"model.weights={folder.parent.parent / 'start' / folder.name / 'encoder.safetensors'}")
        resume = ["--resume"] if (folder / "config.toml").exists() else []
        config = "supervised" if method == "start" else method
        reid(program, "train", f"configs/demo-{config}.toml", f"run.seed={seed}", *settings, "--out", folder, *resume)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    epochs = [{key: line[key] for key in PER_EPOCH if key in line} for line in lines if line["kind"] == "epoch"]
    run = {"seed": seed, "results": read(folder / "results.json"), "seconds": read(folder / "times.json")}
    if (folder / "best_results.json").exists():
        run["best"] = read(folder / "best_results.json")
    if any(epochs):
        run["epochs"] = epochs
    return run


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} threads of {names[0]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--program", default="build/reid")
    parser.add_argument("--only", choices=METHODS)
    words = parser.parse_args()
    world = words.work / "world"
    if not (world / "world.json").exists():
        reid(words.program, "synth", "--preset", "demo", "--seed", 1, "--out", world)
    measured = read(words.out) if words.out.exists() else {"methods": {}}
    measured |= {"world": read(world / "world.json")["hash"], "device": processor(), "date": str(datetime.date.today())}
    for method in [words.only] if words.only else METHODS:
        measured["methods"][method] = [train(words.program, world, method, seed, words.work / method / f"seed-{seed}") for seed in SEEDS]
    words.out.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
