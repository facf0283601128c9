//! Fields of found rows, gathered from their files.

use super::snapshot::{RowAddress, Snapshot};
use crate::types::{Column, FieldSchema};

/// A gathered column: full width, `validity` where rows are null.
pub type OutputColumn = Column;

/// Rows to gather fields of.
#[derive(Clone, Copy, Debug)]
pub struct OutputRows<'a> {
    /// The snapshot the addresses are of.
    pub snapshot: &'a Snapshot,
    /// In the order of the reply.
    pub rows: &'a [RowAddress],
}

impl OutputRows<'_> {
    /// One field of every row; files older than the field give its default or null.
    pub fn column(&self, field: &FieldSchema) -> OutputColumn {
        let _ = (field, self.snapshot, self.rows);
        todo!()
    }

    /// Bytes the column will have, without building it: replies are bounded before they are built.
    pub fn column_bytes(&self, field: &FieldSchema) -> usize {
        let _ = field;
        todo!()
    }
}
