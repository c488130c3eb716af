#!/usr/bin/env python3
"""Compares the full-width ResNet-50-IBN-a embedding with PyTorch's: the check that is too large for a committed golden.

    python tools/check_encoder.py [--program build/reid] [--images 4] [--height 256] [--width 128]

Random weights and running statistics, images from N(0, 1). `reid op run encoder` embeds them in float32 and in float64; PyTorch in
float64. Needs torch and safetensors. Exit status 1 when float32 is further than 1e-5, or float64 further than 1e-10, from PyTorch,
relative to the largest element.
"""

import argparse
import pathlib
import subprocess
import sys
import tempfile

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from golden import generator, nhwc  # noqa: E402
from golden_networks import IBN_A, Embedder, ResNet, initialize  # noqa: E402

BOUNDS = {torch.float32: 1e-5, torch.float64: 1e-10}


def network():
    model = Embedder(ResNet(**IBN_A, width=64)).double()
    initialize(model, "check_encoder")
    random = generator("check_encoder buffers")
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=random, dtype=torch.float64).float())
        elif name.endswith("running_var"):
            buffer.copy_((0.5 + torch.rand(buffer.shape, generator=random, dtype=torch.float64)).float())
    return model.eval()


def our_name(name):
    return name.removeprefix("backbone.") if name.startswith("backbone.") else name.replace("neck.", "bottleneck.", 1)


def embed(program, model, images, dtype, folder):
    tensors = {our_name(k): v.to(dtype).contiguous() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    tensors["images"] = nhwc(images).to(dtype).contiguous()
    save_file(tensors, str(folder / "in.safetensors"))
    command = [program, "op", "run", "encoder", "--in", folder / "in.safetensors", "--out", folder / "out.safetensors", "--quiet"]
    subprocess.run([str(word) for word in command], check=True)
    return load_file(str(folder / "out.safetensors"))["features"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/reid")
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    words = parser.parse_args()
    model = network()
    shape = (words.images, 3, words.height, words.width)
    images = torch.randn(shape, generator=generator("check_encoder images"), dtype=torch.float32).double()
    with torch.no_grad():
        expected = model(images)[2]
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        for dtype, bound in BOUNDS.items():
            got = embed(words.program, model, images, dtype, pathlib.Path(folder)).double()
            error = float((got - expected).abs().max() / expected.abs().max())
            wrong += not error <= bound
            print(f"{str(dtype).removeprefix('torch.')}: relative error {error:.2e}, bound {bound:g}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
