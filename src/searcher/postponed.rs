//! Requests that wait for a timestamp ahead of the clock: the searcher answers others meanwhile.

use std::cell::Cell;
use std::time::{Duration, Instant};

use crate::config::limits::POSTPONED_MAX;
use crate::ipc::pool::Claim;

/// How a handler says that its request has to wait.
#[derive(Debug)]
pub(super) struct Wait {
    /// There is a place to wait in.
    is_possible: bool,
    until: Cell<Option<Instant>>,
}

impl Wait {
    /// Asks for the wait. `false` when no place is left.
    pub fn ask(&self, until: Instant) -> bool {
        self.until.set(self.is_possible.then_some(until));
        self.is_possible
    }

    /// Until when, when it was asked for.
    pub fn until(&self) -> Option<Instant> {
        self.until.get()
    }
}

/// Claimed requests of one searcher, to be looked at again.
#[derive(Debug)]
pub(super) struct Postponed<'a> {
    claims: Vec<(Instant, Claim<'a>)>,
    max: usize,
}

impl<'a> Postponed<'a> {
    /// None yet; as many as one of this many searchers may hold.
    pub fn new(searcher_count: usize) -> Postponed<'a> {
        Postponed { claims: Vec::new(), max: (POSTPONED_MAX / searcher_count.max(1)).max(1) }
    }

    /// What the next request's handler gets.
    pub fn wait(&self) -> Wait {
        Wait { is_possible: self.claims.len() < self.max, until: Cell::new(None) }
    }

    /// Keeps a request.
    pub fn put(&mut self, until: Instant, claim: Claim<'a>) {
        self.claims.push((until, claim));
    }

    /// A request whose time has come.
    pub fn take_due(&mut self) -> Option<Claim<'a>> {
        if self.claims.is_empty() {
            return None;
        }
        let now = Instant::now();
        let due = self.claims.iter().position(|(until, _)| *until <= now)?;
        Some(self.claims.swap_remove(due).1)
    }

    /// How long until the first one's time comes.
    pub fn pause(&self) -> Option<Duration> {
        self.claims.iter().map(|(until, _)| until.saturating_duration_since(Instant::now())).min()
    }

    /// All of them.
    pub fn into_claims(self) -> impl Iterator<Item = Claim<'a>> {
        self.claims.into_iter().map(|(_, claim)| claim)
    }
}
