"""Filters of ours against pyarrow.compute: the same columns, the same rows, in turns, medians of CPU time.

    python benches/peers/filter_peers.py [--rounds 31] [part of a name ...]

Needs pyarrow and numpy, and cargo to build `benches/filter.rs`. Both sides use one thread; both answer one bit per row. A ratio above
1 says how many times faster ours is. pyarrow has nothing that reads a path of JSON text or asks what a list contains: of those only
our own speed is shown, and the matches are compared with what numpy counts.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROWS = 1_000_000
MINUTE = 60_000_000
ROOT = pathlib.Path(__file__).resolve().parents[2]


def document(number):
    stock = "true" if number % 2 == 0 else "false"
    return f'{{"title":"document {number} of many","tags":["a","b"],"price":{number % 500},"in":{{"stock":{stock}}}}}'


def columns():
    numbers = np.random.default_rng(42).integers(0, 1_000_000, ROWS)
    lists = np.stack([numbers % 100, np.full(ROWS, 7), numbers], axis=1).astype(np.int64)
    return pa.record_batch({
        "number": pa.array(numbers, pa.int64()),
        "nullable": pa.array(numbers, pa.int64(), mask=numbers % 8 == 0),
        "short": pa.array(numbers.astype(np.int8)),
        "share": pa.array((numbers / 1e6).astype(np.float32)),
        "word": pa.array([f"category-{number % 1000:03}" for number in numbers]),
        "title": pa.array([f"{number % 100_000}" + "x" * (number % 23) for number in numbers]),
        "instant": pa.array(numbers * MINUTE, pa.timestamp("us")),
        "document": pa.array([document(number) for number in numbers]),
        "list": pa.ListArray.from_arrays(pa.array(np.arange(0, 3 * ROWS + 1, 3, dtype=np.int32)), pa.array(lists.reshape(-1))),
    })


def listed(count, step):
    return [index * step + 1 for index in range(count)]


def words(count):
    return [f"category-{index:03}" for index in range(count)]


def cases(table):
    """Name, our filter, the same with pyarrow, or the number of matches where pyarrow has no such operator."""
    numbers = table.column("number").to_numpy()
    instant = lambda microseconds: pa.scalar(microseconds, pa.timestamp("us"))
    year = 365 * 24 * 60 * MINUTE
    c = {name: table.column(name) for name in table.schema.names}
    i64 = lambda value: pa.scalar(value, pa.int64())
    f32 = lambda value: pa.scalar(value, pa.float32())
    yield "int64 <", "number < 500000", lambda: pc.less(c["number"], i64(500000))
    yield "int64 ==", "number == 5", lambda: pc.equal(c["number"], i64(5))
    yield "int64 !=", "number != 5", lambda: pc.not_equal(c["number"], i64(5))
    yield "int64 < with nulls", "nullable < 500000", lambda: pc.less(c["nullable"], i64(500000))
    yield "is null", "nullable is null", lambda: pc.is_null(c["nullable"])
    yield "int64 range", "1000 < number <= 600000", lambda: pc.and_(pc.greater(c["number"], i64(1000)), pc.less_equal(c["number"], i64(600000)))
    yield "int8 <", "short < 5", lambda: pc.less(c["short"], pa.scalar(5, pa.int8()))
    yield "float <", "share < 0.5", lambda: pc.less(c["share"], f32(0.5))
    yield "int64 + ==", "number + 5 == 7", lambda: pc.equal(pc.add(c["number"], i64(5)), i64(7))
    yield "int64 * <", "number * 3 < 900000", lambda: pc.less(pc.multiply(c["number"], i64(3)), i64(900000))
    yield "float * <", "share * 2 < 0.5", lambda: pc.less(pc.multiply(c["share"], f32(2)), f32(0.5))
    yield "int64 & ==", "(number & 7) == 1", lambda: pc.equal(pc.bit_wise_and(c["number"], i64(7)), i64(1))
    yield "int64 / ==", "number / 1000 == 7", lambda: pc.equal(pc.divide(c["number"], i64(1000)), i64(7))
    yield "columns <", "number < nullable", lambda: pc.less(c["number"], c["nullable"])
    for count, step in [(10, 7919), (17, 58001), (1000, 3), (1000, 991), (100000, 7919)]:
        values = pa.array(listed(count, step), pa.int64())
        yield f"in {count} step {step}", f"number in {values.to_pylist()}", lambda values=values: pc.is_in(c["number"], value_set=values)
    values = pa.array(listed(10, 7919), pa.int64())
    yield "in 10 with nulls", f"nullable in {values.to_pylist()}", lambda values=values: pc.is_in(c["nullable"], value_set=values)
    yield "varchar ==", "word == 'category-007'", lambda: pc.equal(c["word"], "category-007")
    yield "varchar <", "word < 'category-500'", lambda: pc.less(c["word"], "category-500")
    for count in [10, 500]:
        values = pa.array(words(count))
        yield f"varchar in {count}", f"word in {values.to_pylist()}", lambda values=values: pc.is_in(c["word"], value_set=values)
    yield "like prefix", "word like 'category-00%'", lambda: pc.match_like(c["word"], "category-00%")
    yield "like inner", "word like '%y-00%'", lambda: pc.match_like(c["word"], "%y-00%")
    yield "like suffix", "word like '%007'", lambda: pc.match_like(c["word"], "%007")
    yield "regex", "word =~ '-0[0-4]7$'", lambda: pc.match_substring_regex(c["word"], "-0[0-4]7$")
    yield "title ==", "title == '54321xxxx'", lambda: pc.equal(c["title"], "54321xxxx")
    yield "title <", "title < '5'", lambda: pc.less(c["title"], "5")
    titles = pa.array([f"{index}54xx" for index in range(10)])
    yield "title in 10", f"title in {titles.to_pylist()}", lambda: pc.is_in(c["title"], value_set=titles)
    yield "title like prefix", "title like '543%'", lambda: pc.match_like(c["title"], "543%")
    yield "instant <", "instant < ISO '1971-01-01T00:00:00Z'", lambda: pc.less(c["instant"], instant(year))
    yield "instant + days <", "instant + INTERVAL 'P3D' < ISO '1971-01-01T00:00:00Z'", lambda: pc.less(pc.add(c["instant"], pa.scalar(3 * 24 * 60 * MINUTE, pa.duration("us"))), instant(year))
    yield "array length", "array_length(list) == 3", lambda: pc.equal(pc.list_value_length(c["list"]), pa.scalar(3, pa.int32()))
    yield "array element", "list[0] < 50", lambda: pc.less(pc.list_element(c["list"], 0), i64(50))
    yield "and", "number < 500000 and share > 0.25 and short > 0", lambda: pc.and_kleene(pc.and_kleene(pc.less(c["number"], i64(500000)), pc.greater(c["share"], f32(0.25))), pc.greater(c["short"], pa.scalar(0, pa.int8())))
    yield "or", "number < 500000 or share > 0.75 or short > 0", lambda: pc.or_kleene(pc.or_kleene(pc.less(c["number"], i64(500000)), pc.greater(c["share"], f32(0.75))), pc.greater(c["short"], pa.scalar(0, pa.int8())))
    prices = numbers % 500
    yield "array contains", "array_contains(list, 5)", int((numbers % 100 == 5).sum())
    yield "array contains any", "array_contains_any(list, [5, 17, 33])", int(np.isin(numbers % 100, [5, 17, 33]).sum())
    yield "json number <", "document['price'] < 250", int((prices < 250).sum())
    yield "json number in 10", f"document['price'] in {listed(10, 37)}", int(np.isin(prices, listed(10, 37)).sum())
    yield "json text ==", "document['title'] == 'document 5 of many'", int((numbers == 5).sum())
    yield "json nested bool", "document['in']['stock'] == true", int((numbers % 2 == 0).sum())
    yield "json contains", "json_contains(document['tags'], 'b')", ROWS
    yield "dynamic field <", "price < 250", int((prices < 250).sum())
    yield "dynamic missing", "colour < 250", 0
    yield "not and", "not (number < 500000 and short > 0)", lambda: pc.invert(pc.and_kleene(pc.less(c["number"], i64(500000)), pc.greater(c["short"], pa.scalar(0, pa.int8()))))


def bench_binary():
    build = ["cargo", "bench", "-q", "--bench", "filter", "--no-run", "--message-format", "json"]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=True)
    artifacts = [json.loads(line) for line in done.stdout.splitlines()]
    return next(found["executable"] for found in artifacts if found.get("executable") and found["target"]["name"] == "filter")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=31)
    parser.add_argument("--binary", help="the built bench, when it is there")
    parser.add_argument("parts", nargs="*")
    options = parser.parse_args()
    pa.set_cpu_count(1)
    binary = options.binary or bench_binary()
    table = columns()
    with tempfile.TemporaryDirectory() as directory:
        path = pathlib.Path(directory) / "columns.arrow"
        with pa.ipc.new_file(path, table.schema) as file:
            file.write_batch(table)
        ours = subprocess.Popen([binary, "--columns", str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert ours.stdout.readline().strip() == "ready"
        print(f"pyarrow {pa.__version__}, {ROWS} rows, medians of CPU time of {options.rounds} passes in turns")
        print(f"{'filter':<22} {'ours Mrows/s':>13} {'pyarrow':>10} {'ratio':>7}")
        slower = []
        for name, text, peer in cases(table):
            if options.parts and not any(part in name for part in options.parts):
                continue
            mine, theirs = [], []
            for _ in range(options.rounds):
                if callable(peer):
                    start = time.process_time()
                    matched = peer()
                    theirs.append(time.process_time() - start)
                ours.stdin.write(text + "\n")
                ours.stdin.flush()
                seconds, matches = ours.stdout.readline().split()
                mine.append(float(seconds))
            expected = (pc.sum(matched).as_py() or 0) if callable(peer) else peer
            assert int(matches) == expected, f"{name}: ours matches {matches} rows, the peer {expected}"
            mine = statistics.median(mine)
            if not theirs:
                print(f"{name:<22} {ROWS / mine / 1e6:>13.0f} {'-':>10} {'-':>7}", flush=True)
                continue
            theirs = statistics.median(theirs)
            print(f"{name:<22} {ROWS / mine / 1e6:>13.0f} {ROWS / theirs / 1e6:>10.0f} {theirs / mine:>7.2f}", flush=True)
            slower += [name] if theirs < mine else []
        ours.stdin.close()
        ours.wait()
    print("slower than pyarrow:", ", ".join(slower) or "none")


if __name__ == "__main__":
    main()
