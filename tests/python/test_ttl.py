"""Rows that expire: `collection.ttl.seconds` hides them from every read at once, merges drop them."""

import time

import pytest
from pymilvus import DataType, MilvusClient

from conftest import refused, wait_until

DIM = 2


def create(client, name="events", **properties):
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("size", DataType.INT64)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=indexes, properties=properties)


def row(key):
    return {"id": key, "vector": [float(key), 0.0], "size": key}


def seen(client):
    """What every way of reading says; they must agree."""
    keys = [entity["id"] for entity in client.query("events", filter="size >= 0", output_fields=["id"])]
    assert [hit["id"] for hit in client.search("events", data=[[0.0, 0.0]], limit=100)[0]] == keys
    assert client.query("events", filter="", output_fields=["count(*)"])[0]["count(*)"] == len(keys)
    assert [entity["id"] for entity in client.get("events", ids=list(range(100)), output_fields=["id"])] == keys
    return keys


def is_empty(client):
    return not client.query("events", filter="size >= 0", output_fields=["id"])


def set_ttl(client, seconds):
    client.alter_collection_properties("events", properties={"collection.ttl.seconds": seconds})


def check_young(client, ttl, write):
    """What was just written is all that there is; how young it is, the machine has a say in: a look that came late says nothing."""
    while True:
        wait_until(lambda: is_empty(client), "rows have expired")
        started = time.monotonic()
        key = write()
        try:
            keys = seen(client)
        except AssertionError as error:
            keys = error
        if time.monotonic() - started < ttl - 0.5:
            assert keys == [key]
            return


def check_there(client, key):
    """Every way of reading finds it. What merges dropped does not come back; what they had no time to drop may."""
    assert key in [entity["id"] for entity in client.query("events", filter="size >= 0", output_fields=["id"])]
    assert key in [hit["id"] for hit in client.search("events", data=[[0.0, 0.0]], limit=100)[0]]
    assert key in [entity["id"] for entity in client.get("events", ids=list(range(100)), output_fields=["id"])]


def test_expired_rows_are_gone_from_every_read_and_then_from_the_disk(client, server):
    create(client)
    client.insert("events", [row(key) for key in range(5)])
    client.flush("events")
    started = time.monotonic()
    client.insert("events", [row(key) for key in range(5, 10)])
    assert seen(client) == list(range(10))
    set_ttl(client, 3)
    wait_until(lambda: is_empty(client), "rows have expired")
    assert time.monotonic() - started > 2
    assert seen(client) == []
    keys = iter(range(50, 90))

    def write():
        key = next(keys)
        client.insert("events", [row(key)])
        return key

    check_young(client, 3, write)
    set_ttl(client, 3600)
    client.insert("events", [row(99)])
    tables = server.data_dir / "tables"
    client.flush("events")
    check_there(client, 99)
    set_ttl(client, 1)
    wait_until(lambda: not list(tables.glob("*/*.arrow")), "merges dropped every row")
    assert seen(client) == []


def test_a_ttl_may_come_later_and_go(client, server):
    create(client)
    client.insert("events", [row(key) for key in range(5)])
    set_ttl(client, 2)
    wait_until(lambda: is_empty(client), "rows have expired")
    set_ttl(client, 3600)
    client.insert("events", [row(20)])
    check_there(client, 20)
    server.stop().start()
    other = MilvusClient(server.uri)
    check_there(other, 20)
    other.drop_collection_properties("events", ["collection.ttl.seconds"])
    check_there(other, 20)
    other.close()


def test_an_upsert_makes_a_row_young_and_an_expired_row_is_no_row(client):
    create(client, **{"collection.ttl.seconds": 2})
    client.insert("events", [row(1), row(2)])
    wait_until(lambda: is_empty(client), "rows have expired")
    refused("has no corresponding fieldData pass in", client.upsert, "events", [{"id": 1, "size": 5}], partial_update=True)

    def write():
        client.upsert("events", [row(2)])
        return 2

    check_young(client, 2, write)


@pytest.mark.parametrize("ttl", [-1, 0, 3155760000])
def test_bounds(client, ttl):
    create(client, **{"collection.ttl.seconds": ttl})
    client.insert("events", [row(1)])
    assert seen(client) == [1]
    assert client.describe_collection("events")["properties"]["collection.ttl.seconds"] == str(ttl)


def test_times_to_live_that_milvus_refuses(client):
    for ttl in [-2, 3155760001]:
        text = f"collection TTL is out of range, expect [-1, 3155760000], got {ttl}: invalid parameter"
        assert refused(text, create, client, **{"collection.ttl.seconds": ttl}).code == 1100
    refused("collection TTL is not a valid positive integer", create, client, **{"collection.ttl.seconds": "soon"})
    refused("not supported", create, client, ttl_field="size")
    create(client)
    refused("collection TTL is out of range", client.alter_collection_properties, "events", properties={"collection.ttl.seconds": -2})
    refused("not supported", client.alter_collection_properties, "events", properties={"ttl_field": "size"})
