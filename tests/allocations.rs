//! What a search of an index allocates once its memory has grown: nothing; and a search through a reader: what it hands out.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;
#[path = "common/counting.rs"]
mod counting;

use common::{Api, Server, pair, wait_until};
use shoaldb::index::flat;
use shoaldb::index::spec::{IndexSpec, SearchSettings};
use shoaldb::index::{
    BuildProgress, IndexRequest, IndexScratch, OpenIndex, Queries, SearchIndex, TopK, VectorColumn, builder,
};
use shoaldb::ipc::method::Method;
use shoaldb::kernel::VectorRows;
use shoaldb::proto::milvus;
use shoaldb::reader::{Reader, SearchRequest};
use shoaldb::types::{Bitmap, DataType, FieldId, FieldSchema, Metric};

const DIM: usize = 40;
const ROWS: usize = 5_000;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = counting::allocations();
    work();
    counting::allocations() - before
}

/// Seeded values around zero.
fn values(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn field() -> FieldSchema {
    FieldSchema {
        type_params: vec![("dim".to_owned(), DIM.to_string())],
        ..FieldSchema::new(FieldId(101), "vector", DataType::FloatVector)
    }
}

fn thirds() -> Bitmap {
    let mut filter = Bitmap::zeros(ROWS);
    (0..ROWS).step_by(3).for_each(|row| filter.set(row, true));
    filter
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8; 100]))), 1);
    assert_eq!(allocations(|| ()), 0);
}

#[test]
fn a_warm_search_of_an_index_allocates_nothing() {
    let rows = values(ROWS * DIM, 1);
    let column = VectorRows::of_f32(bytemuck::cast_slice(&rows), DIM);
    let queries = values(50 * DIM, 2);
    let third = thirds();
    // Its paths are those of the others and norms besides.
    let metric = "COSINE";
    for kind in ["RABITQ_GRAPH", "HNSW", "HNSW_SQ", "IVF_FLAT", "IVF_SQ8"] {
        let parameters = [("index_type", kind), ("metric_type", metric)];
        let parameters = parameters.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let spec = IndexSpec::parse(&field(), &parameters).unwrap();
        let progress = BuildProgress::default();
        let build = builder(&spec, column, 2, &progress).unwrap();
        let mut image = vec![0; build.image_bytes()];
        build.write(&mut image).unwrap();
        let index = OpenIndex::open(&image).unwrap();
        let settings = SearchSettings { ef: Some(64), nprobe: Some(8), ..SearchSettings::default() };
        let (mut scratch, mut top) = (IndexScratch::default(), TopK::default());
        for filter in [None, Some(&third)] {
            let request =
                IndexRequest { k: 10, settings: &settings, filter, range: None, source: Some(column), file_index: 0 };
            let mut search_all = || {
                for query in queries.chunks_exact(DIM) {
                    top.begin(10);
                    index.search(query, &request, &mut scratch, &mut top).unwrap();
                    assert_eq!(top.sort().len(), 10);
                }
            };
            search_all();
            assert_eq!(allocations(search_all), 0, "{kind} {metric}, filtered: {}", filter.is_some());
        }
    }
}

#[test]
fn a_warm_scan_allocates_nothing() {
    let rows = values(ROWS * DIM, 1);
    let column = VectorColumn::of_f32(bytemuck::cast_slice(&rows), DIM);
    let third = thirds();
    for metric in [Metric::L2, Metric::Ip, Metric::Cosine] {
        let queries = Queries::dense(DIM, metric, values(DIM, 3));
        let mut tops = [TopK::new(10)];
        for filter in [None, Some(&third)] {
            let mut scan = || {
                tops[0].begin(10);
                flat::scan(&queries, column, 0..ROWS, filter, None, 0, &mut tops);
                assert_eq!(tops[0].sort().len(), 10);
            };
            scan();
            assert_eq!(allocations(scan), 0, "{metric:?}, filtered: {}", filter.is_some());
        }
    }
}

/// A collection of rows in table files that have an index.
fn make_indexed(api: &mut Api, name: &str, rows: usize) {
    api.try_create(name, DIM).unwrap();
    let ids: Vec<i64> = (0..rows as i64).collect();
    api.insert(name, &ids, 0, &values(rows * DIM, 1)).unwrap();
    api.flush(name);
    let create = milvus::CreateIndexRequest {
        collection_name: name.to_owned(),
        field_name: "vector".to_owned(),
        // Quick to build.
        extra_params: vec![
            pair("index_type", "RABITQ_GRAPH"),
            pair("metric_type", "L2"),
            pair("params", "{\"rounds\": 1, \"efConstruction\": 16}"),
        ],
        ..Default::default()
    };
    api.status(Method::CreateIndex, &create).unwrap();
    api.try_load(name).unwrap();
}

/// Of each query; what a new manifest costs, which may come at any time, is not counted.
fn allocations_of_searches(reader: &Reader, name: &str, requests: &[SearchRequest]) -> Vec<u64> {
    let mut least = vec![u64::MAX; requests.len()];
    for _ in 0..3 {
        for (request, least) in requests.iter().zip(&mut least) {
            let work = || assert_eq!(reader.search("default", name, request).unwrap()[0].keys.len(), request.top_k);
            *least = allocations(work).min(*least);
        }
    }
    least
}

#[test]
fn a_warm_search_through_a_reader_allocates_what_it_hands_out_and_two_lists_of_rows_whatever_is_there() {
    let server = Server::start(&["--searchers", "1"]);
    let mut api = server.api();
    let collections = [("small", 4_200), ("large", 13_000)];
    collections.into_iter().for_each(|(name, rows)| make_indexed(&mut api, name, rows));
    let reader = Reader::attach(&server.data_dir).unwrap();
    let queries = values(40 * DIM, 2);
    for (name, _) in collections {
        wait_until("every file has an index", || {
            let view = reader.describe("default", name).unwrap();
            view.growing.is_empty()
                && view.sealed.iter().all(|file| !file.indexes.is_empty())
                && !view.sealed.is_empty()
        });
        for top_k in [1, 10, 30] {
            let settings = SearchSettings { ef: Some(40), ..SearchSettings::default() };
            let request = |query: &[f32]| SearchRequest {
                settings: settings.clone(),
                ..SearchRequest::new(query.to_vec(), top_k)
            };
            let requests: Vec<SearchRequest> = queries.chunks_exact(DIM).map(request).collect();
            // Hits, their keys and scores; hits as they are found, and their rows.
            assert_eq!(allocations_of_searches(&reader, name, &requests), vec![5; requests.len()], "{name} {top_k}");
        }
    }
}
