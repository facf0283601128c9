//! Meta: one SQLite file that says which collections and table files exist. Opened after fork, by the writer only.

use std::path::Path;

use crate::types::{CollectionId, CollectionRecord, DatabaseRecord, FileId, FileRecord, Lsn, Result, Timestamp};

/// Everything meta knows.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MetaState {
    /// At least `default`.
    pub databases: Vec<DatabaseRecord>,
    /// Collections of all databases.
    pub collections: Vec<CollectionRecord>,
    /// (database, alias, collection).
    pub aliases: Vec<(String, String, CollectionId)>,
    /// Table files of all collections, in any state.
    pub files: Vec<FileRecord>,
    /// Next free id of collections, partitions, files, indexes and databases (one sequence).
    pub id_next: i64,
    /// Next automatic row id.
    pub row_id_next: i64,
    /// Every timestamp handed out so far is below this one.
    pub timestamp_high: Timestamp,
    /// Deletes of log records below this one are in checkpoints.
    pub deletes_flushed_lsn: Lsn,
    /// The lsn after the last one ever handed out, as of the last log cut.
    pub lsn_next: Lsn,
}

/// One change; a transaction is a list of them.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum MetaEdit {
    PutDatabase(DatabaseRecord),
    DropDatabase(String),
    PutCollection(CollectionRecord),
    DropCollection(CollectionId),
    PutAlias { database: String, alias: String, collection: CollectionId },
    DropAlias { database: String, alias: String },
    PutFile(FileRecord),
    DropFile(FileId),
    SetIdNext(i64),
    SetRowIdNext(i64),
    SetTimestampHigh(Timestamp),
    SetDeletesFlushedLsn(Lsn),
    SetLsnNext(Lsn),
}

/// The open catalog.
#[derive(Debug)]
pub struct Meta {}

impl Meta {
    /// Opens or creates it (WAL, synchronous=FULL), checks its version, and makes the `default` database.
    ///
    /// # Errors
    /// Those of SQLite; a file of a newer version is refused by name.
    pub fn open(path: &Path) -> Result<Meta> {
        let _ = path;
        todo!()
    }

    /// Opens an existing catalog for reading only (doctor).
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn open_read_only(path: &Path) -> Result<Meta> {
        let _ = path;
        todo!()
    }

    /// Reads everything.
    ///
    /// # Errors
    /// Those of SQLite, and of rows that cannot be read.
    pub fn load(&self) -> Result<MetaState> {
        todo!()
    }

    /// Applies all edits in one transaction, durably.
    ///
    /// # Errors
    /// Those of SQLite; nothing is applied then.
    pub fn apply(&mut self, edits: &[MetaEdit]) -> Result<()> {
        let _ = edits;
        todo!()
    }
}
