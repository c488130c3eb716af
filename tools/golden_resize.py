"""Writes data/golden/resize.safetensors: what Pillow makes of small images (resizing, and torchvision's color operations).

Run from the root of the repository with pillow, torchvision, numpy and safetensors: python3 tools/golden_resize.py
The tests read the file; neither build nor tests need Python.
"""

import hashlib
import pathlib

import numpy as np
import PIL
import torchvision
from PIL import Image
from safetensors.numpy import save_file
from torchvision.transforms import functional as F

SIZES = [  # input, outputs (height, width): up, down, odd, one axis only, thin, unchanged
    ((64, 32), [(128, 64), (31, 17), (64, 48), (40, 32), (64, 32)]),
    ((37, 23), [(61, 40), (9, 11), (37, 5), (1, 1)]),
    ((131, 57), [(96, 32), (16, 8)]),
    ((1, 7), [(5, 3), (1, 20)]),
    ((3, 1), [(8, 4)]),
]
FACTORS = [0.5, 0.83, 1.0, 1.37, 2.0]
HUES = [-0.1, -0.031, 0.0, 0.05, 0.1, 0.5]


def picture(height, width, rng):
    """Noise over a gradient, with hard black and white edges: overshoot and clipping happen."""
    y, x = np.mgrid[0:height, 0:width]
    image = np.stack([255 * y / height, 255 * x / width, 255 * (x + y) / (height + width)], axis=-1)
    image += rng.normal(0, 40, image.shape)
    image[(x // 3 + y // 5) % 4 == 0] = 0
    image[(x // 2 + y // 3) % 5 == 0] = 255
    return np.clip(image, 0, 255).astype(np.uint8)


def main():
    rng = np.random.default_rng(7)
    tensors = {}
    for index, ((height, width), outputs) in enumerate(SIZES):
        image = picture(height, width, rng)
        tensors[f"input{index}"] = image
        for oh, ow in outputs:
            for name, method in (("bilinear", Image.BILINEAR), ("bicubic", Image.BICUBIC)):
                resized = Image.fromarray(image).resize((ow, oh), method)
                tensors[f"input{index}.{name}.{oh}x{ow}"] = np.asarray(resized)

    colors = np.concatenate([picture(24, 16, rng), rng.integers(0, 256, (24, 16, 3)).astype(np.uint8)])
    tensors["colors"] = colors
    source = Image.fromarray(colors)
    for name, adjust, values in (("brightness", F.adjust_brightness, FACTORS), ("contrast", F.adjust_contrast, FACTORS),
                                 ("saturation", F.adjust_saturation, FACTORS), ("hue", F.adjust_hue, HUES)):
        tensors[f"colors.{name}.values"] = np.array(values, dtype=np.float64)
        tensors[f"colors.{name}"] = np.stack([np.asarray(adjust(source, v)) for v in values])

    script = hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest()
    notes = {"script": script, "pillow": PIL.__version__, "torchvision": torchvision.__version__}
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, "data/golden/resize.safetensors", metadata=notes)


if __name__ == "__main__":
    main()
