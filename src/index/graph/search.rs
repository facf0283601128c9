//! Best-first search over the blocks, in place.
//!
//! A search begins in the parts of the space nearest to the query (`routes.rs`). The nearest vertex of a pool that was not yet
//! visited is visited: its vector gives its distance, its neighbours' codes their estimates, and while its block is read the
//! block of the next one is asked for. Under a filter, `gather.rs` says how that goes on. The vectors of what is near and was not visited
//! are looked at without their neighbours. In the end those that may be among the `k` nearest are computed from the vectors
//! themselves, if they are at hand.

use super::frontier::Frontier;
use super::layout::{Block, Graph, SCALARS_BYTES, Shape};
use super::pool::{MARK, Pool, key};
use super::space::Space;
use crate::index::exact::{ExactQuery, ExactScratch, Target, check_fit};
use crate::index::{Hit, IndexError, Queries, QueryValues, TopK, VectorColumn, flat};
use crate::kernel::{CodeKernels, NEIGHBOURS, QueryTable, TableScale, VectorRows, WORD_MAX, round_to_words, tabulate};
use crate::types::{Bitmap, Metric};

/// Candidates whose vectors are looked at although they are not visited: a fifth of a visit's cost, and near the end of a
/// search most of what can still be found (`shoal-bench ann` on 784 dimensions: a tenth more queries per second at equal recall).
pub(super) const SPARE: usize = 20;
/// One in so many of the visited is looked at besides, where that is more: where rows lie about equally far, estimates tell less.
const SPARE_PER_VISIT: usize = 4;
/// For each hit beyond so many, a number more are looked at: of many hits, more are not visited.
pub(super) const FEW_HITS: usize = 10;
pub(super) const SPARE_OF_HITS: usize = 2;
/// Vectors that are asked for before the first of them is read.
const LOOK_AHEAD: usize = 3;
/// How many of the nearest that were not visited are looked through for what to visit next.
const AHEAD: usize = 8;
/// Standard deviations of the error of an 8-bit distance by which a row may be misplaced before its exact distance is computed.
const RERANK_DEVIATIONS: f32 = 3.0;
/// Where 8-bit codes are too coarse to tell even this share of what was looked at from the `k` nearest, a search looks at twice as many, and
/// so on, so many times: rows in clusters that are narrow beside the distances between them. Elsewhere it is a third at most.
const BLURRED: [usize; 2] = [3, 4];
const DEEPER_MAX: usize = 3;
/// Queries are told apart by a byte per row, two values each.
const STAMPS: u8 = 2;

/// What a search is asked for.
#[derive(Clone, Copy, Debug)]
pub struct SearchParameters<'a> {
    /// Hits wanted.
    pub k: usize,
    /// Size of the pool: more is slower and finds more. At least 1.
    pub ef: usize,
    /// Rows that may be hits, one bit per row of the graph; `None` for all. Others are only passed through.
    pub filter: Option<&'a Bitmap>,
    /// The vector column the graph was built from: with it distances are exact, to the bit those of a flat scan; without, they are
    /// those of 8-bit codes.
    pub source: Option<VectorRows<'a>>,
    /// Goes into the hits.
    pub file_index: u32,
}

/// Memory that searches reuse: a byte per row, and what one query needs.
#[derive(Debug, Default)]
pub struct Scratch {
    pub(super) stamps: Vec<u8>,
    /// The first of the stamps of the search.
    pub(super) known: u8,
    pub(super) pool: Pool,
    /// Wanted rows.
    pub(super) seen: Pool,
    /// Wanted rows that were visited.
    pub(super) found: Pool,
    pub(super) frontier: Frontier,
    pub(super) query: PlacedQuery,
    nearest: Vec<Candidate>,
    pub(super) rows: Vec<u32>,
    exact: ExactScratch,
    /// A query that a column is scanned with.
    values: QueryValues,
    /// Vertices that the last search visited.
    pub visited_count: usize,
    /// The coarsest vector that the last search visited.
    pub(super) scale_max: f32,
}

/// How far a walk goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Candidates that are visited.
    pub ef: usize,
    /// Candidates that are kept besides.
    pub spare: usize,
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

    /// The squared distance of the query and a vertex, by the vertex's 8-bit codes; meanwhile, `ahead` is asked for.
    #[inline]
    pub fn distance(&self, kernels: CodeKernels, block: &Block<'_>, ahead: &[u8]) -> f32 {
        let product = kernels.dot_query(block.vector, &self.words, ahead) as f32 * (self.word_scale * block.scale);
        (self.squared_norm + block.squared_norm) - 2.0 * product
    }

    /// Estimates the distances of the neighbours of a vertex, whose own is `base`; the bits tell which are below `bound`. Meanwhile,
    /// `ahead` is asked for.
    #[inline]
    pub fn estimate(
        &self,
        kernels: CodeKernels,
        block: &Block<'_>,
        base: f32,
        bound: f32,
        ahead: &[u8],
        out: &mut [f32; 32],
    ) -> u32 {
        let TableScale { scale, offset } = self.table_scale;
        kernels.estimate(block.neighbours, QueryTable { entries: &self.table, scale, offset, base, ahead }, bound, out)
    }

    /// The standard deviation of the error of a `distance` of [`PlacedQuery::distance`]: rounding errs evenly up to half a step, that of a
    /// row along the difference to it, that of the query along the row.
    fn error(&self, scale: f32, distance: f32) -> f32 {
        let of_row = distance.max(0.0).sqrt() * scale;
        let of_query = self.squared_norm.max(0.0).sqrt() * self.word_scale;
        2.0 / 12f32.sqrt() * (of_row + of_query)
    }

    fn tabulate(&mut self, shape: &Shape) {
        let most = largest(&self.rotated);
        // No sum of products with codes can leave 32 bits.
        let word_max = WORD_MAX.min((i32::MAX / 127) as f32 / shape.code_dim as f32 - 1.0);
        let inverse = if most > 0.0 { word_max / most } else { 0.0 };
        self.word_scale = most / word_max;
        self.words.resize(shape.code_dim, 0);
        round_to_words(&self.rotated, inverse, &mut self.words);
        self.table.resize(shape.code_dim * 4, 0);
        self.table_scale = tabulate(&self.words, self.word_scale, &mut self.table);
    }
}

/// The largest size of an element; lane by lane, which a compiler makes few instructions of.
fn largest(values: &[f32]) -> f32 {
    let mut most = [0.0f32; 16];
    for values in values.as_chunks::<16>().0 {
        for (most, value) in most.iter_mut().zip(values) {
            *most = if value.abs() > *most { value.abs() } else { *most };
        }
    }
    most.into_iter().fold(0.0, f32::max)
}

/// A block that is read next, in the parts that are asked for while the vector and the codes of another are read: asked for all at
/// once, it would take twice as long (784 dimensions).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NextBlock<'a> {
    pub beside_vector: &'a [u8],
    pub beside_codes: &'a [u8],
}

/// What a walk of one query has met. A stamp is greater the more is known of a vertex.
#[derive(Debug)]
pub(super) struct Met<'s> {
    stamps: &'s mut [u8],
    /// The vertex was seen.
    seen: u8,
}

impl<'s> Met<'s> {
    /// More rows than `row_count` are other graphs'.
    pub fn new(stamps: &'s mut [u8], seen: u8, row_count: usize) -> Met<'s> {
        Met { stamps: &mut stamps[..row_count], seen }
    }

    /// Takes note of a vertex. Whether it was never seen, or not chosen if it `may_return`; and whether it was seen before. Not the
    /// first of one that does not exist.
    #[inline(always)]
    pub fn see(&mut self, id: u32, may_return: bool) -> (bool, bool) {
        let Some(of_id) = self.stamps.get_mut(id as usize) else { return (false, false) };
        let was = *of_id;
        *of_id = was.max(self.seen);
        (was < self.seen + u8::from(may_return), was >= self.seen)
    }

    /// Takes note that the vertex was chosen: its block is asked for, or read.
    #[inline(always)]
    pub fn choose(&mut self, id: u32) {
        self.stamps[id as usize] = self.seen + 1;
    }

    #[inline(always)]
    pub fn is_chosen(&self, id: u32) -> bool {
        self.stamps[id as usize] > self.seen
    }
}

/// What a walk has read last, and what it needs to read on.
pub(super) struct Reading<'s, 'g> {
    pub graph: &'s Graph<'g>,
    pub kernels: CodeKernels,
    pub met: Met<'s>,
    query: &'s PlacedQuery,
    /// Those of neighbours that were new.
    pub keys: [u64; NEIGHBOURS],
    estimates: [f32; NEIGHBOURS],
}

impl<'s, 'g> Reading<'s, 'g> {
    pub fn new(graph: &'s Graph<'g>, met: Met<'s>, query: &'s PlacedQuery) -> Reading<'s, 'g> {
        let (keys, estimates) = ([0; NEIGHBOURS], [0.0; NEIGHBOURS]);
        Reading { graph, kernels: CodeKernels::get(), met, query, keys, estimates }
    }

    /// Gives the distance of a block's vector, and how many of its neighbours are nearer than `bound` and were never seen, or not
    /// chosen if they `may_return`: so many of `keys` are theirs, marked when they return. Meanwhile `next` is asked for.
    #[inline(always)]
    pub fn read(&mut self, block: &Block<'_>, bound: f32, may_return: bool, next: NextBlock<'_>) -> (f32, usize) {
        // By when the estimates are there, these have arrived.
        self.kernels.prefetch_at(self.met.stamps, block.ids);
        let distance = self.query.distance(self.kernels, block, next.beside_vector);
        let out = &mut self.estimates;
        let mut below = self.query.estimate(self.kernels, block, distance, bound, next.beside_codes, out);
        // Which are known is unforeseeable: they are sorted out without a branch.
        let mut count = 0;
        while below != 0 {
            let index = below.trailing_zeros() as usize % NEIGHBOURS;
            below &= below - 1;
            let (estimate, id) = (self.estimates[index], u32::from_le_bytes(block.ids[index]));
            let (is_listed, returns) = self.met.see(id, may_return);
            self.keys[count % NEIGHBOURS] = key(estimate, id) | (u64::from(returns) * MARK);
            count += usize::from(is_listed);
        }
        (distance, count)
    }
}

/// What a walk changes at every step.
struct Walk<'s, 'g> {
    reading: Reading<'s, 'g>,
    pool: &'s mut Pool,
}

impl<'g> Walk<'_, 'g> {
    /// Puts the neighbours of a block into the pool and gives the distance of its vector.
    #[inline(always)]
    fn follow(&mut self, block: &Block<'_>) -> f32 {
        let next = self.next_block();
        let (distance, count) = self.reading.read(block, self.pool.bound(), false, next);
        self.pool.insert_all(&mut self.reading.keys[..count]);
        distance
    }

    /// The nearest to be visited whose block was not asked for.
    #[inline(always)]
    fn next_block(&mut self) -> NextBlock<'g> {
        let Reading { graph, kernels, met, .. } = &mut self.reading;
        let next = self.pool.ahead().take(AHEAD).find(|id| !met.is_chosen(*id));
        next.map_or_else(NextBlock::default, |id| {
            met.choose(id);
            graph.next_block(*kernels, id)
        })
    }

    /// Takes the nearest to be visited whose block was asked for, or the nearest when there is none: while it is read, the
    /// block of that one arrives.
    #[inline(always)]
    fn take(&mut self) -> Option<u32> {
        let asked = self.pool.ahead().take(AHEAD).position(|id| self.reading.met.is_chosen(id));
        self.pool.take(asked.unwrap_or(0))
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
    ) -> Result<(), IndexError> {
        let SearchParameters { k, ef, filter, source, file_index } = parameters;
        self.check(query, filter, source)?;
        let space = Space { shape: &self.shape, signs: self.signs, centre: self.centre };
        scratch.query.place(&space, query);
        let mut nearest = std::mem::take(&mut scratch.nearest);
        nearest.clear();
        let matching = filter.map_or(self.shape.row_count, Bitmap::count_ones);
        let filter = filter.filter(|_| matching < self.shape.row_count);
        let by_column = source.filter(|source| self.is_column_cheaper(source));
        let plan = self.plan(k, ef.max(k), matching);
        if !self.collect_wanted(k, plan, by_column.is_none(), filter, scratch, &mut nearest) {
            scratch.nearest = nearest;
            by_column.into_iter().for_each(|source| self.scan_column(query, source, &parameters, scratch, top));
            return Ok(());
        }
        let seen = nearest.len();
        let margin = |distance| if source.is_some() { scratch.margin(distance) } else { 0.0 };
        keep_nearest(&mut nearest, k, margin);
        if source.is_some() && filter.is_none() {
            self.look_deeper(k, ef.max(k), seen, scratch, &mut nearest);
        }
        self.offer(query, source, &nearest, file_index, scratch, top);
        scratch.nearest = nearest;
        Ok(())
    }

    /// Walks farther while nearly all of the candidates of a walk, of which `nearest` are left, may be among the `k` nearest.
    fn look_deeper(&self, k: usize, ef: usize, mut seen: usize, scratch: &mut Scratch, nearest: &mut Vec<Candidate>) {
        for deeper in 1..=DEEPER_MAX {
            let is_blurred = seen > k + SPARE / 2 && nearest.len() * BLURRED[1] > seen * BLURRED[0];
            if !is_blurred || ef << deeper > self.shape.row_count {
                return;
            }
            nearest.clear();
            self.gather_all(k, ef << deeper, scratch, nearest);
            seen = nearest.len();
            keep_nearest(nearest, k, |distance| scratch.margin(distance));
        }
    }

    /// Offers the wanted rows of a column.
    fn scan_column(
        &self,
        query: &[f32],
        source: VectorRows<'_>,
        parameters: &SearchParameters<'_>,
        scratch: &mut Scratch,
        top: &mut TopK,
    ) {
        if let QueryValues::Dense(values) = &mut scratch.values {
            values.clear();
            values.extend_from_slice(query);
        }
        let queries = Queries::borrowed(self.shape.dim, self.shape.metric, &scratch.values);
        let (rows, vectors) = (0..self.shape.row_count, VectorColumn::Dense(source));
        let SearchParameters { filter, file_index, .. } = *parameters;
        flat::scan(&queries, vectors, rows, filter, None, file_index, std::slice::from_mut(top));
    }

    /// Whether query, filter and column fit the graph.
    pub(super) fn check(
        &self,
        query: &[f32],
        filter: Option<&Bitmap>,
        source: Option<VectorRows<'_>>,
    ) -> Result<(), IndexError> {
        check_fit(self.shape.dim, self.shape.row_count, query, filter, source)
    }

    /// Adds the rows of a vertex. More than `k` of them, which are equally near, cannot be hits.
    #[inline]
    pub(super) fn add_rows(&self, found: Candidate, k: usize, filter: Option<&Bitmap>, nearest: &mut Vec<Candidate>) {
        let rows = self.twins(found.id).filter(|row| filter.is_none_or(|filter| filter.get(*row as usize)));
        nearest.extend(rows.take(k).map(|id| Candidate { id, ..found }));
    }

    /// Computes the 8-bit distances of the vertices in `scratch.rows`.
    pub(super) fn look_at(&self, scratch: &mut Scratch, add: &mut impl FnMut(Candidate)) {
        let kernels = CodeKernels::get();
        let Scratch { query, rows, .. } = scratch;
        let vector_of = |row: Option<&u32>| {
            let bytes = row.and_then(|row| self.bytes_of(*row)).unwrap_or(&[]);
            &bytes[..bytes.len().min(self.shape.code_dim + SCALARS_BYTES)]
        };
        (0..LOOK_AHEAD).for_each(|index| kernels.prefetch(vector_of(rows.get(index))));
        for (index, row) in rows.iter().enumerate() {
            if let Some(block) = self.block(*row) {
                let ahead = vector_of(rows.get(index + LOOK_AHEAD));
                add(Candidate { distance: query.distance(kernels, &block, ahead), id: *row });
            }
        }
    }

    /// Collects what may be among the `k` nearest of all rows, with 8-bit distances. All of the `reach` nearest are visited; of some
    /// behind them the vectors are looked at.
    pub(super) fn gather_all(&self, k: usize, reach: usize, scratch: &mut Scratch, nearest: &mut Vec<Candidate>) {
        let spare = (SPARE / 2).max(reach / SPARE_PER_VISIT);
        let kept = (reach + spare).max(k + SPARE) + k.saturating_sub(FEW_HITS) * SPARE_OF_HITS;
        let reach = Reach { ef: reach, spare: kept - reach };
        self.walk(reach, scratch, &mut |found| self.add_rows(found, k, None, nearest));
        let Scratch { pool, rows, .. } = scratch;
        rows.clear();
        rows.extend(pool.rest());
        self.look_at(scratch, &mut |found| self.add_rows(found, k, None, nearest));
    }

    /// Visits vertices around the placed query.
    pub(super) fn walk(&self, reach: Reach, scratch: &mut Scratch, visit: &mut impl FnMut(Candidate)) {
        scratch.begin(self.shape.row_count);
        scratch.pool.begin(reach.ef, reach.spare);
        let Scratch { stamps, known, pool, query, visited_count, scale_max, .. } = scratch;
        let reading = Reading::new(self, Met::new(stamps, *known, self.shape.row_count), query);
        let mut walk = Walk { reading, pool };
        for (part, middle) in self.near_parts(CodeKernels::get(), query) {
            let distance = walk.follow(&part);
            if walk.reading.met.see(middle, false).0 {
                walk.pool.insert(distance, middle);
            }
        }
        while let Some(id) = walk.take() {
            let Some(block) = self.block(id) else { continue };
            *visited_count += 1;
            *scale_max = scale_max.max(block.scale);
            visit(Candidate { distance: walk.follow(&block), id });
        }
    }
}

impl<'g> Graph<'g> {
    /// The block of a vertex, to be asked for while another is read. Short vectors leave no time for all of it: the rest is asked for
    /// at once.
    #[inline]
    pub(super) fn next_block(&self, kernels: CodeKernels, id: u32) -> NextBlock<'g> {
        let bytes = self.bytes_of(id).unwrap_or(&[]);
        let (head, beside_codes) = bytes.split_at(bytes.len().min(self.shape.head_bytes()));
        let (beside_vector, rest) = head.split_at(head.len().min(self.shape.code_dim * 2));
        kernels.prefetch(rest);
        NextBlock { beside_vector, beside_codes }
    }
}

impl Graph<'_> {
    /// Offers candidates to `top`: with exact distances, or with those they have when the column is not at hand.
    pub(super) fn offer(
        &self,
        query: &[f32],
        source: Option<VectorRows<'_>>,
        nearest: &[Candidate],
        file_index: u32,
        scratch: &mut Scratch,
        top: &mut TopK,
    ) {
        let Some(source) = source else {
            // The lift of a row hides the query's own norm in its distances.
            let query_norm = if self.shape.metric == Metric::Ip { super::space::dot(query, query) } else { 0.0 };
            for found in nearest {
                top.push(Hit { file_index, row: found.id, distance: self.user_distance(found.distance, query_norm) });
            }
            return;
        };
        let Ok(query) = ExactQuery::new(self.shape.metric, query, source) else { return };
        let Scratch { rows, exact, .. } = scratch;
        rows.clear();
        rows.extend(nearest.iter().map(|found| found.id));
        rows.iter().for_each(|row| query.prefetch(*row));
        query.offer(rows, &Target { file_index, range: None }, exact, top);
    }

    /// The metric's distance, smaller is nearer, from the Euclidean one in the space of the graph.
    fn user_distance(&self, distance: f32, query_norm: f32) -> f32 {
        match self.shape.metric {
            Metric::L2 | Metric::Hamming | Metric::Jaccard => distance.max(0.0),
            Metric::Cosine => distance * 0.5 - 1.0,
            Metric::Ip => (distance - self.shape.squared_norm_max - query_norm) * 0.5,
        }
    }
}

impl Scratch {
    /// Memory that grows as graphs need it.
    pub fn new() -> Scratch {
        Scratch::default()
    }

    /// How far an 8-bit distance of the last search may be off.
    pub(super) fn margin(&self, distance: f32) -> f32 {
        self.query.error(self.scale_max, distance) * RERANK_DEVIATIONS
    }

    pub(super) fn begin(&mut self, row_count: usize) {
        match self.known.checked_add(2 * STAMPS - 1) {
            // Both values of the next search are left.
            Some(_) => self.known += STAMPS,
            None => {
                self.stamps.fill(0);
                self.known = 1;
            }
        }
        if self.stamps.len() < row_count {
            self.stamps.resize(row_count, 0);
        }
        self.scale_max = 0.0;
        self.visited_count = 0;
    }
}

/// Keeps the `count` nearest and those that are farther than the last of them by no more than a margin, which its distance gives.
pub(super) fn keep_nearest(nearest: &mut Vec<Candidate>, count: usize, margin: impl Fn(f32) -> f32) {
    nearest.retain(|candidate| !candidate.distance.is_nan());
    if nearest.len() > count && count > 0 {
        let (_, last, _) = nearest.select_nth_unstable_by(count - 1, Candidate::order);
        let last = *last;
        let margin = margin(last.distance);
        let is_kept = |other: &Candidate| {
            other.order(&last).is_le() || (margin > 0.0 && other.distance <= last.distance + margin)
        };
        nearest.retain(is_kept);
    }
}
