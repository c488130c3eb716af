#!/usr/bin/env python3
"""Golden numbers: what PyTorch computes on the CPU in float64, for the tests to compare with.

    python tools/golden.py FILE ...    write data/golden/FILE.safetensors (ops, rows, losses, networks...)
    python tools/golden.py --check     verify that the manifest describes the files and the scripts as they are

Every case of a file has a prefix: `conv_stride2/x`. Numbers without a tensor nature (strides, temperatures) are f64 scalars of
the same prefix. Activations are NHWC and filters [K, R, S, C], as in the engine; parameters of networks keep torchvision's names
and layout. Files are committed and only ever written by asking for them by name; data/golden/manifest.json says what made each.
"""

import hashlib
import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

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


def writers():
    import golden_losses
    import golden_networks
    import golden_ops

    return {
        "ops": (golden_ops.ops, ["golden_ops.py"]),
        "rows": (golden_ops.rows, ["golden_ops.py"]),
        "optimizers": (golden_ops.optimizers, ["golden_ops.py"]),
        "losses": (golden_losses.losses, ["golden_losses.py"]),
        "resnet18": (golden_networks.resnet18, ["golden_networks.py"]),
        "resnet18_ibn_b": (golden_networks.resnet18_ibn_b, ["golden_networks.py"]),
        "resnet50_ibn_a": (golden_networks.resnet50_ibn_a, ["golden_networks.py"]),
        "resnet50_ibn_a_gradients": (golden_networks.resnet50_ibn_a_gradients, ["golden_networks.py"]),
        "trajectory": (golden_networks.trajectory, ["golden_networks.py", "golden_losses.py"]),
    }


def sha256(*paths):
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()


def script_hash(scripts):
    here = pathlib.Path(__file__).resolve()
    return sha256(here, *[here.parent / script for script in scripts])


def write(name, make, scripts):
    book = Book()
    make(book)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.safetensors"
    save_file(book.tensors, str(path))
    path.chmod(0o644)
    manifest = json.loads(MANIFEST.read_text()) if MANIFEST.exists() else {}
    manifest[path.name] = {
        "sha256": sha256(path),
        "scripts": ["golden.py"] + scripts,
        "scripts_sha256": script_hash(scripts),
        "torch": torch.__version__.split("+")[0],
        "tensors": len(book.tensors),
    }
    MANIFEST.write_text(json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")
    print(f"{path.relative_to(ROOT)}: {len(book.prefixes)} cases, {path.stat().st_size / 1e3:.0f} kB")


def check(table):
    manifest, wrong = json.loads(MANIFEST.read_text()), []
    for name, (_, scripts) in table.items():
        entry = manifest.get(f"{name}.safetensors")
        if entry is None:
            wrong.append(f"{name}: not in the manifest")
            continue
        if entry["sha256"] != sha256(FOLDER / f"{name}.safetensors"):
            wrong.append(f"{name}: the file is not the one the manifest describes")
        if entry["scripts_sha256"] != script_hash(scripts):
            wrong.append(f"{name}: {', '.join(entry['scripts'])} changed since the file was written")
    print("\n".join(wrong) if wrong else f"{len(table)} files match the manifest")
    return 1 if wrong else 0


def main(words):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    table = writers()
    if words == ["--check"]:
        return check(table)
    unknown = [word for word in words if word not in table]
    if not words or unknown:
        print(__doc__)
        print(f"files: {', '.join(table)}", file=sys.stderr)
        return 2
    for word in words:
        write(word, *table[word])
    return 0


if __name__ == "__main__":
    # The writers import this file by name: let them find the running one.
    sys.modules.setdefault("golden", sys.modules["__main__"])
    sys.exit(main(sys.argv[1:]))
