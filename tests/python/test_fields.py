"""Fields added and altered later: old rows read as null or default everywhere, also after merges, restarts and kills."""

import numpy as np
import pytest
from conftest import refused, wait_until
from pymilvus import DataType, MilvusClient, MilvusException

DIM = 4


def vector(value):
    return [float(value)] * DIM


def create(client, name="old", dynamic=False, **keywords):
    schema = MilvusClient.create_schema(enable_dynamic_field=dynamic)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("name", DataType.VARCHAR, max_length=64)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_type="FLAT", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=indexes, **keywords)


def rows_of(start, end, **more):
    return [{"id": i, "vector": vector(i), "name": f"n{i}", **more} for i in range(start, end)]


def ids(client, filter, name="old"):
    return [row["id"] for row in client.query(name, filter=filter, output_fields=["id"])]


ADDED = [
    ("flag", DataType.BOOL, True, False),
    ("tiny", DataType.INT8, np.int8(7), 8),
    ("small", DataType.INT16, np.int16(700), 800),
    ("middle", DataType.INT32, np.int32(70000), 80000),
    ("large", DataType.INT64, 7 << 40, 8 << 40),
    ("single", DataType.FLOAT, np.float32(1.5), 2.5),
    ("double", DataType.DOUBLE, 1.25, 2.25),
    ("text", DataType.VARCHAR, "default text", "given text"),
]


def literal(value):
    return f'"{value}"' if isinstance(value, str) else str(value).lower()


def check_added(client):
    """Rows 0..19 are older than the fields; 20..29 came later and leave them out, 30..39 give them."""
    for field, _, default, given in ADDED:
        assert ids(client, f"n_{field} is null") == list(range(30)), field
        assert ids(client, f"n_{field} is not null") == list(range(30, 40)), field
        assert ids(client, f"n_{field} == {literal(given)}") == list(range(30, 40)), field
        assert ids(client, f"n_{field} != {literal(given)}") == [], field
        assert ids(client, f"d_{field} == {literal(default)}") == list(range(30)), field
        assert ids(client, f"d_{field} != {literal(default)}") == list(range(30, 40)), field
        assert ids(client, f"d_{field} is null") == [], field
    names = [f"{kind}_{field}" for field, *_ in ADDED for kind in "nd"]
    rows = client.query("old", filter="id >= 0", output_fields=names)
    assert [row["id"] for row in rows] == list(range(40))
    hits = client.search("old", data=[vector(0)], limit=40, output_fields=names)[0]
    found = {hit["id"]: hit["entity"] for hit in hits}
    for row in rows:
        for field, _, default, given in ADDED:
            is_given = row["id"] >= 30
            for source in (row, found[row["id"]]):
                assert source[f"n_{field}"] == (given if is_given else None), (row["id"], field)
                assert source[f"d_{field}"] == (given if is_given else default), (row["id"], field)
    filtered = client.search("old", data=[vector(0)], limit=40, filter="n_tiny is null and d_tiny == 7", output_fields=["d_text"])[0]
    assert sorted(hit["id"] for hit in filtered) == list(range(30))


def add_all(client):
    for field, data_type, default, _ in ADDED:
        length = {"max_length": 64} if data_type == DataType.VARCHAR else {}
        client.add_collection_field("old", f"n_{field}", data_type, nullable=True, **length)
        client.add_collection_field("old", f"d_{field}", data_type, nullable=True, default_value=default, **length)


def given_values():
    return {f"{kind}_{field}": given for field, _, _, given in ADDED for kind in "nd"}


def test_added_fields_read_as_null_or_default_in_files_of_every_age(servers):
    server = servers("added", "--searchers", "2", "--auto-flush-interval", "1h").start()
    client = MilvusClient(server.uri)
    create(client)
    client.insert("old", rows_of(0, 10))
    client.flush("old")
    client.insert("old", rows_of(10, 20))
    # Rows in a table file, rows in a growing file, and then the fields.
    add_all(client)
    client.insert("old", rows_of(20, 30))
    client.insert("old", rows_of(30, 40, **given_values()))
    check_added(client)
    for how in ["kill", "stop", "kill"]:
        client.close()
        getattr(server, how)()
        server.start()
        client = MilvusClient(server.uri)
        check_added(client)
    client.flush("old")
    check_added(client)
    job = client.compact("old")
    wait_until(lambda: client.get_compaction_state(job) == "Completed", "the compaction is over")
    assert [segment.num_rows for segment in client.list_persistent_segments("old")] == [40]
    check_added(client)
    client.release_collection("old")
    client.load_collection("old")
    check_added(client)
    client.close()
    server.kill().start()
    client = MilvusClient(server.uri)
    check_added(client)
    client.close()


def test_an_added_field_is_described_and_written(shared):
    create(shared)
    shared.insert("old", rows_of(0, 3))
    shared.add_collection_field("old", "score", DataType.DOUBLE, nullable=True, desc="how good")
    field = shared.describe_collection("old")["fields"][-1]
    assert field["name"] == "score" and field["type"] == DataType.DOUBLE and field["nullable"] and field["field_id"] == 103
    shared.upsert("old", [{"id": 1, "vector": vector(1), "name": "n1", "score": 0.5}])
    assert [row["score"] for row in shared.query("old", filter="id >= 0", output_fields=["score"])] == [None, 0.5, None]
    assert shared.delete("old", filter="score is null")["delete_count"] == 2
    assert ids(shared, "id >= 0") == [1]
    shared.add_collection_field("old", "next", DataType.JSON, nullable=True)
    assert shared.query("old", filter="id >= 0", output_fields=["next"])[0]["next"] is None
    assert [field["field_id"] for field in shared.describe_collection("old")["fields"]] == [100, 101, 102, 103, 104]


def test_another_client_notices_an_added_field(shared, shared_server):
    other = MilvusClient(shared_server.uri)
    create(shared)
    other.insert("old", rows_of(0, 3))
    shared.add_collection_field("old", "score", DataType.INT64, nullable=True, default_value=5)
    other.insert("old", rows_of(3, 6))
    assert ids(other, "score == 5") == list(range(6))
    other.close()


def test_a_field_takes_the_name_of_a_dynamic_key(shared):
    create(shared, dynamic=True)
    shared.insert("old", rows_of(0, 3, tag="dynamic"))
    assert ids(shared, 'tag == "dynamic"') == [0, 1, 2]
    shared.add_collection_field("old", "tag", DataType.VARCHAR, nullable=True, max_length=32)
    shared.insert("old", rows_of(3, 6, tag="field"))
    assert ids(shared, 'tag == "field"') == [3, 4, 5]
    assert ids(shared, "tag is null") == [0, 1, 2]
    assert ids(shared, '$meta["tag"] == "dynamic"') == [0, 1, 2]


def test_what_cannot_be_added(shared):
    create(shared)
    add = shared.add_collection_field
    refused("added field must be nullable, please check it, field name = x", add, "old", "x", DataType.INT64)
    refused("not support to add pk field, field name = x", add, "old", "x", DataType.INT64, nullable=True, is_primary=True)
    refused("not support to add partition key field, field name  = x", add, "old", "x", DataType.INT64, nullable=True, is_partition_key=True)
    refused("duplicated field name name", add, "old", "name", DataType.INT64, nullable=True)
    refused("type param(max_length) should be specified for the field(x) of collection old", add, "old", "x", DataType.VARCHAR, nullable=True)
    refused("should be in (0, 65535], but got 65536 instead", add, "old", "x", DataType.VARCHAR, nullable=True, max_length=65536)
    refused("Invalid field name: 1x", add, "old", "1x", DataType.INT64, nullable=True)
    refused("the length (9) of string exceeds max length (4)", add, "old", "x", DataType.VARCHAR, nullable=True, max_length=4, default_value="too  long")
    assert refused("collection not found", add, "nobody", "x", DataType.INT64, nullable=True).code == 100
    assert len(shared.describe_collection("old")["fields"]) == 3


def test_there_are_64_fields_at_most(shared):
    create(shared)
    for i in range(61):
        shared.add_collection_field("old", f"f{i}", DataType.INT8, nullable=True)
    refused("The number of fields has reached the maximum value 64", shared.add_collection_field, "old", "f61", DataType.INT8, nullable=True)
    shared.insert("old", rows_of(0, 2, f60=3))
    assert ids(shared, "f60 == 3 and f0 is null") == [0, 1]


def test_the_dynamic_field_is_turned_on_later(servers):
    server = servers("dynamic", "--searchers", "2").start()
    client = MilvusClient(server.uri)
    create(client)
    client.insert("old", rows_of(0, 3))
    client.flush("old")
    with pytest.raises(MilvusException):
        client.insert("old", rows_of(3, 4, color="red"))
    client.alter_collection_properties("old", properties={"dynamicfield.enabled": True})

    def check():
        assert client.describe_collection("old")["enable_dynamic_field"]
        assert ids(client, 'color == "red"') == [3]
        rows = client.query("old", filter="id in [0, 3]", output_fields=["color"])
        assert [dict(row) for row in rows] == [{"id": 0}, {"id": 3, "color": "red"}]

    client.insert("old", rows_of(3, 4, color="red"))
    check()
    client.close()
    server.kill().start()
    client = MilvusClient(server.uri)
    check()
    client.flush("old")
    job = client.compact("old")
    wait_until(lambda: client.get_compaction_state(job) == "Completed", "the compaction is over")
    check()
    client.close()


def params_of(client, field, name="old"):
    fields = {entry["name"]: entry for entry in client.describe_collection(name)["fields"]}
    return fields[field]["params"]


def test_altered_fields(servers):
    server = servers("altered", "--searchers", "2", "--auto-flush-interval", "1h").start()
    client = MilvusClient(server.uri)
    create(client)
    client.insert("old", [{"id": 0, "vector": vector(0), "name": "x" * 60}])
    client.alter_collection_field("old", "name", field_params={"max_length": 10})
    assert params_of(client, "name")["max_length"] == 10
    refused("length of varchar field name exceeds max length", client.insert, "old", [{"id": 1, "vector": vector(1), "name": "x" * 11}])
    client.insert("old", [{"id": 1, "vector": vector(1), "name": "x" * 10}])
    client.close()
    # The log holds a row that is longer than the new limit.
    server.kill().start()
    client = MilvusClient(server.uri)
    assert [len(row["name"]) for row in client.query("old", filter="id >= 0", output_fields=["name"])] == [60, 10]
    assert params_of(client, "name")["max_length"] == 10
    client.release_collection("old")
    client.alter_collection_field("old", "vector", field_params={"mmap.enabled": True})
    assert params_of(client, "vector")["mmap_enabled"] is True
    client.alter_collection_field("old", "name", field_params={"max_length": 65535})
    client.load_collection("old")
    client.insert("old", [{"id": 2, "vector": vector(2), "name": "x" * 65535}])
    client.close()


def test_what_cannot_be_altered(shared):
    create(shared)
    alter = shared.alter_collection_field
    refused("can not modify the maxlength for non-string types", alter, "old", "vector", field_params={"max_length": 10})
    refused("can not modify the maxcapacity for non-array types", alter, "old", "name", field_params={"max_capacity": 10})
    refused("65536 exceeds the maximum allowed value 65535", alter, "old", "name", field_params={"max_length": 65536})
    refused("max_length should be an integer, but got abc", alter, "old", "name", field_params={"max_length": "abc"})
    refused("element_type does not allow update in collection field param", alter, "old", "name", field_params={"element_type": 5})
    refused("nullable does not allow update in collection field param", alter, "old", "name", field_params={"nullable": True})
    refused("can not alter collection field properties if collection loaded", alter, "old", "name", field_params={"mmap.enabled": True})
    refused("field not found[field=none]", alter, "old", "none", field_params={"max_length": 10})
    shared.release_collection("old")
    refused("invalid mmap.enabled value", alter, "old", "name", field_params={"mmap.enabled": "perhaps"})
    if hasattr(shared, "drop_collection_field"):
        refused("dropping a field", shared.drop_collection_field, "old", "name")
    assert params_of(shared, "name")["max_length"] == 64


@pytest.mark.once
def test_fields_are_added_while_rows_come_in(servers):
    """No row is lost or refused for good when the schema changes under an inserting client."""
    import threading

    server = servers("busy", "--searchers", "2").start()
    client = MilvusClient(server.uri)
    create(client)
    done, failed, written = threading.Event(), [], []

    def insert():
        writer = MilvusClient(server.uri)
        start = 0
        while not done.is_set():
            try:
                writer.insert("old", rows_of(start, start + 50))
                written.append(start)
            except MilvusException as error:
                # A change between the client's look at the schema and its rows is told as such.
                if "schema mismatch" not in str(error):
                    failed.append(error)
                    return
            start += 50
        writer.close()

    thread = threading.Thread(target=insert)
    thread.start()
    for i in range(10):
        before = len(written)
        client.add_collection_field("old", f"f{i}", DataType.INT64, nullable=True, default_value=i)
        wait_until(lambda: len(written) > before + 1 or failed, "rows go on")
    done.set()
    thread.join()
    assert not failed
    expected = sorted(row for start in written for row in range(start, start + 50))
    assert ids(client, "f0 == 0 and f9 == 9 and id >= 0") == expected
    client.close()
