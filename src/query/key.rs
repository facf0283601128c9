//! Primary keys as they are compared: integers by value, strings by bytes.

use std::ops::{Bound, Range};

use crate::filter::KeyBounds;
use crate::types::{Column, ColumnData, ColumnView, Error, ErrorKind, Keys, Result, Value, Values};

/// A borrowed primary key. All keys of one collection are of one variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Key<'a> {
    /// An `Int64` key.
    Int(i64),
    /// A `VarChar` key.
    Text(&'a [u8]),
}

impl<'a> Key<'a> {
    /// The key in a row; `None` when the column cannot hold keys.
    #[inline]
    pub fn at(column: &ColumnView<'a>, row: usize) -> Option<Key<'a>> {
        match column.values {
            Values::Int64(values) => values.get(row).copied().map(Key::Int),
            Values::Text { .. } => Some(Key::Text(column.text(row))),
            _ => None,
        }
    }

    fn of_value(value: &'a Value) -> Option<Key<'a>> {
        match value {
            Value::Int(key) => Some(Key::Int(*key)),
            Value::Text(key) => Some(Key::Text(key.as_bytes())),
            Value::Null | Value::Bool(_) | Value::Float(_) => None,
        }
    }
}

/// The rows of a sorted key column that lie within bounds. A bound of no key's type bounds nothing.
pub(super) fn rows_within(keys: &ColumnView<'_>, row_count: usize, bounds: &KeyBounds) -> Range<usize> {
    let first = |is_before: &dyn Fn(Key<'_>) -> bool| {
        let (mut low, mut high) = (0, row_count);
        while low < high {
            let middle = low + (high - low) / 2;
            if Key::at(keys, middle).is_some_and(is_before) { low = middle + 1 } else { high = middle }
        }
        low
    };
    let start = match &bounds.low {
        Bound::Unbounded => 0,
        Bound::Included(low) => Key::of_value(low).map_or(0, |low| first(&|key| key < low)),
        Bound::Excluded(low) => Key::of_value(low).map_or(0, |low| first(&|key| key <= low)),
    };
    let end = match &bounds.high {
        Bound::Unbounded => row_count,
        Bound::Included(high) => Key::of_value(high).map_or(row_count, |high| first(&|key| key <= high)),
        Bound::Excluded(high) => Key::of_value(high).map_or(row_count, |high| first(&|key| key < high)),
    };
    start..end.max(start)
}

/// A list of keys, sorted, to be looked up.
#[derive(Debug)]
pub(super) struct SortedKeys<'a> {
    keys: Vec<Key<'a>>,
    /// `ranks[i]` is the place of the i-th listed key among the sorted ones; equal keys share a place.
    ranks: Vec<u32>,
}

impl<'a> SortedKeys<'a> {
    /// Sorts keys.
    pub fn new(listed: &'a Keys) -> SortedKeys<'a> {
        let listed: Vec<Key<'a>> = match listed {
            Keys::Int(keys) => keys.iter().copied().map(Key::Int).collect(),
            Keys::Text(keys) => keys.iter().map(|key| Key::Text(key.as_bytes())).collect(),
        };
        let mut keys = listed.clone();
        keys.sort_unstable();
        keys.dedup();
        let ranks = listed.iter().map(|key| keys.partition_point(|other| other < key) as u32).collect();
        SortedKeys { keys, ranks }
    }

    /// The rank of the i-th listed key.
    pub fn rank_of_listed(&self, index: usize) -> Option<u32> {
        self.ranks.get(index).copied()
    }

    /// The rank of a key, when it is in the list.
    #[inline]
    pub fn rank(&self, key: Key<'_>) -> Option<u32> {
        // Most rows of a scan lie outside the list's bounds: two comparisons settle them.
        if key < *self.keys.first()? || key > *self.keys.last()? {
            return None;
        }
        self.keys.binary_search_by(|other| other.cmp(&key)).ok().map(|rank| rank as u32)
    }
}

/// The keys in a gathered primary-key column.
///
/// # Errors
/// When the column holds no keys or text that is not UTF-8: the file is damaged.
pub fn keys_of_column(column: Column) -> Result<Keys> {
    let damaged = || Error::new(ErrorKind::Corrupt, "a primary key column holds something else than keys");
    match column.data {
        ColumnData::Int64(keys) => Ok(Keys::Int(keys)),
        ColumnData::Text(keys) => {
            let rows = keys.offsets.windows(2).map(|ends| &keys.bytes[ends[0] as usize..ends[1] as usize]);
            let texts: Result<Vec<String>, _> = rows.map(|row| String::from_utf8(row.to_vec())).collect();
            Ok(Keys::Text(texts.map_err(|_| damaged())?))
        }
        _ => Err(damaged()),
    }
}
