//! MemTables: per collection and partition one mutable MemTableFile and a queue of immutable ones.
//!
//! A MemTableFile is a list of chunks in shared memory that readers search while it grows. The commit thread appends and
//! marks rows deleted under the state lock; the serialise thread reads chunks of immutable files.

use std::collections::VecDeque;
use std::ops::Range;

use super::keys::KeyIndex;
use crate::format::RowSource;
use crate::format::growing::{GrowingFile, GrowingWriter};
use crate::shm::manifest::{ManifestChunk, Place};
use crate::types::{Batch, FileId, Keys, Lsn, PartitionId, Timestamp};

/// One chunk.
#[derive(Debug)]
pub struct Chunk {
    /// The map.
    pub writer: GrowingWriter,
    /// File name.
    pub name: String,
    /// Where the file is.
    pub place: Place,
    /// Bytes reserved for it.
    pub bytes: u64,
    /// Rows in the chunks before it; `usize::MAX` until it holds a row.
    pub row_start: usize,
}

/// Rows of a batch that go into one chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Index of the chunk in the file.
    pub chunk: usize,
    /// Rows of the batch.
    pub rows: Range<usize>,
}

/// A growing (mutable or immutable) file.
#[derive(Debug)]
pub struct MemTableFile {
    /// The table file it becomes.
    pub id: FileId,
    /// Its partition.
    pub partition: PartitionId,
    /// In the order of filling.
    pub chunks: Vec<Chunk>,
    /// Where rows of a key are.
    pub keys: KeyIndex,
    /// Rows.
    pub row_count: usize,
    /// Bytes reserved for its chunks.
    pub bytes: u64,
    /// First and last log record with rows of it.
    pub lsns: (Lsn, Lsn),
    /// Timestamps of the first and last row.
    pub timestamps: (Timestamp, Timestamp),
    /// The first delete that marked a row of it, if any.
    pub dirty_lsn: Option<Lsn>,
    /// Rows marked deleted.
    pub marked_count: u64,
}

impl MemTableFile {
    /// No chunks, no rows.
    pub fn new(id: FileId, partition: PartitionId) -> MemTableFile {
        MemTableFile {
            id,
            partition,
            chunks: Vec::new(),
            keys: KeyIndex::new(),
            row_count: 0,
            bytes: 0,
            lsns: (Lsn(0), Lsn(0)),
            timestamps: (Timestamp(0), Timestamp(0)),
            dirty_lsn: None,
            marked_count: 0,
        }
    }

    /// The chunk that is being filled: the last one with rows, or the first.
    pub fn filling(&self) -> usize {
        self.chunks.iter().rposition(|chunk| chunk.writer.file().rows_published() > 0).unwrap_or(0)
    }

    /// Copies rows in and publishes them. The parts were planned against this file under the same lock.
    pub fn append(&mut self, batch: &Batch, keys: &Keys, parts: &[Part], lsn: Lsn, timestamp: Timestamp) {
        for part in parts {
            let chunk = &mut self.chunks[part.chunk];
            let row = chunk.writer.append(batch, part.rows.clone(), timestamp);
            if row == 0 {
                chunk.row_start = self.row_count;
            }
            self.row_count += part.rows.len();
        }
        self.keys.append(keys);
        if self.timestamps.0 == Timestamp(0) {
            self.timestamps.0 = timestamp;
            self.lsns.0 = lsn;
        }
        self.timestamps.1 = timestamp;
        self.lsns.1 = lsn;
    }

    /// The rows of the keys that a delete at `timestamp` marks: older than it and not yet deleted, as (chunk, row).
    pub fn find_living(&self, keys: &Keys, timestamp: Timestamp) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        self.keys.find(keys, &mut |row| {
            if let Some(chunk) = self.chunks.iter().rposition(|chunk| chunk.row_start <= row) {
                found.push((chunk, row - self.chunks[chunk].row_start));
            }
        });
        found.retain(|&(chunk, row)| {
            let file = self.chunks[chunk].writer.file();
            let is_older = file.rows(row + 1).insert_timestamps().get(row).is_some_and(|&at| at < timestamp.0);
            is_older && file.deleted_at()[row].load(std::sync::atomic::Ordering::Relaxed) == 0
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Marks rows that [`MemTableFile::find_living`] returned.
    pub fn mark(&mut self, rows: &[(usize, usize)], lsn: Lsn, timestamp: Timestamp) {
        for &(chunk, row) in rows {
            // Relaxed is enough: a reader looks for this timestamp only after it acquired a visible timestamp that covers
            // it, and the commit thread releases that one after this store.
            self.chunks[chunk].writer.file().deleted_at()[row].store(timestamp.0, std::sync::atomic::Ordering::Relaxed);
        }
        if !rows.is_empty() {
            self.marked_count += rows.len() as u64;
            self.dirty_lsn.get_or_insert(lsn);
        }
    }

    /// The chunks that hold rows, for reading.
    pub fn files(&self) -> Vec<GrowingFile> {
        let with_rows = self.chunks.iter().filter(|chunk| chunk.writer.file().rows_published() > 0);
        with_rows.map(|chunk| chunk.writer.file().clone()).collect()
    }

    /// Its lines in the manifest.
    pub fn manifest_chunks(&self) -> impl Iterator<Item = ManifestChunk> + '_ {
        self.chunks.iter().map(|chunk| ManifestChunk {
            file: self.id,
            name: chunk.name.clone(),
            partition: self.partition,
            file_bytes: chunk.writer.file().file_bytes() as u64,
            place: chunk.place,
        })
    }
}

/// The MemTableFiles of one partition.
#[derive(Debug, Default)]
pub struct MemTable {
    /// Being filled.
    pub mutable: Option<MemTableFile>,
    /// Waiting for the serialise thread, oldest first. They become table files strictly in this order: the partition's
    /// `flushed_lsn` says that everything up to it is in table files.
    pub immutable: VecDeque<MemTableFile>,
}

impl MemTable {
    /// Makes the mutable file immutable when it has rows: a pointer move. Returns its id.
    pub fn rotate(&mut self) -> Option<FileId> {
        if self.mutable.as_ref()?.row_count == 0 {
            return None;
        }
        let file = self.mutable.take()?;
        let id = file.id;
        self.immutable.push_back(file);
        Some(id)
    }

    /// Immutable, then mutable.
    pub fn files(&self) -> impl Iterator<Item = &MemTableFile> {
        self.immutable.iter().chain(&self.mutable)
    }

    /// Immutable, then mutable.
    pub fn files_mut(&mut self) -> impl Iterator<Item = &mut MemTableFile> {
        self.immutable.iter_mut().chain(&mut self.mutable)
    }
}
