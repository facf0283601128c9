//! What meta keeps and manifests repeat: databases, collections, partitions, indexes, table files.

use serde::{Deserialize, Serialize};

use super::{CollectionId, CollectionSchema, FieldId, FileId, IndexId, Lsn, PartitionId, Timestamp, Zone};

/// The property of collections and databases that names a time zone.
pub const ZONE_PROPERTY: &str = "timezone";

/// A database.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DatabaseRecord {
    /// Unique.
    pub name: String,
    /// Never reused.
    pub id: i64,
    /// When it was made.
    pub created: Timestamp,
    /// As the user set them.
    pub properties: Vec<(String, String)>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionRecord {
    /// Unique over all collections.
    pub id: PartitionId,
    /// Unique in the collection; the first is `_default`.
    pub name: String,
    /// When it was made.
    pub created: Timestamp,
    /// Every insert into it up to here is in table files.
    pub flushed_lsn: Lsn,
    /// It answers searches.
    pub is_loaded: bool,
}

/// An index as its user described it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexRecord {
    /// Never reused.
    pub id: IndexId,
    /// Unique in the collection.
    pub name: String,
    /// On which field.
    pub field: FieldId,
    /// As the user sent them: `index_type`, `metric_type`, `params`, ...; echoed by DescribeIndex.
    pub params: Vec<(String, String)>,
}

/// A collection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CollectionRecord {
    /// Never reused.
    pub id: CollectionId,
    /// Its database.
    pub database: String,
    /// Unique in the database.
    pub name: String,
    /// Fields.
    pub schema: CollectionSchema,
    /// As the user set them.
    pub properties: Vec<(String, String)>,
    /// Milvus' number of the default consistency level; echoed.
    pub consistency_level: i32,
    /// Echoed.
    pub shards: i32,
    /// When it was made.
    pub created: Timestamp,
    /// When its schema changed last; clients send it back with rows.
    pub updated: Timestamp,
    /// It answers searches.
    pub is_loaded: bool,
    /// Log records before this one do not count for it (set by truncate).
    pub start_lsn: Lsn,
    /// Its cell in the control file; unique among living collections.
    pub cell: u32,
    /// The first is `_default`.
    pub partitions: Vec<PartitionRecord>,
    /// Indexes.
    pub indexes: Vec<IndexRecord>,
    /// Next free field id.
    pub field_id_next: i64,
}

impl CollectionRecord {
    /// A property by name.
    pub fn property(&self, name: &str) -> Option<&str> {
        property(&self.properties, name)
    }

    /// The time zone of timestamps that are written without an offset, and of those that are answered.
    pub fn zone(&self) -> Zone {
        zone_of(&self.properties)
    }
}

/// A property by name.
fn property<'a>(properties: &'a [(String, String)], name: &str) -> Option<&'a str> {
    properties.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// The property that names a time zone; without it, and with one that was never checked, it is UTC.
pub fn zone_of(properties: &[(String, String)]) -> Zone {
    property(properties, ZONE_PROPERTY).and_then(Zone::from_name).unwrap_or_default()
}

/// Life of a table file (see DESIGN of the write path in ARCHITECTURE.md).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "the names are the article's")]
pub enum FileState {
    New,
    Raw,
    ToIndex,
    Index,
    NewMerge,
    NewIndex,
    ToDelete,
    Backup,
}

/// A table file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileRecord {
    /// Never reused.
    pub id: FileId,
    /// Its collection.
    pub collection: CollectionId,
    /// Its partition.
    pub partition: PartitionId,
    /// Where in its life.
    pub state: FileState,
    /// Rows.
    pub row_count: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// crc64-nvme of the whole file.
    pub checksum: u64,
    /// Smallest and largest insert timestamp.
    pub timestamps: (u64, u64),
    /// Rows marked in its delete checkpoint; 0 = there is none.
    pub deleted_count: u64,
}

/// The file of one index over one table file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IndexFileRecord {
    /// The table file.
    pub file: FileId,
    /// Which index of the collection.
    pub index: IndexId,
    /// The collection.
    pub collection: CollectionId,
    /// Length of the file.
    pub file_bytes: u64,
    /// crc64-nvme of the whole file.
    pub checksum: u64,
}

/// A durable file of a collection; its copy in shared memory has the same name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DurableFile {
    /// A table file: `<file>.arrow`.
    Table(FileId),
    /// An index over it: `<file>-<index>.idx`.
    Index(FileId, IndexId),
}

impl DurableFile {
    /// The file of a name; `None` when it is no such name.
    pub fn from_name(name: &str) -> Option<DurableFile> {
        if let Some(file) = name.strip_suffix(".arrow") {
            return file.parse().ok().map(FileId).map(DurableFile::Table);
        }
        let (file, index) = name.strip_suffix(".idx")?.split_once('-')?;
        Some(DurableFile::Index(FileId(file.parse().ok()?), IndexId(index.parse().ok()?)))
    }

    /// The table file it is, or is an index of.
    pub fn table(self) -> FileId {
        match self {
            DurableFile::Table(file) | DurableFile::Index(file, _) => file,
        }
    }
}

impl std::fmt::Display for DurableFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DurableFile::Table(file) => write!(f, "{file}.arrow"),
            DurableFile::Index(file, index) => write!(f, "{file}-{index}.idx"),
        }
    }
}

impl IndexFileRecord {
    /// Its name.
    pub fn name(&self) -> DurableFile {
        DurableFile::Index(self.file, self.index)
    }
}
