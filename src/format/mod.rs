//! Bytes of our files, on disk and in shared memory: table files, growing files, `deleted_at` files, log records.
//! Start at FORMAT.md. Uses `types`, `sys` maps, `arrow`; opens no file by path and knows nothing of processes.
//! Invariant: a byte that was published is never written, truncated or reused.

pub mod deletes;
pub mod growing;
mod layout;
mod living;
pub mod log_record;
#[cfg(test)]
pub(crate) mod samples;
pub mod table;

use crate::types::{ColumnView, FieldSchema};

/// Rows that can be read column by column: a table file or the published part of a growing file.
pub trait RowSource {
    /// Number of rows.
    fn row_count(&self) -> usize;
    /// A column, or `None` when the file is older than the field.
    fn column(&self, field: &FieldSchema) -> Option<ColumnView<'_>>;
    /// The insert timestamp of each row.
    fn insert_timestamps(&self) -> &[u64];
}

/// One row of several sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowRef {
    /// Which source.
    pub source: u32,
    /// Row of that source.
    pub row: u32,
}

/// Why bytes cannot be used as a file of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Not such a file, or of another version.
    #[error("not a {what} of this version: {detail}")]
    Foreign {
        /// What was expected, such as `growing file`.
        what: &'static str,
        /// What was found.
        detail: String,
    },
    /// The bytes contradict themselves or their checksum.
    #[error("damaged {what}: {detail}")]
    Damaged {
        /// What it is.
        what: &'static str,
        /// What is wrong, and where.
        detail: String,
    },
}
