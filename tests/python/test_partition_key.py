"""Partition keys: rows go to partitions by a hash of a field, filters on it look at those partitions only, users do not name them."""

import pytest
from pymilvus import DataType, MilvusClient

from conftest import refused

DIM = 2


def build(key=DataType.VARCHAR, **field):
    schema = MilvusClient.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    options = {"max_length": 32} if key == DataType.VARCHAR else {}
    schema.add_field("tenant", key, is_partition_key=True, **options, **field)
    return schema


def create(client, name="docs", schema=None, index=True, **options):
    indexes = None
    if index:
        indexes = client.prepare_index_params()
        indexes.add_index("vector", metric_type="L2")
    client.create_collection(name, schema=schema or build(), index_params=indexes, **options)


def row(key, tenant=None):
    return {"id": key, "vector": [float(key), 0.0], "tenant": tenant or f"t{key % 7}", "note": f"n{key}"}


def rows(client, filter="id >= 0", name="docs"):
    return {entity["id"]: dict(entity) for entity in client.query(name, filter=filter, output_fields=["*"])}


@pytest.fixture
def docs(client):
    create(client)
    client.insert("docs", [row(key) for key in range(50)])
    client.flush("docs")
    client.insert("docs", [row(key) for key in range(50, 100)])
    return client


def check(client):
    expected = {key: row(key) for key in range(100)}
    assert rows(client) == expected
    for filter, wanted in [
        ('tenant == "t3"', lambda key: key % 7 == 3),
        ('tenant in ["t3", "t5"]', lambda key: key % 7 in (3, 5)),
        ('tenant == "t3" and id < 40', lambda key: key % 7 == 3 and key < 40),
        ('tenant == "t3" or id < 5', lambda key: key % 7 == 3 or key < 5),
        ('not (tenant == "t3")', lambda key: key % 7 != 3),
        ('tenant > "t3"', lambda key: key % 7 > 3),
        ('tenant == "nobody"', lambda key: False),
        ('tenant == "t3" and tenant == "t4"', lambda key: False),
        ("tenant in []", lambda key: False),
    ]:
        keys = [key for key in range(100) if wanted(key)]
        assert sorted(rows(client, filter)) == keys, filter
        found = client.search("docs", data=[[0.0, 0.0]], limit=100, filter=filter)[0]
        assert [hit["id"] for hit in found] == keys, filter
        assert client.query("docs", filter=filter, output_fields=["count(*)"])[0]["count(*)"] == len(keys)


def test_rows_are_found_with_and_without_their_key_also_after_restart_and_kill(docs, server):
    check(docs)
    docs.flush("docs")
    docs.compact("docs")
    check(docs)
    server.stop().start()
    client = MilvusClient(server.uri)
    check(client)
    client.insert("docs", [row(key) for key in range(100, 110)])
    client.delete("docs", filter="id >= 100")
    server.kill().start()
    client.close()
    client = MilvusClient(server.uri)
    check(client)
    client.close()


def test_partitions_are_made_and_rows_are_spread(docs):
    assert docs.list_partitions("docs") == [f"_default_{place}" for place in range(16)]
    assert docs.describe_collection("docs")["num_partitions"] == 16
    docs.flush("docs")
    counts = [int(docs.get_partition_stats("docs", name)["row_count"]) for name in docs.list_partitions("docs")]
    assert sum(counts) == 100 and 1 < sum(count > 0 for count in counts) <= 7


@pytest.mark.parametrize("count", [1, 3, 64, 1024])
def test_the_number_of_partitions_is_the_users(client, count):
    create(client, num_partitions=count)
    assert len(client.list_partitions("docs")) == count
    client.insert("docs", [row(key) for key in range(40)])
    assert sorted(rows(client, 'tenant == "t2"')) == list(range(2, 40, 7))
    assert len(rows(client)) == 40


def test_integers_are_keys_too(client, server):
    create(client, schema=build(DataType.INT64))
    client.insert("docs", [row(key) | {"tenant": key % 5 - 2} for key in range(40)])
    server.kill().start()
    other = MilvusClient(server.uri)
    assert sorted(rows(other, "tenant == -2")) == list(range(0, 40, 5))
    assert sorted(rows(other, "tenant in [1, 2] and id < 10")) == [3, 4, 8, 9]
    other.close()


def test_an_upsert_may_move_a_row_to_another_key(docs, server):
    docs.upsert("docs", [row(3, "elsewhere"), row(60, "elsewhere"), row(200, "new")])
    docs.upsert("docs", [{"id": 4, "tenant": "elsewhere"}], partial_update=True)
    server.kill().start()
    client = MilvusClient(server.uri)
    assert sorted(rows(client, 'tenant == "elsewhere"')) == [3, 4, 60]
    assert sorted(rows(client, 'tenant == "t3"')) == [key for key in range(100) if key % 7 == 3 and key != 3]
    assert client.query("docs", filter="id in [3, 4, 60]", output_fields=["count(*)"])[0]["count(*)"] == 3
    assert rows(client, "id == 4")[4] == row(4, "elsewhere")
    client.close()


def test_deletes_by_key_and_by_id(docs, server):
    assert docs.delete("docs", filter='tenant == "t1"')["delete_count"] == 15
    assert docs.delete("docs", ids=[0, 2])["delete_count"] == 2
    left = [key for key in range(100) if key % 7 != 1 and key not in (0, 2)]
    assert sorted(rows(docs)) == left
    server.kill().start()
    client = MilvusClient(server.uri)
    assert sorted(rows(client)) == left
    client.close()


def test_users_do_not_name_partitions(docs):
    manual = "not support manually specifying the partition names if partition key mode is used"
    refused(manual, docs.insert, "docs", [row(1)], partition_name="_default_1")
    refused(manual, docs.upsert, "docs", [row(1)], partition_name="_default_1")
    refused(manual, docs.delete, "docs", ids=[1], partition_name="_default_1")
    refused(manual, docs.search, "docs", data=[[0.0, 0.0]], limit=1, partition_names=["_default_1"])
    refused(manual, docs.query, "docs", filter="id > 0", partition_names=["_default_1"])
    refused("disable create partition if partition key mode is used", docs.create_partition, "docs", "mine")
    refused("disable drop partition if partition key mode is used", docs.drop_partition, "docs", "_default_1")
    refused("disable load partitions if partition key mode is used", docs.load_partitions, "docs", ["_default_1"])
    refused("disable release partitions if partition key mode is used", docs.release_partitions, "docs", ["_default_1"])
    assert len(rows(docs)) == 100


def test_schemas_that_milvus_refuses(client):
    refused("partition key field not support nullable", create, client, schema=build(nullable=True))
    refused("num_partitions should only be specified with partition key field enabled", create, client, schema=_plain(), num_partitions=4)
    refused("partition number (1025) exceeds max configuration (1024)", create, client, num_partitions=1025)
    assert client.list_collections() == []
    create(client, num_partitions=4)
    create(client, num_partitions=4)
    refused("create duplicate collection with different parameters, collection: docs", create, client, num_partitions=5)


def _plain():
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    return schema


def raw_create(client, fields, **options):
    """A collection made past the client's own checks of its schema."""
    from pymilvus.grpc_gen import milvus_pb2, schema_pb2

    wire = schema_pb2.CollectionSchema(name="raw")
    for options_of_field in fields:
        params = options_of_field.pop("params", {})
        field = wire.fields.add(**options_of_field)
        for key, value in params.items():
            field.type_params.add(key=key, value=value)
    request = milvus_pb2.CreateCollectionRequest(collection_name="raw", schema=wire.SerializeToString(), **options)
    return client._get_connection()._stub.CreateCollection(request).reason


def test_what_clients_check_is_checked_here_too(client):
    key = {"name": "id", "data_type": 5, "is_primary_key": True}
    vector = {"name": "vector", "data_type": 101, "params": {"dim": "2"}}

    def reason(*fields, **options):
        return raw_create(client, [dict(field) for field in (key, vector, *fields)], **options)

    assert "there are more than one partition key, field name = a, b" in reason({"name": "a", "data_type": 5, "is_partition_key": True}, {"name": "b", "data_type": 5, "is_partition_key": True})
    assert "the data type of partition key should be Int64 or VarChar" in reason({"name": "a", "data_type": 11, "is_partition_key": True})
    assert "the partition key field must not be primary field" in raw_create(client, [key | {"is_partition_key": True}, dict(vector)])
    assert "the specified partitions should be greater than 0 if partition key is used" in reason({"name": "a", "data_type": 5, "is_partition_key": True}, num_partitions=-1)


def test_tenants_kept_apart_need_a_filter_on_one_key(client, server):
    create(client, properties={"partitionkey.isolation": True})
    client.insert("docs", [row(key) for key in range(30)])

    def search(filter):
        return [hit["id"] for hit in client.search("docs", data=[[0.0, 0.0]], limit=3, filter=filter)[0]]

    assert search('tenant == "t3"') == [3, 10, 17]
    assert search('tenant == "t3" and id > 5') == [10, 17, 24]
    assert search('tenant in ["t3"]') == search('id > 2 and tenant in ["t3", "t3"]') == [3, 10, 17]
    refused("partition key not found in expr or the expr is invalid when validating partition key isolation", search, "")
    refused("partition key not found in expr", search, "id > 3")
    refused("partition key isolation does not support IN", search, 'tenant in ["t3", "t4"]')
    refused("partition key isolation does not support", search, 'tenant not in ["t3"]')
    refused("partition key isolation does not support OR", search, 'tenant == "t3" or id > 3')
    refused("partition key isolation does not support", search, 'not (tenant == "t3")')
    refused("partition key isolation does not support", search, 'tenant > "t3"')
    assert len(rows(client)) == 30
    server.stop().start()
    other = MilvusClient(server.uri)
    refused("partition key not found in expr", other.search, "docs", data=[[0.0, 0.0]], limit=1)
    error = refused("can not alter partition key isolation mode if the collection already has a vector index", other.alter_collection_properties, "docs", properties={"partitionkey.isolation": False})
    assert error.code == 702
    other.release_collection("docs")
    other.drop_index("docs", "vector")
    other.alter_collection_properties("docs", properties={"partitionkey.isolation": False})
    other.close()


def test_isolation_needs_a_partition_key(client):
    text = "partition key isolation mode is enabled but no partition key field is set"
    refused(text, create, client, schema=_plain(), properties={"partitionkey.isolation": True})
    create(client, schema=_plain(), index=False)
    refused(text, client.alter_collection_properties, "docs", properties={"partitionkey.isolation": True})
    create(client, "other", index=False)
    client.alter_collection_properties("other", properties={"partitionkey.isolation": True})


def test_a_key_with_a_default(client):
    create(client, schema=build(default_value="nobody"))
    client.insert("docs", [{"id": 1, "vector": [0.0, 0.0]}, row(2, "somebody")])
    assert sorted(rows(client, 'tenant == "nobody"')) == [1]
