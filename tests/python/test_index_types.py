"""Inverted lists and hierarchical graphs: their parameters, and searches over them."""

import pytest
from pymilvus import DataType, MilvusClient, MilvusException

DIM = 8


@pytest.fixture
def collection(client):
    schema = MilvusClient.create_schema()
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection("kinds", schema=schema)
    return client


def create(client, index_type, metric_type="L2", **params):
    indexes = client.prepare_index_params()
    indexes.add_index("vector", index_name="of_vector", index_type=index_type, metric_type=metric_type, params=params)
    client.create_index("kinds", indexes)


def test_parameters_are_taken_and_described_as_given(collection):
    for index_type, params in [
        ("IVF_FLAT", {"nlist": 1}),
        ("IVF_FLAT", {"nlist": 65536}),
        ("IVF_SQ8", {}),
        ("HNSW", {"M": 2, "efConstruction": 1}),
        ("HNSW", {"M": "2048", "efConstruction": 10000}),
        ("HNSW", {"M": None, "not_defined_param": "nothing"}),
        ("HNSW_SQ", {"M": 16, "efConstruction": 200, "sq_type": "SQ8", "refine": True, "refine_type": "FP16"}),
        ("HNSW_SQ", {"sq_type": "BF16", "refine": "true"}),
        ("HNSW_SQ", {"sq_type": "fp16", "refine_type": "FP32"}),
        ("HNSW_SQ", {"sq_type": "SQ4U", "refine": True, "refine_type": "SQ6"}),
        ("HNSW_SQ", {"sq_type": "SQ6", "refine": False}),
    ]:
        for metric in ["L2", "IP", "COSINE"]:
            create(collection, index_type, metric, **params)
            described = collection.describe_index("kinds", "of_vector")
            assert (described["index_type"], described["metric_type"]) == (index_type, metric)
            for name, value in params.items():
                assert value is None or described[name].lower() == str(value).lower()
            collection.drop_index("kinds", "of_vector")


@pytest.mark.parametrize(
    "index_type, params, text",
    [
        ("IVF_FLAT", {"nlist": 0}, "Out of range in json: param 'nlist' (0) should be in range [1, 65536]"),
        ("IVF_SQ8", {"nlist": 65537}, "Out of range in json: param 'nlist' (65537) should be in range [1, 65536]"),
        ("HNSW", {"M": -1}, "param 'M' (-1) should be in range [2, 2048]"),
        ("HNSW", {"M": 2049}, "param 'M' (2049) should be in range [2, 2048]"),
        ("HNSW", {"M": 16.0}, "wrong data type in json"),
        ("HNSW", {"M": [16]}, "invalid integer value, key: 'M', value: '[16]': invalid parameter"),
        ("HNSW", {"efConstruction": -1}, "param 'efConstruction' (-1) should be in range [1, 2147483647]"),
        ("HNSW_SQ", {"sq_type": "FP32"}, "invalid scalar quantizer type: invalid parameter"),
        ("HNSW_SQ", {"sq_type": 8}, "invalid scalar quantizer type: invalid parameter"),
        ("HNSW_SQ", {"sq_type": "SQ4"}, "invalid scalar quantizer type: invalid parameter"),
        ("HNSW_SQ", {"refine": 1}, "should be a boolean: invalid parameter"),
        ("HNSW_SQ", {"refine_type": "INT8"}, "invalid refine type : INT8, optional types are [sq4u, sq6, sq8, fp16, bf16, fp32, flat]: invalid parameter"),
    ],
)
def test_parameters_out_of_range_are_refused(collection, index_type, params, text):
    with pytest.raises(MilvusException) as caught:
        create(collection, index_type, **params)
    assert text in str(caught.value)
    assert collection.list_indexes("kinds") == []


@pytest.mark.parametrize("metric", ["HAMMING", "JACCARD", "BM25"])
def test_metrics_of_other_vectors_are_refused(collection, metric):
    with pytest.raises(MilvusException) as caught:
        create(collection, "HNSW", metric)
    assert metric in str(caught.value)


@pytest.mark.parametrize("index_type, search", [("IVF_FLAT", {"nprobe": 16}), ("IVF_SQ8", {"nprobe": 16}), ("HNSW", {"ef": 64}), ("HNSW_SQ", {"ef": 64, "refine_k": 2})])
def test_searches_find_the_nearest(collection, index_type, search):
    create(collection, index_type, "L2", nlist=16)
    collection.load_collection("kinds")
    rows = [{"id": key, "vector": [float(key * (place + 1) % 101) for place in range(DIM)]} for key in range(500)]
    collection.insert("kinds", rows)
    for filter in ["", "id % 7 == 0"]:
        hits = collection.search("kinds", data=[rows[49]["vector"]], limit=5, search_params={"params": search}, filter=filter, consistency_level="Strong")[0]
        assert hits[0]["id"] == 49 and hits[0]["distance"] == 0.0
        assert len(hits) == 5 and all(filter == "" or hit["id"] % 7 == 0 for hit in hits)
