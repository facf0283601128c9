"""Every public method of MilvusClient and AsyncMilvusClient: it works, or the error names what is not supported."""

import asyncio
import inspect
import pathlib

import grpc
import pymilvus
import pytest
from conftest import wait_until
from pymilvus import AnnSearchRequest, AsyncMilvusClient, DataType, Function, FunctionType, MilvusClient, MilvusException

DIM = 4


def vector(value):
    return [float(value)] * DIM


def rows_of(count, start=0):
    return [{"id": start + i, "vector": vector(start + i), "name": f"n{start + i}"} for i in range(count)]


def bm25():
    return Function(name="bm25", function_type=FunctionType.BM25, input_field_names=["name"], output_field_names=["sparse"])


# Method -> what is sent -> the RPC that the error names.
REFUSED = {
    "add_file_resource": ({"name": "a", "path": "b"}, "AddFileResource"),
    "remove_file_resource": ({"name": "a"}, "RemoveFileResource"),
    "list_file_resources": ({}, "ListFileResources"),
    "create_user": ({"user_name": "someone", "password": "password1"}, "CreateCredential"),
    "drop_user": ({"user_name": "someone"}, "DeleteCredential"),
    "update_password": ({"user_name": "someone", "old_password": "password1", "new_password": "password2"}, "UpdateCredential"),
    "update_user": ({"user_name": "someone", "description": "x"}, "UpdateCredential"),
    "describe_user": ({"user_name": "someone"}, "SelectUser"),
    "list_users": ({}, "ListCredUsers"),
    "create_role": ({"role_name": "reader"}, "CreateRole"),
    "alter_role": ({"role_name": "reader", "description": "x"}, "AlterRole"),
    "drop_role": ({"role_name": "reader"}, "DropRole"),
    "describe_role": ({"role_name": "reader"}, "Select"),
    "list_roles": ({}, "SelectRole"),
    "grant_role": ({"user_name": "someone", "role_name": "reader"}, "OperateUserRole"),
    "revoke_role": ({"user_name": "someone", "role_name": "reader"}, "OperateUserRole"),
    "grant_privilege": ({"role_name": "reader", "object_type": "Global", "privilege": "All", "object_name": "*"}, "OperatePrivilege"),
    "revoke_privilege": ({"role_name": "reader", "object_type": "Global", "privilege": "All", "object_name": "*"}, "OperatePrivilege"),
    "grant_privilege_v2": ({"role_name": "reader", "privilege": "Search", "collection_name": "*"}, "OperatePrivilegeV2"),
    "revoke_privilege_v2": ({"role_name": "reader", "privilege": "Search", "collection_name": "*"}, "OperatePrivilegeV2"),
    "create_privilege_group": ({"group_name": "g"}, "CreatePrivilegeGroup"),
    "drop_privilege_group": ({"group_name": "g"}, "DropPrivilegeGroup"),
    "list_privilege_groups": ({}, "ListPrivilegeGroups"),
    "add_privileges_to_group": ({"group_name": "g", "privileges": ["Search"]}, "OperatePrivilegeGroup"),
    "remove_privileges_from_group": ({"group_name": "g", "privileges": ["Search"]}, "OperatePrivilegeGroup"),
    "create_snapshot": ({"snapshot_name": "s", "collection_name": "words"}, "CreateSnapshot"),
    "drop_snapshot": ({"snapshot_name": "s", "collection_name": "words"}, "DropSnapshot"),
    "list_snapshots": ({"collection_name": "words"}, "ListSnapshots"),
    "describe_snapshot": ({"snapshot_name": "s", "collection_name": "words"}, "DescribeSnapshot"),
    "restore_snapshot": ({"snapshot_name": "s", "source_collection_name": "words", "target_collection_name": "t"}, "RestoreSnapshot"),
    "get_restore_snapshot_state": ({"job_id": 1}, "GetRestoreSnapshotState"),
    "list_restore_snapshot_jobs": ({}, "ListRestoreSnapshotJobs"),
    "pin_snapshot_data": ({"snapshot_name": "s", "collection_name": "words"}, "PinSnapshotData"),
    "unpin_snapshot_data": ({"pin_id": 1}, "UnpinSnapshotData"),
    "refresh_external_collection": ({"collection_name": "words"}, "RefreshExternalCollection"),
    "get_refresh_external_collection_progress": ({"job_id": 1}, "GetRefreshExternalCollectionProgress"),
    "list_refresh_external_collection_jobs": ({}, "ListRefreshExternalCollectionJobs"),
    "get_replicate_configuration": ({}, "GetReplicateConfiguration"),
    "get_replicate_info": ({"source_cluster_id": "a", "target_pchannel": "b"}, "GetReplicateInfo"),
    "update_replicate_configuration": ({"clusters": [{"cluster_id": "a", "connection_param": {"uri": "http://x:1", "token": ""}, "pchannels": ["p"]}], "cross_cluster_topology": []}, "UpdateReplicateConfiguration"),
    "dump_messages": ({"pchannel": "p", "start_message_id": {"id": "1", "wal_name": "WoodPecker"}}, "DumpMessages"),
    "run_analyzer": ({"texts": ["a text"]}, "RunAnalyzer"),
    "add_collection_function": ({"collection_name": "words", "function": bm25()}, "AddCollectionFunction"),
    "alter_collection_function": ({"collection_name": "words", "function_name": "bm25", "function": bm25()}, "AlterCollectionFunction"),
    "drop_collection_function": ({"collection_name": "words", "function_name": "bm25"}, "unction"),
    "drop_collection_field": ({"collection_name": "words", "field_name": "name"}, "dropping a field"),
    "drop_function_field": ({"collection_name": "words", "function_name": "bm25"}, "unction"),
    "update_resource_groups": ({"configs": {"__default_resource_group": pymilvus.client.types.ResourceGroupConfig(requests={"node_num": 2}, limits={"node_num": 2})}}, "resource group"),
}
# They need what only newer clients have, or are refused in ways of their own below.
SPECIAL = {"add_collection_struct_field", "add_function_field"}
# Nothing is sent.
LOCAL = {"close", "create_schema", "create_field_schema", "create_struct_field_schema", "prepare_index_params", "session"}
# Other files of this folder have tests of their own for these.
ELSEWHERE = {"search_iterator", "query_iterator", "hybrid_search"}


def public(kind):
    return {name for name in dir(kind) if not name.startswith("_") and callable(getattr(kind, name))}


class Recorder:
    """A client whose coroutines are run to their end, and that knows which methods were called."""

    def __init__(self, client, run):
        self.client, self.run, self.called, self.broken = client, run, set(), set()

    def __getattr__(self, name):
        method = getattr(self.client, name)

        def call(*arguments, **keywords):
            self.called.add(name)
            value = method(*arguments, **keywords)
            if inspect.iscoroutine(value):
                try:
                    return self.run(value)
                except AttributeError as error:
                    # Some methods of the asynchronous client call what its own handler lacks.
                    assert "'AsyncGrpcHandler' object has no attribute" in str(error)
                    self.broken.add(name)
                    return None
            if inspect.isasyncgen(value):
                return self.run(collect(value))
            return list(value) if inspect.isgenerator(value) else value

        return call

    def has(self, name):
        return hasattr(self.client, name)


async def collect(generator):
    return [item async for item in generator]


@pytest.fixture(params=["MilvusClient", "AsyncMilvusClient"])
def recorder(request, shared_server):
    if request.param == "MilvusClient":
        client = MilvusClient(shared_server.uri)
        yield Recorder(client, None)
        client.close()
        drop_all(shared_server)
        return
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    async def connect():
        return AsyncMilvusClient(shared_server.uri)

    client = loop.run_until_complete(connect())
    yield Recorder(client, loop.run_until_complete)
    loop.run_until_complete(client.close())
    asyncio.set_event_loop(None)
    loop.close()
    drop_all(shared_server)


def drop_all(server):
    client = MilvusClient(server.uri)
    for name in client.list_collections():
        for alias in client.list_aliases(name)["aliases"]:
            client.drop_alias(alias)
        client.drop_collection(name)
    client.close()


def use_rows(client):
    assert client.insert("words", rows_of(10))["insert_count"] == 10
    assert client.upsert("words", rows_of(2, start=9))["upsert_count"] == 2
    found = client.search("words", data=[vector(3)], limit=2, output_fields=["name"])
    assert found[0][0]["entity"]["name"] == "n3"
    assert len(client.query("words", filter="id < 5")) == 5
    assert client.get("words", ids=[4])[0]["name"] == "n4"
    assert client.delete("words", ids=[4])["delete_count"] == 1
    client.flush("words")
    assert client.get_collection_stats("words")["row_count"] == 10


def use_definitions(client):
    assert client.has_collection("words") and client.list_collections() == ["words"]
    client.alter_collection_properties("words", properties={"a": "b"})
    client.drop_collection_properties("words", property_keys=["a"])
    client.add_collection_field("words", "added", DataType.INT64, nullable=True)
    client.release_collection("words")
    client.alter_collection_field("words", "vector", field_params={"mmap.enabled": True})
    assert client.describe_collection("words")["fields"][-1]["name"] == "added"
    client.alter_index_properties("words", "vector", properties={"mmap.enabled": True})
    client.drop_index_properties("words", "vector", property_keys=["mmap.enabled"])
    assert client.list_indexes("words") == ["vector"]
    assert client.describe_index("words", "vector")["field_name"] == "vector"
    client.drop_index("words", "vector")
    indexes = client.prepare_index_params()
    indexes.add_index("vector", metric_type="L2")
    client.create_index("words", indexes)
    client.load_collection("words")
    client.refresh_load("words")
    assert "Loaded" in str(client.get_load_state("words")["state"])
    client.rename_collection("words", "terms")
    client.rename_collection("terms", "words")


def use_partitions(client):
    client.create_partition("words", "p")
    assert client.has_partition("words", "p") and "p" in client.list_partitions("words")
    assert client.get_partition_stats("words", "p")["row_count"] == 0
    client.release_partitions("words", ["p"])
    client.load_partitions("words", ["p"])
    client.release_partitions("words", ["p"])
    client.drop_partition("words", "p")


def use_aliases_and_databases(client):
    client.create_alias("words", "w")
    client.alter_alias("words", "w")
    assert client.describe_alias("w")["collection_name"] == "words"
    aliases = client.list_aliases("words")
    assert list(aliases["aliases"] if isinstance(aliases, dict) else aliases) == ["w"]
    client.drop_alias("w")
    client.create_database("shop")
    assert "shop" in client.list_databases()
    client.alter_database_properties("shop", properties={"a": "b"})
    assert client.describe_database("shop")["a"] == "b"
    client.drop_database_properties("shop", property_keys=["a"])
    client.using_database("shop")
    assert client.list_collections() == []
    client.use_database("default")
    client.drop_database("shop")


def use_maintenance(client):
    job = client.compact("words")
    wait_until(lambda: client.get_compaction_state(job) == "Completed", "the compaction is over")
    client.get_compaction_plans(job)
    client.flush_all()
    if client.has("get_flush_all_state"):
        assert client.get_flush_all_state(flush_all_ts=0) in (True, None)
    for name in ["list_persistent_segments", "list_loaded_segments", "list_segments", "list_compaction_tasks"]:
        if client.has(name):
            getattr(client, name)("words")
    if client.has("optimize"):
        client.optimize("words", timeout=600)
    client.truncate_collection("words") if client.has("truncate_collection") else None
    assert client.get_server_version().startswith("v2.6") and client.get_server_type() == "milvus"
    assert client.list_resource_groups() == ["__default_resource_group"]
    assert client.describe_resource_group("__default_resource_group").num_available_node == 1
    client.create_resource_group("__default_resource_group")
    client.drop_resource_group("none")
    assert len(client.describe_replica("words")) == 1
    with pytest.raises(MilvusException, match="resource group not found"):
        client.transfer_replica("__default_resource_group", "other", "words", 1)


def test_every_method_works_or_is_refused_by_name(recorder):
    recorder.create_collection("words", dimension=DIM, metric_type="L2")
    use_rows(recorder)
    use_definitions(recorder)
    use_partitions(recorder)
    use_aliases_and_databases(recorder)
    use_maintenance(recorder)
    for name, (arguments, text) in REFUSED.items():
        if recorder.has(name):
            # Two answer messages have no place for a status: there the error is one of gRPC.
            try:
                getattr(recorder, name)(**arguments)
            except (MilvusException, grpc.RpcError) as error:
                assert text in str(error) and "not supported yet by ShoalDB" in str(error), (name, str(error))
            else:
                assert name in recorder.broken, f"{name} is not refused"
    recorder.drop_collection("words")
    assert not recorder.has_collection("words")
    left = public(type(recorder.client)) - recorder.called - LOCAL - ELSEWHERE - SPECIAL
    assert not left, f"neither works nor is refused here: {sorted(left)}"


@pytest.mark.skipif(not hasattr(MilvusClient, "add_collection_struct_field"), reason="this client cannot ask for it")
def test_struct_fields_and_functions_cannot_be_added(shared):
    shared.create_collection("words", dimension=DIM)
    struct = MilvusClient.create_struct_field_schema()
    struct.add_field("inner", DataType.INT64)
    with pytest.raises(MilvusException, match="AddCollectionStructField is not supported yet by ShoalDB|nullable"):
        shared.add_collection_struct_field("words", "s", struct, max_capacity=8)
    if hasattr(shared, "add_function_field"):
        indexes = shared.prepare_index_params()
        indexes.add_index("sparse", index_type="SPARSE_INVERTED_INDEX", metric_type="BM25")
        field = MilvusClient.create_field_schema("sparse", DataType.SPARSE_FLOAT_VECTOR)
        with pytest.raises(MilvusException, match="not supported yet by ShoalDB"):
            shared.add_function_field("words", field, bm25(), indexes)


def test_every_method_of_the_service_is_listed_in_the_documentation():
    from pymilvus.grpc_gen import milvus_pb2

    text = (pathlib.Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
    listed = {line.split("|")[1].strip() for line in text.split("## Methods")[1].split("\n## ")[0].splitlines() if line.startswith("| ")}
    service = {method.name for method in milvus_pb2.DESCRIPTOR.services_by_name["MilvusService"].methods}
    assert service <= listed, sorted(service - listed)


def test_async_calls_run_side_by_side(shared, shared_server):
    shared.create_collection("words", dimension=DIM, metric_type="L2")
    shared.insert("words", rows_of(200))

    async def many():
        client = AsyncMilvusClient(shared_server.uri)
        found = await asyncio.gather(*(client.search("words", data=[vector(i)], limit=1) for i in range(200)))
        written = await asyncio.gather(*(client.insert("words", rows_of(1, start=1000 + i)) for i in range(100)))
        await client.close()
        return [hits[0][0]["id"] for hits in found], sum(answer["insert_count"] for answer in written)

    nearest, written = asyncio.run(many())
    assert nearest == list(range(200)) and written == 100
    assert shared.query("words", output_fields=["count(*)"])[0]["count(*)"] == 300
