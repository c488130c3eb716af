"""Writes data/golden/evaluation.safetensors: what other programs make of small evaluation, verification and re-ranking problems.

Run from the root of the repository with numpy, scikit-learn and safetensors, and with the unpacked source of torchreid 0.2.5
(pip download --no-deps --no-binary :all: torchreid): python3 tools/golden_evaluation.py FOLDER_OF_TORCHREID
Answers come from the original code where it can be installed: torchreid's rank.py and rerank.py, scikit-learn's roc_curve and
average_precision_score. The others are slow transcriptions of a published rule, named at each function. Random numbers belong to
the name of the case; draws that a reference leaves to chance are made by this project's generator, ported below.
"""

import hashlib
import importlib.util
import json
import pathlib
import sys
import types
import warnings

import numpy as np
import sklearn
from safetensors.numpy import save_file
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

FOLDER = pathlib.Path(__file__).resolve().parent.parent / "data" / "golden"
TENSORS = {}
RANKS = [1, 2, 5, 10, 20]


def put(case, **values):
    for key, value in values.items():
        array = np.atleast_1d(np.asarray(value))
        if array.dtype == np.bool_ or array.dtype.kind == "i":
            array = array.astype(np.int64)
        assert np.all(np.isfinite(array)), (case, key)
        assert f"{case}/{key}" not in TENSORS, (case, key)
        TENSORS[f"{case}/{key}"] = np.ascontiguousarray(array)


def random(name):
    return np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big"))


class Rng:
    """The generator of include/reid/engine/base.h."""

    MASK = (1 << 64) - 1
    GOLDEN = 0x9E3779B97F4A7C15

    def __init__(self, seed):
        self.key, self.counter = self.mix(seed + self.GOLDEN), 0

    @classmethod
    def mix(cls, z):
        z &= cls.MASK
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & cls.MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & cls.MASK
        return z ^ (z >> 31)

    def at(self, index):
        if isinstance(index, str):
            h = 0xCBF29CE484222325
            for byte in index.encode():
                h = ((h ^ byte) * 0x100000001B3) & self.MASK
            index = h
        child = Rng(0)
        child.key = self.mix(self.key ^ self.mix(int(index) * self.GOLDEN + 0xD1B54A32D192ED03))
        return child

    def below(self, count):
        while True:
            self.counter += 1
            value = self.mix(self.key + self.GOLDEN * self.counter)
            if value >= (1 << 64) % count:
                return value % count

    def shuffle(self, items):
        for i in range(len(items), 1, -1):
            j = self.below(i)
            items[i - 1], items[j] = items[j], items[i - 1]


def distance(a, b, metric):
    """From the differences, in extended precision: no cancellation."""
    a, b = a.astype(np.longdouble), b.astype(np.longdouble)
    if metric == "cosine":
        a, b = a / np.sqrt((a * a).sum(1, keepdims=True)), b / np.sqrt((b * b).sum(1, keepdims=True))
    squared = ((a[:, None] - b[None]) ** 2).sum(2)
    return {"cosine": squared / 2, "euclidean": np.sqrt(squared), "squared_euclidean": squared}[metric].astype(np.float64)


class Problem:
    def __init__(self, name, tied):
        rng = random(name)
        people = rng.normal(size=(40, 12))
        self.ids, self.gallery_ids = rng.integers(1, 36, 50), rng.integers(-1, 33, 260)
        self.gallery_ids[rng.integers(0, 260, 30)] = 0
        self.ids[[3, 17]] = 38  # not in the gallery
        self.ids[5] = -1
        self.cameras, self.gallery_cameras = rng.integers(0, 4, 50), rng.integers(0, 4, 260)
        query = people[self.ids] + 1.1 * rng.normal(size=(50, 12))
        gallery = people[self.gallery_ids] + 1.1 * rng.normal(size=(260, 12))
        if tied:  # signs only: distances are exact and few
            query, gallery = np.where(query > 0, 1.0, -1.0).astype(np.float32), np.where(gallery > 0, 1.0, -1.0).astype(np.float32)
        self.query, self.gallery, self.tied = query, gallery, tied
        put(name, query=query, gallery=gallery, query_ids=self.ids, query_cameras=self.cameras, gallery_ids=self.gallery_ids,
            gallery_cameras=self.gallery_cameras)
        self.rows, self.columns = np.flatnonzero(self.ids != -1), np.flatnonzero(self.gallery_ids != -1)  # without junk

    def distances(self, metric):
        d = distance(self.query, self.gallery, metric)
        gaps = np.diff(np.sort(d, axis=1), axis=1)
        assert self.tied == bool((gaps == 0).sum() > 100) and (self.tied or gaps.min() > 1e-11), gaps.min()
        return d

    def without_junk(self, metric):
        return (self.distances(metric)[np.ix_(self.rows, self.columns)], self.ids[self.rows], self.gallery_ids[self.columns],
                self.cameras[self.rows], self.gallery_cameras[self.columns])

    def ranking(self, d, q):
        """Gallery indices of query q, nearest first, ties by index, without what its filter removes."""
        order = np.lexsort((np.arange(len(self.gallery_ids)), d[q]))
        same = (self.gallery_ids == self.ids[q]) & (self.gallery_cameras == self.cameras[q])
        return [j for j in order if self.gallery_ids[j] != -1 and not same[j]]


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its Cython part is not built
        spec.loader.exec_module(module)
    return module


def stable_torchreid(rank, problem, seed):
    """torchreid's rank.py with a stable sort, and with its random draws made by our generator from the variables of its loop."""

    def choice(positions):
        loop = sys._getframe(1).f_locals
        kept = loop["order"][loop["keep"]]
        entries = sorted(positions, key=lambda p: kept[p])
        person = int(loop["g_pids"][kept[positions[0]]])
        draw = Rng(seed).at(problem.rows[loop["q_idx"]]).at(loop["repeat_idx"]).at(person)
        return entries[draw.below(len(entries))]

    numpy = types.SimpleNamespace(**{name: getattr(np, name) for name in ("invert", "any", "asarray", "zeros", "mean", "newaxis", "int32", "float32")})
    numpy.bool, numpy.random = bool, types.SimpleNamespace(choice=choice)
    numpy.argsort = lambda d, axis: np.argsort(d, axis=axis, kind="stable")
    rank.np = numpy
    return rank


def open_reid(problem, d, single_shot, seed=1):
    """Cysu/open-reid, reid/evaluation_metrics/ranking.py: mean_ap by scikit-learn; cmc with first_match_break, or as for CUHK03."""
    precisions, hits, queries = [], np.zeros(len(RANKS)), 0
    for q in range(len(problem.ids)):
        kept = problem.ranking(d, q)
        right = problem.gallery_ids[kept] == problem.ids[q]
        if problem.ids[q] == -1 or not right.any():
            continue
        queries += 1
        precisions.append(average_precision_score(right, -d[q][kept]))
        if not single_shot:
            hits += [np.flatnonzero(right)[0] < k for k in RANKS]
            continue
        kept = [j for j in kept if problem.gallery_cameras[j] != problem.cameras[q]]
        for repeat in range(10):
            sampled = []
            for person in set(problem.gallery_ids[kept]):
                entries = sorted(j for j in kept if problem.gallery_ids[j] == person)
                sampled.append(entries[Rng(seed).at(q).at(repeat).at(int(person)).below(len(entries))])
            place = [j for j in kept if j in sampled].index(next(j for j in sampled if problem.gallery_ids[j] == problem.ids[q]))
            hits += [(place < k) / 10 for k in RANKS]
    return np.mean(precisions), hits / queries


def market_matlab(problem, d):
    """compute_AP.m and evaluation.m of zhunzhong07/person-re-ranking, which are those of Market-1501's authors."""
    precisions, hits = [], np.zeros(len(RANKS))
    queries = [q for q in range(len(problem.ids)) if problem.ids[q] != -1]
    for q in queries:
        kept = problem.ranking(d, q)
        right = problem.gallery_ids[kept] == problem.ids[q]
        total, found, old_recall, old_precision, sum_ = right.sum(), 0, 0.0, 1.0, 0.0
        for place, hit in enumerate(right):
            found += hit
            recall, precision = found / total if total else 0, found / (place + 1)
            sum_ += (recall - old_recall) * (old_precision + precision) / 2
            old_recall, old_precision = recall, precision
        precisions.append(sum_)
        if right.any():
            hits += [np.flatnonzero(right)[0] < k for k in RANKS]
    return np.mean(precisions), hits / len(queries)


def presets(torchreid):
    rank = load(torchreid / "torchreid/reid/metrics/rank.py")
    for name, tied in (("plain", False), ("tied", True)):
        problem = Problem(name, tied)
        stable = stable_torchreid(rank, problem, 1)
        for preset, metric, cuhk03 in (("fastreid", "cosine", False), ("torchreid", "squared_euclidean", False),
                                       ("cuhk03-single-shot", "squared_euclidean", True)):
            cmc, precision = stable.evaluate_py(*problem.without_junk(metric), 20, cuhk03)
            put(f"{name}/{preset}", mAP=precision, cmc=cmc[np.array(RANKS) - 1].astype(np.float64))
        d = problem.distances("squared_euclidean")
        for preset, answer in (("openreid", open_reid(problem, d, False)), ("cuhk03-openreid", open_reid(problem, d, True)),
                               ("market-matlab", market_matlab(problem, problem.distances("cosine")))):
            put(f"{name}/{preset}", mAP=answer[0], cmc=answer[1])
        verification(name, problem)


def pairs_of(problem, d):
    """(distance, same identity, identity of the query, of the gallery image) of all pairs that are ranked."""
    rows = []
    for q in problem.rows:
        for j in problem.ranking(d, q):
            rows.append((d[q][j], problem.gallery_ids[j] == problem.ids[q], problem.ids[q], problem.gallery_ids[j]))
    return tuple(np.array(column) for column in zip(*rows))


def halves(paired, seed, a, b):
    """Which pairs lie within the first and the second half of the identities."""
    order = list(paired)
    Rng(seed).at("halves").shuffle(order)
    place = {person: int(i >= len(order) // 2) for i, person in enumerate(order)}
    half = lambda people: np.array([place[i] if i in place else Rng(seed).at("others").at(int(i)).below(2) for i in people])
    return (half(a) == 0) & (half(b) == 0), (half(a) == 1) & (half(b) == 1)


def verification(name, problem):
    d = problem.distances("cosine")
    paired = sorted({int(problem.ids[q]) for q in problem.rows if (problem.gallery_ids[problem.ranking(d, q)] == problem.ids[q]).any()})
    value, same, a, b = pairs_of(problem, d)
    value = np.round(value, 12)  # the same number wherever rows are signs
    rates = np.array([2e-5, 1e-3, 1e-2, 1e-1])
    far, tar, _ = roc_curve(same, -value, drop_intermediate=False)
    cross = np.flatnonzero(1 - tar - far <= 0)[0]
    before, after = 1 - tar[cross - 1] - far[cross - 1], 1 - tar[cross] - far[cross]
    share, reached, _ = roc_curve(~same, value)  # fast-reid, fastreid/evaluation/roc.py: labels 1 for different pairs
    seeds, wanted, thresholds = range(1, 9), 0.02, []
    for seed in reversed(seeds):  # the first one is left for what follows
        first, second = halves(paired, seed, a, b)
        thresholds.insert(0, max(t for t in value[first & same] if (value[first & ~same] <= t).mean() <= wanted))
    threshold = thresholds[0]
    put(f"{name}/verification", rates=rates, true_accept=[tar[far <= rate].max() for rate in rates],
        pairs=[same.sum(), (~same).sum()], equal_error=far[cross - 1] + (far[cross] - far[cross - 1]) * before / (before - after),
        area=roc_auc_score(same, -value), fastreid=[reached[np.argmin(np.abs(share - rate))] for rate in rates], wanted=wanted,
        thresholds=thresholds, chosen=[(value[first & ~same] <= threshold).mean(), (value[first & same] <= threshold).mean()],
        measured=[(value[second & ~same] <= threshold).mean(), (value[second & same] <= threshold).mean()],
        halves=[(first & same).sum(), (first & ~same).sum(), (second & same).sum(), (second & ~same).sum()])


def fastreid_jaccard(x, k1, k2):
    """compute_jaccard_distance of fast-reid, fastreid/utils/compute_dist.py, on unit rows, with dense matrices."""
    n, x = len(x), x / np.linalg.norm(x, axis=1, keepdims=True)
    squared = distance(x, x, "squared_euclidean")
    ranks = np.array([sorted(range(n), key=lambda j: (j != i, squared[i, j], j)) for i in range(n)])[:, :k1]

    def reciprocal(i, k):
        forward = ranks[i, : k + 1]
        return forward[np.where(ranks[forward, : k + 1] == i)[0]]

    v = np.zeros((n, n))
    for i in range(n):
        own = reciprocal(i, k1)
        expanded = own
        for candidate in own:
            other = reciprocal(candidate, int(np.around(k1 / 2)))
            if len(np.intersect1d(other, own)) > 2 / 3 * len(other):
                expanded = np.append(expanded, other)
        expanded = np.unique(expanded)
        weight = np.exp(-squared[i, expanded])
        v[i, expanded] = weight / weight.sum()
    if k2 != 1:
        v = np.stack([v[ranks[i, :k2]].mean(0) for i in range(n)])
    s = np.stack([np.minimum(v[i], v).sum(1) for i in range(n)])
    return np.maximum(1 - s / (2 - s), 0)


def reranking(torchreid):
    original = load(torchreid / "torchreid/reid/utils/rerank.py").re_ranking
    for key, (queries, gallery, k1, k2, weight) in {"usual": (20, 90, 20, 6, 0.3), "odd": (15, 60, 15, 1, 0.0), "few": (4, 9, 20, 6, 0.5)}.items():
        rng = random(f"rerank/{key}")
        middle = rng.normal(size=(12, 10))
        x = (middle[rng.integers(0, 12, queries + gallery)] + 0.5 * rng.normal(size=(queries + gallery, 10))) * rng.uniform(0.8, 1.2, (queries + gallery, 1))
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        split = lambda d: (d[:queries, queries:], d[:queries, :queries], d[queries:, queries:])
        # The original code squares what it is given and works in f32: no neighbor may hang on that rounding.
        for base in (x, unit):
            assert np.diff(np.sort(distance(base, base, "squared_euclidean"), axis=1), axis=1).min() > 3e-7, key
        put(f"rerank/{key}", query=x[:queries], gallery=x[queries:], k1=k1, k2=k2, weight=weight,
            zhong=original(*split(distance(x, x, "euclidean")), k1, k2, weight),
            bot=original(*split(distance(unit, unit, "euclidean")), k1, k2, weight),
            torchreid=original(*split(distance(x, x, "squared_euclidean")), k1, k2, weight),
            fastreid=(1 - weight) * fastreid_jaccard(x, k1, k2)[:queries, queries:] + weight * distance(x, x, "cosine")[:queries, queries:])


def expansion():
    """aqe of fast-reid, fastreid/evaluation/query_expansion.py; by the gallery alone, the same rule on the query and k - 1 gallery rows."""
    rng = random("expansion")
    x = rng.normal(size=(8, 10))[rng.integers(0, 8, 50)] + 0.6 * rng.normal(size=(50, 10))
    cosine = 1 - distance(x, x, "cosine")

    def expand(rows, columns, k, alpha):
        result = []
        for i in rows:
            near = sorted(columns, key=lambda j: -cosine[i, j])[:k]
            result.append(np.mean([np.power(cosine[i, j], alpha) * x[j] for j in near], axis=0))
        return np.array(result)

    everyone, queries, gallery = range(50), range(12), list(range(12, 50))
    put("expansion", query=x[:12], gallery=x[12:], k=6, alpha=3.0, union=expand(everyone, everyone, 6, 3.0), database=expand(gallery, gallery, 6, 3.0),
        queries=np.array([expand([i], [i] + gallery, 6, 3.0)[0] for i in queries]), wide=expand(everyone, everyone, 80, 2.0))


def main(torchreid):
    presets(torchreid)
    reranking(torchreid)
    expansion()
    path = FOLDER / "evaluation.safetensors"
    save_file(TENSORS, str(path))
    path.chmod(0o644)
    manifest_file = FOLDER / "manifest.json"
    manifest = json.loads(manifest_file.read_text())
    manifest[path.name] = {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "scripts": ["golden_evaluation.py"],
        "scripts_sha256": hashlib.sha256(pathlib.Path(__file__).read_bytes()).hexdigest(),
        "numpy": np.__version__,
        "scikit-learn": sklearn.__version__,
        "torchreid": "0.2.5",
        "tensors": len(TENSORS),
    }
    manifest_file.write_text(json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")
    print(f"{path.name}: {len(TENSORS)} tensors, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
