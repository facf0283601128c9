//! Which rows a search wants decides how it goes: the graph is walked, or the vectors of the wanted rows are looked at one by one
//! when that is less work, or when the walk turns out to be more.

use super::gather::Limit;
use super::layout::{Graph, SCALARS_BYTES};
use super::search::{Candidate, FEW_HITS, SPARE, SPARE_OF_HITS, Scratch, keep_nearest};
use crate::kernel::{CodeKernels, VectorRows};
use crate::types::Bitmap;

/// Rows whose vectors are asked for before the first of them is used.
const SCAN_AHEAD: usize = 16;
/// Candidates of a scan that are collected before the far ones are dropped.
const SCAN_KEPT: usize = 1024;
/// What a visit costs in nanoseconds, and each of its cache lines, which are asked for ahead (784, 384 and 50 dimensions).
const VISIT_NS: [usize; 2] = [210, 2];
/// The same when all rows are wanted: fewer neighbours are near enough to be taken up.
const VISIT_OF_ALL_NS: [usize; 2] = [160, 1];
/// What a row of a scan costs in nanoseconds, and each of its cache lines.
const ROW_NS: [usize; 2] = [6, 2];
/// A byte that lies apart from the one read before costs as much as so many of one run.
const APART: usize = 2;
/// What a visit of an iteration costs in nanoseconds, and each of its cache lines; what a row of a column costs that is scanned, and
/// each of its. Measured on 50, 128, 384 and 784 dimensions, of 60,000 to 396,000 rows.
const ITERATED_NS: [usize; 2] = [750, 10];
const COLUMN_NS: [usize; 2] = [1, 2];
/// A pool of this size costs as much to keep in order as to fill.
pub(in crate::index) const POOL_SORTED: usize = 1024;
/// Visits for each vertex that is nearer than where a walk ends: estimates err, and a walk that is given up was in vain.
const VISITS_PER_VERTEX: f64 = 1.5;
/// A walk may take so many times as many: where few wanted rows decide, the number of visits is chance.
const VISITS_MAX: f64 = 1.5;
/// So many fewer than `ef` are visited without a filter.
const REACH_LESS: usize = 4;
/// The power of the share of wanted rows by which fewer than `ef` of them are enough: more are seen on the way, which count although
/// they are not visited (measured such that a search finds under any filter what it finds without).
const RANK_POWER: f32 = 0.65;
/// Wanted rows beside that, and how many fewer when all rows are wanted: few are no measure.
const RANK_BASE: [f32; 2] = [2.6, 4.0];
/// One in so many of `ef` beyond the least are looked at besides.
const SPARE_PER_EF: usize = 3;
/// Wanted rows for each hit beyond ten, where few are wanted: of many hits, fewer are among what is seen meanwhile.
const RANK_OF_HITS: f32 = 0.5;
/// After so many rows that were looked at for the filter, older ones count half.
const RECENT_ROWS: u32 = 256;
/// Fewer wanted rows than expected among the visited, in standard deviations, that are hardly chance.
const DEVIATIONS: f32 = 3.0;
/// One in so many of those expected is missing then, at least.
const RARER: f32 = 4.0;
/// A walk among rows that are not wanted may take this part of what a scan costs before it is given up.
const EARLY: usize = 8;

/// How many wanted rows must be nearer than what is left when a walk ends, where `share` of the rows are wanted.
pub(super) fn rank(k: usize, ef: usize, share: f32) -> usize {
    let of_ef = ef as f32 * share.powf(RANK_POWER);
    let of_hits = k.saturating_sub(10) as f32 * (1.0 - share) * RANK_OF_HITS;
    (RANK_BASE[0] - RANK_BASE[1] * share + of_ef + of_hits).round().max(1.0) as usize
}

/// How many of the wanted rows that were seen are looked at, those that were visited among them.
pub(super) fn looked_at(k: usize, ef: usize) -> usize {
    k + SPARE + k.saturating_sub(FEW_HITS) * SPARE_OF_HITS + ef.saturating_sub(k) / SPARE_PER_EF
}

/// How many of the nearest a walk without a filter visits. The vectors of some behind them are looked at, too: where few are
/// visited, fewer are enough.
fn reach(ef: usize) -> usize {
    ef.saturating_sub(REACH_LESS).max(ef.div_ceil(2))
}

/// How many wanted rows must be visited, nearer than what is left, when a walk ends around which they are rare.
pub(super) fn certain(k: usize, rank: usize) -> usize {
    2 * k + rank
}

/// What a walk learns about where the wanted rows lie.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Local {
    /// Rows that the filter was asked about, those of late.
    asked: u32,
    /// Of these, the wanted.
    wanted: u32,
    /// Visited vertices with wanted rows.
    visited: usize,
}

impl Local {
    /// Takes note of vertices that were seen, some of which are wanted.
    #[inline]
    pub fn see(&mut self, count: usize, wanted: usize) {
        self.asked += count as u32;
        self.wanted += wanted as u32;
    }

    /// Takes note of a vertex that was visited.
    #[inline]
    pub fn visit(&mut self, is_wanted: bool) {
        self.visited += usize::from(is_wanted);
    }

    /// The rank at which the walk ends, as things look: where more rows are wanted than elsewhere, a walk to the same rank is
    /// shorter and sees fewer on its way.
    #[inline]
    pub fn rank(&mut self, k: usize, limit: &Limit) -> usize {
        let share = (self.wanted as f32 / self.asked.max(1) as f32).max(limit.share);
        if self.asked >= RECENT_ROWS {
            self.asked /= 2;
            self.wanted /= 2;
        }
        rank(k, limit.ef, share.min(1.0)).min(limit.rank)
    }

    /// Whether wanted rows are rarer around the query than elsewhere, and that is hardly chance.
    pub fn is_rare(&self, visited: usize, share: f32) -> bool {
        let expected = visited as f32 * share;
        let missing = expected - self.visited as f32;
        missing * RARER > expected && missing * missing > DEVIATIONS * DEVIATIONS * expected
    }

    /// Whether a walk among rows that are not wanted will hardly visit `k` that are before it has cost as much as a scan.
    #[inline]
    pub fn is_hopeless(&self, k: usize, visited: usize, limit: &Limit) -> bool {
        visited > limit.visits_max / EARLY
            && self.visited.saturating_mul(limit.visits_max) < k.saturating_mul(visited)
            && self.is_rare(visited, limit.share)
    }
}

/// How a search goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Plan {
    /// The vectors of the wanted rows are looked at.
    Scan,
    /// The graph is walked.
    Walk(Limit),
}

impl Graph<'_> {
    /// The cheaper way to the `k` nearest of `matching` rows.
    pub(super) fn plan(&self, k: usize, ef: usize, matching: usize) -> Plan {
        let share = (matching as f64 / self.shape.row_count as f64).max(1e-9);
        let rank = rank(k, ef, share as f32);
        let cost = |[fixed, per_line]: [usize; 2], bytes: usize| fixed + per_line * bytes.div_ceil(64);
        let (visit_ns, visits) = match matching == self.shape.row_count {
            true => (VISIT_OF_ALL_NS, ef as f64),
            false => (VISIT_NS, rank as f64 / share * VISITS_PER_VERTEX),
        };
        let visits_of_scan =
            matching.saturating_mul(cost(ROW_NS, self.shape.code_dim)) / cost(visit_ns, self.block_bytes);
        if visits_of_scan as f64 <= visits {
            return Plan::Scan;
        }
        // Where the wanted rows lie is not known: a walk that has cost as much as a scan will hardly end soon.
        let visits_max = visits_of_scan.max((visits * VISITS_MAX) as usize);
        Plan::Walk(Limit { ef, share: share as f32, rank, visits_max })
    }

    /// Visits of an iteration that take as long as to scan the column for the rows that match.
    pub(in crate::index) fn visits_of_scan(&self, source: &VectorRows<'_>, matching: usize) -> usize {
        let cost = |[fixed, per_line]: [usize; 2], bytes: usize| fixed + per_line * bytes.div_ceil(64);
        let apart = if matching < self.shape.row_count { APART } else { 1 };
        matching.saturating_mul(cost(COLUMN_NS, source.row_bytes()) * apart) / cost(ITERATED_NS, self.block_bytes)
    }

    /// Whether to scan the column is less work than to scan the codes, which lie a block apart.
    pub(super) fn is_column_cheaper(&self, source: &VectorRows<'_>) -> bool {
        source.row_bytes() < (self.shape.code_dim + SCALARS_BYTES).next_multiple_of(64) * APART
    }

    /// Collects what may be among the `k` nearest rows that `filter` wants, with 8-bit distances; `false` when a scan is less
    /// work and it is not to be one of codes.
    pub(super) fn collect_wanted(
        &self,
        k: usize,
        plan: Plan,
        by_codes: bool,
        filter: Option<&Bitmap>,
        scratch: &mut Scratch,
        nearest: &mut Vec<Candidate>,
    ) -> bool {
        let matching = || filter.map_or(self.shape.row_count, Bitmap::count_ones);
        let is_whole = match (plan, filter) {
            (Plan::Scan, _) => false,
            (Plan::Walk(limit), Some(filter)) => self.gather(k, limit, filter, scratch, nearest),
            (Plan::Walk(limit), None) => {
                self.gather_all(k, reach(limit.ef), scratch, nearest);
                true
            }
        };
        if is_whole && (nearest.len() >= k || nearest.len() >= matching()) {
            return true;
        }
        // The wanted rows lie elsewhere.
        nearest.clear();
        if !by_codes {
            return false;
        }
        scratch.begin(self.shape.row_count);
        match filter {
            None => self.scan(k, 0..self.shape.row_count, scratch, nearest),
            Some(filter) => self.scan(k, filter.iter_ones(), scratch, nearest),
        }
        true
    }

    fn scan(&self, k: usize, wanted: impl Iterator<Item = usize>, scratch: &mut Scratch, nearest: &mut Vec<Candidate>) {
        let kernels = CodeKernels::get();
        let mut rows = wanted.map(|row| row as u32);
        let mut ahead = [0; SCAN_AHEAD];
        let mut kept_max = SCAN_KEPT + 2 * k;
        loop {
            let mut count = 0;
            for (place, row) in ahead.iter_mut().zip(rows.by_ref()) {
                *place = row;
                count += 1;
                if let Some(block) = self.block(row) {
                    kernels.prefetch(block.vector);
                }
            }
            for row in &ahead[..count] {
                if let Some(block) = self.block(*row) {
                    scratch.scale_max = scratch.scale_max.max(block.scale);
                    nearest.push(Candidate { distance: scratch.query.distance(kernels, &block, &[]), id: *row });
                }
            }
            if nearest.len() > kept_max {
                keep_nearest(nearest, k, |distance| scratch.margin(distance));
                // Where all rows are about equally far, few are dropped.
                kept_max = SCAN_KEPT + 2 * nearest.len();
            }
            if count < SCAN_AHEAD {
                return;
            }
        }
    }
}
