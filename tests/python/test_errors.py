"""Bad input gets Milvus' texts, and the server goes on."""

import os
import socket

import pytest
from pymilvus import DataType, MilvusClient

from conftest import refused

DIM = 4


@pytest.fixture
def small(client):
    client.create_collection("small", dimension=DIM, metric_type="L2")
    client.insert("small", [{"id": i, "vector": [float(i)] * DIM} for i in range(10)])
    return client


def test_unknown_names(small):
    assert refused("collection not found[database=default][collection=nobody]", small.search, "nobody", data=[[0.0] * DIM], limit=1).code == 100
    assert not small.has_collection("nobody")
    refused("partition name nowhere not found", small.search, "small", data=[[0.0] * DIM], limit=1, partition_names=["nowhere"])
    assert refused("partition not found[partition=nowhere]", small.insert, "small", [{"id": 1, "vector": [0.0] * DIM}], partition_name="nowhere").code == 200
    refused("alias not found[database=default][alias=none]", small.describe_alias, "none")


def test_wrong_vectors(small):
    refused("dim", small.insert, "small", [{"id": 1, "vector": [0.0] * (DIM + 1)}])
    refused("is not a number or infinity", small.insert, "small", [{"id": 1, "vector": [float("nan")] * DIM}])
    refused("is not a number or infinity", small.insert, "small", [{"id": 1, "vector": [float("inf")] * DIM}])
    refused("vector dimension mismatch", small.search, "small", data=[[0.0] * (DIM + 1)], limit=1)
    assert small.query("small", output_fields=["count(*)"])[0]["count(*)"] == 10


def test_counts_out_of_range(small):
    refused("it should be in range [1, 16384], but got 16385", small.search, "small", data=[[0.0] * DIM], limit=16385)
    refused("should be in range [1, 16384]", small.search, "small", data=[[0.0] * DIM] * 16385, limit=1)
    refused("empty expression should be used with limit", small.query, "small", filter="")
    refused("count entities with pagination is not allowed", small.query, "small", filter="", output_fields=["count(*)"], limit=3)


def test_metric_must_be_the_indexs(small):
    refused("metric type not match: invalid parameter[expected=L2][actual=IP]", small.search, "small", data=[[0.0] * DIM], limit=1, search_params={"metric_type": "IP"})


def test_bad_filters_say_where(small):
    error = refused("failed to create query plan: cannot parse expression", small.query, "small", filter="id ===== 3")
    assert error.code == 1100
    refused("cannot parse expression", small.delete, "small", filter="id inn [1]")
    refused("comparisons between", small.query, "small", filter='id == "three"')


def test_bad_schemas(client):
    def create(build, name="bad"):
        schema = MilvusClient.create_schema()
        build(schema)
        client.create_collection(name, schema=schema)

    def fields(dim=4, key=DataType.INT64):
        def build(schema):
            schema.add_field("id", key, is_primary=True)
            schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)

        return build

    refused("invalid dimension", create, fields(dim=1))
    refused("invalid dimension", create, fields(dim=32769))
    refused("schema does not contain vector field", create, lambda schema: schema.add_field("id", DataType.INT64, is_primary=True))
    refused("max_length", create, fields(key=DataType.VARCHAR))
    refused("the first character of a collection name must be an underscore or letter", create, fields(), "1bad")
    refused("the length of a collection name must be less than 255 characters", create, fields(), "x" * 300)
    assert client.list_collections() == []


def test_an_index_type_that_is_not_built_yet_is_refused_by_name(client):
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=4)
    client.create_collection("indexed", schema=schema)
    refused("there is no vector index on field: [vector], please create index first", client.load_collection, "indexed")
    for name in ["HNSW_PQ", "IVF_PQ", "NOT_AN_INDEX"]:
        indexes = client.prepare_index_params()
        indexes.add_index("vector", index_type=name, metric_type="L2", params={"M": 8, "efConstruction": 64, "nlist": 16})
        refused(name, client.create_index, "indexed", indexes)
    assert client.list_indexes("indexed") == []


def test_creating_again(client):
    client.create_collection("again", dimension=4)
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=5)
    refused("create duplicate collection with different parameters, collection: again", client.create_collection, "again", schema=schema)
    client.drop_collection("never_there")


def test_what_is_not_supported_yet_is_named(small):
    from pymilvus import AnnSearchRequest, RRFRanker

    request = AnnSearchRequest([[0.0] * DIM], "vector", {}, limit=3)
    refused("not supported", small.hybrid_search, "small", [request, request], RRFRanker(), limit=3)


def test_garbage_on_the_port_disturbs_nobody(small, server):
    host, port = server.uri.removeprefix("http://").split(":")
    for noise in [b"", b"GET / HTTP/1.0\r\n\r\n", os.urandom(4096), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(4096)]:
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.settimeout(10)
            try:
                connection.sendall(noise)
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(65536):
                    pass
            except OSError:
                pass
    assert len(small.search("small", data=[[0.0] * DIM], limit=3)[0]) == 3
    assert len(server.pids("gateway")) == 1
