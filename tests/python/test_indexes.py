"""Indexes end to end: built by the builder process, described truthfully, searched with filters and deletes, dropped, found
again after a restart."""

import os
import signal

import numpy as np
import pytest
from conftest import refused, wait_until
from pymilvus import DataType, MilvusClient, MilvusException

# A debug build makes graphs forty times slower: SHOAL_INDEX_ROWS=20000 SHOAL_INDEX_DIM=64 is for release builds.
ROWS = int(os.environ.get("SHOAL_INDEX_ROWS", 5_000))
DIM = int(os.environ.get("SHOAL_INDEX_DIM", 32))


def clustered(rows, seed):
    """Vectors around 200 centres, as embeddings lie."""
    centres = np.random.default_rng(1).normal(size=(200, DIM))
    random = np.random.default_rng(seed)
    noise = random.normal(scale=0.6, size=(rows, DIM))
    return (centres[random.integers(0, len(centres), rows)] + noise).astype(np.float32)


BASE = clustered(ROWS, 2)
QUERIES = clustered(50, 3)


def nearest(queries, k=10, keep=None, metric="L2"):
    """Row numbers of the k nearest, by brute force."""
    if metric == "L2":
        distances = (BASE**2).sum(1)[None, :] - 2 * queries @ BASE.T
    else:
        distances = -(queries @ BASE.T)
        if metric == "COSINE":
            distances = distances / np.linalg.norm(BASE, axis=1)[None, :]
    if keep is not None:
        distances[:, ~keep] = np.inf
    return np.argpartition(distances, k, axis=1)[:, :k]


def recall(found, truth):
    shared = sum(len(set(hits) & set(wanted)) for hits, wanted in zip(found, truth))
    return shared / truth.size


def ids(results):
    return [[hit["id"] for hit in hits] for hits in results]


def make(client, name="c", metric="L2", index_type="AUTOINDEX", load=True, **params):
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("tag", DataType.INT64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection(name, schema=schema)
    for first in range(0, ROWS, 2_500):
        rows = range(first, first + 2_500)
        client.insert(name, [{"id": row, "tag": row % 100, "vector": BASE[row]} for row in rows])
    client.flush(name)
    index(client, name, metric, index_type, **params)
    if load:
        client.load_collection(name)


def index(client, name, metric="L2", index_type="AUTOINDEX", **params):
    wanted = client.prepare_index_params()
    wanted.add_index("vector", index_type=index_type, metric_type=metric, **params)
    client.create_index(name, wanted)


def collection_status(server, name="c"):
    return next(entry for entry in server.status()["collections"] if entry["name"] == name)


def settled(server, name="c"):
    """Waits until nothing is left to merge or index, and returns the status."""

    def is_settled():
        status = collection_status(server, name)
        states = dict(status["files"])
        done = set(states) <= {"BACKUP"} and status["growing_rows"] == 0
        return status if done and status["indexes"][0]["pending_rows"] == 0 else None

    return wait_until(is_settled, "every table file has its index")


@pytest.mark.parametrize("metric", ["L2", "IP", "COSINE"])
def test_a_created_index_is_built_described_and_finds_the_nearest(client, server, metric):
    make(client, metric=metric)
    status = settled(server)
    described = client.describe_index("c", "vector")
    assert described["index_type"] == "AUTOINDEX" and described["metric_type"] == metric
    assert described["state"] == "Finished"
    assert (described["total_rows"], described["indexed_rows"], described["pending_index_rows"]) == (ROWS, ROWS, 0)
    assert status["indexes"][0]["files"] >= 1 and status["indexes"][0]["disk_bytes"] > ROWS * DIM
    assert any(process["role"] == "builder" and process["requests"] >= 1 for process in server.status()["processes"])
    results = client.search("c", QUERIES, limit=10)
    assert recall(ids(results), nearest(QUERIES, metric=metric)) >= 0.95
    # Distances are those of the vectors, not of their codes.
    hit = results[0][0]
    exact = {"L2": ((QUERIES[0] - BASE[hit["id"]]) ** 2).sum(), "IP": QUERIES[0] @ BASE[hit["id"]]}
    exact["COSINE"] = exact["IP"] / np.linalg.norm(QUERIES[0]) / np.linalg.norm(BASE[hit["id"]])
    assert hit["distance"] == pytest.approx(exact[metric], rel=1e-4)


def test_filters_deletes_and_ranges_go_into_the_index(client, server):
    make(client)
    settled(server)
    for expression, keep in [
        ("tag < 50", np.arange(ROWS) % 100 < 50),
        ("tag < 10", np.arange(ROWS) % 100 < 10),
        ("tag == 7", np.arange(ROWS) % 100 == 7),
        ("id < 30", np.arange(ROWS) < 30),
    ]:
        results = ids(client.search("c", QUERIES, limit=10, filter=expression))
        assert all(keep[row] for hits in results for row in hits)
        assert recall(results, nearest(QUERIES, keep=keep)) >= 0.95, expression
    gone = np.unique(nearest(QUERIES, k=3))
    client.delete("c", ids=gone.tolist())
    keep = np.ones(ROWS, bool)
    keep[gone] = False
    results = ids(client.search("c", QUERIES, limit=10))
    assert not set(gone) & {row for hits in results for row in hits}
    assert recall(results, nearest(QUERIES, keep=keep)) >= 0.95
    distances = np.sort(((QUERIES[0] - BASE[keep]) ** 2).sum(1))
    low, high = float(distances[20:22].mean()), float(distances[40:42].mean())
    hits = client.search("c", QUERIES[:1], limit=100, search_params={"params": {"radius": high, "range_filter": low}})[0]
    assert 18 <= len(hits) <= 20 and all(low <= hit["distance"] < high for hit in hits)


def test_a_level_or_ef_trades_speed_for_recall_and_is_checked(client, server):
    make(client)
    settled(server)
    truth = nearest(QUERIES)

    def found(**params):
        return recall(ids(client.search("c", QUERIES, limit=10, search_params={"params": params})), truth)

    assert found(level=10) >= max(found(level=1), 0.99)
    assert found(ef=1000) >= 0.99
    for params, text in [({"level": 11}, "level"), ({"ef": 5}, "ef\\(5\\) should be larger than k\\(10\\)")]:
        with pytest.raises(MilvusException, match=text):
            found(**params)


def test_the_name_of_an_index_is_checked(client):
    client.create_collection("named", dimension=4)
    client.release_collection("named")
    client.drop_index("named", "vector")
    for name, text in [("1 x", "The first character of an index name must be"), ("a/b", "Index name can only contain"), ("x" * 256, "must be less than 255")]:
        wanted = client.prepare_index_params()
        wanted.add_index("vector", index_name=name, index_type="HNSW", metric_type="L2")
        refused(text, client.create_index, "named", wanted)
    assert client.list_indexes("named") == []


def test_the_graph_has_a_name_and_parameters_of_its_own(client, server):
    make(client, index_type="RABITQ_GRAPH", params={"efConstruction": 64, "code_bits": 128, "rounds": 1})
    described = client.describe_index("c", "vector")
    assert described["index_type"] == "RABITQ_GRAPH" and described["efConstruction"] == "64"
    settled(server)
    assert recall(ids(client.search("c", QUERIES, limit=10)), nearest(QUERIES)) >= 0.95
    client.create_collection("other", dimension=DIM, auto_id=True)
    client.release_collection("other")
    client.drop_index("other", "vector")
    for params, text in [({"M": 16}, r"param 'M' \(16\) should be in range"), ({"rounds": "x"}, "invalid integer value, key: .rounds.")]:
        with pytest.raises(MilvusException, match=text):
            index(client, "other", index_type="RABITQ_GRAPH", params=params)


def test_a_dropped_index_leaves_nothing_and_another_takes_its_place(client, server):
    make(client)
    settled(server)
    client.release_collection("c")
    client.drop_index("c", "vector")
    assert client.list_indexes("c") == []
    tables = server.data_dir / "tables"
    wait_until(lambda: not list(tables.glob("*/*.idx")), "index files are gone")
    index(client, "c", index_type="FLAT")
    client.load_collection("c")
    results = client.search("c", QUERIES, limit=10)
    assert recall(ids(results), nearest(QUERIES)) == 1.0
    assert set(dict(collection_status(server)["files"])) == {"RAW"}
    client.release_collection("c")
    client.drop_index("c", "vector")
    index(client, "c", metric="COSINE")
    client.load_collection("c")
    settled(server)
    assert recall(ids(client.search("c", QUERIES, limit=10)), nearest(QUERIES, metric="COSINE")) >= 0.95


def test_a_restart_finds_the_indexes_again_and_a_damaged_one_is_built_anew(server):
    with_client = MilvusClient(server.uri)
    make(with_client)
    settled(server)
    with_client.close()
    server.stop()
    files = list((server.data_dir / "tables").glob("*/*.idx"))
    assert files
    server.start()
    client = MilvusClient(server.uri)
    assert recall(ids(client.search("c", QUERIES, limit=10)), nearest(QUERIES)) >= 0.95
    assert server.status()["engine"]["index_builds"] == 0
    client.close()
    server.stop()
    content = bytearray(files[0].read_bytes())
    content[len(content) // 2] ^= 1
    files[0].write_bytes(content)
    server.start()
    client = MilvusClient(server.uri)
    settled(server)
    assert server.status()["engine"]["index_builds"] == 1
    assert recall(ids(client.search("c", QUERIES, limit=10)), nearest(QUERIES)) >= 0.95
    client.close()


def test_rows_that_arrive_later_are_merged_and_indexed(client, server):
    client.create_collection("c", dimension=DIM, metric_type="L2")
    for first in range(0, ROWS, 1_000):
        client.insert("c", [{"id": row, "vector": BASE[row]} for row in range(first, first + 1_000)])
        client.flush("c")
    status = settled(server)
    assert sum(count for _, count in status["files"]) <= 4
    assert recall(ids(client.search("c", QUERIES, limit=10)), nearest(QUERIES)) >= 0.95
    described = client.describe_index("c", "vector")
    assert (described["state"], described["indexed_rows"]) == ("Finished", ROWS)


def test_a_killed_builder_costs_only_time(client, server):
    for pid in server.pids("builder"):
        os.kill(pid, signal.SIGKILL)
    make(client)
    settled(server)
    assert recall(ids(client.search("c", QUERIES, limit=10)), nearest(QUERIES)) >= 0.95
