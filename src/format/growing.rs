//! Growing files: one chunk of a MemTableFile, filled append-only, searched while it grows.
//!
//! Layout: a header with magic, version, length, the published row count (an atomic word) and a directory of sections;
//! then, each at a 64-byte boundary and each of fixed capacity: insert timestamps, deleted_at words, and per field
//! validity bytes, values, text offsets (i32, capacity + 1) and text bytes. Rows below the published count never change.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::layout::{ColumnLayout, ColumnPlace, Layout, PUBLISHED_OFFSET};
use super::{FormatError, RowSource};
use crate::sys::map::SharedMap;
use crate::types::{
    Batch, CollectionSchema, Column, ColumnData, ColumnView, DataType, FieldSchema, Timestamp, Validity, Values,
};

/// Offsets are i32, so no text column of a chunk passes 2 GiB.
const TEXT_BYTES_MAX: usize = i32::MAX as usize;
/// Text budget of a row whose batch had (almost) none: later rows may have some.
const TEXT_ROW_BYTES_MIN: usize = 8;

/// How much one chunk holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkCapacity {
    /// Rows.
    pub rows: usize,
    /// Bytes of each text column (`VarChar`, `Json`, ...), in schema order of those columns.
    pub text_bytes: Vec<usize>,
}

impl ChunkCapacity {
    /// A capacity of about `bytes` bytes that holds at least `rows_min` rows of `batch` from row `from` on.
    pub fn for_batch(
        schema: &CollectionSchema,
        batch: &Batch,
        from: usize,
        rows_min: usize,
        bytes: usize,
    ) -> ChunkCapacity {
        let rows_left = batch.row_count.saturating_sub(from);
        let rows_min = rows_min.min(rows_left);
        let mut row_bytes = 16; // Insert timestamp and deleted_at.
        let mut texts = Vec::new();
        for field in &schema.fields {
            row_bytes += usize::from(field.is_nullable);
            if let Some(fixed) = field.row_bytes() {
                row_bytes += fixed;
                continue;
            }
            let text = batch.columns.iter().find(|column| column.field == field.id).and_then(text_of);
            let span = |rows| text.map_or(0, |text| text_bytes_of(&text.offsets, from, rows));
            let average = span(rows_left).div_ceil(rows_left.max(1));
            // A quarter more than the average: rows and text then run out at about the same time.
            let budget = (average + average / 4).max(TEXT_ROW_BYTES_MIN);
            row_bytes += 4 + budget;
            texts.push((budget, span(rows_min)));
        }
        let rows = (bytes / row_bytes).max(rows_min).max(1);
        let text_bytes = texts
            .into_iter()
            .map(|(budget, needed)| rows.saturating_mul(budget).max(needed).min(TEXT_BYTES_MAX))
            .collect();
        ChunkCapacity { rows, text_bytes }
    }

    /// Length of the file in bytes.
    pub fn file_bytes(&self, schema: &CollectionSchema) -> usize {
        Layout::new(schema, self.rows, &self.text_bytes).total_bytes
    }
}

fn text_of(column: &Column) -> Option<&crate::types::TextColumn> {
    match &column.data {
        ColumnData::Text(text) => Some(text),
        _ => None,
    }
}

/// Bytes of `rows` rows from row `from` on.
fn text_bytes_of(offsets: &[i32], from: usize, rows: usize) -> usize {
    match (offsets.get(from), offsets.get(from + rows)) {
        (Some(start), Some(end)) => usize::try_from(end - start).unwrap_or(0),
        _ => 0,
    }
}

/// The writer's end of a chunk. One thread appends; any thread of the writer may mark rows deleted.
#[derive(Debug)]
pub struct GrowingWriter {
    file: GrowingFile,
    row_count: usize,
    /// Bytes used of each column's text; 0 for columns of fixed width.
    text_used: Vec<usize>,
    /// Reused between appends: bytes that have no ready slice in the batch.
    scratch: Vec<u8>,
}

impl GrowingWriter {
    /// Lays out a fresh, zeroed map of at least [`ChunkCapacity::file_bytes`] bytes.
    ///
    /// # Panics
    /// When the map is shorter or read-only: both are bugs of the caller.
    pub fn create(map: Arc<SharedMap>, schema: &CollectionSchema, capacity: &ChunkCapacity) -> GrowingWriter {
        let layout = Layout::new(schema, capacity.rows, &capacity.text_bytes);
        assert!(layout.total_bytes <= map.len(), "a growing file of {} bytes in {}", layout.total_bytes, map.len());
        layout.write(&map);
        let text_used = vec![0; layout.columns.len()];
        GrowingWriter {
            file: GrowingFile { map, layout: Arc::new(layout) },
            row_count: 0,
            text_used,
            scratch: Vec::new(),
        }
    }

    /// How many rows of `batch[from..]` still fit; 0 also when the batch has a field this chunk was not made for.
    pub fn rows_that_fit(&self, batch: &Batch, from: usize) -> usize {
        let layout = &self.file.layout;
        let mut rows = (layout.row_capacity - self.row_count).min(batch.row_count.saturating_sub(from));
        for column in &batch.columns {
            let Some(at) = layout.columns.iter().position(|known| known.field == column.field) else {
                return 0;
            };
            if let (ColumnPlace::Text { text_bytes, .. }, Some(text)) = (layout.columns[at].place, text_of(column)) {
                let room = text_bytes - self.text_used[at];
                let Some(ends) = text.offsets.get(from..) else { return 0 };
                // Offsets ascend: the rows that fit are those before the first end past the room.
                let fitting = ends.partition_point(|end| (end - ends[0]) as usize <= room);
                rows = rows.min(fitting.saturating_sub(1));
            }
        }
        rows
    }

    /// Copies rows in and publishes them (release). They must fit. Returns the first row's place in the chunk.
    ///
    /// # Panics
    /// When they do not fit or are not of the schema: ask [`GrowingWriter::rows_that_fit`] first.
    pub fn append(&mut self, batch: &Batch, rows: Range<usize>, timestamp: Timestamp) -> usize {
        let first = self.row_count;
        let layout = Arc::clone(&self.file.layout);
        assert!(rows.len() <= layout.row_capacity - first, "{} rows into a full chunk", rows.len());
        let map = Arc::clone(&self.file.map);
        self.scratch.clear();
        self.scratch.extend(std::iter::repeat_n(timestamp.0.to_le_bytes(), rows.len()).flatten());
        map.write(layout.insert_timestamps + first * 8, &self.scratch);
        for (at, column) in layout.columns.iter().enumerate() {
            let source = batch.columns.iter().find(|source| source.field == column.field);
            self.append_values(at, column, source, rows.clone());
            if let Some(offset) = column.validity {
                self.append_validity(offset + first, source, rows.clone());
            }
        }
        self.row_count += rows.len();
        map.atomic_u64(PUBLISHED_OFFSET).store(self.row_count as u64, Ordering::Release);
        first
    }

    /// A column the batch lacks stays zero; its offsets must still be written, as they ascend.
    fn append_values(&mut self, at: usize, column: &ColumnLayout, source: Option<&Column>, rows: Range<usize>) {
        let first = self.row_count;
        match (column.place, source.map(|source| &source.data)) {
            (ColumnPlace::Fixed { offset, row_bytes }, Some(data)) => {
                let bytes = fixed_bytes(data).expect("a checked batch has values of the field's type");
                let bytes = &bytes[rows.start * row_bytes..rows.end * row_bytes];
                self.file.map.write(offset + first * row_bytes, bytes);
            }
            (ColumnPlace::Fixed { .. }, None) => {}
            (ColumnPlace::Text { offsets, text, text_bytes }, data) => {
                let used = self.text_used[at];
                let empty = crate::types::TextColumn::default();
                let source = match data {
                    Some(ColumnData::Text(source)) => Some(source),
                    Some(_) => unreachable!("a checked batch has text in a text field"),
                    None => None,
                };
                let (start, end) =
                    source.map_or((0, 0), |source| (source.offsets[rows.start], source.offsets[rows.end]));
                let bytes = &source.unwrap_or(&empty).bytes[start as usize..end as usize];
                assert!(bytes.len() <= text_bytes - used, "{} bytes of text into a full chunk", bytes.len());
                self.file.map.write(text + used, bytes);
                self.scratch.clear();
                for row in rows {
                    // No overflow: used + the row's end is at most the capacity, which is an i32.
                    let end = source.map_or(0, |source| source.offsets[row + 1] - start) + used as i32;
                    self.scratch.extend_from_slice(&end.to_le_bytes());
                }
                self.file.map.write(offsets + (first + 1) * 4, &self.scratch);
                self.text_used[at] = used + bytes.len();
            }
        }
    }

    fn append_validity(&mut self, offset: usize, source: Option<&Column>, rows: Range<usize>) {
        match source {
            // A field the batch does not know: null, and the fresh map is zero already.
            None => {}
            Some(Column { validity: Some(validity), .. }) => {
                self.file.map.write(offset, bytemuck::cast_slice(&validity[rows]));
            }
            Some(Column { validity: None, .. }) => {
                self.scratch.clear();
                self.scratch.resize(rows.len(), 1);
                self.file.map.write(offset, &self.scratch);
            }
        }
    }

    /// The reading end of the same map.
    pub fn file(&self) -> &GrowingFile {
        &self.file
    }
}

/// The bytes of a column of fixed width.
fn fixed_bytes(data: &ColumnData) -> Option<&[u8]> {
    Some(match data {
        ColumnData::Bool(values) => bytemuck::cast_slice(values),
        ColumnData::Int8(values) => bytemuck::cast_slice(values),
        ColumnData::Int16(values) => bytemuck::cast_slice(values),
        ColumnData::Int32(values) => bytemuck::cast_slice(values),
        ColumnData::Int64(values) => bytemuck::cast_slice(values),
        ColumnData::Float(values) | ColumnData::FloatVector(values) => bytemuck::cast_slice(values),
        ColumnData::Double(values) => bytemuck::cast_slice(values),
        ColumnData::BytesVector(values) => values,
        ColumnData::Text(_) => return None,
    })
}

/// The reading end of a chunk.
#[derive(Clone, Debug)]
pub struct GrowingFile {
    map: Arc<SharedMap>,
    layout: Arc<Layout>,
}

impl GrowingFile {
    /// Checks header and directory against each other and the map's length.
    ///
    /// # Errors
    /// When anything does not fit together.
    pub fn open(map: Arc<SharedMap>) -> Result<GrowingFile, FormatError> {
        let layout = Arc::new(Layout::read(&map)?);
        Ok(GrowingFile { map, layout })
    }

    /// Rows published so far (acquire), clamped to the capacity.
    pub fn rows_published(&self) -> usize {
        let published = self.map.atomic_u64(PUBLISHED_OFFSET).load(Ordering::Acquire);
        usize::try_from(published).unwrap_or(usize::MAX).min(self.layout.row_capacity)
    }

    /// Rows it has room for.
    pub fn row_capacity(&self) -> usize {
        self.layout.row_capacity
    }

    /// The first `row_count <= rows_published()` rows as a source; timestamps are ascending within a chunk.
    pub fn rows(&self, row_count: usize) -> GrowingRows<'_> {
        GrowingRows { file: self, row_count: row_count.min(self.rows_published()) }
    }

    /// `deleted_at` of each row of the capacity: 0 = not deleted, else the timestamp of the delete.
    pub fn deleted_at(&self) -> &[AtomicU64] {
        self.map.atomics_u64(self.layout.deleted_at, self.layout.row_capacity).unwrap_or_default()
    }

    /// Length of the file in bytes.
    pub fn file_bytes(&self) -> usize {
        self.map.len()
    }
}

/// The first rows of a growing file.
#[derive(Clone, Copy, Debug)]
pub struct GrowingRows<'a> {
    file: &'a GrowingFile,
    row_count: usize,
}

impl<'a> GrowingRows<'a> {
    fn fixed(&self, data_type: DataType, offset: usize, row_bytes: usize) -> Option<Values<'a>> {
        let (map, rows) = (&self.file.map, self.row_count);
        Some(match data_type {
            DataType::Bool => Values::BoolBytes(map.slice(offset, rows)?),
            DataType::Int8 => Values::Int8(map.slice(offset, rows)?),
            DataType::Int16 => Values::Int16(map.slice(offset, rows)?),
            DataType::Int32 => Values::Int32(map.slice(offset, rows)?),
            DataType::Int64 | DataType::Timestamptz => Values::Int64(map.slice(offset, rows)?),
            DataType::Float => Values::Float(map.slice(offset, rows)?),
            DataType::Double => Values::Double(map.slice(offset, rows)?),
            data_type if data_type.is_vector() => {
                Values::Vector { bytes: map.slice(offset, rows.checked_mul(row_bytes)?)?, row_bytes }
            }
            _ => return None,
        })
    }

    /// As [`RowSource::column`], for as long as the file is there.
    pub fn column_of_file(&self, field: &FieldSchema) -> Option<ColumnView<'a>> {
        let column = self.file.layout.columns.iter().find(|column| column.field == field.id)?;
        if column.data_type != field.data_type {
            return None;
        }
        let map = &self.file.map;
        let values = match column.place {
            ColumnPlace::Fixed { offset, row_bytes } => {
                if field.row_bytes() != Some(row_bytes) {
                    return None;
                }
                self.fixed(column.data_type, offset, row_bytes)?
            }
            ColumnPlace::Text { offsets, text, text_bytes } => {
                if field.row_bytes().is_some() {
                    return None;
                }
                let offsets: &[i32] = map.slice(offsets, self.row_count + 1)?;
                // Only the bytes of published rows: those behind them are being written.
                let used = offsets.last().and_then(|end| usize::try_from(*end).ok())?.min(text_bytes);
                Values::Text { offsets, bytes: map.slice(text, used)? }
            }
        };
        let validity = match column.validity {
            Some(offset) => Validity::Bytes(map.slice(offset, self.row_count)?),
            None => Validity::All,
        };
        Some(ColumnView { values, validity })
    }
}

impl RowSource for GrowingRows<'_> {
    fn row_count(&self) -> usize {
        self.row_count
    }

    fn column(&self, field: &FieldSchema) -> Option<ColumnView<'_>> {
        self.column_of_file(field)
    }

    fn insert_timestamps(&self) -> &[u64] {
        self.file.map.slice(self.file.layout.insert_timestamps, self.row_count).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
