//! Vectors that are made, not read: `clusters:ROWSxDIM`, the same every time.

use super::vectors::Table;
use crate::types::{Error, Result};

/// Rows of a cluster, about.
const CLUSTER_ROWS: usize = 1_000;
/// How far rows lie from their cluster's centre, centres from the origin being 1, in each dimension.
const SPREAD: f32 = 0.5;

/// Rows and dimensions of `clusters:ROWSxDIM`; `None` of anything else.
pub(super) fn parse(text: &str) -> Option<Result<(usize, usize)>> {
    let shape = text.strip_prefix("clusters:")?;
    let numbers = shape.split_once('x').and_then(|(rows, dim)| Some((rows.parse().ok()?, dim.parse().ok()?)));
    let numbers = numbers.filter(|(rows, dim)| *rows > 0 && *dim > 0);
    Some(numbers.ok_or_else(|| Error::invalid(format!("expected clusters:ROWSxDIM, not {text}"))))
}

/// Rows of normally distributed clusters, in no order.
pub(super) fn rows(rows: usize, cluster_count_of: usize, dim: usize) -> Result<Table<f32>> {
    let mut values = Vec::new();
    if values.try_reserve_exact(rows.saturating_mul(dim)).is_err() {
        return Err(Error::invalid(format!("there is no memory for {rows} x {dim} vectors")));
    }
    let clusters = cluster_count_of.div_ceil(CLUSTER_ROWS);
    let mut centres = Noise(1);
    let centres: Vec<f32> = (0..clusters * dim).map(|_| centres.normal()).collect();
    let mut noise = Noise(2);
    for _ in 0..rows {
        let cluster = (noise.next() >> 33) as usize % clusters;
        let centre = &centres[cluster * dim..][..dim];
        values.extend(centre.iter().map(|value| value + SPREAD * noise.normal()));
    }
    Ok(Table { dim, values })
}

/// splitmix64.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The sum of four uniform numbers is nearly normal; its variance is 1.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
        (sum as f32 / 65_536.0 - 2.0) * 3f32.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_the_same_every_time_and_lie_around_the_origin() {
        assert_eq!(parse("clusters:20x3").unwrap().unwrap(), (20, 3));
        assert!(
            parse("a.npy").is_none()
                && parse("clusters:0x3").unwrap().is_err()
                && parse("clusters:3").unwrap().is_err()
        );
        let table = rows(20_000, 20_000, 4).unwrap();
        assert_eq!(table, rows(20_000, 20_000, 4).unwrap());
        assert!(rows(usize::MAX, 1, 4).is_err());
        let mean: f32 = table.values.iter().sum::<f32>() / table.values.len() as f32;
        let square: f32 = table.values.iter().map(|value| value * value).sum::<f32>() / table.values.len() as f32;
        assert!(mean.abs() < 0.5 && (0.5..2.5).contains(&square), "{mean} {square}");
    }
}
