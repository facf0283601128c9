"""langchain-milvus as an application uses it: add, search with filters, delete, upsert, maximal marginal relevance."""

import hashlib

import pytest

# Those of its versions that take pymilvus 2.6 look for a connection which that client no longer makes, whatever the server.
pytest.importorskip("langchain_milvus", reason="langchain-milvus is installed beside pymilvus 3 only")

from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_milvus import Milvus

DIM = 16
TEXTS = ["a red apple", "a green apple", "a yellow banana", "a blue car", "a red car", "an old ship"]
SOURCES = ["fruit", "fruit", "fruit", "road", "road", "sea"]


class WordEmbeddings(Embeddings):
    """One direction per word: texts with common words are near each other, the same in every run."""

    def embed_query(self, text):
        vector = [0.0] * DIM
        for word in text.split():
            place = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "little") % DIM
            vector[place] += 1.0
        return vector

    def embed_documents(self, texts):
        return [self.embed_query(text) for text in texts]


def open_store(server, **more):
    return Milvus(WordEmbeddings(), collection_name="notes", connection_args={"uri": server.uri}, **more)


@pytest.fixture
def store(shared, shared_server):
    store = open_store(shared_server, auto_id=False, drop_old=True)
    store.add_texts(TEXTS, metadatas=[{"source": source, "page": page} for page, source in enumerate(SOURCES)], ids=[f"doc-{i}" for i in range(len(TEXTS))])
    return store


def found(documents):
    return [document.page_content for document in documents]


def test_search(store):
    assert found(store.similarity_search("a red car", k=1)) == ["a red car"]
    documents = store.similarity_search_with_score("a green apple", k=3)
    assert documents[0][0].page_content == "a green apple" and documents[0][0].metadata["source"] == "fruit"
    assert len(documents) == 3
    by_vector = store.similarity_search_by_vector(WordEmbeddings().embed_query("an old ship"), k=1)
    assert found(by_vector) == ["an old ship"]


def test_search_with_a_filter(store):
    assert found(store.similarity_search("a red car", k=6, expr='source == "fruit" and page < 2')) == ["a red apple", "a green apple"]
    assert store.similarity_search("a red car", k=6, expr='source == "nothing"') == []
    assert found(store.similarity_search("a red car", k=1, expr='source in ["sea"]')) == ["an old ship"]


def test_maximal_marginal_relevance(store):
    plain = found(store.similarity_search("a red apple", k=3))
    diverse = found(store.max_marginal_relevance_search("a red apple", k=3, fetch_k=6, lambda_mult=0.0))
    assert plain[0] == diverse[0] == "a red apple"
    assert len(set(diverse)) == 3 and diverse != plain


def test_delete_and_upsert(store):
    assert store.delete(ids=["doc-0"])
    assert "a red apple" not in found(store.similarity_search("a red apple", k=6))
    assert store.delete(expr='source == "road"')
    assert sorted(found(store.similarity_search("a", k=6))) == ["a green apple", "a yellow banana", "an old ship"]
    store.upsert(ids=["doc-5"], documents=[Document(page_content="a new ship", metadata={"source": "sea", "page": 9})])
    assert found(store.similarity_search("ship", k=1, expr="page == 9")) == ["a new ship"]
    assert "an old ship" not in found(store.similarity_search("an old ship", k=6))


def test_a_retriever_and_a_second_store_on_the_same_collection(store, shared_server):
    again = open_store(shared_server, auto_id=False)
    again.add_documents([Document(page_content="a small ship", metadata={"source": "sea", "page": 7})], ids=["doc-7"])
    retriever = store.as_retriever(search_kwargs={"k": 1, "expr": "page == 7"})
    assert found(retriever.invoke("ship")) == ["a small ship"]


def test_automatic_ids_and_partition_names(shared, shared_server):
    store = open_store(shared_server, auto_id=True, drop_old=True)
    ids = store.add_texts(["one thing", "another thing"], metadatas=[{"n": 1}, {"n": 2}])
    assert len(ids) == 2
    assert found(store.similarity_search("another", k=1)) == ["another thing"]
    assert store.delete(ids=ids[:1])
    assert found(store.similarity_search("one thing", k=2)) == ["another thing"]
