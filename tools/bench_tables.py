"""Tables of what `reid bench all --json` (bench/speed.json) and tools/compare_torch.py (bench/torch*.json) measured, as Markdown."""

PASSES = {"forward": "forward", "data": "data gradient", "weight": "weight gradient", "all": "all three"}
NETWORK = {"training": "training", "inference": "inference", "single": "inference, one image"}
NAMES = {"reid": "reid.cpp", "default": "PyTorch", "tuned": "PyTorch tuned"}


def table(heading, rows):
    return "\n".join("| " + " | ".join(line) + " |" for line in [heading, ["---"] * len(heading), *rows])


def percent(share):
    return f"{100 * share:.0f} %"


def times(ratio):
    return f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})"


# --- beside others: bench/torch*.json ---


def machine(report):
    v, d = report["versions"], report["disturbance"]
    text = (f"{report['threads']} threads of {report['cpu']}, {report['memory_gib']:.0f} GiB, {report['date']}{', a quick run' if report['quick'] else ''}; "
            f"PyTorch {v['torch']} with oneDNN {v['onednn']}, torchvision {v['torchvision']}, Pillow {v['pillow']}")
    if "openblas" in v:
        text += f", OpenBLAS {v['openblas']} ({v['openblas_architecture']}, {v['openblas_threads']} threads)"
    if not report["has_bf16"]:
        text += "; the processor has no bf16, which PyTorch then computes by way of f32"
    elif isinstance(report["has_bf16"], str):
        text += f"; the processor multiplies bf16 by {report['has_bf16']}, and both sides do"
    return text + (f". While it ran, other programs used {d['others_percent']:.0f} % of the processors and the host took {d['stolen_percent']:.0f} %; "
                   f"load {d['load_before']:.1f} before the start.")


def network(report, batches_only=False):
    part, rows = report["network"], []
    for what, title in NETWORK.items():
        for name, entry in part[what].items():
            side, dtype = name.split()
            if (dtype == "f32,strict" and what != "training") or (batches_only and what == list(NETWORK)[-1]):
                continue
            seconds, images = entry["seconds"], entry["images_per_second"] * entry["seconds"]["median"]
            rows.append([f"{title}: {NAMES[side]} {dtype.replace(',', ', ')}", f"{entry['images_per_second']:.2f}",
                         f"{images / seconds['most']:.2f} to {images / seconds['least']:.2f}",
                         percent(entry["share_of_peak"]),
                         (f"{times(entry['faster'])} {entry['beside'].split()[1]}"
                          + (f"; {times(entry['faster_strict'])} strict" if "faster_strict" in entry else "")) if "faster" in entry else ""])
    size = "x".join(str(n) for n in part["size"])
    return (f"ResNet-50-IBN-a, {size}, last stride 1, batch {part['batch']}; training is forward, softmax over 1,000 centroids, backward, Adam; "
            f"peak {part['peak_gflops']:.0f} GFLOP/s f32.\n\n"
            + table(["images/s", "median", "spread", "of the peak", "reid.cpp is faster by"], rows))


def layers(report):
    out = []
    for dtype, part in report["layers"].items():
        rows = []
        for kind, sums in sorted(part["sums"].items(), key=lambda item: (item[0] == "all", item[0])):
            for name, title in PASSES.items():
                if name in sums and (name != "all" or kind == "all"):
                    s = sums[name]
                    rows.append([f"{kind.replace('/', ', stride ')}: {title}", f"{1e3 * s['reid']['median']:.0f}", percent(s["reid"]["share_of_peak"]),
                                 f"{1e3 * s['other']['median']:.0f}", percent(s["other"]["share_of_peak"]), times(s["faster"])])
        out.append(f"Convolutions of that network, summed, batch {part['batch']}, {dtype}; peak {part['peak_gflops']:.0f} GFLOP/s f32.\n\n"
                   + table(["convolutions", "reid.cpp, ms", "of the peak", f"oneDNN {report['versions']['onednn']}, ms", "of the peak",
                            "reid.cpp is faster by"], rows))
        rows = [[f"{r['count']} x {r['name']}", f"{r['in']} to {r['out']}, {r['kind']}, {r['height']}x{r['width']}"]
                + [f"{r['gflop'] / r[name]['reid']['median']:.0f}, {r[name]['faster']['median']:.2f}" if name in r else ""
                   for name in ("forward", "data", "weight")] for r in part["rows"]]
        out.append(f"Each of them, {dtype}: GFLOP/s of reid.cpp, and how many times faster than oneDNN that is.\n\n"
                   + table(["layer", "channels, size/stride, input", "forward", "data gradient", "weight gradient"], rows))
    return "\n\n".join(out)


def gemm(report):
    out = []
    for dtype, part in report["gemm"].items():
        rows = [[f"{r['m']} x {r['n']} x {r['k']}", *(cell for side in ("reid", "strict", "other") for cell in
                                                      (f"{1e3 * r[side]['median']:.1f}", percent(r[side]["share_of_peak"]))),
                 times(r["faster"]), times(r["faster_strict"])] for r in part["rows"]]
        out.append(f"Products [M, K] x [K, N], {dtype}, by any fixed sums and strict; peak {part['peak_gflops']:.0f} GFLOP/s f32.\n\n"
                   + table(["M x N x K", "reid.cpp, ms", "of the peak", "strict, ms", "of the peak", "OpenBLAS, ms", "of the peak",
                            "reid.cpp is faster by", "strict"], rows))
    return "\n\n".join(out)


def loader(report):
    part, rows = report["loader"], []
    titles = {"decode": "decoding", "augment": "decoding, the baseline's augmentation", "remix": "decoding, ReMix's augmentation"}
    for row in part["rows"]:
        for what, title in titles.items():
            both = row[what]
            rows.append([f"{row['name']}, {row['bytes'] / 1e3:.1f} kB: {title}", f"{1e6 * both['reid']['median']:.0f}",
                         f"{1e6 * both['other']['median']:.0f}", times(both["faster"])])
    v = report["versions"]
    return (f"Microseconds of an image on one core: reid.cpp with {part['decoder']}, Pillow with {v['pillow_jpeg']}; images of the sizes of Market-1501's "
            f"and MSMT17's, drawn.\n\n" + table(["images", "reid.cpp", "Pillow, torchvision", "reid.cpp is faster by"], rows))


def everything(report):
    parts = {"network": network, "layers": layers, "gemm": gemm, "loader": loader}
    return "\n\n".join([part(report) for name, part in parts.items() if name in report] + [machine(report)])


# --- alone: bench/speed.json ---


def alone(speed):
    rows = []
    for part in speed["network"]:
        for what, title in NETWORK.items():
            rows.append([f"{title}, {part['dtype']}", f"{part[what]['images_per_second']:.2f} images/s", percent(part[what]["share_of_peak"])])
    for part in speed["layers"]:
        for name, title in PASSES.items():
            total = part["sums"]["all"][name]
            rows.append([f"convolutions, {title}, {part['dtype']}", f"{1e3 * total['median']:.0f} ms", percent(total["share_of_peak"])])
    for part in speed["gemm"]:
        for row in part["rows"]:
            rows.append([f"product {row['m']} x {row['n']} x {row['k']}, {part['dtype']}", f"{row['gflops']:.0f} GFLOP/s", percent(row["share_of_peak"])])
    for row in speed["loader"]["rows"]:
        for what, title in {"decode": "decoded", "augment": "decoded and augmented", "loader": "by the loader, two views"}.items():
            rows.append([f"{row['name']}: {title}, one thread", f"{row[what]['images_per_second']:.0f} images/s", ""])
    peak = speed["machine"]["peak"]
    return (table(["what", "rate", "of the peak"], rows) + f"\n\n{speed['device']}, {speed['threads']} threads, {speed['program']}; peak "
            f"{peak['gflops']:.0f} GFLOP/s f32 (median sample {peak['median']:.0f}).")
