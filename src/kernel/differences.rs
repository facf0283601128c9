//! Codes of a few bits per dimension for the difference of two vectors, laid out for FastScan (`codes.rs`).
//!
//! As extended RaBitQ has it: with `r` the difference and `u` the odd integers nearest to a multiple of it, the product of `r`
//! with any `v` is estimated as `<u, v> |r|^2 / <u, r>`. Sixteen partial sums, added in one order: every SIMD level gives the same bits.

use super::bytes::{ByteKernels, Level};
use super::codes::{CODE_DIM_STEP, CODE_PLANES_MAX, NEIGHBOURS};
#[cfg(target_arch = "x86_64")]
use super::{bytes_avx2, bytes_vnni};

/// Dimensions whose bits are one word.
const LANES: usize = 16;

/// A vector as signed bytes and what they are multiplied with.
#[derive(Clone, Copy, Debug)]
pub struct Coded<'a> {
    /// A byte per dimension.
    pub codes: &'a [i8],
    /// What they are multiplied with.
    pub scale: f32,
}

/// Sums over the dimensions of a difference.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Difference {
    /// Of the products of codes and difference.
    pub product: f32,
    /// Of the squares of the difference.
    pub square: f32,
    /// Of the products of codes and vertex.
    pub of_vertex: f32,
}

/// The bits of 32 neighbours: a word per sixteen dimensions and neighbour, plane after plane, the weightiest first.
pub type NeighbourBits = [[u16; NEIGHBOURS]];

/// Where the bits of one neighbour go.
pub(super) struct Placement<'a> {
    pub inverse_step: f32,
    bits: &'a mut NeighbourBits,
    index: usize,
    planes: usize,
    chunks: usize,
}

impl Placement<'_> {
    /// The greatest code is twice this and one.
    pub fn magnitude_max(&self) -> f32 {
        ((1 << (self.planes - 1)) - 1) as f32
    }

    /// Writes a chunk: which of sixteen differences are positive, and by number the bits of their magnitudes.
    #[inline(always)]
    pub fn put(&mut self, chunk: usize, positive: u16, magnitude_bits: impl Fn(usize) -> u16) {
        self.bits[chunk][self.index] = positive;
        for plane in 1..self.planes {
            // Below zero, what a level is above the lowest counts.
            let bits = !(magnitude_bits(self.planes - 1 - plane) ^ positive);
            self.bits[plane * self.chunks + chunk][self.index] = bits;
        }
    }
}

impl ByteKernels {
    /// Codes the difference of a neighbour to a vertex in steps of `1 / inverse_step`, into the bits of neighbour `index`.
    ///
    /// # Panics
    /// When the vectors differ in length or are no multiple of [`CODE_DIM_STEP`], when `bits` is not 1 to [`CODE_PLANES_MAX`] planes of
    /// them, or `index` not below [`NEIGHBOURS`].
    pub fn encode_difference(
        self,
        vertex: Coded<'_>,
        neighbour: Coded<'_>,
        inverse_step: f32,
        index: usize,
        bits: &mut NeighbourBits,
    ) -> Difference {
        let dim = vertex.codes.len();
        assert!(dim == neighbour.codes.len() && dim > 0 && dim.is_multiple_of(CODE_DIM_STEP) && index < NEIGHBOURS);
        let chunks = dim / LANES;
        let planes = bits.len() / chunks;
        assert!((1..=CODE_PLANES_MAX).contains(&planes) && bits.len() == planes * chunks);
        let mut placement = Placement { inverse_step, bits, index, planes, chunks };
        match self.level {
            Level::Scalar => encode_scalar(vertex, neighbour, &mut placement),
            // SAFETY: the token proves the CPU's features; the lengths were checked.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => unsafe { bytes_avx2::encode(vertex, neighbour, &mut placement) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Vnni(_) => unsafe { bytes_vnni::encode(vertex, neighbour, &mut placement) },
        }
    }
}

/// Lays the bits of 32 neighbours out for FastScan: 64 bytes per sixteen dimensions and plane.
pub fn interleave(bits: &NeighbourBits, out: &mut [u8]) {
    for (bits, out) in bits.iter().zip(out.as_chunks_mut::<64>().0) {
        for (group, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
            for (index, out) in out.iter_mut().enumerate() {
                let (low, high) = (bits[index] >> (group * 4) & 15, bits[index + 16] >> (group * 4) & 15);
                *out = (low | high << 4) as u8;
            }
        }
    }
}

fn encode_scalar(vertex: Coded<'_>, neighbour: Coded<'_>, placement: &mut Placement<'_>) -> Difference {
    let (mut products, mut squares, mut of_vertex) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    let top = placement.magnitude_max();
    let chunks = vertex.codes.as_chunks::<LANES>().0.iter().zip(neighbour.codes.as_chunks::<LANES>().0);
    for (chunk, (from, to)) in chunks.enumerate() {
        let mut positives = 0u16;
        let mut magnitudes = [0u16; LANES];
        for lane in 0..LANES {
            let from = f32::from(from[lane]) * vertex.scale;
            let difference = f32::from(to[lane]) * neighbour.scale - from;
            let scaled = difference.abs() * placement.inverse_step;
            // What is no number becomes the greatest.
            let magnitude = if scaled < top { scaled.trunc() } else { top };
            let is_positive = difference > 0.0;
            let odd = if is_positive { 2.0 * magnitude + 1.0 } else { -(2.0 * magnitude + 1.0) };
            products[lane] = odd.mul_add(difference, products[lane]);
            squares[lane] = difference.mul_add(difference, squares[lane]);
            of_vertex[lane] = odd.mul_add(from, of_vertex[lane]);
            positives |= u16::from(is_positive) << lane;
            magnitudes[lane] = magnitude as u16;
        }
        let bits = |bit: usize| (0..LANES).fold(0, |bits, lane| bits | (magnitudes[lane] >> bit & 1) << lane);
        placement.put(chunk, positives, bits);
    }
    Difference { product: sum(products), square: sum(squares), of_vertex: sum(of_vertex) }
}

/// Lane `i` plus lane `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
fn sum(mut lanes: [f32; LANES]) -> f32 {
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::super::bytes::tests::bytes;
    use super::*;

    fn codes(count: usize, seed: u32) -> Vec<i8> {
        bytes(count, seed).into_iter().map(|byte| (byte as i8).max(-127)).collect()
    }

    #[test]
    fn every_level_gives_the_same_bits() {
        for dim in [32, 96, 800] {
            for planes in 1..=CODE_PLANES_MAX {
                for (scale, inverse_step) in [(0.01, 0.3), (0.01, 3.0), (1.0, 0.0), (f32::MAX / 200.0, f32::INFINITY)] {
                    let (left, right) = (codes(dim, 1), codes(dim, 2));
                    let vertex = Coded { codes: &left, scale };
                    let neighbour = Coded { codes: &right, scale: scale * 0.7 };
                    let results = ByteKernels::every().into_iter().map(|kernels| {
                        let mut bits = vec![[0; NEIGHBOURS]; dim / LANES * planes];
                        let sums = kernels.encode_difference(vertex, neighbour, inverse_step, 19, &mut bits);
                        ([sums.product, sums.square, sums.of_vertex].map(f32::to_bits), bits)
                    });
                    let results: Vec<_> = results.collect();
                    assert!(results.iter().all(|result| *result == results[0]), "{dim} {planes} {scale}");
                }
            }
        }
    }

    #[test]
    fn codes_point_to_where_the_difference_does() {
        let (left, right) = (codes(320, 1), codes(320, 2));
        let (vertex, neighbour) = (Coded { codes: &left, scale: 0.5 }, Coded { codes: &right, scale: 0.5 });
        let mut before = 0.0;
        for (planes, step) in [(1, 1.0), (2, 50.0), (3, 29.0), (4, 17.0)] {
            let mut bits = vec![[0; NEIGHBOURS]; 320 / LANES * planes];
            let sums = ByteKernels::get().encode_difference(vertex, neighbour, 1.0 / step, 0, &mut bits);
            let odd = |dim: usize| {
                let level = (0..planes).fold(0, |level, plane| {
                    level * 2 + i32::from(bits[plane * (320 / LANES) + dim / LANES][0] >> (dim % LANES) & 1)
                });
                (2 * level + 1 - (1 << planes)) as f32
            };
            let difference = |dim: usize| (f32::from(right[dim]) - f32::from(left[dim])) * 0.5;
            let product: f32 = (0..320).map(|dim| odd(dim) * difference(dim)).sum();
            assert!((product - sums.product).abs() <= product * 1e-5, "{product} {sums:?}");
            let squares: f32 = (0..320).map(|dim| odd(dim) * odd(dim)).sum();
            let cosine = product / (squares * sums.square).sqrt();
            assert!(cosine > before && cosine > 0.75, "{planes}: {cosine}");
            before = cosine;
        }
    }

    #[test]
    fn neighbours_lie_in_nibbles_of_a_byte_per_four_dimensions() {
        let mut bits = [[0u16; NEIGHBOURS]; 2];
        (bits[0][3], bits[0][19], bits[1][31]) = (0x4321, 0x8765, 0xA000);
        let mut out = [0; 128];
        interleave(&bits, &mut out);
        assert_eq!([out[3], out[16 + 3], out[32 + 3], out[48 + 3]], [0x51, 0x62, 0x73, 0x84]);
        assert_eq!((out[64 + 48 + 15], out.iter().filter(|byte| **byte != 0).count()), (0xA0, 5));
    }
}
