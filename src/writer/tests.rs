//! A writer in this process, driven by requests like a real one and read like a reader does, against a model map.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use prost::Message;
use tempfile::TempDir;

use super::commit::Committer;
use super::engine::Engine;
use super::merge_policy::Eagerness;
use super::operation::{self, Caller, Operation};
use super::{deletes, flush, lock, merge, recover, run, serialise};
use crate::config::{Instance, ServerConfig};
use crate::filter::{Plan, Templates};
use crate::ipc::method::Method;
use crate::ipc::pool::RequestHeader;
use crate::proto::{common, milvus, schema};
use crate::query::{OutputRows, RetrieveOptions, Selection, Snapshot, retrieve};
use crate::shm::attach::Attachment;
use crate::types::{ColumnData, Timestamp};

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(600);
const COLLECTION: &str = "things";

struct TestCaller {
    method: Method,
    body: Vec<u8>,
    reply: SyncSender<Vec<u8>>,
}

impl Caller for TestCaller {
    fn header(&self) -> Option<RequestHeader> {
        Some(RequestHeader { method: self.method, database: String::new(), deadline_ns: 0 })
    }

    fn body(&self) -> &[u8] {
        &self.body
    }

    fn reply(self: Box<Self>, reply: &[u8]) {
        let _ = self.reply.send(reply.to_vec());
    }
}

/// Two directories that go with the test.
struct Place {
    data: TempDir,
    shm: TempDir,
}

impl Place {
    fn new() -> Place {
        let shm = match Path::new("/dev/shm").is_dir() {
            true => tempfile::tempdir_in("/dev/shm"),
            false => tempfile::tempdir(),
        };
        Place { data: tempfile::tempdir().unwrap(), shm: shm.unwrap() }
    }

    fn instance(&self) -> Instance {
        Instance::new(self.data.path(), self.shm.path()).unwrap()
    }
}

/// A running writer. Dropped, it is as good as killed: nothing is flushed.
struct Writer {
    engine: Arc<Engine>,
    queue: Option<SyncSender<Operation>>,
    threads: Vec<JoinHandle<()>>,
}

impl Writer {
    fn start(place: &Place, config: &ServerConfig, incarnation: u32) -> Writer {
        let engine = recover::open(config.clone(), place.instance(), incarnation, None).unwrap();
        let (queue, operations): (_, Receiver<Operation>) = sync_channel(64);
        let committer = Committer::new(Arc::clone(&engine));
        let threads = vec![std::thread::spawn(move || committer.run(&operations).unwrap())];
        Writer { engine, queue: Some(queue), threads }
    }

    /// Also with a serialise thread.
    fn serialising(mut self) -> Writer {
        let engine = Arc::clone(&self.engine);
        self.threads.push(std::thread::spawn(move || serialise::run(&engine).unwrap()));
        self
    }

    fn send(&self, method: Method, request: &impl Message) -> Receiver<Vec<u8>> {
        let (reply, replied) = sync_channel(1);
        let caller = Box::new(TestCaller { method, body: request.encode_to_vec(), reply });
        if let Some(operation) = operation::decode(&self.engine, caller) {
            self.queue.as_ref().unwrap().send(operation).unwrap();
        }
        replied
    }

    fn call<T: Message + Default>(&self, method: Method, request: &impl Message) -> T {
        T::decode(self.send(method, request).recv_timeout(DEADLINE).unwrap().as_slice()).unwrap()
    }

    /// The reason of a bare status; empty for success.
    fn status(&self, method: Method, request: &impl Message) -> String {
        self.call::<common::Status>(method, request).reason
    }

    fn mutate(&self, method: Method, request: &impl Message) -> milvus::MutationResult {
        let result: milvus::MutationResult = self.call(method, request);
        let status = result.status.clone().unwrap_or_default();
        assert_eq!((status.code, status.reason.as_str()), (0, ""));
        result
    }

    fn create_collection(&self) {
        assert_eq!(self.status(Method::CreateCollection, &create_request(COLLECTION)), "");
        assert_eq!(self.status(Method::CreateIndex, &index_request()), "");
        assert_eq!(self.status(Method::LoadCollection, &load_request()), "");
    }

    fn insert(&self, rows: &[(i64, i64)]) {
        assert_eq!(self.mutate(Method::Insert, &insert_request(rows)).insert_cnt, rows.len() as i64);
    }

    fn upsert(&self, rows: &[(i64, i64)]) {
        assert_eq!(self.mutate(Method::Upsert, &upsert_request(rows)).upsert_cnt, rows.len() as i64);
    }

    fn delete(&self, expr: &str) -> i64 {
        self.mutate(Method::Delete, &delete_request(expr)).delete_cnt
    }

    fn visible(&self) -> Timestamp {
        self.engine.publisher.control().visible()
    }

    /// Turns everything that grows into table files.
    fn seal(&self) {
        flush::rotate_all(&mut lock(&self.engine.state));
        serialise::serialise_all(&self.engine, self.visible()).unwrap();
    }

    fn merge(&self, eagerness: Eagerness) {
        merge::merge_all(&self.engine, eagerness, None).unwrap_or_else(|error| panic!("{error}"));
    }

    fn sealed_count(&self) -> usize {
        lock(&self.engine.state).collections.values().map(|collection| collection.sealed.len()).sum()
    }

    /// Ends like a drain.
    fn settle(self) {
        run::settle(&self.engine).unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        self.engine.stop();
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

fn pair(key: &str, value: &str) -> common::KeyValuePair {
    common::KeyValuePair { key: key.to_owned(), value: value.to_owned() }
}

fn create_request(name: &str) -> milvus::CreateCollectionRequest {
    let field = |name: &str, data_type: i32| schema::FieldSchema {
        name: name.to_owned(),
        data_type,
        is_primary_key: name == "id",
        type_params: if data_type == 101 { vec![pair("dim", "2")] } else { Vec::new() },
        ..Default::default()
    };
    let fields = vec![field("id", 5), field("tag", 5), field("vector", 101)];
    let schema = schema::CollectionSchema { name: name.to_owned(), fields, ..Default::default() };
    milvus::CreateCollectionRequest {
        collection_name: name.to_owned(),
        schema: schema.encode_to_vec(),
        ..Default::default()
    }
}

fn index_request() -> milvus::CreateIndexRequest {
    milvus::CreateIndexRequest {
        collection_name: COLLECTION.to_owned(),
        field_name: "vector".to_owned(),
        extra_params: vec![pair("metric_type", "L2"), pair("index_type", "AUTOINDEX")],
        ..Default::default()
    }
}

fn load_request() -> milvus::LoadCollectionRequest {
    milvus::LoadCollectionRequest { collection_name: COLLECTION.to_owned(), ..Default::default() }
}

fn row_fields(rows: &[(i64, i64)]) -> Vec<schema::FieldData> {
    use schema::field_data::Field;
    let long = |name: &str, data: Vec<i64>| schema::FieldData {
        field_name: name.to_owned(),
        r#type: 5,
        field: Some(Field::Scalars(schema::ScalarField {
            data: Some(schema::scalar_field::Data::LongData(schema::LongArray { data })),
        })),
        ..Default::default()
    };
    let values = rows.iter().flat_map(|(id, tag)| [*id as f32, *tag as f32]).collect();
    let vectors = schema::VectorField {
        dim: 2,
        data: Some(schema::vector_field::Data::FloatVector(schema::FloatArray { data: values })),
    };
    let vector = schema::FieldData {
        field_name: "vector".to_owned(),
        r#type: 101,
        field: Some(Field::Vectors(vectors)),
        ..Default::default()
    };
    let (ids, tags) = rows.iter().copied().unzip();
    vec![long("id", ids), long("tag", tags), vector]
}

fn insert_request(rows: &[(i64, i64)]) -> milvus::InsertRequest {
    milvus::InsertRequest {
        collection_name: COLLECTION.to_owned(),
        fields_data: row_fields(rows),
        num_rows: rows.len() as u32,
        ..Default::default()
    }
}

fn upsert_request(rows: &[(i64, i64)]) -> milvus::UpsertRequest {
    milvus::UpsertRequest {
        collection_name: COLLECTION.to_owned(),
        fields_data: row_fields(rows),
        num_rows: rows.len() as u32,
        ..Default::default()
    }
}

fn delete_request(expr: &str) -> milvus::DeleteRequest {
    milvus::DeleteRequest { collection_name: COLLECTION.to_owned(), expr: expr.to_owned(), ..Default::default() }
}

/// A reader's snapshot, now: the visible timestamp first, then the view.
fn snapshot(place: &Place) -> Snapshot {
    let attachment = Attachment::open(&place.instance()).unwrap();
    let timestamp = attachment.control().visible();
    let catalog = attachment.catalog().unwrap();
    let entry = catalog.collections.iter().find(|entry| entry.name == COLLECTION).unwrap();
    Snapshot::new(timestamp, attachment.view(entry.id, entry.cell).unwrap())
}

fn read(snapshot: &Snapshot) -> Vec<(i64, i64)> {
    let schema = &snapshot.view.manifest.schema;
    let plan = Plan::new("", schema, &Templates::default()).unwrap();
    let selection = Selection { plan, partitions: Vec::new(), ignore_growing: false };
    let found = retrieve(snapshot, &RetrieveOptions { selection, offset: 0, limit: None }).unwrap();
    let output = OutputRows { snapshot, rows: &found.rows };
    let long = |name: &str| match output.column(schema.field(name).unwrap()).data {
        ColumnData::Int64(values) => values,
        other => panic!("{other:?}"),
    };
    long("id").into_iter().zip(long("tag")).collect()
}

fn quiet_config() -> ServerConfig {
    ServerConfig {
        auto_flush_interval: Duration::from_secs(3600),
        insert_buffer_size: 16 << 20,
        snapshot_retention: Duration::ZERO,
        buffer_wait_max: Duration::from_secs(30),
        ..ServerConfig::default()
    }
}

/// A small deterministic generator (xorshift64*).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % end
    }
}

#[test]
fn acknowledged_rows_are_visible_and_survive_a_killed_writer() {
    let place = Place::new();
    let config = quiet_config();
    let writer = Writer::start(&place, &config, 1);
    writer.create_collection();
    writer.insert(&[(1, 10), (2, 20), (3, 30)]);
    assert_eq!(read(&snapshot(&place)), [(1, 10), (2, 20), (3, 30)]);
    writer.upsert(&[(2, 21), (4, 40)]);
    assert_eq!(writer.delete("id in [1, 99]"), 2);
    let expected = [(2, 21), (3, 30), (4, 40)];
    assert_eq!(read(&snapshot(&place)), expected);
    drop(writer);
    let _writer = Writer::start(&place, &config, 2);
    assert_eq!(read(&snapshot(&place)), expected);
}

#[test]
fn a_reader_of_an_older_snapshot_keeps_it_through_upserts_flush_and_merge() {
    let place = Place::new();
    let config = ServerConfig { snapshot_retention: Duration::from_secs(3600), ..quiet_config() };
    let writer = Writer::start(&place, &config, 1);
    writer.create_collection();
    writer.insert(&[(1, 10), (2, 20)]);
    let before = snapshot(&place);
    writer.seal();
    writer.upsert(&[(1, 11)]);
    writer.seal();
    writer.merge(Eagerness::Manual);
    assert_eq!(writer.sealed_count(), 1);
    assert_eq!(read(&before), [(1, 10), (2, 20)]);
    let after = snapshot(&place);
    assert_eq!(read(&after), [(1, 11), (2, 20)]);
    assert_eq!(read(&Snapshot::new(before.timestamp, after.view)), [(1, 10), (2, 20)]);
}

#[test]
fn a_snapshot_that_a_merge_dropped_rows_of_is_refused() {
    let place = Place::new();
    let writer = Writer::start(&place, &quiet_config(), 1);
    writer.create_collection();
    writer.insert(&[(1, 10), (2, 20)]);
    let before = snapshot(&place).timestamp;
    writer.seal();
    writer.delete("id == 1");
    writer.merge(Eagerness::Manual);
    let after = snapshot(&place);
    assert_eq!(read(&after), [(2, 20)]);
    assert_eq!(after.view.sealed[0].entry.row_count, 1);
    assert!(Snapshot::new(before, after.view).check().is_err());
}

#[test]
fn any_sequence_of_operations_merges_and_restarts_agrees_with_a_map() {
    let seed = std::env::var("SHOAL_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed_u64);
    for seed in seed..seed + 3 {
        println!("SHOAL_TEST_SEED={seed}");
        run_against_model(seed, 150);
    }
}

fn run_against_model(seed: u64, steps: usize) {
    let place = Place::new();
    let config = quiet_config();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut model: BTreeMap<i64, i64> = BTreeMap::new();
    let mut incarnation = 1;
    let mut writer = Writer::start(&place, &config, incarnation);
    writer.create_collection();
    let mut next_key = 0;
    for step in 0..steps {
        let tag = step as i64;
        match random.below(12) {
            0..=2 => {
                let rows: Vec<(i64, i64)> = (0..=random.below(40) as i64).map(|i| (next_key + i, tag)).collect();
                next_key += rows.len() as i64;
                writer.insert(&rows);
                model.extend(rows);
            }
            3..=4 => {
                let first = random.below(next_key as u64 + 5) as i64;
                let rows: Vec<(i64, i64)> = (0..=random.below(30) as i64).map(|i| (first + i, tag)).collect();
                next_key = next_key.max(first + rows.len() as i64);
                writer.upsert(&rows);
                model.extend(rows);
            }
            5 => {
                let keys: Vec<i64> = (0..5).map(|_| random.below(next_key as u64 + 2) as i64).collect();
                writer.delete(&format!("id in {keys:?}"));
                model.retain(|key, _| !keys.contains(key));
            }
            6 => {
                let (low, high) = (random.below(step as u64 + 1) as i64, random.below(step as u64 + 1) as i64);
                let matched = model.iter().filter(|(_, tag)| **tag >= low && **tag < low + high / 8).count();
                assert_eq!(writer.delete(&format!("tag >= {low} and tag < {}", low + high / 8)), matched as i64);
                model.retain(|_, tag| *tag < low || *tag >= low + high / 8);
            }
            7 => writer.seal(),
            8 => writer.merge(Eagerness::Manual),
            9 => {
                deletes::checkpoint(&writer.engine).unwrap();
                writer.engine.cut_log().unwrap();
            }
            kind => {
                if kind == 10 {
                    drop(writer)
                } else {
                    writer.settle()
                }
                incarnation += 1;
                writer = Writer::start(&place, &config, incarnation);
            }
        }
        let expected: Vec<(i64, i64)> = model.iter().map(|(key, tag)| (*key, *tag)).collect();
        assert_eq!(read(&snapshot(&place)), expected, "seed {seed}, step {step}");
    }
}

#[test]
fn the_insert_buffer_never_exceeds_its_cap_and_no_row_is_lost() {
    let place = Place::new();
    let config = ServerConfig { insert_buffer_size: 1 << 20, ..quiet_config() };
    let writer = Writer::start(&place, &config, 1).serialising();
    writer.create_collection();
    let batch = |first: i64| (first..first + 2_000).map(|id| (id, id)).collect::<Vec<_>>();
    let replies: Vec<_> = (0..40).map(|i| writer.send(Method::Insert, &insert_request(&batch(i * 2_000)))).collect();
    for reply in replies {
        let bytes = reply.recv_timeout(DEADLINE).unwrap();
        let result = milvus::MutationResult::decode(bytes.as_slice()).unwrap();
        assert_eq!(result.status.unwrap().reason, "");
    }
    let (_, used_max) = writer.engine.buffer.used();
    assert!(used_max <= 1 << 20 && used_max > 0);
    assert_eq!(read(&snapshot(&place)).len(), 80_000);
}

#[test]
fn a_request_larger_than_the_buffer_is_refused_and_says_so() {
    let place = Place::new();
    let config = ServerConfig { insert_buffer_size: 256 << 10, ..quiet_config() };
    let writer = Writer::start(&place, &config, 1);
    writer.create_collection();
    let rows: Vec<(i64, i64)> = (0..20_000).map(|id| (id, id)).collect();
    let result: milvus::MutationResult = writer.call(Method::Insert, &insert_request(&rows));
    assert!(result.status.unwrap().reason.contains("insert_buffer_size"));
    assert!(read(&snapshot(&place)).is_empty());
}

#[test]
fn a_full_buffer_ends_in_a_retryable_error() {
    let place = Place::new();
    let config =
        ServerConfig { insert_buffer_size: 128 << 10, buffer_wait_max: Duration::from_millis(50), ..quiet_config() };
    // Nothing serialises: room never comes.
    let writer = Writer::start(&place, &config, 1);
    writer.create_collection();
    let rows: Vec<(i64, i64)> = (0..1_000).map(|id| (id, id)).collect();
    let mut codes = Vec::new();
    for _ in 0..4 {
        let result: milvus::MutationResult = writer.call(Method::Insert, &insert_request(&rows));
        codes.push(result.status.unwrap().code);
    }
    assert_eq!(codes.last(), Some(&8));
    let accepted = codes.iter().filter(|code| **code == 0).count();
    assert_eq!(read(&snapshot(&place)).len(), accepted * 1_000);
}

#[test]
fn flush_answers_when_every_row_before_it_is_in_a_table_file() {
    let place = Place::new();
    let writer = Writer::start(&place, &quiet_config(), 1).serialising();
    writer.create_collection();
    writer.insert(&[(1, 1)]);
    let request = milvus::FlushRequest { collection_names: vec![COLLECTION.to_owned()], ..Default::default() };
    let reply: milvus::FlushResponse = writer.call(Method::Flush, &request);
    assert_eq!(writer.sealed_count(), 1);
    let state = |flush_ts: u64| milvus::GetFlushStateRequest {
        flush_ts,
        collection_name: COLLECTION.to_owned(),
        ..Default::default()
    };
    let flush_ts = reply.coll_flush_ts[COLLECTION];
    writer.insert(&[(2, 2)]);
    assert!(writer.call::<milvus::GetFlushStateResponse>(Method::GetFlushState, &state(flush_ts)).flushed);
    let later = writer.engine.clock.last().0;
    assert!(!writer.call::<milvus::GetFlushStateResponse>(Method::GetFlushState, &state(later)).flushed);
}

#[test]
fn truncated_and_dropped_rows_never_come_back() {
    let place = Place::new();
    let config = quiet_config();
    let writer = Writer::start(&place, &config, 1);
    writer.create_collection();
    writer.insert(&[(1, 1)]);
    writer.seal();
    writer.insert(&[(2, 2)]);
    let request = milvus::TruncateCollectionRequest { collection_name: COLLECTION.to_owned(), ..Default::default() };
    let reply: milvus::TruncateCollectionResponse = writer.call(Method::TruncateCollection, &request);
    assert_eq!(reply.status.unwrap().code, 0);
    assert!(read(&snapshot(&place)).is_empty());
    assert_eq!(writer.engine.buffer.used().0, 0);
    writer.insert(&[(3, 3)]);
    drop(writer);
    let writer = Writer::start(&place, &config, 2);
    assert_eq!(read(&snapshot(&place)), [(3, 3)]);
    let request = milvus::DropCollectionRequest { collection_name: COLLECTION.to_owned(), ..Default::default() };
    assert_eq!(writer.status(Method::DropCollection, &request), "");
    assert_eq!(writer.status(Method::DropCollection, &request), "");
    writer.create_collection();
    drop(writer);
    let _writer = Writer::start(&place, &config, 3);
    assert!(read(&snapshot(&place)).is_empty());
}

#[test]
fn a_damaged_table_file_stops_its_collection_only() {
    let place = Place::new();
    let config = quiet_config();
    let writer = Writer::start(&place, &config, 1);
    writer.create_collection();
    writer.insert(&[(1, 1)]);
    writer.seal();
    let path = {
        let state = lock(&writer.engine.state);
        let record = &state.collections.values().next().unwrap().sealed[0].record;
        writer.engine.store.table_path(record.collection, record.id)
    };
    writer.settle();
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    std::fs::remove_dir_all(place.instance().shm_dir).unwrap();
    let writer = Writer::start(&place, &config, 2);
    let damage = snapshot(&place).view.manifest.damage.clone().unwrap();
    assert!(damage.contains(path.to_str().unwrap()) && damage.contains("shoal doctor"), "{damage}");
    assert_eq!(writer.status(Method::CreateCollection, &create_request("other")), "");
}

#[test]
fn ten_thousand_rows_inserted_one_at_a_time_end_in_a_handful_of_files() {
    let place = Place::new();
    let writer = Writer::start(&place, &quiet_config(), 1);
    writer.create_collection();
    for first in (0..400).map(|i| i * 25) {
        (first..first + 25).for_each(|id| writer.insert(&[(id, id)]));
        writer.seal();
        writer.merge(Eagerness::Layers);
    }
    writer.merge(Eagerness::Idle);
    assert!(writer.sealed_count() <= 4);
    assert_eq!(read(&snapshot(&place)).len(), 10_000);
}

#[test]
fn definitions_follow_the_rules_of_milvus() {
    let place = Place::new();
    let writer = Writer::start(&place, &quiet_config(), 1);
    assert_eq!(writer.status(Method::CreateCollection, &create_request(COLLECTION)), "");
    assert_eq!(writer.status(Method::CreateCollection, &create_request(COLLECTION)), "");
    let mut other = create_request(COLLECTION);
    other.shards_num = 2;
    let text = writer.status(Method::CreateCollection, &other);
    assert!(text.contains("create duplicate collection with different parameters, collection: things"), "{text}");
    let text = writer.status(Method::LoadCollection, &load_request());
    assert!(text.contains("there is no vector index on field: [vector], please create index firstly"), "{text}");
    assert_eq!(writer.status(Method::CreateIndex, &index_request()), "");
    assert_eq!(writer.status(Method::CreateIndex, &index_request()), "");
    let mut other = index_request();
    other.extra_params[0].value = "IP".to_owned();
    let text = writer.status(Method::CreateIndex, &other);
    assert!(text.contains("at most one distinct index is allowed per field"), "{text}");
    other.extra_params[1].value = "TREE".to_owned();
    assert!(writer.status(Method::CreateIndex, &other).contains("index type: TREE"));
    assert_eq!(writer.status(Method::LoadCollection, &load_request()), "");
    let request = milvus::DropIndexRequest {
        collection_name: COLLECTION.to_owned(),
        field_name: "vector".to_owned(),
        ..Default::default()
    };
    assert!(writer.status(Method::DropIndex, &request).contains("vector index cannot be dropped on loaded collection"));
    let request = milvus::CreateAliasRequest {
        collection_name: COLLECTION.to_owned(),
        alias: "nick".to_owned(),
        ..Default::default()
    };
    assert_eq!(writer.status(Method::CreateAlias, &request), "");
    let drop_named =
        |name: &str| milvus::DropCollectionRequest { collection_name: name.to_owned(), ..Default::default() };
    let text = writer.status(Method::DropCollection, &drop_named("nick"));
    assert!(text.contains("cannot drop the collection via alias = nick"), "{text}");
    let text = writer.status(Method::DropCollection, &drop_named(COLLECTION));
    assert!(text.contains("associated aliases [nick]"), "{text}");
    let text = writer.call::<milvus::MutationResult>(Method::Delete, &delete_request("")).status.unwrap().reason;
    assert!(text.contains("delete plan can't be empty or always true : "), "{text}");
}

#[test]
fn a_stale_schema_timestamp_is_a_schema_mismatch() {
    let place = Place::new();
    let writer = Writer::start(&place, &quiet_config(), 1);
    writer.create_collection();
    let mut request = insert_request(&[(1, 1)]);
    request.schema_timestamp = 7;
    let status = writer.call::<milvus::MutationResult>(Method::Insert, &request).status.unwrap();
    assert_eq!((status.code, status.error_code), (109, 62));
}

#[test]
fn a_start_on_a_hundred_thousand_rows_publishes_at_once() {
    let place = Place::new();
    let config = quiet_config();
    let writer = Writer::start(&place, &config, 1);
    writer.create_collection();
    for first in (0..10).map(|i| i * 10_000) {
        writer.insert(&(first..first + 10_000).map(|id| (id, id)).collect::<Vec<_>>());
    }
    writer.settle();
    let started = Instant::now();
    let _writer = Writer::start(&place, &config, 2);
    println!("recovered in {:?}", started.elapsed());
    assert_eq!(snapshot(&place).view.manifest.sealed_row_count, 100_000);
}
