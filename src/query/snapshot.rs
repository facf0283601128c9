//! A snapshot: one view of a collection and the timestamp that says which of its rows exist.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::kept::{self, Passing};
use crate::filter::Plan;
use crate::format::RowSource;
use crate::format::growing::GrowingRows;
use crate::shm::attach::{CollectionView, GrowingChunk, SealedFile};
use crate::sys::clock;
use crate::types::{
    Bitmap, ColumnView, Error, ErrorKind, FieldId, FieldSchema, Metric, Nulls, PartitionId, Result, Timestamp,
    Validity, ValueRange, Values, expired_until,
};

/// One collection at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Which rows exist.
    pub timestamp: Timestamp,
    /// Where they are.
    pub view: Arc<CollectionView>,
    /// Rows inserted up to here have expired: they do not exist for anybody any more. 0 = none.
    pub expired_until: Timestamp,
}

/// A row of a snapshot: `file` counts sealed files, then growing chunks, in the view's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowAddress {
    /// Which file.
    pub file: u32,
    /// Row of the file.
    pub row: u32,
}

impl RowAddress {
    /// A row of no file: every field has its default, or null.
    pub const NOWHERE: RowAddress = RowAddress { file: u32::MAX, row: 0 };
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

/// The rows of one file that a request wants.
#[derive(Clone, Debug)]
pub struct MatchingRows {
    /// Rows `0..row_count` are looked at.
    pub row_count: usize,
    /// Of these, the ones whose bit is set; `None` = all.
    pub filter: Option<Arc<Bitmap>>,
    /// How many rows match.
    pub count: usize,
}

impl Snapshot {
    /// A collection at a timestamp; what has expired by now does not exist.
    pub fn new(timestamp: Timestamp, view: Arc<CollectionView>) -> Snapshot {
        let expired_until = expired_until(&view.manifest.properties, clock::unix_ms);
        Snapshot { timestamp, view, expired_until }
    }

    /// Number of files: sealed, then growing.
    pub fn file_count(&self) -> usize {
        self.view.sealed.len() + self.view.growing.len()
    }

    /// Whether this snapshot can be answered from its view.
    ///
    /// # Errors
    /// When it is older than the manifest's horizon, or a file of the collection is damaged.
    pub fn check(&self) -> Result<()> {
        let manifest = &self.view.manifest;
        if let Some(damage) = &manifest.damage {
            return Err(Error::new(ErrorKind::Corrupt, damage.clone()));
        }
        if self.timestamp < manifest.horizon {
            let message = format!(
                "cannot read at timestamp {}: deleted rows that it could see were removed up to {}; start the iterator \
                 again, or raise snapshot_retention",
                self.timestamp, manifest.horizon
            );
            return Err(Error::new(ErrorKind::InvalidParameter, message));
        }
        Ok(())
    }

    /// The metric of a vector field's index; `None` when it has no index. The type's own when the index names none.
    pub fn metric(&self, field: FieldId) -> Option<Metric> {
        let index = self.view.manifest.indexes.iter().find(|index| index.field == field)?;
        let name = index.params.iter().find(|(key, _)| key == "metric_type").map(|(_, value)| value.as_str());
        let of_type = || Metric::of_type(self.view.manifest.schema.field_by_id(field)?.data_type).first().copied();
        name.and_then(Metric::from_name).or_else(of_type)
    }

    /// The rows of one file that exist in this snapshot and match the selection; `None` when it has none.
    pub fn matching_rows(&self, file: usize, selection: &Selection) -> Option<MatchingRows> {
        let rows = self.file_rows(file)?;
        let window = 0..self.searched_count(&rows, selection)?;
        self.matching_window(&rows, selection, window)
    }

    /// The published rows of one file.
    pub(super) fn file_rows(&self, file: usize) -> Option<FileRows<'_>> {
        let sealed = &self.view.sealed;
        match sealed.get(file) {
            Some(sealed) => Some(FileRows::Sealed(sealed)),
            None => {
                let chunk = self.view.growing.get(file - sealed.len())?;
                Some(FileRows::Growing { chunk, rows: chunk.file.rows(chunk.file.rows_published()) })
            }
        }
    }

    /// How many of the file's first rows have to be looked at; `None` when the selection leaves the file out.
    pub(super) fn candidate_count(&self, rows: &FileRows<'_>, selection: &Selection) -> Option<usize> {
        if !selection.partitions.is_empty() && !selection.partitions.contains(&rows.partition()) {
            return None;
        }
        let count = match rows {
            FileRows::Sealed(file) if file.entry.timestamps.0 > self.timestamp.0 => 0,
            FileRows::Sealed(file) if file.entry.timestamps.1 <= self.expired_until.0 => 0,
            FileRows::Sealed(file) => file.table.row_count(),
            FileRows::Growing { .. } if selection.ignore_growing => 0,
            // Timestamps ascend within a chunk: what exists is a prefix.
            FileRows::Growing { rows, .. } => rows.insert_timestamps().partition_point(|ts| *ts <= self.timestamp.0),
        };
        (count > 0).then_some(count)
    }

    /// As [`Snapshot::candidate_count`]; `None` also when the file's statistics say that no row passes the filter.
    pub(super) fn searched_count(&self, rows: &FileRows<'_>, selection: &Selection) -> Option<usize> {
        let count = self.candidate_count(rows, selection)?;
        let is_excluded = selection.plan.excludes(&Window { rows, window: 0..count });
        (!is_excluded).then_some(count)
    }

    /// The rows of a window of one file that exist and match; bit `i` is row `window.start + i`. `None` when there is none.
    pub(super) fn matching_window(
        &self,
        rows: &FileRows<'_>,
        selection: &Selection,
        window: Range<usize>,
    ) -> Option<MatchingRows> {
        let row_count = window.len();
        let existing = self.existing_rows(rows, window.clone());
        let (existing, count) = match existing {
            None => (None, row_count),
            Some((existing, count)) => ((count < row_count).then_some(existing), count),
        };
        if count == 0 {
            return None;
        }
        if selection.plan.is_match_all() {
            return Some(MatchingRows { row_count, filter: existing, count });
        }
        let Passing { rows: mut filter, mut count } = passing_rows(rows, selection, window);
        if let Some(existing) = &existing {
            let both = Arc::make_mut(&mut filter);
            both.and(existing);
            count = both.count_ones();
        }
        (count > 0).then_some(MatchingRows { row_count, filter: Some(filter), count })
    }

    /// The rows of a window that exist, and how many; `None` = all of them.
    fn existing_rows(&self, rows: &FileRows<'_>, window: Range<usize>) -> Option<(Arc<Bitmap>, usize)> {
        let inserted = self.depends_on_insert(rows).then(|| {
            let timestamps = &rows.insert_timestamps()[window.clone()];
            bits_where(timestamps, |timestamp| self.is_inserted(*timestamp))
        });
        let Some(mut inserted) = inserted else { return self.living_rows(rows, window) };
        if let Some((living, _)) = self.living_rows(rows, window) {
            inserted.and(&living);
        }
        let count = inserted.count_ones();
        Some((Arc::new(inserted), count))
    }

    /// The rows of a window that are not deleted, and how many; `None` = all of them.
    fn living_rows(&self, rows: &FileRows<'_>, window: Range<usize>) -> Option<(Arc<Bitmap>, usize)> {
        let cells = rows.deleted_at()?;
        if let FileRows::Sealed(file) = rows
            && let Some(deletes) = &file.deletes
            && window == (0..cells.len())
        {
            let living = deletes.living(self.timestamp.0);
            return Some((living.rows, living.count));
        }
        // Relaxed is enough: a delete that this snapshot has to see was stored before the release of `visible_ts`,
        // which this process has acquired.
        let living = bits_where(&cells[window], |cell| !is_deleted(cell.load(Ordering::Relaxed), self.timestamp));
        let count = living.count_ones();
        Some((Arc::new(living), count))
    }

    /// Whether a row with this insert timestamp is there, unless it is deleted.
    #[inline]
    fn is_inserted(&self, timestamp: u64) -> bool {
        timestamp <= self.timestamp.0 && timestamp > self.expired_until.0
    }

    /// Whether some of a file's candidates may not be there because of when they were inserted.
    fn depends_on_insert(&self, rows: &FileRows<'_>) -> bool {
        rows.inserted_after(self.timestamp) || rows.inserted_until(self.expired_until)
    }

    /// Whether one row exists; it must be below the candidate count.
    pub(super) fn row_exists(&self, rows: &FileRows<'_>, row: usize) -> bool {
        let is_inserted = !self.depends_on_insert(rows) || self.is_inserted(rows.insert_timestamps()[row]);
        is_inserted
            && !rows.deleted_at().is_some_and(|cells| is_deleted(cells[row].load(Ordering::Relaxed), self.timestamp))
    }
}

/// The rows of a window that pass the filter, whether they exist or not.
fn passing_rows(rows: &FileRows<'_>, selection: &Selection, window: Range<usize>) -> Passing {
    let evaluate = || selection.plan.evaluate(&Window { rows, window: window.clone() });
    match rows {
        FileRows::Sealed(file) if window == (0..file.table.row_count()) => {
            kept::passing(&file.table, &selection.plan, evaluate)
        }
        _ => {
            let rows = evaluate();
            Passing { count: rows.count_ones(), rows: Arc::new(rows) }
        }
    }
}

/// `deleted_at` is set and not after the snapshot. One comparison: 0 wraps to the largest number.
#[inline]
fn is_deleted(deleted_at: u64, snapshot: Timestamp) -> bool {
    deleted_at.wrapping_sub(1) < snapshot.0
}

/// One bit per item, set where the test holds.
fn bits_where<T>(items: &[T], test: impl Fn(&T) -> bool) -> Bitmap {
    let mut bitmap = Bitmap::zeros(items.len());
    for (word, chunk) in bitmap.words_mut().iter_mut().zip(items.chunks(64)) {
        *word = chunk.iter().enumerate().fold(0, |bits, (bit, item)| bits | u64::from(test(item)) << bit);
    }
    bitmap
}

/// The published rows of one file, sealed or growing.
#[derive(Clone, Copy, Debug)]
pub(super) enum FileRows<'a> {
    /// A table file: sorted by key.
    Sealed(&'a SealedFile),
    /// A chunk, at the row count it had when it was looked at.
    Growing {
        /// The chunk.
        chunk: &'a GrowingChunk,
        /// Its rows.
        rows: GrowingRows<'a>,
    },
}

impl<'a> FileRows<'a> {
    /// A column; `None` when the file is older than the field.
    pub fn column(&self, field: &FieldSchema) -> Option<ColumnView<'a>> {
        match self {
            FileRows::Sealed(file) => file.table.column(field),
            FileRows::Growing { rows, .. } => rows.column_of_file(field),
        }
    }

    fn partition(&self) -> PartitionId {
        match self {
            FileRows::Sealed(file) => file.entry.partition,
            FileRows::Growing { chunk, .. } => chunk.entry.partition,
        }
    }

    fn insert_timestamps(&self) -> &[u64] {
        match self {
            FileRows::Sealed(file) => file.table.insert_timestamps(),
            FileRows::Growing { rows, .. } => rows.insert_timestamps(),
        }
    }

    /// Whether candidates may have been inserted after the snapshot (a chunk's candidates are a prefix without such rows).
    fn inserted_after(&self, snapshot: Timestamp) -> bool {
        match self {
            FileRows::Sealed(file) => file.entry.timestamps.1 > snapshot.0,
            FileRows::Growing { .. } => false,
        }
    }

    /// Whether rows were inserted at or before a timestamp.
    fn inserted_until(&self, timestamp: Timestamp) -> bool {
        match self {
            FileRows::Sealed(file) => file.entry.timestamps.0 <= timestamp.0,
            FileRows::Growing { rows, .. } => {
                rows.insert_timestamps().first().is_some_and(|first| *first <= timestamp.0)
            }
        }
    }

    /// The `deleted_at` words; `None` when no row is deleted.
    fn deleted_at(&self) -> Option<&[AtomicU64]> {
        match self {
            FileRows::Sealed(file) => {
                file.deletes.as_ref().filter(|deletes| deletes.marked_count() > 0).map(|deletes| deletes.cells())
            }
            FileRows::Growing { chunk, .. } => Some(chunk.file.deleted_at()),
        }
    }
}

/// Some rows of a file, as the filter sees them.
struct Window<'a> {
    rows: &'a FileRows<'a>,
    window: Range<usize>,
}

impl crate::filter::Rows for Window<'_> {
    fn row_count(&self) -> usize {
        self.window.len()
    }

    fn column(&self, field: &FieldSchema) -> Option<ColumnView<'_>> {
        self.rows.column(field).map(|column| slice_column(column, &self.window))
    }

    fn known(&self, field: FieldId) -> Option<(Nulls, Option<&ValueRange>)> {
        let FileRows::Sealed(file) = self.rows else { return None };
        let statistics = file.table.statistics(field)?;
        Some((statistics.nulls(file.table.row_count()), statistics.range.as_ref()))
    }
}

/// Rows `window` of a column.
pub(super) fn slice_column<'a>(column: ColumnView<'a>, window: &Range<usize>) -> ColumnView<'a> {
    let Range { start, end } = window.clone();
    let values = match column.values {
        Values::BoolBits { bits, offset } => Values::BoolBits { bits, offset: offset + start },
        Values::BoolBytes(values) => Values::BoolBytes(&values[start..end]),
        Values::Int8(values) => Values::Int8(&values[start..end]),
        Values::Int16(values) => Values::Int16(&values[start..end]),
        Values::Int32(values) => Values::Int32(&values[start..end]),
        Values::Int64(values) => Values::Int64(&values[start..end]),
        Values::Float(values) => Values::Float(&values[start..end]),
        Values::Double(values) => Values::Double(&values[start..end]),
        Values::Text { offsets, bytes } => Values::Text { offsets: &offsets[start..=end], bytes },
        Values::Vector { bytes, row_bytes } => {
            Values::Vector { bytes: &bytes[start * row_bytes..end * row_bytes], row_bytes }
        }
    };
    let validity = match column.validity {
        Validity::Bits { bits, offset } => Validity::Bits { bits, offset: offset + start },
        Validity::Bytes(bytes) => Validity::Bytes(&bytes[start..end]),
        validity => validity,
    };
    ColumnView { values, validity }
}
