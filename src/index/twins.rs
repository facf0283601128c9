//! Rows that an index cannot tell apart: the first is a vertex, the others hang on it in a chain. As vertices they would link
//! to nothing but each other, fill every pool that comes by, and hide what lies beyond them.

/// Which row stands for each row.
pub(super) struct Twins {
    row_count: usize,
    /// The vertex of each row; `None` when every row is one.
    vertices: Option<Vec<u32>>,
}

impl Twins {
    /// Finds the rows that are equal; those have equal hashes.
    pub fn of(row_count: usize, hash: impl Fn(u32) -> u64, are_equal: impl Fn(u32, u32) -> bool) -> Twins {
        let mut hashed: Vec<(u64, u32)> = (0..row_count as u32).map(|row| (hash(row), row)).collect();
        hashed.sort_unstable();
        let mut vertices: Option<Vec<u32>> = None;
        let mut firsts: Vec<u32> = Vec::new();
        for rows in hashed.chunk_by(|left, right| left.0 == right.0).filter(|rows| rows.len() > 1) {
            firsts.clear();
            for (_, row) in rows {
                match firsts.iter().find(|first| are_equal(**first, *row)) {
                    Some(first) => {
                        let vertices = vertices.get_or_insert_with(|| (0..row_count as u32).collect());
                        vertices[*row as usize] = *first;
                    }
                    None => firsts.push(*row),
                }
            }
        }
        Twins { row_count, vertices }
    }

    /// Whether some rows are no vertices.
    pub fn exist(&self) -> bool {
        self.vertices.is_some()
    }

    pub fn is_vertex(&self, row: u32) -> bool {
        self.vertices.as_ref().is_none_or(|vertices| vertices[row as usize] == row)
    }

    /// Writes chains: the next twin of each row, the row itself at the end.
    pub fn write(&self, bytes: &mut [u8]) {
        let mut next: Vec<u32> = (0..self.row_count as u32).collect();
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

/// A row and those behind it in its chain, ascending, in an image of `row_count` rows; `chains` is empty when there are no
/// twins. However the bytes go round in circles, it ends.
#[inline]
pub(super) fn chain<'a>(chains: &'a [u8], row_count: usize, row: u32) -> impl Iterator<Item = u32> + use<'a> {
    let chains = chains.as_chunks::<4>().0;
    let next = move |row: &u32| {
        let twin = u32::from_le_bytes(*chains.get(*row as usize)?);
        (twin != *row && (twin as usize) < row_count).then_some(twin)
    };
    std::iter::successors(Some(row), next).take(row_count)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(twins: &Twins, rows: usize) -> Vec<u8> {
        let mut bytes = vec![9; rows * 4];
        twins.write(&mut bytes);
        bytes
    }

    #[test]
    fn equal_rows_hang_on_the_first_in_the_order_of_rows_and_equal_hashes_do_not_make_twins() {
        let rows = [5, 1, 5, 2, 1, 5, 3, 6];
        // 1 and 6 have one hash.
        let twins = Twins::of(rows.len(), |row| rows[row as usize] % 5, |a, b| rows[a as usize] == rows[b as usize]);
        let vertices: Vec<u32> = (0..8).filter(|row| twins.is_vertex(*row)).collect();
        assert!(twins.exist() && vertices == [0, 1, 3, 6, 7]);
        let bytes = written(&twins, 8);
        let chains = [0, 1, 3, 6, 7].map(|vertex| chain(&bytes, 8, vertex).collect::<Vec<_>>());
        assert_eq!(chains, [vec![0, 2, 5], vec![1, 4], vec![3], vec![6], vec![7]]);
    }

    #[test]
    fn rows_that_differ_are_all_vertices() {
        let twins = Twins::of(3, u64::from, |_, _| true);
        assert!(!twins.exist() && (0..3).all(|row| twins.is_vertex(row)));
        let bytes = written(&twins, 3);
        assert!((0..3).all(|row| chain(&bytes, 3, row).eq([row]) && chain(&[], 3, row).eq([row])));
    }

    #[test]
    fn a_circle_ends_and_a_row_that_is_none_is_not_followed() {
        let bytes: Vec<u8> = [1u32, 0, 7].iter().flat_map(|next| next.to_le_bytes()).collect();
        assert_eq!(chain(&bytes, 3, 0).count(), 3);
        assert!(chain(&bytes, 3, 2).eq([2]));
    }
}
