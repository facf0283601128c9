#!/usr/bin/env python3
"""How many queries a second do other libraries answer at which recall, and how many does ShoalDB, in one run?

    cargo build --release --bins
    benches/peers/run.py --base train.npy --queries test.npy --metric l2 --json out.json --plot out.svg
    benches/peers/run.py --kind hnsw --base train.npy --queries test.npy --metric l2
    benches/peers/run.py --kind ivf --nlist 1024 --base train.npy --queries test.npy --metric l2

Makes a virtual environment (--venv), installs the libraries there, builds every index over the same vectors and lets them take
turns: every setting of every index gets the same queries, one by one, on one thread, in turns long enough that it matters little
what the others left in the caches. No query comes twice to a setting in a round, nor to the next setting. ShoalDB is
`shoal-bench ann`: a server, and an attached reader that measures itself. The libraries are called from Python, and what such a
call costs them at the least (a search of 64 rows) is a column of the table; with --batch they get all queries of a setting in
one call (pyvsag has none), which spares them that, and ShoalDB still gets one after the other.
--kind picks who is compared: graph, ShoalDB's own graph with every library's best; hnsw and ivf, the indexes of these names at equal
parameters (M 16, efConstruction 200; --nlist lists), as the vectors are and as 8-bit codes.
--only names some of them; a run that is broken off leaves the rounds that were done in the file of --json.
"""

import argparse
import gzip
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import environment

PACKAGES = ["numpy", "rabitqlib", "hnswlib", "faiss-cpu", "usearch", "scalable-vs", "pyvsag"]
RECALLS = [0.90, 0.95, 0.99]
# Of curves, one for each library and ShoalDB.
COLOURS = ["#1f5fbf", "#c0392b", "#1e8449", "#8e44ad", "#b9770e", "#117a8b", "#7f8c8d"]
ROOT = Path(__file__).resolve().parents[2]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help=".npy, .fvecs, .bvecs or IDX, also packed with gzip")
    parser.add_argument("--queries", help="without it, the last rows of the base, which are then in no index")
    parser.add_argument("--metric", choices=["l2", "ip", "cosine"], default="l2")
    parser.add_argument("--rows", type=int, help="how many rows of the base at most")
    parser.add_argument("--query-count", type=int, default=10_000)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3, help="how often all of them take a turn")
    parser.add_argument("--build-threads", type=int, default=os.cpu_count())
    parser.add_argument("--kind", choices=sorted(KINDS), default="graph", help="who is compared")
    parser.add_argument("--nlist", type=int, default=256, help="lists of the indexes of --kind ivf")
    names = "; ".join(f"of {kind} " + ", ".join(subjects) for kind, subjects in KINDS.items())
    parser.add_argument("--only", help="names, separated by commas: " + names)
    parser.add_argument("--batch", action="store_true", help="give the libraries all queries of a setting in one call")
    parser.add_argument("--index", help="another index for the first ShoalDB of the kind: NAME,parameter=value,...")
    parser.add_argument("--bench", default=str(ROOT / "target/release/shoal-bench"))
    parser.add_argument("--venv", default=str(ROOT / "target/peers"))
    parser.add_argument("--json")
    parser.add_argument("--plot")
    options = parser.parse_args()
    unknown = set((options.only or "").split(",")) - {"", *KINDS[options.kind]}
    if unknown:
        parser.error(f"--kind {options.kind} has no {', '.join(sorted(unknown))}")
    return options


def load(path):
    import numpy as np

    opened = gzip.open if path.endswith(".gz") else open
    name = path.removesuffix(".gz")
    with opened(path, "rb") as file:
        if name.endswith(".npy"):
            return np.ascontiguousarray(np.load(file), dtype=np.float32)
        data = file.read()
    for ending, dtype in ((".fvecs", np.float32), (".bvecs", np.uint8)):
        if name.endswith(ending):
            dim = int.from_bytes(data[:4], "little")
            rows = np.frombuffer(data, np.uint8).reshape(-1, 4 + dim * np.dtype(dtype).itemsize)
            return np.ascontiguousarray(rows[:, 4:]).view(dtype).astype(np.float32)
    lengths = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(lengths[0], -1).astype(np.float32)


def exact(base, queries, metric, k):
    import numpy as np

    if metric == "cosine":
        base, queries = normalised(base), normalised(queries)
    squares = (base * base).sum(axis=1) if metric == "l2" else 0
    rows = []
    for first in range(0, len(queries), 200):
        distances = squares - (2 if metric == "l2" else 1) * (queries[first : first + 200] @ base.T)
        # A copy: a view would keep the whole array, which is as long as the base.
        rows.append(np.argpartition(distances, k, axis=1)[:, :k].copy())
    return np.concatenate(rows)


def normalised(vectors):
    import numpy as np

    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(norms > 0, norms, 1)


class Peer:
    """A library: `prepare` makes an array what it takes, `build` an index of it, `searcher` a function of one query."""

    metrics = ("l2", "ip", "cosine")
    takes_batches = True

    def __init__(self, options, k):
        self.metric, self.k, self.threads, self.nlist = options.metric, k, options.build_threads, options.nlist

    def prepare(self, vectors):
        return normalised(vectors) if self.metric == "cosine" else vectors

    def index_bytes(self):
        return None


def saved_bytes(save):
    """The length of the file that `save` writes."""
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "index")
        save(path)
        return os.path.getsize(path)


class Rabitqlib(Peer):
    """SymphonyQG; inner products only of normalised vectors, as distances."""

    metrics = ("l2", "cosine")

    def prepare(self, vectors):
        import numpy as np

        vectors = super().prepare(vectors)
        return np.pad(vectors, ((0, 0), (0, -vectors.shape[1] % 64)))

    def build(self, vectors):
        import rabitqlib

        self.index = rabitqlib.SymqgIndex(vectors.shape[1], 32, "l2", 0)
        self.index.build(vectors, 400, self.threads)

    def index_bytes(self):
        return saved_bytes(self.index.save)

    def searcher(self, setting):
        def search(query):
            first, second = self.index.search(query, self.k, setting, 1)[:2]
            return first if first.dtype.kind in "iu" else second

        return search


class Hnswlib(Peer):
    def index_bytes(self):
        return self.index.index_file_size()

    def build(self, vectors):
        import hnswlib

        self.index = hnswlib.Index(space={"cosine": "ip"}.get(self.metric, self.metric), dim=vectors.shape[1])
        self.index.init_index(max_elements=len(vectors), M=16, ef_construction=200)
        self.index.add_items(vectors, num_threads=self.threads)

    def searcher(self, setting):
        self.index.set_ef(setting)
        return lambda query: self.index.knn_query(query, self.k, num_threads=1)[0]


class Faiss(Peer):
    """HNSW32, which is its best; the classes below are what others are compared with at equal parameters."""

    def index_bytes(self):
        import faiss

        return faiss.serialize_index(self.index).nbytes

    def make(self, faiss, dim, metric):
        index = faiss.IndexHNSWFlat(dim, 32, metric)
        index.hnsw.efConstruction = 200
        return index

    def build(self, vectors):
        import faiss

        faiss.omp_set_num_threads(self.threads)
        metric = faiss.METRIC_L2 if self.metric == "l2" else faiss.METRIC_INNER_PRODUCT
        self.index = self.make(faiss, vectors.shape[1], metric)
        if not self.index.is_trained:
            self.index.train(vectors)
        self.index.add(vectors)
        faiss.omp_set_num_threads(1)

    def searcher(self, setting):
        self.index.hnsw.efSearch = setting
        return lambda query: self.index.search(query, self.k)[1]


class FaissHnsw(Faiss):
    def make(self, faiss, dim, metric):
        index = faiss.IndexHNSWFlat(dim, 16, metric)
        index.hnsw.efConstruction = 200
        return index


class FaissHnswSq(Faiss):
    def make(self, faiss, dim, metric):
        index = faiss.IndexHNSWSQ(dim, faiss.ScalarQuantizer.QT_8bit, 16, metric)
        index.hnsw.efConstruction = 200
        return index


class FaissIvf(Faiss):
    """With as many training rows per list and passes as ShoalDB has."""

    def make(self, faiss, dim, metric):
        # Of few rows there can be only few lists: the index of 64 rows says what a call costs.
        self.quantizer = (faiss.IndexFlatL2 if metric == faiss.METRIC_L2 else faiss.IndexFlatIP)(dim)
        return self.lists(faiss, dim, metric)

    def lists(self, faiss, dim, metric):
        return faiss.IndexIVFFlat(self.quantizer, dim, self.nlist, metric)

    def build(self, vectors):
        self.nlist = min(self.nlist, len(vectors))
        super().build(vectors)

    def searcher(self, setting):
        self.index.nprobe = setting
        return lambda query: self.index.search(query, self.k)[1]


class FaissIvfSq(FaissIvf):
    def lists(self, faiss, dim, metric):
        return faiss.IndexIVFScalarQuantizer(self.quantizer, dim, self.nlist, faiss.ScalarQuantizer.QT_8bit, metric)


class Usearch(Peer):
    def index_bytes(self):
        return self.index.serialized_length

    def build(self, vectors):
        import numpy as np
        from usearch.index import Index

        metric = {"l2": "l2sq", "ip": "ip", "cosine": "cos"}[self.metric]
        self.index = Index(ndim=vectors.shape[1], metric=metric, dtype="f32", connectivity=16, expansion_add=200)
        self.index.add(np.arange(len(vectors)), vectors, threads=self.threads)

    def searcher(self, setting):
        self.index.expansion_search = setting
        return lambda query: self.index.search(query if len(query) > 1 else query[0], self.k, threads=1).keys


class ScalableVs(Peer):
    def index_bytes(self):
        with tempfile.TemporaryDirectory() as directory:
            self.index.save(*(os.path.join(directory, part) for part in ("config", "graph", "data")))
            return sum(file.stat().st_size for file in Path(directory).rglob("*") if file.is_file())

    def build(self, vectors):
        import svs

        is_l2 = self.metric == "l2"
        parameters = svs.VamanaBuildParameters(
            graph_max_degree=32, window_size=200, alpha=1.2 if is_l2 else 0.95
        )
        metric = svs.DistanceType.L2 if is_l2 else svs.DistanceType.MIP
        self.index = svs.Vamana.build(parameters, vectors, metric, num_threads=self.threads)
        self.index.num_threads = 1

    def searcher(self, setting):
        self.index.search_window_size = setting
        return lambda query: self.index.search(query, self.k)[0]


class Vsag(Peer):
    """HGraph: 8-bit codes, reordered by the vectors themselves."""

    takes_batches = False

    def index_bytes(self):
        return saved_bytes(self.index.save)

    def build(self, vectors):
        import numpy as np
        import pyvsag

        parameters = {
            "dtype": "float32",
            "metric_type": "l2" if self.metric == "l2" else "ip",
            "dim": vectors.shape[1],
            "index_param": {
                "base_quantization_type": "sq8",
                "precise_quantization_type": "fp32",
                "use_reorder": True,
                "max_degree": 32,
                "ef_construction": 200,
                "build_thread_count": self.threads,
            },
        }
        self.index = pyvsag.Index("hgraph", json.dumps(parameters))
        self.index.build(
            vectors=vectors, ids=np.arange(len(vectors)), num_elements=len(vectors), dim=vectors.shape[1]
        )

    def searcher(self, setting):
        parameters = json.dumps({"hgraph": {"ef_search": setting}})
        return lambda query: self.index.knn_search(vector=query[0], k=self.k, parameters=parameters)[0]


POOLS = [10, 12, 16, 20, 28, 40, 64, 100, 160, 250, 400, 640]
# Queries of a turn: 60 ms of the fastest. What a turn finds of its index in the caches, another has driven out: 5 ms of it.
TURN_QUERIES = 5_000
PROBES = [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
HNSW = "M=16,efConstruction=200"
# Settings of the search parameter, and by name a library, or an index of ShoalDB.
KINDS = {
    "graph": {
        "shoaldb": "RABITQ_GRAPH",
        "rabitqlib": Rabitqlib,
        "hnswlib": Hnswlib,
        "faiss": Faiss,
        "usearch": Usearch,
        "scalable-vs": ScalableVs,
        "pyvsag": Vsag,
    },
    "hnsw": {
        "shoaldb": f"HNSW,{HNSW}",
        "shoaldb-sq8": f"HNSW_SQ,{HNSW}",
        "shoaldb-sq8-bare": f"HNSW_SQ,{HNSW},refine=false",
        "shoaldb-sq6": f"HNSW_SQ,{HNSW},sq_type=SQ6",
        "shoaldb-sq4u": f"HNSW_SQ,{HNSW},sq_type=SQ4U",
        "shoaldb-fp16": f"HNSW_SQ,{HNSW},sq_type=FP16",
        "shoaldb-bf16": f"HNSW_SQ,{HNSW},sq_type=BF16",
        "hnswlib": Hnswlib,
        "faiss": FaissHnsw,
        "usearch": Usearch,
        "faiss-sq8": FaissHnswSq,
    },
    "ivf": {
        "shoaldb": "IVF_FLAT,nlist={nlist}",
        "shoaldb-sq8": "IVF_SQ8,nlist={nlist}",
        "faiss": FaissIvf,
        "faiss-sq8": FaissIvfSq,
    },
}


def settings_of(options):
    return PROBES if options.kind == "ivf" else [pool for pool in POOLS if pool >= options.k]


class Library:
    """A peer over the vectors of this run."""

    def __init__(self, name, options, base, queries, truth):
        import numpy as np

        self.name, self.truth, self.k, self.kind = name, truth, options.k, KINDS[options.kind][name]
        self.is_batched = options.batch and self.kind.takes_batches
        self.peer = self.kind(options, options.k)
        self.settings = settings_of(options)
        if options.metric not in self.peer.metrics:
            raise ValueError(f"has no {options.metric}")
        self.queries = np.ascontiguousarray(self.peer.prepare(queries))
        base = np.ascontiguousarray(self.peer.prepare(base))
        self.call_us = self.call_cost(options, base[:64])
        started = time.perf_counter()
        self.peer.build(base)
        self.build_seconds = time.perf_counter() - started
        try:
            size = self.peer.index_bytes()
        except Exception as error:
            print(f"the index of {name} has no known size: {error!r}", file=sys.stderr)
            size = None
        self.bytes_per_vector = size / len(base) if size else None

    def call_cost(self, options, few):
        """Microseconds of a search of 64 rows for one."""
        small = self.kind(options, 1)
        small.build(few)
        search = small.searcher(1)
        times = []
        for query in range(min(1000, len(self.queries))):
            started = time.perf_counter()
            search(self.queries[query : query + 1])
            times.append(time.perf_counter() - started)
        return sorted(times)[len(times) // 2] * 1e6

    def measure(self, setting, first, count):
        import numpy as np

        search = self.peer.searcher(setting)
        found, seconds = [], 0.0
        step = count if self.is_batched else 1
        for query in range(first, first + count, step):
            vector = self.queries[query : query + step]
            started = time.perf_counter()
            rows = search(vector)
            seconds += time.perf_counter() - started
            found.extend(row[: self.k] for row in np.asarray(rows).reshape(step, -1))
        hits = sum(len(np.intersect1d(rows, self.truth[first + at])) for at, rows in enumerate(found))
        return hits / (count * self.k), count / seconds


class ShoalDb:
    """`shoal-bench ann`, asked line by line."""

    call_us = 0.0

    def __init__(self, name, options, queries, directory):
        self.name = name
        index = KINDS[options.kind][name].format(nlist=options.nlist)
        if options.index and name == "shoaldb":
            index = options.index
        command = [options.bench, "ann", "--interactive", "--metric", options.metric, "--k", str(options.k)]
        command += ["--index", index, "--build-threads", str(options.build_threads)]
        command += ["--query-count", str(len(queries))]
        for part in ("base", "queries", "truth"):
            command += [f"--{part}", str(Path(directory) / f"{part}.npy")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        built = self.answer()
        self.build_seconds, self.bytes_per_vector = built["build_seconds"], built["index_bytes_per_vector"]
        self.settings = settings_of(options)

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("shoal-bench ended; its message is above")
        return json.loads(line)

    def measure(self, setting, first, count):
        self.process.stdin.write(f"{setting} {first} {count}\n")
        self.process.stdin.flush()
        point = self.answer()
        return point["recall"], point["qps"]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def at_recall(points, recall):
    """Queries per second at a recall, between the points around it."""
    points = sorted(points)
    for (low, low_rate), (high, high_rate) in zip(points, points[1:]):
        if low <= recall <= high and high > low:
            return low_rate + (high_rate - low_rate) * (recall - low) / (high - low)
    return points[0][1] if points and points[0][0] >= recall else None


def median(values):
    values = sorted(value for value in values if value is not None)
    return values[len(values) // 2] if values else None


def take_turns(subjects, options, query_count, store):
    """Points of each subject by round. After each round all are stored."""
    each = min(TURN_QUERIES, query_count // 2)
    if each < 50:
        sys.exit(f"{query_count} queries are too few: use 100")
    turns = query_count // each
    rounds = {subject.name: [] for subject in subjects}
    for round_ in range(options.rounds):
        points = {subject.name: [] for subject in subjects}
        for place in range(max(len(subject.settings) for subject in subjects)):
            first = (round_ + place) % turns * each
            for subject in subjects:
                if place < len(subject.settings):
                    points[subject.name].append(subject.measure(subject.settings[place], first, each))
        for name, measured in points.items():
            rounds[name].append(measured)
        store(rounds)
        print(f"round {round_ + 1} of {options.rounds} is done", file=sys.stderr)
    return rounds


def ours_for(name, rates):
    """The rates of ShoalDB that a library is compared with: those of an index with as many bits."""
    ours = "shoaldb-sq8" if name.endswith("-sq8") else "shoaldb"
    return rates.get(ours, {}) if not name.startswith("shoaldb") else rates.get("shoaldb", {})


def rates_of(rounds):
    """Queries per second of each at the compared recalls: the median of the rounds."""
    return {
        name: {recall: median([at_recall(points, recall) for points in turns]) for recall in RECALLS}
        for name, turns in rounds.items()
    }


def table(subjects, rounds):
    rates = rates_of(rounds)
    head = "".join(f" | QPS at {recall:.2f} | ShoalDB / it" for recall in RECALLS)
    print(f"| index{head} | recall reached | build s | bytes per vector | least us per call |")
    print("|---" * (1 + 2 * len(RECALLS) + 4) + "|")
    for subject in subjects:
        cells = ""
        for recall in RECALLS:
            rate, our = rates[subject.name][recall], ours_for(subject.name, rates).get(recall)
            cells += f" | {f'{rate:,.0f}' if rate else 'not reached'} | {f'{our / rate:.2f}' if rate and our else '-'}"
        reached = median([max(point[0] for point in points) for points in rounds[subject.name]])
        size = f"{subject.bytes_per_vector:,.0f}" if subject.bytes_per_vector else "-"
        print(f"| {subject.name}{cells} | {reached:.4f} | {subject.build_seconds:.1f} | {size} | {subject.call_us:.1f} |")


def plot(path, title, rounds):
    """Missing recall on a logarithmic scale against queries per second."""
    width, height, left, top, bottom = 720, 440, 80, 40, 50
    every = [point for turns in rounds.values() for points in turns for point in points if point[0] >= 0.8]
    if not every:
        return
    low, high = (round_(math.log10(limit(rate for _, rate in every))) for round_, limit in ((math.floor, min), (math.ceil, max)))
    high = max(high, low + 1)

    def x(recall):
        missing = math.log(max(1 - recall, 0.0005))
        return left + (width - left - 20) * (math.log(0.2) - missing) / (math.log(0.2) - math.log(0.0005))

    def y(rate):
        return top + (height - top - bottom) * (1 - (math.log10(rate) - low) / (high - low))

    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">']
    lines.append(f'<rect width="{width}" height="{height}" fill="white"/><text x="{left}" y="24" font-size="15">{title}</text>')
    for mark in (0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1):
        lines.append(f'<path d="M{x(mark):.1f} {top}V{height - bottom}" stroke="#ddd"/>')
        lines.append(f'<text x="{x(mark):.1f}" y="{height - bottom + 18}" text-anchor="middle">{mark}</text>')
    for rate in (step * 10**decade for decade in range(low, high + 1) for step in (1, 2, 5)):
        if math.log10(rate) <= high:
            lines.append(f'<path d="M{left} {y(rate):.1f}H{width - 20}" stroke="#ddd"/>')
            lines.append(f'<text x="{left - 8}" y="{y(rate) + 4:.1f}" text-anchor="end">{rate:g}</text>')
    lines.append(f'<text x="{width / 2}" y="{height - 10}" text-anchor="middle">recall (queries per second: left)</text>')
    for index, (name, turns) in enumerate(rounds.items()):
        colour = COLOURS[index % len(COLOURS)]
        # The median of the rounds, setting by setting.
        settings = [[median(value) for value in zip(*points)] for points in zip(*turns)]
        shown = sorted(point for point in settings if point[0] >= 0.8)
        course = "L".join(f"{x(recall):.1f} {y(rate):.1f}" for recall, rate in shown)
        lines.append(f'<path d="M{course}" fill="none" stroke="{colour}" stroke-width="2"/>' if shown else "")
        lines.append(f'<text x="{width - 28}" y="{top + 16 + index * 16}" text-anchor="end" fill="{colour}">{name}</text>')
    Path(path).write_text("\n".join([*lines, "</svg>", ""]))


def main():
    options = arguments()
    environment.enter(options.venv, PACKAGES)
    import tempfile

    import numpy as np

    base = load(options.base)
    if options.queries:
        queries = load(options.queries)[: options.query_count]
    else:
        count = min(options.query_count, len(base) // 2)
        base, queries = base[:-count], base[-count:]
    base = np.ascontiguousarray(base[: options.rows])
    queries = np.ascontiguousarray(queries)
    truth = exact(base, queries, options.metric, options.k)
    names = options.only.split(",") if options.only else KINDS[options.kind]
    subjects = []
    with tempfile.TemporaryDirectory() as directory:
        for part, array in (("base", base), ("queries", queries), ("truth", truth.astype(np.int32))):
            np.save(Path(directory) / f"{part}.npy", array)
        for name in names:
            print(f"building {name}", file=sys.stderr)
            try:
                if isinstance(KINDS[options.kind][name], str):
                    subjects.append(ShoalDb(name, options, queries, directory))
                else:
                    subjects.append(Library(name, options, base, queries, truth))
            except Exception as error:
                print(f"{name} is left out: {error!r}")
        title = f"{len(base)} x {base.shape[1]}, {options.metric}, recall@{options.k}, one thread"
        built = {s.name: {"build_seconds": s.build_seconds, "bytes_per_vector": s.bytes_per_vector, "call_us": s.call_us} for s in subjects}

        def store(rounds):
            if options.json:
                stored = {"title": title, "built": built, "rounds": rounds, "rates": rates_of(rounds)}
                Path(options.json).write_text(json.dumps(stored, indent=1))

        rounds = take_turns(subjects, options, len(queries), store)
        for subject in subjects:
            if isinstance(subject, ShoalDb):
                subject.close()
    calls = "libraries get all queries of a setting at once" if options.batch else "query by query"
    print(f"\n{options.kind}: {title}; {options.rounds} rounds, {len(queries)} queries, {calls}\n")
    table(subjects, rounds)
    if options.plot:
        plot(options.plot, title, rounds)


if __name__ == "__main__":
    main()
