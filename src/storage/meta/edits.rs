//! Edits as SQL.
//!
//! SQLite's integers are signed: u64 values (timestamps, checksums, lsns) are stored as the i64 of the same bits.

use rusqlite::types::ToSqlOutput;
use rusqlite::{Params, ToSql, Transaction, params};
use serde::Serialize;

use super::{MetaEdit, checksum};
use crate::types::{CollectionId, CollectionRecord, FileId, FileRecord, IndexId};

/// Applies one edit.
pub(super) fn apply(transaction: &Transaction<'_>, edit: &MetaEdit) -> rusqlite::Result<()> {
    let run = |sql: &str, values: &[&dyn ToSql]| execute(transaction, sql, values);
    let put = |table: &str, sql: &str, values: &[&dyn ToSql]| put(transaction, table, sql, values);
    match edit {
        MetaEdit::PutDatabase(database) => put(
            "databases",
            "INSERT OR REPLACE INTO databases (id, name, created, properties) VALUES (?1, ?2, ?3, ?4)",
            params![database.id, database.name, database.created.0 as i64, Json(&database.properties)],
        ),
        MetaEdit::DropDatabase(name) => run("DELETE FROM databases WHERE name = ?1", params![name]),
        MetaEdit::PutCollection(collection) => put_collection(transaction, collection),
        MetaEdit::DropCollection(id) => drop_collection(transaction, *id),
        MetaEdit::PutAlias { database, alias, collection } => put(
            "aliases",
            "INSERT OR REPLACE INTO aliases (database, alias, collection) VALUES (?1, ?2, ?3)",
            params![database, alias, collection.0],
        ),
        MetaEdit::DropAlias { database, alias } => {
            run("DELETE FROM aliases WHERE database = ?1 AND alias = ?2", params![database, alias])
        }
        MetaEdit::PutFile(file) => put_file(transaction, file),
        MetaEdit::DropFile(id) => run("DELETE FROM table_files WHERE id = ?1", params![id.0])
            .and_then(|()| run("DELETE FROM index_files WHERE file = ?1", params![id.0]))
            .and_then(|()| {
                run("DELETE FROM progress WHERE name GLOB ?1", params![format!("{BUILD_PREFIX}{}/*", id.0)])
            }),
        MetaEdit::PutIndexFile(index) => put(
            "index_files",
            "INSERT OR REPLACE INTO index_files (file, index_id, collection, file_bytes, checksum) VALUES (?1, ?2, ?3, ?4, ?5)",
            params![index.file.0, index.index.0, index.collection.0, index.file_bytes as i64, index.checksum as i64],
        ),
        MetaEdit::DropIndexFile(file, index) => {
            run("DELETE FROM index_files WHERE file = ?1 AND index_id = ?2", params![file.0, index.0])
        }
        MetaEdit::SetIdNext(id) => set(transaction, "id_next", *id),
        MetaEdit::SetRowIdNext(id) => set(transaction, "row_id_next", *id),
        MetaEdit::SetTimestampHigh(timestamp) => set(transaction, "timestamp_high", timestamp.0 as i64),
        MetaEdit::SetDeletesFlushedLsn(lsn) => set(transaction, "deletes_flushed_lsn", lsn.0 as i64),
        MetaEdit::SetLsnNext(lsn) => set(transaction, "lsn_next", lsn.0 as i64),
        MetaEdit::PutBuild(file, index, attempt) => set(transaction, &build_name(*file, *index), i64::from(*attempt)),
        MetaEdit::DropBuild(file, index) => {
            run("DELETE FROM progress WHERE name = ?1", params![build_name(*file, *index)])
        }
        MetaEdit::DropBuilds => run("DELETE FROM progress WHERE name GLOB ?1", params![format!("{BUILD_PREFIX}*")]),
    }
}

/// What names of builds in the table `progress` begin with.
pub(super) const BUILD_PREFIX: &str = "build/";

fn build_name(file: FileId, index: IndexId) -> String {
    format!("{BUILD_PREFIX}{}/{}", file.0, index.0)
}

fn execute(transaction: &Transaction<'_>, sql: &str, values: impl Params) -> rusqlite::Result<()> {
    transaction.prepare_cached(sql)?.execute(values).map(|_| ())
}

/// Inserts a row, and seals it.
fn put(transaction: &Transaction<'_>, table: &str, sql: &str, values: impl Params) -> rusqlite::Result<()> {
    execute(transaction, sql, values)?;
    checksum::seal(transaction, table)
}

fn set(transaction: &Transaction<'_>, name: &str, value: i64) -> rusqlite::Result<()> {
    put(transaction, "progress", "INSERT OR REPLACE INTO progress (name, value) VALUES (?1, ?2)", params![name, value])
}

fn put_collection(transaction: &Transaction<'_>, collection: &CollectionRecord) -> rusqlite::Result<()> {
    put(
            transaction,
            "collections",
            "INSERT OR REPLACE INTO collections (id, database, name, schema, properties, consistency_level, shards, created,
            updated, is_loaded, start_lsn, cell, field_id_next)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
        params![
            collection.id.0,
            collection.database,
            collection.name,
            Json(&collection.schema),
            Json(&collection.properties),
            collection.consistency_level,
            collection.shards,
            collection.created.0 as i64,
            collection.updated.0 as i64,
            collection.is_loaded,
            collection.start_lsn.0 as i64,
            collection.cell,
            collection.field_id_next,
        ],
    )?;
    drop_parts(transaction, collection.id)?;
    for (position, partition) in collection.partitions.iter().enumerate() {
        put(
            transaction,
            "partitions",
            "INSERT INTO partitions (id, collection, position, name, created, flushed_lsn, is_loaded)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            params![
                partition.id.0,
                collection.id.0,
                position as i64,
                partition.name,
                partition.created.0 as i64,
                partition.flushed_lsn.0 as i64,
                partition.is_loaded,
            ],
        )?;
    }
    for (position, index) in collection.indexes.iter().enumerate() {
        put(
            transaction,
            "indexes",
            "INSERT INTO indexes (id, collection, position, name, field, params) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            params![index.id.0, collection.id.0, position as i64, index.name, index.field.0, Json(&index.params)],
        )?;
    }
    Ok(())
}

fn drop_parts(transaction: &Transaction<'_>, collection: CollectionId) -> rusqlite::Result<()> {
    execute(transaction, "DELETE FROM partitions WHERE collection = ?1", params![collection.0])?;
    execute(transaction, "DELETE FROM indexes WHERE collection = ?1", params![collection.0])
}

fn drop_collection(transaction: &Transaction<'_>, collection: CollectionId) -> rusqlite::Result<()> {
    drop_parts(transaction, collection)?;
    execute(transaction, "DELETE FROM aliases WHERE collection = ?1", params![collection.0])?;
    execute(transaction, "DELETE FROM collections WHERE id = ?1", params![collection.0])
}

fn put_file(transaction: &Transaction<'_>, file: &FileRecord) -> rusqlite::Result<()> {
    let state = serde_json::to_value(file.state).map_err(not_storable)?;
    put(
        transaction,
        "table_files",
        "INSERT OR REPLACE INTO table_files (id, collection, partition, state, row_count, file_bytes, checksum,
            timestamp_min, timestamp_max, deleted_count)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
        params![
            file.id.0,
            file.collection.0,
            file.partition.0,
            state.as_str(),
            file.row_count as i64,
            file.file_bytes as i64,
            file.checksum as i64,
            file.timestamps.0 as i64,
            file.timestamps.1 as i64,
            file.deleted_count as i64,
        ],
    )
}

/// A value stored as JSON text.
struct Json<'a, T>(&'a T);

impl<T: Serialize> ToSql for Json<'_, T> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        serde_json::to_string(self.0).map(ToSqlOutput::from).map_err(not_storable)
    }
}

fn not_storable(error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(Box::new(error))
}
