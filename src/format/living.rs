//! Which rows of a table file are not deleted, as a bitmap that is kept from one search to the next.
//!
//! A bitmap holds the first so many marks of a file, all of them no later than the snapshot it was made for. It is right for every
//! snapshot that is not older than the newest of those marks, as long as the file counts no more marks: a mark that a snapshot
//! has to see was made and counted before the snapshot's timestamp became visible. Later marks are added from the list of recent
//! ones that the file carries; only when there were too many for that, or for an old snapshot, every row is looked at.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::deletes::DeletedAt;
use crate::sys::tried_lock::TriedLock;
use crate::types::Bitmap;

/// The rows of a file that are there for a snapshot.
#[derive(Clone, Debug)]
pub struct Living {
    /// A bit per row.
    pub rows: Arc<Bitmap>,
    /// How many those are.
    pub count: usize,
}

/// What was found last.
#[derive(Clone, Debug)]
struct Known {
    living: Living,
    /// The marks it holds: the first so many.
    marked: u64,
    /// The timestamp of the newest of them.
    newest: u64,
}

/// The last bitmap of a file, shared by all who hold the file open in this process. A process that was forked while a thread
/// held the lock looks at all rows.
#[derive(Clone, Debug, Default)]
pub(super) struct LastLiving(Arc<TriedLock<Option<Known>>>);

impl DeletedAt {
    /// The rows that are not deleted for a snapshot whose timestamp was visible when it was taken.
    pub fn living(&self, snapshot: u64) -> Living {
        let marked = self.marks_counted();
        let known = self.last_living().get();
        if let Some(known) = known.filter(|known| known.newest <= snapshot) {
            // More are known when another thread looked later: none of them is newer than this snapshot either.
            if known.marked >= marked {
                return known.living;
            }
            if let Some(rows) = self.recent(known.marked, marked) {
                return self.add(known, &rows, marked, snapshot);
            }
        }
        self.look_at_all(marked, snapshot)
    }

    /// Takes rows that were marked since out of what is known.
    fn add(&self, known: Known, rows: &[u32], marked: u64, snapshot: u64) -> Living {
        let Known { living: Living { rows: mut living, mut count }, mut newest, .. } = known;
        let mut is_whole = true;
        let cells = self.cells();
        let bitmap = Arc::make_mut(&mut living);
        for row in rows.iter().map(|row| *row as usize) {
            let Some(cell) = cells.get(row) else { continue };
            let at = cell.load(Ordering::Relaxed);
            if at > snapshot {
                is_whole = false;
                continue;
            }
            newest = newest.max(at);
            count -= usize::from(bitmap.get(row));
            bitmap.set(row, false);
        }
        let living = Living { rows: living, count };
        if is_whole {
            self.last_living().put(Known { living: living.clone(), marked, newest });
        }
        living
    }

    fn look_at_all(&self, marked: u64, snapshot: u64) -> Living {
        let cells = self.cells();
        let mut rows = Bitmap::ones(cells.len());
        let (mut marks, mut newest) = (0u64, 0);
        for (word, cells) in rows.words_mut().iter_mut().zip(cells.chunks(64)) {
            for (bit, cell) in cells.iter().enumerate() {
                // Relaxed is enough: a delete that this snapshot has to see was stored before the release of the visible
                // timestamp, which this process has acquired.
                let at = cell.load(Ordering::Relaxed);
                marks += u64::from(at != 0);
                newest = newest.max(at);
                // One comparison: 0 wraps to the largest number.
                *word &= !(u64::from(at.wrapping_sub(1) < snapshot) << bit);
            }
        }
        let living = Living { count: rows.count_ones(), rows: Arc::new(rows) };
        // Marks that are not counted yet, or that this snapshot does not see, would be missing from a later one's list.
        if marks == marked && newest <= snapshot {
            self.last_living().put(Known { living: living.clone(), marked, newest });
        }
        living
    }
}

impl LastLiving {
    fn get(&self) -> Option<Known> {
        self.0.lock()?.clone()
    }

    /// Keeps it unless what is there holds more.
    fn put(&self, known: Known) {
        if let Some(mut last) = self.0.lock()
            && last.as_ref().is_none_or(|last| last.marked < known.marked)
        {
            *last = Some(known);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::samples::fresh_map;

    const ROWS: usize = 5000;

    fn file() -> DeletedAt {
        DeletedAt::create(fresh_map(DeletedAt::file_bytes(ROWS)), ROWS)
    }

    /// Row by row.
    fn expected(file: &DeletedAt, snapshot: u64) -> Vec<usize> {
        let at = |row: &usize| file.cells()[*row].load(Ordering::Relaxed);
        (0..ROWS).filter(|row| at(row) == 0 || at(row) > snapshot).collect()
    }

    fn check(file: &DeletedAt, snapshot: u64) {
        let Living { rows, count } = file.living(snapshot);
        assert!(rows.iter_ones().eq(expected(file, snapshot)), "snapshot {snapshot}");
        assert_eq!(count, rows.count_ones());
    }

    #[test]
    fn every_snapshot_sees_its_own_rows_however_many_were_marked_since() {
        let file = file();
        let other = file.clone();
        let mut timestamp = 10;
        let mut rows = (0..ROWS).map(|row| row * 1237 % ROWS);
        for marks in [0, 1, 1, 7, 400, 1, 991, 992, 993, 3, 1500] {
            for row in rows.by_ref().take(marks) {
                timestamp += 1;
                assert!(file.mark(row, timestamp));
            }
            for snapshot in [timestamp, timestamp + 5, timestamp.saturating_sub(3), 12, timestamp] {
                check(&file, snapshot);
                check(&other, snapshot);
            }
        }
    }

    #[test]
    fn marks_beyond_the_snapshot_are_not_kept_for_it() {
        let file = file();
        for (row, at) in [(3, 100), (9, 50), (11, 120)] {
            check(&file, 60);
            file.mark(row, at);
            check(&file, 60);
        }
        for snapshot in [100, 119, 120, 49, 200, 99] {
            check(&file, snapshot);
        }
    }

    #[test]
    fn a_lock_that_nobody_gives_back_costs_time_only() {
        let file = file();
        file.mark(1, 5);
        let held = file.last_living().0.lock().unwrap();
        check(&file, 9);
        drop(held);
        assert!(file.last_living().get().is_none());
        check(&file, 9);
        assert!(file.last_living().get().is_some());
    }

    #[test]
    fn a_bitmap_is_made_once() {
        let file = file();
        file.mark(1, 5);
        let first = file.living(9);
        assert!(Arc::ptr_eq(&first.rows, &file.clone().living(7).rows));
        file.mark(2, 8);
        assert!(!Arc::ptr_eq(&first.rows, &file.living(9).rows));
        assert_eq!((first.count, file.living(9).count), (ROWS - 1, ROWS - 2));
    }

    #[test]
    fn readers_beside_a_writer_see_what_was_marked_up_to_their_snapshot() {
        let file = file();
        let visible = std::sync::atomic::AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    loop {
                        let snapshot = visible.load(Ordering::Acquire);
                        let Living { rows, count } = file.living(snapshot);
                        // Row r is marked at r + 1.
                        assert_eq!((rows.count_ones(), count), (ROWS - snapshot as usize, ROWS - snapshot as usize));
                        assert!(rows.iter_ones().next().is_none_or(|row| row == snapshot as usize));
                        if snapshot == ROWS as u64 {
                            break;
                        }
                    }
                });
            }
            for first in (0..ROWS).step_by(10) {
                (first..first + 10).for_each(|row| assert!(file.mark(row, row as u64 + 1)));
                visible.store(first as u64 + 10, Ordering::Release);
            }
        });
    }
}
