//! Exact search: one pass over contiguous rows serves many queries.

use std::ops::Range;

use super::TopK;
use crate::types::{Bitmap, Metric};

/// Queries of one search, prepared once (f32; norms for COSINE) and used on every file.
#[derive(Clone, Debug)]
pub struct Queries {
    /// Elements of one query.
    pub dim: usize,
    /// How rows are compared.
    pub metric: Metric,
    /// `nq x dim` values.
    pub values: Vec<f32>,
}

/// Which distances are wanted, in "smaller is nearer" form (see [`super::Hit`]): `low <= distance < high`.
#[derive(Clone, Copy, Debug)]
pub struct DistanceRange {
    /// Inclusive.
    pub low: f32,
    /// Exclusive.
    pub high: f32,
}

/// Scans rows of one vector column (`f32`, little-endian, `dim` per row, 4-byte aligned) and offers each row whose bit is
/// set (all rows when `filter` is `None`) to `tops[query]` with its distance. `rows` are rows of the file; `filter` has one
/// bit per row of the file; `file_index` goes into the hits.
///
/// A zero vector has cosine 0 to everything.
pub fn scan(
    queries: &Queries,
    vectors: &[u8],
    rows: Range<usize>,
    filter: Option<&Bitmap>,
    range: Option<DistanceRange>,
    file_index: u32,
    tops: &mut [TopK],
) {
    let _ = (queries, vectors, rows, filter, range, file_index, tops);
    todo!()
}
