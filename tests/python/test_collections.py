"""Databases, partitions, aliases, names, properties, load states, compaction, segments, resource groups."""

import pytest
from conftest import refused, wait_until
from pymilvus import DataType, MilvusClient
from pymilvus.client.types import LoadState

DIM = 4


def vector(value):
    return [float(value)] * DIM


def rows_of(count, start=0):
    return [{"id": start + i, "vector": vector(start + i), "name": f"n{start + i}"} for i in range(count)]


def count_of(client, name, **keywords):
    return client.query(name, output_fields=["count(*)"], **keywords)[0]["count(*)"]


def schema_of(**extra):
    schema = MilvusClient.create_schema(enable_dynamic_field=True, **extra)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    return schema


@pytest.fixture
def words(shared):
    """A loaded collection with ten rows."""
    shared.create_collection("words", dimension=DIM, metric_type="L2")
    shared.insert("words", rows_of(10))
    return shared


# Databases


@pytest.fixture
def database(shared):
    shared.create_database("shop", properties={"database.max.collections": 2, "owner": "me"})
    yield shared
    shared.use_database("shop")
    for name in shared.list_collections():
        shared.drop_collection(name)
    shared.use_database("default")
    shared.drop_database("shop")


def test_a_database_has_properties_that_can_be_changed(database):
    assert set(database.list_databases()) == {"default", "shop"}
    described = database.describe_database("shop")
    assert described["name"] == "shop" and described["owner"] == "me" and described["database.max.collections"] == "2"
    database.alter_database_properties("shop", properties={"owner": "you", "more": "1"})
    database.drop_database_properties("shop", property_keys=["more"])
    described = database.describe_database("shop")
    assert described["owner"] == "you" and "more" not in described
    database.alter_database_properties("default", properties={"note": "x"})
    database.drop_database_properties("default", property_keys=["note"])
    assert "note" not in database.describe_database("default")


def test_collections_of_databases_are_apart(database, shared_server):
    inside = MilvusClient(shared_server.uri, db_name="shop")
    inside.create_collection("items", dimension=DIM)
    inside.insert("items", rows_of(3))
    assert inside.list_collections() == ["items"]
    assert database.list_collections() == []
    assert not database.has_collection("items")
    database.create_collection("items", dimension=DIM)
    assert count_of(inside, "items") == 3 and count_of(database, "items") == 0
    inside.close()


def test_a_database_limits_its_collections(database):
    database.use_database("shop")
    database.create_collection("a", dimension=DIM)
    database.create_collection("b", dimension=DIM)
    refused("exceeded the limit number of collections", database.create_collection, "c", dimension=DIM)
    database.create_collection("b", dimension=DIM)
    database.use_database("default")
    database.alter_database_properties("shop", properties={"database.max.collections": 3})
    database.use_database("shop")
    database.create_collection("c", dimension=DIM)
    database.use_database("default")
    refused("invalid database.max.collections", database.alter_database_properties, "shop", properties={"database.max.collections": "many"})
    refused("database.force.deny.writing", database.alter_database_properties, "shop", properties={"database.force.deny.writing": True})
    refused("shop not empty, must drop all collections before drop database", database.drop_database, "shop")


def test_wrong_databases(shared, shared_server):

    def list_nowhere():
        # Clients of one process share a connection, so it is the first call that fails.
        MilvusClient(shared_server.uri, db_name="nowhere").list_collections()

    assert refused("database not found[database=nowhere]", list_nowhere).code == 800
    refused("database not found[database=nowhere]", shared.describe_database, "nowhere")
    refused("database not found[database=nowhere]", shared.use_database, "nowhere")
    refused("database not found[database=nowhere]", shared.drop_database, "nowhere")
    refused("the first character of a database name must be an underscore or letter: invalid database name[database=1x]", shared.create_database, "1x")
    refused("database name can only contain numbers, letters and underscores", shared.create_database, "x-y")
    refused("the length of a database name must be less than 255 characters", shared.create_database, "x" * 256)
    refused("can not drop default database", shared.drop_database, "default")
    refused("database already exist: default", shared.create_database, "default")
    refused("alter database with empty properties and delete keys, expected to set either properties or delete keys", shared.alter_database_properties, "default", properties={})


@pytest.mark.once
def test_there_are_64_databases_at_most(shared):
    made = [f"db{i}" for i in range(63)]
    for name in made:
        shared.create_database(name)
    refused("exceeds max configuration (64)", shared.create_database, "one_too_many")
    for name in made:
        shared.drop_database(name)
    assert shared.list_databases() == ["default"]


# Partitions


def test_rows_live_in_partitions(words):
    words.create_partition("words", "2024-11")
    words.create_partition("words", "2024-11")
    assert words.list_partitions("words") == ["_default", "2024-11"]
    assert words.has_partition("words", "2024-11") and not words.has_partition("words", "none")
    words.insert("words", rows_of(5, start=100), partition_name="2024-11")
    assert count_of(words, "words") == 15
    assert count_of(words, "words", partition_names=["2024-11"]) == 5
    found = words.search("words", data=[vector(0)], limit=100, partition_names=["2024-11"])[0]
    assert sorted(hit["id"] for hit in found) == list(range(100, 105))
    assert words.get("words", ids=[3, 101], partition_names=["_default"])[0]["id"] == 3
    words.delete("words", filter="id >= 0", partition_name="2024-11")
    assert count_of(words, "words") == 10
    words.upsert("words", rows_of(1, start=100), partition_name="2024-11")
    assert words.get_partition_stats("words", "2024-11")["row_count"] == 1


def test_a_partition_is_released_before_it_is_dropped(words):
    words.create_partition("words", "old")
    words.insert("words", rows_of(5, start=100), partition_name="old")
    refused("partition cannot be dropped, partition is loaded, please release it first", words.drop_partition, "words", "old")
    words.release_partitions("words", ["old"])
    assert refused("partition not loaded", words.search, "words", data=[vector(0)], limit=1, partition_names=["old"]).code == 201
    assert count_of(words, "words") == 10
    words.load_partitions("words", ["old"])
    assert count_of(words, "words") == 15
    words.release_partitions("words", ["old"])
    words.drop_partition("words", "old")
    words.drop_partition("words", "old")
    assert words.list_partitions("words") == ["_default"]
    assert count_of(words, "words") == 10
    refused("partition not found[partition=old]", words.insert, "words", rows_of(1), partition_name="old")


def test_wrong_partitions(words):
    refused("default partition cannot be deleted", words.drop_partition, "words", "_default")
    refused("Invalid partition name: a b.", words.create_partition, "words", "a b")
    refused("The length of a partition name must be less than 255 characters", words.create_partition, "words", "x" * 256)
    refused("Partition name should not be empty", words.create_partition, "words", "")
    refused("partition name none not found", words.query, "words", filter="id >= 0", partition_names=["none"])
    assert refused("partition not found[partition=none]", words.get_partition_stats, "words", "none").code == 200
    assert refused("partition not found[partition=none]", words.load_partitions, "words", ["none"]).code == 200
    refused("due to no partition specified", words.load_partitions, "words", [])
    assert refused("collection not found[database=default][collection=none]", words.create_partition, "none", "p").code == 100


@pytest.mark.once
def test_there_are_1024_partitions_at_most(shared):
    shared.create_collection("many", dimension=DIM)
    for i in range(1023):
        shared.create_partition("many", f"p{i}")
    refused("exceeds max configuration (1024), collection: many", shared.create_partition, "many", "p1023")
    assert len(shared.list_partitions("many")) == 1024


def test_statistics_of_released_partitions(words):
    words.create_partition("words", "p")
    words.insert("words", rows_of(5, start=100), partition_name="p")
    words.delete("words", ids=[100, 101])
    words.flush("words")
    words.release_collection("words")
    assert words.get_collection_stats("words")["row_count"] == 13
    assert words.get_partition_stats("words", "p")["row_count"] == 3
    assert words.get_partition_stats("words", "_default")["row_count"] == 10
    words.load_partitions("words", ["p"])
    assert words.get_collection_stats("words")["row_count"] == 13
    assert words.get_partition_stats("words", "_default")["row_count"] == 10
    assert count_of(words, "words") == 3


# Aliases


def test_an_alias_names_a_collection_everywhere(words):
    words.create_alias("words", "w")
    words.create_alias("words", "w")
    assert count_of(words, "w") == 10
    words.insert("w", rows_of(1, start=50))
    assert words.describe_collection("w")["collection_name"] == "words"
    assert words.describe_collection("words")["aliases"] == ["w"]
    described = words.describe_alias("w")
    assert (described["alias"], described["collection_name"], described["db_name"]) == ("w", "words", "default")
    words.create_alias("words", "v")
    assert sorted(words.list_aliases("words")["aliases"]) == ["v", "w"]
    assert sorted(words.list_aliases()["aliases"]) == ["v", "w"]
    words.drop_alias("v")
    words.drop_alias("v")
    assert words.list_aliases("words")["aliases"] == ["w"]


def test_an_alias_moves_to_another_collection(words):
    words.create_collection("next", dimension=DIM)
    words.create_alias("words", "current")
    words.alter_alias("next", "current")
    assert count_of(words, "current") == 0
    assert words.describe_alias("current")["collection_name"] == "next"


def test_wrong_aliases(words):
    words.create_collection("other", dimension=DIM)
    words.create_alias("words", "w")
    assert refused("w is alias to another collection: words", words.create_alias, "other", "w").code == 1602
    assert refused("alias and collection name conflict[database=default][alias=other]", words.create_alias, "words", "other").code == 1601
    refused("Invalid collection alias: 1x. the first character of a collection alias must be an underscore or letter", words.create_alias, "words", "1x")
    refused("the length of a collection alias must be less than 255 characters", words.create_alias, "words", "x" * 256)
    assert refused("collection not found[database=default][collection=none]", words.create_alias, "none", "n").code == 100
    assert refused("collection not found[database=default][collection=w]", words.create_alias, "w", "n").code == 100
    assert refused("alias not found[database=default][alias=none]", words.alter_alias, "words", "none").code == 1600
    assert refused("alias not found[database=default][alias=none]", words.describe_alias, "none").code == 1600
    assert refused("collection not found", words.list_aliases, "none").code == 100
    refused("cannot drop the collection via alias = w", words.drop_collection, "w")
    refused("unable to drop the collection [words] because it has associated aliases [w]", words.drop_collection, "words")
    refused("collection name [w] conflicts with an existing alias", words.create_collection, "w", dimension=DIM)


# Names


def test_rename_keeps_rows(words):
    words.rename_collection("words", "terms")
    assert not words.has_collection("words") and count_of(words, "terms") == 10
    words.insert("terms", rows_of(1, start=77))
    words.create_collection("words", dimension=DIM)
    assert count_of(words, "words") == 0 and count_of(words, "terms") == 11


def test_rename_into_another_database(words):
    words.create_database("attic")
    words.rename_collection("words", "words", target_db="attic")
    assert words.list_collections() == []
    words.use_database("attic")
    assert count_of(words, "words") == 10
    words.drop_collection("words")
    words.use_database("default")
    words.drop_database("attic")


def test_wrong_renames(words):
    words.create_collection("taken", dimension=DIM)
    words.create_alias("words", "w")
    refused("duplicated new collection name default:taken with other collection name or alias", words.rename_collection, "words", "taken")
    refused("cannot rename collection to an existing alias: w", words.rename_collection, "taken", "w")
    refused("unsupported use an alias to rename collection, alias:w", words.rename_collection, "w", "x")
    refused("collection name or database name should be different", words.rename_collection, "words", "words")
    refused("the first character of a collection name must be an underscore or letter", words.rename_collection, "words", "1x")
    assert refused("collection not found[database=default][collection=none]", words.rename_collection, "none", "x").code == 100
    refused("database not found[database=nowhere]", words.rename_collection, "words", "x", target_db="nowhere")


def test_truncate_leaves_everything_but_rows(words):
    words.create_partition("words", "p")
    words.insert("words", rows_of(5, start=100), partition_name="p")
    words.flush("words")
    words.insert("words", rows_of(5, start=200))
    words.truncate_collection("words")
    assert count_of(words, "words") == 0
    assert words.list_partitions("words") == ["_default", "p"] and words.list_indexes("words") == ["vector"]
    words.insert("words", rows_of(3))
    assert count_of(words, "words") == 3
    refused("collection not found", words.truncate_collection, "none")


def test_creating_a_collection_again(shared):
    for _ in range(2):
        shared.create_collection("again", schema=schema_of(), properties={"note": "a"})
    refused("create duplicate collection with different parameters, collection: again", shared.create_collection, "again", schema=schema_of(description="other"))
    refused("create duplicate collection with different parameters, collection: again", shared.create_collection, "again", schema=schema_of(), num_shards=3)
    shared.drop_collection("again")
    shared.drop_collection("again")
    refused("maximum shards's number should be limited to 16", shared.create_collection, "again", schema=schema_of(), num_shards=17)
    for name, text in [("1x", "the first character of a collection name must be an underscore or letter"), ("a-b", "can only contain numbers, letters and underscores"), ("x" * 256, "the length of a collection name must be less than 255 characters")]:
        refused(text, shared.create_collection, name, dimension=DIM)
    assert shared.list_collections() == []


# Properties


def test_collection_properties(words):
    words.alter_collection_properties("words", properties={"note": "hello", "more": "1"})
    properties = words.describe_collection("words")["properties"]
    assert properties["note"] == "hello" and properties["more"] == "1"
    words.drop_collection_properties("words", property_keys=["more"])
    assert "more" not in words.describe_collection("words")["properties"]
    words.alter_collection_properties("words", properties={"collection.description": "all my words"})
    assert words.describe_collection("words")["description"] == "all my words"
    words.release_collection("words")
    words.alter_collection_properties("words", properties={"mmap.enabled": True})
    assert words.describe_collection("words")["properties"]["mmap.enabled"].lower() == "true"


def test_wrong_collection_properties(words):
    refused("can not alter mmap properties if collection loaded", words.alter_collection_properties, "words", properties={"mmap.enabled": True})
    refused("can not delete mmap properties if collection loaded", words.drop_collection_properties, "words", property_keys=["mmap.enabled"])
    refused("cannot delete key dynamicfield.enabled", words.drop_collection_properties, "words", property_keys=["dynamicfield.enabled"])
    refused("turning the dynamic field of a collection off", words.alter_collection_properties, "words", properties={"dynamicfield.enabled": False})
    refused("collection not found", words.alter_collection_properties, "none", properties={"a": "b"})
    words.release_collection("words")
    refused("invalid mmap.enabled value", words.alter_collection_properties, "words", properties={"mmap.enabled": "maybe"})


# Load states


def test_load_states(words):
    assert words.get_load_state("words")["state"] == LoadState.Loaded
    words.release_collection("words")
    words.release_collection("words")
    assert words.get_load_state("words")["state"] == LoadState.NotLoad
    assert words.get_load_state("nobody")["state"] == LoadState.NotExist
    for call in [lambda: words.search("words", data=[vector(0)], limit=1), lambda: words.query("words", filter="id >= 0"), lambda: words.get("words", ids=[1])]:
        assert refused("collection not loaded", call).code == 101
    words.insert("words", rows_of(5, start=100))
    words.load_collection("words")
    words.load_collection("words")
    words.refresh_load("words")
    assert count_of(words, "words") == 15
    assert words.get_load_state("words", partition_name="_default")["state"] == LoadState.Loaded


def test_loading_needs_an_index_on_every_vector_field(shared):
    schema = schema_of()
    shared.create_collection("bare", schema=schema)
    assert shared.get_load_state("bare")["state"] == LoadState.NotLoad
    refused("there is no vector index on field: [vector], please create index firstly", shared.load_collection, "bare")
    assert refused("collection not loaded", shared.query, "bare", filter="id >= 0").code == 101


def test_one_replica_in_the_one_resource_group(words):
    refused("can't change the replica number for loaded partitions: invalid parameter[expected=1][actual=2]", words.load_collection, "words", replica_number=2)
    words.release_collection("words")
    refused("when load 3 replica count: service resource insufficient", words.load_collection, "words", replica_number=3)
    assert refused("resource group not found[rg=fast]", words.load_collection, "words", _resource_groups=["fast"]).code == 300
    words.load_collection("words", replica_number=1, _resource_groups=["__default_resource_group"])
    replicas = words.describe_replica("words")
    assert len(replicas) == 1 and replicas[0].resource_group == "__default_resource_group"
    words.release_collection("words")
    refused("collection not loaded", words.describe_replica, "words")


def test_properties_that_ask_for_what_there_is_not_are_refused_by_name(words):
    for name, value in [("collection.replica.number", 2), ("collection.resource_groups", "fast"), ("namespace.enabled", True), ("ttl_field", "id")]:
        refused(f"collection property {name}={value} is not supported yet by ShoalDB", words.alter_collection_properties, "words", properties={name: value}, code=10)
        refused(f"collection property {name}={value} is not supported", words.create_collection, "refused", dimension=DIM, properties={name: value})
    assert not words.has_collection("refused")
    words.alter_collection_properties("words", properties={"collection.replica.number": 1, "collection.resource_groups": "__default_resource_group", "namespace.enabled": False, "collection.insertRate.max.mb": 5})
    assert words.describe_collection("words")["properties"]["collection.insertRate.max.mb"] == "5"


def test_load_fields_are_checked(words):
    words.release_collection("words")
    refused("fieldName(nothing) not found", words.load_collection, "words", load_fields=["id", "vector", "nothing"])
    refused("does not contain primary key field id", words.load_collection, "words", load_fields=["vector"])
    refused("does not contain vector field", words.load_collection, "words", load_fields=["id"])
    words.load_collection("words", load_fields=["id", "vector"], skip_load_dynamic_field=True)
    assert count_of(words, "words") == 10


@pytest.mark.once
def test_load_maps_and_release_unmaps(shared, shared_server):
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=256)
    indexes = shared.prepare_index_params()
    indexes.add_index("vector", index_type="FLAT", metric_type="L2")
    shared.create_collection("big", schema=schema, index_params=indexes)
    shared.insert("big", [{"id": i, "vector": [float(i)] * 256} for i in range(2000)])
    shared.flush("big")
    identifier = shared.describe_collection("big")["collection_id"]

    def is_mapped():
        maps = []
        for pid in shared_server.pids("searcher"):
            with open(f"/proc/{pid}/maps") as lines:
                maps += [line for line in lines if f"/{identifier}/" in line and ".arrow" in line]
        return bool(maps)

    assert count_of(shared, "big") == 2000
    assert is_mapped()
    shared.release_collection("big")
    wait_until(lambda: not is_mapped(), "searchers let go of a released collection")
    shared.list_collections()
    assert not is_mapped()
    shared.load_collection("big")
    assert count_of(shared, "big") == 2000


@pytest.mark.once
def test_listing_collections_maps_none(servers):
    server = servers("lists", "--searchers", "2").start()
    client = MilvusClient(server.uri)
    client.create_collection("one", dimension=DIM)
    client.insert("one", rows_of(10))
    client.flush("one")
    identifier = client.describe_collection("one")["collection_id"]
    client.close()
    server.stop()
    server.start()
    client = MilvusClient(server.uri)
    assert client.list_collections() == ["one"]
    for pid in server.pids("searcher"):
        with open(f"/proc/{pid}/maps") as lines:
            assert not [line for line in lines if f"/{identifier}/" in line]
    assert count_of(client, "one") == 10
    client.close()


# Flush, compaction, segments


def test_flush_and_flush_all(words):
    words.create_collection("more", dimension=DIM)
    words.insert("more", rows_of(3))
    words.flush("words")
    words.flush_all()
    assert words.get_flush_all_state(flush_all_ts=0) is True
    assert [segment.num_rows for segment in words.list_persistent_segments("more")] == [3]
    assert refused("collection not found", words.flush, "none").code == 100


def test_compaction_merges_table_files(words):
    for start in range(100, 130, 10):
        words.insert("words", rows_of(10, start=start))
        words.flush("words")
    job = words.compact("words")
    wait_until(lambda: words.get_compaction_state(job) == "Completed", "the compaction is over")
    segments = words.list_persistent_segments("words")
    assert [segment.num_rows for segment in segments] == [40]
    assert count_of(words, "words") == 40
    plans = words.get_compaction_plans(job)
    # What the merge thread had merged by itself before is in no plan.
    assert all(plan.target == segments[0].segment_id or plan.sources for plan in plans.plans)
    assert words.get_compaction_state(123456789) == "Completed"
    refused("clustering compaction", words.compact, "words", is_clustering=True)
    assert refused("collection not found", words.compact, "none").code == 100


def test_segments(words):
    words.flush("words")
    words.insert("words", rows_of(2, start=100))
    loaded = words.list_loaded_segments("words")
    assert sum(segment.num_rows for segment in loaded) == 12
    assert sum(segment.num_rows for segment in words.list_persistent_segments("words")) in (10, 12)
    words.flush("words")
    words.release_collection("words")
    assert sum(segment.num_rows for segment in words.list_persistent_segments("words")) == 12


# One node


def test_resource_groups_of_one_node(words):
    assert words.list_resource_groups() == ["__default_resource_group"]
    group = words.describe_resource_group("__default_resource_group")
    assert group.capacity == 1 and group.num_available_node == 1 and group.num_loaded_replica["words"] == 1
    words.create_resource_group("__default_resource_group")
    refused("creating resource group fast (there is one node) is not supported yet by ShoalDB", words.create_resource_group, "fast")
    assert refused("resource group not found[rg=fast]", words.describe_resource_group, "fast").code == 300
    refused("delete default rg is not permitted", words.drop_resource_group, "__default_resource_group")
    words.drop_resource_group("fast")
    assert refused("resource group not found[rg=fast]", words.transfer_replica, "__default_resource_group", "fast", "words", 1).code == 300
    refused("should not be the same", words.transfer_replica, "__default_resource_group", "__default_resource_group", "words", 1)


def test_versions(shared):
    version = shared.get_server_version()
    assert version.startswith("v2.6.") and "shoaldb" in version
    assert shared.get_server_version(detail=True)["version"] == version
    assert shared.get_server_type() == "milvus"


# Restarts


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_definitions_survive(servers, how):
    server = servers("survive", "--searchers", "2").start()
    client = MilvusClient(server.uri)
    client.create_database("shop", properties={"owner": "me"})
    client.create_collection("words", dimension=DIM, metric_type="L2")
    client.create_partition("words", "p")
    client.create_partition("words", "gone")
    client.insert("words", rows_of(5), partition_name="p")
    client.insert("words", rows_of(5, start=10))
    client.release_partitions("words", ["gone"])
    client.drop_partition("words", "gone")
    client.create_alias("words", "w")
    client.alter_collection_properties("words", properties={"note": "x"})
    client.create_collection("cut", dimension=DIM)
    client.insert("cut", rows_of(5))
    client.truncate_collection("cut")
    client.insert("cut", rows_of(2))
    client.create_collection("asleep", dimension=DIM)
    client.insert("asleep", rows_of(4))
    client.release_collection("asleep")
    client.create_collection("half", dimension=DIM)
    client.create_partition("half", "off")
    client.insert("half", rows_of(3), partition_name="off")
    client.insert("half", rows_of(4, start=10))
    client.release_partitions("half", ["off"])
    client.create_collection("old_name", dimension=DIM)
    client.rename_collection("old_name", "new_name")
    client.create_collection("dropped", dimension=DIM)
    client.drop_collection("dropped")
    client.close()
    getattr(server, how)()
    server.start()
    client = MilvusClient(server.uri)
    assert client.describe_database("shop")["owner"] == "me"
    assert sorted(client.list_collections()) == ["asleep", "cut", "half", "new_name", "words"]
    assert client.list_partitions("words") == ["_default", "p"]
    assert count_of(client, "w") == 10 and count_of(client, "words", partition_names=["p"]) == 5
    assert client.describe_collection("words")["properties"]["note"] == "x"
    assert count_of(client, "cut") == 2
    assert client.get_load_state("asleep")["state"] == LoadState.NotLoad
    client.load_collection("asleep")
    assert count_of(client, "asleep") == 4
    assert count_of(client, "half") == 4
    client.load_partitions("half", ["off"])
    assert count_of(client, "half") == 7
    client.close()
