//! The nearest of some records, as a scan of their vectors would find them: codes tell which cannot be among them, and the
//! vectors themselves are compared where codes cannot tell. Lists are found so among centroids, and rows in lists.

use crate::index::codes::{CodedQuery, Margins, RecordDistances, Records};
use crate::index::exact::{ExactQuery, ExactScratch, Target};
use crate::index::{Hit, TopK};
use crate::kernel::{CodeKernels, Rows};
use crate::types::Metric;

/// Records whose codes are compared at once: their distances stay in the L1 cache.
pub(super) const PIECE_RECORDS: usize = 1024;
/// Records that are waiting for their vectors to be compared, at most.
const WAITING_MAX: usize = 4096;
/// Codes whose distances are looked at together.
const GROUP: usize = 16;
/// Vectors that are compared at once in the end, nearest first: the fewer, the sooner it is seen that no other can be near.
const SETTLED_AT_ONCE: usize = 16;

/// A query among the records of one image.
pub(super) struct Sieve<'a> {
    pub metric: Metric,
    pub kernels: CodeKernels,
    pub query: &'a CodedQuery,
    pub margins: Margins,
    pub records: Records<'a>,
    pub exact: ExactQuery<'a>,
    pub target: Target,
}

/// Memory of a sieve, reused.
#[derive(Debug, Default)]
pub(super) struct SieveScratch {
    distances: RecordDistances,
    /// The greatest distances that the nearest so far can have.
    greatest: TopK,
    waiting: Vec<Waiting>,
    rows: Vec<u32>,
    exact: ExactScratch,
    /// Vectors compared since the sieve began.
    pub compared_count: usize,
}

/// A row that may be near.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    /// The least distance it can have, in the space of the codes.
    least: f32,
    row: u32,
}

impl SieveScratch {
    /// For the `k` nearest of other records.
    pub fn begin(&mut self, k: usize) {
        self.greatest.begin(k);
        self.waiting.clear();
        self.compared_count = 0;
    }
}

impl Sieve<'_> {
    /// Looks at the codes of some records; `row_of` gives the row of one by its place, if it may be a hit.
    pub fn sift(
        &self,
        which: &Rows<'_>,
        row_of: impl Fn(usize) -> Option<u32>,
        scratch: &mut SieveScratch,
        top: &mut TopK,
    ) {
        let SieveScratch { distances, greatest, waiting, .. } = scratch;
        self.query.distances(self.kernels, &self.records, which, distances);
        let of_others = self.query.code_distance(self.metric, top.bound());
        let mut bound = greatest.bound().min(of_others);
        for (group_index, group) in distances.list.chunks(GROUP).enumerate() {
            // Most are too far: they are looked at in groups that compilers compare with few instructions. What is no number, or too
            // large for one, tells nothing.
            let least_of_far = bound + self.margins.greatest;
            if group.iter().filter(|distance| **distance > least_of_far && **distance < f32::INFINITY).count()
                == group.len()
            {
                continue;
            }
            for (index, distance) in group.iter().enumerate() {
                let place = place_of(which, group_index * GROUP + index);
                let Some(record) = self.records.get(place) else { continue };
                let margin = self.query.margin(&self.margins, record);
                let mut least = distance - margin;
                if least.is_nan() || least == f32::INFINITY {
                    least = f32::NEG_INFINITY;
                }
                if least > bound {
                    continue;
                }
                let Some(row) = row_of(place) else { continue };
                waiting.push(Waiting { least, row });
                greatest.push(Hit { file_index: 0, row, distance: distance + margin });
                bound = greatest.bound().min(of_others);
            }
        }
        if waiting.len() >= WAITING_MAX {
            self.settle(scratch, top);
        }
    }

    /// Compares the vectors that may be among the nearest and offers them.
    pub fn settle(&self, scratch: &mut SieveScratch, top: &mut TopK) {
        let SieveScratch { greatest, waiting, rows, exact, compared_count, .. } = scratch;
        greatest.tighten();
        let bound = greatest.bound();
        waiting.retain(|waiting| waiting.least <= bound);
        waiting.sort_unstable_by(|left, right| left.least.total_cmp(&right.least).then(left.row.cmp(&right.row)));
        for some in waiting.chunks(SETTLED_AT_ONCE) {
            top.tighten();
            if some[0].least > self.query.code_distance(self.metric, top.bound()) {
                break;
            }
            rows.clear();
            rows.extend(some.iter().map(|waiting| waiting.row));
            self.exact.offer(rows, &self.target, exact, top);
            *compared_count += rows.len();
        }
        waiting.clear();
    }
}

/// The place of the `index`-th of some records.
#[inline]
pub(super) fn place_of(which: &Rows<'_>, index: usize) -> usize {
    match which {
        Rows::Range(range) => range.start + index,
        Rows::Listed(list) => list[index] as usize,
    }
}
