//! Meta: one SQLite file that says which collections and table files exist. Opened after fork, by the writer only.

mod checksum;
mod edits;
mod load;
mod schema;

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::directory;
use crate::types::{
    CollectionId, CollectionRecord, DatabaseRecord, Error, ErrorKind, FileId, FileRecord, IndexFileRecord, IndexId,
    Lsn, Result, Timestamp,
};

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
    /// Finished index files of all collections.
    pub index_files: Vec<IndexFileRecord>,
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
    /// Builds of indexes that were begun and not answered, each with the number of attempts so far.
    pub builds: Vec<(FileId, IndexId, u32)>,
}

/// One change; a transaction is a list of them.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum MetaEdit {
    PutDatabase(DatabaseRecord),
    DropDatabase(String),
    PutCollection(CollectionRecord),
    /// With its partitions, indexes and aliases; its files stay until each is dropped.
    DropCollection(CollectionId),
    PutAlias {
        database: String,
        alias: String,
        collection: CollectionId,
    },
    DropAlias {
        database: String,
        alias: String,
    },
    PutFile(FileRecord),
    /// With its index files.
    DropFile(FileId),
    PutIndexFile(IndexFileRecord),
    DropIndexFile(FileId, IndexId),
    SetIdNext(i64),
    SetRowIdNext(i64),
    SetTimestampHigh(Timestamp),
    SetDeletesFlushedLsn(Lsn),
    SetLsnNext(Lsn),
    /// An attempt to build an index begins, the how manieth.
    PutBuild(FileId, IndexId, u32),
    /// It was answered.
    DropBuild(FileId, IndexId),
    /// The server ends in an orderly way.
    DropBuilds,
}

/// The open catalog.
#[derive(Debug)]
pub struct Meta {
    connection: Connection,
    path: PathBuf,
}

impl Meta {
    /// Opens or creates it (WAL, synchronous=FULL), checks its version, and makes the `default` database.
    ///
    /// # Errors
    /// Those of SQLite; a file of a newer version is refused by name.
    pub fn open(path: &Path) -> Result<Meta> {
        // SQLite would make it readable by everybody; its other files take this one's mode.
        match directory::create_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io(format_args!("make the catalog {}", path.display()), &error));
            }
            _ => {}
        }
        let connection = Connection::open(path).map_err(|error| failed("open", path, &error))?;
        schema::prepare(&connection, path)?;
        path.parent().map_or(Ok(()), directory::sync)?;
        Ok(Meta { connection, path: path.to_owned() })
    }

    /// Opens an existing catalog for reading only (doctor). It leaves nothing beside it and needs no right to write there,
    /// unless a server has it open, or left it when it was killed.
    ///
    /// # Errors
    /// Those of SQLite.
    pub fn open_read_only(path: &Path) -> Result<Meta> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = match beside(path, "-wal").exists() {
            true => Connection::open_with_flags(path, flags),
            // SQLite would make the files of its write-ahead log to read a catalog that has one of no length.
            false => Connection::open_with_flags(immutable_uri(path), flags | OpenFlags::SQLITE_OPEN_URI),
        };
        let connection = opened.map_err(|error| failed("open", path, &error))?;
        schema::check(&connection, path)?;
        Ok(Meta { connection, path: path.to_owned() })
    }

    /// Checks everything, then reads it.
    ///
    /// # Errors
    /// Those of SQLite; of kind `Corrupt` when the file or a row is not as it was written.
    pub fn load(&self) -> Result<MetaState> {
        let damage = self.check_integrity()?.into_iter().next();
        let damage = match damage {
            Some(damage) => Some(damage),
            None => checksum::first_damage(&self.connection).map_err(|error| failed("check", &self.path, &error))?,
        };
        if let Some(damage) = damage {
            let message = format!(
                "the catalog {} is damaged: {damage}; nothing was changed: restore the data directory from a backup",
                self.path.display()
            );
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        load::load(&self.connection).map_err(|error| failed("read", &self.path, &error))
    }

    /// Applies all edits in one transaction, durably.
    ///
    /// # Errors
    /// Those of SQLite; nothing is applied then.
    pub fn apply(&mut self, edits: &[MetaEdit]) -> Result<()> {
        if edits.is_empty() {
            return Ok(());
        }
        let apply = |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            edits.iter().try_for_each(|edit| edits::apply(&transaction, edit))?;
            transaction.commit()
        };
        apply(&mut self.connection).map_err(|error| failed("change", &self.path, &error))
    }

    /// SQLite's own check of the file: its complaints, none when it is sound.
    fn check_integrity(&self) -> Result<Vec<String>> {
        let check = || {
            let mut statement = self.connection.prepare("PRAGMA integrity_check")?;
            let lines = statement.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<Vec<String>>>()?;
            Ok(lines.into_iter().filter(|line| line != "ok").collect())
        };
        check().map_err(|error| failed("check", &self.path, &error))
    }
}

/// A path with something behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// SQLite's name of a file that nobody changes.
fn immutable_uri(path: &Path) -> PathBuf {
    let mut uri = b"file:".to_vec();
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' | b'?' | b'#' => uri.extend(format!("%{byte:02x}").bytes()),
            byte => uri.push(*byte),
        }
    }
    uri.extend(b"?immutable=1");
    OsString::from_vec(uri).into()
}

fn failed(attempt: &str, path: &Path, error: &rusqlite::Error) -> Error {
    use rusqlite::ErrorCode;
    let kind = match error {
        rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..) => ErrorKind::Corrupt,
        error => match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => ErrorKind::DiskFull,
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => ErrorKind::Corrupt,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => ErrorKind::InUse,
            _ => ErrorKind::Io,
        },
    };
    Error::new(kind, format!("cannot {attempt} the catalog {}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
