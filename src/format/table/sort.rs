//! The order of a table file's rows.

use crate::format::{RowRef, RowSource};
use crate::types::{CollectionSchema, DataType, Values};

/// All rows for which `keep(row)` is true, ascending by (primary key, insert timestamp, source, row).
pub fn sort_rows(schema: &CollectionSchema, sources: &[&dyn RowSource], keep: &dyn Fn(RowRef) -> bool) -> Vec<RowRef> {
    let primary = schema.primary();
    let columns: Vec<Option<Values<'_>>> =
        sources.iter().map(|source| source.column(primary).map(|column| column.values)).collect();
    if primary.data_type == DataType::Int64 {
        let slices: Vec<&[i64]> = columns
            .iter()
            .map(|values| match values {
                Some(Values::Int64(keys)) => *keys,
                _ => &[],
            })
            .collect();
        // A source without the column fails in `write_table`, which reports it; the order does not matter then.
        let key = |row: RowRef| slices[row.source as usize].get(row.row as usize).copied().unwrap_or(0);
        sorted_by(sources, keep, key)
    } else {
        let key = |row: RowRef| match columns[row.source as usize] {
            Some(Values::Text { offsets, bytes }) => {
                let (start, end) = (offsets[row.row as usize], offsets[row.row as usize + 1]);
                bytes.get(start as usize..end as usize).unwrap_or_default()
            }
            _ => &[],
        };
        sorted_by(sources, keep, key)
    }
}

fn sorted_by<K: Ord + Copy>(
    sources: &[&dyn RowSource],
    keep: &dyn Fn(RowRef) -> bool,
    key: impl Fn(RowRef) -> K,
) -> Vec<RowRef> {
    let timestamps: Vec<&[u64]> = sources.iter().map(|source| source.insert_timestamps()).collect();
    let row_count = sources.iter().map(|source| source.row_count()).sum();
    let mut rows: Vec<(K, u64, RowRef)> = Vec::with_capacity(row_count);
    let mut is_sorted = true;
    for (source, source_timestamps) in timestamps.iter().enumerate() {
        for (row, timestamp) in source_timestamps.iter().enumerate() {
            let row = RowRef { source: source as u32, row: row as u32 };
            if !keep(row) {
                continue;
            }
            let entry = (key(row), *timestamp, row);
            is_sorted &= rows.last().is_none_or(|last| (last.0, last.1) <= (entry.0, entry.1));
            rows.push(entry);
        }
    }
    // Automatic ids arrive in order. Otherwise the stable sort: it finds the runs that sorted sources are, and merges
    // them; equal rows are in the order of sources and rows already.
    if !is_sorted {
        rows.sort_by_key(|(key, timestamp, _)| (*key, *timestamp));
    }
    rows.into_iter().map(|(_, _, row)| row).collect()
}
