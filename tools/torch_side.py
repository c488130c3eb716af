#!/usr/bin/env python3
"""The other side of tools/compare_torch.py: does what it is asked for, one JSON object a line, and answers with seconds.

It stays alive between requests, so that its memory and caches are as warm as they get. Every request names what to do, how many calls
to make before measuring, how many to measure, and after how many seconds a call is not repeated. Runs in the Python that has PyTorch; not for people.
"""

import io
import json
import pathlib
import platform
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))


def timed(request, call):
    seconds = []
    for i in range(request["warmup"] + request["steps"]):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
        if seconds[-1] > request["limit"]:  # bf16 where the processor has none takes minutes: measured once, cold
            return seconds[-1:]
    return seconds[request["warmup"]:]


# --- the network: what `reid bench network` does ---


class Network:
    def __init__(self, request):
        import torch
        from golden_networks import IBN_A, Embedder, ResNet

        torch.relu = torch.relu_  # in place, as the field's networks do
        torch.manual_seed(1)
        self.torch, self.batch = torch, request["batch"]
        self.model = Embedder(ResNet(**IBN_A, width=64)).float().to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=3.5e-4, weight_decay=5e-4)
        shape = (self.batch, 3, request["height"], request["width"])
        self.images = torch.randn(shape).contiguous(memory_format=torch.channels_last)
        self.centroids = torch.nn.functional.normalize(torch.randn(1000, 2048))
        self.labels = torch.arange(self.batch) % 1000

    def train(self):
        features = self.torch.nn.functional.normalize(self.model(self.images)[2].float())
        loss = self.torch.nn.functional.cross_entropy(features @ self.centroids.T / 0.05, self.labels)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()

    def infer(self, images):
        with self.torch.inference_mode():
            self.model(images)

    def call(self, what):
        self.model.train(what == "training")
        if what == "training":
            return self.train
        return lambda: self.infer(self.images if what == "inference" else self.images[:1])


networks = {}


def network(request):
    import torch

    key = (request["batch"], request["height"], request["width"])
    if key not in networks:
        networks[key] = Network(request)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=request["dtype"] == "bf16"):
        return {"seconds": timed(request, networks[key].call(request["what"]))}


# --- single convolutions: oneDNN as PyTorch calls it ---


def layers(request):
    import torch

    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[request["dtype"]]

    def normal(*shape):
        return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)

    def measure(row):
        size, stride, pad = row["kernel"], [row["stride"]] * 2, [row["kernel"] // 2] * 2
        x, w = normal(request["batch"], row["in"], row["height"], row["width"]), normal(row["out"], row["in"], size, size)
        forward = lambda: torch.ops.aten.convolution(x, w, None, stride, pad, [1, 1], False, [0, 0], 1)
        dy = normal(*forward().shape)
        backward = lambda mask: torch.ops.aten.convolution_backward(dy, x, w, None, stride, pad, [1, 1], False, [0, 0], 1, mask)
        calls = {"forward": forward, "weight": lambda: backward([False, True, False])}
        if row["data"]:
            calls["data"] = lambda: backward([True, False, False])
        return {name: timed(request, call) for name, call in calls.items()}

    with torch.no_grad():
        return {"rows": [measure(row) for row in request["rows"]]}


# --- products of matrices: numpy's OpenBLAS ---

matrices = {}


def gemm(request):
    import numpy as np

    def measure(row):
        m, n, k = row["m"], row["n"], row["k"]
        if (m, n, k) not in matrices:
            random = np.random.default_rng(1)
            matrices[m, n, k] = random.standard_normal((m, k), np.float32), random.standard_normal((k, n), np.float32), np.empty((m, n), np.float32)
        a, b, c = matrices[m, n, k]
        return timed(request, lambda: np.matmul(a, b, out=c))

    return {"rows": [measure(row) for row in request["rows"]]}


# --- images: Pillow and torchvision ---


def pipelines():
    """The strong baseline's augmentation and ReMix's, as the field writes them."""
    from torchvision import transforms as T

    end = [T.ToTensor(), T.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])]
    start = [T.Resize((256, 128), interpolation=T.InterpolationMode.BICUBIC), T.RandomHorizontalFlip(0.5), T.Pad(10), T.RandomCrop((256, 128))]
    jitter = T.RandomApply([T.ColorJitter((0.5, 2.0), (0.5, 2.0), (0.5, 2.0), 0.1)], 0.5)
    blur = T.RandomApply([T.GaussianBlur(9, (0.1, 2.0))], 0.5)  # ours is cut at 3 sigma: 9 pixels on average
    return {"augment": T.Compose([*start, *end, T.RandomErasing(0.5, scale=(0.02, 0.4), ratio=(0.3, 3.33))]),
            "remix": T.Compose([*start, blur, jitter, *end])}


def loader(request):
    import torch
    from PIL import Image

    torch.set_num_threads(1)
    torch.manual_seed(1)
    ways = pipelines()

    def decode(file):
        return Image.open(io.BytesIO(file)).convert("RGB")

    def measure(folder):
        files = [file.read_bytes() for file in sorted(folder.glob("*.jpg"))]
        row = {"name": folder.name, "images": len(files), "decode": timed(request, lambda: [decode(file) for file in files])}
        for name, transform in ways.items():
            row[name] = timed(request, lambda: [transform(decode(file)) for file in files])
        return row

    return {"rows": [measure(folder) for folder in sorted(pathlib.Path(request["folder"]).iterdir())]}


# --- what is what ---


def versions(_):
    import re

    import PIL
    import torch
    import torchvision
    from PIL import features

    onednn = re.search(r"MKL-DNN v(\S+)", torch.__config__.show())
    turbo = features.version_feature("libjpeg_turbo") if features.check_feature("libjpeg_turbo") else None
    return {"python": platform.python_version(), "torch": torch.__version__, "onednn": onednn.group(1) if onednn else "none",
            "torchvision": torchvision.__version__, "pillow": PIL.__version__, "pillow_jpeg": f"libjpeg-turbo {turbo}" if turbo else "libjpeg",
            "threads": torch.get_num_threads()}


def blas(_):
    import numpy
    from threadpoolctl import threadpool_info

    pool = next(pool for pool in threadpool_info() if pool["internal_api"] == "openblas")
    return {"numpy": numpy.__version__, "openblas": pool["version"], "openblas_architecture": pool["architecture"], "openblas_threads": pool["num_threads"]}


ACTIONS = {"network": network, "layers": layers, "gemm": gemm, "loader": loader, "versions": versions, "blas": blas}


def main():
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no answer
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(ACTIONS[request["do"]](request)), file=answers, flush=True)


if __name__ == "__main__":
    main()
