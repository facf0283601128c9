//! Which rows a search wants decides how it goes: the graph is walked, or the vectors of the wanted rows are looked at one by one
//! when that is less work, or when the walk turns out to be more.

use super::gather::Limit;
use super::layout::Graph;
use super::search::{Candidate, Scratch, keep_nearest};
use crate::kernel::CodeKernels;
use crate::types::Bitmap;

/// Rows whose vectors are asked for before the first of them is used.
const SCAN_AHEAD: usize = 16;
/// Candidates of a scan that are collected before the far ones are dropped.
const SCAN_KEPT: usize = 1024;
/// What a visit costs in nanoseconds, and each of its cache lines, which are asked for ahead (784 and 50 dimensions).
const VISIT_NS: [usize; 2] = [100, 8];
/// What a row of a scan costs in nanoseconds, and each of its cache lines.
const ROW_NS: [usize; 2] = [8, 2];
/// A pool of this size costs as much to keep in order as to fill.
pub(in crate::index) const POOL_SORTED: usize = 1024;
/// Visits for each vertex that is nearer than where a walk ends: estimates err.
const VISITS_PER_VERTEX: f64 = 1.5;
/// Of `ef`, when all rows are wanted: so many of the nearest are enough, as those that were seen count although they were not
/// visited (`RANK_POWER`, `RANK_BASE`: measured such that a search finds under any filter what it finds without).
const RANK_SHARE: f64 = 0.7;
/// The power of the share of wanted rows by which fewer of them are enough: more are seen on the way.
const RANK_POWER: f64 = 0.75;
/// Wanted rows beside that part of `ef`, and how many fewer when all rows are wanted: few are no measure.
const RANK_BASE: [f64; 2] = [3.0, 5.0];

/// How a search goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// The vectors of the wanted rows are looked at.
    Scan,
    /// The graph is walked.
    Walk(Limit),
}

impl Graph<'_> {
    /// The cheaper way to the nearest of `matching` rows.
    pub(super) fn plan(&self, ef: usize, matching: usize) -> Plan {
        let share = (matching as f64 / self.shape.row_count as f64).max(1e-9);
        let of_ef = ef as f64 * RANK_SHARE * share.powf(RANK_POWER);
        let rank = (RANK_BASE[0] - RANK_BASE[1] * share + of_ef).round().max(1.0) as usize;
        let cost = |[fixed, per_line]: [usize; 2], bytes: usize| fixed + per_line * bytes.div_ceil(64);
        // Where the wanted rows lie is not known: a walk that has cost as much as a scan will hardly end soon.
        let visits_max = matching.saturating_mul(cost(ROW_NS, self.shape.code_dim)) / cost(VISIT_NS, self.block_bytes);
        let visits = rank as f64 / share * VISITS_PER_VERTEX;
        if visits_max as f64 <= visits { Plan::Scan } else { Plan::Walk(Limit { rank, visits_max }) }
    }

    /// Collects what may be among the `k` nearest rows that `filter` wants, with 8-bit distances.
    pub(super) fn collect_wanted(
        &self,
        k: usize,
        plan: Plan,
        filter: Option<&Bitmap>,
        scratch: &mut Scratch,
        nearest: &mut Vec<Candidate>,
    ) {
        let matching = || filter.map_or(self.shape.row_count, Bitmap::count_ones);
        if let Plan::Walk(limit) = plan
            && self.gather(k, limit, filter, scratch, nearest)
            && (nearest.len() >= k || nearest.len() >= matching())
        {
            return;
        }
        // The wanted rows lie elsewhere.
        nearest.clear();
        scratch.begin(self.shape.row_count);
        match filter {
            None => self.scan(k, 0..self.shape.row_count, scratch, nearest),
            Some(filter) => self.scan(k, filter.iter_ones(), scratch, nearest),
        }
    }

    fn scan(&self, k: usize, wanted: impl Iterator<Item = usize>, scratch: &mut Scratch, nearest: &mut Vec<Candidate>) {
        let kernels = CodeKernels::get();
        let mut rows = wanted.map(|row| row as u32);
        let mut ahead = [0; SCAN_AHEAD];
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
                    nearest.push(Candidate { distance: scratch.query.distance(kernels, &block), id: *row });
                }
            }
            if nearest.len() > SCAN_KEPT + 2 * k {
                keep_nearest(nearest, k, scratch.margin());
            }
            if count < SCAN_AHEAD {
                return;
            }
        }
    }
}
