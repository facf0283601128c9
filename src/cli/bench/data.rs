//! The data sets: always the same vectors, and queries near them, each of which is used once.

use crate::cli::demo::data as glove;
use crate::types::Metric;

const CLUSTERS: u64 = 200;
/// How far a row lies from its cluster's centre, in each dimension; centres lie in the unit cube.
const SPREAD: f32 = 0.1;

/// A data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Set {
    /// The demo's word vectors.
    Glove,
    /// 100,000 rows of 128 dimensions in clusters.
    Clusters,
    /// 1,000 rows of 128 dimensions: a search costs next to nothing, so what is around it shows.
    Small,
}

impl Set {
    /// Its name in tables.
    pub fn name(self) -> String {
        format!("{:?}, {} x {}", self, self.rows(), self.dim()).to_lowercase()
    }

    /// Number of rows.
    pub fn rows(self) -> usize {
        match self {
            Set::Glove => glove::words().len(),
            Set::Clusters => 100_000,
            Set::Small => 1_000,
        }
    }

    /// Values per vector.
    pub fn dim(self) -> usize {
        if self == Set::Glove { glove::DIM } else { 128 }
    }

    /// The metric of its index.
    pub fn metric(self) -> Metric {
        if self == Set::Glove { Metric::Cosine } else { Metric::L2 }
    }

    /// Rows `from..to`, end to end.
    pub fn vectors(self, from: usize, to: usize) -> Vec<f32> {
        match self {
            Set::Glove => glove::vectors(from, to),
            _ => (from..to).flat_map(|row| clustered(row as u64, self.dim())).collect(),
        }
    }

    /// A query: no row of the set, but near one.
    pub fn query(self, number: u64) -> Vec<f32> {
        match self {
            Set::Glove => {
                let row = (mixed(number) % self.rows() as u64) as usize;
                let mut noise = Values(mixed(!number));
                glove::vectors(row, row + 1).iter().map(|value| value + 0.2 * (noise.unit() - 0.5)).collect()
            }
            // Rows are numbered from 0, queries from the middle of all numbers.
            _ => clustered(number + (1 << 40), self.dim()),
        }
    }
}

fn clustered(number: u64, dim: usize) -> Vec<f32> {
    let mut centre = Values(mixed(mixed(number) % CLUSTERS));
    let mut noise = Values(mixed(number ^ 0x5eed));
    (0..dim).map(|_| centre.unit() + SPREAD * (noise.unit() - 0.5)).collect()
}

/// The finaliser of splitmix64: neighbouring numbers become unrelated ones.
fn mixed(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

struct Values(u64);

impl Values {
    /// The next value in 0..1.
    fn unit(&mut self) -> f32 {
        self.0 = self.0.wrapping_add(1);
        (mixed(self.0) >> 40) as f32 / (1 << 24) as f32
    }
}

/// The distances of every row to a query, in double precision, by the plain formula; similarities are negated.
pub(super) fn naive_distances(set: Set, vectors: &[f32], query: &[f32]) -> Vec<f64> {
    let pairs = |row: &[f32]| row.iter().zip(query).map(|(a, b)| (f64::from(*a), f64::from(*b))).collect::<Vec<_>>();
    let dot = |pairs: &[(f64, f64)]| pairs.iter().map(|(a, b)| a * b).sum::<f64>();
    let distance = |row: &[f32]| {
        let pairs = pairs(row);
        if set.metric() == Metric::L2 {
            return pairs.iter().map(|(a, b)| (a - b) * (a - b)).sum();
        }
        let norms: f64 = pairs.iter().map(|(a, _)| a * a).sum::<f64>() * pairs.iter().map(|(_, b)| b * b).sum::<f64>();
        -dot(&pairs) / norms.sqrt()
    };
    vectors.chunks_exact(set.dim()).map(distance).collect()
}

/// The share of found rows that are as near as the true nearest ones (up to rounding of single precision).
pub(super) fn recall(distances: &[f64], found: &[i64], k: usize) -> f64 {
    let mut sorted = distances.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(farthest) = sorted.get(k - 1) else { return 0.0 };
    let allowed = farthest + farthest.abs() * 1e-5;
    let mut found: Vec<i64> = found.to_vec();
    found.sort_unstable();
    found.dedup();
    let is_near = |key: &&i64| distances.get(**key as usize).is_some_and(|distance| *distance <= allowed);
    found.iter().filter(is_near).count() as f64 / k as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_or_doubled_row_lowers_recall() {
        let distances: Vec<f64> = (0..10).map(f64::from).collect();
        assert_eq!(recall(&distances, &[1, 0], 2), 1.0);
        assert_eq!(recall(&distances, &[0, 9], 2), 0.5);
        assert_eq!(recall(&distances, &[0, 0], 2), 0.5);
    }

    #[test]
    fn data_are_the_same_every_time_and_queries_differ() {
        assert_eq!(Set::Small.vectors(3, 5)[128..], Set::Small.vectors(4, 5));
        assert_ne!(Set::Small.query(0), Set::Small.query(1));
        assert_ne!(Set::Glove.query(0), Set::Glove.query(1));
    }
}
