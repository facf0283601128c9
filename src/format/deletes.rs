//! Deletes of one table file: the live form (a word per row, shared) and the durable form (a checkpoint).

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::FormatError;
use super::living::LastLiving;
use crate::sys::map::SharedMap;

const LIVE: &str = "deleted_at file";
const LIVE_MAGIC: [u8; 8] = *b"SHOALDEL";
const CHECKPOINT: &str = "delete checkpoint";
const CHECKPOINT_MAGIC: [u8; 8] = *b"SHOALDCP";
const LIVE_VERSION: u32 = 2;
const VERSION: u32 = 1;
/// The count of marked rows has a cache line of its own.
const COUNT_OFFSET: usize = 64;
/// The rows that were marked last (u32 each), a ring: mark `i` is at `i % RECENT_MAX`.
const RECENT_OFFSET: usize = 128;
const RECENT_MAX: u64 = ((CELLS_OFFSET - RECENT_OFFSET) / 4) as u64;
const CELLS_OFFSET: usize = 4096;
/// Magic, version, reserved, count.
const CHECKPOINT_HEADER_BYTES: usize = 24;
/// Row (u32) and timestamp (u64).
const MARK_BYTES: usize = 12;

/// A live `deleted_at` file: header (magic, version, length, rows, count of marked rows, those marked last), then one u64 per
/// row: 0 = not deleted, else the timestamp of the delete. Cells go from 0 to a timestamp once; one thread at a time marks.
#[derive(Clone, Debug)]
pub struct DeletedAt {
    map: Arc<SharedMap>,
    row_count: usize,
    living: LastLiving,
}

impl DeletedAt {
    /// Length of the file in bytes.
    pub fn file_bytes(row_count: usize) -> usize {
        CELLS_OFFSET + row_count * 8
    }

    /// Lays out a fresh, zeroed map.
    ///
    /// # Panics
    /// When the map is shorter than [`DeletedAt::file_bytes`] or read-only: both are bugs of the caller.
    pub fn create(map: Arc<SharedMap>, row_count: usize) -> DeletedAt {
        let file_bytes = DeletedAt::file_bytes(row_count);
        assert!(file_bytes <= map.len(), "deleted_at of {row_count} rows in {} bytes", map.len());
        let mut header = [0; 32];
        header[0..8].copy_from_slice(&LIVE_MAGIC);
        header[8..12].copy_from_slice(&LIVE_VERSION.to_le_bytes());
        header[16..24].copy_from_slice(&(file_bytes as u64).to_le_bytes());
        header[24..32].copy_from_slice(&(row_count as u64).to_le_bytes());
        map.write(0, &header);
        DeletedAt { map, row_count, living: LastLiving::default() }
    }

    /// Checks the header against the map's length.
    ///
    /// # Errors
    /// When they do not fit together.
    pub fn open(map: Arc<SharedMap>) -> Result<DeletedAt, FormatError> {
        let header: [u8; 32] = map
            .get(0..32)
            .and_then(|header| header.try_into().ok())
            .ok_or_else(|| FormatError::Foreign { what: LIVE, detail: format!("only {} bytes", map.len()) })?;
        if header[0..8] != LIVE_MAGIC || u32_at(&header, 8) != Some(LIVE_VERSION) {
            return Err(FormatError::Foreign { what: LIVE, detail: "another magic number or version".to_owned() });
        }
        let (file_bytes, rows) = (u64_at(&header, 16), u64_at(&header, 24));
        let row_count = rows
            .filter(|rows| rows.checked_mul(8).and_then(|cells| cells.checked_add(CELLS_OFFSET as u64)) == file_bytes)
            .filter(|_| file_bytes.is_some_and(|bytes| bytes <= map.len() as u64))
            .and_then(|rows| usize::try_from(rows).ok())
            .ok_or_else(|| FormatError::Damaged {
                what: LIVE,
                detail: format!("{rows:?} rows, {file_bytes:?} bytes in a file of {}", map.len()),
            })?;
        Ok(DeletedAt { map, row_count, living: LastLiving::default() })
    }

    /// Rows of the table file.
    pub fn row_count(&self) -> usize {
        self.row_count
    }

    /// One word per row.
    pub fn cells(&self) -> &[AtomicU64] {
        self.map.atomics_u64(CELLS_OFFSET, self.row_count).unwrap_or_default()
    }

    /// Marks a row, when it is not marked yet; counts it. Returns whether it was marked now.
    ///
    /// # Panics
    /// When the map is read-only: only the writer marks.
    pub fn mark(&self, row: usize, timestamp: u64) -> bool {
        debug_assert_ne!(timestamp, 0, "0 means not deleted");
        assert!(self.map.is_writable(), "a reader marks rows deleted");
        let Some(cell) = self.cells().get(row) else { return false };
        let is_new = cell.compare_exchange(0, timestamp, Ordering::Release, Ordering::Relaxed).is_ok();
        if is_new {
            let count = self.map.atomic_u64(COUNT_OFFSET);
            let mark = count.load(Ordering::Relaxed);
            self.recent_slot(mark).store(row as u32, Ordering::Release);
            // Who reads the count sees the marks that it counts, and the slots.
            count.store(mark + 1, Ordering::Release);
        }
        is_new
    }

    /// How many rows are marked, for statistics.
    pub fn marked_count(&self) -> u64 {
        self.map.atomic_u64(COUNT_OFFSET).load(Ordering::Relaxed)
    }

    /// How many rows are marked; those are seen.
    pub(super) fn marks_counted(&self) -> u64 {
        self.map.atomic_u64(COUNT_OFFSET).load(Ordering::Acquire)
    }

    /// The rows of the marks from `first` up to `end`, which are counted; `None` when they are no longer all there.
    pub(super) fn recent(&self, first: u64, end: u64) -> Option<Vec<u32>> {
        let is_there = |counted: u64| counted.checked_sub(first).is_some_and(|behind| behind < RECENT_MAX);
        if first > end || !is_there(end) {
            return None;
        }
        let rows = (first..end).map(|mark| self.recent_slot(mark).load(Ordering::Acquire)).collect();
        // Whoever read what a later mark left reads that one's count, or the count before it, too.
        is_there(self.marks_counted()).then_some(rows)
    }

    pub(super) fn last_living(&self) -> &LastLiving {
        &self.living
    }

    fn recent_slot(&self, mark: u64) -> &AtomicU32 {
        self.map.atomic_u32(RECENT_OFFSET + (mark % RECENT_MAX) as usize * 4)
    }
}

/// Encodes (row, timestamp) pairs as a checkpoint with magic, version and checksum.
pub fn encode_checkpoint(marks: &[(u32, u64)]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CHECKPOINT_HEADER_BYTES + marks.len() * MARK_BYTES + 8);
    bytes.extend_from_slice(&CHECKPOINT_MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes.extend_from_slice(&(marks.len() as u64).to_le_bytes());
    for (row, timestamp) in marks {
        bytes.extend_from_slice(&row.to_le_bytes());
        bytes.extend_from_slice(&timestamp.to_le_bytes());
    }
    let checksum = crc_fast::crc64_nvme(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Decodes a checkpoint; every row must be below `row_count`.
///
/// # Errors
/// When the bytes are damaged.
pub fn decode_checkpoint(bytes: &[u8], row_count: usize) -> Result<Vec<(u32, u64)>, FormatError> {
    let damaged = |detail: String| FormatError::Damaged { what: CHECKPOINT, detail };
    if bytes.get(0..8) != Some(&CHECKPOINT_MAGIC[..]) || u32_at(bytes, 8) != Some(VERSION) {
        return Err(FormatError::Foreign { what: CHECKPOINT, detail: "another magic number or version".to_owned() });
    }
    let marks_end = bytes
        .len()
        .checked_sub(8)
        .filter(|end| *end >= CHECKPOINT_HEADER_BYTES)
        .ok_or_else(|| damaged(format!("only {} bytes", bytes.len())))?;
    if u64_at(bytes, marks_end) != Some(crc_fast::crc64_nvme(&bytes[..marks_end])) {
        return Err(damaged("checksum".to_owned()));
    }
    let marks = &bytes[CHECKPOINT_HEADER_BYTES..marks_end];
    let count = u64_at(bytes, 16).unwrap_or(u64::MAX);
    if !marks.len().is_multiple_of(MARK_BYTES) || (marks.len() / MARK_BYTES) as u64 != count {
        return Err(damaged(format!("{count} marks in {} bytes", marks.len())));
    }
    let decode = |mark: &[u8]| match (u32_at(mark, 0), u64_at(mark, 4)) {
        (Some(row), Some(timestamp)) if (row as usize) < row_count && timestamp != 0 => Ok((row, timestamp)),
        (row, timestamp) => Err(damaged(format!("row {row:?} of {row_count} deleted at {timestamp:?}"))),
    };
    marks.chunks_exact(MARK_BYTES).map(decode).collect()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::samples::{fresh_map, map_of};

    #[test]
    fn marks_are_seen_through_another_handle_and_counted_once() {
        let map = fresh_map(DeletedAt::file_bytes(5));
        let writer = DeletedAt::create(Arc::clone(&map), 5);
        let reader = DeletedAt::open(map).unwrap();
        assert!(writer.mark(4, 9) && !writer.mark(4, 10) && !writer.mark(5, 9));
        let cells: Vec<u64> = reader.cells().iter().map(|cell| cell.load(Ordering::Acquire)).collect();
        assert_eq!((cells, reader.marked_count()), (vec![0, 0, 0, 0, 9], 1));
    }

    #[test]
    fn a_header_that_does_not_fit_its_file_is_refused() {
        let map = fresh_map(DeletedAt::file_bytes(5));
        DeletedAt::create(Arc::clone(&map), 5);
        let whole = map.bytes().to_vec();
        for at in [0, 8, 16, 23, 24, 31] {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            assert!(DeletedAt::open(map_of(&bytes)).is_err(), "byte {at}");
        }
        for length in [1, 31, 127, whole.len() - 1] {
            assert!(DeletedAt::open(map_of(&whole[..length])).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn a_checkpoint_comes_back_and_no_damaged_one_is_read() {
        let marks = [(0, 1), (7, u64::MAX), (3, 5)];
        let bytes = encode_checkpoint(&marks);
        assert_eq!(decode_checkpoint(&bytes, 8).unwrap(), marks);
        assert_eq!(decode_checkpoint(&encode_checkpoint(&[]), 0).unwrap(), []);
        assert!(decode_checkpoint(&bytes, 7).is_err(), "row 7 of 7");
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            // The reserved word is covered by the checksum too.
            assert!(decode_checkpoint(&damaged, 8).is_err(), "byte {at}");
            assert!(decode_checkpoint(&bytes[..at], 8).is_err(), "cut at {at}");
        }
    }
}
