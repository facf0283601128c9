//! Growing files: one chunk of a MemTableFile, filled append-only, searched while it grows.
//!
//! Layout: a header with magic, version, length, the published row count (an atomic word) and a directory of sections;
//! then, each at a 64-byte boundary and each of fixed capacity: insert timestamps, deleted_at words, and per field
//! validity bytes, values, text offsets (i32, capacity + 1) and text bytes. Rows below the published count never change.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::{FormatError, RowSource};
use crate::sys::map::SharedMap;
use crate::types::{Batch, CollectionSchema, ColumnView, FieldSchema, Timestamp};

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
        let _ = (schema, batch, from, rows_min, bytes);
        todo!()
    }

    /// Length of the file in bytes.
    pub fn file_bytes(&self, schema: &CollectionSchema) -> usize {
        let _ = schema;
        todo!()
    }
}

/// The writer's end of a chunk. One thread appends; any thread of the writer may mark rows deleted.
#[derive(Debug)]
pub struct GrowingWriter {
    file: GrowingFile,
}

impl GrowingWriter {
    /// Lays out a fresh, zeroed map of at least [`ChunkCapacity::file_bytes`] bytes.
    pub fn create(map: Arc<SharedMap>, schema: &CollectionSchema, capacity: &ChunkCapacity) -> GrowingWriter {
        let _ = (map, schema, capacity);
        todo!()
    }

    /// How many rows of `batch[from..]` still fit.
    pub fn rows_that_fit(&self, batch: &Batch, from: usize) -> usize {
        let _ = (batch, from);
        todo!()
    }

    /// Copies rows in and publishes them (release). They must fit. Returns the first row's place in the chunk.
    pub fn append(&mut self, batch: &Batch, rows: Range<usize>, timestamp: Timestamp) -> usize {
        let _ = (batch, rows, timestamp);
        todo!()
    }

    /// The reading end of the same map.
    pub fn file(&self) -> &GrowingFile {
        &self.file
    }
}

/// The reading end of a chunk.
#[derive(Clone, Debug)]
pub struct GrowingFile {
    map: Arc<SharedMap>,
}

impl GrowingFile {
    /// Checks header and directory against the schema's field ids and the map's length.
    ///
    /// # Errors
    /// When anything does not fit together.
    pub fn open(map: Arc<SharedMap>) -> Result<GrowingFile, FormatError> {
        let _ = map;
        todo!()
    }

    /// Rows published so far (acquire), clamped to the capacity.
    pub fn rows_published(&self) -> usize {
        todo!()
    }

    /// The first `row_count <= rows_published()` rows as a source; timestamps are ascending within a chunk.
    pub fn rows(&self, row_count: usize) -> GrowingRows<'_> {
        let _ = row_count;
        todo!()
    }

    /// `deleted_at` of each row of the capacity: 0 = not deleted, else the timestamp of the delete.
    pub fn deleted_at(&self) -> &[AtomicU64] {
        todo!()
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

impl RowSource for GrowingRows<'_> {
    fn row_count(&self) -> usize {
        self.row_count
    }

    fn column(&self, field: &FieldSchema) -> Option<ColumnView<'_>> {
        let _ = (field, self.file);
        todo!()
    }

    fn insert_timestamps(&self) -> &[u64] {
        todo!()
    }
}
