//! The whole catalog into memory.

use std::collections::HashMap;

use rusqlite::types::Type;
use rusqlite::{Connection, Row};
use serde::de::DeserializeOwned;

use super::MetaState;
use super::edits::BUILD_PREFIX;
use crate::types::{
    CollectionId, CollectionRecord, DatabaseRecord, FieldId, FileId, FileRecord, IndexFileRecord, IndexId, IndexRecord,
    Lsn, PartitionId, PartitionRecord, Timestamp,
};

/// Reads everything in one transaction: one moment.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<MetaState> {
    let transaction = connection.unchecked_transaction()?;
    let progress: HashMap<String, i64> =
        rows(&transaction, "SELECT name, value FROM progress", |row| Ok((row.get(0)?, row.get(1)?)))?
            .into_iter()
            .collect();
    let at = |name: &str, unset: i64| progress.get(name).copied().unwrap_or(unset);
    Ok(MetaState {
        databases: rows(&transaction, "SELECT name, id, created, properties FROM databases ORDER BY id", database)?,
        collections: collections(&transaction)?,
        aliases: rows(
            &transaction,
            "SELECT database, alias, collection FROM aliases ORDER BY database, alias",
            |row| Ok((row.get(0)?, row.get(1)?, CollectionId(row.get(2)?))),
        )?,
        files: rows(
            &transaction,
            "SELECT id, collection, partition, state, row_count, file_bytes, checksum, timestamp_min, timestamp_max,
                deleted_count FROM table_files ORDER BY id",
            file,
        )?,
        index_files: rows(
            &transaction,
            "SELECT file, index_id, collection, file_bytes, checksum FROM index_files ORDER BY file, index_id",
            index_file,
        )?,
        id_next: at("id_next", 1),
        row_id_next: at("row_id_next", 1),
        timestamp_high: Timestamp(at("timestamp_high", 0) as u64),
        deletes_flushed_lsn: Lsn(at("deletes_flushed_lsn", 0) as u64),
        lsn_next: Lsn(at("lsn_next", 1) as u64),
        builds: builds(&progress),
    })
}

/// The lines of `progress` that are about builds, in order.
fn builds(progress: &HashMap<String, i64>) -> Vec<(FileId, IndexId, u32)> {
    let mut builds: Vec<_> = progress.iter().filter_map(|(name, attempt)| build(name, *attempt)).collect();
    builds.sort_unstable();
    builds
}

fn build(name: &str, attempt: i64) -> Option<(FileId, IndexId, u32)> {
    let (file, index) = name.strip_prefix(BUILD_PREFIX)?.split_once('/')?;
    Some((FileId(file.parse().ok()?), IndexId(index.parse().ok()?), attempt.try_into().ok()?))
}

fn rows<T>(
    connection: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    connection.prepare(sql)?.query_map([], read)?.collect()
}

fn collections(connection: &Connection) -> rusqlite::Result<Vec<CollectionRecord>> {
    let mut partitions: HashMap<i64, Vec<PartitionRecord>> = HashMap::new();
    let sql = "SELECT collection, id, name, created, flushed_lsn, is_loaded FROM partitions ORDER BY position";
    for (collection, record) in rows(connection, sql, partition)? {
        partitions.entry(collection).or_default().push(record);
    }
    let mut indexes: HashMap<i64, Vec<IndexRecord>> = HashMap::new();
    let sql = "SELECT collection, id, name, field, params FROM indexes ORDER BY position";
    for (collection, record) in rows(connection, sql, index)? {
        indexes.entry(collection).or_default().push(record);
    }
    let sql = "SELECT id, database, name, schema, properties, consistency_level, shards, created, updated, is_loaded,
        start_lsn, cell, field_id_next FROM collections ORDER BY id";
    rows(connection, sql, |row| {
        let id: i64 = row.get(0)?;
        Ok(CollectionRecord {
            id: CollectionId(id),
            database: row.get(1)?,
            name: row.get(2)?,
            schema: json(row, 3)?,
            properties: json(row, 4)?,
            consistency_level: row.get(5)?,
            shards: row.get(6)?,
            created: Timestamp(unsigned(row, 7)?),
            updated: Timestamp(unsigned(row, 8)?),
            is_loaded: row.get(9)?,
            start_lsn: Lsn(unsigned(row, 10)?),
            cell: row.get(11)?,
            partitions: partitions.remove(&id).unwrap_or_default(),
            indexes: indexes.remove(&id).unwrap_or_default(),
            field_id_next: row.get(12)?,
        })
    })
}

fn database(row: &Row<'_>) -> rusqlite::Result<DatabaseRecord> {
    Ok(DatabaseRecord {
        name: row.get(0)?,
        id: row.get(1)?,
        created: Timestamp(unsigned(row, 2)?),
        properties: json(row, 3)?,
    })
}

fn partition(row: &Row<'_>) -> rusqlite::Result<(i64, PartitionRecord)> {
    let record = PartitionRecord {
        id: PartitionId(row.get(1)?),
        name: row.get(2)?,
        created: Timestamp(unsigned(row, 3)?),
        flushed_lsn: Lsn(unsigned(row, 4)?),
        is_loaded: row.get(5)?,
    };
    Ok((row.get(0)?, record))
}

fn index(row: &Row<'_>) -> rusqlite::Result<(i64, IndexRecord)> {
    let record =
        IndexRecord { id: IndexId(row.get(1)?), name: row.get(2)?, field: FieldId(row.get(3)?), params: json(row, 4)? };
    Ok((row.get(0)?, record))
}

fn file(row: &Row<'_>) -> rusqlite::Result<FileRecord> {
    let state: String = row.get(3)?;
    Ok(FileRecord {
        id: FileId(row.get(0)?),
        collection: CollectionId(row.get(1)?),
        partition: PartitionId(row.get(2)?),
        state: serde_json::from_value(state.into()).map_err(|error| unreadable(3, error))?,
        row_count: unsigned(row, 4)?,
        file_bytes: unsigned(row, 5)?,
        checksum: unsigned(row, 6)?,
        timestamps: (unsigned(row, 7)?, unsigned(row, 8)?),
        deleted_count: unsigned(row, 9)?,
    })
}

fn index_file(row: &Row<'_>) -> rusqlite::Result<IndexFileRecord> {
    Ok(IndexFileRecord {
        file: FileId(row.get(0)?),
        index: IndexId(row.get(1)?),
        collection: CollectionId(row.get(2)?),
        file_bytes: unsigned(row, 3)?,
        checksum: unsigned(row, 4)?,
    })
}

/// The u64 of the same bits.
fn unsigned(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(column).map(|value| value as u64)
}

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(|error| unreadable(column, error))
}

fn unreadable(column: usize, error: serde_json::Error) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Text, Box::new(error))
}
