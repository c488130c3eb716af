#!/usr/bin/env python3
"""The usual Python ways that tools/compare_scale.py measures: each run is a process of its own and does one thing.

    python tools/scale_ways.py data FOLDER --size N [G] --spread LOW HIGH     writes the feature files both sides read
    python tools/scale_ways.py WAY FOLDER --size N [G] [--save FILE]          runs one way and prints a line of JSON
    python tools/scale_ways.py distances A B | lists A B | versions

A line has the seconds of the computing calls (not of imports and reading), the resident memory before them, and the result.
Where an author's code can be had from the package registry it is called as it is: scikit-learn's DBSCAN, faiss, and torchreid's
evaluate_rank and re_ranking, from the package pyppbox-torchreid, which repackages torchreid with its Cython part compiled (the
package named torchreid lacks that part). The k-reciprocal Jaccard distance that Cluster Contrast and SpCL cluster with is not on
the registry: jaccard_numpy() was written for this comparison, in the same form (faiss search, dense float32 encodings, an
inverted index, a loop over rows).
"""

import argparse
import hashlib
import importlib
import importlib.util
import json
import pathlib
import resource
import sys
import time
import types

import numpy as np

WIDTH, IMAGES, CAMERAS, LOOK_ALIKES = 2048, 17, 6, 8  # of a row; of an identity, on average; in all; identities of one group
EVALUATED_RANKS = (1, 5, 10)


# --- data ---


def labeled_rows(random, count, groups, own, spread):
    """x = 0.6 group + 0.8 own + s * noise, all N(0, 1) in 2048 dimensions; s is drawn for each image from U(spread)."""
    ids, cameras = random.integers(0, len(own), count), random.integers(0, CAMERAS, count)
    features = np.empty((count, WIDTH), np.float32)
    for begin in range(0, count, 4096):
        part = slice(begin, min(begin + 4096, count))
        noise = random.standard_normal((part.stop - begin, WIDTH), dtype=np.float32)
        noise *= random.uniform(*spread, (part.stop - begin, 1)).astype(np.float32)
        features[part] = 0.6 * groups[ids[part] // LOOK_ALIKES] + 0.8 * own[ids[part]] + noise
    return {"features": features, "ids": ids, "cameras": cameras}


def write_data(words):
    from safetensors.numpy import save_file

    name = "x".join(map(str, words.size))
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(f"{name} {words.spread}".encode()).digest()[:8], "big"))
    identities = max(sum(words.size) // IMAGES, 2)
    groups = random.standard_normal((identities // LOOK_ALIKES + 1, WIDTH), dtype=np.float32)
    own = random.standard_normal((identities, WIDTH), dtype=np.float32)
    for part, count in zip(("query", "gallery"), words.size):  # a task of one set uses the first file
        save_file(labeled_rows(random, count, groups, own, words.spread), words.folder / f"{part}.safetensors")
    return {}


def read_data(words):
    from safetensors.numpy import load_file

    return [load_file(words.folder / f"{part}.safetensors") for part, _ in zip(("query", "gallery"), words.size)]


# --- torchreid: its files as they are, without the package's __init__, which wants image and plotting libraries ---


def torchreid(module):
    location = importlib.util.find_spec("pyppbox_torchreid").submodule_search_locations[0]
    for name in ("", ".metrics", ".utils"):
        package = types.ModuleType("pyppbox_torchreid" + name)
        package.__path__ = [location + name.replace(".", "/")]
        sys.modules[package.__name__] = package
    return importlib.import_module("pyppbox_torchreid." + module)


# --- the ways: each prepares, then returns what is timed ---


def unit(features):
    return features / np.linalg.norm(features, axis=1, keepdims=True)


def cosine_distances(a, b):
    distances = unit(a) @ unit(b).T
    np.subtract(1, distances, out=distances)
    return distances


def ranking_counts(distances, query, gallery):
    """What the same float32 distances give in double: a match's rank is counted, ties by gallery index."""
    precision, first = [], []
    for d, person, camera in zip(distances, query["ids"], query["cameras"]):
        same = gallery["ids"] == person
        kept = ~(same & (gallery["cameras"] == camera))
        matches = np.flatnonzero(same & kept)
        if not len(matches):
            continue
        d = np.where(kept, d, np.float32(np.inf))
        ranks = np.sort([1 + np.count_nonzero(d < d[j]) + np.count_nonzero(d[:j] == d[j]) for j in matches])
        precision.append(np.mean(np.arange(1, len(ranks) + 1) / ranks))
        first.append(ranks[0])
    first = np.array(first)
    return {"mAP": float(np.mean(precision)), "evaluated": len(first), **{f"rank{k}": float(np.mean(first <= k)) for k in EVALUATED_RANKS}}


def evaluation(words, cython):
    query, gallery = read_data(words)
    rank = torchreid("metrics.rank")
    assert rank.IS_CYTHON_AVAI
    state = {}

    def compute():
        state["distances"] = cosine_distances(query["features"], gallery["features"])
        ids = query["ids"], gallery["ids"], query["cameras"], gallery["cameras"]
        state["result"] = rank.evaluate_rank(state["distances"], *ids, max_rank=50, use_cython=cython)

    def finish():
        cmc, mean = state["result"]
        own = {"mAP": float(mean), **{f"rank{k}": float(cmc[k - 1]) for k in EVALUATED_RANKS}}
        return {"reported": own, "in_double": ranking_counts(state["distances"], query, gallery)}

    return compute, finish


def blocked_evaluation(words, rows=1000):
    """torchreid's Cython evaluation called for 1,000 queries at a time: what a user whose memory is short would write."""
    query, gallery = read_data(words)
    rank = torchreid("metrics.rank")
    assert rank.IS_CYTHON_AVAI
    counted, reported, exact = [], [], []

    def block(begin):
        return {key: value[begin : begin + rows] for key, value in query.items()}

    def compute():
        normal = unit(gallery["features"])
        for begin in range(0, len(query["ids"]), rows):
            part = block(begin)
            distances = unit(part["features"]) @ normal.T
            np.subtract(1, distances, out=distances)
            started = time.perf_counter()
            exact.append(ranking_counts(distances, part, gallery))
            state["check"] += time.perf_counter() - started
            cmc, mean = rank.evaluate_rank(distances, part["ids"], gallery["ids"], part["cameras"], gallery["cameras"], max_rank=50)
            counted.append(exact[-1]["evaluated"])
            reported.append([mean, *(cmc[k - 1] for k in EVALUATED_RANKS)])

    state = {"check": 0.0}

    def finish():
        keys = ("mAP", *(f"rank{k}" for k in EVALUATED_RANKS))
        mean = np.average(np.array(reported, np.float64), axis=0, weights=counted)
        own = dict(zip(keys, map(float, mean)))
        double = {key: float(np.average([part[key] for part in exact], weights=counted)) for key in keys}
        return {"reported": own, "in_double": {**double, "evaluated": int(sum(counted))}, "untimed": state["check"]}

    return compute, finish


def reciprocal(ranking, k):
    """R(i, k) for every row: who is in my list and has me in its own."""
    lists = ranking[:, :k]
    mutual = np.empty(lists.shape, bool)
    for begin in range(0, len(lists), 4096):
        rows = np.arange(begin, min(begin + 4096, len(lists)))
        mutual[rows] = (ranking[lists[rows], :k] == rows[:, None, None]).any(axis=2)
    return [row[keep] for row, keep in zip(lists, mutual)]


def jaccard_numpy(features, k1, k2):
    """The Jaccard distance of k-reciprocal encodings (Zhong et al., CVPR 2017) in Cluster Contrast's variant: k1 columns with
    the row itself among them, weights softmax(-|x - y|^2), rows averaged over the k2 nearest. Everything N x N is dense."""
    import faiss

    count = len(features)
    index = faiss.IndexFlatL2(features.shape[1])
    index.add(features)
    ranking = index.search(features, k1)[1]
    full, half = reciprocal(ranking, k1), reciprocal(ranking, int(np.around(k1 / 2)) + 1)
    encoding = np.zeros((count, count), np.float32)
    for i in range(count):
        own = full[i]
        close = [half[c] for c in own if 3 * len(np.intersect1d(half[c], own, assume_unique=True)) > 2 * len(half[c])]
        members = np.unique(np.concatenate([own, *close]))
        weights = np.exp(2 * (features[members] @ features[i]) - 2)
        encoding[i, members] = weights / weights.sum()
    if k2 > 1:
        encoding = expanded(encoding, ranking[:, :k2])
    holders = [np.flatnonzero(encoding[:, g]) for g in range(count)]
    distances = np.empty((count, count), np.float32)
    for i in range(count):
        shared = np.zeros(count, np.float32)
        for g in np.flatnonzero(encoding[i]):
            shared[holders[g]] += np.minimum(encoding[i, g], encoding[holders[g], g])
        distances[i] = 1 - shared / (2 - shared)
    return np.maximum(distances, 0, out=distances)


def expanded(encoding, nearest):
    result = np.empty_like(encoding)
    for i, rows in enumerate(nearest):
        np.mean(encoding[rows], axis=0, out=result[i])
    return result


def save_labels(labels, file):
    if file:
        file.write_text("index,label\n" + "".join(f"{i},{label}\n" for i, label in enumerate(labels)))
    return {"clusters": int(labels.max()) + 1, "noise": int((labels < 0).sum())}


def clustering(words, metric):
    from sklearn.cluster import DBSCAN

    features = read_data(words)[0]["features"]
    if metric == "jaccard":
        import faiss

        faiss.omp_set_num_threads(words.threads)
        features /= np.linalg.norm(features, axis=1, keepdims=True)  # as embeddings usually come
    state = {}

    def compute():
        if metric == "jaccard":
            rows, how = jaccard_numpy(features, words.k1, words.k2), {"metric": "precomputed"}
        else:
            rows, how = features, {"metric": "euclidean", "algorithm": "brute"}
        state["labels"] = DBSCAN(eps=words.eps, min_samples=words.min_samples, n_jobs=words.threads, **how).fit_predict(rows)

    return compute, lambda: save_labels(state["labels"], words.save)


def euclidean_distances(a, b):
    squares = (a * a).sum(1)[:, None] + (b * b).sum(1)[None]
    squares -= 2 * (a @ b.T)
    return np.sqrt(np.maximum(squares, 0, out=squares), out=squares)


def reranking(words):
    from safetensors.numpy import save_file

    query, gallery = (part["features"] for part in read_data(words))
    function = torchreid("utils.rerank").re_ranking
    state = {}

    def compute():
        pairs = (query, gallery), (query, query), (gallery, gallery)
        state["distances"] = function(*(euclidean_distances(*pair) for pair in pairs), k1=words.k1, k2=words.k2, lambda_value=words.mix)

    def finish():
        if words.save:
            save_file({"distances": np.ascontiguousarray(state["distances"], np.float32)}, words.save)
        return {}

    return compute, finish


def nearest(words):
    """Exact search by faiss; its distances are squared."""
    import faiss
    from safetensors.numpy import save_file

    faiss.omp_set_num_threads(words.threads)
    query, gallery = (part["features"] for part in read_data(words))
    state = {}

    def compute():
        index = faiss.IndexFlatL2(gallery.shape[1])
        index.add(gallery)
        state["squares"], state["index"] = index.search(query, words.top)

    def finish():
        if words.save:
            save_file({"index": state["index"], "distance": np.sqrt(state["squares"])}, words.save)
        return {}

    return compute, finish


WAYS = {
    "faiss-flat": nearest,
    "torchreid": lambda words: evaluation(words, True),
    "torchreid-blocks": blocked_evaluation,
    "torchreid-python": lambda words: evaluation(words, False),
    "faiss-numpy-sklearn": lambda words: clustering(words, "jaccard"),
    "sklearn": lambda words: clustering(words, "euclidean"),
    "torchreid-rerank": reranking,
}


def run_way(words):
    compute, finish = WAYS[words.action](words)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    compute()
    seconds = time.perf_counter() - start
    result = finish()
    return {"seconds": seconds - result.pop("untimed", 0), "loaded_mib": before / 1024, "result": result}


def compare_distances(words):
    """Both [N, G]; the largest difference and how many entries differ by more than 1e-5."""
    from safetensors.numpy import load_file

    a, b = (load_file(file)["distances"] for file in (words.folder, words.other))
    assert a.shape == b.shape, (a.shape, b.shape)
    difference = np.abs(a - b)
    return {"largest": float(difference.max()), "beyond_1e-5": int((difference > 1e-5).sum()), "entries": int(difference.size)}


def compare_lists(words):
    """Both index and distance [Q, K]; the largest relative difference of distances in the same place, and how many places name other rows."""
    from safetensors.numpy import load_file

    a, b = (load_file(file) for file in (words.folder, words.other))
    assert a["index"].shape == b["index"].shape, (a["index"].shape, b["index"].shape)
    difference = np.abs(a["distance"] - b["distance"]) / a["distance"]
    return {"largest": float(difference.max()), "others": int((a["index"] != b["index"]).sum()), "entries": int(difference.size)}


def versions(_):
    import platform

    import faiss
    import scipy
    import sklearn
    from importlib.metadata import version
    from threadpoolctl import threadpool_info

    np.ones((64, 64)) @ np.ones((64, 64))
    libraries = [f"{i['internal_api']} {i.get('version')} {i.get('architecture', '')}".strip() for i in threadpool_info()]
    return {"python": platform.python_version(), "numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__,
            "faiss-cpu": faiss.__version__, "pyppbox-torchreid": version("pyppbox-torchreid"), "libraries": sorted(set(libraries))}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=[*WAYS, "data", "distances", "lists", "versions"])
    parser.add_argument("folder", type=pathlib.Path, nargs="?")
    parser.add_argument("other", type=pathlib.Path, nargs="?")
    parser.add_argument("--size", type=int, nargs="+", default=[])
    parser.add_argument("--spread", type=float, nargs=2)
    parser.add_argument("--save", type=pathlib.Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--top", type=int)
    parser.add_argument("--k1", type=int)
    parser.add_argument("--k2", type=int)
    parser.add_argument("--mix", type=float, help="lambda of the re-ranking")
    parser.add_argument("--eps", type=float)
    parser.add_argument("--min-samples", type=int)
    words = parser.parse_args()
    actions = {"data": write_data, "distances": compare_distances, "lists": compare_lists, "versions": versions}
    print(json.dumps(actions.get(words.action, run_way)(words)))


if __name__ == "__main__":
    main()
