//! The tables of the catalog file, and how a connection to it is set up. FORMAT.md describes them for people.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::{Connection, params};

use super::{checksum, failed};
use crate::types::{Error, ErrorKind, Result, Timestamp};

/// "SHOL": says which program the file belongs to (`file` shows it).
const APPLICATION_ID: i32 = 0x5348_4F4C;
/// The version that [`TABLES`] makes; older ones had no checksums and are not read.
const BASE_VERSION: i32 = 2;
const VERSION: i32 = BASE_VERSION + MIGRATIONS.len() as i32;
/// Somebody may look into the catalog with the sqlite3 shell: wait for him this long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const TABLES: &str = "
CREATE TABLE databases (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    created INTEGER NOT NULL,
    properties TEXT NOT NULL,
    row_crc INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE collections (
    id INTEGER PRIMARY KEY,
    database TEXT NOT NULL,
    name TEXT NOT NULL,
    schema TEXT NOT NULL,
    properties TEXT NOT NULL,
    consistency_level INTEGER NOT NULL,
    shards INTEGER NOT NULL,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    is_loaded INTEGER NOT NULL,
    start_lsn INTEGER NOT NULL,
    cell INTEGER NOT NULL,
    field_id_next INTEGER NOT NULL,
    row_crc INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE partitions (
    id INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    created INTEGER NOT NULL,
    flushed_lsn INTEGER NOT NULL,
    is_loaded INTEGER NOT NULL,
    row_crc INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX partitions_by_collection ON partitions (collection, position);
CREATE TABLE indexes (
    id INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    field INTEGER NOT NULL,
    params TEXT NOT NULL,
    row_crc INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX indexes_by_collection ON indexes (collection, position);
CREATE TABLE aliases (
    database TEXT NOT NULL,
    alias TEXT NOT NULL,
    collection INTEGER NOT NULL,
    row_crc INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (database, alias)
) STRICT;
CREATE TABLE table_files (
    id INTEGER PRIMARY KEY,
    collection INTEGER NOT NULL,
    partition INTEGER NOT NULL,
    state TEXT NOT NULL,
    row_count INTEGER NOT NULL,
    file_bytes INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    timestamp_min INTEGER NOT NULL,
    timestamp_max INTEGER NOT NULL,
    deleted_count INTEGER NOT NULL,
    row_crc INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE TABLE progress (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL,
    row_crc INTEGER NOT NULL DEFAULT 0
) STRICT;
";

/// What leads from each version to the next, beginning with that which [`TABLES`] makes.
const MIGRATIONS: [&str; 1] = ["
CREATE TABLE index_files (
    file INTEGER NOT NULL,
    index_id INTEGER NOT NULL,
    collection INTEGER NOT NULL,
    file_bytes INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    row_crc INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (file, index_id)
) STRICT;
"];

/// Sets up a connection that writes; makes the tables in a new file.
pub(super) fn prepare(connection: &Connection, path: &Path) -> Result<()> {
    let prepared = || {
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        // The commit point of every flush: an acknowledged change survives a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
    };
    let table_count = prepared().map_err(|error| failed("open", path, &error))?;
    if table_count == 0 {
        create(connection).map_err(|error| failed("create", path, &error))?;
    }
    check_owner(connection, path)?;
    migrate(connection).map_err(|error| failed("bring up to date", path, &error))?;
    check(connection, path)
}

fn create(connection: &Connection) -> rusqlite::Result<()> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
    let transaction = connection.unchecked_transaction()?;
    transaction.execute_batch(TABLES)?;
    transaction.execute(
        "INSERT INTO databases (id, name, created, properties) VALUES (1, 'default', ?1, '[]')",
        params![Timestamp::from_unix_ms(now_ms).0 as i64],
    )?;
    checksum::seal(&transaction, "databases")?;
    // The database has the first id of the sequence.
    transaction.execute("INSERT INTO progress (name, value) VALUES ('id_next', 2)", [])?;
    checksum::seal(&transaction, "progress")?;
    // Both are part of the transaction: a kill leaves an empty file, which is created anew.
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", BASE_VERSION)?;
    transaction.commit()
}

/// Brings a catalog of an older version to this one, one transaction per version.
fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    // A version that is not known (an older or newer one) is left as it is: the check refuses it.
    let Ok(done) = usize::try_from(version - BASE_VERSION) else { return Ok(()) };
    for (index, step) in MIGRATIONS.iter().enumerate().skip(done) {
        let transaction = connection.unchecked_transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", BASE_VERSION + index as i32 + 1)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Checks that the file is a catalog.
fn check_owner(connection: &Connection, path: &Path) -> Result<()> {
    let application: i32 = connection
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(|error| failed("read", path, &error))?;
    if application != APPLICATION_ID {
        let message = format!("{} is an SQLite file of another program; pass another --data-dir", path.display());
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    Ok(())
}

/// Checks that the file is a catalog of the version this build reads.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<()> {
    check_owner(connection, path)?;
    let version: i32 = connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|error| failed("read", path, &error))?;
    if version == VERSION {
        return Ok(());
    }
    let advice = match version {
        BASE_VERSION..VERSION => "start a server of this build once, which brings it up to date",
        _ => "use the ShoalDB that wrote it",
    };
    let message =
        format!("the catalog {} is of version {version}, this build reads version {VERSION}; {advice}", path.display());
    Err(Error::new(ErrorKind::Corrupt, message))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_of_an_older_version_is_brought_up_to_date() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("meta.sqlite");
        let connection = Connection::open(&path).unwrap();
        create(&connection).unwrap();
        let error = check(&connection, &path).unwrap_err();
        assert!(error.message.contains("version 2") && error.message.contains("start a server"), "{error}");
        prepare(&connection, &path).unwrap();
        check(&connection, &path).unwrap();
        let files: i64 = connection.query_row("SELECT count(*) FROM index_files", [], |row| row.get(0)).unwrap();
        assert_eq!(files, 0);
        prepare(&connection, &path).unwrap();
    }
}
