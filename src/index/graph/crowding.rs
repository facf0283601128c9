//! How finely neighbours must be coded for the vectors at hand. An estimate errs by a share of the distance that depends on the
//! bits of a code alone; how many rows that confuses with the nearest depends on the data. Where rows lie about equally far
//! from each other they are many: a walk would have to visit all of them, unless codes are finer.

use super::layout::Shape;
use super::space::lift_row;
use super::workers::for_each_piece;
use crate::kernel::{CODE_PLANES_MAX, VectorRows};

/// Rows whose surroundings are looked at: over all of the data, since what matters are the very nearest.
const SAMPLE: usize = 32;
/// Of these, so many share a pass over all rows.
const PASS: usize = 8;
/// Files with fewer rows are as well searched by a pool that has a good part of them.
const ROW_COUNT_MIN: usize = 1024;
/// The nearest that are to be told from others.
const NEAREST: usize = 10;
/// Distances that are kept of each.
const KEPT: usize = 256;
/// For each of the nearest, so many rows may lie within the error of the estimates (geometric mean). It keeps codes at 128 bits for 784
/// dimensions of images (1.5 rows), 384 of sentences (2.2) and 50 of words (2.8), of which finer ones bring a tenth more speed at most
/// for half as much memory again; for clusters whose rows lie equally far (128 dimensions, 10.4 rows at one bit, 3.6 at two, 2.1 at three)
/// three bits make searches at recall 0.95 six times as fast as one.
const CROWD_MAX: f64 = 3.2;
/// The tangent of the angle between a vector whose elements are normally distributed and its code of 1 to 4 bits per dimension.
const TANGENT: [f64; CODE_PLANES_MAX] = [0.755, 0.367, 0.197, 0.108];
/// What is nearer than this share of the others is the row itself, but for rounding.
const SAME: f32 = 1e-6;

/// One row of the sample.
struct Surroundings {
    row: usize,
    /// Lifted.
    vector: Vec<f32>,
    /// Squared distances of rows, the least of all among them.
    near: Vec<f32>,
    /// What is farther is not among the least.
    bound: f32,
}

/// Bits per dimension that tell near rows apart, from `least` to `most`.
pub(super) fn planes(shape: &Shape, rows: VectorRows<'_>, least: usize, most: usize, threads: usize) -> usize {
    if rows.len() < ROW_COUNT_MIN || least >= most {
        return least;
    }
    let mut sample = sample(shape, rows);
    let make = || (vec![0.0; shape.dim], vec![0.0; shape.inner_dim()]);
    let pass = |(values, lifted): &mut (Vec<f32>, Vec<f32>), _: usize, sample: &mut [Surroundings]| {
        for row in 0..rows.len() {
            rows.widen(row, values);
            lift_row(shape, values, lifted);
            sample.iter_mut().filter(|of| of.row != row).for_each(|of| of.see(lifted));
        }
    };
    for_each_piece(threads, &mut sample, PASS, make, pass, |_| ());
    sample.iter_mut().for_each(Surroundings::sort);
    let crowd = |planes: usize| {
        let error = 2.0 * TANGENT[planes - 1] / (shape.code_dim as f64).sqrt();
        let logarithms: f64 = sample.iter().map(|of| of.crowd(1.0 + error).ln()).sum();
        (logarithms / sample.len() as f64).exp()
    };
    (least..most).find(|planes| crowd(*planes) <= CROWD_MAX).unwrap_or(most)
}

/// Rows at even distances.
fn sample(shape: &Shape, rows: VectorRows<'_>) -> Vec<Surroundings> {
    let mut values = vec![0.0; shape.dim];
    let of_row = |index: usize| {
        let row = index * rows.len() / SAMPLE;
        rows.widen(row, &mut values);
        let mut vector = vec![0.0; shape.inner_dim()];
        lift_row(shape, &values, &mut vector);
        Surroundings { row, vector, near: Vec::with_capacity(2 * KEPT), bound: f32::INFINITY }
    };
    (0..SAMPLE).map(of_row).collect()
}

impl Surroundings {
    #[inline]
    fn see(&mut self, other: &[f32]) {
        let distance = squared_distance(&self.vector, other);
        if distance < self.bound {
            self.near.push(distance);
            if self.near.len() == 2 * KEPT {
                self.near.select_nth_unstable_by(KEPT, f32::total_cmp);
                self.near.truncate(KEPT + 1);
                self.bound = self.near[KEPT];
            }
        }
    }

    /// Leaves the least distances, ascending, without those of equal rows.
    fn sort(&mut self) {
        self.near.sort_unstable_by(f32::total_cmp);
        self.near.truncate(KEPT);
        let same = self.near.last().map_or(0.0, |last| last * SAME);
        self.near.retain(|distance| *distance > same);
    }

    /// For each of the nearest, how many rows are not farther than the last of them by a factor.
    fn crowd(&self, factor: f64) -> f64 {
        let Some(last) = self.near.get(NEAREST - 1) else { return 1.0 };
        let end = (f64::from(*last) * factor) as f32;
        self.near.partition_point(|distance| *distance <= end) as f64 / NEAREST as f64
    }
}

/// Sixteen partial sums: the same bits whatever the compiler makes of it.
fn squared_distance(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (left, left_rest) = left.as_chunks::<16>();
    let (right, right_rest) = right.as_chunks::<16>();
    for (left, right) in left.iter().zip(right) {
        for lane in 0..16 {
            let difference = left[lane] - right[lane];
            sums[lane] += difference * difference;
        }
    }
    let rest = left_rest.iter().zip(right_rest).map(|(left, right)| (left - right) * (left - right));
    sums.iter().sum::<f32>() + rest.sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::graph::space::mix;
    use crate::types::Metric;

    const DIM: usize = 64;

    /// Evenly distributed rows in so many dimensions, along random directions of the space.
    fn rows_of(dimensions: usize, scale: f32) -> Vec<f32> {
        let even = |seed: u64| (mix(seed) >> 40) as f32 / (1 << 23) as f32 - 1.0;
        let directions: Vec<f32> = (0..dimensions * DIM).map(|at| even(at as u64)).collect();
        let mut values = Vec::new();
        for row in 0..4000u64 {
            let mut vector = [5.0f32; DIM];
            for (dimension, direction) in directions.chunks_exact(DIM).enumerate() {
                let length = even(1 << 40 | row << 16 | dimension as u64) * scale;
                vector.iter_mut().zip(direction).for_each(|(value, direction)| *value += length * direction);
            }
            values.extend(vector);
        }
        values
    }

    fn planes_of(values: &[f32], metric: Metric, most: usize, threads: usize) -> usize {
        let shape = Shape {
            metric,
            row_count: values.len() / DIM,
            dim: DIM,
            code_dim: DIM + 32,
            planes: 1,
            entry: 0,
            has_twins: false,
            squared_norm_max: 1e4,
        };
        planes(&shape, VectorRows::of_f32(bytemuck::cast_slice(values), DIM), 1, most, threads)
    }

    #[test]
    fn rows_that_lie_about_equally_far_get_finer_codes_whatever_their_scale() {
        let (along, all) = (rows_of(4, 1.0), rows_of(DIM, 1.0));
        for metric in [Metric::L2, Metric::Cosine, Metric::Ip] {
            assert_eq!(planes_of(&along, metric, 4, 1), 1, "{metric:?}");
            assert!(planes_of(&all, metric, 4, 1) >= 2, "{metric:?}");
        }
        assert_eq!(planes_of(&rows_of(DIM, 1e-2), Metric::L2, 4, 1), planes_of(&all, Metric::L2, 4, 2));
        assert_eq!(planes_of(&all, Metric::L2, 1, 1), 1);
    }

    #[test]
    fn equal_rows_and_few_rows_need_no_finer_codes() {
        assert_eq!(planes_of(&[1.0; 2000 * DIM], Metric::L2, 4, 1), 1);
        let all = rows_of(DIM, 1.0);
        assert_eq!(planes_of(&all[..(ROW_COUNT_MIN - 1) * DIM], Metric::L2, 4, 1), 1);
        let twice: Vec<f32> = [&all[..], &all[..]].concat();
        assert_eq!(planes_of(&twice, Metric::L2, 4, 1), planes_of(&all, Metric::L2, 4, 1));
    }
}
