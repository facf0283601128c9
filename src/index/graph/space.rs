//! From vectors as users see them to the space of the graph, where all metrics are Euclidean distance: COSINE by normalising,
//! IP by lifting rows onto a sphere (Bachrach et al., RecSys 2014); then the centre is subtracted and the whole rotated.

use super::layout::Shape;
use crate::kernel::{ROTATION_ROUNDS, rotate};
use crate::types::Metric;

/// Largest 8-bit code; symmetric, so that -128 does not occur.
const CODE_MAX: f32 = 127.0;

/// What maps vectors into the space of one graph.
#[derive(Clone, Copy)]
pub(super) struct Space<'a> {
    pub shape: &'a Shape,
    pub signs: &'a [u8],
    /// Little-endian `f32`.
    pub centre: &'a [u8],
}

impl Space<'_> {
    /// Rotates a row into `out` (`code_dim` elements).
    pub fn place_row(&self, row: &[f32], out: &mut [f32]) {
        lift_row(self.shape, row, out);
        self.centre_and_rotate(out);
    }

    /// As for rows, and gives the squared norm there; a query for IP is not lifted.
    pub fn place_query(&self, query: &[f32], out: &mut [f32]) -> f32 {
        out.fill(0.0);
        for (out, value) in out.iter_mut().zip(query) {
            *out = *value;
        }
        if self.shape.metric == Metric::Cosine {
            normalise(&mut out[..query.len()]);
        }
        self.centre_and_rotate(out);
        dot(out, out)
    }

    fn centre_and_rotate(&self, out: &mut [f32]) {
        let centre = &self.centre.as_chunks::<4>().0[..self.shape.inner_dim()];
        for (out, centre) in out.iter_mut().zip(centre) {
            *out -= f32::from_le_bytes(*centre);
        }
        rotate(out, self.signs);
    }
}

/// A row before centring: normalised, lifted or as it is, padded with zeros.
pub(super) fn lift_row(shape: &Shape, row: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    out[..row.len()].copy_from_slice(row);
    match shape.metric {
        Metric::L2 | Metric::Hamming | Metric::Jaccard => {}
        Metric::Cosine => normalise(&mut out[..row.len()]),
        Metric::Ip => out[row.len()] = (shape.squared_norm_max - dot(row, row)).max(0.0).sqrt(),
    }
}

/// Makes the norm 1; a zero vector stays.
pub(in crate::index) fn normalise(values: &mut [f32]) {
    let norm = dot(values, values).sqrt();
    if norm > 0.0 && norm.is_finite() {
        values.iter_mut().for_each(|value| *value /= norm);
    }
}

/// Sixteen partial sums: the same bits whatever the compiler makes of it.
pub(in crate::index) fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let (left, left_rest) = left.as_chunks::<16>();
    let (right, right_rest) = right.as_chunks::<16>();
    for (left, right) in left.iter().zip(right) {
        for lane in 0..16 {
            sums[lane] += left[lane] * right[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    sums.iter().sum::<f32>() + rest
}

/// Writes 8-bit codes of `values` and returns what they are multiplied with.
pub(in crate::index) fn quantise(values: &[f32], codes: &mut [i8]) -> f32 {
    let most = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let inverse = if most > 0.0 && most.is_finite() { CODE_MAX / most } else { 0.0 };
    for (code, value) in codes.iter_mut().zip(values) {
        *code = (value * inverse).round() as i8;
    }
    most / CODE_MAX
}

/// The signs of a rotation: splitmix64 of the seed and the word's number.
pub(in crate::index) fn write_signs(signs: &mut [u8], seed: u64) {
    debug_assert!(signs.len().is_multiple_of(4 * ROTATION_ROUNDS));
    for (index, word) in signs.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        *word = ((mix(seed ^ mix(index as u64)) as u32) & 1 << 31).to_le_bytes();
    }
}

/// splitmix64's finaliser: a hash of 64 bits.
pub(in crate::index) fn mix(value: u64) -> u64 {
    let mut value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    value = (value ^ (value >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ (value >> 31)
}
