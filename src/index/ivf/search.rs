//! Looks into the lists whose centroids are nearest to the query, nearest first.
//!
//! A filter thins out every list: the nearest allowed rows lie farther out, so more lists are looked into, and each costs
//! less. When too few rows were found, it goes on.

use super::layout::Ivf;
use crate::index::codes::CodedQuery;
use crate::index::exact::{ExactQuery, ExactScratch, Target, check_fit};
use crate::index::flat::DistanceRange;
use crate::index::{Hit, IndexError, TopK};
use crate::kernel::{CodeKernels, Kernels, RowBlock, Rows, VectorRows};
use crate::types::{Bitmap, Metric};

/// Lists when a request names no number, as in Milvus.
const PROBE_COUNT: usize = 8;
/// Hits beyond `k` whose exact distances are computed: 8-bit distances seldom misplace a row by more.
const RERANK_SPARE: usize = 10;
/// Listed rows that are worth a call of the kernels.
const LISTED_ROWS: usize = 256;
/// A range search that names no number ends when so many lists in a row had nothing within the range, as in Milvus.
const EMPTY_LISTS_MAX: usize = 2;

/// What a search is asked for.
#[derive(Clone, Copy, Debug)]
pub struct IvfSearch<'a> {
    /// Hits wanted.
    pub k: usize,
    /// Lists to look into at least.
    pub probe_count: Option<usize>,
    /// A range search ends when so many lists in a row had nothing within the range.
    pub empty_lists_max: Option<usize>,
    /// Hits whose exact distances are computed, per hit that is wanted.
    pub refine: f32,
    /// Rows that may be hits, one bit per row; `None` for all.
    pub filter: Option<&'a Bitmap>,
    /// Which distances are wanted.
    pub range: Option<DistanceRange>,
    /// The vectors that the index was built from. Without them, only codes can be searched, and distances are theirs.
    pub source: Option<VectorRows<'a>>,
    /// Goes into the hits.
    pub file_index: u32,
}

/// Memory that searches reuse: a place per list, and what one query needs.
#[derive(Debug, Default)]
pub struct IvfScratch {
    distances: Vec<f32>,
    order: Vec<(f32, u32)>,
    rows: Vec<u32>,
    exact: ExactScratch,
    query: CodedQuery,
    nearest: TopK,
    /// Rows whose distances the last search computed.
    pub scanned_count: usize,
}

#[cfg(test)]
impl IvfScratch {
    /// Rows whose exact distances the last search of codes computed.
    pub fn refined_count(&self) -> usize {
        self.rows.len()
    }
}

impl Ivf<'_> {
    /// Offers the rows nearest to `query` to `top`.
    ///
    /// # Errors
    /// When the query's length, the filter or the column does not fit the index, or there is no column where one is needed.
    pub fn search(
        &self,
        query: &[f32],
        search: &IvfSearch<'_>,
        scratch: &mut IvfScratch,
        top: &mut TopK,
    ) -> Result<(), IndexError> {
        check_fit(self.dim(), self.row_count(), query, search.filter, search.source)?;
        let exact = search.source.map(|source| ExactQuery::new(self.metric(), query, source)).transpose()?;
        let probed = self.order_lists(query, search, scratch);
        scratch.scanned_count = 0;
        // Codes cannot tell for sure what lies within a range.
        match exact {
            Some(exact) if self.coder.is_none() || search.range.is_some() => {
                self.search_exact(&exact, search, probed, scratch, top);
            }
            exact => self.search_codes(query, exact, search, probed, scratch, top)?,
        }
        Ok(())
    }

    /// Puts the lists into `scratch.order`, the nearest sorted in front, and gives how many are looked into at least.
    fn order_lists(&self, query: &[f32], search: &IvfSearch<'_>, scratch: &mut IvfScratch) -> usize {
        let list_count = self.list_count();
        let IvfScratch { distances, order, .. } = scratch;
        distances.clear();
        distances.resize(list_count, 0.0);
        order.clear();
        let Some(block) = RowBlock::new(self.centroids, self.dim(), Rows::Range(0..list_count)) else { return 0 };
        if self.metric() == Metric::L2 {
            Kernels::get().squared_distances(query, &block, distances);
        } else {
            Kernels::get().inner_products(query, &block, distances);
            distances.iter_mut().for_each(|distance| *distance = -*distance);
        }
        order.extend(distances.iter().zip(0u32..).map(|(distance, list)| (*distance, list)));
        let mut probed = search.probe_count.unwrap_or(PROBE_COUNT).clamp(1, list_count);
        if let Some(filter) = search.filter {
            let share = filter.count_ones() as f32 / self.row_count() as f32;
            probed = (probed as f32 / share.sqrt()).min(list_count as f32) as usize;
        }
        sort_front(order, probed);
        probed
    }

    /// Calls `look` with list after list, until enough were looked into; it tells how many rows it found.
    fn probe(
        &self,
        order: &mut [(f32, u32)],
        probed: usize,
        search: &IvfSearch<'_>,
        mut look: impl FnMut(usize) -> usize,
    ) {
        let has_end = search.range.is_some_and(|range| range.high < f32::INFINITY);
        let empty_max = search.empty_lists_max.unwrap_or(EMPTY_LISTS_MAX);
        let (mut found, mut empty) = (0, 0);
        for place in 0..order.len() {
            let is_enough = found >= search.k || (has_end && empty >= empty_max);
            if place >= probed && is_enough {
                return;
            }
            if place == probed {
                order[place..].sort_unstable_by(compare);
            }
            let count = look(order[place].1 as usize);
            found += count;
            empty = if count == 0 { empty + 1 } else { 0 };
        }
    }

    fn search_exact(
        &self,
        exact: &ExactQuery<'_>,
        search: &IvfSearch<'_>,
        probed: usize,
        scratch: &mut IvfScratch,
        top: &mut TopK,
    ) {
        let target = Target { file_index: search.file_index, range: search.range };
        let IvfScratch { order, rows, exact: memory, scanned_count, .. } = scratch;
        rows.clear();
        self.probe(order, probed, search, |list| {
            let before = rows.len();
            let (_, listed) = self.list(list);
            rows.extend(listed.iter().map(|row| u32::from_le_bytes(*row)).filter(|row| self.is_allowed(*row, search)));
            let mut found = rows.len() - before;
            if rows.len() >= LISTED_ROWS || target.range.is_some() {
                let offered = exact.offer(rows, &target, memory, top);
                found = if target.range.is_some() { offered } else { found };
                *scanned_count += rows.len();
                rows.clear();
            }
            found
        });
        *scanned_count += rows.len();
        exact.offer(rows, &target, memory, top);
    }

    #[inline]
    fn is_allowed(&self, row: u32, search: &IvfSearch<'_>) -> bool {
        let row = row as usize;
        row < self.row_count() && search.filter.is_none_or(|filter| filter.get(row))
    }

    fn search_codes(
        &self,
        query: &[f32],
        exact: Option<ExactQuery<'_>>,
        search: &IvfSearch<'_>,
        probed: usize,
        scratch: &mut IvfScratch,
        top: &mut TopK,
    ) -> Result<(), IndexError> {
        let Some(coder) = self.coder else {
            return Err(IndexError::Mismatch("it holds no vectors, and their column is not there"));
        };
        let IvfScratch { order, rows, exact: memory, query: coded, nearest, scanned_count, .. } = scratch;
        coder.place_query(query, coded);
        let refined = (search.k as f32 * search.refine.max(1.0)).ceil() as usize;
        nearest.begin(if exact.is_some() { refined + RERANK_SPARE } else { search.k });
        let kernels = CodeKernels::get();
        self.probe(order, probed, search, |list| {
            let (first, listed) = self.list(list);
            let mut found = 0;
            for (index, row) in listed.iter().enumerate() {
                let row = u32::from_le_bytes(*row);
                if !self.is_allowed(row, search) {
                    continue;
                }
                found += 1;
                let Some(record) = self.records.get(first + index) else { continue };
                // What is too large for the codes is far, but it is there.
                let distance = coded.distance(kernels, record);
                let distance = if distance.is_nan() { f32::INFINITY } else { distance };
                if distance <= nearest.bound() {
                    nearest.push(Hit { file_index: search.file_index, row, distance });
                }
            }
            *scanned_count += found;
            found
        });
        let target = Target { file_index: search.file_index, range: search.range };
        let Some(exact) = exact else {
            for hit in nearest.sort() {
                let distance = coded.user_distance(self.metric(), hit.distance);
                if target.takes(distance) {
                    top.push(Hit { distance, ..*hit });
                }
            }
            return Ok(());
        };
        rows.clear();
        rows.extend(nearest.sort().iter().map(|hit| hit.row));
        exact.offer(rows, &target, memory, top);
        Ok(())
    }
}

fn compare(left: &(f32, u32), right: &(f32, u32)) -> std::cmp::Ordering {
    left.0.total_cmp(&right.0).then(left.1.cmp(&right.1))
}

/// Sorts the `count` nearest to the front.
fn sort_front(order: &mut [(f32, u32)], count: usize) {
    if (1..order.len()).contains(&count) {
        order.select_nth_unstable_by(count - 1, compare);
    }
    let front = count.min(order.len());
    order[..front].sort_unstable_by(compare);
}
