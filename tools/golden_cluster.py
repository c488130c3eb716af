"""Writes data/golden/cluster.safetensors: scikit-learn's DBSCAN where it is hardest to agree with.

Run from the root of the repository with numpy, scikit-learn and safetensors: python3 tools/golden_cluster.py
Distances are exact by construction (integer points, signs), so that thousands of pairs lie exactly at eps and a change of eps by
one unit in the last place moves them out. Layout and conventions are those of golden_people.py.
"""

import hashlib
import json
import pathlib

import numpy as np
import sklearn
from safetensors.numpy import save_file
from sklearn.cluster import DBSCAN

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "data" / "golden"
TENSORS = {}


def put(case, features, metric, eps, min_samples, exact):
    """`exact`: the matrix of distances. Two cases: with eps, and with the next smaller number."""
    near = exact <= eps
    borders = 0
    for suffix, limit in (("at", eps), ("below", np.nextafter(eps, 0))):
        labels = DBSCAN(eps=limit, min_samples=min_samples, metric="precomputed").fit_predict(exact)
        core = (exact <= limit).sum(1) >= min_samples
        borders += sum(len(set(labels[core & (exact[i] <= limit)])) > 1 for i in np.flatnonzero(~core))
        name = f"{case}/{suffix}"
        TENSORS[f"{name}/labels"] = labels.astype(np.int64)
        TENSORS[f"{name}/eps"] = np.array([limit])
        TENSORS[f"{name}/min_samples"] = np.array([min_samples], np.int64)
    TENSORS[f"{case}/features"] = features.astype(np.float32)
    assert np.array_equal(features.astype(np.float32), features), case
    changed = not np.array_equal(TENSORS[f"{case}/at/labels"], TENSORS[f"{case}/below/labels"])
    print(f"{case}: {metric}, {len(features)} points, {int((exact == eps).sum()) // 2} pairs at eps, {near.sum()} near, "
          f"clusters {TENSORS[f'{case}/at/labels'].max() + 1}, {TENSORS[f'{case}/below/labels'].max() + 1}, shared borders {borders}, "
          f"noise {(TENSORS[f'{case}/at/labels'] < 0).sum()}")
    return borders, changed


def random(name):
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


def euclidean(x):
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(2).astype(np.float64))  # exact squares: rounded once


def main():
    borders = changes = 0
    # Integer points in the plane, far from the origin so that products cancel: (3, 4) and (5, 0) are exactly 5 apart.
    for case, (count, side, min_samples) in enumerate([(700, 90, 5), (900, 110, 6), (500, 70, 6), (1000, 100, 9)]):
        name = f"grid{case}"
        x = random(name).integers(0, side, (count, 2)) + 1000
        found, changed = put(name, x.astype(np.float64), "euclidean", 5.0, min_samples, euclidean(x))
        borders, changes = borders + found, changes + changed
    # Duplicates: every point of a small grid several times.
    x = random("duplicates").integers(0, 12, (600, 2)) * 4
    found, changed = put("duplicates", x.astype(np.float64), "euclidean", 4.0, 25, euclidean(x))
    borders, changes = borders + found, changes + changed
    # Signs of 16 coordinates: lengths are 4, cosine distances multiples of 1/8.
    x = np.where(random("signs").normal(size=(400, 16)) > 0, 1.0, -1.0)
    found, changed = put("signs", x, "cosine", 0.25, 4, 1 - x @ x.T / 16)
    borders, changes = borders + found, changes + changed
    # Everything within eps of everything.
    x = random("together").integers(0, 3, (300, 3))
    put("together", x.astype(np.float64), "euclidean", 4.0, 300, euclidean(x))
    assert borders >= 50 and changes == 6, (borders, changes)

    path = FOLDER / "cluster.safetensors"
    save_file(TENSORS, str(path))
    path.chmod(0o644)
    manifest_file = FOLDER / "manifest.json"
    manifest = json.loads(manifest_file.read_text())
    manifest[path.name] = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "scripts": ["golden_cluster.py"],
        "scripts_sha256": hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "tensors": len(TENSORS),
    }
    manifest_file.write_text(json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")


if __name__ == "__main__":
    main()
