"""Search beside the plain nearest rows: groups, ids, iterators, windows, partitions, consistency; also after flush and restart."""

import time

import pytest
from pymilvus import DataType, MilvusClient

from conftest import refused, wait_until

DIM = 4


def row(key):
    """Row `key` lies at squared distance key * key from the zero vector."""
    return {
        "id": key,
        "vector": [float(key), 0.0, 0.0, 0.0],
        "second": [0.0, float(100 - key)],
        "shop": None if key % 10 == 9 else f"shop{key % 3}",
        "flag": key % 2 == 0,
        "small": key % 4,
        "price": key / 2,
        "info": {"brand": {"name": f"b{key % 2}"}, "sizes": [key % 5]},
        "color": ["red", "green", "blue"][key % 3],
    }


ROWS = {key: row(key) for key in range(60)}


def create(client, name="goods"):
    schema = MilvusClient.create_schema(enable_dynamic_field=True)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    schema.add_field("second", DataType.FLOAT_VECTOR, dim=2)
    schema.add_field("shop", DataType.VARCHAR, max_length=32, nullable=True)
    schema.add_field("flag", DataType.BOOL)
    schema.add_field("small", DataType.INT8)
    schema.add_field("price", DataType.DOUBLE)
    schema.add_field("info", DataType.JSON)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", metric_type="L2")
    indexes.add_index("second", metric_type="IP")
    client.create_collection(name, schema=schema, index_params=indexes)


@pytest.fixture
def goods(client):
    create(client)
    client.insert("goods", [ROWS[key] for key in range(30)])
    client.flush("goods")
    client.insert("goods", [ROWS[key] for key in range(30, 60)])
    return client


def search(client, **options):
    options = {"data": [[0.0] * DIM], "anns_field": "vector", "limit": 5} | options
    return client.search("goods", **options)


def ids(hits):
    return [hit["id"] for hit in hits]


def expected_groups(keys, group_of, limit, size, strict, offset=0):
    """Hits from near to far until the groups are there; one list per group."""
    groups = {}
    for key in keys:
        if len(groups) == offset + limit and (not strict or all(len(group) == size for group in groups.values())):
            break
        group = group_of(key)
        if group in groups or len(groups) < offset + limit:
            members = groups.setdefault(group, [])
            if len(members) < size:
                members.append(key)
    return [key for members in list(groups.values())[offset:] for key in members]


@pytest.mark.parametrize("field", ["shop", "flag", "small", "id", 'info["brand"]["name"]', "info['sizes'][0]", "color", '$meta["color"]'])
@pytest.mark.parametrize("size, strict", [(None, None), (2, False), (3, True)])
def test_groups_are_those_of_a_walk_from_near_to_far(goods, field, size, strict):
    of = {
        'info["brand"]["name"]': lambda key: key % 2,
        "info['sizes'][0]": lambda key: key % 5,
        '$meta["color"]': lambda key: key % 3,
    }.get(field, lambda key: ROWS[key][field])
    options = {} if size is None else {"group_size": size, "strict_group_size": strict}
    for limit in [1, 2, 3, 7]:
        for offset in [0, 1]:
            found = search(goods, limit=limit, offset=offset, group_by_field=field, output_fields=["shop"], **options)[0]
            wanted = expected_groups(range(60), of, limit, size or 1, bool(strict), offset)
            assert ids(found) == wanted, (field, limit, offset)
            assert [hit["entity"]["shop"] for hit in found] == [ROWS[key]["shop"] for key in wanted]
            assert [hit["distance"] for hit in found] == [float(key * key) for key in wanted]


@pytest.mark.once
@pytest.mark.parametrize("fields", [["shop", "flag"], ["small", "shop", "id"], ["flag", 'info["brand"]["name"]'], ["color", "small"], ["flag", "flag"]])
@pytest.mark.parametrize("size, strict", [(1, False), (3, True)])
def test_groups_by_several_fields_agree_in_all_of_them(goods, fields, size, strict):
    def group_of(key):
        whole = ROWS[key] | {'info["brand"]["name"]': ROWS[key]["info"]["brand"]["name"]}
        return tuple(whole[field] for field in fields)

    for limit in [1, 4, 7]:
        for offset in [0, 2]:
            found = search(goods, limit=limit, offset=offset, group_by_fields=fields, group_size=size, strict_group_size=strict)[0]
            assert ids(found) == expected_groups(range(60), group_of, limit, size, strict, offset), (limit, offset)


@pytest.mark.once
def test_the_values_of_groups_are_answered_by_field(goods):
    def values(*pairs):
        results = raw_search(goods, *pairs).results
        return results.group_by_field_value.field_name, [field.field_name for field in results.group_by_field_values]

    assert values(("group_by_field", "shop")) == ("shop", [])
    assert values(("group_by_fields", "shop, flag")) == ("", ["shop", "flag"])
    assert values(("group_by_fields", "shop,color")) == ("", ["shop"])
    assert values(("group_by_field", "flag"), ("group_by_fields", "shop,color")) == ("flag", [])


@pytest.mark.once
def test_json_values_are_grouped_as_the_type_that_is_asked_for(client):
    create(client)
    kinds = [7, 7.5, "7", True, None, [7], 7 + 256, 7]
    client.insert("goods", [row(key) | {"info": {"k": kind}} for key, kind in enumerate(kinds)] + [row(8) | {"info": {}}])

    def groups(**options):
        return ids(search(client, limit=9, **options)[0])

    path = {"group_by_field": "info", "json_path": 'info["k"]'}
    assert groups(**path) == groups(group_by_field='info["k"]') == [0, 1, 2, 3, 4, 6]
    assert groups(**path, json_type=DataType.INT64) == [0, 1, 6]
    assert groups(**path, json_type=DataType.INT8) == [0, 1]
    assert groups(**path, json_type=DataType.BOOL) == [0, 3]
    assert groups(**path, json_type=DataType.VARCHAR) == [0, 2]
    assert groups(group_by_fields=["info", "flag"], json_path='info["k"]', json_type=DataType.BOOL) == [0, 1, 3]
    assert groups(**path, json_type=DataType.INT64, strict_cast=True, filter="id in [0, 6, 7]") == [0, 6]
    refused("failed to cast json of field info to Int64, wrong json data inner type", groups, **path, json_type=DataType.INT64, strict_cast=True)
    refused("wrong json data inner type", groups, **path, strict_cast=True, filter="id == 8")
    refused("""parse nested path 'shop["k"]' failed""", groups, group_by_field="info", json_path='shop["k"]')
    refused("parse nested path '/k' failed", groups, group_by_field="info", json_path="/k")
    refused("parse nested path 'info' failed", groups, group_by_field="info", json_path="info")
    refused("at most one JSON field", groups, group_by_fields=['info["a"]', "color"])
    assert "unsupported data type Double for group by operator" in raw_search(client, ("group_by_field", 'info["k"]'), ("json_type", "Double")).status.reason
    # Nothing of it means anything to a field that is no JSON.
    assert groups(group_by_field="flag", json_path="/k", json_type=DataType.INT64, strict_cast=True) == [0, 1]


def test_groups_hold_with_filters_several_queries_and_after_a_restart(goods, server):
    def check(client):
        found = search(client, data=[[0.0] * DIM, [59.0, 0.0, 0.0, 0.0]], limit=3, group_by_field="shop", group_size=2, strict_group_size=True, filter="id % 2 == 1")
        for hits, keys in zip(found, [range(1, 60, 2), range(59, 0, -2)]):
            assert ids(hits) == expected_groups(keys, lambda key: ROWS[key]["shop"], 3, 2, True)

    check(goods)
    server.stop().start()
    client = MilvusClient(server.uri)
    check(client)
    client.close()


def test_one_large_group_hides_no_other(client):
    create(client)
    near = [ROWS[0] | {"id": key, "vector": [0.001 * (key % 7), 0.0, 0.0, 0.0], "shop": "large"} for key in range(1000, 3000)]
    client.insert("goods", near + [ROWS[key] for key in range(3, 12)])
    found = search(client, limit=4, group_by_field="shop", group_size=2, strict_group_size=True, output_fields=["shop"])[0]
    assert [hit["entity"]["shop"] for hit in found] == ["large", "large", "shop0", "shop0", "shop1", "shop1", "shop2", "shop2"]


@pytest.mark.once
def test_groups_that_milvus_refuses(goods):
    assert refused("groupBy field not found in schema: field not found[field=nowhere]", _without_dynamic(goods).search, "strict", data=[[0.0] * DIM], limit=1, group_by_field="nowhere").code == 1700
    refused("unsupported data type DOUBLE for group by operator", search, goods, group_by_field="price")
    refused("unsupported data type VECTOR_FLOAT for group by operator", search, goods, group_by_field="vector")
    refused("unsupported data type JSON for group by operator", search, goods, group_by_field="info")
    refused("input group size:0 is negative", search, goods, group_by_field="shop", group_size=0)
    refused("input group size:-1 is negative", search, goods, group_by_field="shop", group_size=-1)
    refused("input group size:11 exceeds configured max group size:10", search, goods, group_by_field="shop", group_size=11)
    assert len(search(goods, limit=1, group_by_field="flag", group_size=10, strict_group_size=True)[0]) == 10
    error = refused("Not allowed to do range-search when doing search-group-by", search, goods, group_by_field="shop", search_params={"params": {"radius": 10.0}})
    assert error.code == 1100
    assert ids(search(goods, limit=2, group_by_fields=["flag"])[0]) == [0, 1]


def _without_dynamic(client):
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    indexes = client.prepare_index_params()
    indexes.add_index("vector", metric_type="L2")
    client.create_collection("strict", schema=schema, index_params=indexes)
    return client


def test_scores_are_rounded(goods):
    def distances(**options):
        return [hit["distance"] for hit in search(goods, data=[[0.25, 0.0, 0.0, 0.0]], limit=2, **options)[0]]

    assert distances() == distances(round_decimal=-1) == [0.0625, 0.5625]
    assert distances(round_decimal=2) == pytest.approx([0.06, 0.56])
    assert distances(round_decimal=0) == [0.0, 1.0]
    for wrong in [7, -2]:
        refused("round_decimal", search, goods, round_decimal=wrong)


def test_rows_are_searched_by_their_ids(goods):
    found = goods.search("goods", ids=[40, 3], anns_field="vector", limit=2, output_fields=["color"])
    assert [ids(hits) for hits in found] == [[40, 39], [3, 2]]
    found = goods.search("goods", ids=[40], anns_field="vector", limit=3, filter="id < 10")
    assert ids(found[0]) == [9, 8, 7]
    refused("some of the provided primary key IDs do not exist: missing IDs = [1000 2000]", goods.search, "goods", ids=[1000, 3, 2000], anns_field="vector", limit=1)
    refused("duplicate IDs found in search request", goods.search, "goods", ids=[3, 3], anns_field="vector", limit=1)
    refused("primary key is int64, but IDs type mismatch", goods.search, "goods", ids=["3"], anns_field="vector", limit=1)


def test_output_fields(goods):
    def entity(*names):
        return search(goods, limit=1, offset=7, output_fields=list(names))[0][0]["entity"]

    whole = {name: value for name, value in ROWS[7].items()}
    assert entity("*") == whole
    assert entity("color") == {"color": "green"}
    assert entity('$meta["color"]') == {"color": "green"}
    assert entity("vector", "id") == {"vector": ROWS[7]["vector"], "id": 7}
    assert entity("*", "color") == whole
    assert entity("nowhere") == {}
    assert entity() == {}
    refused("field nowhere not exist", _without_dynamic(goods).search, "strict", data=[[0.0] * DIM], limit=1, output_fields=["nowhere"])


def test_two_vector_fields_need_a_name(goods):
    refused("multiple anns_fields exist, please specify a anns_field in search_params", goods.search, "goods", data=[[0.0] * DIM], limit=1)
    assert ids(goods.search("goods", data=[[0.0, 1.0]], anns_field="second", limit=2)[0]) == [0, 1]
    refused("failed to get field schema by name: fieldName(third) not found", goods.search, "goods", data=[[0.0]], anns_field="third", limit=1)
    refused("not of vector data type", goods.search, "goods", data=[[0.0]], anns_field="price", limit=1)


def test_ranges(goods):
    def within(anns_field="vector", data=None, **params):
        return ids(search(goods, data=data or [[0.0] * DIM], anns_field=anns_field, limit=100, search_params={"params": params})[0])

    assert within(radius=25.0) == [0, 1, 2, 3, 4]
    assert within(radius=25.0, range_filter=4.0) == [2, 3, 4]
    assert within("second", [[0.0, 1.0]], radius=97.0) == [0, 1, 2]
    assert within("second", [[0.0, 1.0]], radius=97.0, range_filter=99.0) == [1, 2]
    refused("range_filter requires radius to be set", search, goods, search_params={"params": {"range_filter": 1.0}})
    refused("metric type (L2), range_filter(5) must be less than radius(1)", search, goods, search_params={"params": {"radius": 1, "range_filter": 5}})
    refused("type must be number", search, goods, search_params={"params": {"radius": "far"}})


def test_partitions_are_searched_by_name(goods):
    goods.create_partition("goods", "extra")
    goods.insert("goods", [row(key) for key in range(100, 105)], partition_name="extra")
    assert ids(search(goods, limit=2, partition_names=["extra"])[0]) == [100, 101]
    assert ids(search(goods, limit=3, partition_names=["_default", "extra"])[0]) == [0, 1, 2]
    refused("partition name nowhere not found", search, goods, partition_names=["extra", "nowhere"])
    assert ids(search(goods, limit=3, partition_names=["extra"], group_by_field="flag")[0]) == [100, 101]


def test_growing_rows_can_be_left_out(client):
    create(client)
    client.insert("goods", [ROWS[key] for key in range(10)])
    client.flush("goods")
    client.insert("goods", [row(-1) | {"shop": "new"}])
    found = ids(search(client, data=[[-1.0, 0.0, 0.0, 0.0]], limit=1, ignore_growing=True)[0])
    # The new row is left out as long as it grows; it may have become a file by itself meanwhile.
    assert found in ([0], [-1])
    assert ids(search(client, data=[[-1.0, 0.0, 0.0, 0.0]], limit=1)[0]) == [-1]


@pytest.mark.parametrize("level", ["Strong", "Bounded", "Session", "Eventually"])
def test_every_consistency_level_sees_what_was_acknowledged(goods, level):
    for key in range(200, 220):
        goods.insert("goods", [row(key)])
        assert ids(search(goods, data=[[float(key), 0.0, 0.0, 0.0]], limit=1, consistency_level=level)[0]) == [key]
        assert goods.query("goods", ids=[key], output_fields=["id"], consistency_level=level) == [{"id": key}]


def test_a_guarantee_timestamp_ahead_of_the_clock_is_waited_for_or_refused(goods):
    def ahead(seconds):
        return int((time.time() + seconds) * 1000) << 18

    started = time.monotonic()
    assert ids(search(goods, limit=1, guarantee_timestamp=ahead(0.3), consistency_level="Customized")[0]) == [0]
    assert time.monotonic() - started >= 0.25
    refused("ahead of this server's clock", search, goods, limit=1, guarantee_timestamp=ahead(3600), consistency_level="Customized", timeout=60)


@pytest.mark.once
def test_nobody_waits_for_the_timestamps_of_others(servers):
    server = servers("one", "--searchers", "1").start()
    client = MilvusClient(server.uri)
    create(client)
    client.insert("goods", [ROWS[key] for key in range(10)])
    stub = client._get_connection()._stub

    def ahead(count, seconds):
        request = search_request()
        request.guarantee_timestamp = int((time.time() + seconds) * 1000) << 18
        return [stub.Search.future(request) for _ in range(count)]

    def answered_meanwhile():
        started = time.monotonic()
        waiting = ahead(3, 0.9)
        answered = 0
        while not any(call.done() for call in waiting):
            assert ids(search(client, limit=1)[0]) == [0]
            answered += 1
        for call in waiting:
            assert list(call.result().results.ids.int_id.data)[0] == 0
        assert time.monotonic() - started >= 0.85
        return answered

    # Held up by those that have to wait, at most one would be answered, in whatever round.
    wait_until(lambda: answered_meanwhile() >= 4, "searches that need not wait are answered while others do")

    def refusals():
        """There is an end to it: half of the places for requests stay for others."""
        reasons = [call.result().status.reason for call in ahead(80, 0.9)]
        found = [reason for reason in reasons if reason]
        assert all("too many requests wait already" in reason for reason in found)
        assert len(reasons) - len(found) >= 64
        return found

    # On a busy machine the first ones may be answered before the last ones come.
    wait_until(refusals, "some of too many are refused")
    # Those that wait are answered before a server stops.
    waiting = ahead(2, 0.9)
    assert ids(search(client, limit=1)[0]) == [0]
    server.stop()
    assert [list(call.result().results.ids.int_id.data)[0] for call in waiting] == [0, 0]
    client.close()


def pages(iterator):
    keys = []
    while True:
        page = iterator.next()
        if not page:
            iterator.close()
            return keys
        keys.extend(hit["id"] for hit in page)


@pytest.mark.parametrize("batch", [1, 7, 60, 1000])
def test_an_iterator_walks_all_rows_from_near_to_far(goods, batch):
    options = {"data": [[0.0] * DIM], "anns_field": "vector", "batch_size": batch}
    assert pages(goods.search_iterator("goods", **options)) == list(range(60))
    assert pages(goods.search_iterator("goods", filter="id % 3 == 0", **options)) == list(range(0, 60, 3))
    assert pages(goods.search_iterator("goods", limit=13, **options)) == list(range(13))
    assert pages(goods.search_iterator("goods", search_params={"params": {"radius": 400.0, "range_filter": 9.0}}, **options)) == list(range(3, 20))


def test_an_iterator_stays_on_its_snapshot(goods):
    iterator = goods.search_iterator("goods", data=[[0.0] * DIM], anns_field="vector", batch_size=5)
    assert ids(iterator.next()) == [0, 1, 2, 3, 4]
    goods.delete("goods", ids=[7, 30])
    goods.insert("goods", [ROWS[6] | {"id": 606, "vector": [6.5, 0.0, 0.0, 0.0]}])
    assert pages(iterator) == list(range(5, 60))
    assert 606 in pages(goods.search_iterator("goods", data=[[0.0] * DIM], anns_field="vector", batch_size=5))


def test_iterators_that_milvus_refuses(goods):
    error = refused("Not allowed to do groupBy when doing iteration", goods.search_iterator, "goods", data=[[0.0] * DIM], anns_field="vector", batch_size=5, group_by_field="shop")
    assert error.code == 1100
    refused("", goods.search_iterator, "goods", data=[[0.0] * DIM] * 2, anns_field="vector", batch_size=5)
    refused("Offset is not supported", goods.search_iterator, "goods", data=[[0.0] * DIM], anns_field="vector", batch_size=5, offset=3)


def search_request(*pairs):
    """A search with parameters as they are, past the client's own checks."""
    from pymilvus.client.prepare import Prepare
    from pymilvus.grpc_gen import common_pb2

    request = Prepare.search_requests_with_expr("goods", "vector", {"params": {}}, 5, data=[[0.0] * DIM])
    request.search_params.extend(common_pb2.KeyValuePair(key=key, value=value) for key, value in pairs)
    return request


def raw_search(client, *pairs):
    return client._get_connection()._stub.Search(search_request(*pairs))


def test_pages_of_iterators_are_checked_by_the_server(goods):
    page = [("iterator", "True"), ("search_iter_v2", "True"), ("search_iter_batch_size", "5")]
    first = raw_search(goods, *page)
    results = first.results.search_iterator_v2_results
    assert first.status.code == 0 and list(first.results.ids.int_id.data) == [0, 1, 2, 3, 4] and results.last_bound == 16.0
    second = raw_search(goods, *page, ("search_iter_id", results.token), ("search_iter_last_bound", str(results.last_bound)))
    assert list(second.results.ids.int_id.data) == [5, 6, 7, 8, 9]
    assert second.results.search_iterator_v2_results.token == results.token
    for wrong, text in [
        ([("search_iter_v2", "True"), ("search_iter_batch_size", "5")], "both iterator and search_iter_v2 must be set in the SDK"),
        ([*page, ("offset", "3")], "Setting an offset is not permitted when using a search iterator v2"),
        ([*page, ("search_iter_id", "no-uuid")], "invalid token format"),
        (page[:2], "batch size is required"),
        ([*page[:2], ("search_iter_batch_size", "0")], "batch size"),
        ([*page, ("search_iter_last_bound", "far")], "failed to parse input last bound"),
    ]:
        assert text in raw_search(goods, *wrong).status.reason, wrong


@pytest.mark.once
def test_the_first_generation_of_iterators_pages_by_ranges(goods):
    from pymilvus.client.iterator import search_iterator

    v1 = search_iterator.SearchIterator(
        goods._get_connection(),
        None,
        "goods",
        [[0.0] * DIM],
        "vector",
        {"metric_type": "L2", "params": {}},
        batch_size=7,
        schema=goods._get_connection().describe_collection("goods"),
    )
    assert pages(v1) == list(range(60))


def test_what_a_search_does_not_do_yet_is_named(goods):
    refused("not supported", search, goods, order_by_fields=[{"field": "price", "order": "asc"}])


def test_hints_that_change_no_result_are_taken(goods):
    plain = ids(search(goods, filter="id > 7")[0])
    for hints in ["iterative_filter", "disable"]:
        assert ids(search(goods, filter="id > 7", search_params={"hints": hints})[0]) == plain
        assert ids(search(goods, filter="id > 7", search_params={"params": {"hints": hints}})[0]) == plain
    refused("hints: faster not supported", search, goods, search_params={"hints": "faster"}, code=65535)
    refused('hints: "faster" not supported', search, goods, search_params={"params": {"hints": "faster"}})
    refused("hints: 3 not supported", search, goods, search_params={"params": {"hints": 3}})
