//! The walk of a search under a filter. It visits the nearest vertex known, again and again, whether it is wanted or not, and
//! keeps the wanted rows whose distance was estimated, visited or not. It ends when what is left to visit is farther than a number
//! of wanted rows: it goes as far as the wanted rows of this query lie, and no farther. Where they turn out to be rare around the
//! query it goes on, and ends by the distances of the wanted rows it visited: among the many rows that are about as far as they
//! are, estimates alone would name the wrong ones.

use super::filtered::{Local, certain, rank};
use super::frontier::{AHEAD_MAX, Ahead, Frontier};
use super::layout::{Block, Graph};
use super::pool::Pool;
use super::search::{Candidate, NextBlock, PlacedQuery, SPARE, Scratch};
use crate::kernel::CodeKernels;
use crate::types::Bitmap;

/// The first visits lead straight to the query: each decides on the next. Later the next few are known well before.
const VISITS_ALONE: usize = 4;

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
    filter: &'a Bitmap,
    rank: usize,
    local: Local,
    /// So many of the wanted rows that were visited must be nearer than what is left; 0 unless wanted rows are rare.
    certain: usize,
    /// Those.
    found: &'a mut Pool,
    /// The distance of the farthest of them.
    floor: f32,
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
        self.seen.distance_of(self.rank - 1).max(self.floor)
    }

    /// Takes up the neighbours of a block and gives the distance of its vector; meanwhile, another is asked for.
    #[inline]
    fn follow(&mut self, block: &Block<'_>, next: NextBlock<'_>) -> f32 {
        let distance = self.query.distance(self.kernels, block, next.beside_vector);
        let bound = self.seen.bound().max(self.floor);
        let mut below =
            self.query.estimate(self.kernels, block, distance, bound, next.beside_codes, &mut self.estimates);
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
            } else {
                self.frontier.push_later(distance, id);
            }
            if self.stamps[id as usize] != self.stamp - 1 && distance < self.seen.bound() {
                let is_wanted = self.graph.has_wanted(id, self.filter);
                self.local.see(is_wanted);
                if is_wanted {
                    self.seen.insert(distance, id);
                    end = self.end();
                }
                self.stamps[id as usize] = self.stamp - 1;
            }
        }
        distance
    }

    /// At the end of a walk: whether it is to go on, to where the wanted rows are.
    fn goes_on(&mut self, k: usize, share: f32, visited_count: usize, visited: &[Candidate]) -> bool {
        if self.certain > 0 || !self.local.is_rare(visited_count, share) {
            return false;
        }
        self.certain = certain(k, self.rank);
        self.found.begin(self.certain, 0);
        self.note(visited);
        true
    }

    /// Takes note of the wanted rows of a visit.
    #[inline]
    fn learn(&mut self, k: usize, limit: &Limit, visited: &[Candidate]) {
        self.local.visit(!visited.is_empty());
        self.rank = self.local.rank(k, limit);
        self.note(visited);
    }

    /// Takes note of wanted rows that were visited, when it matters how far they are.
    fn note(&mut self, visited: &[Candidate]) {
        if self.certain > 0 {
            visited.iter().for_each(|found| self.found.insert(found.distance, found.id));
            self.floor = self.found.distance_of(self.certain - 1);
        }
    }

    /// Takes vertices ahead until there are `count`, nearest first, and asks for their blocks; that of the last, which is returned,
    /// is still to be asked for.
    #[inline]
    fn fill(&mut self, ahead: &mut Ahead, count: usize) -> Option<u32> {
        let mut last = None;
        while ahead.len() < count {
            let end = self.end();
            self.frontier.take_up(end);
            let Some((estimate, id)) = self.frontier.pop() else { break };
            if estimate > end {
                // All others are farther still, but the end may move.
                self.frontier.push(estimate, id);
                break;
            }
            let Some(of_id) = self.stamps.get_mut(id as usize) else { continue };
            if std::mem::replace(of_id, self.stamp) != self.stamp {
                if let Some(before) = last.replace(id) {
                    self.graph.prefetch(self.kernels, before);
                }
                ahead.push(id);
            }
        }
        last
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
        filter: &Bitmap,
        scratch: &mut Scratch,
        nearest: &mut Vec<Candidate>,
    ) -> bool {
        scratch.begin(self.shape.row_count);
        let mut seen = std::mem::take(&mut scratch.seen);
        // How many are wanted around the query is not known yet: the rank begins high.
        let rank = limit.rank.max(rank(k, limit.ef, 1.0));
        let limit = Limit { rank, ..limit };
        seen.begin(rank.max(k + SPARE), 0);
        let is_whole = self.gather_visited(k, limit, filter, scratch, &mut seen, nearest);
        if is_whole {
            let Scratch { rows, stamps, stamp, .. } = scratch;
            rows.clear();
            rows.extend(seen.rest().take(k + SPARE).filter(|id| stamps[*id as usize] != *stamp));
            self.look_at(scratch, &mut |found| self.add_rows(found, k, Some(filter), nearest));
        }
        scratch.seen = seen;
        is_whole
    }

    fn gather_visited(
        &self,
        k: usize,
        limit: Limit,
        filter: &Bitmap,
        scratch: &mut Scratch,
        seen: &mut Pool,
        nearest: &mut Vec<Candidate>,
    ) -> bool {
        let kernels = CodeKernels::get();
        let Scratch { found, stamps, stamp, query, frontier, visited_count, scale_max, .. } = scratch;
        frontier.clear();
        // More rows than these are other graphs'.
        let stamps = &mut stamps[..self.shape.row_count];
        let mut walk = Gather {
            graph: self,
            kernels,
            query,
            filter,
            rank: limit.rank.max(1),
            local: Local::default(),
            certain: 0,
            found,
            floor: f32::NEG_INFINITY,
            stamps,
            stamp: *stamp,
            seen,
            frontier,
            estimates: [0.0; 32],
        };
        walk.frontier.push(f32::INFINITY, self.shape.entry);
        // The wanted rows may lie in parts that the query is far from.
        for (part, middle) in
            self.route(0).map(|root| (root, self.shape.entry)).into_iter().chain(self.near_parts(kernels, query))
        {
            let distance = walk.follow(&part, NextBlock::default());
            walk.frontier.push(distance, middle);
        }
        let mut ahead = Ahead::default();
        loop {
            let is_alone = *visited_count < VISITS_ALONE;
            let last = walk.fill(&mut ahead, if is_alone { 1 } else { AHEAD_MAX + 1 });
            let Some(id) = ahead.pop() else {
                if walk.goes_on(k, limit.share, *visited_count, nearest) {
                    continue;
                }
                return true;
            };
            let Some(block) = self.block(id) else { continue };
            *visited_count += 1;
            if *visited_count > limit.visits_max {
                return false;
            }
            *scale_max = scale_max.max(block.scale);
            // Most often the next one is known already.
            let next = if is_alone { walk.frontier.nearest() } else { last };
            let next = next.map_or_else(NextBlock::default, |id| self.next_block(kernels, id));
            let distance = walk.follow(&block, next);
            let count = nearest.len();
            self.add_rows(Candidate { distance, id }, k, Some(filter), nearest);
            walk.learn(k, &limit, &nearest[count..]);
            if walk.local.is_hopeless(k, *visited_count, &limit) {
                return false;
            }
        }
    }
}
