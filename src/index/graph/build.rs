//! From vectors to an image: first neighbours from random partitions, then rounds in which every vertex searches the graph for
//! itself, chooses neighbours among what it met, and offers itself to them. A round reads the graph of the round
//! before, so that threads change nothing in the outcome.

use super::connect::Connector;
use super::crowding;
use super::encode::{BlockBits, Row, Vectors};
use super::layout::{Graph, Parts, Shape};
use super::partition::Tree;
use super::prune::{Neighbours, Pruner};
use super::routes::Routes;
use super::search::{Candidate, Reach, Scratch};
use super::space::{Space, lift_row, mix, write_signs};
use super::workers::for_each_piece;
use crate::index::IndexError;
use crate::kernel::{CODE_DIM_STEP, CODE_PLANES_MAX, NEIGHBOURS, VectorRows};
use crate::types::Metric;

/// Rows that a thread takes at once.
const PIECE_ROWS: usize = 64;
/// Shorter codes estimate too badly: a dimension has more than one bit then.
const CODE_BITS_MIN: usize = 128;
/// Most bits of a code that are chosen for data whose rows are hard to tell apart: codes of neighbours are most of an index.
const CODE_BITS_MAX: usize = 512;
/// Ids leave their top bit to the search.
const ROW_COUNT_MAX: usize = 1 << 31;

/// How a graph is built.
#[derive(Clone, Copy, Debug)]
pub struct BuildParameters {
    /// How vectors are compared.
    pub metric: Metric,
    /// Elements of a vector.
    pub dim: usize,
    /// Bits of a neighbour's code, rounded up to whole bits per dimension, at most 4; 0 for what suits the dimension and the vectors.
    /// More make estimates finer and blocks larger.
    pub code_bits: usize,
    /// Pool of the searches of a round: more takes longer and finds better neighbours.
    pub ef_construction: usize,
    /// Rounds of searches after the first neighbours.
    pub rounds: usize,
    /// Random partitions for the first neighbours.
    pub trees: usize,
    /// How much nearer, as a factor of squared distances, another neighbour must be to cover a candidate: larger keeps more long edges.
    pub alpha: f32,
    /// Of everything random.
    pub seed: u64,
    /// Threads to build with.
    pub threads: usize,
}

impl BuildParameters {
    /// What suits most data.
    pub fn new(metric: Metric, dim: usize) -> BuildParameters {
        BuildParameters {
            metric,
            dim,
            code_bits: 0,
            ef_construction: 100,
            rounds: 2,
            trees: 6,
            alpha: 1.1,
            seed: 1,
            threads: 1,
        }
    }
}

/// What a build is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Vectors are rotated and quantised.
    Quantise,
    /// First neighbours are found.
    Partition,
    /// A round, from 0: vertices search for themselves.
    Search(usize),
    /// A round, from 0: vertices weigh offers.
    Link(usize),
}

/// How far a build is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// What it is doing.
    pub stage: Stage,
    /// Rows done in this stage.
    pub done: usize,
    /// All rows.
    pub row_count: usize,
}

/// Builds one image.
pub struct Builder<'a> {
    parameters: BuildParameters,
    rows: VectorRows<'a>,
    shape: Shape,
    progress: &'a (dyn Fn(Progress) + Sync),
}

impl<'a> Builder<'a> {
    /// `vectors` holds `dim` values per row.
    ///
    /// # Errors
    /// When there are no whole rows, too many, or values that are not finite.
    pub fn new(
        parameters: BuildParameters,
        vectors: &'a [f32],
        progress: &'a (dyn Fn(Progress) + Sync),
    ) -> Result<Builder<'a>, IndexError> {
        Builder::of_rows(parameters, VectorRows::of_f32(bytemuck::cast_slice(vectors), parameters.dim), progress)
    }

    /// As [`Builder::new`], of vectors of any element type.
    ///
    /// # Errors
    /// As there.
    pub fn of_rows(
        mut parameters: BuildParameters,
        rows: VectorRows<'a>,
        progress: &'a (dyn Fn(Progress) + Sync),
    ) -> Result<Builder<'a>, IndexError> {
        let dim = parameters.dim;
        if dim == 0 || rows.dim != dim || rows.is_empty() || !rows.bytes.len().is_multiple_of(rows.row_bytes()) {
            return Err(IndexError::Build("there are no whole vectors"));
        }
        if rows.len() >= ROW_COUNT_MAX {
            return Err(IndexError::Build("there are too many vectors for one file"));
        }
        if !rows.are_finite() {
            return Err(IndexError::Build("a vector has an element that is not finite"));
        }
        let mut shape = Shape {
            metric: parameters.metric,
            row_count: rows.len(),
            dim,
            code_dim: 0,
            planes: 1,
            entry: 0,
            has_twins: false,
            squared_norm_max: 0.0,
        };
        shape.code_dim = shape.inner_dim().next_multiple_of(CODE_DIM_STEP);
        if shape.metric == Metric::Ip {
            shape.squared_norm_max = greatest_squared_norm(rows);
        }
        let planes = |code_bits: usize| code_bits.div_ceil(shape.code_dim).clamp(1, CODE_PLANES_MAX);
        shape.planes = if parameters.code_bits == 0 {
            let most = (CODE_BITS_MAX / shape.code_dim).min(CODE_PLANES_MAX);
            crowding::planes(&shape, rows, planes(CODE_BITS_MIN), most, parameters.threads)
        } else {
            planes(parameters.code_bits)
        };
        parameters.code_bits = shape.planes * shape.code_dim;
        Ok(Builder { parameters, rows, shape, progress })
    }

    /// How it builds: with the bits that were chosen for the vectors.
    pub fn parameters(&self) -> BuildParameters {
        self.parameters
    }

    /// Bytes of the image.
    pub fn image_bytes(&self) -> Option<usize> {
        self.shape.image_bytes()
    }

    /// Builds into `image`, which has [`Builder::image_bytes`] bytes, whatever they are.
    ///
    /// # Errors
    /// When `image` has another length.
    pub fn build(mut self, image: &mut [u8]) -> Result<(), IndexError> {
        if Some(image.len()) != self.shape.image_bytes() {
            return Err(IndexError::Build("the image has another length than asked for"));
        }
        let Some(mut parts) = Parts::of(&self.shape, image) else {
            return Err(IndexError::Build("the image is too short"));
        };
        write_signs(parts.signs, self.parameters.seed);
        self.place_centre(parts.centre);
        let vectors = self.quantise(parts.signs, parts.centre);
        let vertices = self.place_twins(&vectors, parts.twins);
        let norm = |row: u32| vectors.rows[row as usize].squared_norm;
        let middle = vertices.iter().copied().min_by(|left, right| norm(*left).total_cmp(&norm(*right)));
        self.shape.entry = middle.unwrap_or(0);
        let routes = Routes::choose(&vectors, &vertices, self.shape.entry, self.parameters.seed);
        routes.write(&vectors, self.shape.entry, parts.routes);
        let (order, mut neighbours) = self.partition(&vectors, &vertices);
        neighbours = self.link(&vectors, &order, neighbours, 0);
        let twins: Vec<u32> =
            (0..self.shape.row_count as u32).filter(|row| vertices.binary_search(row).is_err()).collect();
        self.encode(&vectors, &twins, &neighbours, parts.blocks);
        self.encode(&vectors, &order, &neighbours, parts.blocks);
        let mut lost = Vec::new();
        for round in 0..self.parameters.rounds {
            let graph = Graph::of_parts(self.shape, &parts);
            let chosen;
            (chosen, lost) = self.search(&vectors, &graph, &order, &neighbours, round);
            neighbours = self.link(&vectors, &order, chosen, round + 1);
            self.encode(&vectors, &order, &neighbours, parts.blocks);
        }
        let connector = Connector::new(&self.parameters, &self.shape, &vectors, &mut parts, &mut neighbours);
        connector.connect(&routes, &vertices, &lost);
        parts.seal(&self.shape);
        Ok(())
    }

    fn report(&self, stage: Stage) -> impl Fn(usize) + Sync {
        move |done| (self.progress)(Progress { stage, done, row_count: self.shape.row_count })
    }

    /// The mean of the rows: codes of differences to it are finer than those of the rows.
    fn place_centre(&self, centre: &mut [u8]) {
        let mut row = vec![0.0f32; self.parameters.dim];
        let mut sums = vec![0.0f64; self.shape.inner_dim()];
        let mut lifted = vec![0.0f32; self.shape.inner_dim()];
        for index in 0..self.shape.row_count {
            self.rows.widen(index, &mut row);
            lift_row(&self.shape, &row, &mut lifted);
            sums.iter_mut().zip(&lifted).for_each(|(sum, value)| *sum += f64::from(*value));
        }
        centre.fill(0);
        for (bytes, sum) in centre.as_chunks_mut::<4>().0.iter_mut().zip(sums) {
            *bytes = ((sum / self.shape.row_count as f64) as f32).to_le_bytes();
        }
    }

    fn quantise(&self, signs: &[u8], centre: &[u8]) -> Vectors {
        let (dim, code_dim) = (self.parameters.dim, self.shape.code_dim);
        let space = Space { shape: &self.shape, signs, centre };
        let mut rows = vec![Row::default(); self.shape.row_count];
        let mut codes = vec![0i8; self.shape.row_count * code_dim];
        let mut work: Vec<_> = rows.iter_mut().zip(codes.chunks_exact_mut(code_dim)).collect();
        let place = |state: &mut (Vec<f32>, Vec<f32>), first: usize, piece: &mut [(&mut Row, &mut [i8])]| {
            let (values, rotated) = state;
            for (index, (row, codes)) in piece.iter_mut().enumerate() {
                self.rows.widen(first + index, values);
                space.place_row(values, rotated);
                **row = Row::quantise(rotated, codes);
            }
        };
        let make = || (vec![0.0f32; dim], vec![0.0f32; code_dim]);
        for_each_piece(self.parameters.threads, &mut work, PIECE_ROWS, make, place, self.report(Stage::Quantise));
        Vectors { code_dim, planes: self.shape.planes, rows, codes }
    }

    /// Writes who is equal to whom; returns the rows that are vertices.
    fn place_twins(&mut self, vectors: &Vectors, bytes: &mut [u8]) -> Vec<u32> {
        let twins = vectors.twins();
        twins.write(bytes);
        self.shape.has_twins = twins.exist();
        (0..self.shape.row_count as u32).filter(|row| twins.is_vertex(*row)).collect()
    }

    /// First neighbours, and an order in which rows that follow each other are near each other.
    fn partition(&self, vectors: &Vectors, vertices: &[u32]) -> (Vec<u32>, Vec<Neighbours>) {
        let row_count = self.shape.row_count;
        let trees: Vec<Tree> = (0..self.parameters.trees.max(1) as u64)
            .map(|tree| Tree::grow(vectors, vertices, mix(self.parameters.seed ^ mix(tree)), self.parameters.threads))
            .collect();
        let places: Vec<Vec<u32>> = trees.iter().map(|tree| inverse(&tree.order, row_count)).collect();
        let order: Vec<u32> = trees.first().map_or_else(Vec::new, |tree| tree.order.clone());
        let choose = |pruner: &mut Pruner, row: u32, neighbours: &mut Neighbours| {
            pruner.candidates.clear();
            for (tree, places) in trees.iter().zip(&places) {
                let nearest = tree.nearest.get(places[row as usize] as usize);
                pruner.candidates.extend_from_slice(nearest.map_or(&[], |nearest| &nearest[..]));
            }
            *neighbours = pruner.prune(vectors, row, self.parameters.alpha);
        };
        let mut neighbours = vec![Neighbours::NONE; row_count];
        self.for_each_row(Stage::Partition, &order, &mut neighbours, Pruner::default, choose);
        (order, neighbours)
    }

    /// Every vertex searches for itself, near ones one after the other: their blocks are still in the cache. Returns what
    /// they chose, and those that did not find themselves.
    fn search(
        &self,
        vectors: &Vectors,
        graph: &Graph<'_>,
        order: &[u32],
        old: &[Neighbours],
        round: usize,
    ) -> (Vec<Neighbours>, Vec<u32>) {
        let ef = self.parameters.ef_construction.max(NEIGHBOURS);
        let look = |state: &mut (Scratch, Pruner), vertex: u32, found: &mut (Neighbours, bool)| {
            let (scratch, pruner) = state;
            let row = vectors.rows[vertex as usize];
            pruner.candidates.clear();
            pruner.candidates.extend_from_slice(old[vertex as usize].all());
            scratch.query.place_vertex(&self.shape, vectors.codes(vertex), row.scale, row.squared_norm);
            graph.walk(Reach { ef, spare: 0 }, scratch, &mut |candidate: Candidate| {
                found.1 &= candidate.id != vertex;
                pruner.candidates.push(candidate);
            });
            found.0 = pruner.prune(vectors, vertex, self.parameters.alpha);
        };
        let mut found = vec![(Neighbours::NONE, true); self.shape.row_count];
        self.for_each_row(Stage::Search(round), order, &mut found, Default::default, look);
        let lost = order.iter().copied().filter(|vertex| found[*vertex as usize].1).collect();
        (found.into_iter().map(|(neighbours, _)| neighbours).collect(), lost)
    }

    /// Every vertex weighs its own choice and those who chose it.
    fn link(&self, vectors: &Vectors, order: &[u32], chosen: Vec<Neighbours>, round: usize) -> Vec<Neighbours> {
        let (starts, offers) = reversed(&chosen);
        let weigh = |pruner: &mut Pruner, vertex: u32, linked: &mut Neighbours| {
            let own = &chosen[vertex as usize];
            pruner.candidates.clear();
            pruner.candidates.extend_from_slice(own.chosen());
            pruner.candidates.extend_from_slice(&offers[starts[vertex as usize]..starts[vertex as usize + 1]]);
            *linked = pruner.prune(vectors, vertex, self.parameters.alpha);
            own.all().iter().for_each(|candidate| linked.fill(*candidate));
        };
        let mut linked = vec![Neighbours::NONE; chosen.len()];
        self.for_each_row(Stage::Link(round), order, &mut linked, Pruner::default, weigh);
        linked
    }

    /// Writes the blocks of some rows.
    fn encode(&self, vectors: &Vectors, order: &[u32], neighbours: &[Neighbours], blocks: &mut [u8]) {
        let mut blocks: Vec<&mut [u8]> = blocks.chunks_exact_mut(self.shape.block_bytes()).collect();
        let write = |bits: &mut BlockBits, vertex: u32, block: &mut &mut [u8]| {
            let ids = neighbours[vertex as usize].all().iter().map(|candidate| candidate.id);
            vectors.write_block(vertex, ids, bits, block);
        };
        self.for_each_row(None, order, &mut blocks, BlockBits::default, write);
    }

    /// Calls `work` on all threads with every row of an order, and what `of_rows` holds of it. Rows that follow each other are
    /// near each other, so that what one needs of its neighbours the next finds in the cache.
    fn for_each_row<T: Send, S>(
        &self,
        stage: impl Into<Option<Stage>>,
        order: &[u32],
        of_rows: &mut [T],
        make: impl Fn() -> S + Sync,
        work: impl Fn(&mut S, u32, &mut T) + Sync,
    ) {
        let mut by_row: Vec<Option<&mut T>> = of_rows.iter_mut().map(Some).collect();
        let mut ordered: Vec<(u32, &mut T)> =
            order.iter().filter_map(|row| Some((*row, by_row.get_mut(*row as usize)?.take()?))).collect();
        let run = |state: &mut S, _: usize, piece: &mut [(u32, &mut T)]| {
            piece.iter_mut().for_each(|(row, of_row)| work(state, *row, of_row));
        };
        let stage = stage.into();
        let report = |done| {
            if let Some(stage) = stage {
                (self.progress)(Progress { stage, done, row_count: self.shape.row_count });
            }
        };
        for_each_piece(self.parameters.threads, &mut ordered, PIECE_ROWS, make, run, report);
    }
}

/// What IP lifts all rows to.
fn greatest_squared_norm(rows: VectorRows<'_>) -> f32 {
    let mut row = vec![0.0f32; rows.dim];
    let norms = (0..rows.len()).map(|index| {
        rows.widen(index, &mut row);
        super::space::dot(&row, &row)
    });
    norms.fold(0.0, f32::max)
}

/// The place of each row in an order; beyond all places for rows that are not in it.
fn inverse(order: &[u32], row_count: usize) -> Vec<u32> {
    let mut places = vec![u32::MAX; row_count];
    order.iter().enumerate().for_each(|(place, row)| places[*row as usize] = place as u32);
    places
}

/// Who chose each vertex: `offers[starts[vertex]..starts[vertex + 1]]`.
fn reversed(chosen: &[Neighbours]) -> (Vec<usize>, Vec<Candidate>) {
    let mut starts = vec![0usize; chosen.len() + 1];
    let edges = || chosen.iter().enumerate().flat_map(|(from, to)| to.chosen().iter().map(move |to| (from, to)));
    edges().for_each(|(_, to)| starts[to.id as usize + 1] += 1);
    (0..chosen.len()).for_each(|vertex| starts[vertex + 1] += starts[vertex]);
    let mut places = starts.clone();
    let mut offers = vec![Candidate { distance: 0.0, id: 0 }; starts[chosen.len()]];
    for (from, to) in edges() {
        let place = &mut places[to.id as usize];
        offers[*place] = Candidate { distance: to.distance, id: from as u32 };
        *place += 1;
    }
    (starts, offers)
}
