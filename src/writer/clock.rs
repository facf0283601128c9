//! Time as operations see it: a hybrid clock that never goes back, and blocks of ids that are never handed out twice.
//!
//! Both keep a limit in meta ahead of what they hand out, so that a killed writer's numbers are never used again.

use std::sync::Mutex;

use super::lock;
use crate::storage::meta::{Meta, MetaEdit};
use crate::sys::clock::unix_ms;
use crate::types::{Error, Result, Timestamp};

/// How far ahead of the clock the persisted limit is set.
const WINDOW_MS: u64 = 10_000;
/// The limit is moved when the clock comes this near.
const MARGIN_MS: u64 = 2_000;

/// Hands out hybrid timestamps.
#[derive(Debug)]
pub struct Clock {
    state: Mutex<ClockState>,
}

#[derive(Debug)]
struct ClockState {
    last: Timestamp,
    /// Persisted: everything handed out is below it.
    limit: Timestamp,
}

impl Clock {
    /// A clock whose timestamps are all above `last`.
    pub fn new(last: Timestamp) -> Clock {
        Clock { state: Mutex::new(ClockState { last, limit: Timestamp(0) }) }
    }

    /// Moves past a timestamp that was handed out by an earlier writer (recovery).
    pub fn advance(&self, past: Timestamp) {
        let mut state = lock(&self.state);
        state.last = state.last.max(past);
    }

    /// The next timestamp; strictly ascending. [`Clock::ensure`] was called shortly before.
    pub fn next(&self) -> Timestamp {
        let mut state = lock(&self.state);
        let mut next = state.last.next().max(Timestamp::from_unix_ms(unix_ms()));
        if next >= state.limit {
            // The process was stopped between `ensure` and here. The counter alone has room for a long time.
            next = state.last.next();
        }
        state.last = next;
        next
    }

    /// The last timestamp handed out.
    pub fn last(&self) -> Timestamp {
        lock(&self.state).last
    }

    /// The present moment, not below the last timestamp.
    pub fn now(&self) -> Timestamp {
        self.last().max(Timestamp::from_unix_ms(unix_ms()))
    }

    /// Whether [`Clock::extend`] is due.
    pub fn needs_extension(&self) -> bool {
        let state = lock(&self.state);
        state.last.unix_ms().max(unix_ms()) + MARGIN_MS >= state.limit.unix_ms()
    }

    /// Persists a later limit. Takes the meta lock through its caller.
    ///
    /// # Errors
    /// Those of meta.
    pub fn extend(&self, meta: &mut Meta) -> Result<()> {
        let limit = Timestamp::from_unix_ms(self.now().unix_ms() + WINDOW_MS);
        meta.apply(&[MetaEdit::SetTimestampHigh(limit)])?;
        lock(&self.state).limit = limit;
        Ok(())
    }

    /// Gives the unused part of the window back at a clean stop, so that restarts do not push the clock ahead.
    ///
    /// # Errors
    /// Those of meta.
    pub fn settle(&self, meta: &mut Meta) -> Result<()> {
        meta.apply(&[MetaEdit::SetTimestampHigh(self.last().next())])
    }
}

/// A persisted sequence that is reserved in blocks.
#[derive(Debug)]
pub struct Sequence {
    state: Mutex<SequenceState>,
    block: i64,
    edit: fn(i64) -> MetaEdit,
}

#[derive(Debug)]
struct SequenceState {
    next: i64,
    limit: i64,
}

impl Sequence {
    /// A sequence that goes on at `next`; `edit` persists its limit.
    pub fn new(next: i64, block: i64, edit: fn(i64) -> MetaEdit) -> Sequence {
        let next = next.max(1);
        Sequence { state: Mutex::new(SequenceState { next, limit: next }), block, edit }
    }

    /// Whether fewer than `count` numbers are left before the persisted limit.
    pub fn is_short_of(&self, count: i64) -> bool {
        let state = lock(&self.state);
        state.limit - state.next < count
    }

    /// Makes sure that at least `count` numbers may be taken.
    ///
    /// # Errors
    /// Those of meta.
    pub fn ensure(&self, count: i64, meta: &mut Meta) -> Result<()> {
        let mut state = lock(&self.state);
        if state.limit - state.next < count {
            let limit = state.next.checked_add(count.max(self.block)).ok_or_else(ids_exhausted)?;
            meta.apply(&[(self.edit)(limit)])?;
            state.limit = limit;
        }
        Ok(())
    }

    /// Takes `count` consecutive numbers and returns the first.
    ///
    /// # Errors
    /// When they were not reserved: a bug.
    pub fn take(&self, count: i64) -> Result<i64> {
        let mut state = lock(&self.state);
        if state.limit - state.next < count {
            return Err(Error::internal("ids were taken that had not been reserved in meta"));
        }
        let first = state.next;
        state.next += count;
        Ok(first)
    }

    /// Reserves what is missing and takes `count` numbers in one step.
    ///
    /// # Errors
    /// Those of meta.
    pub fn take_reserving(&self, count: i64, meta: &Mutex<Meta>) -> Result<i64> {
        loop {
            if let Ok(first) = self.take(count) {
                return Ok(first);
            }
            self.ensure(count, &mut lock(meta))?;
        }
    }
}

fn ids_exhausted() -> Error {
    Error::internal("the 64-bit sequence of ids is used up")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_ascend_and_stay_below_the_persisted_limit() {
        let directory = tempfile::tempdir().unwrap();
        let mut meta = Meta::open(&directory.path().join("meta.sqlite")).unwrap();
        let clock = Clock::new(Timestamp(7));
        clock.extend(&mut meta).unwrap();
        let mut last = clock.last();
        for _ in 0..1000 {
            let next = clock.next();
            assert!(next > last);
            last = next;
        }
        assert!(last < meta.load().unwrap().timestamp_high);
    }

    #[test]
    fn a_new_writer_never_repeats_ids_of_a_killed_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("meta.sqlite");
        let mut meta = Meta::open(&path).unwrap();
        let ids = Sequence::new(meta.load().unwrap().id_next, 10, MetaEdit::SetIdNext);
        ids.ensure(3, &mut meta).unwrap();
        let first = ids.take(3).unwrap();
        assert!(meta.load().unwrap().id_next >= first + 3);
    }
}
