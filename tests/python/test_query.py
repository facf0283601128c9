"""Query, get, count and query iterators: one snapshot, key order, windows; also after flush, merge and restart."""

import pytest
from pymilvus import DataType, MilvusClient

from conftest import refused

DIM = 2


def row(key, kind=int):
    return {"id": kind(key), "vector": [float(key), 1.0], "size": key % 10, "note": None if key % 5 == 0 else f"n{key}", "tag": f"t{key % 4}"}


def create(client, name="things", key=DataType.INT64, **options):
    schema = MilvusClient.create_schema(enable_dynamic_field=True)
    schema.add_field("id", key, is_primary=True, **({"max_length": 64} if key == DataType.VARCHAR else {}))
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("size", DataType.INT64)
    schema.add_field("note", DataType.VARCHAR, max_length=16, nullable=True)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", metric_type="L2")
    client.create_collection(name, schema=schema, index_params=indexes, **options)


@pytest.fixture
def things(client):
    """100 rows: some in a file, some growing, some replaced and deleted."""
    create(client)
    client.insert("things", [row(key) for key in range(0, 100, 2)])
    client.flush("things")
    client.insert("things", [row(key) for key in range(1, 120, 2)])
    client.delete("things", filter="id >= 100")
    client.upsert("things", [row(key) for key in range(10, 20)])
    return client


def query_list(client, name, **options):
    """The rows as plain dicts: pymilvus' lazy list does not compare."""
    return list(client.query(name, **options))


def keys(rows):
    return [entity["id"] for entity in rows]


def count(client, name="things", filter="", **options):
    return client.query(name, filter=filter, output_fields=["count(*)"], **options)[0]["count(*)"]


def test_rows_come_in_key_order_with_the_fields_that_were_asked_for(things):
    assert query_list(things, "things", filter="id in [51, 3, 200, 52]", output_fields=["*"]) == [row(key) for key in [3, 51, 52]]
    assert query_list(things, "things", filter="id in [51, 3]") == [row(3), row(51)]
    assert query_list(things, "things", filter="id in [51, 3]", output_fields=["*"]) == [row(3), row(51)]
    assert query_list(things, "things", filter="size == 3 and id < 30", output_fields=["note"]) == [{"id": key, "note": f"n{key}"} for key in [3, 13, 23]]
    assert query_list(things, "things", filter="id == 7", output_fields=["tag"]) == [{"id": 7, "tag": "t3"}]
    assert query_list(things, "things", filter="id == 7", output_fields=["tag", "nowhere"]) == [{"id": 7, "tag": "t3"}]
    assert query_list(things, "things", filter="id == 7", output_fields=["vector"]) == [{"id": 7, "vector": [7.0, 1.0]}]
    assert query_list(things, "things", filter='note is null and tag == "t0"', output_fields=["id"]) == [{"id": key} for key in range(0, 100, 20)]
    assert keys(things.query("things", filter="id > 95", limit=3)) == [96, 97, 98]


def test_windows(things):
    assert keys(things.query("things", filter="", limit=5, offset=10)) == [10, 11, 12, 13, 14]
    assert keys(things.query("things", filter="size == 0", limit=3, offset=2)) == [20, 30, 40]
    assert keys(things.query("things", filter="", limit=16384)) == list(range(100))
    assert query_list(things, "things", filter="", limit=5, offset=100) == []
    refused("(offset+limit) should be in range [1, 16384], but got 16385", things.query, "things", filter="", limit=16384, offset=1)
    refused("(offset+limit) should be in range [1, 16384]", things.query, "things", filter="", limit=16385)
    refused("offset [-1] is invalid, should be gte than 0", things.query, "things", filter="", limit=1, offset=-1)
    refused("empty expression should be used with limit: invalid parameter", things.query, "things", filter="")
    refused("limit [0] is invalid", things.query, "things", filter="", limit=0)


def test_get(things):
    assert list(things.get("things", ids=[5, 3, 1000])) == [row(3), row(5)]
    assert list(things.get("things", ids=5)) == [row(5)]
    assert list(things.get("things", ids=[])) == []
    assert things.get("things", ids=[5], output_fields=["size"]) == [{"id": 5, "size": 5}]
    create(things, "words", DataType.VARCHAR)
    things.insert("words", [row(key, str) for key in range(20)])
    assert list(things.get("words", ids=["5", "13", "x"])) == [row(13, str), row(5, str)]
    assert things.get("words", ids="7", output_fields=["size"]) == [{"id": "7", "size": 7}]


def test_counts(things):
    assert count(things) == 100
    assert count(things, filter="size == 3") == 10
    assert count(things, filter="id in [1, 2, 3, 1000]") == 3
    assert count(things, filter="id > 1000") == 0
    assert count(things, partition_names=["_default"]) == 100
    refused("count entities with pagination is not allowed", things.query, "things", filter="", output_fields=["count(*)"], limit=3)
    refused("partition name nowhere not found", things.query, "things", filter="id > 0", partition_names=["nowhere"])


def test_the_answers_are_the_same_after_flush_merge_and_restart(things, server):
    def answers(client):
        return (
            query_list(client, "things", filter="size < 3", output_fields=["*"]),
            query_list(client, "things", filter="", limit=7, offset=40),
            count(client),
            list(client.get("things", ids=[15, 16])),
        )

    before = answers(things)
    things.flush("things")
    assert answers(things) == before
    things.compact("things")
    assert answers(things) == before
    server.stop().start()
    client = MilvusClient(server.uri)
    assert answers(client) == before
    server.kill().start()
    client.close()
    client = MilvusClient(server.uri)
    assert answers(client) == before
    client.close()


def pages(iterator):
    rows = []
    while True:
        page = iterator.next()
        if not page:
            iterator.close()
            return rows
        rows.extend(page)


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_an_iterator_walks_the_matching_rows_in_key_order(things, batch):
    assert keys(pages(things.query_iterator("things", batch_size=batch))) == list(range(100))
    assert keys(pages(things.query_iterator("things", batch_size=batch, filter="size == 3"))) == list(range(3, 100, 10))
    assert keys(pages(things.query_iterator("things", batch_size=batch, limit=13))) == list(range(13))
    assert pages(things.query_iterator("things", batch_size=batch, filter="id < 4", output_fields=["tag"])) == [{"id": key, "tag": f"t{key}"} for key in range(4)]
    assert keys(pages(things.query_iterator("things", batch_size=batch, filter="id < 20", offset=5))) == list(range(5, 20))


def test_an_iterator_over_words(things):
    create(things, "words", DataType.VARCHAR)
    things.insert("words", [row(key, str) for key in range(50)])
    assert keys(pages(things.query_iterator("words", batch_size=7))) == sorted(map(str, range(50)))


def test_an_iterator_stays_on_its_snapshot(things):
    iterator = things.query_iterator("things", batch_size=10, output_fields=["*"])
    assert keys(iterator.next()) == list(range(10))
    things.delete("things", ids=[50, 51])
    things.upsert("things", [row(60) | {"size": 777}])
    things.insert("things", [row(-5), row(300)])
    things.flush("things")
    rest = pages(iterator)
    assert rest == [row(key) for key in range(10, 100)]
    assert keys(pages(things.query_iterator("things", batch_size=1000))) == [-5, *[key for key in range(100) if key not in (50, 51)], 300]


def test_an_iterator_older_than_the_horizon_is_refused_not_answered_wrong(servers):
    server = servers("db", "--searchers", "2", "--snapshot-retention", "0s").start()
    client = MilvusClient(server.uri)
    create(client)
    client.insert("things", [row(key) for key in range(100)])
    iterator = client.query_iterator("things", batch_size=10)
    assert keys(iterator.next()) == list(range(10))
    client.delete("things", ids=list(range(20, 90)))
    client.flush("things")
    job = client.compact("things")
    from conftest import wait_until

    wait_until(lambda: client.get_compaction_state(job) == "Completed", "the compaction is done")
    refused("deleted rows that it could see were removed", pages, iterator)
    assert count(client) == 30
    client.close()


@pytest.mark.once
def test_what_a_query_does_not_do_yet_is_named(things):
    refused("not supported", things.query, "things", filter="id > 0", limit=3, order_by_fields=[{"field": "size", "order": "asc"}])


def test_after_a_crash_a_delete_of_nothing_asks_no_reader_to_wait(server, client):
    # The new writer's clock starts ahead of the time of day: everything that the dead one may have given out is below it.
    create(client, consistency_level="Session")
    client.insert("things", [row(key) for key in range(10)])
    server.kill().start()
    again = MilvusClient(server.uri)
    again.create_partition("things", "moves_the_clock_and_makes_nothing_visible")
    again.delete("things", ids=[777])
    assert len(again.query("things", filter="id >= 0", consistency_level="Session")) == 10
    again.close()


def test_aggregations_are_refused_by_name(client):
    create(client)
    for name in ["sum(size)", "count(size)", "MAX(size)", " avg(size) "]:
        refused(f"the aggregation {name.strip()} of a query is not supported yet by ShoalDB", client.query, "things", filter="size >= 0", output_fields=[name], code=10)
