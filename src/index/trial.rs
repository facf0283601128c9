//! Data and measures for the tests of indexes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::flat::{DistanceRange, scan};
use super::graph::space::mix;
use super::{BuildIndex, Hit, Queries, TopK, VectorColumn, header};
use crate::kernel::{VectorElement, VectorRows};
use crate::types::{Bitmap, Metric};

/// Points around 30 centres, seeded; norms differ.
pub fn clustered(rows: usize, dim: usize, seed: u64) -> Vec<f32> {
    let number = |value: u64| (mix(value) >> 40) as f32 / (1 << 24) as f32 - 0.5;
    let at = |index: usize| ((index / dim) as u64, (index % dim) as u64);
    let value = |(row, at): (u64, u64)| {
        let cluster = mix(row ^ seed) % 30;
        let length = 1.0 + number(mix(row ^ seed) ^ 77);
        length * (2.0 * number(cluster << 32 | at) + number(mix(seed ^ mix(row * 4096 + at))))
    };
    (0..rows * dim).map(at).map(value).collect()
}

/// The values as a column.
pub fn column(values: &[f32], dim: usize) -> VectorRows<'_> {
    VectorRows { bytes: bytemuck::cast_slice(values), dim, element: VectorElement::F32 }
}

/// Builds an image in zeroed memory.
pub fn built(builder: impl BuildIndex) -> Vec<u8> {
    let mut image = vec![0; builder.image_bytes()];
    Box::new(builder).write(&mut image).unwrap();
    image
}

/// The first bit of every `step` set.
pub fn every(step: usize, rows: usize) -> Bitmap {
    let mut filter = Bitmap::zeros(rows);
    (0..rows).step_by(step).for_each(|row| filter.set(row, true));
    filter
}

/// The hits of a flat scan.
pub fn exact(
    metric: Metric,
    values: &[f32],
    query: &[f32],
    k: usize,
    filter: Option<&Bitmap>,
    range: Option<DistanceRange>,
) -> Vec<Hit> {
    let queries = Queries::dense(query.len(), metric, query.to_vec());
    let mut tops = [TopK::new(k)];
    let rows = 0..values.len() / query.len();
    scan(&queries, VectorColumn::of_f32(bytemuck::cast_slice(values), query.len()), rows, filter, range, 0, &mut tops);
    let [top] = tops;
    top.into_sorted()
}

/// The share of true hits that were found; those have the same distance, to the bit.
pub fn recall(truths: &[Vec<Hit>], founds: &[Vec<Hit>]) -> f64 {
    let mut shared = 0;
    for (truth, found) in truths.iter().zip(founds) {
        for hit in found {
            if let Some(true_hit) = truth.iter().find(|other| other.row == hit.row) {
                assert_eq!(hit.distance.to_bits(), true_hit.distance.to_bits(), "row {}", hit.row);
                shared += 1;
            }
        }
    }
    f64::from(shared) / truths.iter().map(Vec::len).sum::<usize>().max(1) as f64
}

/// Damages an image behind its header: one byte, or all of them.
pub fn damaged(image: &[u8], header_bytes: usize, seed: u64) -> Vec<u8> {
    let mut damaged = image.to_vec();
    let count = if seed.is_multiple_of(2) { 1 } else { damaged.len() as u64 };
    for index in 0..count {
        let random = mix(seed << 32 | index);
        let at = header_bytes + (random >> 8) as usize % (damaged.len() - header_bytes);
        damaged[at] = damaged[at].wrapping_add(random as u8 | 1);
    }
    damaged
}

/// Flips one to three bits of the fields of a header and makes its checksum right again: what is left to find are bounds.
pub fn reshaped(image: &[u8], seed: u64) -> Vec<u8> {
    const FIELDS: std::ops::Range<usize> = 32..128;
    let mut reshaped = image.to_vec();
    for index in 0..1 + seed % 3 {
        let random = mix(seed << 32 | index);
        reshaped[FIELDS.start + random as usize % FIELDS.len()] ^= 1 << (random >> 56 & 7);
    }
    sealed(reshaped)
}

/// The image with another number in a field of its header.
pub fn with_field(image: &[u8], field: usize, word: u32) -> Vec<u8> {
    let mut changed = image.to_vec();
    changed[32 + field * 4..][..4].copy_from_slice(&word.to_le_bytes());
    sealed(changed)
}

/// Makes the checksum of a changed header right.
fn sealed(mut image: Vec<u8>) -> Vec<u8> {
    let end = header::BYTES - 8;
    let checksum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc64Nvme, &image[..end]);
    image[end..header::BYTES].copy_from_slice(&checksum.to_le_bytes());
    image
}
