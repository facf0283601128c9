//! Vectors of a build as 8-bit codes, and blocks made of them.

use crate::kernel::{CODE_PLANES_MAX, CodeKernels, NEIGHBOURS};

/// Width of a step of a code of 1 to 4 bits in units of the standard deviation: with it, an even quantiser of normally distributed
/// values errs least (Max, 1960), and rotated differences are nearly that.
const STEP_OF_SPREAD: [f32; CODE_PLANES_MAX] = [1.596, 0.9957, 0.586, 0.3352];

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
        block.fill(0);
        let (codes, rest) = block.split_at_mut(self.planes * self.code_dim * 4);
        let (id_bytes, rest) = rest.split_at_mut(NEIGHBOURS * 4);
        let (addend_bytes, rest) = rest.split_at_mut(NEIGHBOURS * 2);
        let (factor_bytes, rest) = rest.split_at_mut(NEIGHBOURS);
        let (vector, scalars) = rest.split_at_mut(self.code_dim);
        for (byte, code) in vector.iter_mut().zip(self.codes(vertex)) {
            *byte = *code as u8;
        }
        let (mut addends, mut factors) = ([0.0f32; NEIGHBOURS], [0.0f32; NEIGHBOURS]);
        let mut ids = ids.chain(std::iter::repeat(vertex));
        for index in 0..NEIGHBOURS {
            let id = ids.next().unwrap_or(vertex);
            (addends[index], factors[index]) = self.write_neighbour(vertex, id, index, codes);
            id_bytes[index * 4..][..4].copy_from_slice(&id.to_le_bytes());
        }
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
    }

    /// The code of a neighbour relative to a vertex, as extended RaBitQ has it: with `r` the difference and `u` the odd
    /// integers nearest to a multiple of it, the product of `r` with any `v` is estimated as `<u, v> |r|^2 / <u, r>`.
    fn write_neighbour(&self, vertex: u32, neighbour: u32, index: usize, codes: &mut [u8]) -> (f32, f32) {
        let (centre, row) = (self.rows[vertex as usize], self.rows[neighbour as usize]);
        let shift = if index < 16 { 0 } else { 4 };
        let distance = self.distance(CodeKernels::get(), vertex, neighbour);
        let spread = (distance / self.code_dim as f32).sqrt() * STEP_OF_SPREAD[self.planes - 1];
        let inverse = if spread > 0.0 { 1.0 / spread } else { 0.0 };
        let half = 1i32 << (self.planes - 1);
        let plane_bytes = self.code_dim * 4;
        let (mut products, mut squares, mut of_centre) = ([0.0f32; 4], [0.0f32; 4], [0.0f32; 4]);
        let centres = self.codes(vertex).as_chunks::<4>().0;
        let neighbours = self.codes(neighbour).as_chunks::<4>().0;
        for (group, (from, to)) in centres.iter().zip(neighbours).enumerate() {
            for lane in 0..4 {
                let from = f32::from(from[lane]) * centre.scale;
                let difference = f32::from(to[lane]) * row.scale - from;
                let magnitude = ((difference.abs() * inverse) as i32).min(half - 1);
                let level = if difference > 0.0 { half + magnitude } else { half - 1 - magnitude };
                for plane in 0..self.planes {
                    let bit = (level >> (self.planes - 1 - plane)) as u8 & 1;
                    codes[plane * plane_bytes + group * 16 + index % 16] |= bit << (lane + shift);
                }
                let odd = (2 * level + 1 - 2 * half) as f32;
                products[lane] += odd * difference;
                squares[lane] += difference * difference;
                of_centre[lane] += odd * from;
            }
        }
        let product: f32 = products.iter().sum();
        let factor = if product > 0.0 { 2.0 * squares.iter().sum::<f32>() / product } else { 0.0 };
        (distance + factor * of_centre.iter().sum::<f32>(), factor)
    }
}
