//! Rows that the codes cannot tell apart: the first is a vertex, the others hang on it in a chain. As vertices they would link
//! to nothing but each other, fill every pool that comes by, and hide what lies beyond them.

use crc_fast::{CrcAlgorithm, Digest};

use super::encode::Vectors;

/// Bits of a scale and a norm that are not compared: a row that was normalised differs by so little from its multiples.
const BITS_IGNORED: u32 = 4;

/// Which row stands for each row.
pub(super) struct Twins {
    /// The vertex of each row; `None` when every row is one.
    vertices: Option<Vec<u32>>,
}

impl Twins {
    pub fn of(vectors: &Vectors) -> Twins {
        let row_count = vectors.rows.len();
        let mut hashed: Vec<(u64, u32)> = (0..row_count as u32).map(|row| (hash(vectors, row), row)).collect();
        hashed.sort_unstable();
        let mut vertices: Option<Vec<u32>> = None;
        let mut firsts: Vec<u32> = Vec::new();
        for rows in hashed.chunk_by(|left, right| left.0 == right.0).filter(|rows| rows.len() > 1) {
            firsts.clear();
            for (_, row) in rows {
                match firsts.iter().find(|first| is_equal(vectors, **first, *row)) {
                    Some(first) => {
                        let vertices = vertices.get_or_insert_with(|| (0..row_count as u32).collect());
                        vertices[*row as usize] = *first;
                    }
                    None => firsts.push(*row),
                }
            }
        }
        Twins { vertices }
    }

    /// Whether some rows are no vertices.
    pub fn exist(&self) -> bool {
        self.vertices.is_some()
    }

    pub fn is_vertex(&self, row: u32) -> bool {
        self.vertices.as_ref().is_none_or(|vertices| vertices[row as usize] == row)
    }

    /// Writes chains: the next twin of each row, the row itself at the end.
    pub fn write(&self, row_count: usize, bytes: &mut [u8]) {
        let mut next: Vec<u32> = (0..row_count as u32).collect();
        // Backwards, each row is put right behind its vertex: chains ascend.
        for (row, vertex) in self.vertices.as_deref().unwrap_or_default().iter().enumerate().rev() {
            if row as u32 != *vertex {
                let behind = std::mem::replace(&mut next[*vertex as usize], row as u32);
                next[row] = if behind == *vertex { row as u32 } else { behind };
            }
        }
        bytes.fill(0);
        for (bytes, next) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(next) {
            *bytes = next.to_le_bytes();
        }
    }
}

fn numbers(vectors: &Vectors, row: u32) -> [u32; 2] {
    let row = vectors.rows[row as usize];
    [row.scale, row.squared_norm].map(|number| number.to_bits() >> BITS_IGNORED)
}

fn hash(vectors: &Vectors, row: u32) -> u64 {
    let mut digest = Digest::new(CrcAlgorithm::Crc64Nvme);
    digest.update(bytemuck::cast_slice(vectors.codes(row)));
    digest.update(bytemuck::cast_slice(&numbers(vectors, row)));
    digest.finalize()
}

fn is_equal(vectors: &Vectors, left: u32, right: u32) -> bool {
    numbers(vectors, left) == numbers(vectors, right) && vectors.codes(left) == vectors.codes(right)
}
