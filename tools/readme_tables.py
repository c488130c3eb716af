#!/usr/bin/env python3
"""Writes the tables of README.md and of docs from recorded measurements, so that no figure is typed: bench/demo.json (`reid demo --json`),
bench/speed.json (`make bench`), bench/torch*.json (`tools/compare_torch.py --out`, all parts in one or some in each), bench/scale.json (`tools/compare_scale.py --out`) and
bench/methods.json (`tools/measure_methods.py --out`), bench/kernels.json and bench/gpu/ (tools/kernel_tables.py). A table whose record is absent says
"not yet measured". With --check nothing is written: exit status 1 where a page is not what its records say."""

import json
import pathlib
import re
import statistics
import sys

import bench_tables
import curves
import kernel_tables

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


def records_beside():
    """What compare_torch.py recorded."""
    return [record(file.name) for file in sorted((ROOT / "bench").glob("torch*.json"))]


def beside(part):
    """A table of bench_tables on the record that has the part."""
    def write():
        reports = [report for report in records_beside() if part in report]
        return getattr(bench_tables, part)(reports[0]) if reports else "Not yet measured."
    return write


def machine():
    lines = [f"{', '.join(part for part in ('network', 'layers', 'gemm', 'loader') if part in report)}: {bench_tables.machine(report)}"
             for report in records_beside()]
    return "\n\n".join(lines) if lines else "Not yet measured."


def performance():
    report = next((report for report in records_beside() if "network" in report), None)
    if report is None:
        return "Not yet measured."
    return (f"{bench_tables.network(report, batches_only=True)}\n\n{bench_tables.machine(report)} More, and how it was measured: [docs/benchmarks.md](docs/benchmarks.md). "
            "GPU: not yet measured; `--device cuda` is there, and has run on an emulated device only ([docs/cuda.md](docs/cuda.md)).")


def alone():
    speed = record("speed.json")
    return bench_tables.alone(speed) if speed else "Not yet measured."


def scale_rows(rows):
    """The sizes that were asked for; where a way stopped before one, its largest size before the line that says why."""
    shown = []
    for row in rows:
        same_way = [other for other in rows if (other["task"], other["way"]) == (row["task"], row["way"])]
        largest = [other for other in same_way if "ratio" in other][-1:]
        stopped = any(other["target"] and "stopped" in other for other in same_way)
        if row["target"] or (stopped and largest == [row]):
            shown.append(row)
    return shown


def scale_line(row):
    ours, size = row["reid"], " x ".join(f"{n:,}" for n in row["size"])
    cells = [f"{row['task']}: {row['title']}", size, row["way_title"], f"{ours['seconds']:.1f}"]
    if "stopped" in row:
        cells += [row["stopped"], "", f"{ours['peak_mib']:,.0f}", "", "", ""]
    else:
        theirs, ratio = row["python"], row["ratio"]
        cells += [f"{theirs['seconds']:.1f}", f"{ratio['seconds']:.1f}", f"{ours['peak_mib']:,.0f}", f"{theirs['peak_mib']:,.0f}",
                  f"{ratio['peak_mib']:.1f}", row["comparison"]]
    return "| " + " | ".join(cells) + " |"


def scale():
    measured = record("scale.json")
    if measured is None:
        return "Not yet measured."
    lines = ["| task | size | beside | reid.cpp, s | it, s | times faster | reid.cpp, MiB | it, MiB | times smaller | results |", "|" + "---|" * 10]
    lines += [scale_line(row) for row in scale_rows(measured["rows"])]
    lines += ["", "| task | beside | bar, times faster | expected faster | expected smaller | because |", "|" + "---|" * 6]
    for p in measured["predicted"]:
        titles = [row["way_title"] for row in measured["rows"] if (row["task"], row["way"]) == (p["task"], p["way"])]
        if titles:
            lines.append(f"| {p['task']} | {titles[0]} | {p['bar']:g} | {p['faster']:g} | {p['smaller']:g} | {p['reason']} |")
    versions = measured["versions"]
    packages = ", ".join(f"{name} {versions[name]}" for name in ("numpy", "scikit-learn", "faiss-cpu", "pyppbox-torchreid"))
    whole = any(row["reid_seconds"] != "reported" for row in measured["rows"])
    lines += ["", f"{measured['threads']} threads of {measured['cpu']}, {measured['memory_gib']:.0f} GiB; load {measured['load_before']:.1f} before the start; "
              f"{packages}; OpenBLAS core type: {measured['openblas_coretype']}. Medians; every run is in `bench/scale.json`."
              + (" Seconds of reid.cpp include its start and reading the files where it does not report its own." if whole else "")]
    return "\n".join(lines)


def mean_and_spread(values):
    return f"{100 * statistics.mean(values):.1f} ± {100 * statistics.stdev(values):.1f}"


def methods():
    measured = record("methods.json")
    if measured is None:
        return "Not yet measured."
    figures = [(domain, key, title) for domain in ("source", "target") for key, title in (("mAP", "mAP"), ("rank1", "Rank-1"))]
    lines = ["| method | epoch | " + " | ".join(f"{domain} {title}" for domain, _, title in figures) + " |", "|---|---|" + "---|" * len(figures)]
    for method, runs in measured["methods"].items():
        chosen = [("last", [run["results"] for run in runs])]
        if all("best" in run for run in runs):
            epochs = ", ".join(str(run["best"]["epoch"]) for run in runs)
            chosen.append((f"{epochs}: best by the labels of {runs[0]['best']['chosen_by_labels_of']}", [run["best"]["results"] for run in runs]))
        for epoch, results in chosen:
            cells = [mean_and_spread([result[domain][key] for result in results]) for domain, key, _ in figures]
            lines.append(f"| {method} | {epoch} | " + " | ".join(cells) + " |")
    seeds = ", ".join(str(run["seed"]) for run in next(iter(measured["methods"].values())))
    lines += ["", f"Percent; mean and standard deviation over seeds {seeds}; the synthetic world's `demo` preset, `configs/demo-METHOD.toml` "
              "(`tools/measure_methods.py`). Recipes without identities go on from `start`, a short supervised run on the validation domain's "
              "20 people, and train on the source without its identities. Source: people not trained on, under cameras that were; target: people, "
              "cameras, clothes and light never seen. Synthetic data; says nothing about real benchmarks.", ""]

    phases = ("extraction", "clustering", "training", "evaluation")
    lines += ["| seconds of a run | " + " | ".join(phases) + " |", "|---|" + "---|" * len(phases)]
    for method, runs in measured["methods"].items():
        cells = [f"{min(run['seconds'][phase] for run in runs):.1f}" for phase in phases]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    lines += ["", f"The least of the seeds, on {measured['device']}, {measured['date']}. Clustering is all that precedes an epoch's steps but extraction.", ""]

    for method, runs in measured["methods"].items():
        if "epochs" not in runs[0]:
            continue
        epochs = list(zip(*(run["epochs"] for run in runs)))
        lines += [f"`{method}`, epoch by epoch, means over the seeds:", "", "| | " + " | ".join(str(e + 1) for e in range(len(epochs))) + " |",
                  "|---|" + "---|" * len(epochs)]
        for key, title in (("clusters", "clusters"), ("noise", "noise, %"), ("purity", "purity, %"), ("v_measure", "V-measure, %"),
                           ("agreement", "cross agreement, %")):
            if key in runs[0]["epochs"][0]:
                factor = 1 if key == "clusters" else 100
                lines.append(f"| {title} | " + " | ".join(f"{factor * statistics.mean(run[key] for run in e):.0f}" for e in epochs) + " |")
        lines.append("")
    return "\n".join(lines).rstrip()


def precision():
    measured = record("precision.json")
    if measured is None:
        return "Not yet measured."
    runs = measured["runs"]
    OTHER_FILES["docs/precision.svg"] = (curves.draw({name: [run["loss"] for run in of] for name, of in runs.items()}, "epoch", "mean loss"))
    figures = [(domain, key, title) for domain in ("source", "target") for key, title in (("mAP", "mAP"), ("rank1", "Rank-1"))]
    lines = ["![Loss of each epoch in f32 and bf16](precision.svg)", "",
             "| precision | " + " | ".join(f"{domain} {title}" for domain, _, title in figures) + " | loss of the first, sixth, last epoch |", "|---|" + "---|" * 5]
    for name, of in runs.items():
        cells = [mean_and_spread([run["results"][domain][key] for run in of]) for domain, key, _ in figures]
        losses = [statistics.mean(run["loss"][epoch] for run in of) for epoch in (0, 5, -1)]
        lines.append(f"| {name} | " + " | ".join(cells) + " | " + ", ".join(f"{loss:.2f}" for loss in losses) + " |")
    seeds = ", ".join(str(run["seed"]) for run in runs["f32"])
    lines += ["", f"`configs/demo.toml` on the world of `make demo`, seeds {seeds} (`tools/measure_precision.py`); percent, mean and standard deviation; bands of the "
              f"drawing: least and largest. {measured['machine']}, {measured['date']}. Synthetic data; says nothing about real benchmarks."]
    return "\n".join(lines)


OTHER_FILES = {}  # what tables refer to: filled by them
TABLES = {"README.md": (("results", results), ("performance", performance)), "docs/scale.md": (("scale", scale),),
          "docs/kernels.md": (("progressions", kernel_tables.progressions),),
          "docs/methods.md": (("methods", methods),),
          "docs/benchmarks.md": (("machine", machine), ("network", beside("network")), ("layers", beside("layers")),
                                 ("gemm", beside("gemm")), ("loader", beside("loader")), ("alone", alone), ("precision", precision))}


def pages():
    """{file: what it should hold}"""
    for name, tables in TABLES.items():
        text = (ROOT / name).read_text()
        for marker, table in tables:
            pattern = rf"(<!-- {marker}:begin -->\n).*?(<!-- {marker}:end -->)"
            text, count = re.subn(pattern, lambda match: match.group(1) + table() + "\n" + match.group(2), text, flags=re.S)
            if count != 1:
                sys.exit(f"{name}: expected one pair of <!-- {marker}:begin/end --> markers, found {count}")
        yield name, text
    yield from OTHER_FILES.items()


def main():
    if sys.argv[1:] not in ([], ["--check"]):
        sys.exit(__doc__)
    stale = {name: text for name, text in pages() if not (ROOT / name).exists() or (ROOT / name).read_text() != text}
    if sys.argv[1:] and stale:
        sys.exit(f"{', '.join(stale)}: not what the records say; run tools/readme_tables.py")
    for name, text in stale.items():
        (ROOT / name).write_text(text)


if __name__ == "__main__":
    main()
