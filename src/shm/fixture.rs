//! What the tests of this folder publish: an instance in a directory of its own, with small tables.

use std::fs::{self, File};

use super::manifest::{Catalog, CatalogCollection, Manifest, ManifestChunk, ManifestFile, Place};
use super::publish::Publisher;
use crate::config::{Instance, ServerConfig};
use crate::format::RowSource;
use crate::format::growing::{ChunkCapacity, GrowingWriter};
use crate::format::table::{sort_rows, write_table};
use crate::types::{
    Batch, CollectionId, CollectionSchema, Column, ColumnData, DataType, DurableFile, Epoch, FieldId, FieldSchema,
    FileId, FileState, PartitionId, PartitionRecord, Timestamp,
};

pub(super) const COLLECTION: CollectionId = CollectionId(7);
pub(super) const CELL: u32 = 3;

/// A data directory and a directory for shared memory.
pub(super) struct Home {
    pub(super) instance: Instance,
    pub(super) publisher: Publisher,
    /// Removed at the end; `None` when the caller does that.
    _dir: Option<tempfile::TempDir>,
}

impl Home {
    pub(super) fn new() -> Home {
        Home::with_config(&ServerConfig::default())
    }

    pub(super) fn with_config(config: &ServerConfig) -> Home {
        // Not among other temporary files: on a disk that is nearly full nothing would be copied.
        let dir = tempfile::tempdir_in("/dev/shm").unwrap();
        let instance = Home::instance_in(dir.path());
        let publisher = Publisher::open(&instance, config).unwrap();
        Home { instance, publisher, _dir: Some(dir) }
    }

    /// In a directory that the caller removes.
    pub(super) fn in_dir(dir: &std::path::Path) -> Home {
        let instance = Home::instance_in(dir);
        let publisher = Publisher::open(&instance, &ServerConfig::default()).unwrap();
        Home { instance, publisher, _dir: None }
    }

    /// An instance with `data` and `shm` in a directory.
    pub(super) fn instance_in(dir: &std::path::Path) -> Instance {
        for name in ["data", "shm"] {
            fs::create_dir_all(dir.join(name)).unwrap();
        }
        Instance::new(&dir.join("data"), &dir.join("shm")).unwrap()
    }

    /// Publishes the catalog with the one collection.
    pub(super) fn publish_catalog(&self) {
        self.publisher.publish_catalog(&catalog()).unwrap();
    }
}

pub(super) fn catalog() -> Catalog {
    let collection =
        CatalogCollection { database: "default".to_owned(), name: "books".to_owned(), id: COLLECTION, cell: CELL };
    Catalog { collections: vec![collection], ..Catalog::default() }
}

pub(super) fn schema() -> CollectionSchema {
    let field = FieldSchema { is_primary: true, ..FieldSchema::new(FieldId(100), "id", DataType::Int64) };
    CollectionSchema { description: String::new(), fields: vec![field], enable_dynamic_field: false, version: 1 }
}

pub(super) fn batch(keys: &[i64]) -> Batch {
    let column = Column { field: FieldId(100), data: ColumnData::Int64(keys.to_vec()), validity: None };
    Batch { row_count: keys.len(), columns: vec![column] }
}

/// The keys of a source's rows.
pub(super) fn keys(source: &dyn RowSource) -> Vec<i64> {
    let schema = schema();
    let column = source.column(schema.primary()).unwrap();
    (0..source.row_count()).map(|row| column.integer(row).unwrap()).collect()
}

pub(super) fn manifest(files: Vec<ManifestFile>, chunks: Vec<ManifestChunk>) -> Manifest {
    let partition = PartitionRecord {
        id: PartitionId(1),
        name: "_default".to_owned(),
        created: Timestamp(1),
        flushed_lsn: Default::default(),
        is_loaded: true,
    };
    Manifest {
        collection: COLLECTION,
        epoch: Epoch(0),
        schema: schema(),
        properties: Vec::new(),
        consistency_level: 0,
        shards: 1,
        created: Timestamp(1),
        updated: Timestamp(1),
        is_loaded: true,
        partitions: vec![partition],
        indexes: Vec::new(),
        sealed_row_count: 0,
        released: Vec::new(),
        unindexed: Vec::new(),
        horizon: Timestamp(0),
        files,
        chunks,
        damage: None,
    }
}

/// Makes a growing chunk with these keys.
pub(super) fn growing(publisher: &Publisher, name: &str, keys: &[i64]) -> (GrowingWriter, ManifestChunk) {
    let (schema, batch) = (schema(), batch(keys));
    let capacity = ChunkCapacity::for_batch(&schema, &batch, 0, keys.len() + 8, 4096);
    let bytes = capacity.file_bytes(&schema);
    let (map, place) = publisher.create_live(COLLECTION, name, bytes).unwrap();
    let mut writer = GrowingWriter::create(map, &schema, &capacity);
    writer.append(&batch, 0..keys.len(), Timestamp(5));
    let (file, partition) = (FileId(1), PartitionId(1));
    let entry = ManifestChunk { file, name: name.to_owned(), partition, file_bytes: bytes as u64, place };
    (writer, entry)
}

/// Writes a durable table file with these keys; its line says that it is on disk.
pub(super) fn table(home: &Home, file: i64, keys: &[i64]) -> ManifestFile {
    let name = format!("source-{file}.grow");
    let (writer, chunk) = growing(&home.publisher, &name, keys);
    let rows = writer.file().rows(keys.len());
    let sources: [&dyn RowSource; 1] = [&rows];
    let order = sort_rows(&schema(), &sources, &|_| true);
    let dir = home.instance.tables_dir(COLLECTION);
    fs::create_dir_all(&dir).unwrap();
    let mut out = File::create(dir.join(format!("{file}.arrow"))).unwrap();
    let summary = write_table(&mut out, &schema(), &sources, &order).unwrap();
    home.publisher.remove_live(COLLECTION, &name, chunk.place);
    ManifestFile {
        id: FileId(file),
        partition: PartitionId(1),
        state: FileState::Raw,
        row_count: summary.row_count,
        file_bytes: summary.file_bytes,
        checksum: summary.checksum,
        timestamps: summary.timestamps,
        place: Place::Disk,
        deletes: None,
        indexes: Vec::new(),
    }
}

/// Places a table of [`table`] and notes where.
pub(super) fn place(home: &Home, entry: &mut ManifestFile, copy: bool) {
    let source = home.instance.tables_dir(COLLECTION).join(format!("{}.arrow", entry.id));
    entry.place =
        home.publisher.place(COLLECTION, DurableFile::Table(entry.id), &source, entry.checksum, copy).unwrap();
}
