//! Exact search: one pass over contiguous rows serves many queries.
//!
//! Rows are taken in blocks that stay in the L2 cache while all queries pass over them; a filter's rows are listed, so that
//! only they are computed. A hit's distance depends on the query and the row alone, to the bit: not on how many queries a
//! search has, on its filter or its files (`kernel`'s invariant), so a repeated search repeats its scores.

use std::cell::Cell;
use std::ops::Range;

use super::{Hit, Queries, QueryValues, TopK, VectorColumn};
use crate::kernel::{BitKernels, Kernels, QUERY_TILE, RowBlock, Rows, VectorElement, VectorRows};
use crate::types::{Bitmap, Metric};

/// Bytes of a block of rows: with the queries of a tile well within an L2 cache of 512 KiB or more.
const BLOCK_BYTES: usize = 256 << 10;
/// Fewest rows of a block: whole tiles even of the longest vectors.
const BLOCK_ROWS_MIN: usize = 16;
/// Most rows of a block: their distances to a tile of queries stay in the L1 cache.
const BLOCK_ROWS_MAX: usize = 1024;
/// What picking a row from a list costs, as bytes of a plain scan (`benches/flat_scan.rs`, filters of 50 % and 90 %).
const LISTED_ROW_BYTES: usize = 256;
/// Squared norms between these bounds neither overflow nor lose precision in `f32`; cosines of other vectors are
/// computed in double precision.
const PLAIN_SQUARED_NORMS: Range<f32> = 1e-18..1e18;

/// Which distances are wanted, in "smaller is nearer" form (see [`super::Hit`]): `low <= distance < high`.
#[derive(Clone, Copy, Debug)]
pub struct DistanceRange {
    /// Inclusive.
    pub low: f32,
    /// Exclusive.
    pub high: f32,
}

/// Scans rows of one vector column and offers each row whose bit is set (all rows when `filter` is `None`) to `tops[query]`
/// with its distance. `rows` are rows of the file; `filter` has one bit per row of the file; `file_index` goes into the hits.
/// Rows that the column or `filter` do not reach are not looked at, nor are columns that the queries do not fit.
///
/// A zero vector has cosine 0 to everything.
pub fn scan(
    queries: &Queries<'_>,
    column: VectorColumn<'_>,
    rows: Range<usize>,
    filter: Option<&Bitmap>,
    range: Option<DistanceRange>,
    file_index: u32,
    tops: &mut [TopK],
) {
    let (kind, vectors) = match (column, &*queries.values) {
        (VectorColumn::Dense(rows), QueryValues::Dense(values)) => (Kind::Dense(values), rows),
        (VectorColumn::Bits(rows), QueryValues::Bits(bytes)) => (Kind::Bits(bytes), rows),
        _ => return,
    };
    let fits = match kind {
        Kind::Dense(_) => queries.dim == vectors.dim,
        Kind::Bits(_) => queries.dim / 8 == vectors.dim,
    };
    if !fits || vectors.dim == 0 || tops.is_empty() || queries.count() < tops.len() {
        return;
    }
    let end = rows.end.min(vectors.len()).min(u32::MAX as usize);
    let block_rows = (BLOCK_BYTES / vectors.row_bytes()).clamp(BLOCK_ROWS_MIN, BLOCK_ROWS_MAX);
    let mut scan = Scan::new(queries, kind, vectors, range, file_index, tops, block_rows);
    let mut list = std::mem::take(&mut scan.memory.list);
    match filter {
        None => {
            for first in (rows.start..end).step_by(block_rows) {
                scan.offer_block(Rows::Range(first..end.min(first + block_rows)), None);
            }
        }
        Some(filter) => {
            for_each_list(filter, rows.start..end, block_rows, &mut list, |list| scan.offer_list(list, filter));
        }
    }
    MEMORY.set(Memory { list, ..scan.memory });
}

/// Calls `take` with the set rows of `rows`, `list_rows` at a time, ascending; `list` is memory for them.
fn for_each_list(
    filter: &Bitmap,
    rows: Range<usize>,
    list_rows: usize,
    list: &mut Vec<u32>,
    mut take: impl FnMut(&[u32]),
) {
    let end = rows.end.min(filter.row_count());
    list.clear();
    list.reserve(list_rows);
    for index in rows.start / 64..end.div_ceil(64) {
        let first = index * 64;
        let mut word = filter.words()[index];
        if first < rows.start {
            word &= u64::MAX << (rows.start - first);
        }
        if first + 64 > end {
            word &= u64::MAX >> (first + 64 - end);
        }
        while word != 0 {
            list.push((first + word.trailing_zeros() as usize) as u32);
            word &= word - 1;
            if list.len() == list_rows {
                take(list);
                list.clear();
            }
        }
    }
    if !list.is_empty() {
        take(list);
    }
}

/// Query vectors that fit the column.
#[derive(Clone, Copy)]
enum Kind<'a> {
    Dense(&'a [f32]),
    Bits(&'a [u8]),
}

/// One call of [`scan`]: what all blocks share, and memory that they reuse.
struct Scan<'a> {
    kernels: Kernels,
    metric: Metric,
    kind: Kind<'a>,
    vectors: VectorRows<'a>,
    range: Option<DistanceRange>,
    file_index: u32,
    tops: &'a mut [TopK],
    memory: Memory,
}

/// Memory that the scans of one thread reuse.
#[derive(Default)]
struct Memory {
    /// For COSINE, 1 / norm of each query; see [`inverse_norm`].
    query_inverse_norms: Vec<f32>,
    /// For COSINE, 1 / norm of each row of the block.
    row_inverse_norms: Vec<f32>,
    /// Distances of a tile of queries to the rows of a block, query by query.
    distances: Vec<f32>,
    /// Rows that are picked.
    list: Vec<u32>,
}

thread_local! {
    static MEMORY: Cell<Memory> = Cell::default();
}

impl<'a> Scan<'a> {
    fn new(
        queries: &'a Queries<'_>,
        kind: Kind<'a>,
        vectors: VectorRows<'a>,
        range: Option<DistanceRange>,
        file_index: u32,
        tops: &'a mut [TopK],
        block_rows: usize,
    ) -> Scan<'a> {
        let mut memory = MEMORY.take();
        let is_cosine = queries.metric == Metric::Cosine;
        memory.query_inverse_norms.clear();
        if is_cosine {
            put_inverse_norms(queries, &mut memory.query_inverse_norms);
        }
        memory.row_inverse_norms.resize(if is_cosine { block_rows } else { 0 }, 0.0);
        memory.distances.resize(block_rows * tops.len().min(QUERY_TILE), 0.0);
        Scan { kernels: Kernels::get(), metric: queries.metric, kind, vectors, range, file_index, tops, memory }
    }

    /// Offers listed rows, ascending: as ranges where that is less work than picking them.
    fn offer_list(&mut self, list: &[u32], filter: &Bitmap) {
        let (Some(first), Some(last)) = (list.first(), list.last()) else { return };
        let span = *first as usize..*last as usize + 1;
        if span.len() == list.len() {
            return self.offer_block(Rows::Range(span), None);
        }
        let row_bytes = self.vectors.row_bytes();
        // One query is bound by memory, many by arithmetic: those compute no row in vain.
        if self.tops.len() > 1 || list.len() * (row_bytes + LISTED_ROW_BYTES) < span.len() * row_bytes {
            return self.offer_block(Rows::Listed(list), None);
        }
        // The span may be longer than the list, for which there is room.
        for start in span.clone().step_by(list.len()) {
            self.offer_block(Rows::Range(start..span.end.min(start + list.len())), Some(filter));
        }
    }

    /// Computes the distances of all queries to a block's rows and offers those whose bit is set.
    fn offer_block(&mut self, rows: Rows<'_>, filter: Option<&Bitmap>) {
        // Ranges and lists were cut to the column above, so there is always a block.
        let Some(block) = self.vectors.block(rows) else { return };
        if self.metric == Metric::Cosine && self.tops.len() > 1 {
            let norms = &mut self.memory.row_inverse_norms[..block.len()];
            self.kernels.squared_norms(&block, norms);
            norms.iter_mut().for_each(|norm| *norm = inverse_norm(*norm));
        }
        for first in (0..self.tops.len()).step_by(QUERY_TILE) {
            let tile = first..self.tops.len().min(first + QUERY_TILE);
            match self.kind {
                Kind::Dense(values) => self.dense_distances(values, tile.clone(), &block),
                Kind::Bits(bytes) => self.bit_distances(bytes, tile.clone(), &block),
            }
            let range = self.range;
            for (top, distances) in self.tops[tile].iter_mut().zip(self.memory.distances.chunks_exact(block.len())) {
                let is_wanted = |row, distance: f32| {
                    filter.is_none_or(|filter| filter.get(row))
                        && range.is_none_or(|range| range.low <= distance && distance < range.high)
                };
                offer(top, self.file_index, &block, distances, is_wanted);
            }
        }
    }

    /// Distances of a tile of queries to a block's rows.
    fn dense_distances(&mut self, values: &[f32], tile: Range<usize>, block: &RowBlock<'_>) {
        let queries = &values[tile.start * block.dim()..tile.end * block.dim()];
        let distances = &mut self.memory.distances[..tile.len() * block.len()];
        match self.metric {
            Metric::Ip => {
                self.kernels.inner_products(queries, block, distances);
                distances.iter_mut().for_each(|distance| *distance = -*distance);
            }
            Metric::Cosine => {
                let norms = &mut self.memory.row_inverse_norms[..block.len()];
                if self.tops.len() == 1 {
                    self.kernels.inner_products_and_norms(queries, block, distances, norms);
                    norms.iter_mut().for_each(|norm| *norm = inverse_norm(*norm));
                } else {
                    self.kernels.inner_products(queries, block, distances);
                }
                negate_cosines(queries, block, &self.memory.query_inverse_norms[tile], norms, distances);
            }
            Metric::L2 | Metric::Hamming | Metric::Jaccard => {
                self.kernels.squared_distances(queries, block, distances);
            }
        }
    }

    /// As [`Scan::dense_distances`], of binary vectors.
    fn bit_distances(&mut self, bytes: &[u8], tile: Range<usize>, block: &RowBlock<'_>) {
        let queries = bytes[tile.start * block.dim()..tile.end * block.dim()].chunks_exact(block.dim());
        for (query, distances) in queries.zip(self.memory.distances.chunks_exact_mut(block.len())) {
            match self.metric {
                Metric::Jaccard => BitKernels::get().jaccard_distances(query, block, distances),
                _ => BitKernels::get().hamming_distances(query, block, distances),
            }
        }
    }
}

/// Turns the inner products of a tile of queries with a block's rows into negated cosines.
pub(super) fn negate_cosines(
    queries: &[f32],
    block: &RowBlock<'_>,
    query_inverse_norms: &[f32],
    row_inverse_norms: &[f32],
    products: &mut [f32],
) {
    let is_plain = row_inverse_norms.iter().all(|norm| !norm.is_nan());
    let tile = queries.chunks_exact(block.dim()).zip(query_inverse_norms);
    for ((query, query_norm), products) in tile.zip(products.chunks_exact_mut(block.len())) {
        for (product, row_norm) in products.iter_mut().zip(row_inverse_norms) {
            // Rounding may go past 1; cosines do not.
            *product = -(*product * query_norm * row_norm).clamp(-1.0, 1.0);
        }
        if !is_plain || query_norm.is_nan() {
            let mut row = vec![0.0; block.dim()];
            for (index, product) in products.iter_mut().enumerate() {
                if query_norm.is_nan() || row_inverse_norms[index].is_nan() {
                    block.widen(index, &mut row);
                    *product = -precise_cosine(query, &row);
                }
            }
        }
    }
}

/// Offers the distances of one query to a block's rows.
fn offer(
    top: &mut TopK,
    file_index: u32,
    block: &RowBlock<'_>,
    distances: &[f32],
    is_wanted: impl Fn(usize, f32) -> bool,
) {
    // Most distances are too far: they are looked at in groups that compilers compare with few instructions.
    const GROUP: usize = 16;
    for (group_index, group) in distances.chunks(GROUP).enumerate() {
        let bound = top.bound();
        if group.iter().filter(|distance| **distance <= bound).count() == 0 {
            continue;
        }
        for (index, &distance) in group.iter().enumerate() {
            let row = block.row(group_index * GROUP + index);
            if distance <= top.bound() && is_wanted(row, distance) {
                top.push(Hit { file_index, row: row as u32, distance });
            }
        }
    }
}

/// 1 / norm, or not-a-number for what needs [`precise_cosine`]: zero vectors and those whose squares leave `f32`.
pub(super) fn inverse_norm(squared_norm: f32) -> f32 {
    if PLAIN_SQUARED_NORMS.contains(&squared_norm) { 1.0 / squared_norm.sqrt() } else { f32::NAN }
}

/// The inverse norms of the queries, by the same kernel as those of the rows.
fn put_inverse_norms(queries: &Queries<'_>, norms: &mut Vec<f32>) {
    let bytes = bytemuck::cast_slice(queries.dense_values());
    let count = queries.count();
    norms.clear();
    norms.resize(count, 0.0);
    let rows = VectorRows { bytes, dim: queries.dim, element: VectorElement::F32 };
    if let Some(block) = rows.block(Rows::Range(0..count)) {
        Kernels::get().squared_norms(&block, norms);
    }
    norms.iter_mut().for_each(|norm| *norm = inverse_norm(*norm));
}

/// The cosine in double precision; 0 when a vector is zero.
fn precise_cosine(query: &[f32], row: &[f32]) -> f32 {
    let (mut product, mut query_square, mut row_square) = (0.0f64, 0.0f64, 0.0f64);
    for (query, row) in query.iter().zip(row) {
        let (query, row) = (f64::from(*query), f64::from(*row));
        product += query * row;
        query_square += query * query;
        row_square += row * row;
    }
    if query_square == 0.0 || row_square == 0.0 {
        return 0.0;
    }
    (product / (query_square.sqrt() * row_square.sqrt())).clamp(-1.0, 1.0) as f32
}

#[cfg(test)]
mod tests;
