//! One column of the files that some rows lie in.

use super::snapshot::Snapshot;
use crate::types::{ColumnView, FieldSchema};

/// Columns of so many files need no heap: a collection that has settled has fewer files.
const FEW_FILES: usize = 4;

/// A field's column in each file that was asked for.
#[derive(Debug)]
pub(super) struct FileColumns<'a> {
    snapshot: &'a Snapshot,
    field: &'a FieldSchema,
    /// Of the first files.
    few: [Slot<'a>; FEW_FILES],
    /// Of the files behind them.
    others: Vec<Slot<'a>>,
}

/// What is known of a file: nothing yet, or its column, which it may lack.
type Slot<'a> = Option<Option<ColumnView<'a>>>;

impl<'a> FileColumns<'a> {
    /// No file's yet.
    pub fn new(snapshot: &'a Snapshot, field: &'a FieldSchema) -> FileColumns<'a> {
        FileColumns { snapshot, field, few: [None; FEW_FILES], others: Vec::new() }
    }

    /// Looks the column up in the files of some rows.
    pub fn look_up(&mut self, files: impl Iterator<Item = u32>) {
        let (snapshot, field) = (self.snapshot, self.field);
        for file in files.map(|file| file as usize) {
            if let Some(slot @ None) = self.slot(file) {
                *slot = Some(snapshot.file_rows(file).and_then(|rows| rows.column(field)));
            }
        }
    }

    /// The column in a file that was looked into; `None` when the file is older than the field, or none.
    #[inline]
    pub fn get(&self, file: u32) -> Option<&ColumnView<'a>> {
        let file = file as usize;
        self.few.get(file).or_else(|| self.others.get(file - FEW_FILES))?.as_ref()?.as_ref()
    }

    /// `None` when there is no such file.
    fn slot(&mut self, file: usize) -> Option<&mut Slot<'a>> {
        if file < FEW_FILES {
            return self.few.get_mut(file);
        }
        if self.others.is_empty() {
            self.others.resize(self.snapshot.file_count().saturating_sub(FEW_FILES), None);
        }
        self.others.get_mut(file - FEW_FILES)
    }
}
