"""Every vector type: in, searched exactly, out; across flush, restart and kill; nulls; what is refused."""

import ml_dtypes
import numpy as np
import pytest
from pymilvus import DataType, MilvusClient, MilvusException

DIM = 24
ROWS = 600

FLOATS = [DataType.FLOAT_VECTOR, DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR, DataType.INT8_VECTOR]
DTYPES = {
    DataType.FLOAT_VECTOR: np.float32,
    DataType.FLOAT16_VECTOR: np.float16,
    DataType.BFLOAT16_VECTOR: ml_dtypes.bfloat16,
    DataType.INT8_VECTOR: np.int8,
}
NAMES = {
    DataType.FLOAT_VECTOR: "single",
    DataType.FLOAT16_VECTOR: "half",
    DataType.BFLOAT16_VECTOR: "brain",
    DataType.INT8_VECTOR: "tiny",
    DataType.BINARY_VECTOR: "bits",
}


def vectors(count, data_type, seed=1, dim=DIM):
    """Vectors as numpy has them; of bits, one row of bytes each."""
    random = np.random.default_rng(seed)
    if data_type == DataType.BINARY_VECTOR:
        return random.integers(0, 256, (count, dim // 8), dtype=np.uint8)
    if data_type == DataType.INT8_VECTOR:
        return random.integers(-128, 128, (count, dim)).astype(np.int8)
    return random.standard_normal((count, dim)).astype(DTYPES[data_type])


def sent(vector):
    """A vector as pymilvus wants it."""
    if vector.dtype == np.float32:
        return vector.tolist()
    return vector.tobytes() if vector.dtype == np.uint8 else vector


def returned(value, data_type):
    """A vector of an answer as numpy has it."""
    if data_type == DataType.FLOAT_VECTOR:
        return np.array(value, dtype=np.float32)
    raw = b"".join(value) if isinstance(value, list) and value and isinstance(value[0], bytes) else bytes(value)
    return np.frombuffer(raw, dtype=np.uint8 if data_type == DataType.BINARY_VECTOR else DTYPES[data_type])


def distances(metric, query, base):
    """What the documents say, in double precision."""
    if metric in ("HAMMING", "JACCARD"):
        query, base = np.unpackbits(query), np.unpackbits(base, axis=1)
        different = (query != base).sum(axis=1)
        return different if metric == "HAMMING" else different / np.maximum((query | base).sum(axis=1), 1)
    query, base = query.astype(np.float64), base.astype(np.float64)
    if metric == "L2":
        return ((base - query) ** 2).sum(axis=1)
    products = base @ query
    return products if metric == "IP" else products / np.linalg.norm(base, axis=1) / np.linalg.norm(query)


def create(client, name, fields, nullable=False, **metrics):
    """A collection of `pk` and these vector fields (name: type), each with its metric."""
    schema = client.create_schema()
    schema.add_field("pk", DataType.INT64, is_primary=True)
    indexes = client.prepare_index_params()
    for field, data_type in fields.items():
        schema.add_field(field, data_type, dim=DIM, nullable=nullable)
        indexes.add_index(field, index_type="AUTOINDEX", metric_type=metrics.get(field, default_metric(data_type)))
    client.create_collection(name, schema=schema, index_params=indexes)


def default_metric(data_type):
    return "HAMMING" if data_type == DataType.BINARY_VECTOR else "COSINE"


def check_search(client, name, field, data_type, metric, base, present=None):
    """Searches with rows of the base and foreign vectors: hits and scores are those of numpy."""
    present = np.arange(len(base)) if present is None else present
    queries = np.concatenate([base[present][:2], vectors(3, data_type, seed=99)])
    found = client.search(name, [sent(query) for query in queries], anns_field=field, limit=20)
    for query, hits in zip(queries, found):
        truth = distances(metric, query, base[present])
        best = np.sort(truth) if metric in ("L2", "HAMMING", "JACCARD") else np.sort(truth)[::-1]
        scale = max(1.0, np.abs(best[:20]).max())
        assert [hit["distance"] for hit in hits] == pytest.approx(best[:20].tolist(), abs=2e-5 * scale)
        by_key = dict(zip(present.tolist(), truth.tolist()))
        for hit in hits:
            assert hit["distance"] == pytest.approx(by_key[hit["pk"]], abs=2e-5 * scale)


@pytest.mark.parametrize(
    "data_type, metric",
    [(data_type, metric) for data_type in FLOATS for metric in ("L2", "IP", "COSINE")]
    + [(DataType.BINARY_VECTOR, "HAMMING"), (DataType.BINARY_VECTOR, "JACCARD")],
)
def test_each_type_and_metric_is_searched_exactly(client, data_type, metric):
    create(client, "exact", {"v": data_type}, v=metric)
    base = vectors(ROWS, data_type)
    for start in range(0, ROWS, 200):
        client.insert("exact", [{"pk": key, "v": sent(base[key])} for key in range(start, start + 200)])
        if start == 0:
            client.flush("exact")
    check_search(client, "exact", "v", data_type, metric, base)
    for row in client.get("exact", ids=[0, 250, 599]):
        assert np.array_equal(returned(row["v"], data_type), base[row["pk"]])
    hits = client.search("exact", [sent(base[7])], anns_field="v", limit=1, output_fields=["v"])[0]
    assert np.array_equal(returned(hits[0]["entity"]["v"], data_type), base[hits[0]["pk"]])


EVERY = [*FLOATS, DataType.BINARY_VECTOR]


@pytest.mark.parametrize("nullable", [False, True])
def test_every_type_survives_flush_restart_and_kill(servers, nullable):
    server = servers("vectors", "--searchers", "1").start()
    client = MilvusClient(server.uri)
    types = {NAMES[data_type]: data_type for data_type in EVERY}
    metrics = {"single": "L2", "half": "IP", "brain": "COSINE", "tiny": "L2", "bits": "JACCARD"}
    create(client, "all", types, nullable, **metrics)
    bases = {name: vectors(ROWS, data_type, seed=index) for index, (name, data_type) in enumerate(types.items())}
    # A field of its own is null in every third row, shifted by field.
    holds = {name: np.array([not nullable or (key + index) % 3 != 0 for key in range(ROWS)]) for index, name in enumerate(types)}

    def row(key):
        cells = {name: sent(bases[name][key]) if holds[name][key] else None for name in types}
        if nullable and key % 2:
            cells = {name: cell for name, cell in cells.items() if cell is not None}
        return {"pk": key, **cells}

    def check():
        for name, data_type in types.items():
            check_search(client, "all", name, data_type, metrics[name], bases[name], np.flatnonzero(holds[name]))
        found = client.query("all", filter="pk >= 0", limit=ROWS, output_fields=["*"])
        assert [entity["pk"] for entity in found] == list(range(ROWS))
        for entity in found:
            for name, data_type in types.items():
                if holds[name][entity["pk"]]:
                    assert np.array_equal(returned(entity[name], data_type), bases[name][entity["pk"]])
                else:
                    assert entity[name] is None

    client.insert("all", [row(key) for key in range(300)])
    client.flush("all")
    client.insert("all", [row(key) for key in range(300, ROWS)])
    client.upsert("all", [row(key) for key in range(100, 400)])
    check()
    server.stop().start()
    client = MilvusClient(server.uri)
    check()
    client.upsert("all", [row(key) for key in range(0, 50)])
    server.kill().start()
    client = MilvusClient(server.uri)
    check()
    client.flush("all")
    check()


def test_rows_without_a_vector_are_never_hits(client):
    create(client, "holes", {"v": DataType.FLOAT_VECTOR}, nullable=True, v="L2")
    client.insert("holes", [{"pk": key, "v": None} for key in range(20)])
    assert client.search("holes", [[0.0] * DIM], limit=10)[0] == []
    client.insert("holes", [{"pk": 20, "v": [1.0] * DIM}, {"pk": 21}])
    for _ in range(2):
        assert [hit["pk"] for hit in client.search("holes", [[0.0] * DIM], limit=10)[0]] == [20]
        assert [hit["pk"] for hit in client.search("holes", [[0.0] * DIM], limit=10, filter="pk > 20")[0]] == []
        assert client.query("holes", filter="pk in [20, 21]", output_fields=["v"])[1]["v"] is None
        assert client.query("holes", output_fields=["count(*)"])[0]["count(*)"] == 22
        client.flush("holes")
    with pytest.raises(MilvusException, match="IsNull/IsNotNull operations are not supported on vector fields"):
        client.query("holes", filter="v is null", output_fields=["pk"])
    # A vector that is taken away, and one that is given.
    client.upsert("holes", [{"pk": 20, "v": None}, {"pk": 3, "v": [2.0] * DIM}])
    assert [hit["pk"] for hit in client.search("holes", [[0.0] * DIM], limit=10)[0]] == [3]


def test_a_vector_field_can_be_added(client):
    create(client, "grown", {"v": DataType.FLOAT_VECTOR}, v="L2")
    client.insert("grown", [{"pk": key, "v": [float(key)] * DIM} for key in range(10)])
    client.flush("grown")
    client.insert("grown", [{"pk": key, "v": [float(key)] * DIM} for key in range(10, 20)])
    with pytest.raises(MilvusException, match="nullable"):
        client.add_collection_field("grown", "w", DataType.INT8_VECTOR, dim=DIM)
    client.add_collection_field("grown", "w", DataType.INT8_VECTOR, dim=DIM, nullable=True)
    assert [row["w"] for row in client.get("grown", ids=[3, 13], output_fields=["w"])] == [None, None]
    indexes = client.prepare_index_params()
    indexes.add_index("w", index_type="AUTOINDEX", metric_type="L2")
    client.create_index("grown", indexes)
    ones = np.ones(DIM, dtype=np.int8)
    client.insert("grown", [{"pk": 20, "v": [1.0] * DIM, "w": ones}, {"pk": 21, "v": [1.0] * DIM}])
    for _ in range(2):
        assert [hit["pk"] for hit in client.search("grown", [ones], anns_field="w", limit=5)[0]] == [20]
        assert len(client.search("grown", [[1.0] * DIM], anns_field="v", limit=30)[0]) == 22
        client.flush("grown")


@pytest.mark.parametrize("data_type", [DataType.FLOAT16_VECTOR, DataType.BFLOAT16_VECTOR])
def test_float_lists_are_rounded_for_16_bit_fields(client, data_type):
    create(client, "rounded", {"v": data_type}, v="L2")
    exact = np.random.default_rng(3).standard_normal((50, DIM)).astype(np.float32)
    client.insert("rounded", [{"pk": key, "v": exact[key].tolist()} for key in range(50)])
    stored = exact.astype(DTYPES[data_type])
    assert np.array_equal(returned(client.get("rounded", ids=[9])[0]["v"], data_type), stored[9])
    # The query is rounded as the row was: they are equal.
    assert client.search("rounded", [exact[9].tolist()], limit=1)[0][0]["distance"] == 0.0
    with pytest.raises(MilvusException, match="is not a number or infinity"):
        client.insert("rounded", [{"pk": 1, "v": [float("nan")] * DIM}])


def test_searching_by_keys_range_and_pages_of_each_type(client):
    types = {NAMES[data_type]: data_type for data_type in EVERY}
    create(client, "ways", types, single="L2", half="L2", brain="L2", tiny="L2", bits="HAMMING")
    bases = {name: vectors(100, data_type, seed=5) for name, data_type in types.items()}
    client.insert("ways", [{"pk": key, **{name: sent(bases[name][key]) for name in types}} for key in range(100)])
    for name, data_type in types.items():
        by_vector = client.search("ways", [sent(bases[name][4])], anns_field=name, limit=5)[0]
        by_key = client.search("ways", ids=[4], anns_field=name, limit=5)[0]
        assert list(by_key) == list(by_vector)
        bound = by_vector[3]["distance"]
        within = {"radius": bound, "range_filter": 0.0}
        ranged = client.search("ways", [sent(bases[name][4])], anns_field=name, limit=50, search_params={"params": within})[0]
        metric = "HAMMING" if data_type == DataType.BINARY_VECTOR else "L2"
        truth = distances(metric, bases[name][4], bases[name])
        assert len(ranged) == (truth.astype(np.float32) < np.float32(bound)).sum()
        second = client.search("ways", [sent(bases[name][4])], anns_field=name, limit=3, offset=2)[0]
        assert [hit["distance"] for hit in second] == [hit["distance"] for hit in by_vector][2:5]


def test_jaccard_and_hamming_of_empty_and_equal_vectors(client):
    for metric, want in [("HAMMING", [(2, 0.0), (1, 24.0)]), ("JACCARD", [(2, 1.0), (1, 1.0)])]:
        create(client, metric.lower(), {"v": DataType.BINARY_VECTOR}, v=metric)
        client.insert(metric.lower(), [{"pk": 1, "v": b"\xff" * 3}, {"pk": 2, "v": b"\0" * 3}])
        found = client.search(metric.lower(), [b"\0" * 3], limit=2)[0]
        assert sorted((hit["pk"], hit["distance"]) for hit in found) == sorted(want)
        assert client.search(metric.lower(), [b"\xff" * 3], limit=1)[0][0] == {"pk": 1, "distance": 0.0, "entity": {}}


def test_what_binary_vectors_cannot_do_is_refused(client):
    create(client, "bits", {"v": DataType.BINARY_VECTOR})
    client.insert("bits", [{"pk": 1, "v": b"abc"}])
    with pytest.raises(MilvusException, match="not support search_group_by operation based on binary vector column"):
        client.search("bits", [b"abc"], limit=1, group_by_field="pk")
    with pytest.raises(MilvusException, match="HNSW"):
        indexes = client.prepare_index_params()
        indexes.add_index("v", index_type="HNSW", metric_type="HAMMING", params={"M": 16, "efConstruction": 100})
        client.release_collection("bits")
        client.drop_index("bits", "v")
        client.create_index("bits", indexes)


def test_ten_vector_fields_have_metrics_of_their_own_and_eleven_are_refused(client):
    ten = {f"v{index}": EVERY[index % 5] for index in range(10)}
    metrics = {"v0": "L2", "v1": "IP", "v2": "L2", "v3": "COSINE", "v4": "JACCARD", "v5": "IP", "v9": "HAMMING"}
    create(client, "ten", ten, **metrics)
    bases = {name: vectors(50, data_type, seed=8) for name, data_type in ten.items()}
    client.insert("ten", [{"pk": key, **{name: sent(bases[name][key]) for name in ten}} for key in range(50)])
    for name, data_type in ten.items():
        check_search(client, "ten", name, data_type, metrics.get(name, default_metric(data_type)), bases[name])
    with pytest.raises(MilvusException, match="multiple anns_fields exist, please specify a anns_field"):
        client.search("ten", [[0.0] * DIM], limit=1)
    with pytest.raises(MilvusException, match="maximum vector field's number should be limited to 10"):
        create(client, "eleven", {f"v{index}": DataType.FLOAT_VECTOR for index in range(11)})


@pytest.mark.parametrize(
    "data_type, dim, text",
    [
        (DataType.FLOAT_VECTOR, 1, "invalid dimension: 1. should be in range 2 ~ 32768"),
        (DataType.FLOAT16_VECTOR, 32769, "float vector dimension should be in range 2 ~ 32768"),
        (DataType.INT8_VECTOR, 0, "invalid dimension: 0. should be in range 2 ~ 32768"),
        (DataType.BINARY_VECTOR, 2, "invalid dimension: 2 of field v. binary vector dimension should be multiple of 8."),
        (DataType.BINARY_VECTOR, 262152, "binary vector dimension should be in range 2 ~ 262144"),
    ],
)
def test_wrong_dimensions_are_refused(client, data_type, dim, text):
    schema = client.create_schema()
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("v", data_type, dim=dim)
    with pytest.raises(MilvusException, match=text.replace(".", r"\.")):
        client.create_collection("wrong", schema=schema)


def test_the_largest_dimensions_work(client):
    schema = client.create_schema()
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("bits", DataType.BINARY_VECTOR, dim=262_144)
    schema.add_field("tiny", DataType.INT8_VECTOR, dim=32_768)
    indexes = client.prepare_index_params()
    indexes.add_index("bits", index_type="BIN_FLAT", metric_type="HAMMING")
    indexes.add_index("tiny", index_type="FLAT", metric_type="IP")
    client.create_collection("wide", schema=schema, index_params=indexes)
    bits, tiny = vectors(3, DataType.BINARY_VECTOR, dim=262_144), vectors(3, DataType.INT8_VECTOR, dim=32_768)
    client.insert("wide", [{"pk": key, "bits": sent(bits[key]), "tiny": sent(tiny[key])} for key in range(3)])
    found = client.search("wide", [sent(bits[1])], anns_field="bits", limit=3)[0]
    assert found[0] == {"pk": 1, "distance": 0.0, "entity": {}}
    assert found[1]["distance"] == sorted(distances("HAMMING", bits[1], bits))[1]
    assert client.search("wide", [tiny[1]], anns_field="tiny", limit=1)[0][0]["pk"] == 1


@pytest.mark.parametrize(
    "data_type, index_type, metric, text",
    [
        (DataType.BINARY_VECTOR, "BIN_FLAT", "L2", "binary vector index does not support metric type: L2"),
        (DataType.BINARY_VECTOR, "AUTOINDEX", "COSINE", "binary vector index does not support metric type: COSINE"),
        (DataType.BINARY_VECTOR, "BIN_FLAT", "SUBSTRUCTURE", r"metric type SUBSTRUCTURE not found or not supported, supported: \[HAMMING JACCARD\]"),
        (DataType.BINARY_VECTOR, "FLAT", "HAMMING", "data type BinaryVector can't build with this index FLAT"),
        (DataType.FLOAT_VECTOR, "FLAT", "HAMMING", "float vector index does not support metric type: HAMMING"),
        (DataType.FLOAT16_VECTOR, "FLAT", "JACCARD", "float vector index does not support metric type: JACCARD"),
        (DataType.FLOAT_VECTOR, "BIN_FLAT", "L2", "data type FloatVector can't build with this index BIN_FLAT"),
        (DataType.INT8_VECTOR, "AUTOINDEX", "HAMMING", "int vector index does not support metric type: HAMMING"),
    ],
)
def test_indexes_that_do_not_fit_the_type_are_refused(client, data_type, index_type, metric, text):
    indexes = client.prepare_index_params()
    indexes.add_index("v", index_type=index_type, metric_type=metric)
    schema = client.create_schema()
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("v", data_type, dim=DIM)
    client.create_collection("index", schema=schema)
    with pytest.raises(MilvusException, match=text):
        client.create_index("index", indexes)


def test_indexes_without_a_metric_take_the_types_own(client):
    for data_type, metric in [(DataType.BINARY_VECTOR, "HAMMING"), (DataType.BFLOAT16_VECTOR, "COSINE")]:
        name = f"own_{NAMES[data_type]}"
        schema = client.create_schema()
        schema.add_field("pk", DataType.INT64, is_primary=True)
        schema.add_field("v", data_type, dim=DIM)
        indexes = client.prepare_index_params()
        indexes.add_index("v")
        client.create_collection(name, schema=schema, index_params=indexes)
        assert client.describe_index(name, "v")["metric_type"] == metric
        base = vectors(30, data_type)
        client.insert(name, [{"pk": key, "v": sent(base[key])} for key in range(30)])
        check_search(client, name, "v", data_type, metric, base)


def test_queries_of_another_type_or_length_are_refused(client):
    types = {NAMES[data_type]: data_type for data_type in EVERY}
    create(client, "typed", types)
    queries = {name: vectors(1, data_type)[0] for name, data_type in types.items()}
    for name, data_type in types.items():
        for other, query in queries.items():
            is_rounded = other == "single" and name in ("half", "brain")
            if other == name or is_rounded:
                continue
            # pymilvus takes bytes to be of the field's type; only their number tells.
            mismatch = f"vector type must be the same, field {name} - type"
            with pytest.raises(MilvusException, match="vector dimension mismatch" if other == "bits" else mismatch):
                client.search("typed", [sent(query)], anns_field=name, limit=1)
        with pytest.raises(MilvusException, match="vector dimension mismatch, expected vector size"):
            longer = vectors(1, data_type, dim=DIM + 8)[0]
            client.search("typed", [sent(longer)], anns_field=name, limit=1)
        wrong = "COSINE" if data_type == DataType.BINARY_VECTOR else "HAMMING"
        with pytest.raises(MilvusException, match="metric type not match: invalid parameter"):
            client.search("typed", [sent(queries[name])], anns_field=name, limit=1, search_params={"metric_type": wrong})


@pytest.mark.parametrize(
    "data_type, value, text",
    [
        (DataType.FLOAT_VECTOR, [1.0] * (DIM + 1), "of float data should divide the dim"),
        (DataType.FLOAT16_VECTOR, b"\0" * (2 * DIM + 2), "of float16 data should divide the dim"),
        (DataType.BFLOAT16_VECTOR, b"\0" * (2 * DIM - 2), "of bfloat data should divide the dim"),
        (DataType.INT8_VECTOR, np.zeros(DIM + 1, dtype=np.int8), "of int8 data should divide the dim"),
        (DataType.BINARY_VECTOR, b"\0" * 4, "of all bits should divide the dim"),
        (DataType.FLOAT16_VECTOR, np.full(DIM, np.inf, dtype=np.float16), "is not a number or infinity"),
        (DataType.BFLOAT16_VECTOR, np.full(DIM, np.nan, dtype=ml_dtypes.bfloat16), "is not a number or infinity"),
        (DataType.FLOAT_VECTOR, None, "float vector field 'v' is illegal, array type mismatch"),
        (DataType.BINARY_VECTOR, None, "binary vector field 'v' is illegal, array type mismatch"),
    ],
)
def test_wrong_vectors_are_refused_and_nothing_is_inserted(client, data_type, value, text):
    create(client, "strict", {"v": data_type})
    with pytest.raises(MilvusException, match=text):
        client.insert("strict", [{"pk": 1, "v": value}])
    assert client.query("strict", output_fields=["count(*)"])[0]["count(*)"] == 0


def test_defaults_may_be_plain_numbers(client):
    schema = client.create_schema()
    schema.add_field("pk", DataType.INT64, is_primary=True)
    schema.add_field("v", DataType.FLOAT_VECTOR, dim=DIM)
    wanted = {
        "tiny": (DataType.INT8, -5),
        "small": (DataType.INT16, 300),
        "medium": (DataType.INT32, 70_000),
        "large": (DataType.INT64, 1 << 40),
        "single": (DataType.FLOAT, 0.5),
        "whole": (DataType.FLOAT, 2),
        "double": (DataType.DOUBLE, 0.1),
        "flag": (DataType.BOOL, True),
        "text": (DataType.VARCHAR, "none"),
        "typed": (DataType.INT8, np.int8(7)),
        "typed_single": (DataType.FLOAT, np.float32(1.5)),
    }
    for name, (data_type, value) in wanted.items():
        schema.add_field(name, data_type, default_value=value, **({"max_length": 8} if data_type == DataType.VARCHAR else {}))
    client.create_collection("defaults", schema=schema)
    client.insert("defaults", [{"pk": 1, "v": [0.0] * DIM}])
    indexes = client.prepare_index_params()
    indexes.add_index("v")
    client.create_index("defaults", indexes)
    client.load_collection("defaults")
    row = client.get("defaults", ids=[1])[0]
    assert {name: row[name] for name in wanted} == {name: value for name, (_, value) in wanted.items()}
    for data_type, value, text in [(DataType.INT8, 200, "out of range"), (DataType.INT32, 1 << 31, "out of range"), (DataType.INT64, "x", "is not equal to")]:
        schema = client.create_schema()
        schema.add_field("pk", DataType.INT64, is_primary=True)
        schema.add_field("v", DataType.FLOAT_VECTOR, dim=DIM)
        schema.add_field("d", data_type, default_value=value)
        with pytest.raises(MilvusException, match=text):
            client.create_collection("wrong", schema=schema)
