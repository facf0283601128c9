//! The walk of a search. It visits the nearest vertex known, again and again, whether it is wanted or not, and keeps the wanted
//! rows whose distance was estimated, visited or not. It ends when what is left to visit is farther than a number of wanted
//! rows: under a filter it goes as far as the wanted rows of this query lie, and no farther.

use super::filtered::{Local, rank};
use super::frontier::{AHEAD_MAX, Ahead, Frontier};
use super::layout::{Block, Graph};
use super::pool::Pool;
use super::search::{Candidate, PlacedQuery, SPARE, Scratch};
use crate::kernel::CodeKernels;
use crate::types::Bitmap;

/// The first visits lead straight to the query: each decides on the next. Later the next few are known well before.
const VISITS_ALONE: usize = 8;

/// A walk past rows that are not wanted may take this part of what a scan costs before it is given up.
const EARLY: usize = 8;

/// When a walk ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Limit {
    /// Of the search.
    pub ef: usize,
    /// Of the rows that are wanted.
    pub share: f32,
    /// It ends when all that is left is farther than so many wanted rows, at least 1.
    pub rank: usize,
    /// It is given up after so many visits.
    pub visits_max: usize,
}

/// A walk.
struct Gather<'a, 'g> {
    graph: &'a Graph<'g>,
    kernels: CodeKernels,
    query: &'a PlacedQuery,
    filter: Option<&'a Bitmap>,
    rank: usize,
    local: Local,
    stamps: &'a mut [u8],
    stamp: u8,
    /// Wanted, estimated.
    seen: &'a mut Pool,
    frontier: &'a mut Frontier,
    estimates: [f32; 32],
}

impl Gather<'_, '_> {
    /// What is farther need not be visited.
    #[inline]
    fn end(&self) -> f32 {
        self.seen.distance_of(self.rank - 1)
    }

    /// Takes up the neighbours of a block; `distance` is that of its vector.
    #[inline]
    fn follow(&mut self, block: &Block<'_>, distance: f32) {
        let mut below = self.query.estimate(self.kernels, block, distance, self.seen.bound(), &mut self.estimates);
        // Which were visited is unforeseeable: they are sorted out without a branch.
        let mut fresh = [0u8; 32];
        let mut count = 0;
        while below != 0 {
            let index = below.trailing_zeros();
            below &= below - 1;
            let id = u32::from_le_bytes(block.ids[index as usize]);
            let is_fresh = self.stamps.get(id as usize).is_some_and(|of_id| *of_id != self.stamp);
            fresh[count] = index as u8;
            count += usize::from(is_fresh);
        }
        let mut end = self.end();
        for index in &fresh[..count] {
            let index = usize::from(index & 31);
            let (distance, id) = (self.estimates[index], u32::from_le_bytes(block.ids[index]));
            if distance < end {
                self.frontier.push(distance, id);
            }
            if self.stamps[id as usize] != self.stamp - 1 && distance < self.seen.bound() {
                let is_wanted = self.filter.is_none_or(|filter| {
                    let is_wanted = self.graph.has_wanted(id, filter);
                    self.local.see(is_wanted);
                    is_wanted
                });
                if is_wanted {
                    self.seen.insert(distance, id);
                    end = self.end();
                }
                self.stamps[id as usize] = self.stamp - 1;
            }
        }
    }

    /// Takes up to `count` vertices ahead, nearest first, and asks for their blocks.
    #[inline]
    fn fill(&mut self, ahead: &mut Ahead, count: usize) {
        while ahead.len() < count {
            let Some((estimate, id)) = self.frontier.pop() else { return };
            if estimate > self.end() {
                // All others are farther still.
                return self.frontier.clear();
            }
            let was_visited = std::mem::replace(&mut self.stamps[id as usize], self.stamp) == self.stamp;
            if !was_visited {
                self.graph.prefetch(self.kernels, Some(id));
                ahead.push(id);
            }
        }
    }
}

impl Graph<'_> {
    /// Whether a vertex or one of its twins is wanted.
    #[inline]
    fn has_wanted(&self, id: u32, filter: &Bitmap) -> bool {
        self.twins(id).any(|row| filter.get(row as usize))
    }

    /// Collects what may be among the `k` nearest rows that `filter` wants, with 8-bit distances; whether the walk came to its
    /// end.
    pub(super) fn gather(
        &self,
        k: usize,
        limit: Limit,
        filter: Option<&Bitmap>,
        scratch: &mut Scratch,
        nearest: &mut Vec<Candidate>,
    ) -> bool {
        scratch.begin(self.shape.row_count);
        let mut seen = std::mem::take(&mut scratch.seen);
        // How many are wanted around the query is not known yet: the rank begins high.
        let rank = filter.map_or(limit.rank, |_| limit.rank.max(rank(k, limit.ef, 1.0)));
        let limit = Limit { rank, ..limit };
        seen.begin(rank.max(k + SPARE), 0);
        let is_whole = self.gather_visited(k, limit, filter, scratch, &mut seen, nearest);
        if is_whole {
            let some = seen.rest().take(k + SPARE);
            self.look_at(scratch, some, &mut |found| self.add_rows(found, k, filter, nearest));
        }
        scratch.seen = seen;
        is_whole
    }

    fn gather_visited(
        &self,
        k: usize,
        limit: Limit,
        filter: Option<&Bitmap>,
        scratch: &mut Scratch,
        seen: &mut Pool,
        nearest: &mut Vec<Candidate>,
    ) -> bool {
        let kernels = CodeKernels::get();
        let Scratch { stamps, stamp, query, frontier, visited_count, scale_max, .. } = scratch;
        frontier.clear();
        // More rows than these are other graphs'.
        let stamps = &mut stamps[..self.shape.row_count];
        let (rank, estimates, local) = (limit.rank.max(1), [0.0; 32], Local::default());
        let stamp = *stamp;
        let mut walk =
            Gather { graph: self, kernels, query, filter, rank, local, stamps, stamp, seen, frontier, estimates };
        let mut entry_distance = f32::INFINITY;
        if let Some(routes) = self.routes() {
            // What is no number becomes infinity.
            entry_distance = query.distance(kernels, &routes).min(f32::INFINITY);
            walk.follow(&routes, entry_distance);
        }
        walk.frontier.push(entry_distance, self.shape.entry);
        let mut ahead = Ahead::default();
        loop {
            let is_alone = *visited_count < VISITS_ALONE;
            walk.fill(&mut ahead, if is_alone { 1 } else { AHEAD_MAX + 1 });
            let Some(id) = ahead.pop() else {
                return filter.is_none() || !walk.local.is_rare(*visited_count, limit.share);
            };
            let Some(block) = self.block(id) else { continue };
            *visited_count += 1;
            if *visited_count > limit.visits_max {
                return false;
            }
            if is_alone {
                // Most often the next one is known already.
                self.prefetch(kernels, walk.frontier.nearest());
            }
            *scale_max = scale_max.max(block.scale);
            let distance = query.distance(kernels, &block);
            walk.follow(&block, distance);
            let count = nearest.len();
            self.add_rows(Candidate { distance, id }, k, filter, nearest);
            if filter.is_some() {
                walk.local.visit(nearest.len() > count);
                walk.rank = walk.local.rank(k, &limit);
                let is_expensive = *visited_count > limit.visits_max / EARLY;
                if is_expensive && walk.local.is_rare(*visited_count, limit.share) {
                    return false;
                }
            }
        }
    }
}
