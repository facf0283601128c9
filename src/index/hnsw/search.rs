//! Down the levels to the nearest vertex, then a walk around it.
//!
//! Vertices that a filter forbids, or that are nearer than a range begins, are passed through. When few rows are allowed,
//! comparing them all costs less than walking to them, and when a walk turns out to cost as much, it is given up for that.

use super::layout::{Encoding, Hnsw};
use super::walk::{CodeDistances, Distances, ExactDistances, Offering, Walker};
use crate::index::codes::{CodedQuery, RecordDistances};
use crate::index::exact::{ExactQuery, ExactScratch, Target, check_fit};
use crate::index::flat::DistanceRange;
use crate::index::{IndexError, TopK};
use crate::kernel::{CodeKernels, VectorRows};
use crate::types::Bitmap;

/// Hits beyond `k` whose exact distances are computed: copies seldom misplace a row by more.
const RERANK_SPARE: usize = 10;
/// Rows that are compared at once when many are.
const SCAN_ROWS: usize = 1024;

/// What a search is asked for.
#[derive(Clone, Copy, Debug)]
pub struct HnswSearch<'a> {
    /// Hits wanted.
    pub k: usize,
    /// Size of the pool: more is slower and finds more.
    pub ef: usize,
    /// Hits whose exact distances are computed, per hit that is wanted.
    pub refine: f32,
    /// Rows that may be hits, one bit per row; `None` for all.
    pub filter: Option<&'a Bitmap>,
    /// Which distances are wanted.
    pub range: Option<DistanceRange>,
    /// The vectors that the index was built from. Without them, or when the index is not refined, only copies are searched,
    /// and distances are theirs.
    pub source: Option<VectorRows<'a>>,
    /// Goes into the hits.
    pub file_index: u32,
}

/// Memory that searches reuse: a byte per row, and what one query needs.
#[derive(Debug, Default)]
pub struct HnswScratch {
    walker: Walker,
    exact: ExactScratch,
    copies: ExactScratch,
    query: CodedQuery,
    codes: Vec<u8>,
    distances: RecordDistances,
    rows: Vec<u32>,
    /// Distances that the last search computed on its way.
    pub computed_count: usize,
}

impl Hnsw<'_> {
    /// Offers the rows nearest to `query` to `top`.
    ///
    /// # Errors
    /// When the query's length, the filter or the column does not fit the index, or there is no column where one is needed.
    pub fn search(
        &self,
        query: &[f32],
        search: &HnswSearch<'_>,
        scratch: &mut HnswScratch,
        top: &mut TopK,
    ) -> Result<(), IndexError> {
        check_fit(self.dim(), self.row_count(), query, search.filter, search.source)?;
        let source = search.source.filter(|_| self.shape.is_refined);
        let exact = source.map(|source| ExactQuery::new(self.metric(), query, source)).transpose()?;
        let plan = Plan::new(self, search);
        let HnswScratch { walker, exact: memory, copies, query: coded, codes, distances, rows, computed_count } =
            scratch;
        walker.computed_count = 0;
        let mut exact = exact.as_ref().map(|query| ExactDistances { query, scratch: memory });
        // Copies cannot tell for sure what lies within a range, unless they have the last word.
        let is_column = self.shape.encoding == Encoding::Column || (exact.is_some() && search.range.is_some());
        if is_column {
            let mut exact = exact.ok_or(IndexError::Mismatch("it holds no vectors, and their column is not there"))?;
            self.find(&plan, walker, rows, &mut exact, None, top);
        } else if let Some((coder, bits)) = self.coder.zip(self.shape.encoding.code_bits()) {
            coder.place_query(query, coded);
            let mut codes = CodeDistances {
                kernels: CodeKernels::get(),
                records: self.records(),
                bits,
                query: coded,
                metric: self.metric(),
                are_user_distances: search.range.is_some(),
                codes,
                out: distances,
            };
            self.find(&plan, walker, rows, &mut codes, exact.as_mut(), top);
        } else if let Some(halves) = self.halves() {
            let half = ExactQuery::new(self.metric(), query, halves)?;
            let mut halves = ExactDistances { query: &half, scratch: copies };
            self.find(&plan, walker, rows, &mut halves, exact.as_mut(), top);
        }
        *computed_count = walker.computed_count;
        Ok(())
    }

    /// Finds by `distances`; `exact` has the last word, if it is there.
    fn find(
        &self,
        plan: &Plan<'_>,
        walker: &mut Walker,
        rows: &mut Vec<u32>,
        distances: &mut impl Offering,
        exact: Option<&mut ExactDistances<'_, '_>>,
        top: &mut TopK,
    ) {
        let is_found = !plan.is_scan(self) && self.walk(plan, walker, distances);
        let refined = (plan.search.k as f32 * plan.search.refine.max(1.0)).ceil() as usize + RERANK_SPARE;
        let kept = if exact.is_some() { refined } else { plan.search.k };
        rows.clear();
        if is_found {
            let found = walker.pool.all().flat_map(|(_, row)| self.twins(row));
            rows.extend(found.filter(|row| plan.is_allowed(*row)).take(kept));
        }
        let target = Target { file_index: plan.search.file_index, range: plan.search.range };
        if rows.len() < plan.search.k.min(plan.allowed_count) {
            walker.computed_count += plan.allowed_count;
            return match exact {
                Some(exact) => plan.scan(self.row_count(), exact, rows, &target, top),
                None => plan.scan(self.row_count(), distances, rows, &target, top),
            };
        }
        match exact {
            Some(exact) => exact.offer(rows, &target, top),
            None => distances.offer(rows, &target, top),
        }
    }

    /// Walks from the top; `false` when it was given up.
    fn walk(&self, plan: &Plan<'_>, walker: &mut Walker, distances: &mut impl Distances) -> bool {
        let mut level = self.level(self.shape.entry_level);
        let entry = self.shape.entry;
        let first = distances.compute(&[level.row(entry)]).first().copied();
        let mut at = (first.unwrap_or(f32::INFINITY), entry);
        for below in (0..self.shape.entry_level).rev() {
            at = walker.descend(&level, at, distances);
            let below = self.level(below);
            at.1 = level.below(at.1, &below);
            level = below;
        }
        if plan.search.filter.is_none() && plan.search.range.is_none() {
            walker.walk(&level, at, plan.ef, distances);
            return true;
        }
        let low = plan.search.range.map_or(f32::NEG_INFINITY, |range| range.low);
        let is_wanted = |row: u32, distance: f32| low <= distance && self.twins(row).any(|twin| plan.is_allowed(twin));
        walker.walk_wanted(&level, at, plan.ef, plan.budget(self), is_wanted, distances)
    }
}

/// How one search is done.
struct Plan<'a> {
    search: &'a HnswSearch<'a>,
    /// Rows that may be hits.
    allowed_count: usize,
    ef: usize,
}

impl<'a> Plan<'a> {
    fn new(hnsw: &Hnsw<'_>, search: &'a HnswSearch<'a>) -> Plan<'a> {
        let allowed_count = search.filter.map_or(hnsw.row_count(), Bitmap::count_ones);
        Plan { search, allowed_count, ef: search.ef.max(search.k).clamp(1, hnsw.row_count()) }
    }

    /// Whether a walk would compare more rows than there are: about `m` per vertex in the pool, and with a filter as many
    /// vertices as it takes to meet that many allowed ones.
    fn is_scan(&self, hnsw: &Hnsw<'_>) -> bool {
        let in_pool = self.ef as f64 * hnsw.shape.m as f64;
        let share = self.allowed_count as f64 / hnsw.row_count() as f64;
        self.allowed_count as f64 * share <= in_pool
    }

    /// Distances after which a walk costs more than comparing all allowed rows.
    fn budget(&self, hnsw: &Hnsw<'_>) -> usize {
        self.allowed_count.max(self.ef * hnsw.shape.m)
    }

    fn is_allowed(&self, row: u32) -> bool {
        self.search.filter.is_none_or(|filter| filter.get(row as usize))
    }

    /// Compares every allowed row.
    fn scan(
        &self,
        row_count: usize,
        distances: &mut impl Offering,
        rows: &mut Vec<u32>,
        target: &Target,
        top: &mut TopK,
    ) {
        let mut offer = |rows: &mut Vec<u32>| {
            distances.offer(rows, target, top);
            rows.clear();
        };
        let mut add = |row: usize, rows: &mut Vec<u32>| {
            rows.push(row as u32);
            if rows.len() == SCAN_ROWS {
                offer(rows);
            }
        };
        rows.clear();
        match self.search.filter {
            Some(filter) => filter.iter_ones().for_each(|row| add(row, rows)),
            None => (0..row_count).for_each(|row| add(row, rows)),
        }
        offer(rows);
    }
}
