//! Vectors of a build as 8-bit codes, and blocks made of them.

use crc_fast::{CrcAlgorithm, Digest};

use super::layout::SCALARS_BYTES;
use super::space::quantise;
use crate::index::twins::Twins;
use crate::kernel::{
    ByteKernels, ByteRows, CODE_PLANES_MAX, CodeKernels, Coded, NEIGHBOURS, NeighbourBits, interleave,
};

/// Width of a step of a code of 1 to 4 bits in units of the standard deviation: with it, an even quantiser of normally distributed
/// values errs least (Max, 1960), and rotated differences are nearly that.
const STEP_OF_SPREAD: [f32; CODE_PLANES_MAX] = [1.596, 0.9957, 0.586, 0.3352];
/// Neighbours whose vectors are asked for before they are coded.
const AHEAD: usize = 3;
/// Bits of a scale and a norm that twins may differ in: a row that was normalised differs by so little from its multiples.
const TWIN_BITS_IGNORED: u32 = 4;

/// All rows of a build in the space of the graph: 8-bit codes, scales and squared norms.
pub(super) struct Vectors {
    pub code_dim: usize,
    /// Bits per dimension of a neighbour's code.
    pub planes: usize,
    pub rows: Vec<Row>,
    pub codes: Vec<i8>,
}

/// What belongs to the codes of a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    pub scale: f32,
    /// Of what the codes stand for.
    pub squared_norm: f32,
}

impl Row {
    /// Writes the codes of a rotated row. Its squared norm is that of the codes: between rows near each other, far from the centre, the
    /// distances are those of the codes then; with the row's own norm they would err with the distance to the centre.
    pub fn quantise(rotated: &[f32], codes: &mut [i8]) -> Row {
        let scale = quantise(rotated, codes);
        let square: i32 = codes.iter().map(|code| i32::from(*code) * i32::from(*code)).sum();
        Row { scale, squared_norm: scale * scale * square as f32 }
    }

    /// The squared distance of two rows, of the dot product of their codes.
    #[inline]
    fn distance(self, other: Row, product: i32) -> f32 {
        ((self.squared_norm + other.squared_norm) - 2.0 * (self.scale * other.scale) * product as f32).max(0.0)
    }
}

impl Vectors {
    pub fn codes(&self, id: u32) -> &[i8] {
        &self.codes[id as usize * self.code_dim..][..self.code_dim]
    }

    /// All rows, for the kernels.
    fn byte_rows(&self) -> Option<ByteRows<'_>> {
        ByteRows::new(bytemuck::cast_slice(&self.codes), self.code_dim, 0, self.code_dim)
    }

    /// The squared distance of two rows.
    #[inline]
    pub fn distance(&self, left: u32, right: u32) -> f32 {
        let product = ByteKernels::get().dot(self.codes(left), self.codes(right));
        self.rows[left as usize].distance(self.rows[right as usize], product)
    }

    /// The squared distances of a row to others, into `distances.list`.
    pub fn distances(&self, left: u32, list: &[u32], distances: &mut Distances) {
        self.distances_to(self.codes(left), self.rows[left as usize], list, distances);
    }

    /// The squared distances of any point to rows, into `distances.list`.
    pub fn distances_to(&self, codes: &[i8], point: Row, list: &[u32], distances: &mut Distances) {
        let Distances { products, list: out } = distances;
        products.resize(list.len(), 0);
        if let Some(rows) = self.byte_rows() {
            ByteKernels::get().dots(codes, &rows, list, products);
        }
        out.clear();
        out.extend(list.iter().zip(products).map(|(row, product)| point.distance(self.rows[*row as usize], *product)));
    }

    /// Which rows the codes cannot tell apart.
    pub fn twins(&self) -> Twins {
        let numbers = |row: u32| {
            let Row { scale, squared_norm } = self.rows[row as usize];
            [scale, squared_norm].map(|number| number.to_bits() >> TWIN_BITS_IGNORED)
        };
        let hash = |row: u32| {
            let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
            digest.update(bytemuck::cast_slice(self.codes(row)));
            digest.update(bytemuck::cast_slice(&numbers(row)));
            digest.finalize()
        };
        let are_equal = |left, right| numbers(left) == numbers(right) && self.codes(left) == self.codes(right);
        Twins::of(self.rows.len(), hash, are_equal)
    }

    /// Asks for the codes of a row.
    #[inline]
    pub fn prefetch(&self, row: u32) {
        CodeKernels::get().prefetch(bytemuck::cast_slice(self.codes(row)));
    }

    /// Writes the block of a vertex. `neighbours` are its neighbours; places beyond them point to itself, which a search never
    /// follows. `bits` is memory to work in.
    pub fn write_block(
        &self,
        vertex: u32,
        neighbours: impl Iterator<Item = u32>,
        bits: &mut BlockBits,
        block: &mut [u8],
    ) {
        let row = self.rows[vertex as usize];
        let (head, codes) = block.split_at_mut(block.len() - self.planes * self.code_dim * 4);
        let (vector, rest) = head.split_at_mut(self.code_dim);
        let (scalars, rest) = rest.split_at_mut(SCALARS_BYTES);
        let (id_bytes, rest) = rest.split_at_mut(NEIGHBOURS * 4);
        let (addend_bytes, rest) = rest.split_at_mut(NEIGHBOURS * 2);
        let (factor_bytes, padding) = rest.split_at_mut(NEIGHBOURS);
        for (byte, code) in vector.iter_mut().zip(self.codes(vertex)) {
            *byte = *code as u8;
        }
        let mut ids = [vertex; NEIGHBOURS];
        ids.iter_mut().zip(neighbours).for_each(|(id, neighbour)| *id = neighbour);
        let (mut addends, mut factors) = ([0.0f32; NEIGHBOURS], [0.0f32; NEIGHBOURS]);
        bits.0.resize(self.planes * self.code_dim / 16, [0; NEIGHBOURS]);
        ids[..AHEAD].iter().for_each(|id| self.prefetch(*id));
        for (index, id) in ids.iter().enumerate() {
            if let Some(ahead) = ids.get(index + AHEAD) {
                self.prefetch(*ahead);
            }
            (addends[index], factors[index]) = self.encode_neighbour(vertex, *id, index, &mut bits.0);
            id_bytes[index * 4..][..4].copy_from_slice(&id.to_le_bytes());
        }
        interleave(&bits.0, codes);
        let low = addends.iter().copied().fold(f32::INFINITY, f32::min);
        let addend_step = (addends.iter().copied().fold(low, f32::max) - low) / f32::from(u16::MAX);
        let factor_step = factors.iter().copied().fold(0.0, f32::max) / f32::from(u8::MAX);
        let steps = |value: f32, step: f32| if step > 0.0 { (value / step).round() } else { 0.0 };
        for index in 0..NEIGHBOURS {
            let addend = steps(addends[index] - low, addend_step) as u16;
            addend_bytes[index * 2..][..2].copy_from_slice(&addend.to_le_bytes());
            factor_bytes[index] = steps(factors[index], factor_step) as u8;
        }
        for (index, scalar) in [row.squared_norm, row.scale, low, addend_step, factor_step].iter().enumerate() {
            scalars[index * 4..][..4].copy_from_slice(&scalar.to_le_bytes());
        }
        padding.fill(0);
    }

    /// The code of a neighbour relative to a vertex: what is added to an estimate, and what its product is multiplied with.
    fn encode_neighbour(&self, vertex: u32, neighbour: u32, index: usize, bits: &mut NeighbourBits) -> (f32, f32) {
        let coded = |row: u32| Coded { codes: self.codes(row), scale: self.rows[row as usize].scale };
        let distance = self.distance(vertex, neighbour);
        let spread = (distance / self.code_dim as f32).sqrt() * STEP_OF_SPREAD[self.planes - 1];
        let inverse_step = if spread > 0.0 { 1.0 / spread } else { 0.0 };
        let kernels = ByteKernels::get();
        let sums = kernels.encode_difference(coded(vertex), coded(neighbour), inverse_step, index, bits);
        let factor = if sums.product > 0.0 { 2.0 * sums.square / sums.product } else { 0.0 };
        (distance + factor * sums.of_vertex, factor)
    }
}

/// Memory in which blocks are written.
#[derive(Default)]
pub(super) struct BlockBits(Vec<[u16; NEIGHBOURS]>);

/// Distances of one row to many, and memory to compute them in.
#[derive(Default)]
pub(super) struct Distances {
    products: Vec<i32>,
    pub list: Vec<f32>,
}
