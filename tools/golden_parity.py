#!/usr/bin/env python3
"""Golden weights in the manner of other projects, with the embeddings that PyTorch computes from them, from the JPEG file on.

    python tools/golden_parity.py IMAGE IMAGE      writes data/golden/parity/*  and data/golden/parity.safetensors

Each case is a small network (base width 4) under one project's names, in one of PyTorch's containers, run as that project runs it:
its pooling, its neck, its resize filter and normalization. Decoding and resizing are Pillow's; the network computes in float64.
"""

import collections
import json
import pathlib
import shutil
import sys

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import nn

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from golden import FOLDER, MANIFEST, generator, script_hash, sha256  # noqa: E402
from golden_networks import ResNet, initialize  # noqa: E402

FILES = FOLDER / "parity"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HEIGHT, WIDTH = 96, 48
DEPTHS = {18: (False, (2, 2, 2, 2)), 50: (True, (3, 4, 6, 3))}
TENSORS = {}


class Network(nn.Module):
    """A backbone run by one project's conventions."""

    def __init__(self, depth, ibn, last_stride, ceil=False, gem=False, neck=True):
        super().__init__()
        bottleneck, depths = DEPTHS[depth]
        self.backbone = ResNet(bottleneck, depths, last_stride, ibn)
        self.neck = nn.BatchNorm1d(self.backbone.channels) if neck else None
        self.p = nn.Parameter(torch.tensor([2.5])) if gem else None
        self.ceil = ceil

    def forward(self, x):
        net = self.backbone
        x = torch.relu(net.bn1(net.conv1(x)))
        x = F.max_pool2d(x, 3, 2, ceil_mode=True) if self.ceil else F.max_pool2d(x, 3, 2, 1)
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        x = x.clamp(min=1e-6).pow(self.p).mean((2, 3)).pow(1 / self.p) if self.p is not None else x.mean((2, 3))
        return self.neck(x) if self.neck is not None else x


def network(name, **settings):
    net = Network(**settings).double()
    initialize(net, name)
    random = generator(name + " statistics")
    with torch.no_grad():  # as after training: no statistic is trivial
        if net.p is not None:
            net.p.fill_(2.5)
        for key, buffer in net.named_buffers():
            if key.endswith("running_mean"):
                buffer.copy_((0.2 * torch.randn(buffer.shape, generator=random)).double())
            elif key.endswith("running_var"):
                buffer.copy_((0.5 + torch.rand(buffer.shape, generator=random)).double())
            elif key.endswith("num_batches_tracked"):
                buffer.fill_(1000)
    return net.eval()


def weights(net):
    """float32, as files have them."""
    return {key: value.float() if value.is_floating_point() else value for key, value in net.backbone.state_dict().items()}


def neck(net, prefix):
    return {f"{prefix}.{key}": value.float() if value.is_floating_point() else value for key, value in net.neck.state_dict().items()}


def pixels(path, resample, mean, std):
    image = Image.open(path).convert("RGB").resize((WIDTH, HEIGHT), resample)
    x = torch.from_numpy(np.asarray(image).copy()).double().permute(2, 0, 1) / 255
    return (x - torch.tensor(mean, dtype=torch.float64)[:, None, None]) / torch.tensor(std, dtype=torch.float64)[:, None, None]


def case(name, net, state, images, resample, stream=False):
    with torch.no_grad():
        TENSORS[name] = net(torch.stack([pixels(image, resample, *IMAGENET) for image in images]))
    torch.save(state, FILES / name, _use_new_zipfile_serialization=not stream)


def sequential(state, prefix):
    """nn.Sequential(conv1, bn1, relu, maxpool, layer1, ..., layer4)."""
    places = {"conv1": 0, "bn1": 1, "layer1": 4, "layer2": 5, "layer3": 6, "layer4": 7}
    return {f"{prefix}{places[key.split('.')[0]]}.{key.split('.', 1)[1]}": value for key, value in state.items()}


def prefixed(state, prefix):
    return collections.OrderedDict((prefix + key, value) for key, value in state.items())


def write(images):
    bilinear, bicubic = Image.BILINEAR, Image.BICUBIC
    net = network("torchvision", depth=18, ibn="", last_stride=2, neck=False)
    state = weights(net) | {"fc.weight": torch.zeros(10, net.backbone.channels), "fc.bias": torch.zeros(10)}
    case("torchvision.pth", net, state, images, bilinear)

    net = network("fast-reid", depth=50, ibn="a", last_stride=1, ceil=True)
    state = prefixed(weights(net), "backbone.") | neck(net, "heads.bottleneck.0") | {"heads.weight": torch.zeros(7, net.backbone.channels)}
    case("fastreid.pth", net, {"model": state, "iteration": 100}, images, bicubic)

    net = network("BoT", depth=50, ibn="", last_stride=1)
    state = prefixed(weights(net), "base.") | neck(net, "bottleneck") | {"classifier.weight": torch.zeros(7, net.backbone.channels)}
    case("bot_stream.pth", net, state, images, bilinear, stream=True)

    net = network("cluster-contrast", depth=50, ibn="a", last_stride=1, gem=True)
    state = sequential(weights(net), "module.base.") | {"module.gap.p": net.p.detach().float()} | neck(net, "module.feat_bn")
    case("cluster_contrast_stream.pth.tar", net, {"state_dict": state, "epoch": 50, "best_mAP": 0.8}, images, bicubic, stream=True)

    net = network("CION", depth=18, ibn="a", last_stride=1, neck=False)
    state = {"student": {}, "teacher": prefixed(weights(net), "module.backbone.") | {"module.head.mlp.0.weight": torch.zeros(4, 4)}, "epoch": 99}
    case("cion.pth", net, state, images, bicubic)


def main(names):
    if len(names) != 2:
        sys.exit(__doc__)
    FILES.mkdir(parents=True, exist_ok=True)
    images = [FILES / f"person_{i}.jpg" for i in range(2)]
    for name, image in zip(names, images):
        if pathlib.Path(name).resolve() != image.resolve():
            shutil.copyfile(name, image)
            image.chmod(0o644)
    write(images)
    path = FOLDER / "parity.safetensors"
    save_file(TENSORS, str(path))
    path.chmod(0o644)
    manifest = json.loads(MANIFEST.read_text())
    scripts = ["golden.py", "golden_networks.py", "golden_losses.py", "golden_parity.py"]
    manifest[path.name] = {"sha256": sha256(path), "scripts": scripts, "scripts_sha256": script_hash(scripts), "tensors": len(TENSORS),
                           "torch": torch.__version__.split("+")[0], "pillow": PIL.__version__,
                           "files": {f"parity/{file.name}": sha256(file) for file in sorted(FILES.iterdir())}}
    MANIFEST.write_text(json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")
    print(f"{path.name}: {len(TENSORS)} cases, {sum(f.stat().st_size for f in FILES.iterdir()) / 1e3:.0f} kB of files")


if __name__ == "__main__":
    main(sys.argv[1:])
