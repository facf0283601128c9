//! What a search of an index allocates once its memory has grown: nothing.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use shoaldb::index::flat;
use shoaldb::index::spec::{IndexSpec, SearchSettings};
use shoaldb::index::{
    BuildProgress, IndexRequest, IndexScratch, OpenIndex, Queries, SearchIndex, TopK, VectorColumn, builder,
};
use shoaldb::kernel::VectorRows;
use shoaldb::types::{Bitmap, DataType, FieldId, FieldSchema, Metric};

const DIM: usize = 40;
const ROWS: usize = 5_000;

/// The system's allocator, which counts what this thread asks of it.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is the system's; counting in a constant cell of this thread allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps what `alloc` asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps what `dealloc` asks for.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller keeps what `realloc` asks for.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
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
