//! Table files: one Arrow IPC file with one record batch, rows ascending by (primary key, insert timestamp).
//!
//! Columns: `$ts` (UInt64), then one per field, named as the field was when the file was written; the field's id is in the
//! Arrow field metadata (`shoal.field_id`). Vectors are FixedSizeList<f32> (or FixedSizeBinary); bodies are 64-byte
//! aligned and uncompressed. The whole file's crc64 is kept in meta and in the manifest.

use std::io::Write;
use std::sync::Arc;

use super::{FormatError, RowRef, RowSource};
use crate::sys::map::SharedMap;
use crate::types::{CollectionSchema, ColumnView, FieldId, FieldSchema, Keys};

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSummary {
    /// Rows.
    pub row_count: u64,
    /// Length of the file.
    pub file_bytes: u64,
    /// crc64-nvme of the whole file.
    pub checksum: u64,
    /// Smallest and largest insert timestamp.
    pub timestamps: (u64, u64),
}

/// Writes a table file of the given rows of the given sources, in the given order (see [`sort_rows`]).
///
/// # Errors
/// Those of `out`.
pub fn write_table(
    out: &mut dyn Write,
    schema: &CollectionSchema,
    sources: &[&dyn RowSource],
    order: &[RowRef],
) -> std::io::Result<TableSummary> {
    let _ = (out, schema, sources, order);
    todo!()
}

/// All rows for which `keep(row)` is true, ascending by (primary key, insert timestamp, source, row).
pub fn sort_rows(schema: &CollectionSchema, sources: &[&dyn RowSource], keep: &dyn Fn(RowRef) -> bool) -> Vec<RowRef> {
    let _ = (schema, sources, keep);
    todo!()
}

/// crc64-nvme of bytes.
pub fn checksum(bytes: &[u8]) -> u64 {
    let _ = bytes;
    todo!()
}

/// A mapped table file.
#[derive(Debug)]
pub struct TableFile {
    map: Arc<SharedMap>,
}

impl TableFile {
    /// Reads the footer and checks that every buffer lies in the map, is aligned, and that text offsets' ends are in bounds.
    /// Does not read the rows: use [`checksum`] for that.
    ///
    /// # Errors
    /// When the bytes are no table file of ours.
    pub fn open(map: Arc<SharedMap>) -> Result<TableFile, FormatError> {
        let _ = map;
        todo!()
    }

    /// The rows of each key, ascending (several rows may share one key): `found(index into keys, rows)`.
    /// Binary search; keys of the other type find nothing.
    pub fn find_keys(&self, keys: &Keys, found: &mut dyn FnMut(usize, std::ops::Range<usize>)) {
        let _ = (keys, found);
        todo!()
    }

    /// Smallest and largest value of a numeric column, when the file says so.
    pub fn numeric_range(&self, field: FieldId) -> Option<(f64, f64)> {
        let _ = field;
        todo!()
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }
}

impl RowSource for TableFile {
    fn row_count(&self) -> usize {
        todo!()
    }

    fn column(&self, field: &FieldSchema) -> Option<ColumnView<'_>> {
        let _ = field;
        todo!()
    }

    fn insert_timestamps(&self) -> &[u64] {
        todo!()
    }
}
