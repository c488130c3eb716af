#!/usr/bin/env python3
"""Golden files in other programs' formats: what PyTorch and NumPy write, and the values that are in them.

    python tools/golden_weights.py      writes data/golden/weights/* and data/golden/weights.safetensors

The safetensors file has what every tensor of every file holds, under FILE/NAME. PyTorch no longer writes its oldest container; it is
put together here from its description in torch/serialization.py and read back by torch.load before it counts.
"""

import argparse
import collections
import io
import json
import pathlib
import pickle
import struct
import sys
import tarfile
import warnings
import zipfile

import numpy as np
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from golden import FOLDER, MANIFEST, script_hash, sha256  # noqa: E402

FILES = FOLDER / "weights"
VALUES = {}
RANDOM = torch.Generator().manual_seed(20)


def normal(*shape, dtype=torch.float32):
    return torch.randn(*shape, generator=RANDOM).to(dtype)


def expect(file, tensors):
    for name, value in tensors.items():
        value = torch.as_tensor(value)
        if value.dtype in (torch.float16, torch.bfloat16):
            value = value.float()
        elif value.dtype in (torch.int8, torch.int16):
            value = value.int()
        elif value.dtype == torch.bool:
            value = value.to(torch.uint8)
        VALUES[f"{file}/{name}"] = value.detach().clone().contiguous()


def save(file, value, stream=False, protocol=2):
    torch.save(value, FILES / file, _use_new_zipfile_serialization=not stream, pickle_protocol=protocol)


def every_kind():
    """All element types, views into a shared storage, strides, an expanded scalar, empty and zero-dimensional tensors."""
    base = normal(6, 5)
    tensors = {
        "float32": normal(3, 4), "float64": normal(2, 2, dtype=torch.float64), "float16": normal(5, dtype=torch.float16),
        "bfloat16": normal(5, dtype=torch.bfloat16), "int64": torch.tensor([-3, 2**40]), "int32": torch.tensor([7, -7], dtype=torch.int32),
        "int16": torch.tensor([-300, 300], dtype=torch.int16), "int8": torch.tensor([-100, 100], dtype=torch.int8),
        "uint8": torch.tensor([0, 255], dtype=torch.uint8), "bool": torch.tensor([True, False, True]),
        "half_extremes": torch.tensor([65504.0, 6e-8, -0.0, float("inf")], dtype=torch.float16),
        "whole": base, "row_range": base[2:4], "columns": base[:, 1:3], "transposed": base.t(), "stepped": base[::2, ::3],
        "expanded": torch.tensor([2.5]).expand(3, 2), "scalar": torch.tensor(4.0), "empty": torch.zeros(0, 3),
        "channels_last": normal(2, 3, 2, 2).to(memory_format=torch.channels_last),
    }
    return collections.OrderedDict(tensors)


def containers():
    for file, stream, protocol in (("kinds.pth", False, 2), ("kinds_protocol4.pth", False, 4), ("kinds_stream.pth", True, 2)):
        tensors = every_kind()
        save(file, tensors, stream, protocol)
        expect(file, tensors)


def checkpoint():
    """What a training script leaves: weights inside, an optimizer, plain values, and an object of a class of its own."""
    weight = torch.nn.Parameter(normal(4, 3))
    optimizer = torch.optim.Adam([weight])
    (weight ** 2).sum().backward()
    optimizer.step()
    state = {
        "state_dict": collections.OrderedDict([("module.weight", weight.detach()), ("module.bias", normal(4))]),
        "tied": weight, "epoch": 50, "best_mAP": 0.75, "arch": "resnet50", "resumed": False, "milestones": [40, 70],
        "optimizer": optimizer.state_dict(), "args": argparse.Namespace(lr=1e-3), "score": np.float64(0.5), "history": [{"loss": normal(2)}],
    }
    for file, stream in (("checkpoint.pth", False), ("checkpoint_stream.pth", True)):
        save(file, state, stream)
        expect(file, {"state_dict.module.weight": weight, "state_dict.module.bias": state["state_dict"]["module.bias"], "tied": weight,
                      "history.0.loss": state["history"][0]["loss"]})


def module():
    net = torch.nn.Sequential(collections.OrderedDict(conv1=torch.nn.Conv2d(3, 2, 3, bias=False), bn1=torch.nn.BatchNorm2d(2)))
    save("module.pth", net)
    expect("module.pth", net.state_dict())


def lone():
    tensor = normal(3)
    save("lone.pth", tensor)
    expect("lone.pth", {"tensor": tensor})


def tar():
    """Members `storages`, `tensors` and `pickle`, as PyTorch 0.1 wrote them."""
    tensors = {"conv1.weight": normal(2, 3), "view": None, "part": None, "fc.weight": normal(4, dtype=torch.float64)}
    tensors["view"] = tensors["conv1.weight"].t()[1:]
    tensors["part"] = tensors["conv1.weight"].flatten()[2:5][1:]  # the second element of a storage inside the first one
    storages, keys = io.BytesIO(), {}
    roots = [tensors["conv1.weight"], tensors["fc.weight"]]
    pickle.dump(len(roots), storages, protocol=2)
    for key, (root, kind) in enumerate(zip(roots, (torch.FloatStorage, torch.DoubleStorage)), start=100):
        pickle.dump((key, "cpu", kind), storages, protocol=2)
        storages.write(struct.pack("<q", root.numel()) + root.numpy().tobytes())
        keys[root.untyped_storage().data_ptr()] = key
    inside, inside_offset = 150, 2
    pickle.dump([(inside, 100, inside_offset, 3)], storages, protocol=2)
    parts = io.BytesIO()
    pickle.dump(len(tensors), parts, protocol=2)
    for number, (name, t) in enumerate(tensors.items(), start=200):
        kind = torch.FloatTensor if t.dtype == torch.float32 else torch.DoubleTensor
        key, offset = (inside, t.storage_offset() - inside_offset) if name == "part" else (keys[t.untyped_storage().data_ptr()], t.storage_offset())
        pickle.dump((number, key, kind), parts, protocol=2)
        parts.write(struct.pack(f"<ii{t.dim()}q{t.dim()}qq", t.dim(), 0, *t.shape, *t.stride(), offset))

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return str(value.number) if isinstance(value, Reference) else None

    class Reference:
        def __init__(self, number):
            self.number = number

    values = io.BytesIO()
    Pickler(values, protocol=2).dump(collections.OrderedDict((name, Reference(i)) for i, name in enumerate(tensors, start=200)))
    path = FILES / "oldest.pth.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in (("storages", storages), ("tensors", parts), ("pickle", values)):
            info = tarfile.TarInfo(name)
            info.size = len(content.getvalue())
            archive.addfile(info, io.BytesIO(content.getvalue()))
    back = torch.load(path, weights_only=False)
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    expect(path.name, tensors)


def stream_views():
    """A storage inside another, as PyTorch before 0.4 wrote it into the stream: the persistent id ends in (key, offset, count)."""
    root = normal(8)

    class Id:
        def __init__(self, view):
            self.id = ("storage", torch.FloatStorage, "1", "cpu", root.numel(), view)

    class Tensor:
        def __init__(self, view, offset, count):
            self.arguments = (Id(view), offset, (count,), (1,), False, collections.OrderedDict())

        def __reduce__(self):
            return torch._utils._rebuild_tensor_v2, self.arguments

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.id if isinstance(value, Id) else None

    path = FILES / "views_stream.pth"
    with path.open("wb") as out:
        pickle.dump(torch.serialization.MAGIC_NUMBER, out, protocol=2)
        pickle.dump(torch.serialization.PROTOCOL_VERSION, out, protocol=2)
        pickle.dump({"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}, out, protocol=2)
        Pickler(out, protocol=2).dump({"whole": Tensor(None, 0, 8), "inside": Tensor(("2", 3, 4), 1, 3)})
        pickle.dump(["1"], out, protocol=2)
        out.write(struct.pack("<q", root.numel()) + root.numpy().tobytes())
    tensors = {"whole": root, "inside": root[4:7]}
    back = torch.load(path, weights_only=False)
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)
    expect(path.name, tensors)


def repacked():
    """The zip container unpacked and deflated again by another tool, and one without checksums."""
    tensors = {"a": normal(40, 5), "b": torch.zeros(300)}
    torch.serialization.set_crc32_options(False)
    save("no_checksums.pth", tensors)
    torch.serialization.set_crc32_options(True)
    expect("no_checksums.pth", tensors)
    buffer = io.BytesIO()
    torch.save(tensors, buffer)
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(FILES / "deflated.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(zipfile.ZipInfo(name), old.read(name), compress_type=zipfile.ZIP_DEFLATED)
    expect("deflated.pth", tensors)


def numpy_files():
    rng = np.random.default_rng(20)
    arrays = {"features": rng.normal(size=(5, 3)).astype(np.float32), "ids": np.arange(5), "half": rng.normal(size=4).astype(np.float16),
              "fortran": np.asfortranarray(rng.normal(size=(2, 3, 4))), "flags": np.array([True, False]), "scalar": np.float64(2.5),
              "small": np.array([-5, 5], np.int8), "short": np.array([-500, 500], np.int16), "bytes": np.arange(3, dtype=np.uint8)}
    np.savez(FILES / "arrays.npz", names=np.array(["a", "b"]), **arrays)
    np.savez_compressed(FILES / "arrays_compressed.npz", **arrays)
    for file in ("arrays.npz", "arrays_compressed.npz"):
        expect(file, arrays)
    for name in ("features", "fortran", "scalar"):
        np.save(FILES / f"{name}.npy", arrays[name])
        expect(f"{name}.npy", {"array": arrays[name]})


def main():
    FILES.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")
    for write in (containers, checkpoint, module, lone, tar, stream_views, repacked, numpy_files):
        write()
    path = FOLDER / "weights.safetensors"
    save_file(VALUES, str(path))
    path.chmod(0o644)
    manifest = json.loads(MANIFEST.read_text())
    scripts = ["golden.py", "golden_weights.py"]
    manifest[path.name] = {"sha256": sha256(path), "scripts": scripts, "scripts_sha256": script_hash(scripts), "tensors": len(VALUES),
                           "torch": torch.__version__.split("+")[0], "numpy": np.__version__,
                           "files": {f"weights/{file.name}": sha256(file) for file in sorted(FILES.iterdir())}}
    MANIFEST.write_text(json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")
    print(f"{path.name}: {len(VALUES)} tensors in {len(list(FILES.iterdir()))} files, {sum(f.stat().st_size for f in FILES.iterdir()) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
