//! Keys in a sorted column: from each key to the next by doubling steps, so many keys cost one pass over their places.

use std::ops::Range;

/// Below this many keys per search, sorting them first is not worth it.
const SORT_MIN: usize = 16;

/// Rows ascending by key.
pub(super) trait SortedKeys {
    /// What a key is.
    type Key: Ord + ?Sized;
    fn row_count(&self) -> usize;
    fn key(&self, row: usize) -> &Self::Key;
}

/// Integer keys.
pub(super) struct IntegerKeys<'a>(pub &'a [i64]);

impl SortedKeys for IntegerKeys<'_> {
    type Key = i64;

    fn row_count(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn key(&self, row: usize) -> &i64 {
        &self.0[row]
    }
}

/// Text keys, in the order of their bytes.
pub(super) struct TextKeys<'a> {
    pub offsets: &'a [i32],
    pub bytes: &'a [u8],
}

impl SortedKeys for TextKeys<'_> {
    type Key = [u8];

    fn row_count(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    #[inline]
    fn key(&self, row: usize) -> &[u8] {
        self.bytes.get(self.offsets[row] as usize..self.offsets[row + 1] as usize).unwrap_or_default()
    }
}

/// Calls `found` with the index and the rows of every wanted key that has some.
pub(super) fn find<'k, S: SortedKeys>(
    rows: &S,
    count: usize,
    wanted: impl Fn(usize) -> &'k S::Key,
    found: &mut dyn FnMut(usize, Range<usize>),
) where
    S::Key: 'k,
{
    let row_count = rows.row_count();
    if row_count == 0 {
        return;
    }
    let (smallest, largest) = (rows.key(0), rows.key(row_count - 1));
    // New keys are mostly larger than all there are: they cost two comparisons.
    let in_range = |index: &usize| smallest <= wanted(*index) && wanted(*index) <= largest;
    if count < SORT_MIN {
        for index in (0..count).filter(in_range) {
            report(rows, lower_bound(rows, 0, wanted(index)), index, wanted(index), found);
        }
        return;
    }
    let mut order: Vec<(&S::Key, usize)> = (0..count).filter(in_range).map(|index| (wanted(index), index)).collect();
    if !order.is_sorted() {
        order.sort_unstable();
    }
    let mut from = 0;
    for (key, index) in order {
        from = lower_bound(rows, from, key);
        report(rows, from, index, key, found);
    }
}

/// The first row at or after `from` whose key is not below `key`; the row before `from` is below it.
fn lower_bound<S: SortedKeys>(rows: &S, from: usize, key: &S::Key) -> usize {
    let row_count = rows.row_count();
    let (mut low, mut step) = (from, 1);
    while low + step <= row_count && rows.key(low + step - 1) < key {
        low += step;
        step *= 2;
    }
    let mut high = (low + step - 1).min(row_count);
    while low < high {
        let middle = low + (high - low) / 2;
        if rows.key(middle) < key {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    low
}

fn report<S: SortedKeys>(
    rows: &S,
    start: usize,
    index: usize,
    key: &S::Key,
    found: &mut dyn FnMut(usize, Range<usize>),
) {
    let mut end = start;
    while end < rows.row_count() && rows.key(end) == key {
        end += 1;
    }
    if end > start {
        found(index, start..end);
    }
}
