//! What does a reader add to a search of an index: how much time, and how many allocations?
//!
//! A real server builds the quantised graph over clustered vectors (fixed seed); this process attaches to it. In a pass every
//! query is sent once, one half straight to the index where the reader has mapped it, the other through the reader, in turn; the
//! next pass swaps the halves. What the reader adds is the difference of a query's two times: its median over all queries.
//! `cargo bench --bench reader -- [rows=N] [dim=N] [queries=N] [ef=N] [passes=N] [only=index|reader]`; with `only`, passes go one
//! way only, for a program that counts instructions.
#![allow(missing_docs, reason = "a bench has no readers of its documentation")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../tests/common/counting.rs"]
mod counting;

use std::collections::HashMap;
use std::hint::black_box;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Api, Server, pair, wait_until};
use prost::Message;
use shoaldb::config::ServerConfig;
use shoaldb::format::RowSource;
use shoaldb::index::spec::SearchSettings;
use shoaldb::index::{IndexRequest, IndexScratch, OpenIndex, QueryValues, SearchIndex, TopK};
use shoaldb::ipc::method::Method;
use shoaldb::kernel::VectorRows;
use shoaldb::proto::common::{IndexState, PlaceholderGroup, PlaceholderType, PlaceholderValue};
use shoaldb::proto::milvus;
use shoaldb::proto::milvus::search_request::SearchInput;
use shoaldb::reader::{Reader, SearchRequest};
use shoaldb::searcher;
use shoaldb::shm::attach::{CollectionView, SealedFile};
use shoaldb::types::Values;

const DATABASE: &str = "default";
const NAME: &str = "rows";
const K: usize = 10;
const CLUSTERS: usize = 100;
const INSERT_VALUES: usize = 1 << 20;
/// The writer moves what it published into huge pages by and by.
const SETTLE: Duration = Duration::from_secs(4);

struct Arguments(HashMap<String, String>);

impl Arguments {
    fn get<T: FromStr>(&self, name: &str, default: T) -> T {
        self.0.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }
}

fn main() {
    let arguments = std::env::args()
        .filter_map(|argument| argument.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())));
    let arguments = Arguments(arguments.collect());
    let (rows, dim) = (arguments.get("rows", 12_000), arguments.get("dim", 784));
    let query_count = arguments.get("queries", 4_000usize);
    let mut values = clustered(rows + query_count, dim);
    let queries = values.split_off(rows * dim);
    let server = Server::start(&["--searchers", "1", "--durability", "os"]);
    fill(&mut server.api(), dim, &values);
    let reader = Reader::attach(&server.data_dir).expect("the server runs");
    let view = reader.describe(DATABASE, NAME).expect("the collection is there");
    let requests: Vec<SearchRequest> =
        queries.chunks_exact(dim).map(|query| request(query, arguments.get("ef", 16))).collect();
    let bodies = queries.chunks_exact(dim).map(|query| body(query, arguments.get("ef", 16))).collect();
    let bench = Bench { reader: &reader, requests, bodies, files: files(&view), config: ServerConfig::default() };
    let (settled, mut memory) = (Instant::now(), Memory::default());
    while settled.elapsed() < SETTLE {
        bench.pass([Way::Reader, Way::Index], &mut memory);
    }
    let (only, passes) = (arguments.get("only", String::new()), arguments.get("passes", 6));
    println!("{rows} rows of {dim} dimensions in {} file(s), {query_count} queries", bench.files.len());
    for (name, way) in [("index", Way::Index), ("reader", Way::Reader), ("protocol", Way::Protocol)] {
        if only == name {
            (0..passes).for_each(|_| drop(bench.pass([way, way], &mut memory)));
        }
        if only.is_empty() {
            bench.compare(name, way, passes, &mut memory);
        }
    }
}

/// Rows around centres that lie around nothing.
fn clustered(count: usize, dim: usize) -> Vec<f32> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    let centres: Vec<f32> = (0..CLUSTERS * dim).map(|_| next()).collect();
    (0..count * dim).map(|at| centres[at / dim % CLUSTERS * dim + at % dim] + next()).collect()
}

fn fill(api: &mut Api, dim: usize, values: &[f32]) {
    api.try_create(NAME, dim).expect("the collection is made");
    let block = INSERT_VALUES / dim;
    for (index, vectors) in values.chunks(block * dim).enumerate() {
        let first = (index * block) as i64;
        let ids: Vec<i64> = (first..first + (vectors.len() / dim) as i64).collect();
        api.insert(NAME, &ids, 0, vectors).expect("rows are inserted");
    }
    api.flush(NAME);
    let create = milvus::CreateIndexRequest {
        collection_name: NAME.to_owned(),
        field_name: "vector".to_owned(),
        extra_params: vec![pair("index_type", "RABITQ_GRAPH"), pair("metric_type", "L2")],
        ..Default::default()
    };
    api.status(Method::CreateIndex, &create).expect("the index is made");
    api.try_load(NAME).expect("the collection is loaded");
    wait_until("the index is built", || {
        let request = milvus::DescribeIndexRequest { collection_name: NAME.to_owned(), ..Default::default() };
        let answer: milvus::DescribeIndexResponse = api.call(Method::DescribeIndex, &request).expect("an answer");
        answer.index_descriptions.first().is_some_and(|index| index.state() == IndexState::Finished)
    });
}

fn request(query: &[f32], ef: usize) -> SearchRequest {
    let settings = SearchSettings { ef: Some(ef), ..SearchSettings::default() };
    SearchRequest { settings, ..SearchRequest::new(query.to_vec(), K) }
}

/// The same as a client sends it.
fn body(query: &[f32], ef: usize) -> Vec<u8> {
    let placeholder = PlaceholderValue {
        tag: "$0".to_owned(),
        r#type: PlaceholderType::FloatVector as i32,
        values: vec![bytemuck::cast_slice(query).to_vec()],
        ..Default::default()
    };
    let group = PlaceholderGroup { placeholders: vec![placeholder] }.encode_to_vec();
    let params = format!("{{\"ef\": {ef}}}");
    let pairs = [("anns_field", "vector"), ("topk", "10"), ("metric_type", "L2"), ("params", &params)];
    let request = milvus::SearchRequest {
        collection_name: NAME.to_owned(),
        nq: 1,
        search_params: pairs.map(|(key, value)| pair(key, value)).to_vec(),
        search_input: Some(SearchInput::PlaceholderGroup(group)),
        ..Default::default()
    };
    request.encode_to_vec()
}

/// One way of a query.
#[derive(Clone, Copy)]
enum Way {
    /// Straight to the index.
    Index,
    /// Through the reader.
    Reader,
    /// As a searcher answers it: decoded and encoded.
    Protocol,
}

struct Bench<'a> {
    reader: &'a Reader,
    requests: Vec<SearchRequest>,
    bodies: Vec<Vec<u8>>,
    /// Indexes and the vectors that they were built from.
    files: Vec<(OpenIndex<'a>, VectorRows<'a>)>,
    config: ServerConfig,
}

/// What the searches of one way reuse.
#[derive(Default)]
struct Memory {
    scratch: IndexScratch,
    top: TopK,
}

/// What a query took.
#[derive(Clone, Copy, Default)]
struct Cost {
    nanoseconds: u64,
    allocations: u64,
}

impl Bench<'_> {
    fn search(&self, way: Way, query: usize, memory: &mut Memory) -> Cost {
        let (before, started) = (counting::allocations(), Instant::now());
        match way {
            Way::Index => self.search_index(&self.requests[query], memory),
            Way::Reader => drop(black_box(self.reader.search(DATABASE, NAME, &self.requests[query]).expect("hits"))),
            Way::Protocol => {
                let answer = searcher::answer(self.reader, &self.config, DATABASE, Method::Search, &self.bodies[query]);
                drop(black_box(answer));
            }
        }
        Cost { nanoseconds: started.elapsed().as_nanos() as u64, allocations: counting::allocations() - before }
    }

    fn search_index(&self, request: &SearchRequest, memory: &mut Memory) {
        let QueryValues::Dense(query) = &request.vectors else { return };
        let Memory { scratch, top } = memory;
        top.begin(K);
        for (file, (index, source)) in self.files.iter().enumerate() {
            let (settings, file_index) = (&request.settings, file as u32);
            let request = IndexRequest { k: K, settings, filter: None, range: None, source: Some(*source), file_index };
            index.search(query, &request, scratch, top).expect("the query fits");
        }
        black_box(top.sort());
    }

    /// Sends every query once, in turn by one way and by the other; what each took.
    fn pass(&self, ways: [Way; 2], memory: &mut Memory) -> Vec<Cost> {
        (0..self.requests.len()).map(|query| self.search(ways[query % 2], query, memory)).collect()
    }

    /// Prints what a way costs beside the index's own search.
    fn compare(&self, name: &str, way: Way, passes: usize, memory: &mut Memory) {
        let (mut added, mut of_index, mut of_way) = (Vec::new(), Vec::new(), Vec::new());
        let mut allocations = [u64::MAX, 0];
        for _ in 0..passes {
            let swapped = self.pass([Way::Index, way], memory);
            let others = self.pass([way, Way::Index], memory);
            for (query, (first, second)) in swapped.into_iter().zip(others).enumerate() {
                let (index, way) = if query % 2 == 0 { (first, second) } else { (second, first) };
                added.push(way.nanoseconds as i64 - index.nanoseconds as i64);
                of_index.push(index.nanoseconds as i64);
                of_way.push(way.nanoseconds as i64);
                allocations = [allocations[0].min(way.allocations), allocations[1].max(way.allocations)];
            }
        }
        println!(
            "{name}: {} ns, the index alone {} ns; adds {} ns (median of {} differences) and {} to {} allocations",
            median(&mut of_way),
            median(&mut of_index),
            median(&mut added),
            added.len(),
            allocations[0],
            allocations[1],
        );
    }
}

fn median(values: &mut [i64]) -> i64 {
    values.sort_unstable();
    values[values.len() / 2]
}

fn files<'a>(view: &'a CollectionView) -> Vec<(OpenIndex<'a>, VectorRows<'a>)> {
    let field = view.manifest.schema.vector_fields().next().expect("a vector field");
    let open = |file: &'a Arc<SealedFile>| {
        let index = file.indexes[0].index().expect("a sound index");
        let Some(Values::Vector { bytes, .. }) = file.table.column(field).map(|column| column.values) else {
            panic!("the field holds vectors");
        };
        (index, VectorRows::of_f32(bytes, field.dim()))
    };
    view.sealed.iter().map(open).collect()
}
