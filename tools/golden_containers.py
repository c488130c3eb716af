#!/usr/bin/env python3
"""Tiny data sets in containers: MATLAB files by SciPy (version 5) and h5py (7.3, as MATLAB lays it out), LMDB databases by py-lmdb.

    python tools/golden_containers.py      writes data/golden/containers/* and data/golden/containers.safetensors

Needs numpy, scipy, h5py, lmdb, pillow and safetensors. The safetensors file has the numbers and pixels that are in the containers;
containers/expected.json the lists of samples that each data set means: [path, person, camera, tracklet] by part.
"""

import io
import json
import pathlib
import pickle
import shutil
import sys

import h5py
import lmdb
import numpy as np
import scipy.io
from PIL import Image
from safetensors.numpy import save_file

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from golden import FOLDER, MANIFEST, script_hash, sha256  # noqa: E402

FILES = FOLDER / "containers"
VALUES, EXPECTED = {}, {}
RANDOM = np.random.default_rng(41)


def expect(file, **arrays):
    for name, value in arrays.items():
        value = np.atleast_2d(np.asarray(value))
        VALUES[f"{file}/{name}"] = np.ascontiguousarray(value if value.dtype == np.uint8 else value.astype(np.float64))


def cells(rows):
    """A MATLAB cell array of lists of rows."""
    array = np.empty((len(rows), len(rows[0])), dtype=object)
    for i, row in enumerate(rows):
        for j, value in enumerate(row):
            array[i, j] = value
    return array


def save_v5(file, variables, compressed=False):
    path = FILES / file
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, variables, do_compression=compressed)
    content = bytearray(path.read_bytes())
    content[:116] = b"MATLAB 5.0 MAT-file, written for tests".ljust(116)  # without the time of writing
    path.write_bytes(content)


# ---- Version 7.3: HDF5 with every array transposed, cells as references into the group #refs#, classes as attributes


class Matlab73:
    def __init__(self, file):
        self.path = FILES / file
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = h5py.File(self.path, "w", userblock_size=512)
        self.refs, self.count = self.file.create_group("#refs#"), 0

    def classify(self, item, name):
        kind = h5py.h5t.C_S1.copy()  # without a final zero, as MATLAB writes it
        kind.set_size(len(name))
        attribute = h5py.h5a.create(item.id, b"MATLAB_class", kind, h5py.h5s.create(h5py.h5s.SCALAR))
        attribute.write(np.array(np.bytes_(name)), mtype=kind)

    def put(self, value, name=None, where=None):
        """A variable, or (without a name) a value that a cell refers to."""
        group = self.refs if where is None and name is None else where or self.file
        if name is None:
            name, self.count = f"r{self.count}", self.count + 1
        if isinstance(value, dict):
            item = group.create_group(name)
            for field, content in value.items():
                self.put(content, field, item)
            self.classify(item, "struct")
            names = np.empty(len(value), dtype=object)
            names[:] = [np.frombuffer(field.encode(), dtype="S1") for field in value]
            item.attrs.create("MATLAB_fields", names, dtype=h5py.vlen_dtype(np.dtype("S1")))
            return item.ref
        if isinstance(value, str):
            item = group.create_dataset(name, data=np.array([[ord(c)] for c in value], dtype=np.uint16))
            item.attrs["MATLAB_int_decode"] = np.int32(2)
            self.classify(item, "char")
            return item.ref
        value = np.atleast_2d(value)
        if value.dtype == object:
            refs = np.array([[self.put(v) for v in row] for row in value], dtype=h5py.ref_dtype)
            item = group.create_dataset(name, data=refs.T, dtype=h5py.ref_dtype)
            self.classify(item, "cell")
        elif value.size == 0:
            item = group.create_dataset(name, data=np.array(value.shape, dtype=np.uint64))
            item.attrs["MATLAB_empty"] = np.uint8(1)
            self.classify(item, "double")
        else:
            packed = {"compression": "gzip", "chunks": value.T.shape} if name == "bytes" else {}  # as MATLAB packs what is large
            item = group.create_dataset(name, data=np.ascontiguousarray(value.T), **packed)
            self.classify(item, {"float64": "double", "float32": "single"}.get(str(value.dtype), str(value.dtype)))
        return item.ref

    def close(self):
        self.file.close()
        content = bytearray(self.path.read_bytes())
        content[:128] = b"MATLAB 7.3 MAT-file, written for tests".ljust(116) + bytes(8) + b"\x00\x02IM"
        self.path.write_bytes(content)


def values():
    variables = {
        "matrix": np.array([[1.5, -2.0, 3.0], [4.0, 1e300, 0.0]]), "whole": np.array([[1, -2, 3]], dtype=np.int32),
        "single": np.array([[0.25], [-8.0]], dtype=np.float32), "short": np.array([[65535, 7]], dtype=np.uint16),
        "large": np.array([[2**52, -(2**52)]], dtype=np.int64), "bytes": RANDOM.integers(0, 256, (2, 4, 3), dtype=np.uint8),
    }
    for file in ("values.mat", "values_compressed.mat", "values_v73.mat"):
        expect(file, **variables)
    image = RANDOM.integers(0, 256, (3, 2, 3), dtype=np.uint8)
    others = {"word": "1_001_1_01.png", "words": cells([["a"], ["1_002_2_06.png"], ["zz"]]), "empty": np.zeros((0, 0)),
              "images": cells([[cells([[image, np.zeros((0, 0))], [np.zeros((2, 2)), image[:2]]])]]),
              "nested": cells([[{"first": np.array([[1.0]]), "second": "x", "third": np.array([[7.0, 9.0]])}]])}
    save_v5("values.mat", {**variables, **others, "complex": np.array([[1 + 2j]]), "logical": np.array([[True, False]]), "wide": "\u00e4\u4eba"})
    save_v5("values_compressed.mat", {**variables, **others}, compressed=True)
    file = Matlab73("values_v73.mat")
    for name, value in {**variables, **others}.items():
        file.put(value, name)
    file.close()
    VALUES["values/image"] = image


# ---- Data sets


def part(samples):
    return [list(sample) for sample in samples]


def mars():
    """Two people for training, two for testing, a distractor and junk; tracklets of one to three frames."""
    def tracklets(rows):
        names, info, places = [], [], []
        for pid, camera, track, frames in rows:
            first = len(names) + 1
            names += [f"{pid if pid >= 0 else '00-1'}".rjust(4, "0") + f"C{camera}T{track:04d}F{f + 1:03d}.jpg" for f in range(frames)]
            info.append([first, len(names), pid, camera])
            places.append(names[first - 1:])
        return names, np.array(info), places

    train_names, train, train_places = tracklets([(1, 1, 1, 2), (1, 6, 1, 3), (3, 2, 1, 1), (3, 2, 2, 2)])
    test_names, test, test_places = tracklets([(-1, 1, 1, 2), (0, 3, 1, 2), (2, 1, 1, 2), (2, 4, 1, 1), (2, 1, 2, 2), (5, 4, 1, 3), (5, 2, 1, 2)])
    query = np.array([[3, 6]], dtype=np.uint16)  # counted from 1
    folder = FILES / "mars" / "info"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train_name.txt").write_text("\n".join(train_names) + "\n")
    (folder / "test_name.txt").write_text("\r\n".join(test_names) + "\r\n")
    save_v5("mars/info/tracks_train_info.mat", {"track_train_info": train.astype(np.float64)})
    save_v5("mars/info/tracks_test_info.mat", {"track_test_info": test.astype(np.int32)}, compressed=True)
    save_v5("mars/info/query_IDX.mat", {"query_IDX": query})

    def samples(home, info, places, rows, first):
        return [[f"mars/{home}/{name[:4]}/{name}", int(info[row][2]), int(info[row][3]) - 1, first + row]
                for row in rows if info[row][2] != -1 for name in places[row]]

    every = range(len(test))
    EXPECTED["mars"] = {
        "train": samples("bbox_train", train, train_places, range(len(train)), 0),
        "query": samples("bbox_test", test, test_places, [2, 5], len(train)),
        "gallery": samples("bbox_test", test, test_places, every, len(train)),
        "gallery_without_queries": samples("bbox_test", test, test_places, [row for row in every if row not in (2, 5)], len(train)),
    }


def ilids_vid():
    """Six people; their folders are numbered with gaps, so that places in the sorted list differ from numbers."""
    folders = [f"person{n:03d}" for n in (1, 2, 5, 9, 10, 31)]
    splits = np.array([RANDOM.permutation(6) + 1 for _ in range(3)], dtype=np.float64)
    save_v5("i-LIDS-VID/train-test people splits/train_test_splits_ilidsvid.mat", {"ls_set": splits})
    EXPECTED["ilids-vid"] = {"folders": folders, "splits": []}
    for row in splits.astype(int):
        test, train = sorted(row[:3]), sorted(row[3:])

        def samples(people, cameras):
            return [[f"i-LIDS-VID/sequences/cam{c}/{folders[p - 1]}/cam{c}_{folders[p - 1]}_{frame:05d}.png", int(p), c - 1, int(2 * (p - 1) + c - 1)]
                    for p in people for c in cameras for frame in (1, 2)]

        EXPECTED["ilids-vid"]["splits"].append({"train": samples(train, (1, 2)), "query": samples(test, (1,)), "gallery": samples(test, (2,))})


def grid():
    probes = {1: "0001_1_25004_107_32_106_221", 2: "0002_3_25023_116_134_128_330", 3: "0003_5_25008_162_4_69_190", 4: "0004_8_1_1_1_1_1"}
    gallery = {1: "0001_2_25_1_1_1_1", 2: "0002_4_25_1_1_1_1", 3: "0003_6_25_1_1_1_1", 4: "0004_7_25_1_1_1_1"}
    distractors = ["0000_1_25004_1_1_1_1", "0000_6_25004_1_1_1_2"]
    train = [[1, 3], [2, 3]]
    records = [{"probeImIdx": np.array([[2.0, 6.0]]), "galleryImIdx": np.array([[1.0, 5.0]]), "personIdx": np.array([people], dtype=np.float64)}
               for people in train]
    save_v5("underground_reid/features_and_partitions.mat", {"features": np.zeros((3, 2)), "trainIdxAll": cells([records])}, compressed=True)
    EXPECTED["grid"] = {"files": [f"underground_reid/probe/{n}.jpeg" for n in probes.values()] +
                        [f"underground_reid/gallery/{n}.jpeg" for n in [*gallery.values(), *distractors]], "splits": []}

    def samples(folder, names):
        return [[f"underground_reid/{folder}/{name}.jpeg", int(name[:4]), int(name[5]) - 1, -1] for name in names]

    for people in train:
        EXPECTED["grid"]["splits"].append({
            "train": samples("probe", [probes[p] for p in people]) + samples("gallery", [gallery[p] for p in people]),
            "query": samples("probe", [n for p, n in probes.items() if p not in people]),
            "gallery": samples("gallery", distractors + [n for p, n in gallery.items() if p not in people]),
        })


def cuhk03():
    """Two pairs of cameras with two people each; ten cells for a person, five a view, most of them empty."""
    folder, images = "cuhk03", {"labeled": [], "detected": []}
    raw = Matlab73(f"{folder}/cuhk03_release/cuhk-03.mat")
    filled = {"labeled": {0: (0, 1, 5), 1: (0, 6), 2: (2, 5, 9), 3: (4, 7)}, "detected": {0: (0, 5), 1: (0, 1, 5), 2: (2, 9), 3: (0, 4, 8)}}
    for kind, people in filled.items():
        pairs = []
        for pair in range(2):
            rows = []
            for person in range(2):
                row = [np.zeros((0, 0)) for _ in range(10)]
                for k in people[2 * pair + person]:
                    row[k] = RANDOM.integers(0, 256, (3 + person, 2 + k % 3, 3), dtype=np.uint8)
                    name = f"{pair + 1}_{person + 1:03d}_{1 if k < 5 else 2}_{k + 1:02d}.png"
                    images[kind].append((name, 2 * pair + person + 1))
                    VALUES[f"cuhk03/{kind}/{name}"] = row[k]
                rows.append(row)
            pairs.append([cells(rows)])
        raw.put(cells(pairs), kind)
    tests = [[(1, 2)], [(2, 1)]]  # pair and person, by split
    raw.put(cells([[np.array(test, dtype=np.float64)] for test in tests]), "testsets")
    raw.close()

    def sample(kind, name, person):
        return [f"{folder}/images_{kind}/{name}", person, int(name.split("_")[2]) - 1, -1]

    EXPECTED["cuhk03"] = {}
    for kind, names in images.items():
        classic = []
        for test in tests:
            chosen = [(n, p) for n, p in names if (int(n[0]), int(n[2:5])) in test]
            rest = [(n, p) for n, p in names if (n, p) not in chosen]
            lists = {"train": part(sample(kind, *x) for x in rest), "query": part(sample(kind, *x) for x in chosen)}
            classic.append({**lists, "gallery": lists["query"]})
        order = RANDOM.permutation(len(names))
        filelist = [names[i][0] for i in order]
        labels = [names[i][1] for i in order]
        indices = {"train_idx": [i + 1 for i, p in enumerate(labels) if p <= 2]}  # counted from 1
        query = [max(i for i, p in enumerate(labels) if p == person) + 1 for person in (3, 4)]
        indices |= {"query_idx": query, "gallery_idx": [i + 1 for i, p in enumerate(labels) if p > 2 and i + 1 not in query]}
        save_v5(f"{folder}/cuhk03_new_protocol_config_{kind}.mat", {
            "filelist": cells([[name] for name in filelist]), "labels": np.array(labels, dtype=np.float64)[:, None],
            **{name: np.array(index, dtype=np.uint16)[:, None] for name, index in indices.items()}})
        new = {name.removesuffix("_idx"): part(sample(kind, filelist[i - 1], labels[i - 1]) for i in index) for name, index in indices.items()}
        EXPECTED["cuhk03"][kind] = {"classic": classic, "new": new, "files": sorted(name for name, _ in names)}


# ---- LMDB


def encoded(seed, kind, height=4, width=3):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    return pixels, buffer.getvalue()


def database(path, entries, subdir=True):
    folder = FILES / path
    (folder if subdir else folder.parent).mkdir(parents=True, exist_ok=True)
    with lmdb.open(str(folder), map_size=1 << 20, subdir=subdir, lock=False) as environment, environment.begin(write=True) as transaction:
        for key, value in entries:
            transaction.put(key.encode(), value)
    # The writer reserved a megabyte; the file holds the pages in use.


def luperson():
    keys = ["01_00_0002_00000001", "00_03_0001_00000000", "00_03_0001_00000002", "00_03_0001_00000001", "00_03_0010_00000000"]
    entries = [(key, encoded(seed, "PNG")) for seed, key in enumerate(keys)]
    database("luperson/lmdb", [(key, content) for key, (_, content) in entries] + [("99_99_9999_00000000", b"not in the list")])
    (FILES / "luperson" / "keys.pkl").write_bytes(pickle.dumps(keys, protocol=2))
    for key, (pixels, _) in entries:
        VALUES[f"luperson/{key}"] = pixels
    videos = ["00_03_0001", "00_03_0010", "01_00_0002"]
    EXPECTED["luperson-lmdb"] = {"videos": videos, "train": [[f"luperson/lmdb!{key}", -1, videos.index(key[:10]), -1] for key in sorted(keys)],
                                 "scan": sorted(keys) + ["99_99_9999_00000000"]}


def luperson_nl():
    """Keys VVVVV_PPPPPP_FFFFFFF_OO: video, noisy identity, frame, object of the frame; identities also in the list, here one higher."""
    names = [(1, 0, 10, 0), (1, 0, 11, 1), (1, 1, 10, 2), (2, 1, 5, 0), (2, 7, 5, 1)]
    keys = [f"{v:05d}_{p:06d}_{f:07d}_{o:02d}" for v, p, f, o in names]
    database("luperson-nl/lmdb", [(key, encoded(100 + i, "JPEG")[1]) for i, key in enumerate(keys)])
    (FILES / "luperson-nl" / "keys.pkl").write_bytes(pickle.dumps({"keys": keys, "pids": [p + 1 for _, p, _, _ in names]}))
    tracklets = [0, 0, 1, 2, 3]  # a person in a video
    EXPECTED["luperson-nl"] = {
        "videos": ["00001", "00002"],
        "train": [[f"luperson-nl/lmdb!{key}", p + 2, v - 1, t] for key, (v, p, _, _), t in zip(keys, names, tracklets)],
        "train_without_list": [[f"luperson-nl/lmdb!{key}", p + 1, v - 1, t] for key, (v, p, _, _), t in zip(keys, names, tracklets)],
    }


def single_file():
    """One entry is longer than a page."""
    pixels, content = encoded(7, "PNG")
    large, large_content = encoded(9, "PNG", 50, 30)
    database("pictures.lmdb", [("a!b.png", content), ("jpeg", encoded(8, "JPEG")[1]), ("large", large_content)], subdir=False)
    VALUES["pictures.lmdb/a!b.png"], VALUES["pictures.lmdb/large"] = pixels, large
    VALUES["pictures.lmdb/jpeg"] = np.frombuffer(encoded(8, "JPEG")[1], dtype=np.uint8)


def main():
    shutil.rmtree(FILES, ignore_errors=True)
    FILES.mkdir(parents=True)
    for write in (values, mars, ilids_vid, grid, cuhk03, luperson, luperson_nl, single_file):
        write()
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in EXPECTED.items())
    (FILES / "expected.json").write_text("{\n" + lines + "\n}\n")
    path = FOLDER / "containers.safetensors"
    save_file({name: np.ascontiguousarray(value) for name, value in VALUES.items()}, str(path))
    path.chmod(0o644)
    files = [file for file in sorted(FILES.rglob("*")) if file.is_file()]
    manifest = json.loads(MANIFEST.read_text())
    scripts = ["golden.py", "golden_containers.py"]
    manifest[path.name] = {"sha256": sha256(path), "scripts": scripts, "scripts_sha256": script_hash(scripts), "tensors": len(VALUES),
                           "numpy": np.__version__, "scipy": scipy.__version__, "h5py": h5py.__version__,
                           "lmdb": ".".join(map(str, lmdb.version())), "files": {str(f.relative_to(FOLDER)): sha256(f) for f in files}}
    MANIFEST.write_text(json.dumps(dict(sorted(manifest.items())), indent=2) + "\n")
    print(f"{path.name}: {len(VALUES)} tensors; {len(files)} files, {sum(f.stat().st_size for f in files) / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
