//! Looks into the lists whose centroids are nearest to the query, nearest first.
//!
//! A filter thins out every list: the nearest allowed rows lie farther out, so more lists are looked into, and each costs
//! less. When too few rows were found, it goes on.

use super::layout::Ivf;
use super::sieve::{PIECE_RECORDS, Sieve, SieveScratch, place_of};
use crate::index::codes::{CodedQuery, Margins, RecordDistances, Records};
use crate::index::exact::{ExactQuery, ExactScratch, Target, check_fit};
use crate::index::flat::DistanceRange;
use crate::index::{Hit, IndexError, TopK};
use crate::kernel::{CodeKernels, Rows, VectorRows};
use crate::types::Bitmap;

/// Lists when a request names no number, as in Milvus.
const PROBE_COUNT: usize = 8;
/// Hits beyond `k` whose exact distances are computed: 8-bit distances seldom misplace a row by more.
const RERANK_SPARE: usize = 10;
/// Centroids are compared by their codes first when no more than one in so many is wanted: first guess.
const SIEVED_SHARE: usize = 4;
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
    query: CodedQuery,
    lists: ListScratch,
    places: Vec<u32>,
    distances: RecordDistances,
    sieve: SieveScratch,
    rows: Vec<u32>,
    exact: ExactScratch,
    nearest: TopK,
    /// Rows whose distances the last search computed, from codes or vectors.
    pub scanned_count: usize,
}

/// What lists are put in order with.
#[derive(Debug, Default)]
struct ListScratch {
    nearest: TopK,
    order: Vec<u32>,
    sieve: SieveScratch,
    rows: Vec<u32>,
    exact: ExactScratch,
}

#[cfg(test)]
impl IvfScratch {
    /// Rows whose exact distances the last search of codes computed.
    pub fn refined_count(&self) -> usize {
        self.rows.len()
    }

    /// Rows whose vectors the last search of a sieve compared.
    pub fn compared_count(&self) -> usize {
        self.sieve.compared_count
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
        if exact.is_none() && !self.shape.is_coarse {
            return Err(IndexError::Mismatch("it holds no vectors, and their column is not there"));
        }
        let centroids = VectorRows::of_f32(self.centroids, self.dim());
        let IvfScratch { query: coded, lists, places, distances, sieve, rows, exact: memory, nearest, scanned_count } =
            scratch;
        self.coder.place_query(query, coded);
        let probe = Probe {
            ivf: self,
            search,
            coded,
            margins: coded.margins(self.shape.errors),
            centroids: ExactQuery::new(self.metric(), query, centroids)?,
            probed: self.probe_count(search),
        };
        *scanned_count = match (exact, probe.margins) {
            // Codes cannot tell for sure what lies within a range.
            (Some(exact), Some(margins)) if !self.shape.is_coarse && search.range.is_none() => {
                probe.sift(exact, margins, lists, places, sieve, top)
            }
            (Some(exact), _) if !self.shape.is_coarse || search.range.is_some() => {
                probe.compare(&exact, lists, rows, memory, top)
            }
            (exact, _) => {
                let kept = match exact {
                    Some(_) => (search.k as f32 * search.refine.max(1.0)).ceil() as usize + RERANK_SPARE,
                    None => search.k,
                };
                nearest.begin(kept);
                let scanned = probe.estimate(lists, places, distances, nearest);
                probe.offer_estimated(exact.as_ref(), rows, memory, nearest, top);
                scanned
            }
        };
        Ok(())
    }

    /// Lists that are looked into at least.
    fn probe_count(&self, search: &IvfSearch<'_>) -> usize {
        let list_count = self.list_count();
        let probed = search.probe_count.unwrap_or(PROBE_COUNT).clamp(1, list_count);
        let Some(filter) = search.filter else { return probed };
        let share = filter.count_ones() as f32 / self.row_count() as f32;
        (probed as f32 / share.sqrt()).min(list_count as f32) as usize
    }
}

/// One search.
struct Probe<'a> {
    ivf: &'a Ivf<'a>,
    search: &'a IvfSearch<'a>,
    coded: &'a CodedQuery,
    margins: Option<Margins>,
    /// The query among the centroids.
    centroids: ExactQuery<'a>,
    /// Lists that are looked into at least.
    probed: usize,
}

impl Probe<'_> {
    /// Puts the nearest `count` lists in order.
    fn order_lists(&self, count: usize, scratch: &mut ListScratch) {
        let ListScratch { nearest, order, sieve: memory, rows, exact } = scratch;
        let list_count = self.ivf.list_count();
        nearest.begin(count);
        match self.margins.filter(|_| count.saturating_mul(SIEVED_SHARE) <= list_count) {
            Some(margins) => {
                let sieve = self.sieve(margins, self.ivf.centroid_records, self.centroids, 0);
                memory.begin(count);
                for first in (0..list_count).step_by(PIECE_RECORDS) {
                    let piece = Rows::Range(first..list_count.min(first + PIECE_RECORDS));
                    sieve.sift(&piece, |list| Some(list as u32), memory, nearest);
                }
                sieve.settle(memory, nearest);
            }
            None => {
                let target = Target { file_index: 0, range: None };
                for first in (0..list_count).step_by(PIECE_RECORDS) {
                    rows.clear();
                    rows.extend(first as u32..list_count.min(first + PIECE_RECORDS) as u32);
                    self.centroids.offer(rows, &target, exact, nearest);
                }
            }
        }
        order.clear();
        order.extend(nearest.sort().iter().map(|list| list.row));
        if order.len() < count {
            // Vectors so large that their products are no numbers: such lists are far, but they are there.
            rows.clone_from(order);
            rows.sort_unstable();
            order.extend(
                (0..list_count as u32).filter(|list| rows.binary_search(list).is_err()).take(count - rows.len()),
            );
        }
    }

    fn sieve<'s>(
        &'s self,
        margins: Margins,
        records: Records<'s>,
        exact: ExactQuery<'s>,
        file_index: u32,
    ) -> Sieve<'s> {
        let target = Target { file_index, range: None };
        Sieve {
            metric: self.ivf.metric(),
            kernels: CodeKernels::get(),
            query: self.coded,
            margins,
            records,
            exact,
            target,
        }
    }

    /// Calls `look` with list after list, until enough were looked into; it tells how many rows it found.
    fn each_list(&self, lists: &mut ListScratch, mut look: impl FnMut(usize) -> usize) {
        let has_end = self.search.range.is_some_and(|range| range.high < f32::INFINITY);
        let empty_max = self.search.empty_lists_max.unwrap_or(EMPTY_LISTS_MAX);
        let (mut found, mut empty) = (0, 0);
        self.order_lists(self.probed, lists);
        for place in 0..self.ivf.list_count() {
            let is_enough = found >= self.search.k || (has_end && empty >= empty_max);
            if place >= self.probed && is_enough {
                return;
            }
            if place == self.probed {
                self.order_lists(self.ivf.list_count(), lists);
            }
            let Some(list) = lists.order.get(place) else { return };
            let count = look(*list as usize);
            found += count;
            empty = if count == 0 { empty + 1 } else { 0 };
        }
    }

    /// Compares the vectors of lists, and tells how many.
    fn compare(
        &self,
        exact: &ExactQuery<'_>,
        lists: &mut ListScratch,
        rows: &mut Vec<u32>,
        memory: &mut ExactScratch,
        top: &mut TopK,
    ) -> usize {
        let target = Target { file_index: self.search.file_index, range: self.search.range };
        let mut scanned = 0;
        rows.clear();
        self.each_list(lists, |list| {
            let before = rows.len();
            let (_, listed) = self.ivf.list(list);
            rows.extend(listed.iter().map(|row| u32::from_le_bytes(*row)).filter(|row| self.is_allowed(*row)));
            let mut found = rows.len() - before;
            if rows.len() >= LISTED_ROWS || target.range.is_some() {
                let offered = exact.offer(rows, &target, memory, top);
                found = if target.range.is_some() { offered } else { found };
                scanned += rows.len();
                rows.clear();
            }
            found
        });
        scanned += rows.len();
        exact.offer(rows, &target, memory, top);
        scanned
    }

    /// Finds by codes what [`Probe::compare`] would, and tells how many codes were compared.
    fn sift(
        &self,
        exact: ExactQuery<'_>,
        margins: Margins,
        lists: &mut ListScratch,
        places: &mut Vec<u32>,
        memory: &mut SieveScratch,
        top: &mut TopK,
    ) -> usize {
        let sieve = self.sieve(margins, self.ivf.records, exact, self.search.file_index);
        memory.begin(self.search.k);
        let mut scanned = 0;
        self.each_list(lists, |list| {
            let (first, listed) = self.ivf.list(list);
            let row = |place: usize| listed.get(place - first).map(|row| u32::from_le_bytes(*row));
            let row = |place: usize| row(place).filter(|row| self.is_allowed(*row));
            let found = self.each_piece(first, listed, places, &mut |which| sieve.sift(which, row, memory, top));
            scanned += found;
            found
        });
        sieve.settle(memory, top);
        scanned
    }

    /// Collects the rows of lists that are nearest by their codes, and tells how many were compared.
    fn estimate(
        &self,
        lists: &mut ListScratch,
        places: &mut Vec<u32>,
        distances: &mut RecordDistances,
        nearest: &mut TopK,
    ) -> usize {
        let (kernels, records) = (CodeKernels::get(), self.ivf.records);
        let mut scanned = 0;
        self.each_list(lists, |list| {
            let (first, listed) = self.ivf.list(list);
            let mut offer = |which: &Rows<'_>| {
                self.coded.distances(kernels, &records, which, distances);
                for (index, distance) in distances.list.iter().enumerate() {
                    // What is too large for the codes is far, but it is there.
                    let distance = if distance.is_nan() { f32::INFINITY } else { *distance };
                    if distance > nearest.bound() {
                        continue;
                    }
                    let place = place_of(which, index);
                    let Some(row) = listed.get(place - first).map(|row| u32::from_le_bytes(*row)) else { continue };
                    if self.is_allowed(row) {
                        nearest.push(Hit { file_index: self.search.file_index, row, distance });
                    }
                }
            };
            let found = self.each_piece(first, listed, places, &mut offer);
            scanned += found;
            found
        });
        scanned
    }

    /// Calls `look` with the places of a list's rows that may be hits, piece by piece, and tells how many they are.
    fn each_piece(
        &self,
        first: usize,
        listed: &[[u8; 4]],
        places: &mut Vec<u32>,
        look: &mut impl FnMut(&Rows<'_>),
    ) -> usize {
        if self.search.filter.is_none() {
            let end = first + listed.len();
            for first in (first..end).step_by(PIECE_RECORDS) {
                look(&Rows::Range(first..end.min(first + PIECE_RECORDS)));
            }
            return listed.len();
        }
        let allowed = listed.iter().zip(first as u32..).filter(|(row, _)| self.is_allowed(u32::from_le_bytes(**row)));
        places.clear();
        places.extend(allowed.map(|(_, place)| place));
        places.chunks(PIECE_RECORDS).for_each(|piece| look(&Rows::Listed(piece)));
        places.len()
    }

    /// Offers what [`Probe::estimate`] found, with the distances of their vectors if they are there.
    fn offer_estimated(
        &self,
        exact: Option<&ExactQuery<'_>>,
        rows: &mut Vec<u32>,
        memory: &mut ExactScratch,
        nearest: &mut TopK,
        top: &mut TopK,
    ) {
        let target = Target { file_index: self.search.file_index, range: self.search.range };
        rows.clear();
        let Some(exact) = exact else {
            for hit in nearest.sort() {
                let distance = self.coded.user_distance(self.ivf.metric(), hit.distance);
                if target.takes(distance) {
                    top.push(Hit { distance, ..*hit });
                }
            }
            return;
        };
        rows.extend(nearest.sort().iter().map(|hit| hit.row));
        exact.offer(rows, &target, memory, top);
    }

    #[inline]
    fn is_allowed(&self, row: u32) -> bool {
        let row = row as usize;
        row < self.ivf.row_count() && self.search.filter.is_none_or(|filter| filter.get(row))
    }
}
