//! Mutations of good requests to a real server: each gets an answer, none makes a process panic or end, and what was there stays.
//!
//! `SHOAL_FUZZ_SEED` replays one case, `SHOAL_FUZZ_SECONDS` sets how long others are tried.

mod common;
#[path = "common/random.rs"]
mod random;

use std::time::{Duration, Instant};

use common::{Api, Server, pair};
use prost::Message;
use random::{Random, new_seed, number};
use shoaldb::ipc::method::Method;
use shoaldb::proto::milvus::search_request::SearchInput;
use shoaldb::proto::schema::{field_data, scalar_field, vector_field};
use shoaldb::proto::{common as wire, milvus, schema};

const SECONDS: u64 = 8;
/// However slow the machine is.
const REQUESTS_MIN: u64 = 1_000;
/// Mutations of one request behind one another.
const MUTATIONS_MAX: usize = 5;
/// Requests between two looks at everything.
const BATCH: u64 = 100;
/// How long an answer may take, on a slow machine that does other things: a scan of the few rows there are, a wait for a timestamp
/// ahead of the clock.
const PATIENCE: Duration = Duration::from_secs(120);
/// What every request is about.
const NAME: &str = "items";
/// What no request names, until its rows are counted.
const WITNESS: &str = "witness";
const DIM: usize = 8;
const ROWS: usize = 40;

/// Numbers and texts that are at the edge of something.
const WORDS: [&str; 16] = [
    "0",
    "-1",
    "1",
    "16385",
    "2147483648",
    "9223372036854775807",
    "-9223372036854775808",
    "1e400",
    "NaN",
    "null",
    "true",
    "{}",
    "[[]]",
    "\"",
    "id",
    "*",
];

type Case = (Method, Vec<u8>);

fn field(name: &str, data_type: i32, is_nullable: bool, type_params: Vec<wire::KeyValuePair>) -> schema::FieldSchema {
    let name = name.to_owned();
    schema::FieldSchema { name, data_type, nullable: is_nullable, type_params, ..Default::default() }
}

fn collection_schema() -> schema::CollectionSchema {
    let key = schema::FieldSchema { is_primary_key: true, ..field("id", 5, false, vec![]) };
    let tags = field("tags", 22, true, vec![pair("max_capacity", "8")]);
    let fields = vec![
        key,
        field("name", 21, true, vec![pair("max_length", "64")]),
        field("price", 11, true, vec![]),
        field("document", 23, true, vec![]),
        schema::FieldSchema { element_type: 4, ..tags },
        field("vector", 101, false, vec![pair("dim", &DIM.to_string())]),
        field("half", 102, false, vec![pair("dim", &DIM.to_string())]),
    ];
    schema::CollectionSchema { name: NAME.to_owned(), fields, enable_dynamic_field: true, ..Default::default() }
}

fn scalars(name: &str, data_type: i32, data: scalar_field::Data, valid_data: Vec<bool>) -> schema::FieldData {
    let field = Some(field_data::Field::Scalars(schema::ScalarField { data: Some(data) }));
    schema::FieldData { r#type: data_type, field_name: name.to_owned(), field, valid_data, ..Default::default() }
}

fn vectors(name: &str, data_type: i32, data: vector_field::Data) -> schema::FieldData {
    let field = Some(field_data::Field::Vectors(schema::VectorField { dim: DIM as i64, data: Some(data) }));
    schema::FieldData { r#type: data_type, field_name: name.to_owned(), field, ..Default::default() }
}

/// Rows from an id on, every second value null.
fn rows(from: i64, count: usize) -> Vec<schema::FieldData> {
    let is_valid = || (0..count).map(|row| row % 2 == 0).collect::<Vec<bool>>();
    let valid = || 0..count.div_ceil(2);
    let array = |row: usize| schema::ScalarField {
        data: Some(scalar_field::Data::IntData(schema::IntArray { data: vec![1; row % 4] })),
    };
    let texts = schema::StringArray { data: valid().map(|row| format!("name {row}")).collect() };
    let documents = |name: &str, is_dynamic: bool, valid_data: Vec<bool>, count: usize| schema::FieldData {
        is_dynamic,
        ..scalars(
            name,
            23,
            scalar_field::Data::JsonData(schema::JsonArray {
                data: (0..count).map(|row| format!("{{\"a\": {row}, \"b\": [1, \"x\"]}}").into_bytes()).collect(),
            }),
            valid_data,
        )
    };
    let numbers = schema::DoubleArray { data: valid().map(|row| row as f64).collect() };
    let arrays = schema::ArrayArray { data: valid().map(array).collect(), element_type: 4 };
    let ids = schema::LongArray { data: (from..from + count as i64).collect() };
    let floats = schema::FloatArray { data: (0..count * DIM).map(|value| (value % 13) as f32).collect() };
    vec![
        scalars("id", 5, scalar_field::Data::LongData(ids), vec![]),
        scalars("name", 21, scalar_field::Data::StringData(texts), is_valid()),
        scalars("price", 11, scalar_field::Data::DoubleData(numbers), is_valid()),
        documents("document", false, is_valid(), count.div_ceil(2)),
        scalars("tags", 22, scalar_field::Data::ArrayData(arrays), is_valid()),
        vectors("vector", 101, vector_field::Data::FloatVector(floats)),
        vectors("half", 102, vector_field::Data::Float16Vector(vec![0x3c; count * DIM * 2])),
        documents("$meta", true, vec![], count),
    ]
}

fn search(params: &[(&str, &str)], expression: &str, values: usize) -> milvus::SearchRequest {
    let vector: Vec<u8> = (0..DIM).flat_map(|value| (value as f32).to_le_bytes()).collect();
    let placeholders = vec![wire::PlaceholderValue {
        tag: "$0".to_owned(),
        r#type: 101,
        values: vec![vector; values],
        ..Default::default()
    }];
    let group = wire::PlaceholderGroup { placeholders };
    milvus::SearchRequest {
        collection_name: NAME.to_owned(),
        nq: values as i64,
        dsl: expression.to_owned(),
        dsl_type: 1,
        search_input: Some(SearchInput::PlaceholderGroup(group.encode_to_vec())),
        search_params: params.iter().map(|(key, value)| pair(key, value)).collect(),
        output_fields: ["name", "document", "tags", "half", "a"].map(str::to_owned).to_vec(),
        ..Default::default()
    }
}

fn query(expression: &str, fields: &[&str], params: &[(&str, &str)]) -> milvus::QueryRequest {
    milvus::QueryRequest {
        collection_name: NAME.to_owned(),
        expr: expression.to_owned(),
        output_fields: fields.iter().map(|field| (*field).to_owned()).collect(),
        query_params: params.iter().map(|(key, value)| pair(key, value)).collect(),
        ..Default::default()
    }
}

/// Good requests: what a session with a collection consists of.
fn good() -> Vec<Case> {
    let collection_name = NAME.to_owned();
    let insert = milvus::InsertRequest {
        collection_name: collection_name.clone(),
        fields_data: rows(1_000, 4),
        num_rows: 4,
        ..Default::default()
    };
    let upsert = milvus::UpsertRequest {
        collection_name: collection_name.clone(),
        fields_data: rows(1_000, 2),
        num_rows: 2,
        ..Default::default()
    };
    let partial = milvus::UpsertRequest {
        collection_name: collection_name.clone(),
        fields_data: rows(1_000, 2).into_iter().take(5).collect(),
        num_rows: 2,
        partial_update: true,
        ..Default::default()
    };
    let delete = milvus::DeleteRequest {
        collection_name: collection_name.clone(),
        expr: "id in [1001, 1002]".to_owned(),
        ..Default::default()
    };
    let create = milvus::CreateCollectionRequest {
        collection_name: "other".to_owned(),
        schema: collection_schema().encode_to_vec(),
        properties: vec![pair("collection.ttl.seconds", "60")],
        ..Default::default()
    };
    let create_index = milvus::CreateIndexRequest {
        collection_name: collection_name.clone(),
        field_name: "vector".to_owned(),
        extra_params: vec![
            pair("index_type", "HNSW"),
            pair("metric_type", "L2"),
            pair("params", "{\"M\": 16, \"efConstruction\": 64}"),
        ],
        ..Default::default()
    };
    let add_field = milvus::AddCollectionFieldRequest {
        collection_name: collection_name.clone(),
        schema: field("later", 5, true, vec![]).encode_to_vec(),
        ..Default::default()
    };
    let alter = milvus::AlterCollectionRequest {
        collection_name: collection_name.clone(),
        properties: vec![pair("timezone", "Europe/Berlin")],
        ..Default::default()
    };
    let describe = milvus::DescribeCollectionRequest { collection_name: collection_name.clone(), ..Default::default() };
    let partition = milvus::CreatePartitionRequest {
        collection_name: collection_name.clone(),
        partition_name: "part".to_owned(),
        ..Default::default()
    };
    let flush = milvus::FlushRequest { collection_names: vec![collection_name], ..Default::default() };
    let plain = [("anns_field", "vector"), ("topk", "10"), ("params", "{\"ef\": 64}"), ("metric_type", "L2")];
    let ranged = [
        ("anns_field", "vector"),
        ("topk", "5"),
        ("offset", "2"),
        ("round_decimal", "3"),
        ("params", "{\"radius\": 900.0, \"range_filter\": 0.0}"),
    ];
    let grouped = [
        ("anns_field", "vector"),
        ("topk", "5"),
        ("group_by_field", "name"),
        ("group_size", "2"),
        ("strict_group_size", "true"),
    ];
    let iterated = [
        ("anns_field", "vector"),
        ("topk", "5"),
        ("iterator", "True"),
        ("search_iter_v2", "True"),
        ("search_iter_batch_size", "5"),
    ];
    let filter = "name like \"name%\" and price < 9.5 or document[\"a\"] in [1, 2] and array_contains(tags, 1)";
    vec![
        (Method::Insert, insert.encode_to_vec()),
        (Method::Upsert, upsert.encode_to_vec()),
        (Method::Upsert, partial.encode_to_vec()),
        (Method::Delete, delete.encode_to_vec()),
        (Method::Search, search(&plain, "", 2).encode_to_vec()),
        (Method::Search, search(&plain, filter, 1).encode_to_vec()),
        (Method::Search, search(&ranged, "id >= 0", 1).encode_to_vec()),
        (Method::Search, search(&grouped, "", 2).encode_to_vec()),
        (Method::Search, search(&iterated, "", 1).encode_to_vec()),
        (Method::Query, query(filter, &["*"], &[("limit", "7"), ("offset", "1")]).encode_to_vec()),
        (Method::Query, query("", &["count(*)"], &[]).encode_to_vec()),
        (Method::Query, query("id > 3", &["id", "a"], &[("limit", "3"), ("iterator", "True")]).encode_to_vec()),
        (Method::CreateCollection, create.encode_to_vec()),
        (Method::CreateIndex, create_index.encode_to_vec()),
        (Method::AddCollectionField, add_field.encode_to_vec()),
        (Method::AlterCollection, alter.encode_to_vec()),
        (Method::DescribeCollection, describe.encode_to_vec()),
        (Method::CreatePartition, partition.encode_to_vec()),
        (Method::Flush, flush.encode_to_vec()),
    ]
}

/// Replaces a part of the bytes, and puts the lengths of the messages around it right, as far as a guess can: then the change is
/// not lost in a request that cannot be read.
fn replace(bytes: &mut Vec<u8>, at: usize, old: usize, new: &[u8]) {
    let end = (at + old).min(bytes.len());
    let change = new.len() as i64 - (end - at) as i64;
    // A length of one byte in front of the change that reaches to its end or beyond.
    for before in at.saturating_sub(120)..at {
        let (length, reach) = (i64::from(bytes[before]), (end - before) as i64 - 1);
        let is_tag = before > 0 && bytes[before - 1] & 7 == 2;
        if is_tag && length >= reach && length < 128 && (0..128).contains(&(length + change)) {
            bytes[before] = (length + change) as u8;
        }
    }
    bytes.splice(at..end, new.iter().copied());
}

fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    if bytes.is_empty() {
        bytes.push(random.below(256) as u8);
        return;
    }
    let at = random.below(bytes.len());
    match random.below(9) {
        0 => bytes[at] ^= 1 << random.below(8),
        1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        2 => bytes.truncate(at),
        3 => replace(bytes, at, 1 + random.below(4), &[]),
        4 => {
            let (from, length) = (random.below(bytes.len()), 1 + random.below(12));
            let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
            replace(bytes, at, 0, &piece);
        }
        // Varints: the greatest, a large one.
        5 => replace(bytes, at, 1, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1]),
        6 => replace(bytes, at, 1, &[0xff, 0xff, 0xff, 0x7f]),
        // A number or a word in a text is another one.
        _ => {
            let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
            let start = bytes[at..].iter().position(is_word).map_or(at, |skipped| at + skipped);
            let length = bytes[start..].iter().take_while(|byte| is_word(byte)).count();
            let word = WORDS[random.below(WORDS.len())];
            replace(bytes, start, length, word.as_bytes());
        }
    }
}

/// Makes what requests are about, where it is missing: a mutation may drop a field's index or rename the collection.
fn prepare(api: &mut Api) {
    let collection_name = NAME.to_owned();
    let has = milvus::HasCollectionRequest { collection_name: collection_name.clone(), ..Default::default() };
    let has: milvus::BoolResponse = api.call(Method::HasCollection, &has).expect("an answer");
    if has.value {
        return;
    }
    let create = milvus::CreateCollectionRequest {
        collection_name: collection_name.clone(),
        schema: collection_schema().encode_to_vec(),
        ..Default::default()
    };
    api.status(Method::CreateCollection, &create).expect("the collection is created");
    for field_name in ["vector", "half"].map(str::to_owned) {
        let create = milvus::CreateIndexRequest {
            collection_name: collection_name.clone(),
            field_name,
            extra_params: vec![pair("index_type", "FLAT"), pair("metric_type", "L2")],
            ..Default::default()
        };
        api.status(Method::CreateIndex, &create).expect("the index is created");
    }
    api.try_load(NAME).expect("loaded");
    for (from, is_flushed) in [(0, true), (500, false)] {
        let insert = milvus::InsertRequest {
            collection_name: collection_name.clone(),
            fields_data: rows(from, ROWS),
            num_rows: ROWS as u32,
            ..Default::default()
        };
        let answer: milvus::MutationResult = api.call(Method::Insert, &insert).expect("an answer");
        assert_eq!(answer.insert_cnt, ROWS as i64, "{answer:?}");
        if is_flushed {
            api.flush(NAME);
        }
    }
}

/// One request, mutated as its seed says.
fn case(good: &[Case], seed: u64) -> Case {
    let mut random = Random(seed);
    let (method, mut bytes) = good[random.below(good.len())].clone();
    for _ in 0..=random.below(MUTATIONS_MAX) {
        mutate(&mut bytes, &mut random);
    }
    (method, bytes)
}

/// Process ids: another one would say that a process ended on the way.
fn pids(server: &Server) -> Vec<i32> {
    let mut pids = server.pids("");
    pids.sort_unstable();
    pids
}

#[test]
fn every_mutation_of_a_request_is_answered_and_ends_no_process() {
    let server = Server::start(&["--searchers", "1"]);
    let mut api = server.api();
    api.create(WITNESS, 4, "L2");
    api.insert(WITNESS, &[7], 1, &[1.0, 2.0, 3.0, 4.0]).expect("a row");
    let good = good();
    prepare(&mut api);
    for (method, bytes) in &good {
        api.call_bytes(*method, bytes.clone()).unwrap_or_else(|refused| panic!("{}: {refused:?}", method.name()));
    }
    let before = pids(&server);
    let check = |api: &mut Api, seeds: std::ops::Range<u64>| {
        let log = server.log();
        assert!(!log.contains("panicked") && pids(&server) == before, "one of the seeds {seeds:?}");
        let found = api.search(WITNESS, &[1.0, 2.0, 3.0, 4.0], 1).expect("a hit").0;
        assert_eq!(found, [7], "one of the seeds {seeds:?}");
    };
    if let Some(seed) = number("SHOAL_FUZZ_SEED") {
        let (method, bytes) = case(&good, seed);
        println!("{} {:?}", method.name(), String::from_utf8_lossy(&bytes));
        println!("{:?}", api.call_bytes(method, bytes));
        return check(&mut api, seed..seed + 1);
    }
    let end = Instant::now() + Duration::from_secs(number("SHOAL_FUZZ_SECONDS").unwrap_or(SECONDS));
    let first = new_seed();
    let (mut seed, mut answered) = (first, 0);
    while seed - first < REQUESTS_MIN || Instant::now() < end {
        prepare(&mut api);
        for seed in seed..seed + BATCH {
            let (method, bytes) = case(&good, seed);
            let begun = Instant::now();
            answered += u64::from(api.call_bytes(method, bytes).is_ok());
            assert!(begun.elapsed() < PATIENCE, "seed {seed}: {} took {:?}", method.name(), begun.elapsed());
        }
        check(&mut api, seed..seed + BATCH);
        seed += BATCH;
    }
    println!("{} requests from seed {first}, {answered} answered by a message", seed - first);
    // All but those that are no gRPC message.
    assert!(answered > (seed - first) / 2, "{answered} of {}", seed - first);
}
