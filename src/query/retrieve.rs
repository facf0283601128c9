//! Query: rows by key or by filter, in primary-key order, and counts.

use super::snapshot::{RowAddress, Selection, Snapshot};
use crate::types::Result;

/// One query.
#[derive(Clone, Debug)]
pub struct RetrieveOptions {
    /// Which rows.
    pub selection: Selection,
    /// Rows to skip.
    pub offset: usize,
    /// Most rows to return; `None` = all (bounded by the reply size).
    pub limit: Option<usize>,
}

/// The rows, ascending by primary key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Retrieved {
    /// Where they are.
    pub rows: Vec<RowAddress>,
}

/// Finds the rows. A selection of exactly some primary keys is answered by binary search.
///
/// # Errors
/// When the snapshot is older than the manifest's horizon or the collection is damaged.
pub fn retrieve(snapshot: &Snapshot, options: &RetrieveOptions) -> Result<Retrieved> {
    let _ = (snapshot, options);
    todo!()
}

/// Counts the rows.
///
/// # Errors
/// As [`retrieve`].
pub fn count(snapshot: &Snapshot, selection: &Selection) -> Result<u64> {
    let _ = (snapshot, selection);
    todo!()
}
