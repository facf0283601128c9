"""The `orm` API: connections, db, Collection, Partition, Index, utility, Role."""

import inspect
import warnings

import pytest
from conftest import wait_until
from pymilvus import Collection, CollectionSchema, DataType, FieldSchema, MilvusException, Partition, Role, connections, db, utility

DIM = 4

# What cannot work here -> what the error names.
REFUSED_UTILITY = {
    "create_user": (("someone", "password1"), "CreateCredential"),
    "delete_user": (("someone",), "DeleteCredential"),
    "reset_password": (("someone", "password1", "password2"), "UpdateCredential"),
    "update_password": (("someone", "password1", "password2"), "UpdateCredential"),
    "list_usernames": ((), "ListCredUsers"),
    "list_users": ((True,), "SelectUser"),
    "list_user": (("someone", True), "SelectUser"),
    "list_roles": ((True,), "SelectRole"),
    "do_bulk_insert": (("words", ["rows.json"]), "Import"),
    "get_bulk_insert_state": ((1,), "GetImportState"),
    "list_bulk_insert_tasks": ((10, "words"), "ListImportTasks"),
    "load_balance": (("words", 1, [2], [3]), "LoadBalance"),
}
# Computed by the client, or imported names that are no functions of the server.
LOCAL_UTILITY = {"hybridts_to_datetime", "hybridts_to_unixtime", "mkts_from_datetime", "mkts_from_hybridts", "mkts_from_unixtime", "deprecated"}
REFUSED_COLLECTION = {"construct_from_dataframe", "hybrid_search", "query_iterator", "search_iterator"}


@pytest.fixture
def orm(shared, shared_server):
    warnings.simplefilter("ignore")
    connections.connect(alias="default", uri=shared_server.uri)
    yield
    connections.disconnect("default")


def make(name="words"):
    fields = [
        FieldSchema("id", DataType.INT64, is_primary=True),
        FieldSchema("word", DataType.VARCHAR, max_length=32),
        FieldSchema("vector", DataType.FLOAT_VECTOR, dim=DIM),
    ]
    return Collection(name, CollectionSchema(fields, "some words"))


def columns(count, start=0):
    numbers = range(start, start + count)
    return [list(numbers), [f"w{i}" for i in numbers], [[float(i)] * DIM for i in numbers]]


class Used:
    """Knows which attributes of an object were looked at."""

    def __init__(self, inner):
        self.inner, self.names = inner, set()

    def __getattr__(self, name):
        self.names.add(name)
        return getattr(self.inner, name)


def functions(module):
    return {name for name, value in vars(module).items() if inspect.isfunction(value) and not name.startswith("_")}


def refused(text, call, *arguments):
    with pytest.raises(MilvusException) as caught:
        call(*arguments)
    assert text in str(caught.value) and "not supported yet by ShoalDB" in str(caught.value), str(caught.value)


def test_collection(orm):
    words = Used(make())
    assert (words.name, words.description, words.num_shards) == ("words", "some words", 1)
    assert words.is_empty and words.num_entities == 0 and words.primary_field.name == "id" and len(words.schema.fields) == 3
    assert words.insert(columns(10)).insert_count == 10
    assert words.upsert(columns(2, start=9)).upsert_count == 2
    words.flush()
    assert words.num_entities == 11
    assert not words.has_index()
    words.create_index("vector", {"index_type": "FLAT", "metric_type": "L2", "params": {}}, index_name="v")
    assert words.has_index(index_name="v") and words.indexes[0].index_name == "v" and words.index(index_name="v").field_name == "vector"
    words.alter_index("v", {"mmap.enabled": True})
    words.load()
    hits = words.search([[3.0] * DIM], "vector", {"metric_type": "L2"}, limit=2, output_fields=["word"])
    assert hits[0].ids[0] == 3 and hits[0][0].entity.get("word") == "w3"
    assert [row["id"] for row in words.query("id in [1, 2]")] == [1, 2]
    assert words.delete("id in [1]").delete_count == 1
    words.set_properties({"note": "x"})
    assert words.describe()["properties"]["note"] == "x"
    words.create_partition("p")
    assert words.has_partition("p") and words.partition("p").name == "p" and len(words.partitions) == 2
    words.compact()
    words.wait_for_compaction_completed()
    assert words.get_compaction_state().state_name == "Completed"
    words.get_compaction_plans()
    assert len(words.get_replicas().groups) == 1
    utility.create_alias("words", "w")
    assert list(words.aliases) == ["w"]
    utility.drop_alias("w")
    words.release()
    words.drop_partition("p")
    if hasattr(words.inner, "truncate"):
        words.truncate()
    words.drop_index(index_name="v")
    words.drop()
    left = {name for name in dir(Collection) if not name.startswith("_")} - words.names - REFUSED_COLLECTION
    assert not left, left


def test_partition(orm):
    words = make()
    words.create_index("vector", {"index_type": "FLAT", "metric_type": "L2", "params": {}})
    part = Used(Partition(words, "part"))
    assert part.name == "part" and part.description == "" and part.is_empty
    part.load()
    part.insert(columns(5))
    part.upsert(columns(1, start=4))
    part.flush()
    assert part.num_entities == 5
    assert part.search([[3.0] * DIM], "vector", {"metric_type": "L2"}, limit=1)[0].ids == [3]
    assert len(part.query("id >= 0")) == 5
    part.delete("id == 0")
    assert len(part.get_replicas().groups) == 1
    part.release()
    part.drop()
    left = {name for name in dir(Partition) if not name.startswith("_")} - part.names - REFUSED_COLLECTION
    assert not left, left


def test_utility(orm):
    words = make()
    used = Used(utility)
    words.create_index("vector", {"index_type": "FLAT", "metric_type": "L2", "params": {}})
    words.load()
    words.insert(columns(5))
    words.flush()
    assert used.has_collection("words") and used.has_partition("words", "_default") and used.list_collections() == ["words"]
    used.wait_for_loading_complete("words")
    assert used.loading_progress("words")["loading_progress"] == "100%" and "Loaded" in str(used.load_state("words"))
    used.wait_for_index_building_complete("words")
    progress = used.index_building_progress("words")
    assert progress["total_rows"] == progress["indexed_rows"] == 5
    assert used.list_indexes("words") == ["vector"]
    assert sum(info.num_rows for info in used.get_query_segment_info("words")) == 5
    used.create_alias("words", "w")
    used.alter_alias("words", "w")
    assert list(used.list_aliases("words")) == ["w"]
    used.drop_alias("w")
    used.rename_collection("words", "terms")
    used.rename_collection("terms", "words")
    used.flush_all()
    assert used.get_server_version().startswith("v2.6") and used.get_server_type() == "milvus"
    group = "__default_resource_group"
    assert used.list_resource_groups() == [group] and used.describe_resource_group(group).name == group
    used.create_resource_group(group)
    used.drop_resource_group("none")
    for call, arguments in [("transfer_node", (group, "other", 1)), ("transfer_replica", (group, "other", "words", 1))]:
        with pytest.raises(MilvusException, match="resource group not found"):
            getattr(used, call)(*arguments)
    refused("resource group", used.update_resource_groups, {group: utility.ResourceGroupConfig(requests={"node_num": 1}, limits={"node_num": 1})})
    for name, (arguments, text) in REFUSED_UTILITY.items():
        refused(text, getattr(used, name), *arguments)
    if hasattr(utility, "truncate_collection"):
        used.truncate_collection("words")
    used.drop_collection("words")
    left = functions(utility) - used.names - LOCAL_UTILITY
    assert not left, left


def test_db_and_roles(orm, shared_server):
    db.create_database("shop", properties={"owner": "me"})
    assert "shop" in db.list_database() and db.describe_database("shop")["owner"] == "me"
    db.set_properties("shop", {"owner": "you"})
    db.using_database("shop")
    make().drop()
    db.using_database("default")
    db.drop_database("shop")
    role = Role("reader")
    refused("CreateRole", role.create)
    refused("DropRole", role.drop)
    refused("SelectRole", role.is_exist)
    refused("OperateUserRole", role.add_user, "someone")


def test_connections(shared_server):
    connections.connect(alias="one", uri=shared_server.uri)
    assert connections.has_connection("one") and "one" in [name for name, _ in connections.list_connections()]
    assert connections.get_connection_addr("one")
    host, port = shared_server.uri.removeprefix("http://").split(":")
    connections.connect(alias="two", host=host, port=port)
    assert utility.list_collections(using="two") == []
    with pytest.raises(MilvusException, match="database not found"):
        connections.connect(alias="three", host=host, port=port, db_name="nowhere")
        utility.list_collections(using="three")
    for name in ["one", "two", "three"]:
        connections.remove_connection(name)
