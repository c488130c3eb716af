#!/usr/bin/env python3
"""Golden numbers: what PyTorch computes on the CPU in float64, for the tests to compare with.

    python tools/golden.py FILE ...    write data/golden/FILE.safetensors (ops, rows, losses, networks...)
    python tools/golden.py --check     verify that the manifest describes the files and the scripts as they are (needs no torch)

Every case of a file has a prefix: `conv_stride2/x`. Numbers without a tensor nature (strides, temperatures) are f64 scalars of
the same prefix. Activations are NHWC and filters [K, R, S, C], as in the engine; parameters of networks keep torchvision's names
and layout. Files are committed and only ever written by asking for them by name; data/golden/manifest.json says what made each.
"""

import hashlib
import importlib
import json
import pathlib
import sys

try:
    import torch
    from safetensors.torch import save_file
except ImportError:  # enough for --check
    torch = None

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = ROOT / "data" / "golden"
MANIFEST = FOLDER / "manifest.json"


def generator(name):
    """A random stream that belongs to the case's name, so that cases can be added without moving others."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "big")
    return torch.Generator().manual_seed(seed)


class Case:
    """The tensors of one case, under a common prefix."""

    def __init__(self, book, name):
        assert f"{name}/" not in book.prefixes, name
        book.prefixes.add(f"{name}/")
        self.book, self.name, self.random = book, name, generator(name)

    def normal(self, *shape, scale=1.0):
        return torch.randn(*shape, generator=self.random, dtype=torch.float64) * scale

    def uniform(self, *shape, low=0.0, high=1.0):
        return low + (high - low) * torch.rand(*shape, generator=self.random, dtype=torch.float64)

    def integers(self, low, high, *shape):
        return torch.randint(low, high, shape, generator=self.random)

    def put(self, **tensors):
        for key, value in tensors.items():
            if not torch.is_tensor(value):
                value = torch.tensor(float(value), dtype=torch.float64)
            if value.dtype == torch.float64:
                assert torch.isfinite(value).all(), (self.name, key)
            # A copy: safetensors refuses tensors that share storage.
            self.book.tensors[f"{self.name}/{key}"] = value.detach().clone().contiguous()
        return self


class Book:
    def __init__(self):
        self.tensors, self.prefixes = {}, set()

    def case(self, name):
        return Case(self, name)


def nhwc(x):
    """[N, C, H, W] -> [N, H, W, C], and [K, C, R, S] -> [K, R, S, C]."""
    return x.permute(0, 2, 3, 1)


def leaf(x):
    return x.detach().clone().requires_grad_(True)


UNSUPERVISED = ["golden_unsupervised.py", "golden_metric.py", "golden_networks.py", "golden_losses.py"]

# What writes each file: a function of the first script; the others are imported by it.
WRITERS = {
    "ops": ("ops", ["golden_ops.py"]),
    "rows": ("rows", ["golden_ops.py"]),
    "optimizers": ("optimizers", ["golden_ops.py"]),
    "losses": ("losses", ["golden_losses.py"]),
    "resnet18": ("resnet18", ["golden_networks.py"]),
    "resnet18_ibn_b": ("resnet18_ibn_b", ["golden_networks.py"]),
    "resnet50_ibn_a": ("resnet50_ibn_a", ["golden_networks.py"]),
    "resnet50_ibn_a_gradients": ("resnet50_ibn_a_gradients", ["golden_networks.py"]),
    "trajectory": ("trajectory", ["golden_networks.py", "golden_losses.py"]),
    "metric_losses": ("metric_losses", ["golden_metric.py", "golden_networks.py", "golden_losses.py"]),
    "non_local": ("non_local", ["golden_metric.py", "golden_networks.py", "golden_losses.py"]),
    "trajectory_strong_baseline": ("trajectory_strong_baseline", ["golden_metric.py", "golden_networks.py", "golden_losses.py"]),
    "trajectory_sbs": ("trajectory_sbs", ["golden_metric.py", "golden_networks.py", "golden_losses.py"]),
    "clusters": ("clusters", UNSUPERVISED),
    "trajectory_cluster_contrast": ("trajectory_cluster_contrast", UNSUPERVISED),
    "trajectory_pplr": ("trajectory_pplr", UNSUPERVISED),
}


def sha256(*paths):
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def script_hash(scripts):
    return sha256(*[pathlib.Path(__file__).resolve().parent / script for script in scripts])


def write(name):
    function, scripts = WRITERS[name]
    book = Book()
    getattr(importlib.import_module(scripts[0].removesuffix(".py")), function)(book)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.safetensors"
    save_file(book.tensors, str(path))
    path.chmod(0o644)
    manifest = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
    manifest[path.name] = {
        "sha256": sha256(path),
        "scripts": ["golden.py"] + scripts,
        "scripts_sha256": script_hash(["golden.py"] + scripts),
        "torch": torch.__version__.split("+")[0],
        "tensors": len(book.tensors),
    }
    MANIFEST.write_text(json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")
    print(f"{path.relative_to(ROOT)}: {len(book.prefixes)} cases, {path.stat().st_size / 1e3:.0f} kB")


def check():
    manifest, wrong = json.loads(MANIFEST.read_text()), []
    present = {path.name for path in FOLDER.glob("*.safetensors")}
    wrong += [f"{name}: in the manifest, but there is no such file" for name in sorted(set(manifest) - present)]
    for name in sorted(present):
        entry = manifest.get(name)
        if entry is None:
            wrong.append(f"{name}: not in the manifest")
            continue
        if entry["sha256"] != sha256(FOLDER / name):
            wrong.append(f"{name}: the file is not the one the manifest describes")
        for other, digest in entry.get("files", {}).items():
            if not (FOLDER / other).exists() or sha256(FOLDER / other) != digest:
                wrong.append(f"{other}: missing, or not the file that the manifest describes")
        if entry["scripts_sha256"] != script_hash(entry["scripts"]):
            wrong.append(f"{name}: {', '.join(entry['scripts'])} changed since the file was written")
    print("\n".join(wrong) if wrong else f"{len(present)} files match the manifest")
    return 1 if wrong else 0


def main(words):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    if words == ["--check"]:
        return check()
    unknown = [word for word in words if word not in WRITERS]
    if not words or unknown:
        print(__doc__)
        print(f"files: {', '.join(WRITERS)}", file=sys.stderr)
        return 2
    if torch is None:
        print("writing goldens needs torch and safetensors: pip install torch safetensors", file=sys.stderr)
        return 1
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for word in words:
        write(word)
    return 0


if __name__ == "__main__":
    # The writers import this file by name: let them find the running one.
    sys.modules.setdefault("golden", sys.modules["__main__"])
    sys.exit(main(sys.argv[1:]))
