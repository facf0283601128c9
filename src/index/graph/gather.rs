//! The walk of a search under a filter. It visits the nearest vertex known, again and again, whether it is wanted or not, and
//! keeps the wanted rows whose distance was estimated, visited or not. It ends when what is left to visit is farther than a number
//! of wanted rows: it goes as far as the wanted rows of this query lie, and no farther. Where they turn out to be rare around the
//! query it goes on, and ends by the distances of the wanted rows it visited: among the many rows that are about as far as they
//! are, estimates alone would name the wrong ones.

use super::filtered::{Local, certain, looked_at, rank};
use super::frontier::Frontier;
use super::layout::{Block, Graph};
use super::pool::{MARK, Pool, id_in, key};
use super::search::{Candidate, Met, NextBlock, Reading, Scratch};
use crate::kernel::NEIGHBOURS;
use crate::types::Bitmap;

/// After so many visits it is told anew how far a walk goes: each time would take a twentieth of it.
const VISITS_PER_RANK: usize = 8;

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

/// A walk that looks for wanted rows.
struct Gather<'a, 'g> {
    reading: Reading<'a, 'g>,
    filter: &'a Bitmap,
    frontier: &'a mut Frontier,
    rank: usize,
    local: Local,
    /// It takes longer than walks do whose wanted rows lie anywhere: one bad estimate must not lose a vertex.
    is_patient: bool,
    /// So many of the wanted rows that were visited must be nearer than what is left; 0 unless wanted rows are rare.
    certain: usize,
    /// Those.
    found: &'a mut Pool,
    /// The distance of the farthest of them.
    floor: f32,
    /// Wanted, estimated.
    seen: &'a mut Pool,
}

impl<'g> Gather<'_, 'g> {
    /// What is farther need not be visited: enough wanted rows are nearer.
    #[inline]
    fn end(&self) -> f32 {
        self.seen.distance_of(self.rank - 1).max(self.floor)
    }

    /// Takes up the neighbours of a block and gives the distance of its vector; meanwhile, another is asked for.
    #[inline(always)]
    fn follow(&mut self, block: &Block<'_>, next: NextBlock<'_>) -> f32 {
        let bound = self.seen.bound().max(self.floor);
        let (distance, count) = self.reading.read(block, bound, self.is_patient, next);
        self.take_up(count);
        distance
    }

    /// Takes up a vertex where the walk begins.
    fn meet(&mut self, distance: f32, id: u32) {
        self.reading.keys[0] = key(distance, id);
        let (is_new, _) = self.reading.met.see(id, false);
        self.take_up(usize::from(is_new));
    }

    /// Takes up the first of `reading.keys`.
    #[inline(always)]
    fn take_up(&mut self, count: usize) {
        // Which are wanted is unforeseeable, too.
        let (mut wanted, mut wanted_count, mut new_count) = ([0; NEIGHBOURS], 0, 0);
        for key in &mut self.reading.keys[..count] {
            let is_new = *key & MARK == 0;
            *key &= !MARK;
            let is_wanted = self.reading.graph.has_wanted(id_in(*key), self.filter);
            wanted[wanted_count % NEIGHBOURS] = *key;
            wanted_count += usize::from(is_new & is_wanted);
            new_count += usize::from(is_new);
        }
        self.local.see(new_count, wanted_count);
        self.seen.insert_all(&mut wanted[..wanted_count]);
        self.frontier.push_all(&self.reading.keys, count, key(self.end(), 0));
    }

    /// Chooses what is visited next, unless enough wanted rows are nearer than all that is left.
    #[inline(always)]
    fn choose(&mut self) -> Option<u32> {
        let end = key(self.end(), 0);
        loop {
            let id = id_in(self.frontier.take(end)?);
            // One that returned is there twice.
            if !self.is_patient || !self.reading.met.is_chosen(id) {
                self.reading.met.choose(id);
                return Some(id);
            }
        }
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
    fn learn(&mut self, k: usize, limit: &Limit, visited_count: usize, visited: &[Candidate]) {
        self.local.visit(!visited.is_empty());
        if visited_count.is_multiple_of(VISITS_PER_RANK) {
            self.rank = self.local.rank(k, limit);
        }
        self.note(visited);
    }

    /// Takes note of wanted rows that were visited, when it matters how far they are.
    fn note(&mut self, visited: &[Candidate]) {
        if self.certain > 0 {
            visited.iter().for_each(|found| self.found.insert(found.distance, found.id));
            self.floor = self.found.distance_of(self.certain - 1);
        }
    }
}

impl Graph<'_> {
    /// Whether a vertex that exists or one of its twins is wanted.
    #[inline]
    fn has_wanted(&self, id: u32, filter: &Bitmap) -> bool {
        if self.shape.has_twins { self.twins(id).any(|row| filter.get(row as usize)) } else { filter.get(id as usize) }
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
        let looked_at = looked_at(k, limit.ef);
        seen.begin(rank.max(looked_at), 0);
        let is_whole = self.gather_visited(k, limit, filter, scratch, &mut seen, nearest);
        if is_whole {
            let Scratch { rows, stamps, known, .. } = scratch;
            let met = Met::new(stamps, *known, self.shape.row_count);
            rows.clear();
            rows.extend(seen.rest().take(looked_at).filter(|id| !met.is_chosen(*id)));
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
        let Scratch { found, stamps, known, query, frontier, visited_count, scale_max, .. } = scratch;
        frontier.clear();
        let reading = Reading::new(self, Met::new(stamps, *known, self.shape.row_count), query);
        let (local, rank, floor) = (Local::default(), limit.rank.max(1), f32::NEG_INFINITY);
        let mut walk =
            Gather { reading, filter, frontier, rank, local, is_patient: false, certain: 0, found, floor, seen };
        let kernels = walk.reading.kernels;
        for (part, middle) in self.near_parts(kernels, query) {
            let distance = walk.follow(&part, NextBlock::default());
            walk.meet(distance, middle);
        }
        // They are visited next even if what is read meanwhile leads to nearer ones: their blocks were asked for.
        let (mut next, mut second) = (None, None);
        loop {
            let Some(id) = next.take().or_else(|| walk.choose()) else {
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
            walk.is_patient = *visited_count as f32 * limit.share > limit.rank as f32;
            *scale_max = scale_max.max(block.scale);
            next = second.take().or_else(|| {
                let id = walk.choose()?;
                kernels.prefetch(self.bytes_of(id).unwrap_or(&[]));
                Some(id)
            });
            second = walk.choose();
            let ahead = second.map_or_else(NextBlock::default, |id| self.next_block(kernels, id));
            let distance = walk.follow(&block, ahead);
            let count = nearest.len();
            self.add_rows(Candidate { distance, id }, k, Some(filter), nearest);
            walk.learn(k, &limit, *visited_count, &nearest[count..]);
            if walk.local.is_hopeless(k, *visited_count, &limit) {
                return false;
            }
        }
    }
}
