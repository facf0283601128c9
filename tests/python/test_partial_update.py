"""Upsert of whole rows and of some fields, delete by ids and by filter: texts, and the same state after flush, merge, restart and kill."""

import pytest
from pymilvus import DataType, MilvusClient, MilvusException

from conftest import refused, wait_until

DIM = 2


def create(client, name="items", auto_id=False, key=DataType.INT64):
    schema = MilvusClient.create_schema(enable_dynamic_field=True, auto_id=auto_id)
    schema.add_field("id", key, is_primary=True, **({"max_length": 64} if key == DataType.VARCHAR else {}))
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("size", DataType.INT64)
    schema.add_field("note", DataType.VARCHAR, max_length=16, nullable=True)
    schema.add_field("grade", DataType.INT64, default_value=7)
    schema.add_field("info", DataType.JSON, nullable=True)
    schema.add_field("tags", DataType.ARRAY, element_type=DataType.INT64, max_capacity=8, nullable=True)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=indexes)


def row(key, **changes):
    whole = {"id": key, "vector": [float(key), 0.5], "size": key * 10, "note": f"n{key}", "grade": key, "info": {"a": key}, "tags": [key, key + 1], "color": f"c{key}", "depth": key}
    return whole | changes


@pytest.fixture
def items(client):
    """Rows 0..10, half of them in a file."""
    create(client)
    client.insert("items", [row(key) for key in range(5)])
    client.flush("items")
    client.insert("items", [row(key) for key in range(5, 10)])
    return client


def rows(client, filter="size >= 0 or size < 0", name="items"):
    return {entity["id"]: dict(entity) for entity in client.query(name, filter=filter, output_fields=["*"])}


def everywhere(client, server, expected):
    """The rows are as expected now, after a flush, after a merge, after a restart and after a kill."""
    assert rows(client) == expected
    client.flush("items")
    assert rows(client) == expected
    job = client.compact("items")
    wait_until(lambda: client.get_compaction_state(job) == "Completed", "the compaction is done")
    assert rows(client) == expected
    server.stop().start()
    other = MilvusClient(server.uri)
    assert rows(other) == expected
    server.kill().start()
    other.close()
    other = MilvusClient(server.uri)
    assert rows(other) == expected
    other.close()


def test_an_upsert_replaces_whole_rows_and_inserts_new_ones(items, server):
    answer = items.upsert("items", [row(3, size=-3), row(7, note=None, tags=None), row(20)])
    assert answer["upsert_count"] == 3 and list(answer["ids"]) == [3, 7, 20]
    everywhere(items, server, {key: row(key) for key in range(10)} | {3: row(3, size=-3), 7: row(7, note=None, tags=None), 20: row(20)})


def test_a_row_left_out_of_an_upsert_is_gone_from_its_dynamic_keys_too(items):
    short = {"id": 3, "vector": [1.0, 1.0], "size": 1, "new": True}
    items.upsert("items", [short])
    assert rows(items, "id == 3")[3] == short | {"note": None, "grade": 7, "info": None, "tags": None}


def test_some_fields_are_updated_and_the_others_stay(items, server):
    expected = {key: row(key) for key in range(10)}
    items.upsert("items", [{"id": 2, "size": 1000}, {"id": 8, "size": 2000}], partial_update=True)
    expected[2]["size"], expected[8]["size"] = 1000, 2000
    items.upsert("items", [{"id": 2, "vector": [9.0, 9.0]}], partial_update=True)
    expected[2]["vector"] = [9.0, 9.0]
    items.upsert("items", [{"id": 3, "note": None, "tags": None, "info": None}], partial_update=True)
    expected[3] |= {"note": None, "tags": None, "info": None}
    items.upsert("items", [{"id": 3, "info": {"b": 1}, "tags": []}], partial_update=True)
    expected[3] |= {"info": {"b": 1}, "tags": []}
    items.upsert("items", [{"id": 4, "color": "blue", "extra": [1, {"x": 2.5}]}], partial_update=True)
    expected[4] |= {"color": "blue", "extra": [1, {"x": 2.5}]}
    items.upsert("items", [{"id": 5, "grade": None}], partial_update=True)
    expected[5]["grade"] = 7
    items.upsert("items", [{"id": 9}], partial_update=True)
    items.upsert("items", [row(6, size=66)], partial_update=True)
    expected[6]["size"] = 66
    everywhere(items, server, expected)


def test_a_new_row_of_a_partial_update_needs_every_required_field(items):
    new = {"id": 50, "vector": [5.0, 5.0], "size": 5}
    items.upsert("items", [new], partial_update=True)
    assert rows(items, "id == 50")[50] == new | {"note": None, "grade": 7, "info": None, "tags": None}
    items.upsert("items", [{"id": 51, "vector": [1.0, 1.0], "size": 1}, {"id": 50, "vector": [6.0, 6.0], "size": 2}], partial_update=True)
    assert rows(items, "id in [50, 51]")[50] == new | {"vector": [6.0, 6.0], "size": 2, "note": None, "grade": 7, "info": None, "tags": None}
    refused("fieldSchema(vector) has no corresponding fieldData pass in", items.upsert, "items", [{"id": 52, "size": 1}], partial_update=True)
    refused("fieldSchema(size) has no corresponding fieldData pass in", items.upsert, "items", [{"id": 1, "vector": [0.0, 0.0]}, {"id": 52, "vector": [0.0, 0.0]}], partial_update=True)
    assert 52 not in rows(items) and rows(items, "id == 1")[1] == row(1)


def test_partial_updates_see_those_before_them(items):
    for step in range(20):
        items.upsert("items", [{"id": 1, "size": step}], partial_update=True)
        items.upsert("items", [{"id": 1, f"key{step}": step}], partial_update=True)
    assert rows(items, "id == 1")[1] == row(1, size=19, **{f"key{step}": step for step in range(20)})
    items.delete("items", ids=[1])
    refused("has no corresponding fieldData pass in", items.upsert, "items", [{"id": 1, "size": 0}], partial_update=True)


def test_upserts_that_milvus_refuses(items):
    refused("duplicate primary keys are not allowed in the same batch", items.upsert, "items", [row(1), row(1)])
    refused("duplicate primary keys are not allowed in the same batch", items.upsert, "items", [{"id": 1, "size": 1}, {"id": 1, "size": 2}], partial_update=True)
    refused("partition not found[partition=nowhere]", items.upsert, "items", [row(1)], partition_name="nowhere")
    refused("exceeds max length", items.upsert, "items", [{"id": 1, "note": "x" * 17}], partial_update=True)
    items.release_collection("items")
    refused("collection not loaded", items.upsert, "items", [{"id": 1, "size": 5}], partial_update=True)
    items.load_collection("items")
    assert rows(items) == {key: row(key) for key in range(10)}


@pytest.mark.once
def test_elements_are_added_to_arrays_and_taken_out_of_them(items, server):
    expected = {key: row(key) for key in range(10)}
    # Rows in a file and in memory; a null array is like an empty one; given elements may be there already.
    items.upsert("items", [{"id": 3, "tags": None}], partial_update=True)
    items.upsert("items", [{"id": 1, "tags": [7, 1]}, {"id": 3, "tags": [5]}, {"id": 8, "tags": []}], field_ops={"tags": "array_append"})
    expected[1]["tags"], expected[3]["tags"] = [1, 2, 7, 1], [5]
    items.upsert("items", [{"id": 1, "tags": [1, 99]}, {"id": 4, "tags": [4, 5]}, {"id": 9, "tags": [99]}], field_ops={"tags": "array_remove"})
    expected[1]["tags"], expected[4]["tags"] = [2, 7], []
    # A null that is given changes nothing.
    items.upsert("items", [{"id": 1, "tags": None}, {"id": 2, "tags": [0]}], field_ops={"tags": "array_append"})
    expected[2]["tags"] = [2, 3, 0]
    # Other fields are replaced beside it, and without partial_update, too.
    items.upsert("items", [{"id": 5, "tags": [1], "size": -5, "color": "blue"}], field_ops={"tags": "array_append"}, partial_update=False)
    expected[5] |= {"tags": [5, 6, 1], "size": -5, "color": "blue"}
    # Rows that are new begin without elements.
    items.upsert("items", [row(20, tags=[1, 2])], field_ops={"tags": "array_append"})
    items.upsert("items", [row(21, tags=[1, 2])], field_ops={"tags": "array_remove"})
    expected[20], expected[21] = row(20, tags=[1, 2]), row(21, tags=[])
    everywhere(items, server, expected)


@pytest.mark.once
def test_array_operators_fill_the_capacity_and_not_more(items):
    items.upsert("items", [{"id": 1, "tags": list(range(6))}], field_ops={"tags": "array_append"})
    assert rows(items, "id == 1")[1]["tags"] == [1, 2, *range(6)]
    error = refused("array length 9 exceeds max_capacity 8", items.upsert, "items", [{"id": 2, "tags": [1]}, {"id": 1, "tags": [6]}], field_ops={"tags": "array_append"})
    assert error.code == 65535
    refused("exceeds max capacity (8)", items.upsert, "items", [{"id": 2, "tags": [0] * 9}], field_ops={"tags": "array_remove"})
    assert rows(items, "id in [1, 2]") == {1: row(1, tags=[1, 2, *range(6)]), 2: row(2)}
    items.upsert("items", [{"id": 1, "tags": [0, 3]}], field_ops={"tags": "array_remove"})
    assert rows(items, "id == 1")[1]["tags"] == [1, 2, 1, 2, 4, 5]


@pytest.mark.once
def test_array_operators_that_milvus_refuses(items):
    for text, given, operators in [
        ('op ARRAY_APPEND requires Array field, but field "size" is Int64', {"size": 5}, {"size": "array_append"}),
        ('op ARRAY_REMOVE requires Array field, but field "vector" is FloatVector', {"vector": [0.0, 0.0]}, {"vector": "array_remove"}),
        ('op ARRAY_APPEND requires Array field, but field "note" is VarChar', {"tags": [1], "note": "x"}, {"tags": "array_append", "note": "array_append"}),
        ('field "id" is the primary key and cannot carry a partial-update op', {}, {"id": "array_append"}),
        ('field "nothing" not found in collection schema', {"nothing": [1]}, {"nothing": "array_append"}),
        ('partial-update op targets field "tags" not present in fields_data', {}, {"tags": "array_append"}),
    ]:
        error = refused(text, items.upsert, "items", [{"id": 1} | given], field_ops=operators)
        assert error.code == 1100, text
    assert rows(items, "id == 1")[1] == row(1)
    # What stands for replacing is no operator: the row is whole, or it is refused.
    items.upsert("items", [row(1, tags=[9])], field_ops={"tags": "replace"})
    assert rows(items, "id == 1")[1] == row(1, tags=[9])


ELEMENTS = [
    (DataType.BOOL, [True, False, True], [True], [False]),
    (DataType.INT8, [1, -2, 1], [1], [-2]),
    (DataType.INT16, [300, -2], [-2], [300]),
    (DataType.INT32, [70000, 3], [3], [70000]),
    (DataType.FLOAT, [0.5, -0.0, 1.5], [0.0, 1.5], [0.5]),
    (DataType.DOUBLE, [0.1, 0.2], [0.2], [0.1]),
    (DataType.VARCHAR, ["a", "", "ä", "a"], ["a", ""], ["ä"]),
]


@pytest.mark.once
@pytest.mark.parametrize("element_type, stored, given, left", ELEMENTS)
def test_array_operators_on_elements_of_every_type(client, element_type, stored, given, left):
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("list", DataType.ARRAY, element_type=element_type, max_capacity=8, max_length=4)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", metric_type="L2")
    client.create_collection("lists", schema=schema, index_params=indexes)
    client.insert("lists", [{"id": key, "vector": [0.0, 0.0], "list": stored} for key in [1, 2]])
    client.upsert("lists", [{"id": 1, "list": given}], field_ops={"list": "array_append"})
    client.upsert("lists", [{"id": 2, "list": given}], field_ops={"list": "array_remove"})
    found = {entity["id"]: entity["list"] for entity in client.query("lists", filter="id > 0", output_fields=["list"])}
    assert found == {1: stored + given, 2: left}
    if element_type == DataType.VARCHAR:
        refused("exceeds max length", client.upsert, "lists", [{"id": 1, "list": ["abcde"]}], field_ops={"list": "array_append"})


def test_a_partition_is_upserted_by_itself(items):
    items.create_partition("items", "other")
    items.upsert("items", [row(1, size=-1)], partition_name="other")
    both = items.query("items", filter="id == 1", output_fields=["size"])
    assert sorted(entity["size"] for entity in both) == [-1, 10]
    items.upsert("items", [{"id": 1, "size": -2}], partition_name="other", partial_update=True)
    assert list(items.query("items", filter="id == 1", output_fields=["size", "color"], partition_names=["other"])) == [{"id": 1, "size": -2, "color": "c1"}]
    refused("has no corresponding fieldData pass in", items.upsert, "items", [{"id": 2, "size": -2}], partition_name="other", partial_update=True)


def test_automatic_ids_are_made_anew(client):
    create(client, "automatic", auto_id=True)
    first = list(client.insert("automatic", [{name: value for name, value in row(key).items() if name != "id"} for key in range(3)])["ids"])
    answer = client.upsert("automatic", [row(first[1], size=-1)])
    again = list(answer["ids"])
    assert len(again) == 1 and again[0] not in first
    assert {entity: whole["size"] for entity, whole in rows(client, name="automatic").items()} == {first[0]: 0, again[0]: -1, first[2]: 20}
    partial = list(client.upsert("automatic", [{"id": first[0], "size": -5}], partial_update=True)["ids"])
    stored = rows(client, name="automatic")
    assert set(stored) == {partial[0], again[0], first[2]} and stored[partial[0]]["size"] == -5 and stored[partial[0]]["color"] == "c0"
    refused("Insert missed an field `id`", client.upsert, "automatic", [{name: value for name, value in row(1).items() if name != "id"}])
    refused("duplicate primary keys", client.upsert, "automatic", [row(first[2]), row(first[2])])


def test_words_as_keys(client, server):
    create(client, key=DataType.VARCHAR)
    client.insert("items", [row(1) | {"id": "a'b"}, row(2) | {"id": "c"}])
    client.upsert("items", [{"id": "a'b", "size": 5}], partial_update=True)
    client.upsert("items", [{"id": "c", "note": "x"}], partial_update=True)
    assert rows(client) == {"a'b": row(1, id="a'b", size=5), "c": row(2, id="c", note="x")}
    assert client.delete("items", filter='id in ["a\'b"]')["delete_count"] == 1
    everywhere(client, server, {"c": row(2, id="c", note="x")})


def test_deletes(items, server):
    assert items.delete("items", ids=[1, 2, 1000])["delete_count"] == 3
    assert items.delete("items", filter="size >= 80")["delete_count"] == 2
    assert items.delete("items", filter="size >= 80")["delete_count"] == 0
    assert items.delete("items", filter='color == "c5" and tags[0] == 5')["delete_count"] == 1
    everywhere(items, server, {key: row(key) for key in [0, 3, 4, 6, 7]})


def test_deletes_in_partitions(items):
    items.create_partition("items", "other")
    items.insert("items", [row(1), row(30)], partition_name="other")
    assert items.delete("items", ids=[1], partition_name="other")["delete_count"] == 1
    assert len(items.query("items", filter="id == 1", output_fields=["id"])) == 1
    assert items.delete("items", filter="size > 20", partition_name="other")["delete_count"] == 1
    assert set(rows(items)) == set(range(10))
    refused("partition not found[partition=nowhere]", items.delete, "items", ids=[1], partition_name="nowhere")


def test_deletes_that_milvus_refuses(items):
    refused("delete plan can't be empty or always true", items.delete, "items", filter="true")
    refused("Ambiguous filter parameter", items.delete, "items", ids=[1], filter="size > 1")
    refused("cannot parse expression", items.delete, "items", filter="size >")
    with pytest.raises(MilvusException):
        items.delete("items")
    assert items.delete("items", filter="size in {sizes}", filter_params={"sizes": [10, 20]})["delete_count"] == 2
    assert set(rows(items)) == {0, *range(3, 10)}


def test_a_row_that_is_inserted_twice_is_deleted_and_replaced_whole(items):
    items.insert("items", [row(1, size=11), row(1, size=12)])
    assert items.query("items", filter="id == 1", output_fields=["count(*)"])[0]["count(*)"] == 3
    items.upsert("items", [{"id": 1, "grade": 1}], partial_update=True)
    assert rows(items, "id == 1")[1] == row(1, size=12, grade=1)
    assert items.query("items", filter="id == 1", output_fields=["count(*)"])[0]["count(*)"] == 1
    items.insert("items", [row(1, size=13)])
    items.delete("items", ids=[1])
    assert 1 not in rows(items)
