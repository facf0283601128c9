//! What exists, in memory, behind one lock: databases, names, and per collection its records, table files and MemTables.
//!
//! Lock order of the writer: meta, then state, then log. Whoever changes records holds meta from reading them until the
//! changed state is in place; the commit thread takes only state (and log) for rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::mem_table::{MemTable, MemTableFile};
use crate::config::limits::{BUILD_ATTEMPTS_MAX, INDEXED_ROWS_MIN};
use crate::format::RowSource;
use crate::format::deletes::DeletedAt;
use crate::format::table::TableFile;
use crate::index::spec::IndexSpec;
use crate::shm::manifest::{
    Catalog, CatalogAlias, CatalogCollection, Manifest, ManifestDeletes, ManifestFile, ManifestIndex,
    ManifestUnindexed, Place, ReleasedFile,
};
use crate::types::{
    CollectionId, CollectionRecord, CollectionSchema, DatabaseRecord, DurableFile, Epoch, Error, ErrorKind,
    FieldSchema, FileRecord, IndexFileRecord, IndexId, Lsn, PartitionId, PartitionRecord, Result, Timestamp,
};

/// The live deletes of a table file.
#[derive(Clone, Debug)]
pub struct LiveDeletes {
    /// File name.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// The cells.
    pub cells: DeletedAt,
}

/// A table file.
#[derive(Debug)]
pub struct SealedTable {
    /// As in meta.
    pub record: FileRecord,
    /// The writer's own map, of the durable file: shared memory holds the readers' copy only.
    pub table: Arc<TableFile>,
    /// Where readers map it from.
    pub place: Place,
    /// Made with the first delete.
    pub deletes: Option<LiveDeletes>,
    /// The first delete that is not in a checkpoint; the log is kept from there on.
    pub dirty_lsn: Option<Lsn>,
    /// The last delete.
    pub marked_last: Timestamp,
    /// A merge reads it.
    pub is_merging: bool,
    /// The builder reads it.
    pub is_indexing: bool,
    /// When this writer made it; `None` for files of earlier writers.
    pub since: Option<Instant>,
    /// Finished indexes over it.
    pub indexes: Vec<SealedIndex>,
    /// Indexes whose builds failed.
    pub failed: Vec<FailedBuilds>,
}

/// A finished index over a table file.
#[derive(Clone, Debug)]
pub struct SealedIndex {
    /// As in meta.
    pub record: IndexFileRecord,
    /// Where readers map it from.
    pub place: Place,
    /// Whether its checksum was found right since the server started. Until then no reader is told of it.
    pub is_checked: bool,
}

/// Builds of one index over one table file that failed.
#[derive(Clone, Debug)]
pub struct FailedBuilds {
    /// Which index.
    pub index: IndexId,
    /// How often.
    pub count: u32,
    /// Why, the last time.
    pub message: String,
}

/// An index of a collection for which files are built.
#[derive(Clone, Debug)]
pub struct BuiltIndex {
    /// Which.
    pub id: IndexId,
    /// Over which field.
    pub field: FieldSchema,
    /// How.
    pub spec: IndexSpec,
}

impl SealedTable {
    /// A file without deletes and indexes, mapped from disk.
    pub fn new(record: FileRecord, table: TableFile) -> SealedTable {
        SealedTable {
            record,
            table: table.into(),
            place: Place::Disk,
            deletes: None,
            dirty_lsn: None,
            marked_last: Timestamp(0),
            is_merging: false,
            is_indexing: false,
            since: None,
            indexes: Vec::new(),
            failed: Vec::new(),
        }
    }

    /// Of these indexes the ones that it is large enough for and does not have. A file older than a field has no vectors.
    pub fn lacking<'a>(&'a self, built: &'a [BuiltIndex]) -> impl Iterator<Item = &'a BuiltIndex> {
        let is_large = self.record.row_count >= INDEXED_ROWS_MIN;
        let has = |id: IndexId| self.indexes.iter().any(|index| index.record.index == id);
        built.iter().filter(move |index| is_large && !has(index.id) && self.table.column(&index.field).is_some())
    }

    /// The failures of an index, when there are too many to try again.
    pub fn given_up(&self, index: IndexId) -> Option<&FailedBuilds> {
        self.failed.iter().find(|failed| failed.index == index && failed.count >= BUILD_ATTEMPTS_MAX)
    }

    /// Rows marked deleted.
    pub fn marked_count(&self) -> u64 {
        self.deletes.as_ref().map_or(0, |deletes| deletes.cells.marked_count())
    }
}

/// A file that goes once no published manifest names it.
#[derive(Debug)]
pub enum Garbage {
    /// A chunk (its bytes go back to the buffer) or a `deleted_at` file.
    Live {
        /// File name.
        name: String,
        /// Where it is.
        place: Place,
        /// Bytes of the insert buffer.
        buffer_bytes: u64,
    },
    /// The copy of a table or index file in shared memory.
    Published(DurableFile),
    /// A durable table file with its checkpoint, or an index file, and the copy in shared memory.
    Durable(DurableFile),
}

/// A collection.
#[derive(Debug)]
pub struct Collection {
    /// As in meta.
    pub record: CollectionRecord,
    /// The record's schema, shared with decoders.
    pub schema: Arc<CollectionSchema>,
    /// Table files that can be read.
    pub sealed: Vec<SealedTable>,
    /// Table files that failed their check.
    pub unreadable: Vec<FileRecord>,
    /// By partition.
    pub memtables: BTreeMap<PartitionId, MemTable>,
    /// Merges dropped rows deleted up to here.
    pub horizon: Timestamp,
    /// The last operation that marked a row deleted.
    pub marked_last: Timestamp,
    /// What is wrong with its files.
    pub damage: Option<String>,
    /// The published manifest is behind. No operation on the collection may become visible before it is not.
    pub is_dirty: bool,
    /// Goes after the next publication.
    pub garbage: Vec<Garbage>,
}

impl Collection {
    /// A collection without rows.
    pub fn new(record: CollectionRecord) -> Collection {
        Collection {
            schema: Arc::new(record.schema.clone()),
            record,
            sealed: Vec::new(),
            unreadable: Vec::new(),
            memtables: BTreeMap::new(),
            horizon: Timestamp(0),
            marked_last: Timestamp(0),
            damage: None,
            is_dirty: true,
            garbage: Vec::new(),
        }
    }

    /// A partition by name; the empty name is the default partition.
    ///
    /// # Errors
    /// When there is none.
    pub fn partition(&self, name: &str) -> Result<&PartitionRecord> {
        let name = if name.is_empty() { DEFAULT_PARTITION } else { name };
        self.record
            .partitions
            .iter()
            .find(|partition| partition.name == name)
            .ok_or_else(|| Error::new(ErrorKind::PartitionNotFound, format!("partition not found[partition={name}]")))
    }

    /// A partition by id.
    pub fn partition_by_id(&self, id: PartitionId) -> Option<&PartitionRecord> {
        self.record.partitions.iter().find(|partition| partition.id == id)
    }

    /// Whether readers see rows of the partition.
    pub fn is_published(&self, partition: PartitionId) -> bool {
        self.record.is_loaded && self.partition_by_id(partition).is_some_and(|partition| partition.is_loaded)
    }

    /// Every MemTableFile.
    pub fn memtable_files(&self) -> impl Iterator<Item = &MemTableFile> {
        self.memtables.values().flat_map(MemTable::files)
    }

    /// What readers must visit. The epoch is set when it is published.
    pub fn manifest(&self) -> Manifest {
        let sealed_rows: u64 = self.sealed.iter().map(|file| file.record.row_count - file.marked_count()).sum();
        let published = self.sealed.iter().filter(|file| self.is_published(file.record.partition));
        let released = self.sealed.iter().filter(|file| !self.is_published(file.record.partition));
        let memtables = self.memtables.iter().filter(|(partition, _)| self.is_published(**partition));
        Manifest {
            collection: self.record.id,
            epoch: Epoch(0),
            schema: self.record.schema.clone(),
            properties: self.record.properties.clone(),
            consistency_level: self.record.consistency_level,
            shards: self.record.shards,
            created: self.record.created,
            updated: self.record.updated,
            is_loaded: self.record.is_loaded,
            partitions: self.record.partitions.clone(),
            indexes: self.record.indexes.clone(),
            sealed_row_count: sealed_rows,
            unindexed: self.unindexed(),
            horizon: self.horizon,
            files: published.map(manifest_file).collect(),
            released: released.map(released_file).collect(),
            chunks: memtables.flat_map(|(_, table)| table.files()).flat_map(MemTableFile::manifest_chunks).collect(),
            damage: self.damage.clone(),
        }
    }

    /// The indexes for which files are built.
    pub fn built_indexes(&self) -> Vec<BuiltIndex> {
        let built = self.record.indexes.iter().filter_map(|index| {
            let field = self.schema.field_by_id(index.field).filter(|field| field.data_type.is_vector())?.clone();
            let spec = IndexSpec::parse(&field, &index.params).ok().filter(IndexSpec::is_built)?;
            Some(BuiltIndex { id: index.id, field, spec })
        });
        built.collect()
    }

    /// What is still to be built, or to be checked after a start.
    fn unindexed(&self) -> Vec<ManifestUnindexed> {
        let built = self.built_indexes();
        let of_file = |file: &SealedTable| -> Vec<ManifestUnindexed> {
            let is_published = self.is_published(file.record.partition);
            let unchecked = file.indexes.iter().filter(|index| is_published && !index.is_checked);
            let unchecked = unchecked.map(|index| (index.record.index, None));
            let lacking = file.lacking(&built).map(|index| (index.id, file.given_up(index.id)));
            let of_index = |(index, failed): (IndexId, Option<&FailedBuilds>)| ManifestUnindexed {
                index,
                file: file.record.id,
                row_count: file.record.row_count,
                timestamp_min: Timestamp(file.record.timestamps.0),
                failure: failed.map(|failed| failed.message.clone()),
            };
            lacking.chain(unchecked).map(of_index).collect()
        };
        self.sealed.iter().flat_map(of_file).collect()
    }

    /// The first log record that is needed after a crash; `None` when everything is in table files and checkpoints.
    pub fn log_needed_from(&self) -> Option<Lsn> {
        let rows = self.memtable_files().filter(|file| file.row_count > 0).map(|file| file.lsns.0);
        let deletes = self.sealed.iter().filter_map(|file| file.dirty_lsn);
        let marks = self.memtable_files().filter_map(|file| file.dirty_lsn);
        rows.chain(deletes).chain(marks).min()
    }

    /// Ends the files that grow: rows that come next have columns that these files lack.
    pub fn start_fresh_files(&mut self) {
        let mut empty = Vec::new();
        for table in self.memtables.values_mut() {
            table.rotate();
            // Without rows there is nothing to serialise.
            empty.extend(table.mutable.take());
        }
        empty.into_iter().for_each(|file| self.discard(file));
    }

    /// Turns a MemTableFile's chunks into garbage.
    pub fn discard(&mut self, file: MemTableFile) {
        self.garbage.extend(file.chunks.into_iter().map(|chunk| Garbage::Live {
            name: chunk.name,
            place: chunk.place,
            buffer_bytes: chunk.bytes,
        }));
    }

    /// Turns a table file into garbage.
    pub fn discard_sealed(&mut self, file: SealedTable) {
        if let Some(deletes) = file.deletes {
            self.garbage.push(Garbage::Live { name: deletes.name, place: deletes.place, buffer_bytes: 0 });
        }
        let indexes = file.indexes.iter().map(|index| Garbage::Durable(index.record.name()));
        self.garbage.extend(indexes);
        self.garbage.push(Garbage::Durable(DurableFile::Table(file.record.id)));
    }
}

/// The partition every collection has.
pub const DEFAULT_PARTITION: &str = "_default";

fn released_file(file: &SealedTable) -> ReleasedFile {
    ReleasedFile {
        id: file.record.id,
        partition: file.record.partition,
        row_count: file.record.row_count,
        deleted_count: file.marked_count(),
    }
}

fn manifest_index(index: &SealedIndex) -> ManifestIndex {
    let record = &index.record;
    ManifestIndex { index: record.index, file_bytes: record.file_bytes, checksum: record.checksum, place: index.place }
}

fn manifest_file(file: &SealedTable) -> ManifestFile {
    let record = &file.record;
    ManifestFile {
        id: record.id,
        partition: record.partition,
        state: record.state,
        row_count: record.row_count,
        file_bytes: record.file_bytes,
        checksum: record.checksum,
        timestamps: record.timestamps,
        place: file.place,
        deletes: file
            .deletes
            .as_ref()
            .map(|deletes| ManifestDeletes { name: deletes.name.clone(), place: deletes.place }),
        indexes: file.indexes.iter().filter(|index| index.is_checked).map(manifest_index).collect(),
    }
}

/// Everything.
#[derive(Debug, Default)]
pub struct State {
    /// At least `default`.
    pub databases: Vec<DatabaseRecord>,
    /// (database, alias) -> collection.
    pub aliases: BTreeMap<(String, String), CollectionId>,
    /// (database, name) -> collection.
    pub names: HashMap<(String, String), CollectionId>,
    /// By id.
    pub collections: BTreeMap<CollectionId, Collection>,
}

impl State {
    /// The collection of a name or alias.
    ///
    /// # Errors
    /// When there is no such database, or no such collection in it.
    pub fn resolve(&self, database: &str, name: &str) -> Result<CollectionId> {
        self.database(database)?;
        let key = (database.to_owned(), name.to_owned());
        let found = self.names.get(&key).or_else(|| self.aliases.get(&key));
        found.copied().ok_or_else(|| collection_not_found(database, name))
    }

    /// A database by name.
    ///
    /// # Errors
    /// When there is none.
    pub fn database(&self, name: &str) -> Result<&DatabaseRecord> {
        self.databases
            .iter()
            .find(|database| database.name == name)
            .ok_or_else(|| Error::new(ErrorKind::DatabaseNotFound, format!("database not found[database={name}]")))
    }

    /// A collection that an operation was decoded for; it may have been dropped since.
    ///
    /// # Errors
    /// When it was.
    pub fn collection(&mut self, id: CollectionId) -> Result<&mut Collection> {
        self.collections.get_mut(&id).ok_or_else(|| dropped(id))
    }

    /// The names, for readers.
    pub fn catalog(&self) -> Catalog {
        let collections = self.collections.values().map(|collection| CatalogCollection {
            database: collection.record.database.clone(),
            name: collection.record.name.clone(),
            id: collection.record.id,
            cell: collection.record.cell,
        });
        let aliases = self.aliases.iter().map(|((database, alias), collection)| CatalogAlias {
            database: database.clone(),
            alias: alias.clone(),
            collection: *collection,
        });
        Catalog { databases: self.databases.clone(), collections: collections.collect(), aliases: aliases.collect() }
    }

    /// Adds a collection and its name.
    pub fn add(&mut self, collection: Collection) {
        let record = &collection.record;
        self.names.insert((record.database.clone(), record.name.clone()), record.id);
        self.collections.insert(record.id, collection);
    }

    /// The first log record that is needed after a crash.
    pub fn log_needed_from(&self) -> Option<Lsn> {
        self.collections.values().filter_map(Collection::log_needed_from).min()
    }
}

/// Milvus' error for a name that names nothing.
pub fn collection_not_found(database: &str, name: &str) -> Error {
    let message = format!("collection not found[database={database}][collection={name}]");
    Error::new(ErrorKind::CollectionNotFound, message)
}

fn dropped(id: CollectionId) -> Error {
    Error::new(ErrorKind::CollectionNotFound, format!("collection not found[collection={id}]"))
}
