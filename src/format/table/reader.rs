//! Reading a table file in place: footer and record batch header are parsed, the columns are slices of the map.

use std::collections::HashMap;
use std::sync::Arc;

use super::columns::{FileColumn, FilePlaces, Span};
use super::find::{IntegerKeys, TextKeys, find};
use crate::format::{FormatError, RowSource};
use crate::sys::map::SharedMap;
use crate::types::{ColumnView, FieldId, FieldSchema, Keys, Statistics, Values};

/// A mapped table file.
#[derive(Debug)]
pub struct TableFile {
    map: Arc<SharedMap>,
    row_count: usize,
    timestamps: Span,
    primary: FieldId,
    columns: Vec<FileColumn>,
    stats: HashMap<FieldId, Statistics>,
}

impl TableFile {
    /// Reads the footer and checks that every buffer lies in the map, is aligned, and that text offsets' ends are in bounds.
    /// Does not read the rows: use [`super::checksum`] for that.
    ///
    /// # Errors
    /// When the bytes are no table file of ours.
    pub fn open(map: Arc<SharedMap>) -> Result<TableFile, FormatError> {
        let FilePlaces { row_count, timestamps, primary, columns, stats } = FilePlaces::read(&map)?;
        let stats = stats.into_iter().filter_map(|(id, stats)| Some((FieldId(id.parse().ok()?), stats))).collect();
        Ok(TableFile { map, row_count, timestamps, primary, columns, stats })
    }

    /// The rows of each key, ascending (several rows may share one key): `found(index into keys, rows)`, in any order of
    /// keys. Binary search; keys of the other type find nothing.
    pub fn find_keys(&self, keys: &Keys, found: &mut dyn FnMut(usize, std::ops::Range<usize>)) {
        let primary = self.columns.iter().find(|column| column.field == self.primary);
        match (keys, primary.and_then(|column| column.values(&self.map, self.row_count))) {
            (Keys::Int(keys), Some(Values::Int64(rows))) => {
                find(&IntegerKeys(rows), keys.len(), |index| &keys[index], found);
            }
            (Keys::Text(keys), Some(Values::Text { offsets, bytes })) => {
                find(&TextKeys { offsets, bytes }, keys.len(), |index| keys[index].as_bytes(), found);
            }
            _ => {}
        }
    }

    /// What the file says about a column.
    pub fn statistics(&self, field: FieldId) -> Option<&Statistics> {
        self.stats.get(&field)
    }

    /// The file's bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.bytes()
    }
}

impl RowSource for TableFile {
    fn row_count(&self) -> usize {
        self.row_count
    }

    fn column(&self, field: &FieldSchema) -> Option<ColumnView<'_>> {
        let column = self.columns.iter().find(|column| column.field == field.id)?;
        if !column.fits(field) {
            return None;
        }
        let validity = column.validity(&self.map)?;
        Some(ColumnView { values: column.values(&self.map, self.row_count)?, validity })
    }

    fn insert_timestamps(&self) -> &[u64] {
        self.map.slice(self.timestamps.offset, self.row_count).unwrap_or_default()
    }
}
