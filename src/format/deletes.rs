//! Deletes of one table file: the live form (a word per row, shared) and the durable form (a checkpoint).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use super::FormatError;
use crate::sys::map::SharedMap;

/// A live `deleted_at` file: header (magic, version, length, rows, count of marked rows), then one u64 per row:
/// 0 = not deleted, else the timestamp of the delete. Cells go from 0 to a timestamp once; one process writes.
#[derive(Clone, Debug)]
pub struct DeletedAt {
    map: Arc<SharedMap>,
}

impl DeletedAt {
    /// Length of the file in bytes.
    pub fn file_bytes(row_count: usize) -> usize {
        let _ = row_count;
        todo!()
    }

    /// Lays out a fresh, zeroed map.
    pub fn create(map: Arc<SharedMap>, row_count: usize) -> DeletedAt {
        let _ = (map, row_count);
        todo!()
    }

    /// Checks the header against the map's length.
    ///
    /// # Errors
    /// When they do not fit together.
    pub fn open(map: Arc<SharedMap>) -> Result<DeletedAt, FormatError> {
        let _ = map;
        todo!()
    }

    /// One word per row.
    pub fn cells(&self) -> &[AtomicU64] {
        let _ = &self.map;
        todo!()
    }

    /// Marks a row, when it is not marked yet; counts it. Returns whether it was marked now.
    pub fn mark(&self, row: usize, timestamp: u64) -> bool {
        let _ = (row, timestamp);
        todo!()
    }

    /// How many rows are marked, for statistics.
    pub fn marked_count(&self) -> u64 {
        todo!()
    }
}

/// Encodes (row, timestamp) pairs as a checkpoint with magic, version and checksum.
pub fn encode_checkpoint(marks: &[(u32, u64)]) -> Vec<u8> {
    let _ = marks;
    todo!()
}

/// Decodes a checkpoint; every row must be below `row_count`.
///
/// # Errors
/// When the bytes are damaged.
pub fn decode_checkpoint(bytes: &[u8], row_count: usize) -> Result<Vec<(u32, u64)>, FormatError> {
    let _ = (bytes, row_count);
    todo!()
}
