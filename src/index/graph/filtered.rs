//! Searches under a filter: rows that it leaves out are passed through, and rows that it wants are noted as soon as their
//! distance is estimated, whether they are visited or not. When it wants few rows, their vectors are looked at one by one.

use super::layout::Graph;
use super::pool::Pool;
use super::search::{Candidate, Reach, SPARE, Scratch, Visitor, keep_nearest};
use crate::kernel::CodeKernels;
use crate::types::Bitmap;

/// Rows whose vectors are asked for before the first of them is used.
const SCAN_AHEAD: usize = 16;
/// Candidates of a scan that are collected before the far ones are dropped.
const SCAN_KEPT: usize = 1024;
/// What a visit costs in nanoseconds, and each of its cache lines, which come from anywhere (784 and 50 dimensions).
const VISIT_NS: [usize; 2] = [250, 12];
/// What a row of a scan costs in nanoseconds, and each of its cache lines, which are asked for ahead.
const ROW_NS: [usize; 2] = [8, 4];
/// A pool of this size costs as much to keep in order as to fill.
pub(in crate::index) const POOL_SORTED: usize = 1024;
/// By which power of the share of rows left out the pool grows.
const GROWTH_POWER: f64 = 0.85;

/// How a search under a filter goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// The vectors of the wanted rows are looked at.
    Scan,
    /// The graph is walked with a pool of this size.
    Walk(usize),
}

/// Rows that a filter wants, while a graph is walked.
struct Wanted<'a> {
    graph: &'a Graph<'a>,
    k: usize,
    filter: &'a Bitmap,
    /// Estimated.
    seen: &'a mut Pool,
    /// Visited.
    nearest: &'a mut Vec<Candidate>,
}

impl Visitor for Wanted<'_> {
    fn visit(&mut self, found: Candidate) {
        self.graph.add_rows(found, self.k, Some(self.filter), self.nearest);
    }

    fn bound(&self) -> f32 {
        self.seen.bound()
    }

    fn see(&mut self, found: Candidate) -> bool {
        let is_wanted = self.graph.twins(found.id).any(|row| self.filter.get(row as usize));
        if is_wanted {
            self.seen.insert(found.distance, found.id);
        }
        // Many twins may have been asked for nothing: not again.
        is_wanted || self.graph.shape.has_twins
    }
}

impl Graph<'_> {
    /// The cheaper way to the nearest of `matching` rows.
    pub(super) fn plan(&self, ef: usize, matching: usize) -> Plan {
        let row_count = self.shape.row_count;
        let share = matching as f64 / row_count as f64;
        // The k nearest of a tenth of the rows are the 10 k nearest of all; but a visit sees 32 rows, so that fewer visits
        // than rows to be seen do.
        let growth = (1.0 / share.max(1e-9)).powf(GROWTH_POWER);
        let pool = (ef as f64 * growth).min(row_count as f64) as usize;
        let cost = |[fixed, per_line]: [usize; 2], bytes: usize| fixed + per_line * bytes.div_ceil(64);
        let visits = pool.saturating_mul(1 + pool / POOL_SORTED);
        let walk = visits.saturating_mul(cost(VISIT_NS, self.block_bytes));
        let scan = matching.saturating_mul(cost(ROW_NS, self.shape.code_dim));
        if scan <= walk { Plan::Scan } else { Plan::Walk(pool) }
    }

    /// Collects what may be among the `k` nearest rows that `filter` wants, with 8-bit distances.
    pub(super) fn collect_wanted(
        &self,
        k: usize,
        plan: Plan,
        filter: &Bitmap,
        scratch: &mut Scratch,
        nearest: &mut Vec<Candidate>,
    ) {
        let Plan::Walk(pool) = plan else {
            return self.scan(k, filter, scratch, nearest);
        };
        let mut seen = std::mem::take(&mut scratch.seen);
        seen.begin(k + SPARE, 0);
        let mut wanted = Wanted { graph: self, k, filter, seen: &mut seen, nearest };
        self.walk(Reach { ef: pool, spare: 0 }, scratch, &mut wanted);
        self.look_at(scratch, seen.rest(), &mut |found| self.add_rows(found, k, Some(filter), nearest));
        scratch.seen = seen;
    }

    fn scan(&self, k: usize, filter: &Bitmap, scratch: &mut Scratch, nearest: &mut Vec<Candidate>) {
        let kernels = CodeKernels::get();
        let mut rows = filter.iter_ones().map(|row| row as u32);
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
