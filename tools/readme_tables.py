#!/usr/bin/env python3
"""Writes the README's tables from recorded measurements, so that no figure is typed: bench/demo.json (`reid demo --json`) and
bench/training.json (`tools/bench_training.py --out`). A table whose record is absent says "not yet measured"."""

import json
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
COLUMNS = (("mAP", "mAP"), ("rank1", "Rank-1"), ("rank5", "Rank-5"), ("rank10", "Rank-10"), ("mINP", "mINP"))


def record(name):
    file = ROOT / "bench" / name
    return json.loads(file.read_text()) if file.exists() else None


def results():
    demo = record("demo.json")
    if demo is None:
        return "Not yet measured."
    lines = ["| percent | " + " | ".join(f"{domain} {title}" for domain in ("source", "target") for _, title in COLUMNS) + " |", "|---|" + "---|" * 10]
    for row in demo["rows"]:
        cells = [f"{100 * row[domain][key]:.1f}" for domain in ("source", "target") for key, _ in COLUMNS]
        lines.append(f"| {row['name']} | " + " | ".join(cells) + " |")
    minutes, seconds = divmod(round(demo["seconds"]), 60)
    lines += ["", f"`make demo` on {demo['device']}: {minutes}:{seconds:02d} minutes from drawing the world to the table. Source: people not trained on, under "
              "cameras that were; target: people, cameras, clothes and light never seen. Synthetic data; says nothing about real benchmarks."]
    return "\n".join(lines)


def performance():
    training = record("training.json")
    if training is None:
        return "Not yet measured."
    names = {"reid": "reid.cpp", "torch": f"PyTorch {training['torch_version']}, out of the box",
             "torch+jemalloc": f"PyTorch {training['torch_version']}, jemalloc and huge pages"}
    lines = ["| training, images/s | median | spread | reid.cpp / it |", "|---|---|---|---|"]
    for key, median in training["median"].items():
        values = training["rounds"][key]
        ratio = f"{training['ratio'][key]:.2f}" if key != "reid" else ""
        lines.append(f"| {names[key]} | {median:.2f} | {min(values):.2f} to {max(values):.2f} | {ratio} |")
    lines += ["", f"ResNet-50-IBN-a, 256x128, last stride 1, batch {training['batch']}, f32, {training['threads']} threads of {training['cpu']}; "
              f"{len(training['rounds']['reid'])} interleaved rounds (`tools/bench_training.py`). GPU: not yet measured, there is no CUDA backend yet."]
    return "\n".join(lines)


def main():
    readme = ROOT / "README.md"
    text = readme.read_text()
    for marker, table in (("results", results()), ("performance", performance())):
        pattern = rf"(<!-- {marker}:begin -->\n).*?(<!-- {marker}:end -->)"
        text, count = re.subn(pattern, lambda match: match.group(1) + table + "\n" + match.group(2), text, flags=re.S)
        if count != 1:
            sys.exit(f"README.md: expected one pair of <!-- {marker}:begin/end --> markers, found {count}")
    readme.write_text(text)


if __name__ == "__main__":
    main()
