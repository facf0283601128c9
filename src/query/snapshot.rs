//! A snapshot: one view of a collection and the timestamp that says which of its rows exist.

use std::sync::Arc;

use crate::filter::Plan;
use crate::shm::attach::CollectionView;
use crate::types::{Bitmap, PartitionId, Timestamp};

/// One collection at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Which rows exist.
    pub timestamp: Timestamp,
    /// Where they are.
    pub view: Arc<CollectionView>,
}

/// A row of a snapshot: `file` counts sealed files, then growing chunks, in the view's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowAddress {
    /// Which file.
    pub file: u32,
    /// Row of the file.
    pub row: u32,
}

/// Which rows a request wants.
#[derive(Clone, Debug)]
pub struct Selection {
    /// The filter.
    pub plan: Plan,
    /// Only these partitions; empty = all.
    pub partitions: Vec<PartitionId>,
    /// Leave growing rows out.
    pub ignore_growing: bool,
}

impl Snapshot {
    /// Number of files: sealed, then growing.
    pub fn file_count(&self) -> usize {
        self.view.sealed.len() + self.view.growing.len()
    }

    /// The rows of one file that exist in this snapshot and match the selection; `None` when it has none, `Some(None)`
    /// when all its first `row_count` rows do.
    pub fn matching_rows(&self, file: usize, selection: &Selection) -> Option<MatchingRows> {
        let _ = (file, selection);
        todo!()
    }
}

/// The rows of one file that a request wants.
#[derive(Clone, Debug)]
pub struct MatchingRows {
    /// Rows `0..row_count` are looked at.
    pub row_count: usize,
    /// Of these, the ones whose bit is set; `None` = all.
    pub filter: Option<Bitmap>,
}
