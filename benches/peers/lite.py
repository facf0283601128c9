#!/usr/bin/env python3
"""ShoalDB and Milvus Lite through the same pymilvus: rows by key, inserts of ten scalar fields, searches with filters.

    cargo build --release --bins
    benches/peers/lite.py [--only get,insert,filter] [--json out.json]

Makes a virtual environment (--venv) with pymilvus and the newest Milvus Lite. Both hold the same rows and take turns, each call on a
client of its own in this process; Milvus Lite once as its users have it (its server is threads of the client's process) and once
as a server process of its own, as ShoalDB is. Medians of wall-clock time of a call are shown: what a caller waits.
"""

import argparse
import atexit
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import environment

PACKAGES = ["numpy", "pymilvus", "milvus-lite"]
ROOT = Path(__file__).resolve().parents[2]
BATCH_ROWS = 5_000
INDEXED_WITHIN_S = 600
# A row is kept by `bucket < percent`.
PERCENTS = [1, 10, 50]
# Calls that are made before those that count.
WARM_UP = 5


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="get,insert,filter")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=200, help="turns of single gets; gets of 100 keys and searches take as many")
    parser.add_argument("--shoal", default=str(ROOT / "target/release/shoal"))
    parser.add_argument("--venv", default=str(ROOT / "target/lite"))
    parser.add_argument("--json")
    return parser.parse_args()


@contextlib.contextmanager
def shoal(binary, directory):
    """A server of ours with its defaults; its address."""
    with open(Path(directory) / "shoal.log", "wb") as log:
        command = [binary, "serve", str(Path(directory) / f"lite_{os.getpid()}"), "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    try:
        line = process.stdout.readline().decode()
        found = re.search(r"127\.0\.0\.1:\d+", line)
        if not found:
            sys.exit(f"{binary} does not say where it listens: {line!r}")
        yield f"http://{found.group(0)}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


@contextlib.contextmanager
def lite_server(directory):
    """Milvus Lite as a process of its own; its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = str(Path(sys.prefix) / "bin/milvus-lite")
    command = [program, "server", "--data-dir", str(Path(directory) / "lite_server"), "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def turns(clients, rounds, call, check=lambda answer, turn: None):
    """Milliseconds of each client's calls: in every round each is called once, in changing order. The check is not timed."""
    taken = {name: [] for name in clients}
    names = list(clients)
    for turn in range(rounds):
        for place in range(len(names)):
            name = names[(turn + place) % len(names)]
            start = time.perf_counter()
            answer = call(clients[name], turn)
            taken[name].append((time.perf_counter() - start) * 1e3)
            check(answer, turn)
    return taken


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))]


def table(title, head, lines):
    print(f"\n{title}\n\n| {' | '.join(head)} |\n{'|---' * len(head)}|")
    for line in lines:
        print(f"| {' | '.join(line)} |", flush=True)


def schema_of(client, fields, dim):
    from pymilvus import DataType

    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    for name, kind, keywords in fields:
        schema.add_field(name, kind, **keywords)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    return schema


def make(client, name, fields, dim, index_type="FLAT"):
    index = client.prepare_index_params()
    index.add_index("vector", index_type=index_type, metric_type="L2")
    client.create_collection(name, schema=schema_of(client, fields, dim), index_params=index)


def fill(client, name, rows):
    for first in range(0, len(rows), BATCH_ROWS):
        client.insert(name, rows[first : first + BATCH_ROWS])
    client.flush(name)
    client.load_collection(name)


def get(clients, options, numpy):
    """Rows by primary key: one, and a hundred."""
    from pymilvus import DataType

    random = numpy.random.default_rng(1)
    vectors = random.random((options.rows, options.dim), dtype=numpy.float32)
    rows = [{"id": key, "number": key * 7, "word": f"word {key}", "vector": vectors[key]} for key in range(options.rows)]
    for client in clients.values():
        make(client, "get", [("number", DataType.INT64, {}), ("word", DataType.VARCHAR, {"max_length": 64})], options.dim)
        fill(client, "get", rows)
    result, lines = {"empty call": turns(clients, options.rounds, lambda client, _turn: client.get_server_version())}, []
    add_lines(lines, ["an empty call (GetVersion)", ""], result["empty call"])
    for count in (1, 100, 10_000):
        for fields in (["*"], ["number"]):
            rounds = options.rounds if count <= 100 else max(10, options.rounds // 20)
            wanted = random.integers(0, options.rows, (rounds + WARM_UP, count))
            wanted = [[int(key) for key in dict.fromkeys(keys)] for keys in wanted.tolist()]

            def call(client, turn):
                return client.get("get", wanted[turn], output_fields=fields)

            def check(found, turn):
                # Here, and not in the call: pymilvus makes rows of its answer only when they are looked at, which takes it
                # longer than the call, whatever the server.
                assert {row["number"] // 7 for row in found} == set(wanted[turn]) and len(found) == len(wanted[turn])

            taken = turns(clients, rounds + WARM_UP, call, check)
            taken = {name: values[WARM_UP:] for name, values in taken.items()}
            result[f"{count} {fields[0]}"] = taken
            add_lines(lines, [f"{count:,}", "every field" if fields == ["*"] else "one number"], taken)
    title = f"get by primary key: {options.rows:,} rows x {options.dim}, {options.rounds} calls each ({max(10, options.rounds // 20)} of 10,000 keys), in turns"
    table(title, ["keys", "output", "server", "p50 ms", "p99 ms", "times ours"], lines)
    return result


def add_lines(lines, head, taken):
    """A line per server: medians, 99th percentiles, and how many times ours the median is."""
    ours = statistics.median(taken["ShoalDB"])
    for name, values in taken.items():
        median = statistics.median(values)
        lines.append([*head, name, f"{median:.3f}", f"{quantile(values, 0.99):.3f}", "" if name == "ShoalDB" else f"{median / ours:.1f}"])


def insert(clients, options, numpy):
    """Rows with ten scalar fields."""
    from pymilvus import DataType

    kinds = [("bool", DataType.BOOL), ("int8", DataType.INT8), ("int16", DataType.INT16), ("int32", DataType.INT32), ("int64", DataType.INT64)]
    kinds += [("float", DataType.FLOAT), ("double", DataType.DOUBLE), ("json", DataType.JSON)]
    fields = [(name, kind, {}) for name, kind in kinds]
    fields += [("varchar", DataType.VARCHAR, {"max_length": 64})]
    fields += [("array", DataType.ARRAY, {"element_type": DataType.INT64, "max_capacity": 8})]
    vectors = numpy.random.default_rng(2).random((options.rows, options.dim), dtype=numpy.float32)

    def row(key):
        scalars = {"bool": key % 2 == 0, "int8": key % 100, "int16": key % 10_000, "int32": key, "int64": key << 20}
        scalars |= {"float": key / 7, "double": key / 3, "json": {"price": key % 500, "tags": ["a", "b"]}}
        return {"id": key, **scalars, "varchar": f"category-{key % 1000:03}", "array": [key, 1, 2], "vector": vectors[key]}

    rows = [row(key) for key in range(options.rows)]
    for client in clients.values():
        make(client, "insert", fields, options.dim)
    result, lines = {}, []
    for batch in (100, 1_000, 10_000):
        count = min(12, len(rows) // batch)
        requests = {name: [] for name in clients}
        for name, client in clients.items():
            keep_requests(client, requests[name])
        taken = turns(clients, count, lambda client, turn: client.insert("insert", rows[turn * batch : (turn + 1) * batch]))
        # The same requests again, without making them: what the server and the wire take. Keys may be there twice.
        bare = {name: bare_inserts(client, requests[name]) for name, client in clients.items()}
        result[batch] = {"insert": taken, "made request": bare}
        ours, ours_bare = statistics.median(taken["ShoalDB"]), statistics.median(bare["ShoalDB"])
        for name in clients:
            median, median_bare = statistics.median(taken[name]), statistics.median(bare[name])
            ratios = ["", ""] if name == "ShoalDB" else [f"{ours_value / value:.2f}" for ours_value, value in ((ours, median), (ours_bare, median_bare))]
            lines.append([f"{batch:,}", name, f"{batch / median * 1e3:,.0f}", ratios[0], f"{batch / median_bare * 1e3:,.0f}", ratios[1]])
    title = f"insert of rows with ten scalar fields and {options.dim} dimensions (bool, 4 integers, 2 floats, JSON, VARCHAR, ARRAY)"
    head = ["rows per batch", "server", "rows/s", "of ours", "rows/s, requests made before", "of ours"]
    table(title, head, lines)
    return result


def keep_requests(client, kept):
    """From now on, what a client sends for an insert is kept."""
    stub = client._get_connection()._stub
    send = getattr(stub.Insert, "sends", stub.Insert)

    class Kept:
        sends = send

        def __call__(self, request, *arguments, **keywords):
            kept.append(request)
            return send(request, *arguments, **keywords)

        def future(self, request, *arguments, **keywords):
            kept.append(request)
            return send.future(request, *arguments, **keywords)

    stub.Insert = Kept()


def bare_inserts(client, requests):
    send = client._get_connection()._stub.Insert.sends
    taken = []
    for request in requests:
        start = time.perf_counter()
        answer = send(request)
        taken.append((time.perf_counter() - start) * 1e3)
        assert answer.status.code == 0 and answer.insert_cnt == request.num_rows
    return taken


def wait_indexed(client, name):
    until = time.monotonic() + INDEXED_WITHIN_S
    while client.describe_index(name, "vector").get("pending_index_rows", 0):
        if time.monotonic() > until:
            sys.exit(f"the index of {name} is not built within {INDEXED_WITHIN_S} s")
        time.sleep(0.2)


def nearest(numpy, vectors, kept, query, k):
    kept_rows = numpy.flatnonzero(kept)
    candidates = vectors[kept_rows]
    distances = ((candidates - query) ** 2).sum(axis=1)
    return set(kept_rows[numpy.argpartition(distances, k)[:k]].tolist())


def filtered(clients, options, numpy):
    """Searches that a filter leaves 1, 10 or 50 in 100 rows of."""
    from pymilvus import DataType

    random = numpy.random.default_rng(3)
    centres = random.normal(size=(256, options.dim)).astype(numpy.float32)
    spread = random.normal(size=(options.rows + 1000, options.dim)).astype(numpy.float32)
    points = centres[random.integers(0, len(centres), len(spread))] + 0.7 * spread
    vectors, queries = points[: options.rows], points[options.rows :]
    buckets = random.integers(0, 100, options.rows)
    rows = [{"id": key, "bucket": int(buckets[key]), "vector": vectors[key]} for key in range(options.rows)]
    result, lines = {}, []
    for index_type in ("FLAT", "AUTOINDEX"):
        for client in clients.values():
            make(client, f"filter_{index_type}", [("bucket", DataType.INT64, {})], options.dim, index_type)
            fill(client, f"filter_{index_type}", rows)
        wait_indexed(clients["ShoalDB"], f"filter_{index_type}")
        unfiltered = {}
        for percent in [100, *PERCENTS]:
            text = "" if percent == 100 else f"bucket < {percent}"
            found = {name: [] for name in clients}

            def call(client, turn):
                hits = client.search(f"filter_{index_type}", [queries[turn]], filter=text, limit=10)[0]
                found[next(name for name in clients if clients[name] is client)].append({hit["id"] for hit in hits})

            rounds = min(options.rounds, len(queries))
            taken = turns(clients, rounds, call)
            truth = [nearest(numpy, vectors, buckets < percent, queries[turn], 10) for turn in range(rounds)]
            for name, values in taken.items():
                median = statistics.median(values)
                unfiltered.setdefault(name, median)
                recall = statistics.mean(len(hits & wanted) / 10 for hits, wanted in zip(found[name], truth))
                share = f"{median / unfiltered[name]:.2f}"
                ratio = "" if name == "ShoalDB" else f"{median / statistics.median(taken['ShoalDB']):.1f}"
                kept = "no filter" if percent == 100 else f"{percent} %"
                lines.append([index_type, kept, name, f"{median:.2f}", f"{quantile(values, 0.99):.2f}", f"{recall:.3f}", share, ratio])
            result[f"{index_type} {percent}"] = taken
    title = f"search with a filter: {options.rows} rows x {options.dim} in clusters, L2, k = 10, {options.rounds} searches each, in turns"
    head = ["index", "kept", "server", "p50 ms", "p99 ms", "recall", "of no filter", "times ours"]
    table(title, head, lines)
    return result


def main():
    options = arguments()
    environment.enter(options.venv, PACKAGES)
    from importlib.metadata import version

    import numpy
    from pymilvus import MilvusClient

    parts = {"get": get, "insert": insert, "filter": filtered}
    results = {}
    directory = tempfile.mkdtemp(prefix="shoal-lite-")
    # Milvus Lite writes once more when this process ends; what is registered first is done last.
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    print(f"pymilvus {version('pymilvus')}, milvus-lite {version('milvus-lite')}, {os.cpu_count()} cores")
    for name in options.only.split(","):
        # Servers of its own for every part: what one left does not weigh on the next.
        own = Path(directory) / name
        own.mkdir()
        with shoal(options.shoal, own) as ours, lite_server(own) as lite, contextlib.ExitStack() as closing:
            uris = {"ShoalDB": ours, "Milvus Lite, own process": lite, "Milvus Lite, in process": str(own / "in_process.db")}
            clients = {label: MilvusClient(uri) for label, uri in uris.items()}
            for client in clients.values():
                closing.callback(client.close)
            results[name] = parts[name](clients, options, numpy)
    if options.json:
        Path(options.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
