"""Scalar fields of every type: nulls, defaults, limits, arrays, timestamps, automatic ids, through every kind of file."""

import random

import numpy as np
import pytest
from pymilvus import DataType, MilvusClient

from conftest import refused

DIM = 2
SCALARS = {
    "b": (DataType.BOOL, {}, [True, False]),
    "i8": (DataType.INT8, {}, [-128, 0, 127]),
    "i16": (DataType.INT16, {}, [-32768, 5, 32767]),
    "i32": (DataType.INT32, {}, [-(2**31), 7, 2**31 - 1]),
    "i64": (DataType.INT64, {}, [-(2**63), 9, 2**63 - 1]),
    "f": (DataType.FLOAT, {}, [-1.5, 0.0, 2.25]),
    "d": (DataType.DOUBLE, {}, [0.1, -1e300, 3.0]),
    "s": (DataType.VARCHAR, {"max_length": 32}, ["", "apple", "bänana"]),
    "j": (DataType.JSON, {}, [{"a": 1}, [1, 2], {}]),
    "t": (DataType.TIMESTAMPTZ, {}, ["1970-01-01T00:00:00Z", "2025-01-01T08:00:00.5Z", "9999-12-31T23:46:05Z"]),
}
ELEMENTS = {
    "ab": (DataType.BOOL, [True, False]),
    "a8": (DataType.INT8, [-128, 127, 3]),
    "a16": (DataType.INT16, [-32768, 32767, 3]),
    "a32": (DataType.INT32, [-(2**31), 2**31 - 1, 3]),
    "a64": (DataType.INT64, [-(2**63), 2**63 - 1, 3]),
    "af": (DataType.FLOAT, [0.5, -2.25]),
    "ad": (DataType.DOUBLE, [0.1, -1e300]),
    "as": (DataType.VARCHAR, ["", "x", "äöü"]),
}


def make(client, name, add_fields, **keywords):
    schema = MilvusClient.create_schema(**{key: keywords.pop(key) for key in ["enable_dynamic_field"] if key in keywords})
    add_fields(schema)
    if not any(field.dtype == DataType.FLOAT_VECTOR for field in schema.fields):
        schema.add_field("v", DataType.FLOAT_VECTOR, dim=DIM)
    indexes = client.prepare_index_params()
    indexes.add_index("v", metric_type="L2", index_type="FLAT")
    client.create_collection(name, schema=schema, index_params=indexes, **keywords)


def with_fields(**fields):
    def add(schema):
        schema.add_field("id", DataType.INT64, is_primary=True)
        for name, arguments in fields.items():
            schema.add_field(name, **arguments)

    return add


def everything(schema):
    schema.add_field("id", DataType.INT64, is_primary=True)
    for name, (data_type, params, _) in SCALARS.items():
        schema.add_field(name, data_type, nullable=True, **params)
    for name, (element_type, _) in ELEMENTS.items():
        schema.add_field(name, DataType.ARRAY, element_type=element_type, max_capacity=8, max_length=32, nullable=True)


def random_rows(keys, seed):
    choose = random.Random(seed)
    rows = []
    for key in keys:
        row = {"id": key, "v": [float(key), 1.0]}
        for name, (_, _, values) in SCALARS.items():
            row[name] = choose.choice([*values, None])
        for name, (_, values) in ELEMENTS.items():
            row[name] = choose.choice([None, [], [choose.choice(values) for _ in range(choose.randrange(9))]])
        rows.append(row)
    return rows


def check(client, name, rows):
    found = client.query(name, filter="id >= 0", output_fields=["*"], limit=1000)
    expected = sorted(rows, key=lambda row: row["id"])
    assert [row["id"] for row in found] == [row["id"] for row in expected]
    for got, want in zip(found, expected):
        for field, value in want.items():
            answer = got[field]
            if field == "v" or field in ELEMENTS and answer is not None:
                answer = list(answer)
            assert answer == value, f"row {want['id']}, field {field}: {answer!r}, not {value!r}"


def test_every_type_survives_flush_merge_restart_and_kill(servers):
    server = servers("types", "--searchers", "1").start()
    client = MilvusClient(server.uri)
    make(client, "c", everything)
    rows = {row["id"]: row for row in random_rows(range(60), 1)}
    client.insert("c", list(rows.values()))
    check(client, "c", rows.values())
    client.flush("c")
    check(client, "c", rows.values())
    more = {row["id"]: row for row in random_rows(range(40, 100), 2)}
    client.upsert("c", list(more.values()))
    rows |= more
    check(client, "c", rows.values())
    client.flush("c")
    client.compact("c")
    check(client, "c", rows.values())
    last = {row["id"]: row for row in random_rows(range(100, 110), 3)}
    client.insert("c", list(last.values()))
    rows |= last
    client.close()
    server.kill().start()
    client = MilvusClient(server.uri)
    check(client, "c", rows.values())
    hits = client.search("c", data=[[3.0, 1.0]], limit=1, output_fields=["*"])[0]
    assert list(hits[0]["entity"]["a64"] or []) == (rows[3]["a64"] or [])
    assert hits[0]["entity"]["t"] == rows[3]["t"]
    client.close()
    server.stop()


def test_filters_on_arrays(client):
    make(client, "c", everything)
    rows = random_rows(range(200), 7)
    client.insert("c", rows[:120])
    client.flush("c")
    client.insert("c", rows[120:])

    def expect(text, claim, **keywords):
        found = {row["id"] for row in client.query("c", filter=text, output_fields=["id"], limit=1000, **keywords)}
        assert found == {row["id"] for row in rows if claim(row)}, text

    def of(name, claim):
        return lambda row: row[name] is not None and claim(row[name])

    expect("array_contains(a64, 3)", of("a64", lambda a: 3 in a))
    expect("ARRAY_CONTAINS(as, 'äöü')", of("as", lambda a: "äöü" in a))
    expect("not array_contains(a8, 127)", of("a8", lambda a: 127 not in a))
    expect("array_contains_all(a16, [-32768, 32767])", of("a16", lambda a: {-32768, 32767} <= set(a)))
    expect("array_contains_any(a32, [3, 2147483647])", of("a32", lambda a: {3, 2**31 - 1} & set(a)))
    expect("json_contains(ab, true)", of("ab", lambda a: True in a))
    expect("json_contains_any(ad, [0.1])", of("ad", lambda a: 0.1 in a))
    expect("array_length(af) == 0", of("af", lambda a: len(a) == 0))
    expect("array_length(as) >= 3", of("as", lambda a: len(a) >= 3))
    expect("a64[0] == 3", of("a64", lambda a: a and a[0] == 3))
    expect("a64[1] != 3", of("a64", lambda a: len(a) > 1 and a[1] != 3))
    expect("as[0] in ['x', '']", of("as", lambda a: a and a[0] in ("x", "")))
    expect("as[2] like 'ä%'", of("as", lambda a: len(a) > 2 and a[2].startswith("ä")))
    expect("af[0] < 0", of("af", lambda a: a and a[0] < 0))
    expect("-200 < a8[0] <= 3", of("a8", lambda a: a and -200 < a[0] <= 3))
    expect("a16[0] + 1 == 4", of("a16", lambda a: a and a[0] == 3))
    expect("a8 is null", lambda row: row["a8"] is None)
    expect("a8 is not null and array_length(a8) > 6", of("a8", lambda a: len(a) > 6))
    expect("a8 == [3]", of("a8", lambda a: a == [3]))
    expect("a64[0] in {ids}", of("a64", lambda a: a and a[0] in (3, 4)), filter_params={"ids": [3, 4]})
    refused("can not comparisons array fields directly", client.query, "c", filter="a64 > 1", code=1100)
    refused("ContainsAll operation element must be an array", client.query, "c", filter="array_contains_all(a64, 1)", code=1100)
    refused("IsNull/IsNotNull operations are not supported on array element access", client.query, "c", filter="a64[0] is null")


def test_wrong_arrays_are_refused(client):
    def create(**arguments):
        return lambda: make(client, "bad", with_fields(a={"datatype": DataType.ARRAY, **arguments}))

    refused("type param(max_capacity) should be specified", create(element_type=DataType.INT8))
    refused("the maximum capacity specified for a Array should be in (0, 4096]", create(element_type=DataType.INT8, max_capacity=4097))
    refused("type param(max_length) should be specified for the field(a)", create(element_type=DataType.VARCHAR, max_capacity=4))
    refused("element type JSON is not supported", create(element_type=DataType.JSON, max_capacity=4))
    make(client, "c", with_fields(
        a={"datatype": DataType.ARRAY, "element_type": DataType.INT8, "max_capacity": 3},
        s={"datatype": DataType.ARRAY, "element_type": DataType.VARCHAR, "max_capacity": 3, "max_length": 4},
    ))
    row = {"id": 1, "v": [0.0] * DIM, "a": [1], "s": ["x"]}
    refused("array length exceeds max capacity", client.insert, "c", [row | {"a": [1, 2, 3, 4]}], code=1100)
    refused('length of Array array field "s" exceeds max length', client.insert, "c", [row | {"s": ["12345"]}], code=1100)
    refused("the 0th element (128) out of range: [-128, 127]", client.insert, "c", [row | {"a": [128]}], code=1100)
    client.insert("c", [row])
    assert client.query("c", filter="id == 1", output_fields=["a"])[0]["a"] == [1]


def test_timestamps_are_of_the_collections_zone_and_answered_in_the_requests(client):
    make(client, "c", with_fields(t={"datatype": DataType.TIMESTAMPTZ, "nullable": True}), properties={"timezone": "America/New_York"})
    assert client.describe_collection("c")["properties"]["timezone"] == "America/New_York"
    times = ["2025-01-01T00:00:00", "2025-01-01 00:00:00Z", "2025-07-01T12:00:00.25+05:30", None]
    client.insert("c", [{"id": index, "v": [0.0] * DIM, "t": time} for index, time in enumerate(times)])

    def shown(**keywords):
        return [row["t"] for row in client.query("c", filter="id >= 0", output_fields=["t"], **keywords)]

    own = ["2025-01-01T00:00:00-05:00", "2024-12-31T19:00:00-05:00", "2025-07-01T02:30:00.25-04:00", None]
    assert shown() == own
    assert shown(timezone="Asia/Shanghai") == ["2025-01-01T13:00:00+08:00", "2025-01-01T08:00:00+08:00", "2025-07-01T14:30:00.25+08:00", None]
    assert [list(parts) if parts else None for parts in shown(timezone="UTC", time_fields="year, hour")] == [[2025, 5], [2025, 0], [2025, 6], None]
    hits = client.search("c", data=[[0.0] * DIM], limit=4, output_fields=["t"], timezone="UTC")[0]
    assert {hit["entity"]["t"] for hit in hits} == {"2025-01-01T05:00:00Z", "2025-01-01T00:00:00Z", "2025-07-01T06:30:00.25Z", None}

    def ids(text, **keywords):
        return [row["id"] for row in client.query("c", filter=text, output_fields=["id"], **keywords)]

    assert ids("t == ISO '2025-01-01T00:00:00'") == [0]
    assert ids("t == ISO '2025-01-01T00:00:00'", timezone="UTC") == [1]
    assert ids("t > ISO '2025-01-01T00:00:00Z'") == [0, 2]
    assert ids("ISO '2025-01-01T00:00:00Z' >= t") == [1]
    assert ids("t + INTERVAL 'P1D' >= ISO '2025-01-02T05:00:00Z'") == [0, 2]
    assert ids("t - INTERVAL 'P1M' == ISO '2025-06-01T06:30:00.25Z'") == [2]
    assert ids("t != ISO '2025-01-01T00:00:00Z'") == [0, 2]
    assert ids("t is null") == [3]
    assert client.delete("c", filter="t == ISO '2025-01-01T00:00:00'")["delete_count"] == 1
    assert ids("id >= 0") == [1, 2, 3]
    refused("unknown or invalid IANA Time Zone ID: Mars/Olympus", client.query, "c", filter="id >= 0", timezone="Mars/Olympus", code=1100)
    refused("unknown or invalid IANA Time Zone ID: x", client.alter_collection_properties, "c", properties={"timezone": "x"}, code=1100)
    refused("invalid timestamp string: 'soon'. Does not match any known format", client.query, "c", filter="t > ISO 'soon'", code=1100)
    for wrong in ["invalid_time_format", "2025-04-31 00:00:00", "2025-02-29 00:00:00", "2025-01-01T00:00:00+24:00"]:
        text = f"got invalid timestamptz string '{wrong}': invalid timezone name; must be a valid IANA Time Zone ID (e.g., 'Asia/Shanghai' or 'UTC'): invalid parameter"
        refused(text, client.insert, "c", [{"id": 9, "v": [0.0] * DIM, "t": wrong}], code=1100)


def test_another_zone_does_not_move_what_the_log_holds(servers):
    server = servers("zones", "--searchers", "1").start()
    client = MilvusClient(server.uri)
    make(client, "c", with_fields(t={"datatype": DataType.TIMESTAMPTZ}), properties={"timezone": "Asia/Tokyo"})
    client.insert("c", [{"id": 1, "v": [0.0] * DIM, "t": "2025-01-01T09:00:00"}])
    client.alter_collection_properties("c", properties={"timezone": "Asia/Shanghai"})
    client.insert("c", [{"id": 2, "v": [0.0] * DIM, "t": "2025-01-01T09:00:00"}])
    client.close()
    server.kill().start()
    client = MilvusClient(server.uri)
    rows = client.query("c", filter="id > 0", output_fields=["t"], timezone="UTC")
    assert [row["t"] for row in rows] == ["2025-01-01T00:00:00Z", "2025-01-01T01:00:00Z"]
    client.close()
    server.stop()


def test_a_collection_inherits_its_databases_zone(client):
    client.create_database("zoned", properties={"timezone": "Europe/Berlin"})
    client.use_database("zoned")
    make(client, "c", with_fields(t={"datatype": DataType.TIMESTAMPTZ, "default_value": "2025-06-01T00:00:00"}))
    assert client.describe_collection("c")["properties"]["timezone"] == "Europe/Berlin"
    client.insert("c", [{"id": 1, "v": [0.0] * DIM}])
    assert client.query("c", filter="id == 1", output_fields=["t"])[0]["t"] == "2025-06-01T00:00:00+02:00"
    refused("unknown or invalid IANA Time Zone ID: nowhere", client.alter_database_properties, "zoned", properties={"timezone": "nowhere"})
    client.drop_collection("c")
    client.use_database("default")
    client.drop_database("zoned")


# Plain numbers are 64 bits wide to the client; the type of a default must be the field's.
DEFAULTS = {"b": True, "i8": np.int8(-5), "i16": np.int16(300), "i32": np.int32(70000), "i64": 2**40, "f": np.float32(1.5), "d": 0.1, "s": "none", "t": "2025-01-01T00:00:00Z"}


@pytest.mark.parametrize("nullable", [False, True])
def test_defaults_take_the_place_of_missing_and_null_values(client, nullable):
    fields = {name: {"datatype": SCALARS[name][0], **SCALARS[name][1], "nullable": nullable, "default_value": default} for name, default in DEFAULTS.items()}
    make(client, "c", with_fields(**fields))
    described = {field["name"]: field for field in client.describe_collection("c")["fields"]}
    assert all("default_value" in described[name] for name in DEFAULTS)
    given = {name: SCALARS[name][2][0] for name in DEFAULTS}
    client.insert("c", [{"id": 1, "v": [0.0] * DIM}])
    client.insert("c", [{"id": 2, "v": [0.0] * DIM, **{name: None for name in DEFAULTS}}, {"id": 3, "v": [0.0] * DIM, **given}])
    for _ in range(2):
        rows = client.query("c", filter="id > 0", output_fields=list(DEFAULTS))
        assert [{name: row[name] for name in DEFAULTS} for row in rows] == [DEFAULTS, DEFAULTS, given]
        assert [row["id"] for row in client.query("c", filter="i8 == -5 and s == 'none' and b == true and i64 is not null", output_fields=["id"])] == [1, 2]
        client.flush("c")


def test_nulls_and_defaults_are_checked(client):
    def create(**arguments):
        return lambda: make(client, "bad", with_fields(x=arguments))

    refused("type not support default_value, type:JSON", create(datatype=DataType.JSON, default_value="{}"))
    # Milvus refuses a plain 5 for Int8; Milvus Lite takes it, and so does this server (test_vectors.py).
    refused("[128] is out of range: default value should be in [-128, 127]", create(datatype=DataType.INT8, default_value=128))
    refused("type (Int32) of field (x) is not equal to the type(DataType_VarChar) of default_value", create(datatype=DataType.INT32, default_value="five"))
    refused("exceeds max length", create(datatype=DataType.VARCHAR, max_length=3, default_value="four"))
    refused("invalid timestamp string: 'timestamp'. Does not match any known format", create(datatype=DataType.TIMESTAMPTZ, default_value="timestamp"))
    refused("type (Timestamptz) of field (x) is not equal to the type(DataType_Int64) of default_value: invalid parameter", create(datatype=DataType.TIMESTAMPTZ, default_value=10))
    make(client, "c", with_fields(n={"datatype": DataType.INT32}, s={"datatype": DataType.VARCHAR, "max_length": 4}, i={"datatype": DataType.INT8}))
    row = {"id": 1, "v": [0.0] * DIM, "n": 1, "s": "x", "i": 1}
    for name in ["n", "s", "i"]:
        missing = {key: value for key, value in row.items() if key != name}
        refused(f"Insert missed an field `{name}` to collection without set nullable==true or set default_value", client.insert, "c", [missing])
    refused("length of varchar field s exceeds max length, row number: 0, length: 5, max length: 4", client.insert, "c", [row | {"s": "ääa"}], code=1100)
    refused("the 0th element (128) out of range: [-128, 127]", client.insert, "c", [row | {"i": 128}], code=1100)
    refused("without enabling dynamic field", client.insert, "c", [row | {"extra": 1}])


def test_limits_of_documents_and_dynamic_rows(client):
    make(client, "c", with_fields(j={"datatype": DataType.JSON}), enable_dynamic_field=True)
    row = {"id": 1, "v": [0.0] * DIM, "j": {}}
    client.insert("c", [row | {"j": {"x": "x" * 65528}}])
    refused("of json field (j) exceeds max length (65536)", client.insert, "c", [row | {"j": {"x": "x" * 65529}}], code=1100)
    refused("of dynamic field exceeds max length (65536)", client.insert, "c", [row | {"long": "x" * 65536}], code=1100)
    refused("nested deeper than 100", client.insert, "c", [row | {"j": "[" * 101 + "]" * 101}])


def test_limits_of_fields_and_names(client):
    def create(add_fields):
        return lambda: make(client, "bad", add_fields)

    def many(count):
        return with_fields(**{f"n{index}": {"datatype": DataType.BOOL} for index in range(count)})

    refused("maximum field's number should be limited to 64", create(many(63)))
    make(client, "wide", many(62))
    for name, text in {
        "1st": "The first character of a field name must be an underscore or letter",
        "a-b": "Field name can only contain numbers, letters, and underscores",
        "x" * 256: "The length of a field name must be less than 255 characters",
        "RowID": "schema contains system field",
        "Timestamp": "schema contains system field",
        "like": "",
    }.items():
        refused(text, create(with_fields(**{name: {"datatype": DataType.BOOL}})))
    refused("duplicated field name", create(lambda schema: [with_fields(x={"datatype": DataType.BOOL})(schema), schema.add_field("x", DataType.INT8)]))
    assert client.list_collections() == ["wide"]


@pytest.mark.parametrize("key_type", [DataType.INT64, DataType.VARCHAR])
def test_automatic_ids(client, key_type):
    def fields(schema):
        schema.add_field("id", key_type, is_primary=True, auto_id=True, max_length=32)

    make(client, "c", fields)
    made = client.insert("c", [{"v": [float(index)] * DIM} for index in range(5)])["ids"]
    assert len(set(made)) == 5 and all(isinstance(key, int if key_type == DataType.INT64 else str) for key in made)
    assert [row["id"] for row in client.get("c", ids=list(made))] == sorted(made)
    key = 77 if key_type == DataType.INT64 else "seventy-seven"
    with pytest.raises(Exception, match="id"):
        client.insert("c", [{"id": key, "v": [9.0] * DIM}])
    # An upsert names what it replaces; the new row has an id of its own.
    replaced = client.upsert("c", [{"id": made[0], "v": [8.0] * DIM}])
    assert client.get("c", ids=[made[0]]) == []
    assert client.search("c", data=[[8.0] * DIM], limit=1)[0][0]["id"] == list(replaced["primary_keys" if "primary_keys" in replaced else "ids"])[0]
    client.alter_collection_properties("c", properties={"allow_insert_auto_id": "true"})
    assert list(client.insert("c", [{"id": key, "v": [9.0] * DIM}])["ids"]) == [key]
    assert len(client.insert("c", [{"v": [7.0] * DIM}])["ids"]) == 1
    client.upsert("c", [{"id": key, "v": [6.0] * DIM}])
    assert [row["v"][0] for row in client.get("c", ids=[key], output_fields=["v"])] == [6.0]
    assert client.query("c", output_fields=["count(*)"])[0]["count(*)"] == 7
