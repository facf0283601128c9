//! Checksums of the catalog's rows: SQLite's file has none, and a flipped bit in a number would be believed.
//!
//! Every row carries, in `row_crc`, the crc32c of its other values. A row that is inserted is sealed at once; a load checks all.

use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, params};

/// Every table of ours.
pub(super) const TABLES: [&str; 8] =
    ["databases", "collections", "partitions", "indexes", "aliases", "table_files", "index_files", "progress"];
/// The column of the checksum.
const COLUMN: &str = "row_crc";

/// Seals the row that was inserted last.
pub(super) fn seal(connection: &Connection, table: &str) -> rusqlite::Result<()> {
    let id = connection.last_insert_rowid();
    let crc = connection.prepare_cached(&format!("SELECT * FROM {table} WHERE rowid = ?1"))?.query_row([id], crc_of)?;
    connection
        .prepare_cached(&format!("UPDATE {table} SET {COLUMN} = ?1 WHERE rowid = ?2"))?
        .execute(params![crc, id])?;
    Ok(())
}

/// The first row that is not as it was written, in words.
pub(super) fn first_damage(connection: &Connection) -> rusqlite::Result<Option<String>> {
    for table in TABLES {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}"))?;
        let mut rows = statement.query([])?;
        let mut number = 0;
        while let Some(row) = rows.next()? {
            number += 1;
            if row.get_ref(COLUMN)? != ValueRef::Integer(crc_of(row)?) {
                return Ok(Some(format!("row {number} of table {table} fails its check")));
            }
        }
    }
    Ok(None)
}

fn crc_of(row: &Row<'_>) -> rusqlite::Result<i64> {
    let mut bytes = Vec::with_capacity(256);
    let columns = row.as_ref();
    for index in 0..columns.column_count() {
        if columns.column_name(index)? == COLUMN {
            continue;
        }
        // A tag of the type and the length: values of neighbours cannot be mistaken for one another.
        match row.get_ref(index)? {
            ValueRef::Null => push(&mut bytes, 0, &[]),
            ValueRef::Integer(value) => push(&mut bytes, 1, &value.to_le_bytes()),
            ValueRef::Real(value) => push(&mut bytes, 2, &value.to_le_bytes()),
            ValueRef::Text(value) => push(&mut bytes, 3, value),
            ValueRef::Blob(value) => push(&mut bytes, 4, value),
        }
    }
    Ok(i64::from(crc_fast::crc32_iscsi(&bytes)))
}

fn push(bytes: &mut Vec<u8>, tag: u8, value: &[u8]) {
    bytes.push(tag);
    bytes.extend((value.len() as u64).to_le_bytes());
    bytes.extend(value);
}
