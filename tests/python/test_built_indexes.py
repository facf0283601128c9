"""Every index type over a table file that is large enough to be built for: described, searched under filters and deletes, found again
after a restart, replaced by another; every type of dense vector; rows without a vector."""

import ml_dtypes
import numpy as np
import pytest
from conftest import refused, wait_until
from pymilvus import DataType, MilvusClient

# Files of fewer rows than 4,096 get no index.
ROWS = 4_500
DIM = 16
BUILD = {
    "AUTOINDEX": {},
    "RABITQ_GRAPH": {"efConstruction": 64, "rounds": 1},
    "HNSW": {"M": 12, "efConstruction": 80},
    "HNSW_SQ": {"M": 12, "efConstruction": 80, "sq_type": "BF16", "refine": True, "refine_type": "FP32"},
    "IVF_FLAT": {"nlist": 32},
    "IVF_SQ8": {"nlist": 32},
}
# Nearly everything is looked at.
THOROUGH = {"nprobe": 32, "ef": 400, "refine_k": 4}
DTYPES = {
    DataType.FLOAT_VECTOR: np.float32,
    DataType.FLOAT16_VECTOR: np.float16,
    DataType.BFLOAT16_VECTOR: ml_dtypes.bfloat16,
    DataType.INT8_VECTOR: np.int8,
}
EVERY_ROW = np.arange(ROWS)


def vectors(count, data_type=DataType.FLOAT_VECTOR, seed=1):
    values = np.random.default_rng(seed).normal(size=(count, DIM))
    if data_type == DataType.INT8_VECTOR:
        values = np.clip(np.round(values * 30), -128, 127)
    return values.astype(DTYPES[data_type])


def sent(vector):
    return vector.tolist() if vector.dtype == np.float32 else vector


def make(client, index_type, data_type=DataType.FLOAT_VECTOR, metric="L2", present=None):
    """A collection with all rows in one table file; those that are not present have no vector."""
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("tag", DataType.INT64)
    schema.add_field("vector", data_type, dim=DIM, nullable=present is not None)
    client.create_collection("built", schema=schema)
    base = vectors(ROWS, data_type)
    kept = np.ones(ROWS, bool) if present is None else present
    client.insert("built", [{"id": row, "tag": row % 10, "vector": sent(base[row]) if kept[row] else None} for row in range(ROWS)])
    client.flush("built")
    index(client, index_type, metric)
    client.load_collection("built")
    return base


def index(client, index_type, metric="L2"):
    """Creates an index and waits until it is built."""
    wanted = client.prepare_index_params()
    wanted.add_index("vector", index_name="of_vector", index_type=index_type, metric_type=metric, params=BUILD[index_type])
    client.create_index("built", wanted)
    wait_until_built(client)


def wait_until_built(client):
    wait_until(lambda: client.describe_index("built", "of_vector")["state"] == "Finished", "the index is built")


def check_description(client, index_type, metric="L2"):
    described = client.describe_index("built", "of_vector")
    assert (described["index_type"], described["metric_type"]) == (index_type, metric)
    assert (described["total_rows"], described["indexed_rows"], described["pending_index_rows"]) == (ROWS, ROWS, 0)
    for name, value in BUILD[index_type].items():
        assert described[name].lower() == str(value).lower()


def check_searches(client, base, metric="L2", keep=None, **options):
    """Ten nearest of twenty queries: nearly all of them, and nothing that must not be found."""
    keep = EVERY_ROW if keep is None else np.flatnonzero(keep)
    queries = vectors(20, next(kind for kind, dtype in DTYPES.items() if dtype == base.dtype), seed=9)
    results = client.search("built", [sent(query) for query in queries], limit=10, search_params={"params": THOROUGH}, **options)
    allowed = set(keep.tolist())
    shared = 0
    for query, hits in zip(queries.astype(np.float64), results):
        rows = base[keep].astype(np.float64)
        far = {"L2": lambda: ((rows - query) ** 2).sum(1), "IP": lambda: -(rows @ query), "COSINE": lambda: -(rows @ query) / np.linalg.norm(rows, axis=1)}[metric]()
        found = [hit["id"] for hit in hits]
        assert len(found) == len(set(found)) == 10 and set(found) <= allowed
        # Rows as near as the tenth are as good.
        tenth = np.sort(far)[9] + 1e-3
        by_row = dict(zip(keep.tolist(), far))
        shared += sum(by_row[row] <= tenth for row in found)
    assert shared >= 190, f"{shared} of 200"


def built_files(server):
    return list((server.data_dir / "tables").glob("*/*.idx"))


@pytest.mark.parametrize("index_type", BUILD)
def test_each_type_is_built_described_searched_and_found_again(server, index_type):
    client = MilvusClient(server.uri)
    base = make(client, index_type)
    check_description(client, index_type)
    assert len(built_files(server)) == 1
    tags = EVERY_ROW % 10
    check_searches(client, base)
    check_searches(client, base, keep=tags < 8, filter="tag < 8")
    check_searches(client, base, keep=tags == 3, filter="tag == 3")
    # The nearest ones go: others take their places.
    queries = vectors(20, seed=9)
    gone = np.unique([np.argsort(((base - query) ** 2).sum(1))[:5] for query in queries])
    client.delete("built", ids=gone.tolist())
    keep = ~np.isin(EVERY_ROW, gone)
    check_searches(client, base, keep=keep)
    check_searches(client, base, keep=keep & (tags < 8), filter="tag < 8")
    client.close()
    server.stop().start()
    client = MilvusClient(server.uri)
    described = client.describe_index("built", "of_vector")
    assert (described["index_type"], described["state"]) == (index_type, "Finished")
    assert server.status()["engine"]["index_builds"] == 0
    check_searches(client, base, keep=keep)
    client.close()


@pytest.mark.parametrize("index_type, params, text", [
    ("HNSW", {"ef": 5}, "ef(5) should be larger than k(10)"),
    ("HNSW", {"ef": 0}, "Out of range in json: param 'ef' (0) should be in range [1, 2147483647]"),
    ("HNSW", {"ef": "many"}, "invalid integer value, key: 'ef', value: 'many'"),
    ("HNSW", {"ef": 1.5}, "Type conflict in json: param 'ef' (1.5) should be integer"),
    ("HNSW_SQ", {"ef": 9}, "ef(9) should be larger than k(10)"),
    ("HNSW_SQ", {"refine_k": 0.5}, "Out of range in json: param 'refine_k' (0.5) should be in range [1.000000, 340282346638528859811704183484516925440.000000]"),
    ("IVF_FLAT", {"nprobe": 0}, "Out of range in json: param 'nprobe' (0) should be in range [1, 65536]"),
    ("IVF_SQ8", {"nprobe": 65537}, "Out of range in json: param 'nprobe' (65537) should be in range [1, 65536]"),
    ("IVF_FLAT", {"nprobe": "x"}, "invalid integer value, key: 'nprobe', value: 'x'"),
])
def test_search_parameters_out_of_range_are_refused(client, index_type, params, text):
    schema = client.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_type=index_type, metric_type="L2", params=BUILD[index_type])
    client.create_collection("built", schema=schema, index_params=indexes)
    client.insert("built", [{"id": 1, "vector": [0.0] * DIM}])
    refused(text, client.search, "built", [[0.0] * DIM], limit=10, search_params={"params": params})
    # Parameters of other types mean nothing to this one.
    others = {"nprobe": -1} if index_type.startswith("HNSW") else {"ef": 1}
    assert len(client.search("built", [[0.0] * DIM], limit=10, search_params={"params": others})[0]) == 1


def test_one_type_after_the_other_over_the_same_rows(client, server):
    base = make(client, "IVF_FLAT")
    for index_type, metric in [("HNSW", "COSINE"), ("IVF_SQ8", "IP"), ("AUTOINDEX", "L2"), ("HNSW_SQ", "L2")]:
        client.release_collection("built")
        client.drop_index("built", "of_vector")
        assert client.list_indexes("built") == []
        wait_until(lambda: not built_files(server), "files of the dropped index are gone")
        index(client, index_type, metric)
        client.load_collection("built")
        check_description(client, index_type, metric)
        check_searches(client, base, metric)


@pytest.mark.parametrize("sq_type, wanted", [("SQ4U", 140), ("SQ6", 170), ("SQ8", 185), ("FP16", 195), ("BF16", 190)])
def test_every_scalar_quantiser_finds_with_and_without_refinement(client, monkeypatch, sq_type, wanted):
    monkeypatch.setitem(BUILD, "HNSW_SQ", {"M": 12, "efConstruction": 80, "sq_type": sq_type, "refine": True, "refine_type": "FP32"})
    base = make(client, "HNSW_SQ")
    check_description(client, "HNSW_SQ")
    check_searches(client, base)
    client.release_collection("built")
    client.drop_index("built", "of_vector")
    monkeypatch.setitem(BUILD, "HNSW_SQ", {"M": 12, "efConstruction": 80, "sq_type": sq_type, "refine": False})
    index(client, "HNSW_SQ")
    client.load_collection("built")
    check_description(client, "HNSW_SQ")
    queries = vectors(20, seed=9)
    shared = inexact = 0
    for query, hits in zip(queries, client.search("built", queries.tolist(), limit=10, search_params={"params": THOROUGH})):
        far = ((base.astype(np.float64) - query) ** 2).sum(1)
        shared += len({hit["id"] for hit in hits} & set(np.argsort(far)[:10].tolist()))
        inexact += sum(abs(hit["distance"] - far[hit["id"]]) > 1e-5 for hit in hits)
    assert shared >= wanted, f"{shared} of 200"
    # The distances are those of the codes.
    assert inexact > 100, f"{inexact} of 200"
    # Pages go on where the one before ended, in the same distances.
    iterator = client.search_iterator("built", [queries[0].tolist()], batch_size=50, limit=400, search_params={"params": {"ef": 400}})
    pages = []
    while page := iterator.next():
        pages.extend((hit["distance"], hit["id"]) for hit in page)
    iterator.close()
    assert len({row for _, row in pages}) == len(pages) == 400
    assert [distance for distance, _ in pages] == sorted(distance for distance, _ in pages)
    assert sum(abs(distance - ((base[row].astype(np.float64) - queries[0]) ** 2).sum()) > 1e-5 for distance, row in pages) > 200


@pytest.mark.parametrize("data_type, metric", [(DataType.FLOAT16_VECTOR, "COSINE"), (DataType.BFLOAT16_VECTOR, "L2"), (DataType.INT8_VECTOR, "IP")])
@pytest.mark.parametrize("index_type", ["AUTOINDEX", "HNSW", "IVF_FLAT"])
def test_every_dense_vector_type_has_graphs_and_lists(client, server, data_type, metric, index_type):
    base = make(client, index_type, data_type, metric)
    check_description(client, index_type, metric)
    assert len(built_files(server)) == 1
    check_searches(client, base, metric)
    check_searches(client, base, metric, keep=EVERY_ROW % 10 < 8, filter="tag < 8")


@pytest.mark.parametrize("index_type", BUILD)
def test_rows_without_a_vector_are_never_hits(client, server, index_type):
    present = EVERY_ROW % 4 != 1
    base = make(client, index_type, present=present)
    assert len(built_files(server)) == 1
    check_searches(client, base, keep=present)
    check_searches(client, base, keep=present & (EVERY_ROW % 10 < 8), filter="tag < 8")
    # Where a missing vector's zeros would be the nearest.
    hits = client.search("built", [[0.0] * DIM], limit=100, search_params={"params": THOROUGH})[0]
    assert len(hits) == 100 and all(present[hit["id"]] for hit in hits)
    assert client.search("built", [[0.0] * DIM], limit=10, filter="id == 5")[0] == []


def pages_of(client, **options):
    iterator = client.search_iterator("built", [sent(vectors(1, seed=9)[0])], limit=-1, **options)
    while page := iterator.next():
        yield page
    iterator.close()


@pytest.mark.parametrize("metric", ["L2", "COSINE", "IP"])
@pytest.mark.parametrize("index_type", BUILD)
def test_an_iterator_over_an_index_comes_to_every_row_once(client, server, index_type, metric):
    make(client, index_type, metric=metric)
    assert len(built_files(server)) == 1
    for options, wanted in [({}, range(ROWS)), ({"filter": "tag < 3"}, [row for row in range(ROWS) if row % 10 < 3])]:
        for thoroughness in [{}, {"ef": 512, "nprobe": 1, "level": 1}]:
            hits = [hit for page in pages_of(client, batch_size=500, search_params={"params": thoroughness}, **options) for hit in page]
            assert sorted(hit["id"] for hit in hits) == list(wanted)
            distances = [hit["distance"] for hit in hits]
            assert distances == sorted(distances, reverse=metric != "L2")


def test_an_iterator_comes_to_the_rows_of_its_snapshot_while_others_are_written(client, server):
    make(client, "AUTOINDEX")
    found = []
    for number, page in enumerate(pages_of(client, batch_size=300)):
        found += [hit["id"] for hit in page]
        # Rows near the query, and rows that it will come to.
        client.upsert("built", [{"id": key, "tag": 0, "vector": sent(vectors(1, seed=9)[0])} for key in (ROWS + number, 17 * number)])
        client.delete("built", ids=[ROWS - 1 - number])
        if number % 5 == 4:
            client.flush("built")
    assert sorted(found) == list(range(ROWS))
