//! Attaching to an instance that a test publishes: what is seen, what happens after a fork and after a new start.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::config::ServerConfig;
use crate::format::growing::{ChunkCapacity, GrowingWriter};
use crate::query::tests::world::{DIM, KeyKind, ModelRow, VECTOR, World};
use crate::shm::manifest::{CatalogAlias, ManifestChunk};
use crate::shm::publish::Publisher;
use crate::shm::readers;
use crate::sys::lock::{DirLock, LockOwner};
use crate::sys::test_child::Child;
use crate::types::{
    CollectionId, ColumnData, DatabaseRecord, FileId, IndexId, IndexRecord, Keys, PartitionId, PartitionRecord,
};

const COLLECTION: CollectionId = CollectionId(5);
const CELL: u32 = 2;

/// A data directory that nobody serves yet. Its block of reader slots has a name in /dev/shm: removed at the end.
struct Home {
    directory: tempfile::TempDir,
    instance: Instance,
}

impl Home {
    fn new() -> Home {
        let directory = tempfile::tempdir().unwrap();
        for name in ["data", "shm"] {
            fs::create_dir(directory.path().join(name)).unwrap();
        }
        let instance = Instance::new(&directory.path().join("data"), &directory.path().join("shm")).unwrap();
        fs::create_dir_all(instance.run_dir()).unwrap();
        fs::write(instance.description_path(), serde_json::to_string(&instance).unwrap()).unwrap();
        Home { directory, instance }
    }

    fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// What a server does: takes the lock, publishes one collection with keys 0.. in a growing chunk.
    fn serve(&self, row_count: i64) -> Served {
        let owner = LockOwner { pid: std::process::id(), started_unix_ms: 0, command: "test".to_owned() };
        let lock = DirLock::take(&self.instance.lock_path(), &owner).unwrap();
        readers::create_block(&self.instance).unwrap();
        let publisher = Publisher::open(&self.instance, &ServerConfig::default()).unwrap();
        let world = World::empty(KeyKind::Int);
        let rows: Vec<ModelRow> = (0..row_count).map(|key| ModelRow::near(key, key as f32)).collect();
        let batch = world.batch(&rows);
        let capacity = ChunkCapacity::for_batch(&world.schema, &batch, 0, rows.len(), 1 << 12);
        let bytes = capacity.file_bytes(&world.schema);
        let (map, place) = publisher.create_live(COLLECTION, "1-0-1.grow", bytes).unwrap();
        let mut writer = GrowingWriter::create(map, &world.schema, &capacity);
        writer.append(&batch, 0..rows.len(), Timestamp(50));
        let chunk = ManifestChunk {
            file: FileId(1),
            name: "1-0-1.grow".to_owned(),
            partition: PartitionId(1),
            file_bytes: bytes as u64,
            place,
        };
        publish(&publisher, &world, chunk);
        publisher.control().set_visible(Timestamp(50));
        Served { instance: self.instance.clone(), publisher, _lock: lock }
    }
}

fn publish(publisher: &Publisher, world: &World, chunk: ManifestChunk) {
    let mut manifest = world.snapshot(1).view.manifest.clone();
    manifest.collection = COLLECTION;
    manifest.chunks = vec![chunk];
    let params = vec![("metric_type".to_owned(), "L2".to_owned())];
    manifest.indexes = vec![IndexRecord { id: IndexId(1), name: "vector".to_owned(), field: VECTOR, params }];
    manifest.partitions = vec![PartitionRecord {
        id: PartitionId(1),
        name: "_default".to_owned(),
        created: Timestamp(1),
        flushed_lsn: Default::default(),
        is_loaded: true,
    }];
    publisher.publish_manifest(CELL, &mut manifest).unwrap();
    let database = "default".to_owned();
    let record = DatabaseRecord { name: database.clone(), id: 1, created: Timestamp(1), properties: Vec::new() };
    let items = CatalogCollection { database: database.clone(), name: "items".to_owned(), id: COLLECTION, cell: CELL };
    let alias = CatalogAlias { database, alias: "things".to_owned(), collection: COLLECTION };
    let catalog = Catalog { databases: vec![record], collections: vec![items], aliases: vec![alias] };
    publisher.publish_catalog(&catalog).unwrap();
}

/// A running server; dropped, it cleans up as a stopping server does.
struct Served {
    instance: Instance,
    publisher: Publisher,
    _lock: DirLock,
}

impl Drop for Served {
    fn drop(&mut self) {
        readers::remove_block(&self.instance);
        let _ = fs::remove_dir_all(&self.instance.shm_dir);
    }
}

#[test]
fn without_a_server_attach_says_how_to_start_one() {
    let directory = tempfile::tempdir().unwrap();
    let error = Reader::attach(directory.path()).unwrap_err();
    assert!(error.message.contains("start one with `shoal serve"), "{error}");
    // A killed server leaves its description, but not its lock.
    let home = Home::new();
    let error = Reader::attach(home.data_dir()).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
}

#[test]
fn a_reader_searches_queries_and_counts_by_name_and_by_alias() {
    let home = Home::new();
    let _served = home.serve(20);
    let reader = Reader::attach(home.data_dir()).unwrap();
    let mut request = SearchRequest::new(vec![0.0; 2 * DIM], 3);
    request.output_fields = vec!["number".to_owned()];
    let hits = reader.search("default", "things", &request).unwrap();
    assert_eq!(hits.len(), 2);
    assert_eq!((&hits[0].keys, hits[0].scores.as_slice()), (&Keys::Int(vec![0, 1, 2]), [0.0, 1.0, 4.0].as_slice()));
    assert_eq!(hits[1].columns[0].data, ColumnData::Int64(vec![0, 1, 2]));
    let page = QueryRequest { limit: Some(2), offset: 4, ..QueryRequest::default() };
    assert_eq!(reader.query("default", "items", &page).unwrap().keys, Keys::Int(vec![4, 5]));
    assert_eq!(reader.count("default", "items", "").unwrap(), 20);
    assert_eq!(reader.describe("default", "items").unwrap().manifest.collection, COLLECTION);
    let missing = reader.count("default", "nothing", "").unwrap_err();
    assert_eq!(missing.message, "collection not found[database=default][collection=nothing]");
    assert_eq!(reader.count("other", "items", "").unwrap_err().kind, ErrorKind::DatabaseNotFound);
}

#[test]
fn a_name_that_was_used_means_what_the_present_catalog_says() {
    let home = Home::new();
    let served = home.serve(5);
    let reader = Reader::attach(home.data_dir()).unwrap();
    let first = reader.describe("default", "things").unwrap();
    let again = reader.describe("default", "things").unwrap();
    assert!(Arc::ptr_eq(&first, &again));
    let mut catalog = (*reader.catalog().unwrap()).clone();
    let alias = catalog.aliases.pop().unwrap();
    served.publisher.publish_catalog(&catalog).unwrap();
    let error = reader.describe("default", "things").unwrap_err();
    assert_eq!(error.kind, ErrorKind::CollectionNotFound);
    assert_eq!(reader.count("default", "items", "").unwrap(), 5);
    catalog.aliases.push(CatalogAlias { alias: "items".to_owned(), ..alias });
    catalog.collections[0].name = "things".to_owned();
    served.publisher.publish_catalog(&catalog).unwrap();
    for name in ["items", "things", "items"] {
        assert_eq!(reader.count("default", name, "").unwrap(), 5, "{name}");
    }
    assert_eq!(reader.count("other", "items", "").unwrap_err().kind, ErrorKind::DatabaseNotFound);
    // A new manifest of the same name is another view.
    publish(&served.publisher, &World::empty(KeyKind::Int), first.manifest.chunks[0].clone());
    let next = reader.describe("default", "things").unwrap();
    assert!(!Arc::ptr_eq(&first, &next) && next.manifest.epoch > first.manifest.epoch);
}

#[test]
fn rows_beyond_the_visible_timestamp_are_not_seen() {
    let home = Home::new();
    let served = home.serve(4);
    let reader = Reader::attach(home.data_dir()).unwrap();
    assert_eq!(reader.count("default", "items", "").unwrap(), 4);
    let before = Snapshot { timestamp: Timestamp(49), ..reader.snapshot("default", "items").unwrap() };
    let plan = crate::filter::Plan::new("", &before.view.manifest.schema, &Default::default()).unwrap();
    let selection = crate::query::Selection { plan, partitions: Vec::new(), ignore_growing: false };
    assert_eq!(crate::query::count(&before, &selection).unwrap(), 0);
    assert_eq!(served.publisher.control().visible(), reader.visible().unwrap());
}

#[test]
fn a_forked_child_attaches_again_and_takes_nothing_from_its_parent() {
    let home = Home::new();
    let _served = home.serve(7);
    let reader = Arc::new(Reader::attach(home.data_dir()).unwrap());
    let kept = reader.snapshot("default", "items").unwrap();
    let in_child = Arc::clone(&reader);
    let child = Child::fork(move || {
        let counted = in_child.count("default", "items", "").ok() == Some(7);
        // A grandchild attaches once more.
        let grandchild = Child::fork(|| i32::from(in_child.count("default", "items", "").ok() != Some(7)));
        let is_mapped = kept.view.growing[0].file.rows_published() == 7;
        let grandchild_is_well = grandchild.wait() == Some(0);
        drop(in_child);
        i32::from(!(counted && is_mapped && grandchild_is_well))
    });
    assert_eq!(child.wait(), Some(0));
    let pids: Vec<u32> = readers::list(&home.instance).unwrap().iter().map(|info| info.pid).collect();
    assert_eq!(pids, [std::process::id()]);
    assert_eq!(reader.count("default", "items", "").unwrap(), 7);
}

#[test]
fn a_reader_used_by_a_thread_at_the_fork_does_not_hang_the_child() {
    let home = Home::new();
    let _served = home.serve(7);
    let reader = Reader::attach(home.data_dir()).unwrap();
    // As if a thread had been looking at the parent's attachment in the moment of the fork.
    let _held = reader.attached.lock_current_for_test();
    let child = Child::fork(|| i32::from(reader.count("default", "items", "").ok() != Some(7)));
    assert_eq!(child.wait(), Some(0));
}

#[test]
fn a_reader_follows_a_server_that_is_started_again() {
    let home = Home::new();
    let served = home.serve(3);
    let reader = Reader::attach(home.data_dir()).unwrap();
    assert_eq!(reader.count("default", "items", "").unwrap(), 3);
    drop(served);
    // It looks now and then only.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(600);
    let error = loop {
        match reader.count("default", "items", "") {
            Ok(_) => assert!(std::time::Instant::now() < deadline, "the stop of the server is not noticed"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind, ErrorKind::Unavailable);
    let _served = home.serve(8);
    assert_eq!(reader.count("default", "items", "").unwrap(), 8);
    assert_eq!(readers::list(&home.instance).unwrap().len(), 1);
}

#[test]
fn many_threads_share_one_reader() {
    let home = Home::new();
    let _served = home.serve(9);
    let reader = Reader::attach(home.data_dir()).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert_eq!(reader.count("default", "items", "").unwrap(), 9);
                }
            });
        }
    });
    assert_eq!(readers::list(&home.instance).unwrap().len(), 1);
}
