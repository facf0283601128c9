//! Best-first walks over the links of a level, whatever the distances come from.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::layout::Level;
use crate::index::codes::{CodedQuery, RecordDistances, Records};
use crate::index::exact::{ExactQuery, ExactScratch, Target};
use crate::index::graph::pool::Pool;
use crate::index::packed::CodeBits;
use crate::index::{Hit, TopK};
use crate::kernel::{CodeKernels, Rows};
use crate::types::Metric;

/// Walks are told apart in the visited array by a byte.
const STAMP_MAX: u8 = u8::MAX;
/// Bytes of rows that are asked for before the first is compared; the kernels ask for what lies farther ahead themselves.
const ROWS_AHEAD_BYTES: usize = 4096;
/// And rows, however long.
const ROWS_AHEAD_MIN: usize = 4;
/// Bytes of each row that are asked for before it is known to be needed: all of a short one, and of a long one what lets the
/// processor find the rest by itself.
const GUESSED_BYTES: usize = 256;

/// Where distances of rows to one query come from.
pub(super) trait Distances {
    /// The distances of rows, smaller is nearer; fewer when a row is none.
    fn compute(&mut self, rows: &[u32]) -> &[f32];

    /// Asks for a row that may be compared soon.
    fn expect(&self, row: u32);
}

/// Distances that hits have.
pub(super) trait Offering: Distances {
    /// Offers rows.
    fn offer(&mut self, rows: &[u32], target: &Target, top: &mut TopK);
}

/// From vectors.
pub(super) struct ExactDistances<'a, 'b> {
    pub query: &'b ExactQuery<'a>,
    pub scratch: &'b mut ExactScratch,
}

impl Distances for ExactDistances<'_, '_> {
    fn compute(&mut self, rows: &[u32]) -> &[f32] {
        let ahead = ROWS_AHEAD_BYTES.div_ceil(self.query.row_bytes());
        rows.iter().take(ahead.max(ROWS_AHEAD_MIN)).for_each(|row| self.query.prefetch(*row));
        self.query.compute(rows, self.scratch);
        &self.scratch.distances
    }

    #[inline]
    fn expect(&self, row: u32) {
        self.query.prefetch_head(row, GUESSED_BYTES);
    }
}

impl Offering for ExactDistances<'_, '_> {
    fn offer(&mut self, rows: &[u32], target: &Target, top: &mut TopK) {
        self.query.offer(rows, target, self.scratch, top);
    }
}

/// From codes.
pub(super) struct CodeDistances<'a, 'b> {
    pub kernels: CodeKernels,
    pub records: Records<'a>,
    pub bits: CodeBits,
    pub query: &'b CodedQuery,
    pub metric: Metric,
    /// Whether a walk compares what users see, as it must when they say where it begins. Else the space's own are finer.
    pub are_user_distances: bool,
    pub codes: &'b mut Vec<u8>,
    pub out: &'b mut RecordDistances,
}

impl Distances for CodeDistances<'_, '_> {
    fn compute(&mut self, rows: &[u32]) -> &[f32] {
        rows.iter().for_each(|row| self.records.prefetch(self.kernels, *row as usize));
        let CodeDistances { kernels, records, bits, query, codes, out, .. } = self;
        match bits {
            CodeBits::Eight => query.distances(*kernels, records, &Rows::Listed(rows), out),
            bits => query.packed_distances(*kernels, (records, *bits), rows, codes, out),
        }
        if self.are_user_distances {
            out.list.iter_mut().for_each(|distance| *distance = query.user_distance(self.metric, *distance));
        }
        &out.list
    }

    #[inline]
    fn expect(&self, row: u32) {
        self.records.prefetch_head(self.kernels, row as usize, GUESSED_BYTES);
    }
}

impl Offering for CodeDistances<'_, '_> {
    fn offer(&mut self, rows: &[u32], target: &Target, top: &mut TopK) {
        self.compute(rows);
        for (row, distance) in rows.iter().zip(&self.out.list) {
            let distance = match self.are_user_distances {
                true => *distance,
                false => self.query.user_distance(self.metric, *distance),
            };
            if target.takes(distance) {
                top.push(Hit { file_index: target.file_index, row: *row, distance });
            }
        }
    }
}

/// From the codes of a row, to the codes of others.
pub(super) struct RowDistances<'a, 'b> {
    pub kernels: CodeKernels,
    pub records: Records<'a>,
    pub row: u32,
    pub out: &'b mut RecordDistances,
}

impl Distances for RowDistances<'_, '_> {
    fn compute(&mut self, rows: &[u32]) -> &[f32] {
        rows.iter().for_each(|row| self.records.prefetch(self.kernels, *row as usize));
        self.records.distances(self.row, rows, self.out);
        &self.out.list
    }

    #[inline]
    fn expect(&self, row: u32) {
        self.records.prefetch_head(self.kernels, row as usize, GUESSED_BYTES);
    }
}

/// Memory that walks reuse: a byte per vertex, and what one walk needs.
#[derive(Debug, Default)]
pub(super) struct Walker {
    stamps: Vec<u8>,
    stamp: u8,
    /// What a walk found, nearest first.
    pub pool: Pool,
    /// Places still to be expanded, when the pool holds only those that are wanted.
    frontier: BinaryHeap<Reverse<(u32, u32)>>,
    places: Vec<u32>,
    rows: Vec<u32>,
    /// Distances that were computed.
    pub computed_count: usize,
}

impl Walker {
    /// Goes from link to link as long as it gets nearer; gives the place and its distance.
    pub fn descend(&mut self, level: &Level<'_>, start: (f32, u32), distances: &mut impl Distances) -> (f32, u32) {
        let mut best = start;
        // Every round gets nearer, so it ends; the bound is for garbage that compares strangely.
        for _ in 0..level.count() {
            self.places.clear();
            let links = level.links(best.1).iter().map(|link| u32::from_le_bytes(*link));
            self.places.extend(links.filter(|place| *place != best.1 && (*place as usize) < level.count()));
            let before = best;
            for (place, distance) in self.places.iter().zip(compute(level, &self.places, &mut self.rows, distances)) {
                if *distance < best.0 {
                    best = (*distance, *place);
                }
            }
            self.computed_count += self.places.len();
            if best.1 == before.1 {
                break;
            }
        }
        best
    }

    /// Finds the `ef` nearest places that can be reached from `start`, into the pool.
    pub fn walk(&mut self, level: &Level<'_>, start: (f32, u32), ef: usize, distances: &mut impl Distances) {
        self.begin(level.count(), ef);
        self.visit(start.1);
        self.pool.insert(start.0, start.1);
        let kernels = CodeKernels::get();
        while let Some(place) = self.pool.take_nearest() {
            self.gather(level, place);
            if let Some(next) = self.pool.nearest() {
                self.expect_links_of(level, next, distances);
            }
            for (place, distance) in self.places.iter().zip(compute(level, &self.places, &mut self.rows, distances)) {
                if *distance < self.pool.bound() {
                    self.pool.insert(*distance, *place);
                    kernels.prefetch(level.links(*place).as_flattened());
                }
            }
            self.computed_count += self.places.len();
        }
    }

    /// As [`Walker::walk`], but only places that `is_wanted` come into the pool; the others are passed through. Gives up,
    /// with `false`, after `budget` distances.
    pub fn walk_wanted(
        &mut self,
        level: &Level<'_>,
        start: (f32, u32),
        ef: usize,
        budget: usize,
        is_wanted: impl Fn(u32, f32) -> bool,
        distances: &mut impl Distances,
    ) -> bool {
        self.begin(level.count(), ef);
        self.visit(start.1);
        self.frontier.push(Reverse((ordered(start.0), start.1)));
        if is_wanted(start.1, start.0) {
            self.pool.insert(start.0, start.1);
        }
        let computed_before = self.computed_count;
        while let Some(Reverse((distance, place))) = self.frontier.pop() {
            if distance > ordered(self.pool.bound()) {
                break;
            }
            if self.computed_count - computed_before > budget {
                return false;
            }
            self.gather(level, place);
            if let Some(Reverse((_, next))) = self.frontier.peek() {
                CodeKernels::get().prefetch(level.links(*next).as_flattened());
            }
            for (place, distance) in self.places.iter().zip(compute(level, &self.places, &mut self.rows, distances)) {
                if *distance < self.pool.bound() {
                    self.frontier.push(Reverse((ordered(*distance), *place)));
                    if is_wanted(*place, *distance) {
                        self.pool.insert(*distance, *place);
                    }
                }
            }
            self.computed_count += self.places.len();
        }
        true
    }

    fn begin(&mut self, count: usize, ef: usize) {
        if self.stamps.len() < count || self.stamp == STAMP_MAX {
            let length = count.max(self.stamps.len());
            self.stamps.clear();
            self.stamps.resize(length, 0);
            self.stamp = 0;
        }
        self.stamp += 1;
        self.pool.begin(ef, 0);
        self.frontier.clear();
    }

    fn visit(&mut self, place: u32) {
        if let Some(stamp) = self.stamps.get_mut(place as usize) {
            *stamp = self.stamp;
        }
    }

    /// Asks for the rows that a place links to and that were not seen: it will be expanded next unless a nearer one comes up.
    #[inline]
    fn expect_links_of(&self, level: &Level<'_>, place: u32, distances: &impl Distances) {
        for link in level.links(place) {
            let place = u32::from_le_bytes(*link);
            if self.stamps.get(place as usize).is_some_and(|stamp| *stamp != self.stamp) {
                distances.expect(level.row(place));
            }
        }
    }

    /// Puts the places that a place links to and that were not seen into `places`.
    #[inline]
    fn gather(&mut self, level: &Level<'_>, place: u32) {
        let Walker { stamps, stamp, places, .. } = self;
        let links = level.links(place);
        let stamps = &mut stamps[..level.count()];
        if places.len() < links.len() {
            places.resize(links.len(), 0);
        }
        // Which of them were seen cannot be predicted: every place is written, and the next one over it if it was.
        let mut unseen = 0;
        for link in links {
            let place = u32::from_le_bytes(*link);
            if let Some(of_place) = stamps.get_mut(place as usize) {
                places[unseen] = place;
                unseen += usize::from(*of_place != *stamp);
                *of_place = *stamp;
            }
        }
        places.truncate(unseen);
    }
}

/// The distances of places, fewer when a row is none.
#[inline]
fn compute<'d>(level: &Level<'_>, places: &[u32], rows: &mut Vec<u32>, distances: &'d mut impl Distances) -> &'d [f32] {
    if level.is_ground() {
        return distances.compute(places);
    }
    rows.clear();
    rows.extend(places.iter().map(|place| level.row(*place)));
    distances.compute(rows)
}

/// Bits that compare as the numbers do.
#[inline]
fn ordered(distance: f32) -> u32 {
    let bits = distance.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}
