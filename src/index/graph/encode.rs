//! Vectors of a build as 8-bit codes, and blocks made of them.

use super::layout::SCALARS_BYTES;
use crate::kernel::{CodeKernels, NEIGHBOURS};

/// All rows of a build in the space of the graph: 8-bit codes, scales and squared norms.
pub(super) struct Vectors {
    pub code_dim: usize,
    pub rows: Vec<Row>,
    pub codes: Vec<i8>,
}

/// What belongs to the codes of a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Row {
    pub scale: f32,
    pub squared_norm: f32,
}

impl Vectors {
    pub fn codes(&self, id: u32) -> &[i8] {
        &self.codes[id as usize * self.code_dim..][..self.code_dim]
    }

    /// The squared distance of two rows.
    #[inline]
    pub fn distance(&self, kernels: CodeKernels, left: u32, right: u32) -> f32 {
        let product = kernels.dot(self.codes(left), self.codes(right)) as f32;
        let (left, right) = (self.rows[left as usize], self.rows[right as usize]);
        ((left.squared_norm + right.squared_norm) - 2.0 * (left.scale * right.scale) * product).max(0.0)
    }

    /// Writes the block of a vertex. `ids` are its neighbours; places beyond them point to itself, which a search never
    /// follows.
    pub fn write_block(&self, vertex: u32, ids: impl Iterator<Item = u32>, block: &mut [u8]) {
        let row = self.rows[vertex as usize];
        let dim = self.code_dim;
        block.fill(0);
        block[..4].copy_from_slice(&row.squared_norm.to_le_bytes());
        block[4..8].copy_from_slice(&row.scale.to_le_bytes());
        let (vector, rest) = block[SCALARS_BYTES..].split_at_mut(dim);
        for (byte, code) in vector.iter_mut().zip(self.codes(vertex)) {
            *byte = *code as u8;
        }
        let (codes, rest) = rest.split_at_mut(dim * 4);
        let (addends, rest) = rest.split_at_mut(NEIGHBOURS * 4);
        let (factors, rest) = rest.split_at_mut(NEIGHBOURS * 4);
        let mut ids = ids.chain(std::iter::repeat(vertex));
        for index in 0..NEIGHBOURS {
            let id = ids.next().unwrap_or(vertex);
            let (addend, factor) = self.write_neighbour(vertex, id, index, codes);
            addends[index * 4..][..4].copy_from_slice(&addend.to_le_bytes());
            factors[index * 4..][..4].copy_from_slice(&factor.to_le_bytes());
            rest[index * 4..][..4].copy_from_slice(&id.to_le_bytes());
        }
    }

    /// The 1-bit code of a neighbour relative to a vertex, as RaBitQ has it: with `r` the difference, `s` its signs, the
    /// product of `r` with any `v` is estimated as `<s, v> |r|^2 / <s, r>`.
    fn write_neighbour(&self, vertex: u32, neighbour: u32, index: usize, codes: &mut [u8]) -> (f32, f32) {
        let (centre, row) = (self.rows[vertex as usize], self.rows[neighbour as usize]);
        let shift = if index < 16 { 0 } else { 4 };
        let (mut absolute, mut squares, mut of_centre) = ([0.0f32; 4], [0.0f32; 4], [0.0f32; 4]);
        let centres = self.codes(vertex).as_chunks::<4>().0;
        let neighbours = self.codes(neighbour).as_chunks::<4>().0;
        for (group, (from, to)) in centres.iter().zip(neighbours).enumerate() {
            let mut bits = 0u8;
            for lane in 0..4 {
                let from = f32::from(from[lane]) * centre.scale;
                let difference = f32::from(to[lane]) * row.scale - from;
                bits |= u8::from(difference > 0.0) << lane;
                absolute[lane] += difference.abs();
                squares[lane] += difference * difference;
                of_centre[lane] += if difference > 0.0 { from } else { -from };
            }
            codes[group * 16 + index % 16] |= bits << shift;
        }
        let absolute: f32 = absolute.iter().sum();
        let factor = if absolute > 0.0 { 2.0 * squares.iter().sum::<f32>() / absolute } else { 0.0 };
        (self.distance(CodeKernels::get(), vertex, neighbour) + factor * of_centre.iter().sum::<f32>(), factor)
    }
}
