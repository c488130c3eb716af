#!/usr/bin/env python3
"""Clustering beside the usual Python ways, on random clustered features, in alternating runs.

    python3 tools/bench_clustering.py [--program build/reid] [--task jaccard|euclidean] [--rows 12936] [--runs 3] [--out FILE]

jaccard    k1 30, k2 6, DBSCAN eps 0.5, min_samples 4. Python: faiss' exact search on the CPU, the k-reciprocal encoding in numpy as
           unsupervised re-ID trains with (dense V and distance), scikit-learn's DBSCAN on the matrix.
euclidean  DBSCAN on the features, min_samples 4. Python: scikit-learn, algorithm "brute".

Both sides get two threads and the features as float32 in memory; reading them, importing and writing the labels are not timed. Each
run is a process of its own, so that its peak memory is its own. The answers must agree: equal labels for euclidean; for jaccard,
where the reference computes in float32, the share of pairs that both put together or apart is printed. Needs numpy, scikit-learn,
faiss-cpu and safetensors.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time

EPS = {"jaccard": 0.5, "euclidean": 1.1}


def make_features(path, rows, columns=2048):
    """Unit rows around rows/17 centers; distances within an identity overlap those between a little."""
    import numpy as np
    from safetensors.numpy import save_file
    rng = np.random.default_rng(rows)
    centers = rng.standard_normal((max(1, rows // 17), columns), dtype=np.float32)
    centers /= np.linalg.norm(centers, axis=1, keepdims=True)
    spread = rng.uniform(0.8, 2.8, (rows, 1)).astype(np.float32) / np.float32(columns) ** 0.5
    x = centers[rng.integers(0, len(centers), rows)] + spread * rng.standard_normal((rows, columns), dtype=np.float32)
    save_file({"features": x / np.linalg.norm(x, axis=1, keepdims=True)}, path)


def numpy_jaccard(x, k1, k2):
    """The k-reciprocal Jaccard distance with dense float32 matrices."""
    import faiss
    import numpy as np
    n = len(x)
    faiss.omp_set_num_threads(2)
    index = faiss.IndexFlatL2(x.shape[1])
    index.add(x)
    ranks = index.search(x, k1)[1]

    def reciprocal(i, k):
        forward = ranks[i, :k]
        return forward[(ranks[forward, :k] == i).any(1)]

    full = [reciprocal(i, k1) for i in range(n)]
    half = [reciprocal(i, round(k1 / 2) + 1) for i in range(n)]
    v = np.zeros((n, n), np.float32)
    for i in range(n):
        members = full[i]
        for candidate in full[i]:
            if len(np.intersect1d(half[candidate], full[i])) > 2 / 3 * len(half[candidate]):
                members = np.append(members, half[candidate])
        members = np.unique(members)
        weights = np.exp(2 * (x[members] @ x[i]) - 2)
        v[i, members] = weights / weights.sum()
    v = np.stack([v[ranks[i, :k2]].mean(0) for i in range(n)])
    holders = [np.flatnonzero(v[:, j]) for j in range(n)]
    distance = np.empty((n, n), np.float32)
    for i in range(n):
        shared = np.zeros(n, np.float32)
        for j in np.flatnonzero(v[i]):
            shared[holders[j]] += np.minimum(v[i, j], v[holders[j], j])
        distance[i] = np.maximum(1 - shared / (2 - shared), 0)
    return distance


def python_way(task, features, out):
    """Run in a process of its own: prints seconds (wall, processor) and writes the labels."""
    import numpy as np
    from safetensors.numpy import load_file
    from sklearn.cluster import DBSCAN
    import threadpoolctl
    x = load_file(features)["features"]
    with threadpoolctl.threadpool_limits(2):
        wall, processor = time.perf_counter(), time.process_time()
        if task == "jaccard":
            labels = DBSCAN(eps=EPS[task], min_samples=4, metric="precomputed", n_jobs=2).fit_predict(numpy_jaccard(x, 30, 6))
        else:
            labels = DBSCAN(eps=EPS[task], min_samples=4, algorithm="brute", n_jobs=2).fit_predict(x)
        seconds = time.perf_counter() - wall, time.process_time() - processor
    np.save(out, labels)
    print(json.dumps({"wall": seconds[0], "processor": seconds[1], "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


def our_way(program, task, features, out):
    words = [program, "cluster", "--features", features, "--metric", task, "--eps", str(EPS[task]), "--min-samples", "4", "--threads", "2",
             "--out", out, "--json", "-"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    result = json.loads(process.stdout.read())
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, words
    # The processor's time is the whole process', reading and writing included.
    return {"wall": sum(p["seconds"] for p in result["phases"]), "processor": usage.ru_utime + usage.ru_stime,
            "peak": result["peak_bytes"], "estimate": result["estimated_bytes"] + result["feature_bytes"],
            "phases": {p["phase"]: p["seconds"] for p in result["phases"]}}


def agreement(a, b):
    """Whether labels are equal, and the Rand index with noise points as clusters of their own."""
    import numpy as np
    from sklearn.metrics import rand_score
    singles = [np.where(labels < 0, 10**6 + np.arange(len(labels)), labels) for labels in (a, b)]
    return bool(np.array_equal(a, b)), float(rand_score(*singles))


def compare(program, task, rows, runs, folder):
    import numpy as np
    features, out = os.path.join(folder, "x.safetensors"), os.path.join(folder, "labels.csv")
    make_features(features, rows)
    ours, theirs = [], []
    for _ in range(runs):
        ours.append(our_way(program, task, features, out))
        python = subprocess.run([sys.executable, __file__, "--python-way", task, features, folder + "/labels.npy"], check=True,
                                env={**os.environ, "OPENBLAS_CORETYPE": os.environ.get("OPENBLAS_CORETYPE", "SkylakeX"),
                                     "OMP_NUM_THREADS": "2"}, stdout=subprocess.PIPE)
        theirs.append(json.loads(python.stdout))
    labels = np.loadtxt(out, delimiter=",", skiprows=1, dtype=np.int64)[:, 1]
    equal, rand = agreement(labels, np.load(folder + "/labels.npy"))
    ratio = {kind: statistics.median(t[kind] / o[kind] for o, t in zip(ours, theirs)) for kind in ("wall", "processor", "peak")}
    spread = [min(t["wall"] / o["wall"] for o, t in zip(ours, theirs)), max(t["wall"] / o["wall"] for o, t in zip(ours, theirs))]
    report = {"task": task, "rows": rows, "columns": 2048, "eps": EPS[task], "runs": runs, "ratio": ratio, "wall_ratio_spread": spread,
              "labels_equal": equal, "rand_index": rand, "clusters": int(labels.max()) + 1, "noise": int((labels < 0).sum()),
              "peak_bytes": ours[0]["peak"], "estimated_bytes": ours[0]["estimate"], "python_peak_bytes": theirs[0]["peak"],
              "ours": ours, "python": theirs}
    print(f"{task} {rows}: {ratio['wall']:.2f} times as fast by the clock ({spread[0]:.2f} to {spread[1]:.2f}), {ratio['processor']:.2f} by "
          f"processor time, {ratio['peak']:.2f} times less memory; labels {'equal' if equal else f'differ, Rand index {rand:.6f}'}; "
          f"{report['clusters']} clusters, {report['noise']} noise", flush=True)
    return report


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "--python-way":
        return python_way(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/reid")
    parser.add_argument("--task", nargs="*", default=["jaccard", "euclidean"], choices=sorted(EPS))
    parser.add_argument("--rows", nargs="*", type=int, default=[12936])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out")
    o = parser.parse_args()
    import faiss
    import numpy
    import sklearn
    with tempfile.TemporaryDirectory() as folder:
        reports = [compare(o.program, task, rows, o.runs, folder) for task in o.task for rows in o.rows]
    machine = {"processor": platform.processor(), "cores": os.cpu_count(), "numpy": numpy.__version__, "scikit-learn": sklearn.__version__,
               "faiss": faiss.__version__}
    if o.out:
        with open(o.out, "w") as file:
            json.dump({"machine": machine, "results": reports}, file, indent=1)
            file.write("\n")


if __name__ == "__main__":
    main()
