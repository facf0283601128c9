"""Rows that arrive for ever in small inserts, while others are deleted: few, large, indexed files, without the deleted rows; meanwhile
searches miss nothing."""

import json
import struct
import threading

import numpy as np
from conftest import wait_until
from pymilvus import DataType, MilvusClient

DIM = 16
BATCH = 150
BATCHES = 100
ROWS = BATCH * BATCHES
# Nearly everything is looked at: what is missed then is not there.
THOROUGH = {"params": {"ef": 800}}


def is_deleted(row):
    return row % 3 == 1


class Watcher(threading.Thread):
    """Searches for acknowledged rows by their own vectors until it is stopped."""

    def __init__(self, uri, base):
        super().__init__()
        self.client, self.base = MilvusClient(uri), base
        self.acknowledged, self.searches, self.stopped, self.missed = 0, 0, threading.Event(), []

    def run(self):
        random = np.random.default_rng(2)
        while not self.stopped.is_set():
            if self.acknowledged == 0:
                continue
            row = int(random.integers(self.acknowledged))
            found = self.client.search("c", [self.base[row]], limit=3, search_params=THOROUGH, consistency_level="Strong")[0]
            self.searches += 1
            # One that is being deleted may be found or not.
            if len(found) < 3 or (not is_deleted(row) and (found[0]["id"], found[0]["distance"]) != (row, 0.0)):
                self.missed.append((row, [(hit["id"], hit["distance"]) for hit in found]))
        self.client.close()


def indexed_rows(server):
    """Rows that the index files hold, deleted ones too, by what their headers say."""

    def rows(path):
        page = path.read_bytes()[:4096]
        (length,) = struct.unpack_from("<I", page, 12)
        return json.loads(page[32 : 32 + length])["row_count"]

    return [rows(path) for path in server.data_dir.glob("tables/*/*.idx")]


def settled_rows(server):
    """The same when nothing changes any more; None while files go."""
    try:
        return indexed_rows(server)
    except FileNotFoundError:
        return None


def settled(server):
    def is_settled():
        status = next(entry for entry in server.status()["collections"] if entry["name"] == "c")
        files = dict(status["files"])
        done = set(files) == {"BACKUP"} and status["growing_rows"] == 0 and status["indexes"][0]["pending_rows"] == 0
        # Merged and dropped, too: with many deleted rows a file is rewritten once they are old enough.
        files = settled_rows(server) if done else None
        return status if files and sum(files) * 0.8 <= status["sealed_rows"] else None

    return wait_until(is_settled, "every table file has its index and few deleted rows")


def test_rows_that_arrive_and_go_for_ever_end_in_few_indexed_files(servers):
    server = servers("grow", "--searchers", "2", "--auto-flush-interval", "50ms", "--snapshot-retention", "1s").start()
    client = MilvusClient(server.uri)
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    wanted = client.prepare_index_params()
    wanted.add_index("vector", index_type="RABITQ_GRAPH", metric_type="L2", params={"rounds": 1, "efConstruction": 64})
    client.create_collection("c", schema=schema, index_params=wanted)
    base = np.random.default_rng(1).normal(size=(ROWS, DIM)).astype(np.float32)
    watcher = Watcher(server.uri, base)
    watcher.start()
    for first in range(0, ROWS, BATCH):
        rows = range(first, first + BATCH)
        client.insert("c", [{"id": row, "vector": base[row]} for row in rows])
        watcher.acknowledged = first + BATCH
        # Of rows that came some time ago, so that they lie in files with indexes.
        old = range(max(first - 40 * BATCH, 0), max(first - 39 * BATCH, 0))
        client.delete("c", ids=[row for row in old if is_deleted(row)] or [-1])
    client.delete("c", ids=[row for row in range(ROWS) if is_deleted(row)])
    settled(server)
    wait_until(lambda: watcher.searches > 50 or watcher.missed, "enough searches were made beside it")
    watcher.stopped.set()
    watcher.join()
    assert not watcher.missed, (watcher.searches, watcher.missed[:5])
    kept = np.array([row for row in range(ROWS) if not is_deleted(row)])
    files = indexed_rows(server)
    assert len(files) <= 4 and len(kept) <= sum(files) <= len(kept) / 0.8, files
    described = client.describe_index("c", "vector")
    assert (described["state"], described["total_rows"], described["pending_index_rows"]) == ("Finished", len(kept), 0)
    assert client.query("c", output_fields=["count(*)"])[0]["count(*)"] == len(kept)
    queries = np.random.default_rng(3).normal(size=(50, DIM)).astype(np.float32)
    distances = ((queries[:, None, :] - base[None, kept, :]) ** 2).sum(axis=2)
    truth = kept[np.argsort(distances, axis=1)[:, :10]]
    hits = client.search("c", list(queries), limit=10)
    found = [len({hit["id"] for hit in mine} & set(near.tolist())) for mine, near in zip(hits, truth)]
    assert np.mean(found) >= 9.5, np.mean(found)
    client.close()
    server.stop().start()
    client = MilvusClient(server.uri)
    assert client.query("c", output_fields=["count(*)"])[0]["count(*)"] == len(kept)
    client.close()
