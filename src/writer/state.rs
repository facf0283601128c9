//! What exists, in memory, behind one lock: databases, names, and per collection its records, table files and MemTables.
//!
//! Lock order of the writer: meta, then state, then log. Whoever changes records holds meta from reading them until the
//! changed state is in place; the commit thread takes only state (and log) for rows.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::mem_table::{MemTable, MemTableFile};
use crate::format::deletes::DeletedAt;
use crate::format::table::TableFile;
use crate::shm::manifest::{
    Catalog, CatalogAlias, CatalogCollection, Manifest, ManifestDeletes, ManifestFile, Place, ReleasedFile,
};
use crate::types::{
    CollectionId, CollectionRecord, CollectionSchema, DatabaseRecord, Epoch, Error, ErrorKind, FileId, FileRecord, Lsn,
    PartitionId, PartitionRecord, Result, Timestamp,
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
}

impl SealedTable {
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
    /// A table file's copy in shared memory.
    Published(FileId),
    /// A durable table file, its checkpoint and its copy in shared memory.
    Durable(FileId),
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
            horizon: self.horizon,
            files: published.map(manifest_file).collect(),
            released: released.map(released_file).collect(),
            chunks: memtables.flat_map(|(_, table)| table.files()).flat_map(MemTableFile::manifest_chunks).collect(),
            damage: self.damage.clone(),
        }
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
        self.garbage.push(Garbage::Durable(file.record.id));
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
