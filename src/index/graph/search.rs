//! Best-first search over the blocks, in place.
//!
//! The pool holds the nearest vertices known, sorted by estimated distance. The nearest that was not yet visited is visited: its
//! vector gives its distance, its neighbours' codes their estimates. It ends when the pool has been visited. In the end
//! the nearest few are computed from the vectors themselves, if they are at hand.

use super::GraphError;
use super::layout::{Graph, Shape};
use super::pool::Pool;
use super::space::Space;
use crate::index::{Hit, TopK};
use crate::kernel::{CodeKernels, Kernels, QueryTable, RowBlock, Rows, TableScale, round_to_words, tabulate};
use crate::types::{Bitmap, Metric};

/// Largest element of a 16-bit query of a moderate dimension: 14 bits are far finer than the codes they meet.
const QUERY_MAX: f32 = 8191.0;
/// Hits beyond `k` whose exact distances are computed: 8-bit distances seldom misplace a row by more.
const RERANK_SPARE: usize = 10;
/// Queries are told apart in the visited array by a byte.
const STAMP_MAX: u8 = u8::MAX;

/// What a search is asked for.
#[derive(Clone, Copy, Debug)]
pub struct SearchParameters<'a> {
    /// Hits wanted.
    pub k: usize,
    /// Size of the pool: more is slower and finds more. At least 1.
    pub ef: usize,
    /// Rows that may be hits, one bit per row of the graph; `None` for all. Others are only passed through.
    pub filter: Option<&'a Bitmap>,
    /// The vector column the graph was built from (little-endian `f32`, 4-byte aligned): with it distances are exact, to the
    /// bit those of a flat scan for L2 and IP; without, they are those of 8-bit codes.
    pub source: Option<&'a [u8]>,
    /// Goes into the hits.
    pub file_index: u32,
}

/// Memory that searches reuse: a byte per row, and what one query needs.
#[derive(Debug, Default)]
pub struct Scratch {
    stamps: Vec<u8>,
    stamp: u8,
    pool: Pool,
    pub(super) query: PlacedQuery,
    hits: Vec<Candidate>,
    rows: Vec<u32>,
    scores: Vec<f32>,
    norms: Vec<f32>,
    /// Vertices that the last search visited.
    pub visited_count: usize,
}

/// A vertex and its distance.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub distance: f32,
    pub id: u32,
}

impl Candidate {
    /// Nearest first, then by id.
    pub fn order(&self, other: &Candidate) -> std::cmp::Ordering {
        self.distance.total_cmp(&other.distance).then(self.id.cmp(&other.id))
    }
}

/// A query in the space of the graph, in the forms that the kernels take.
#[derive(Debug, Default)]
pub(super) struct PlacedQuery {
    rotated: Vec<f32>,
    words: Vec<i16>,
    word_scale: f32,
    table: Vec<u8>,
    table_scale: TableScale,
    squared_norm: f32,
}

impl PlacedQuery {
    pub fn place(&mut self, space: &Space<'_>, query: &[f32]) {
        self.rotated.resize(space.shape.code_dim, 0.0);
        self.squared_norm = space.place_query(query, &mut self.rotated);
        self.tabulate(space.shape);
    }

    /// A vertex as a query: its vector comes as codes.
    pub fn place_vertex(&mut self, shape: &Shape, codes: &[i8], scale: f32, squared_norm: f32) {
        self.rotated.clear();
        self.rotated.extend(codes.iter().map(|code| f32::from(*code) * scale));
        self.squared_norm = squared_norm;
        self.tabulate(shape);
    }

    fn tabulate(&mut self, shape: &Shape) {
        let most = self.rotated.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        // No sum of products with codes can leave 32 bits.
        let word_max = QUERY_MAX.min((i32::MAX / 127) as f32 / shape.code_dim as f32 - 1.0);
        let inverse = if most > 0.0 { word_max / most } else { 0.0 };
        self.word_scale = most / word_max;
        self.words.resize(shape.code_dim, 0);
        round_to_words(&self.rotated, inverse, &mut self.words);
        self.table.resize(shape.code_dim * 4, 0);
        self.table_scale = tabulate(&self.rotated, &mut self.table);
    }
}

impl Graph<'_> {
    /// Offers the rows nearest to `query` to `top`.
    ///
    /// # Errors
    /// When the query's length, the filter or the column does not fit the graph.
    pub fn search(
        &self,
        query: &[f32],
        parameters: SearchParameters<'_>,
        scratch: &mut Scratch,
        top: &mut TopK,
    ) -> Result<(), GraphError> {
        let SearchParameters { k, ef, filter, source, file_index } = parameters;
        if query.len() != self.shape.dim {
            return Err(GraphError::Mismatch("the query has another dimension"));
        }
        if filter.is_some_and(|filter| filter.row_count() != self.shape.row_count) {
            return Err(GraphError::Mismatch("the filter has another row count"));
        }
        if source.is_some_and(|source| source.len() / (self.shape.dim * 4) < self.shape.row_count) {
            return Err(GraphError::Mismatch("the vector column has fewer rows"));
        }
        let space = Space { shape: &self.shape, signs: self.signs, centre: self.centre };
        scratch.query.place(&space, query);
        let kept = k + if source.is_some() { RERANK_SPARE } else { 0 };
        let mut nearest = std::mem::take(&mut scratch.hits);
        nearest.clear();
        self.walk(ef.max(k), scratch, |found| {
            if filter.is_none_or(|filter| filter.get(found.id as usize)) {
                keep(&mut nearest, kept, found);
            }
        });
        match source {
            Some(source) => self.offer_exact(query, source, &nearest, file_index, scratch, top),
            None => {
                for found in &nearest {
                    let distance = self.user_distance(found.distance);
                    top.push(Hit { file_index, row: found.id, distance });
                }
            }
        }
        scratch.hits = nearest;
        Ok(())
    }

    /// Visits vertices around the placed query; `visit` gets each with its 8-bit distance.
    pub(super) fn walk(&self, ef: usize, scratch: &mut Scratch, mut visit: impl FnMut(Candidate)) {
        let kernels = CodeKernels::get();
        scratch.begin(self.shape.row_count, ef);
        let Scratch { stamps, stamp, pool, query, visited_count, .. } = scratch;
        pool.insert(f32::INFINITY, self.shape.entry);
        let mut estimates = [0.0; 32];
        while let Some(id) = pool.take_nearest() {
            let was_visited = std::mem::replace(&mut stamps[id as usize], *stamp) == *stamp;
            let Some(block) = self.block(id).filter(|_| !was_visited) else {
                continue;
            };
            *visited_count += 1;
            // Most often the next one is known already; what is not hidden now costs a memory access later.
            self.prefetch(kernels, pool.nearest());
            let product = kernels.dot_query(block.vector, &query.words) as f32 * (query.word_scale * block.scale);
            let distance = (query.squared_norm + block.squared_norm) - 2.0 * product;
            let table = QueryTable {
                entries: &query.table,
                scale: query.table_scale.scale,
                offset: query.table_scale.offset,
                base: distance,
            };
            let mut below = kernels.estimate(block.neighbours, table, pool.bound(), &mut estimates);
            while below != 0 {
                let index = below.trailing_zeros() as usize;
                below &= below - 1;
                let id = u32::from_le_bytes(block.ids[index]);
                if stamps.get(id as usize).is_some_and(|of_id| of_id != stamp) {
                    pool.insert(estimates[index], id);
                }
            }
            self.prefetch(kernels, pool.nearest());
            visit(Candidate { distance, id });
        }
    }

    /// Asks for the block of a vertex.
    #[inline]
    fn prefetch(&self, kernels: CodeKernels, id: Option<u32>) {
        if let Some(id) = id {
            let first = id as usize * self.block_bytes;
            if let Some(bytes) = self.blocks.get(first..first + self.block_bytes) {
                kernels.prefetch(bytes);
            }
        }
    }

    fn offer_exact(
        &self,
        query: &[f32],
        source: &[u8],
        nearest: &[Candidate],
        file_index: u32,
        scratch: &mut Scratch,
        top: &mut TopK,
    ) {
        let Scratch { rows, scores, norms, .. } = scratch;
        rows.clear();
        rows.extend(nearest.iter().map(|found| found.id));
        let Some(block) = RowBlock::new(source, self.shape.dim, Rows::Listed(rows)) else { return };
        for index in 0..block.len() {
            CodeKernels::get().prefetch(block.row_bytes(index));
        }
        scores.clear();
        scores.resize(rows.len(), 0.0);
        let kernels = Kernels::get();
        match self.shape.metric {
            Metric::L2 => kernels.squared_distances(query, &block, scores),
            Metric::Ip => {
                kernels.inner_products(query, &block, scores);
                scores.iter_mut().for_each(|score| *score = -*score);
            }
            Metric::Cosine => {
                norms.clear();
                norms.resize(rows.len(), 0.0);
                kernels.inner_products_and_norms(query, &block, scores, norms);
                let query_norm = super::space::dot(query, query).sqrt();
                for (score, norm) in scores.iter_mut().zip(norms.iter()) {
                    let norms = query_norm * norm.sqrt();
                    *score = if norms > 0.0 { -(*score / norms) } else { 0.0 };
                }
            }
        }
        for (row, distance) in rows.iter().zip(scores.iter()) {
            top.push(Hit { file_index, row: *row, distance: *distance });
        }
    }

    /// The metric's distance, smaller is nearer, from the Euclidean one in the space of the graph.
    fn user_distance(&self, distance: f32) -> f32 {
        match self.shape.metric {
            Metric::L2 => distance.max(0.0),
            Metric::Cosine => distance * 0.5 - 1.0,
            // Up to a constant of the query, which only the exact distances need.
            Metric::Ip => (distance - self.shape.squared_norm_max) * 0.5,
        }
    }
}

impl Scratch {
    /// Memory that grows as graphs need it.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    fn begin(&mut self, row_count: usize, ef: usize) {
        if self.stamps.len() != row_count || self.stamp == STAMP_MAX {
            self.stamps.clear();
            self.stamps.resize(row_count, 0);
            self.stamp = 0;
        }
        self.stamp += 1;
        self.pool.begin(ef);
        self.visited_count = 0;
    }
}

/// Keeps the `count` nearest, sorted by distance, then id.
#[inline]
fn keep(nearest: &mut Vec<Candidate>, count: usize, found: Candidate) {
    let is_before = |left: &Candidate, right: &Candidate| (left.distance, left.id) < (right.distance, right.id);
    if nearest.len() == count {
        if nearest.last().is_none_or(|last| !is_before(&found, last)) {
            return;
        }
        nearest.pop();
    }
    let place = nearest.partition_point(|other| is_before(other, &found));
    nearest.insert(place, found);
}
