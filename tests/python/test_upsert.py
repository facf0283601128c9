"""Upserts as Milvus does them: within the named partition, and with new keys where keys are automatic."""

import pytest
from pymilvus import DataType

DIM = 4


def row(key, label):
    return {"id": key, "label": label, "vector": [0.5] * DIM}


@pytest.fixture
def collection(client):
    def make(auto_id):
        schema = client.create_schema(auto_id=auto_id)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("label", DataType.VARCHAR, max_length=20)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
        index = client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="L2")
        client.create_collection("upserts", schema=schema, index_params=index)
        return client

    return make


def labels(client, **options):
    rows = client.query("upserts", filter="id >= 0", output_fields=["label"], **options)
    return sorted(row["label"] for row in rows)


def test_an_upsert_replaces_within_its_partition_only(collection):
    client = collection(auto_id=False)
    client.create_partition("upserts", "side")
    client.insert("upserts", [row(1, "main one"), row(2, "main two")])
    client.upsert("upserts", [row(1, "side one")], partition_name="side")
    assert labels(client) == ["main one", "main two", "side one"]
    client.upsert("upserts", [row(1, "side again")], partition_name="side")
    client.upsert("upserts", [row(2, "main again")])
    assert labels(client, partition_names=["side"]) == ["side again"]
    assert labels(client) == ["main again", "main one", "side again"]


def test_an_upsert_with_automatic_keys_replaces_the_named_row_under_a_new_key(collection):
    client = collection(auto_id=True)
    first = client.insert("upserts", [{"label": label, "vector": [0.5] * DIM} for label in ("one", "two")])["ids"]
    answer = client.upsert("upserts", [row(first[0], "one again")])
    assert answer["upsert_count"] == 1
    rows = client.query("upserts", filter="id >= 0", output_fields=["label"])
    assert sorted(row["label"] for row in rows) == ["one again", "two"]
    [key] = [row["id"] for row in rows if row["label"] == "one again"]
    assert key not in first
    assert client.get("upserts", ids=[first[0]]) == []
