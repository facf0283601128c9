//! Lloyd's k-means on a sample, the same on any number of threads: rows are assigned one by one, and a centroid's members are
//! summed in row order.

use crate::index::graph::space::{mix, normalise};
use crate::index::graph::workers::for_each_piece;
use crate::kernel::{Kernels, QUERY_TILE, RowBlock, Rows, VectorRows};

/// Rows of a sample per centroid: more hardly move the centroids.
const SAMPLE_ROWS_PER_LIST: usize = 256;
/// Passes over the sample: later ones hardly move the centroids.
const PASSES: usize = 10;
/// Rows that are compared with a block of centroids at once.
pub(super) const PIECE_ROWS: usize = QUERY_TILE * 8;
/// Bytes of a block of centroids: it stays in the L2 cache while the rows of a piece pass over it.
const BLOCK_BYTES: usize = 128 << 10;
/// By how much the halves of a split cluster differ from its centroid.
const SPLIT: f32 = 1.0 / 1024.0;

/// What a training needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Training {
    pub list_count: usize,
    /// Vectors are directions: rows and centroids have norm 1.
    pub is_spherical: bool,
    pub seed: u64,
    pub threads: usize,
}

impl Training {
    /// The centroids, one after the other. `list_count` is at most the number of rows; `done` gets the share that is done.
    pub fn run(&self, rows: &VectorRows<'_>, done: impl Fn(f32)) -> Vec<f32> {
        let dim = rows.dim;
        let sample = self.sample(rows);
        let sample_count = sample.len() / dim;
        let mut centroids = Vec::with_capacity(self.list_count * dim);
        for index in 0..self.list_count {
            let row = pick(index, self.list_count, sample_count, mix(self.seed ^ 1));
            centroids.extend_from_slice(&sample[row * dim..][..dim]);
        }
        for pass in 0..PASSES {
            let nearest = self.nearest(&sample, &centroids, dim);
            self.move_centroids(&sample, &nearest, &mut centroids, dim);
            done((pass + 1) as f32 / PASSES as f32);
        }
        centroids
    }

    /// Rows from all over the column, as they are compared.
    fn sample(&self, rows: &VectorRows<'_>) -> Vec<f32> {
        let dim = rows.dim;
        let count = rows.len().min(self.list_count * SAMPLE_ROWS_PER_LIST);
        let mut sample = vec![0.0f32; count * dim];
        for (index, values) in sample.chunks_exact_mut(dim).enumerate() {
            rows.widen(pick(index, count, rows.len(), self.seed), values);
            if self.is_spherical {
                normalise(values);
            }
        }
        sample
    }

    fn nearest(&self, points: &[f32], centroids: &[f32], dim: usize) -> Vec<u32> {
        let mut nearest = vec![0u32; points.len() / dim];
        let assign = |assigner: &mut Assigner, first: usize, piece: &mut [u32]| {
            assigner.assign(&points[first * dim..][..piece.len() * dim], centroids, dim, piece);
        };
        for_each_piece(self.threads, &mut nearest, PIECE_ROWS, Assigner::default, assign, |_| ());
        nearest
    }

    /// Every centroid becomes the mean of its members; one without members splits the largest cluster.
    fn move_centroids(&self, points: &[f32], nearest: &[u32], centroids: &mut [f32], dim: usize) {
        let members = Members::of(nearest, self.list_count);
        let mut places: Vec<&mut [f32]> = centroids.chunks_exact_mut(dim).collect();
        let average = |sums: &mut Vec<f64>, first: usize, piece: &mut [&mut [f32]]| {
            for (index, centroid) in piece.iter_mut().enumerate() {
                let rows = members.of_list(first + index);
                sums.clear();
                sums.resize(dim, 0.0);
                for row in rows {
                    let point = &points[*row as usize * dim..][..dim];
                    sums.iter_mut().zip(point).for_each(|(sum, value)| *sum += f64::from(*value));
                }
                if !rows.is_empty() {
                    let share = 1.0 / rows.len() as f64;
                    centroid.iter_mut().zip(sums.iter()).for_each(|(value, sum)| *value = (sum * share) as f32);
                }
            }
        };
        for_each_piece(self.threads, &mut places, 1, Vec::new, average, |_| ());
        self.split_large(&members, centroids, dim);
        if self.is_spherical {
            centroids.chunks_exact_mut(dim).for_each(normalise);
        }
    }

    fn split_large(&self, members: &Members, centroids: &mut [f32], dim: usize) {
        let mut sizes: Vec<usize> = (0..self.list_count).map(|list| members.of_list(list).len()).collect();
        for list in 0..self.list_count {
            if sizes[list] > 0 {
                continue;
            }
            // The first of the largest.
            let Some(large) = (0..self.list_count).min_by_key(|other| std::cmp::Reverse(sizes[*other])) else { return };
            for element in 0..dim {
                let value = centroids[large * dim + element];
                let change = if element % 2 == 0 { SPLIT } else { -SPLIT };
                centroids[list * dim + element] = value * (1.0 + change);
                centroids[large * dim + element] = value * (1.0 - change);
            }
            sizes[list] = sizes[large] / 2;
            sizes[large] -= sizes[list];
        }
    }
}

/// The `index`-th of `count` rows out of `total`: one from each of `count` equal parts, so none comes twice.
fn pick(index: usize, count: usize, total: usize, seed: u64) -> usize {
    let part = |index: usize| (index as u128 * total as u128 / count as u128) as usize;
    let (first, end) = (part(index), part(index + 1));
    first + (mix(seed ^ mix(index as u64)) % (end - first).max(1) as u64) as usize
}

/// The rows of each list, ascending.
pub(super) struct Members {
    /// Where each list starts in `rows`, and the end of the last.
    pub starts: Vec<u32>,
    pub rows: Vec<u32>,
}

impl Members {
    pub fn of(nearest: &[u32], list_count: usize) -> Members {
        let mut starts = vec![0u32; list_count + 1];
        nearest.iter().for_each(|list| starts[*list as usize + 1] += 1);
        for list in 0..list_count {
            starts[list + 1] += starts[list];
        }
        let mut places = starts.clone();
        let mut rows = vec![0u32; nearest.len()];
        for (row, list) in nearest.iter().enumerate() {
            let place = &mut places[*list as usize];
            rows[*place as usize] = row as u32;
            *place += 1;
        }
        Members { starts, rows }
    }

    fn of_list(&self, list: usize) -> &[u32] {
        &self.rows[self.starts[list] as usize..self.starts[list + 1] as usize]
    }
}

/// Finds the nearest centroid of points; memory of one thread.
#[derive(Debug, Default)]
pub(super) struct Assigner {
    distances: Vec<f32>,
    best: Vec<f32>,
}

impl Assigner {
    /// Writes the nearest centroid of each point, the first of several; 0 when no distance is finite.
    pub fn assign(&mut self, points: &[f32], centroids: &[f32], dim: usize, nearest: &mut [u32]) {
        let kernels = Kernels::get();
        nearest.fill(0);
        self.best.clear();
        self.best.resize(nearest.len(), f32::INFINITY);
        let block_lists = (BLOCK_BYTES / (dim * 4)).max(QUERY_TILE);
        for (block_index, block) in centroids.chunks(block_lists * dim).enumerate() {
            let count = block.len() / dim;
            let Some(block) = RowBlock::new(bytemuck::cast_slice(block), dim, Rows::Range(0..count)) else { return };
            self.distances.resize(nearest.len() * count, 0.0);
            kernels.squared_distances(points, &block, &mut self.distances);
            let best = self.best.iter_mut().zip(&mut *nearest);
            for (distances, (best, nearest)) in self.distances.chunks_exact(count).zip(best) {
                for (list, distance) in distances.iter().enumerate() {
                    if distance < best {
                        *best = *distance;
                        *nearest = (block_index * block_lists + list) as u32;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;
    use crate::index::trial::column;

    #[test]
    fn a_list_that_nothing_is_near_gets_half_of_the_largest() {
        const DIM: usize = 4;
        const ROWS: usize = 1600;
        let training = Training { list_count: 16, is_spherical: false, seed: 3, threads: 2 };
        // Wherever a training of these rows begins, it begins at zero: 16 centroids are one. The rest lies in the corners of a cube.
        let corner = |row: usize, at: usize| if row >> at & 1 == 1 { 10.0 } else { -10.0 };
        let spread = |row: usize, at: usize| (mix((row * DIM + at) as u64) % 1000) as f32 * 1e-3;
        let mut values: Vec<f32> =
            (0..ROWS * DIM).map(|index| corner(index / DIM, index % DIM) + spread(index / DIM, index % DIM)).collect();
        for list in 0..training.list_count {
            let row = pick(list, training.list_count, ROWS, mix(training.seed ^ 1));
            values[row * DIM..][..DIM].fill(0.0);
        }
        let centroids = training.run(&column(&values, DIM), |_| ());
        let nearest = training.nearest(&values, &centroids, DIM);
        let members = Members::of(&nearest, training.list_count);
        let sizes: Vec<usize> = (0..training.list_count).map(|list| members.of_list(list).len()).collect();
        assert!(sizes.iter().filter(|size| **size > 0).count() >= 12, "{sizes:?}");
        // None holds more than a few of the sixteen corners.
        assert!(sizes.iter().all(|size| *size <= ROWS / 4), "{sizes:?}");
    }
}
