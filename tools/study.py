#!/usr/bin/env python3
"""Runs the study of docs/study.md on the synthetic world and writes its table.

    python3 tools/study.py --out study [--program build/reid] [--preset study]          the frozen study: 3 arms x 3 seeds
    python3 tools/study.py --out study --choose schedule.lr=5e-4 schedule.lr=2e-3       hyper-parameters, on the validation domain

The first form trains every arm and seed, evaluates source and target once at the end of each run, and writes study.json and
study.md into the folder. The second trains the neutral arm with each setting and evaluates on the validation domain only: the
target is never read. Both can be stopped and called again; finished runs are kept.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

SEEDS = (1, 2, 3)
# The instance and centroids losses have a temperature for each kind of data; the arms differ in nothing else.
ARMS = {
    "multi-camera only": None,
    "joint, equal temperatures": ["loss.tau_instance_single=0.1", "loss.tau_centroid_single=0.1"],
    "joint, higher single-camera temperatures": ["loss.tau_instance_single=0.2", "loss.tau_centroid_single=0.12"],
}
METRICS = ("mAP", "rank1", "mINP")


def reid(program, *words):
    subprocess.run([program, *map(str, words)], check=True)


def make_world(words):
    world = words.out / "world"
    if not (world / "world.json").exists():
        reid(words.program, "synth", "--preset", words.preset, "--seed", 1, "--out", world)
    return world


def train(words, world, name, seed, settings, domains, joint=True):
    folder = words.out / name.replace(",", "").replace(" ", "-") / f"seed-{seed}"
    if not (folder / "results.json").exists():
        sets = ",".join(f'"{domain}=market1501:{world / domain}"' for domain in domains)
        data = [f"data.multi=market1501:{world / 'source'}", f"data.evaluate=[{sets}]"]
        if joint:
            data += [f"data.single=videos:{world / 'videos'}", f"pseudo.truth={world / 'videos_truth.csv'}"]
        resume = ["--resume"] if (folder / "config.toml").exists() else []
        reid(words.program, "train", words.config, f"run.seed={seed}", *data, *settings, "--out", folder, *resume)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    quality = [{key: line[key] for key in ("epoch", "eps", "clusters", "noise", "purity", "pair_f")} for line in lines if "purity" in line]
    return {"results": json.loads((folder / "results.json").read_text()), "pseudo_labels": quality}


def spread(values):
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"


def table(runs):
    rows = ["| arm | " + " | ".join(f"{domain} {metric}" for domain in ("source", "target") for metric in METRICS) + " |",
            "|---|" + "---|" * 6]
    for arm, seeds in runs.items():
        cells = [spread([run["results"][domain][metric] for run in seeds.values()]) for domain in ("source", "target") for metric in METRICS]
        rows.append(f"| {arm} | " + " | ".join(cells) + " |")
    rows += ["", f"Mean and standard deviation over seeds {', '.join(map(str, SEEDS))}, percent.", "",
             "Pseudo labels, mean over seeds (purity / noise, percent), epoch after epoch:", ""]
    for arm, seeds in runs.items():
        epochs = zip(*(run["pseudo_labels"] for run in seeds.values()))
        cells = [f"{100 * statistics.mean(q['purity'] for q in e):.0f} / {100 * statistics.mean(q['noise'] for q in e):.0f}" for e in epochs]
        if cells:
            rows.append(f"- {arm}: " + ", ".join(cells))
    return "\n".join(rows) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--program", default="build/reid")
    parser.add_argument("--config", default="configs/study.toml")
    parser.add_argument("--preset", default="study")
    parser.add_argument("--choose", nargs="+", metavar="KEY=VALUE")
    words = parser.parse_args()
    world = make_world(words)
    if words.choose:
        for setting in words.choose:
            settings = [*ARMS["joint, equal temperatures"], setting]
            result = train(words, world, "choose " + setting, SEEDS[0], settings, ("validation",))["results"]["validation"]
            print(f"{setting}: validation mAP {100 * result['mAP']:.1f}, rank-1 {100 * result['rank1']:.1f}", flush=True)
        return
    runs = {}
    for seed in SEEDS:
        for arm, settings in ARMS.items():
            runs.setdefault(arm, {})[seed] = train(words, world, arm, seed, settings or [], ("source", "target"), joint=settings is not None)
    hash_of_world = json.loads((world / "world.json").read_text())["hash"]
    (words.out / "study.json").write_text(json.dumps({"world": hash_of_world, "runs": runs}, indent=1) + "\n")
    (words.out / "study.md").write_text(table(runs))
    print(table(runs))


if __name__ == "__main__":
    sys.exit(main())
