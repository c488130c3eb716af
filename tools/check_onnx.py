#!/usr/bin/env python3
"""Holds ONNX models against the onnx package and ONNX Runtime.

Usage: tools/check_onnx.py FOLDER     Exit status 1 when a model fails, 3 when a package is missing.
Each FOLDER/NAME.onnx passes onnx's checker with shape inference, and gives, for the images of NAME.safetensors (all at once and
the first alone), its embeddings within the tolerance of its metadata: the largest |a - b| / |a| of a row. The test case
"onnx: the onnx package's checker and ONNX Runtime" makes such a folder (kept where REID_ONNX_FOLDER names one).
Needs onnx, onnxruntime and numpy (pip install).
"""

import json
import sys
from pathlib import Path

try:
    import numpy as np
    import onnx
    import onnxruntime
except ImportError as error:
    print(f"check_onnx: {error}", file=sys.stderr)
    sys.exit(3)


def read_safetensors(file):
    raw = file.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:start])
    metadata = header.pop("__metadata__", {})
    dtypes = {"F32": "<f4", "F64": "<f8", "U8": "u1"}
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = np.frombuffer(raw[start + begin:start + end], dtypes[entry["dtype"]]).reshape(entry["shape"])
    return tensors, metadata


def check(file):
    """Returns the largest difference and what is allowed."""
    onnx.checker.check_model(str(file), full_check=True)
    expected, metadata = read_safetensors(file.with_suffix(".safetensors"))
    images, embeddings = expected["images"], expected["embeddings"]
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert isinstance(given.shape[0], str) and isinstance(made.shape[0], str), "the batch dimension is not free"
    assert (given.name, made.name) == ("images", "embedding"), (given.name, made.name)
    worst = 0
    for count in (len(images), 1):
        got = session.run(None, {"images": images[:count]})[0].astype(np.float64)
        assert got.shape == embeddings[:count].shape, (got.shape, embeddings[:count].shape)
        difference = np.linalg.norm(got - embeddings[:count], axis=1) / np.linalg.norm(embeddings[:count], axis=1)
        worst = max(worst, float(difference.max()))
    return worst, float(metadata["tolerance"])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    files = sorted(Path(sys.argv[1]).glob("*.onnx"))
    if not files:
        sys.exit(f"{sys.argv[1]} has no .onnx file")
    print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}, {len(files)} models")
    failed = 0
    for file in files:
        try:
            worst, tolerance = check(file)
            fails = not worst <= tolerance
            note = f"{worst:.2e} (allowed {tolerance:.1e})"
        except Exception as error:  # the message of whichever package refuses is the finding
            fails, note = True, f"{type(error).__name__}: {error}"
        failed += fails
        print(f"{'FAIL' if fails else 'ok':4} {file.stem:40} {note}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
