"""Writes data/golden/people.safetensors: what numpy and scikit-learn make of small clustering and evaluation problems.

Run from the root of the repository with numpy, scikit-learn and safetensors: python3 tools/golden_people.py
Each case has a prefix, `dbscan/blobs/labels`; parameters are arrays of one element. The tests read the file; neither build nor
tests need Python. Random numbers belong to the name of the case, so cases can be added without moving others.
"""

import hashlib
import json
import pathlib

import numpy as np
import sklearn
from safetensors.numpy import save_file
from sklearn.cluster import DBSCAN
from sklearn.metrics import average_precision_score, completeness_score, homogeneity_score, v_measure_score
from sklearn.metrics.cluster import pair_confusion_matrix

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "data" / "golden"
TENSORS = {}


def put(case, **values):
    for key, value in values.items():
        array = np.atleast_1d(np.asarray(value))
        if array.dtype == np.bool_ or array.dtype.kind == "i":
            array = array.astype(np.int64)
        assert np.all(np.isfinite(array)), (case, key)
        name = f"{case}/{key}"
        assert name not in TENSORS, name
        TENSORS[name] = np.ascontiguousarray(array)


def random(name):
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


def distance(a, b, metric):
    """From the differences, in extended precision: no cancellation."""
    a, b = a.astype(np.longdouble), b.astype(np.longdouble)
    if metric == "cosine":
        a, b = a / np.sqrt((a * a).sum(1, keepdims=True)), b / np.sqrt((b * b).sum(1, keepdims=True))
    squared = ((a[:, None] - b[None]) ** 2).sum(2)
    return {"cosine": squared / 2, "euclidean": np.sqrt(squared), "squared_euclidean": squared}[metric].astype(np.float64)


def blobs(rng, count, centers, width, spread):
    middle = rng.normal(size=(centers, width))
    return middle[rng.integers(0, centers, count)] + spread * rng.normal(size=(count, width))


def distances():
    rng = random("distances")
    a, b = rng.normal(size=(9, 37)), rng.normal(size=(11, 37))
    b[0] = a[0]
    b[1] = a[1] * (1 + 1e-9)
    b[2] = a[2] + 1e-7 * rng.normal(size=37)
    b[3] = -3 * a[3]
    b[4] = a[4] * 1e-5
    put("distances", a=a, b=b, **{metric: distance(a, b, metric) for metric in ("cosine", "euclidean", "squared_euclidean")})


def shared_borders(d, eps, min_samples, labels):
    """Border points within reach of several clusters: the ones whose label depends on the order of the search."""
    near = d <= eps
    core = near.sum(1) >= min_samples
    return sum(1 for i in np.flatnonzero(~core) if len(set(labels[core & near[:, i]])) > 1)


def dbscan_features():
    for metric, eps, spread in (("cosine", 0.07, 0.38), ("euclidean", 1.5, 0.38)):
        name = f"dbscan/{metric}"
        x = blobs(random(name), 240, 9, 16, spread)
        labels = DBSCAN(eps=eps, min_samples=4, metric=metric, algorithm="brute").fit_predict(x)
        d = distance(x, x, metric)
        assert np.abs(d - eps).min() > 1e-9 and labels.max() >= 6 and (labels < 0).sum() > 10, (metric, labels.max(), (labels < 0).sum())
        put(name, features=x, eps=eps, min_samples=4, labels=labels)


def dbscan_matrices():
    """Points on small grids: distances tie, many equal eps exactly, and clusters share border points."""
    settings = [(90, 16, 2, 2, 5), (120, 9, 3, 2, 6), (40, 30, 1, 3, 9), (80, 7, 3, 2, 7), (90, 16, 2, 3, 9), (60, 12, 2, 1, 3)]
    shared = 0
    for case in range(24):
        rng = random(f"dbscan/grid{case}")
        count, side, dims, eps, min_samples = settings[case % 6]
        x = rng.integers(0, side, (count, dims))
        d = np.abs(x[:, None] - x[None]).sum(2)
        labels = DBSCAN(eps=eps, min_samples=min_samples, metric="precomputed").fit_predict(d.astype(np.float64))
        shared += shared_borders(d, eps, min_samples, labels)
        put(f"dbscan/grid{case}", distances=d.astype(np.uint8), eps=float(eps), min_samples=min_samples, labels=labels)
    assert shared >= 20, shared
    # eps = 0.55 is not a float: scikit-learn compares in the dtype of the matrix, so an f32 distance of 0.55 is a neighbor.
    rng = random("dbscan/rounded")
    d = (0.05 * rng.integers(4, 19, (50, 50))).astype(np.float32)
    d = np.triu(d, 1) + np.triu(d, 1).T
    labels = DBSCAN(eps=0.55, min_samples=30, metric="precomputed").fit_predict(d)
    assert float(np.float32(0.55)) > 0.55 and not np.array_equal(labels, DBSCAN(
        eps=0.55, min_samples=30, metric="precomputed").fit_predict(d.astype(np.float64)))
    put("dbscan/rounded", distances=d, eps=0.55, min_samples=30, labels=labels)
    # Not symmetric, with a diagonal above eps: row i holds the neighbors of i, as they are.
    rng = random("dbscan/directed")
    d = rng.integers(0, 40, (60, 60)).astype(np.float64)
    labels = DBSCAN(eps=2.0, min_samples=6, metric="precomputed").fit_predict(d)
    assert labels.max() >= 1 and (labels < 0).any(), labels
    put("dbscan/directed", distances=d.astype(np.uint8), eps=2.0, min_samples=6, labels=labels)


def jaccard_reference(x, k1, k2, counts_self):
    """The equations of the k-reciprocal Jaccard distance with dense matrices and sets."""
    n = len(x)
    d = distance(x, x, "cosine")
    ranks = []
    for i in range(n):
        ranks.append(sorted(range(n), key=lambda j: (j != i, d[i, j], j)))
    length = k1 + (0 if counts_self else 1)

    def reciprocal(i, entries):
        return {j for j in ranks[i][:entries] if i in ranks[j][:entries]}

    half = min(round(k1 / 2) + 1, length)  # Python rounds halves to even
    v = np.zeros((n, n))
    for i in range(n):
        own = reciprocal(i, length)
        expanded = set(own)
        for candidate in own:
            other = reciprocal(candidate, half)
            if 3 * len(other & own) > 2 * len(other):
                expanded |= other
        members = sorted(expanded)
        weights = np.exp(-2 * d[i, members])
        v[i, members] = weights / weights.sum()
    if k2 > 1:
        v = np.stack([v[ranks[i][:k2]].mean(0) for i in range(n)])
    s = np.stack([np.minimum(v[i], v).sum(1) for i in range(n)])
    return np.clip(1 - s / (2 - s), 0, None)


def jaccard():
    cases = {  # rows, k1, k2, whether k1 counts the row itself
        "usual": (70, 30, 6, True),
        "zhong": (70, 20, 6, False),
        "odd": (50, 15, 1, True),
        "odd_up": (50, 7, 4, False),
        "least": (20, 1, 1, True),
        "few_rows": (12, 30, 6, True),
        "wide_expansion": (40, 5, 8, True),
        "duplicates": (40, 8, 3, True),
        "ties": (60, 9, 4, True),
    }
    for key, (n, k1, k2, counts_self) in cases.items():
        name = f"jaccard/{key}"
        x = blobs(random(name), n, 5, 8, 0.5)
        if key == "duplicates":
            x[10:20] = x[0]
            x[25] = x[30]
        if key == "ties":  # signs: all distances are exact, and few
            x = np.where(random(name).normal(size=(n, 16)) > 0, 1.0, -1.0)
        put(name, features=x, k1=k1, k2=k2, counts_self=counts_self, distances=jaccard_reference(x, k1, k2, counts_self))
    x = blobs(random("jaccard/dbscan"), 90, 7, 8, 0.3)
    d = jaccard_reference(x, 20, 6, True)
    labels = DBSCAN(eps=0.5, min_samples=4, metric="precomputed").fit_predict(d)
    assert labels.max() >= 3 and np.abs(d - 0.5).min() > 1e-9, labels
    put("jaccard/dbscan", features=x, k1=20, k2=6, counts_self=True, eps=0.5, min_samples=4, labels=labels)


def evaluate(name, metric, query, gallery, ids, cameras, gallery_ids, gallery_cameras, tied):
    d = distance(query, gallery, metric)
    gaps = np.diff(np.sort(d, axis=1), axis=1)
    assert tied == bool((gaps == 0).sum() > 100) and (tied or gaps.min() > 1e-11), (name, gaps.min())
    rows = []
    for q in range(len(ids)):
        order = np.lexsort((np.arange(len(gallery_ids)), d[q]))
        keep = [j for j in order if gallery_ids[j] != -1 and not (gallery_ids[j] == ids[q] and gallery_cameras[j] == cameras[q])]
        hits = np.array([gallery_ids[j] == ids[q] for j in keep])
        if ids[q] == -1 or not hits.any():
            rows.append((0, 0, 0, 0.0))
            continue
        places = np.flatnonzero(hits) + 1
        precision = average_precision_score(hits, -np.arange(len(hits)))  # by rank: nothing ties
        rows.append((len(places), places[0], places[-1], precision))
    matches, first, last, precision = (np.array(column) for column in zip(*rows))
    valid = matches > 0
    junk = int((ids == -1).sum())
    put(name, matches=matches, first=first, last=last, average_precision=precision, mAP=precision[valid].mean(),
        mINP=(matches[valid] / last[valid]).mean(), ranks=[1, 2, 5, 10, 20],
        cmc=[(first[valid] <= k).mean() for k in (1, 2, 5, 10, 20)],
        counts=[valid.sum(), len(ids) - junk - valid.sum(), junk, (gallery_ids == -1).sum(), np.isin(gallery_ids, np.append(ids, -1), invert=True).sum()])


def evaluation():
    for key, dtype, tied in (("plain", np.float64, False), ("tied", np.float32, True)):
        name = f"evaluation/{key}"
        rng = random(name)
        people = rng.normal(size=(26, 16))
        ids, gallery_ids = rng.integers(1, 25, 40), rng.integers(-1, 22, 260)
        gallery_ids[rng.integers(0, 260, 40)] = 0
        ids[[3, 17]] = 24  # not in the gallery: no match
        ids[5] = -1
        ids[6] = 0
        cameras, gallery_cameras = rng.integers(1, 5, 40), rng.integers(1, 5, 260)
        gallery_cameras[gallery_ids == 9] = 2
        ids[8:10], cameras[8:10] = 9, [2, 3]  # all matches in the query's own camera, and the same with another camera
        query = people[ids] + 1.2 * rng.normal(size=(40, 16))
        gallery = people[gallery_ids] + 1.2 * rng.normal(size=(260, 16))
        if tied:  # signs only: every length is 4, distances are exact and few
            query, gallery = np.where(query > 0, 1.0, -1.0), np.where(gallery > 0, 1.0, -1.0)
        query, gallery = query.astype(dtype), gallery.astype(dtype)
        put(name, query=query, gallery=gallery, query_ids=ids, query_cameras=cameras, gallery_ids=gallery_ids,
            gallery_cameras=gallery_cameras)
        for metric in ("cosine", "euclidean"):
            evaluate(f"{name}/{metric}", metric, query, gallery, ids, cameras, gallery_ids, gallery_cameras, tied)


def quality():
    rng = random("quality")
    truth = rng.integers(0, 12, 300)
    labels = np.where(rng.random(300) < 0.7, truth // 2, rng.integers(0, 9, 300))
    labels[rng.random(300) < 0.2] = -1
    kept = labels >= 0
    table = np.array([[np.sum((labels == c) & (truth == t)) for t in range(12)] for c in range(9)])
    singles = np.where(kept, labels, 1000 + np.arange(300))  # a noise point is a cluster of its own
    (_, wrong), (missed, right) = pair_confusion_matrix(truth, singles)
    precision, recall = right / (right + wrong), right / (right + missed)
    put("quality", labels=labels, truth=truth, expected=[
        1 - kept.mean(), table.max(1).sum() / kept.sum(), precision, recall, 2 * precision * recall / (precision + recall),
        homogeneity_score(truth[kept], labels[kept]), completeness_score(truth[kept], labels[kept]),
        v_measure_score(truth[kept], labels[kept])])


def calibration():
    rng = random("calibration")
    labels, cameras = rng.integers(-1, 12, 160), rng.integers(0, 4, 160)
    x = rng.normal(size=(13, 10))[labels] + 0.35 * rng.normal(size=(160, 10))
    d = distance(x, x, "cosine")
    pairs = np.triu(np.ones((160, 160), bool), 1) & (cameras[:, None] == cameras) & (labels[:, None] >= 0) & (labels >= 0)
    same = labels[:, None] == labels
    put("calibration", features=x, labels=labels, cameras=cameras, same_pairs=(pairs & same).sum(), other_pairs=(pairs & ~same).sum(),
        same_distance=np.quantile(d[pairs & same], 0.9), other_distance=np.quantile(d[pairs & ~same], 0.001))


def main():
    for write in (distances, dbscan_features, dbscan_matrices, jaccard, evaluation, quality, calibration):
        write()
    path = FOLDER / "people.safetensors"
    save_file(TENSORS, str(path))
    path.chmod(0o644)
    manifest_file = FOLDER / "manifest.json"
    manifest = json.loads(manifest_file.read_text()) if manifest_file.exists() else {}
    manifest[path.name] = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "scripts": ["golden_people.py"],
        "scripts_sha256": hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "tensors": len(TENSORS),
    }
    manifest_file.write_text(json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")
    print(f"{path.name}: {len(TENSORS)} tensors, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
