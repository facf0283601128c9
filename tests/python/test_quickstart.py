"""What a newcomer does with pymilvus: create, insert, search, query, get, delete, upsert, drop."""

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException

DIM = 8


def rows_of(count, start=0, seed=1):
    values = np.random.default_rng(seed + start).random((count, DIM), dtype=np.float32)
    return [{"id": start + i, "vector": values[i].tolist(), "color": f"c{(start + i) % 5}"} for i in range(count)]


@pytest.fixture
def quick(client):
    client.create_collection("quick", dimension=DIM)
    return client


def test_the_quickstart_works_line_by_line(quick):
    assert quick.has_collection("quick")
    assert quick.list_collections() == ["quick"]
    answer = quick.insert("quick", rows_of(100))
    assert answer["insert_count"] == 100
    assert list(answer["ids"]) == list(range(100))
    hits = quick.search("quick", data=[rows_of(100)[42]["vector"]], limit=3, output_fields=["color"])
    assert hits[0][0]["id"] == 42
    assert hits[0][0]["entity"]["color"] == "c2"
    assert hits[0][0]["distance"] == pytest.approx(1.0, abs=1e-5)
    assert [row["id"] for row in quick.query("quick", filter="id in [3, 1, 2]", output_fields=["id"])] == [1, 2, 3]
    assert quick.get("quick", ids=[7])[0]["color"] == "c2"
    assert quick.delete("quick", ids=[7])["delete_count"] == 1
    assert quick.get("quick", ids=[7]) == []
    assert quick.query("quick", output_fields=["count(*)"])[0]["count(*)"] == 99
    quick.drop_collection("quick")
    assert not quick.has_collection("quick")


def test_exact_search_equals_numpy(quick):
    rows = rows_of(2000)
    for start in range(0, 2000, 500):
        quick.insert("quick", rows[start : start + 500])
    base = np.array([row["vector"] for row in rows], dtype=np.float64)
    base /= np.linalg.norm(base, axis=1, keepdims=True)
    queries = np.random.default_rng(9).random((20, DIM))
    hits = quick.search("quick", data=queries.tolist(), limit=10)
    unit = queries / np.linalg.norm(queries, axis=1, keepdims=True)
    truth = unit @ base.T
    for query, found in enumerate(hits):
        want = np.sort(truth[query])[::-1][:10]
        assert [hit["distance"] for hit in found] == pytest.approx(want.tolist(), abs=1e-5)
        assert [hit["distance"] for hit in found] == pytest.approx([truth[query][hit["id"]] for hit in found], abs=1e-5)


@pytest.mark.parametrize("metric", ["L2", "IP", "COSINE"])
def test_each_metric_scores_as_milvus_does(client, metric):
    client.create_collection("metrics", dimension=2, metric_type=metric)
    client.insert("metrics", [{"id": 1, "vector": [3.0, 4.0]}, {"id": 2, "vector": [-1.0, 0.0]}])
    found = client.search("metrics", data=[[1.0, 0.0]], limit=2)[0]
    want = {"L2": [(2, 4.0), (1, 20.0)], "IP": [(1, 3.0), (2, -1.0)], "COSINE": [(1, 0.6), (2, -1.0)]}[metric]
    assert [(hit["id"], pytest.approx(hit["distance"], abs=1e-6)) for hit in found] == want


def test_every_scalar_type_comes_back_as_it_went_in(client):
    schema = client.create_schema(enable_dynamic_field=True)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("flag", DataType.BOOL)
    schema.add_field("tiny", DataType.INT8)
    schema.add_field("small", DataType.INT16)
    schema.add_field("medium", DataType.INT32)
    schema.add_field("large", DataType.INT64)
    schema.add_field("single", DataType.FLOAT)
    schema.add_field("double", DataType.DOUBLE)
    schema.add_field("text", DataType.VARCHAR, max_length=200, nullable=True)
    schema.add_field("document", DataType.JSON, nullable=True)
    schema.add_field("fallback", DataType.INT64, default_value=77)
    schema.add_field("first", DataType.FLOAT_VECTOR, dim=4)
    schema.add_field("second", DataType.FLOAT_VECTOR, dim=3)
    indexes = client.prepare_index_params()
    indexes.add_index("first", index_type="FLAT", metric_type="L2")
    indexes.add_index("second", index_type="AUTOINDEX", metric_type="IP")
    client.create_collection("types", schema=schema, index_params=indexes)
    row = {
        "key": "ключ-1", "flag": True, "tiny": -128, "small": 32767, "medium": -(2**31), "large": 2**62,
        "single": 0.5, "double": 1e300, "text": None, "document": {"a": [1, {"b": None}], "ü": "é"},
        "first": [1.0, 2.0, 3.0, 4.0], "second": [0.0, 1.0, 0.0], "extra": {"nested": [1, 2]},
    }
    client.insert("types", [row, {**row, "key": "k2", "text": "there", "document": None, "fallback": 5}])
    # Growing and sealed files must answer alike.
    for _ in range(2):
        one = client.query("types", filter='key == "ключ-1"', output_fields=["*"])[0]
        assert one == {**row, "fallback": 77}
        two = client.get("types", ids=["k2"], output_fields=["text", "document", "fallback", "extra"])[0]
        assert (two["text"], two["document"], two["fallback"], two["extra"]) == ("there", None, 5, {"nested": [1, 2]})
        assert client.search("types", data=[[0.0, 1.0, 0.0]], anns_field="second", limit=1)[0][0]["distance"] == 1.0
        client.flush("types")


def test_automatic_ids_are_unique_and_returned(client):
    schema = client.create_schema(auto_id=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", metric_type="L2")
    client.create_collection("auto", schema=schema, index_params=indexes)
    ids = []
    for start in range(0, 300, 100):
        ids += client.insert("auto", [{"vector": row["vector"]} for row in rows_of(100, start)])["ids"]
    assert len(set(ids)) == 300
    assert {row["id"] for row in client.query("auto", filter=f"id in {ids}", output_fields=["id"])} == set(ids)


def test_upsert_replaces_rows_by_key(quick):
    quick.insert("quick", rows_of(10))
    quick.flush("quick")
    answer = quick.upsert("quick", [{"id": 3, "vector": [1.0] * DIM, "color": "new"}, {"id": 99, "vector": [0.5] * DIM, "color": "more"}])
    assert answer["upsert_count"] == 2
    assert quick.get("quick", ids=[3])[0]["color"] == "new"
    assert quick.query("quick", output_fields=["count(*)"])[0]["count(*)"] == 11


def test_filters_choose_rows(quick):
    quick.insert("quick", rows_of(100))
    assert len(quick.query("quick", filter="id >= 10 and id < 20 and not (id in [12, 13])", limit=100)) == 8
    found = quick.search("quick", data=[rows_of(1)[0]["vector"]], limit=100, filter="id > 94 or id == 0")[0]
    assert sorted(hit["id"] for hit in found) == [0, 95, 96, 97, 98, 99]
    assert quick.delete("quick", filter="id >= 50")["delete_count"] == 50
    assert quick.query("quick", output_fields=["count(*)"])[0]["count(*)"] == 50


def test_limit_offset_range_and_rounding(client):
    client.create_collection("line", dimension=2, metric_type="L2")
    client.insert("line", [{"id": i, "vector": [float(i), 0.0]} for i in range(50)])
    page = client.search("line", data=[[0.0, 0.0]], limit=5, search_params={"offset": 10})[0]
    assert [hit["id"] for hit in page] == [10, 11, 12, 13, 14]
    ring = client.search("line", data=[[0.0, 0.0]], limit=50, search_params={"params": {"radius": 100.0, "range_filter": 16.0}})[0]
    assert [hit["id"] for hit in ring] == [4, 5, 6, 7, 8, 9]
    rounded = client.search("line", data=[[0.12345, 0.0]], limit=1, round_decimal=3)[0][0]
    assert rounded["distance"] == pytest.approx(0.015, abs=1e-9)
    assert [row["id"] for row in client.query("line", filter="id >= 0", limit=3, offset=7)] == [7, 8, 9]


def test_partitions_and_aliases(client):
    client.create_collection("parts", dimension=2, metric_type="L2")
    client.create_partition("parts", "north")
    assert client.has_partition("parts", "north")
    assert sorted(client.list_partitions("parts")) == ["_default", "north"]
    client.insert("parts", [{"id": 1, "vector": [0.0, 0.0]}])
    client.insert("parts", [{"id": 2, "vector": [1.0, 1.0]}], partition_name="north")
    found = client.search("parts", data=[[0.0, 0.0]], limit=10, partition_names=["north"])[0]
    assert [hit["id"] for hit in found] == [2]
    client.create_alias("parts", "other")
    assert client.describe_alias("other")["collection_name"] == "parts"
    assert client.query("other", filter="id in [1, 2]", output_fields=["id"]) == [{"id": 1}, {"id": 2}]
    client.drop_alias("other")
    client.release_partitions("parts", ["north"])
    client.drop_partition("parts", "north")
    assert client.query("parts", filter="id in [1, 2]", output_fields=["id"]) == [{"id": 1}]


def test_rename_truncate_statistics_and_load_states(quick):
    quick.insert("quick", rows_of(10))
    quick.flush("quick")
    assert quick.get_collection_stats("quick")["row_count"] == 10
    quick.rename_collection("quick", "renamed")
    assert quick.list_collections() == ["renamed"]
    quick.release_collection("renamed")
    assert str(quick.get_load_state("renamed")["state"]) == "NotLoad"
    with pytest.raises(MilvusException, match="collection not loaded"):
        quick.search("renamed", data=[[0.0] * DIM], limit=1)
    quick.load_collection("renamed")
    assert len(quick.query("renamed", filter="id >= 0", limit=100)) == 10
    quick.truncate_collection("renamed")
    assert quick.query("renamed", output_fields=["count(*)"])[0]["count(*)"] == 0


def test_describe_echoes_what_was_created(quick):
    described = quick.describe_collection("quick")
    assert described["collection_name"] == "quick"
    assert described["enable_dynamic_field"] is True
    assert [field["name"] for field in described["fields"]] == ["id", "vector"]
    assert described["fields"][1]["params"]["dim"] == DIM
    index = quick.describe_index("quick", index_name="vector")
    assert index["index_type"] == "AUTOINDEX"
    assert index["metric_type"] == "COSINE"
    assert quick.list_indexes("quick") == ["vector"]


def test_iterators_visit_every_row_once(quick):
    quick.insert("quick", rows_of(500))
    quick.flush("quick")
    quick.insert("quick", rows_of(500, start=500))
    iterator = quick.query_iterator("quick", filter="id >= 100", batch_size=70, output_fields=["id"])
    seen = []
    while page := iterator.next():
        seen += [row["id"] for row in page]
        # What is inserted under way belongs to a later snapshot.
        quick.insert("quick", rows_of(1, start=10_000 + len(seen)))
    iterator.close()
    assert seen == list(range(100, 1000))
