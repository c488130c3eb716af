#!/usr/bin/env python3
"""The short table of tools/gpu_check.sh: what `reid bench` measured on a GPU, beside cuDNN, cuBLASLt and PyTorch where they were measured.

Usage: tools/gpu_tables.py FOLDER      reads the JSON files there (what is absent is left out), writes FOLDER/table.md.
"""

import json
import math
import sys
from pathlib import Path

from bench_tables import table


class Records:
    def __init__(self, folder):
        self.folder = Path(folder)

    def get(self, name):
        """A record, or {} where its step was skipped, cut or failed."""
        file = self.folder / f"{name}.json"
        try:
            return json.loads(file.read_text()) if file.exists() else {}
        except json.JSONDecodeError:  # of a step that was killed while it wrote
            return {}


def measured(entry):
    """PyTorch's entry, or {} where it says why there is none."""
    return entry if isinstance(entry, dict) else {}


def ratio(ours, theirs):
    return f"{ours / theirs:.2f}" if ours and theirs else ""


def rate(value):
    return f"{value:,.0f}" if value else ""


def ceilings(records):
    machine, torch = records.get("machine"), measured(records.get("torch").get("ceilings"))
    if not machine:
        return None
    rows = [["copy, GB/s", rate(machine["peak"]["copy"]["gigabytes_per_second"]), rate(torch.get("copy_GB/s"))]]
    for key, title in (("peak", "f32"), ("peak_bf16", "bf16")):
        product = torch.get(f"matmul_8192_{'bfloat16' if title == 'bf16' else 'float32'}_TFLOP/s")
        rows.append([f"{title}, TFLOP/s ({machine[key]['implementation']})", f"{machine[key]['gflops'] / 1e3:.1f}", f"{product:.1f}" if product else ""])
    return "Ceilings; PyTorch's of a product of 8192 cubed, in f32 perhaps with TF32.\n\n" + table(["ceiling", "reid.cpp", "PyTorch"], rows)


def networks(records):
    torch, compiled, rows = records.get("torch"), records.get("torch_compiled"), []
    for batch in (64, 128, 256):
        ours = records.get(f"network_bf16_{batch}").get("training", {}).get("images_per_second")
        theirs = [measured(report.get(f"train_{variant}_b{batch}_bfloat16_ibn")).get("images_per_s")
                  for report, variant in ((torch, "eager"), (torch, "graph"), (compiled, "compile"))]
        rows.append([f"training, batch {batch}", rate(ours)] + [cell for t in theirs for cell in (rate(t), ratio(ours, t))])
    overlapping = records.get("network_overlap_bf16_64").get("training", {}).get("images_per_second")
    rows.append(["training, batch 64, launches overlap", rate(overlapping)] + [""] * 6)
    vendors = records.get("network_vendors_bf16_128").get("training", {}).get("images_per_second")
    rows.append(["training, batch 128, convolutions and products by the vendors", rate(vendors)] + [""] * 6)
    narrow = records.get("network_bf16_128_stride2").get("training", {}).get("images_per_second")
    rows.append(["training, batch 128, last stride 2", rate(narrow)] + [""] * 6)
    ours = records.get("network_bf16_256").get("inference", {}).get("images_per_second")
    theirs = [measured(report.get("infer_bfloat16")) for report in (torch, compiled)]
    eager, compile_ = (t.get("images_per_s") for t in theirs)
    rows.append(["inference, batch 256", rate(ours), rate(eager), ratio(ours, eager), "", "", rate(compile_), ratio(ours, compile_)])
    if not any(row[1] for row in rows):
        return None
    return ("ResNet-50-IBN-a, 256x128, last stride 1, bf16: images a second, and how many times faster reid.cpp is. The vendors: cuDNN and cuBLASLt, the fastest of\n"
            "the first two acceptable offers each time; cuDNN takes batch norm's statistics and adds gradients within its convolutions where it has engines for\n"
            "that, faster or not.\n\n"
            + table(["", "reid.cpp", "PyTorch eager", "times", "in a CUDA graph", "times", "compiled", "times"], rows))


def costs(records):
    rows = []
    for batch in (64, 128, 256):
        ours = records.get(f"network_bf16_{batch}")
        if "first_step_seconds" not in ours:
            continue
        times = ours["training"]["times"]
        rows.append([f"{batch}", f"{1e3 * times['median']:.2f} ({1e3 * times['least']:.2f} to {1e3 * times['most']:.2f})", f"{ours['first_step_seconds']:.2f}",
                     f"{ours['training']['processors']:.1f}", f"{ours['peak_bytes'] / 2**30:.1f}", f"{ours.get('replayed_steps', '')} as {ours.get('graphs', '')}"])
    if not rows:
        return None
    return ("What a training step costs, bf16; the first step counts from the program's beginning to draw weights and images.\n\n"
            + table(["batch", "ms (least to most)", "first step after, s", "processors kept busy", "peak, GiB", "steps replayed, as graphs"], rows))


def median_of(cell):
    return cell.get("times", {}).get("median")


def mean_and_least(pairs):
    """Of their time over ours, where both are there: the geometric mean with the number of shapes, and the least."""
    ratios = [theirs / ours for ours, theirs in pairs if ours and theirs]
    mean = math.exp(sum(math.log(r) for r in ratios) / len(ratios)) if ratios else None
    return [f"{mean:.2f} ({len(ratios)})", f"{min(ratios):.2f}"] if ratios else ["", ""]


def convolutions(records):
    rows = []
    for batch in (64, 128, 256):
        ours, cudnn = records.get(f"layers_bf16_{batch}"), records.get(f"layers_cudnn_bf16_{batch}")
        torch = records.get("torch").get(f"layers_b{batch}")  # shapes in the network's order, as ours
        in_order = torch if isinstance(torch, list) and [r["count"] for r in torch] == [r["count"] for r in ours.get("rows", [])] else []
        for key, title, theirs in (("forward", "forward", "forward_us"), ("data", "data gradient", "dgrad_us"), ("weight", "weight gradient", "wgrad_us")):
            if not ours:
                continue
            total = ours["sums"]["all"].get(key)  # None: not one of them could be measured
            if not total:
                continue
            by_name = {row["name"]: row[key] for row in cudnn.get("rows", [])}
            rows.append([f"{title}, batch {batch}", f"{1e3 * total['median']:.3f}", f"{100 * total['share_of_floor']:.0f} %"]
                        + mean_and_least([(median_of(row[key]), median_of(by_name.get(row["name"], {}))) for row in ours["rows"]])
                        + mean_and_least([(median_of(row[key]), 1e-6 * other[theirs]) for row, other in zip(ours["rows"], in_order)]))
    if not rows:
        return None
    return ("All convolutions of a step, bf16: summed, of the floor, and how many times faster than cuDNN (geometric mean of so many shapes, least): with the fastest\n"
            "of the first eight acceptable engines it offers, all deterministic, and with the fastest of all, which PyTorch finds (cudnn.benchmark).\n\n"
            + table(["", "ms", "of the floor", "cuDNN's time / ours", "least", "PyTorch's time / ours", "least"], rows))


def products(records):
    theirs = {(r["m"], r["n"], r["k"]): r for r in records.get("gemm_cublaslt_bf16").get("rows", [])}
    rows = []
    for r in records.get("gemm_bf16").get("rows", []):
        if "times" not in r:
            continue
        other = theirs.get((r["m"], r["n"], r["k"]), {})
        rows.append([f"{r['m']} x {r['n']} x {r['k']}", f"{r['gflops'] / 1e3:.0f}", f"{other['gflops'] / 1e3:.0f}" if "times" in other else "",
                     ratio(r["gflops"], other.get("gflops"))])
    return "Products, bf16, TFLOP/s; cuBLASLt's by the fastest of the first eight acceptable algorithms it offers.\n\n" + table(["M x N x K", "reid.cpp", "cuBLASLt", "times"], rows) if rows else None


def norms(records):
    """Norms with what follows them; ours of a forward pass are statistics and apply, which IBN has as one."""
    ours = {r["name"]: r["times"]["median"] for r in records.get("ops_bf16_64").get("rows", []) if "times" in r}
    theirs = {(r["name"], r["form"]): r["median"] for r in records.get("torch_norms").get("rows", [])}
    rows, ratios = [], {}
    for name in dict.fromkeys(n for n, _ in theirs):
        for form in ("ReLU", "residual, ReLU"):
            statistics_ = 0 if name.startswith("IBN") else ours.get(f"{name}: statistics")
            apply = ours.get(f"{name}: statistics and apply, {form}" if name.startswith("IBN") else f"{name}: apply, {form}")
            backward = ours.get(f"{name}: backward, {form}")
            if statistics_ is None or not apply or not backward or (name, f"backward, {form}") not in theirs:
                continue
            pairs = [(statistics_ + apply, theirs[name, f"forward, {form}"]), (backward, theirs[name, f"backward, {form}"])]
            rows.append([f"{name}, {form}"] + [cell for own, other in pairs for cell in (f"{1e6 * own:.1f}", f"{1e6 * other:.1f}", ratio(other, own))])
            ratios.setdefault("IBN" if name.startswith("IBN") else " ".join(name.split(" ")[:2]), []).extend(pairs)
    if not rows:
        return None
    means = "; ".join("{}: {}, least {}".format(kind, *mean_and_least(pairs)) for kind, pairs in ratios.items())
    return ("Norms with what follows them, batch 64, bf16, us: statistics and normalization, then gradients. In a training step convolutions take most statistics on their way.\n"
            f"PyTorch's time over ours, geometric mean (of so many times). {means}.\n\n"
            + table(["", "forward", "PyTorch", "times", "backward", "PyTorch", "times"], rows))


def passes(records):
    rows = [[r["name"], f"{1e6 * r['times']['median']:.1f}", f"{r['gigabytes_per_second']:,.0f}", f"{100 * r['share_of_floor']:.0f} %"]
            for r in records.get("ops_bf16_64").get("rows", []) if "times" in r]
    if not rows:
        return None
    return "Norms, pools, losses, optimizers; batch 64, maps in bf16.\n\n" + table(["op", "us", "GB/s", "of the floor"], rows)


def searches(records):
    cpu = {r["name"]: r["median"] for r in records.get("search_market1501_cpu").get("rows", [])}
    rows = [[r["name"], f"{1e3 * r['median']:.1f}", f"{1e3 * cpu[r['name']]:.0f}" if r["name"] in cpu else "",
             ratio(cpu.get(r["name"]), r["median"]), r["found"]]
            for scale in ("market1501", "msmt17", "large", "million") for r in records.get(f"search_{scale}").get("rows", [])]
    if not rows:
        return None
    return ("Searches among rows of 2048, features on the host, ms.\n\n"
            + table(["", "with the GPU", "this machine's CPU alone", "times", "found"], rows))


def epochs(records):
    times, images = records.get("train/times"), [c["train"]["images"] for c in records.get("train/manifest").get("data", {}).values()]
    if len(times.get("epochs", [])) < 2 or not images:
        return None
    lines = (records.folder / "train/metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines if '"kind": "epoch"' in line][1]
    second, evaluation = times["epochs"][1], times["evaluation"]
    parts = [second[part] for part in ("extraction", "clustering", "training", "checkpoints")]
    minutes = [f"{round(s) // 60}:{round(s) % 60:02}" for s in (50 * sum(parts), 50 * sum(parts) + 5 * evaluation)]
    row = [f"{part:.2f}" for part in parts + [sum(parts)]] + [rate(second["images"] / second["training"]), minutes[0]]
    return (f"Cluster Contrast, {images[0]:,} drawn images, ResNet-50-IBN-a, 256x128, bf16, weights of 400 supervised steps: the second epoch, "
            f"{second['images']:,.0f} images in steps,\n{found['clusters']:.0f} clusters, {100 * found['noise']:.0f} % noise. Measured: seconds of "
            "that epoch and of one evaluation. Calculated: 50 such epochs, minutes:seconds, and with 5 such evaluations.\n"
            "Published, of another machine: 2:44:06 hours for 50 epochs of 400 x 256 of Market-1501 on four RTX 2080 Ti (log and README of alice-hu/cluster-contrast-reid).\n\n"
            + table(["extraction", "clustering", "training", "checkpoint", "epoch", "images a second in training", "50 epochs", "evaluation",
                     "with 5 evaluations"], [row + ([f"{evaluation:.2f}", minutes[1]] if evaluation else ["", ""])]))


def main():
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit(__doc__)
    records = Records(sys.argv[1])
    parts = [part for part in (write(records) for write in (ceilings, networks, costs, convolutions, products, norms, searches, epochs, passes)) if part]
    (records.folder / "table.md").write_text("\n\n".join(parts) + "\n")
    print(f"{len(parts)} tables in {records.folder / 'table.md'}" if parts else "nothing was measured")


if __name__ == "__main__":
    main()
