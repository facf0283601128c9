//! Which rows of a table file pass a filter, kept from one search to the next: to read a column takes as long as to search an
//! index.
//!
//! A table file never changes, and a filter whose text, templates and fields are the same means the same. Rows that are deleted, or
//! not there yet, are nothing to what is kept here: their bitmaps are put over it. A filter is kept when it comes a second time,
//! and forgotten when the file is gone or others were used since; all that is kept in a process is bounded (`limits`).

use std::sync::{Arc, Weak};

use crate::config::limits::{KEPT_FILTER_BYTES_MAX, KEPT_FILTERS_MAX};
use crate::filter::Plan;
use crate::format::RowSource;
use crate::format::table::TableFile;
use crate::sys::tried_lock::TriedLock;
use crate::types::Bitmap;

/// Of fewer rows a column is read as fast as what is kept is found.
const ROWS_MIN: usize = 4096;
/// So many filters that came once are remembered.
const ONCE_COUNT: usize = 256;

/// Of this process.
static KEPT: Kept = Kept::new();

/// The rows of a table file that pass a filter, deleted ones included.
#[derive(Clone, Debug)]
pub(super) struct Passing {
    /// A bit per row.
    pub rows: Arc<Bitmap>,
    /// How many those are.
    pub count: usize,
}

/// What is kept of one filter over one file.
#[derive(Debug)]
struct Entry {
    hash: u64,
    plan: Plan,
    /// It holds nothing of the file, and no other file gets its address as long as it is there.
    table: Weak<TableFile>,
    passing: Passing,
    last_used: u64,
}

#[derive(Debug)]
struct Entries {
    entries: Vec<Entry>,
    /// What came once, by hash.
    once: [u64; ONCE_COUNT],
    clock: u64,
    /// Of all bitmaps.
    bytes: usize,
}

/// A process that was forked while a thread held the lock evaluates every filter.
#[derive(Debug)]
struct Kept(TriedLock<Entries>);

/// The rows of a table file that pass a filter: kept ones, or `evaluate`d.
pub(super) fn passing(table: &Arc<TableFile>, plan: &Plan, evaluate: impl FnOnce() -> Bitmap) -> Passing {
    KEPT.passing(table, plan, evaluate)
}

impl Kept {
    const fn new() -> Kept {
        Kept(TriedLock::new(Entries { entries: Vec::new(), once: [0; ONCE_COUNT], clock: 0, bytes: 0 }))
    }

    fn passing(&self, table: &Arc<TableFile>, plan: &Plan, evaluate: impl FnOnce() -> Bitmap) -> Passing {
        let evaluate = || {
            let rows = evaluate();
            Passing { count: rows.count_ones(), rows: Arc::new(rows) }
        };
        let Some(hash) = plan.fingerprint().filter(|_| table.row_count() >= ROWS_MIN) else { return evaluate() };
        let hash = hash ^ (Arc::as_ptr(table).addr() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut is_known = false;
        if let Some(mut entries) = self.0.lock() {
            if let Some(passing) = entries.find(hash, table, plan) {
                return passing;
            }
            is_known = entries.came_before(hash);
        }
        let passing = evaluate();
        if is_known && let Some(mut entries) = self.0.lock() {
            let (plan, table) = (plan.clone(), Arc::downgrade(table));
            entries.put(Entry { hash, plan, table, passing: passing.clone(), last_used: 0 });
        }
        passing
    }
}

impl Entries {
    fn find(&mut self, hash: u64, table: &Arc<TableFile>, plan: &Plan) -> Option<Passing> {
        self.clock += 1;
        let clock = self.clock;
        let is_it = |entry: &&mut Entry| {
            entry.hash == hash && std::ptr::eq(entry.table.as_ptr(), Arc::as_ptr(table)) && entry.plan.is_same(plan)
        };
        let found = self.entries.iter_mut().find(is_it)?;
        found.last_used = clock;
        Some(found.passing.clone())
    }

    /// Whether a filter came before; it did when it is asked for again.
    fn came_before(&mut self, hash: u64) -> bool {
        let place = &mut self.once[hash as usize % ONCE_COUNT];
        std::mem::replace(place, hash) == hash
    }

    fn put(&mut self, entry: Entry) {
        // Of files that are gone.
        self.forget(|entry| entry.table.strong_count() == 0);
        let bytes = entry.bytes();
        if bytes > KEPT_FILTER_BYTES_MAX {
            return;
        }
        while self.bytes + bytes > KEPT_FILTER_BYTES_MAX || self.entries.len() >= KEPT_FILTERS_MAX {
            let oldest = self.entries.iter().map(|entry| entry.last_used).min().unwrap_or_default();
            self.forget(|entry| entry.last_used == oldest);
        }
        // Another thread may have put it in meanwhile: the older one is not found any more, and goes in time.
        self.bytes += bytes;
        self.entries.push(Entry { last_used: self.clock, ..entry });
    }

    fn forget(&mut self, is_dropped: impl Fn(&Entry) -> bool) {
        self.entries.retain(|entry| !is_dropped(entry));
        self.bytes = self.entries.iter().map(Entry::bytes).sum();
    }
}

impl Entry {
    fn bytes(&self) -> usize {
        size_of_val(self.passing.rows.words())
    }
}

#[cfg(test)]
mod tests;
