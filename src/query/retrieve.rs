//! Query: rows by key or by filter, in primary-key order, and counts.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::Range;

use super::key::{Key, SortedKeys, rows_within};
use super::snapshot::{FileRows, MatchingRows, RowAddress, Selection, Snapshot};
use crate::config::limits::REPLY_BYTES_MAX;
use crate::types::{Bitmap, ColumnView, Error, ErrorKind, Keys, Result};

/// Rows of a sealed file that are filtered at once: a query with a limit stops after the windows it needs.
const WINDOW_ROWS: usize = 1 << 15;
/// A reply carries at least this much per row, so more rows than this cannot be answered.
const ROWS_MAX: usize = REPLY_BYTES_MAX / 4;

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
    snapshot.check()?;
    let limit = options.limit.unwrap_or(usize::MAX);
    if limit == 0 {
        return Ok(Retrieved::default());
    }
    if let Some(keys) = options.selection.plan.primary_keys() {
        let found = find_keys(snapshot, keys, &options.selection)?;
        let rows = found.into_iter().map(|(_, address)| address).skip(options.offset).take(limit).collect();
        return Ok(Retrieved { rows });
    }
    merge(snapshot, options, limit)
}

/// Counts the rows.
///
/// # Errors
/// As [`retrieve`].
pub fn count(snapshot: &Snapshot, selection: &Selection) -> Result<u64> {
    snapshot.check()?;
    if let Some(keys) = selection.plan.primary_keys() {
        return Ok(find_keys(snapshot, keys, selection)?.len() as u64);
    }
    let mut count = 0;
    for file in 0..snapshot.file_count() {
        let Some(rows) = snapshot.file_rows(file) else { continue };
        let Some(window) = candidates(snapshot, &rows, selection)? else { continue };
        let matching = snapshot.matching_window(&rows, selection, window);
        count += matching.map_or(0, |matching| matching.count as u64);
    }
    Ok(count)
}

/// The rows of a file that may match; the filter's bounds on the key cut a sealed file, which is sorted by it.
fn candidates(snapshot: &Snapshot, rows: &FileRows<'_>, selection: &Selection) -> Result<Option<Range<usize>>> {
    let Some(row_count) = snapshot.searched_count(rows, selection) else { return Ok(None) };
    let window = match (rows, selection.plan.primary_key_bounds()) {
        (FileRows::Sealed(_), Some(bounds)) => rows_within(&key_column(snapshot, rows)?, row_count, bounds),
        _ => 0..row_count,
    };
    Ok((!window.is_empty()).then_some(window))
}

/// The newest row of each key, in the order of the keys; `None` where a key has no row. The selection's filter is not looked at.
///
/// # Errors
/// As [`retrieve`].
pub fn newest_rows(snapshot: &Snapshot, keys: &Keys, selection: &Selection) -> Result<Vec<Option<RowAddress>>> {
    snapshot.check()?;
    let sorted = SortedKeys::new(keys);
    let mut newest = vec![None; keys.len()];
    for (rank, address) in find_keys(snapshot, keys, selection)? {
        // Files are ordered by age, rows of one key within a file by insert timestamp: the last one wins.
        if let Some(slot) = newest.get_mut(rank as usize) {
            *slot = Some(address);
        }
    }
    Ok((0..keys.len()).map(|index| sorted.rank_of_listed(index).and_then(|rank| newest[rank as usize])).collect())
}

/// Every existing row of the keys with the rank of its key, ascending by (key, file, row).
fn find_keys(snapshot: &Snapshot, keys: &Keys, selection: &Selection) -> Result<Vec<(u32, RowAddress)>> {
    let sorted = SortedKeys::new(keys);
    let mut found = Vec::new();
    for file in 0..snapshot.file_count() {
        let Some(rows) = snapshot.file_rows(file) else { continue };
        let Some(candidates) = snapshot.candidate_count(&rows, selection) else { continue };
        let mut offer = |rank: u32, row: usize| {
            if row < candidates && snapshot.row_exists(&rows, row) {
                found.push((rank, RowAddress { file: file as u32, row: row as u32 }));
            }
        };
        match &rows {
            FileRows::Sealed(sealed) => sealed.table.find_keys(keys, &mut |index, range: Range<usize>| {
                if let Some(rank) = sorted.rank_of_listed(index) {
                    range.for_each(|row| offer(rank, row));
                }
            }),
            FileRows::Growing { .. } => {
                let column = key_column(snapshot, &rows)?;
                for row in 0..candidates {
                    if let Some(rank) = Key::at(&column, row).and_then(|key| sorted.rank(key)) {
                        offer(rank, row);
                    }
                }
            }
        }
    }
    found.sort_unstable();
    // A key that is listed twice finds its rows twice.
    found.dedup();
    Ok(found)
}

fn key_column<'a>(snapshot: &Snapshot, rows: &'a FileRows<'_>) -> Result<ColumnView<'a>> {
    let manifest = &snapshot.view.manifest;
    rows.column(manifest.schema.primary()).ok_or_else(|| {
        let message = format!("a file of collection {} has no primary key column", manifest.collection);
        Error::new(ErrorKind::Corrupt, message)
    })
}

/// Merges the files' matching rows, each a stream ascending by key, and stops after `offset + limit` rows.
fn merge(snapshot: &Snapshot, options: &RetrieveOptions, limit: usize) -> Result<Retrieved> {
    let sources: Vec<FileRows<'_>> = (0..snapshot.file_count()).filter_map(|file| snapshot.file_rows(file)).collect();
    let wanted = options.offset.saturating_add(limit);
    let mut streams = Vec::with_capacity(sources.len());
    for rows in &sources {
        streams.push(stream(snapshot, rows, &options.selection, wanted)?);
    }
    let mut heads = BinaryHeap::with_capacity(streams.len());
    for (file, stream) in streams.iter_mut().enumerate() {
        heads.extend(stream.as_mut().and_then(Stream::next).map(|(key, row)| Reverse((key, file, row))));
    }
    let mut retrieved = Retrieved::default();
    let mut skipped = 0;
    while let Some(Reverse((_, file, row))) = heads.pop() {
        if skipped < options.offset {
            skipped += 1;
        } else {
            retrieved.rows.push(RowAddress { file: file as u32, row: row as u32 });
            if retrieved.rows.len() == limit {
                break;
            }
            if retrieved.rows.len() > ROWS_MAX {
                let message =
                    format!("the query matches more than {ROWS_MAX} rows, which no reply can hold; use a limit");
                return Err(Error::new(ErrorKind::InvalidParameter, message));
            }
        }
        let next = streams[file].as_mut().and_then(Stream::next);
        heads.extend(next.map(|(key, row)| Reverse((key, file, row))));
    }
    Ok(retrieved)
}

/// The matching rows of one file, ascending by key.
fn stream<'a>(
    snapshot: &'a Snapshot,
    rows: &'a FileRows<'a>,
    selection: &'a Selection,
    wanted: usize,
) -> Result<Option<Stream<'a>>> {
    let Some(window) = candidates(snapshot, rows, selection)? else { return Ok(None) };
    let keys = key_column(snapshot, rows)?;
    let rows = match rows {
        FileRows::Sealed(_) => {
            let pending = window;
            StreamRows::Windows(Windows { snapshot, rows, selection, pending, base: 0, position: 0, window: None })
        }
        FileRows::Growing { .. } => {
            let matching = snapshot.matching_window(rows, selection, window);
            let mut list = matching.map(|matching| row_list(&matching)).unwrap_or_default();
            let by_key = |row: &u32| (Key::at(&keys, *row as usize), *row);
            if wanted < list.len() {
                list.select_nth_unstable_by_key(wanted, by_key);
                list.truncate(wanted);
            }
            list.sort_unstable_by_key(by_key);
            StreamRows::Listed(list.into_iter())
        }
    };
    Ok(Some(Stream { keys, rows }))
}

fn row_list(matching: &MatchingRows) -> Vec<u32> {
    match &matching.filter {
        None => (0..matching.row_count as u32).collect(),
        Some(filter) => filter.iter_ones().map(|row| row as u32).collect(),
    }
}

struct Stream<'a> {
    keys: ColumnView<'a>,
    rows: StreamRows<'a>,
}

enum StreamRows<'a> {
    /// Sorted rows of a growing chunk.
    Listed(std::vec::IntoIter<u32>),
    /// A sealed file, in its own order.
    Windows(Windows<'a>),
}

impl<'a> Stream<'a> {
    fn next(&mut self) -> Option<(Key<'a>, usize)> {
        let row = match &mut self.rows {
            StreamRows::Listed(rows) => rows.next()? as usize,
            StreamRows::Windows(windows) => windows.next_row()?,
        };
        Some((Key::at(&self.keys, row)?, row))
    }
}

/// Matching rows of a sealed file, filtered a window at a time.
struct Windows<'a> {
    snapshot: &'a Snapshot,
    rows: &'a FileRows<'a>,
    selection: &'a Selection,
    /// Rows not filtered yet.
    pending: Range<usize>,
    /// First row of the present window.
    base: usize,
    /// Next row to look at, counted from `base`.
    position: usize,
    window: Option<MatchingRows>,
}

impl Windows<'_> {
    fn next_row(&mut self) -> Option<usize> {
        loop {
            if let Some(window) = &self.window {
                let next = match &window.filter {
                    None => (self.position < window.row_count).then_some(self.position),
                    Some(filter) => next_one(filter, self.position),
                };
                if let Some(row) = next {
                    self.position = row + 1;
                    return Some(self.base + row);
                }
            }
            if self.pending.is_empty() {
                return None;
            }
            self.base = self.pending.start;
            self.position = 0;
            let end = self.pending.end.min(self.base + WINDOW_ROWS);
            self.window = self.snapshot.matching_window(self.rows, self.selection, self.base..end);
            self.pending.start = end;
        }
    }
}

/// The first set bit at or after `from`.
fn next_one(bitmap: &Bitmap, from: usize) -> Option<usize> {
    let words = bitmap.words();
    let mut index = from / 64;
    let mut word = words.get(index)? & (u64::MAX << (from % 64));
    while word == 0 {
        index += 1;
        word = *words.get(index)?;
    }
    Some(index * 64 + word.trailing_zeros() as usize)
}
