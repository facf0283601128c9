//! Where searches begin: a tree of two levels over a sample of the vertices, in blocks like those of vertices. The first has the
//! vector of the entry, and vertices in the middle of parts of the space as its neighbours; the others have one of these each, and
//! vertices of its part. A search estimates its distances to all vertices of the nearest parts before it visits any.

use super::encode::{BlockBits, Distances, Row, Vectors};
use super::layout::{Block, Graph};
use super::search::PlacedQuery;
use super::space::mix;
use crate::kernel::{CodeKernels, NEIGHBOURS};

/// Blocks of the tree.
pub(super) const ROUTE_BLOCKS: usize = 1 + NEIGHBOURS;
/// Rows among which routes are chosen.
const SAMPLE_ROWS: usize = 8192;
/// Times that the middles are moved.
const MOVES: usize = 3;
/// Parts in which a search begins.
const PARTS_NEAR: usize = 4;

/// A tree: up to 32 vertices in the middle of parts, and up to 32 vertices of each part.
pub(super) struct Routes {
    middles: Vec<u32>,
    parts: Vec<Vec<u32>>,
}

impl Routes {
    /// Vertices of the whole sample far from each other, moved to where most of their part lies; then vertices of each part far from
    /// each other. Each is drawn with a probability that grows with the squared distance to those drawn before (k-means++, 2007), so
    /// that of clusters far apart each gets one.
    pub fn choose(vectors: &Vectors, vertices: &[u32], entry: u32, seed: u64) -> Routes {
        let step = vertices.len().div_ceil(SAMPLE_ROWS).max(1);
        let sample: Vec<u32> = vertices.iter().copied().step_by(step).collect();
        let mut middles = draw(vectors, &sample, entry, seed);
        let mut parts = divide(vectors, &sample, &middles);
        for _ in 0..MOVES {
            for (middle, part) in middles.iter_mut().zip(&parts) {
                *middle = middle_of(vectors, part).unwrap_or(*middle);
            }
            parts = divide(vectors, &sample, &middles);
        }
        let parts = middles
            .iter()
            .zip(&parts)
            .map(|(middle, part)| draw(vectors, part, *middle, mix(seed ^ u64::from(*middle))))
            .collect();
        Routes { middles, parts }
    }

    /// Writes the blocks of the tree.
    pub fn write(&self, vectors: &Vectors, entry: u32, bytes: &mut [u8]) {
        let mut bits = BlockBits::default();
        let mut blocks = bytes.chunks_exact_mut(bytes.len() / ROUTE_BLOCKS);
        if let Some(root) = blocks.next() {
            vectors.write_block(entry, self.middles.iter().copied(), &mut bits, root);
        }
        for (index, block) in blocks.enumerate() {
            let middle = self.middles.get(index).copied().unwrap_or(entry);
            let part = self.parts.get(index).map_or(&[][..], Vec::as_slice);
            vectors.write_block(middle, part.iter().copied(), &mut bits, block);
        }
    }

    /// All vertices of the tree.
    pub fn all(&self) -> impl Iterator<Item = u32> + '_ {
        self.middles.iter().chain(self.parts.iter().flatten()).copied()
    }
}

/// Up to 32 rows of a sample, other than `first`.
fn draw(vectors: &Vectors, sample: &[u32], first: u32, seed: u64) -> Vec<u32> {
    let mut weights = vec![f32::INFINITY; sample.len()];
    let mut distances = Distances::default();
    let mut drawn = Vec::with_capacity(NEIGHBOURS);
    let mut last = first;
    while drawn.len() < NEIGHBOURS {
        vectors.distances(last, sample, &mut distances);
        for ((weight, row), distance) in weights.iter_mut().zip(sample).zip(&distances.list) {
            *weight = if *row == last { 0.0 } else { weight.min(*distance) };
        }
        let total: f64 = weights.iter().map(|weight| f64::from(*weight)).sum();
        let random = (mix(seed ^ mix(drawn.len() as u64 ^ 1 << 48)) >> 11) as f64 / (1u64 << 53) as f64;
        let mut sum = 0.0;
        let next = weights.iter().position(|weight| {
            sum += f64::from(*weight);
            *weight > 0.0 && sum >= random * total
        });
        let Some(next) = next else { break };
        last = sample[next];
        drawn.push(last);
    }
    drawn
}

/// The rows of a sample by the nearest of some rows.
fn divide(vectors: &Vectors, sample: &[u32], middles: &[u32]) -> Vec<Vec<u32>> {
    let mut nearest = vec![(f32::INFINITY, 0); sample.len()];
    let mut distances = Distances::default();
    for (index, middle) in middles.iter().enumerate() {
        vectors.distances(*middle, sample, &mut distances);
        for (nearest, distance) in nearest.iter_mut().zip(&distances.list) {
            if *distance < nearest.0 {
                *nearest = (*distance, index);
            }
        }
    }
    let mut parts = vec![Vec::new(); middles.len()];
    for (row, (_, index)) in sample.iter().zip(nearest) {
        if let Some(part) = parts.get_mut(index) {
            part.push(*row);
        }
    }
    parts
}

/// The row of a part that is nearest to the mean of all.
fn middle_of(vectors: &Vectors, part: &[u32]) -> Option<u32> {
    let mut mean = vec![0.0f32; vectors.code_dim];
    for row in part {
        let scale = vectors.rows[*row as usize].scale / part.len() as f32;
        mean.iter_mut().zip(vectors.codes(*row)).for_each(|(sum, code)| *sum += f32::from(*code) * scale);
    }
    let mut codes = vec![0; vectors.code_dim];
    let row = Row::quantise(&mean, &mut codes);
    let mut distances = Distances::default();
    vectors.distances_to(&codes, row, part, &mut distances);
    let distance = part.iter().zip(&distances.list);
    distance.min_by(|left, right| left.1.total_cmp(right.1).then(left.0.cmp(right.0))).map(|(row, _)| *row)
}

impl<'a> Graph<'a> {
    /// The parts of the tree nearest to a query, nearest first: the block of each, and the vertex in its middle.
    pub(super) fn near_parts(
        &self,
        kernels: CodeKernels,
        query: &PlacedQuery,
    ) -> impl Iterator<Item = (Block<'a>, u32)> + use<'a> {
        let mut nearest = [(f32::INFINITY, 0); PARTS_NEAR + 1];
        let root = self.route(0);
        if let Some(root) = &root {
            let mut estimates = [0.0; NEIGHBOURS];
            let distance = query.distance(kernels, root, &[]);
            query.estimate(kernels, root, distance, f32::INFINITY, &[], &mut estimates);
            for (index, estimate) in estimates.into_iter().enumerate() {
                // The last place is that of those that fall out.
                nearest[PARTS_NEAR] = (estimate, index);
                let mut at = PARTS_NEAR;
                while at > 0 && nearest[at].0 < nearest[at - 1].0 {
                    nearest.swap(at, at - 1);
                    at -= 1;
                }
            }
        }
        let graph = *self;
        nearest
            .into_iter()
            .take(PARTS_NEAR)
            .filter_map(move |(_, index)| Some((graph.route(index + 1)?, u32::from_le_bytes(root?.ids[index]))))
    }
}

#[cfg(test)]
mod tests;
