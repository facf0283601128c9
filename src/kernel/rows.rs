//! Rows of one column of `f32` vectors, checked to be in bounds.

use std::ops::Range;

/// Which rows of a column.
#[derive(Clone, Debug)]
pub enum Rows<'a> {
    /// Consecutive rows.
    Range(Range<usize>),
    /// Rows by number, in any order.
    Listed(&'a [u32]),
}

/// Rows of a column, every one of them within the column's bytes: what a kernel may read without further checks.
#[derive(Clone, Debug)]
pub struct RowBlock<'a> {
    vectors: &'a [u8],
    dim: usize,
    rows: Rows<'a>,
}

impl<'a> RowBlock<'a> {
    /// `vectors` holds little-endian `f32`, `dim` per row, at any alignment. `None` when `dim` is 0 or a row is out of bounds.
    pub fn new(vectors: &'a [u8], dim: usize, rows: Rows<'a>) -> Option<RowBlock<'a>> {
        let row_bytes = dim.checked_mul(size_of::<f32>()).filter(|bytes| *bytes > 0)?;
        let row_count = vectors.len() / row_bytes;
        let is_inside = match &rows {
            Rows::Range(range) => range.start <= range.end && range.end <= row_count,
            // A plain maximum is vectorised; an early exit would not be.
            Rows::Listed(list) => list.iter().max().is_none_or(|last| (*last as usize) < row_count),
        };
        is_inside.then_some(RowBlock { vectors, dim, rows })
    }

    /// Elements of a row.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match &self.rows {
            Rows::Range(range) => range.len(),
            Rows::Listed(list) => list.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number in the column of the `index`-th row of the block.
    pub fn row(&self, index: usize) -> usize {
        match &self.rows {
            Rows::Range(range) => range.start + index,
            Rows::Listed(list) => list[index] as usize,
        }
    }

    /// The bytes of the `index`-th row of the block.
    pub fn row_bytes(&self, index: usize) -> &'a [u8] {
        let row_bytes = self.dim * size_of::<f32>();
        &self.vectors[self.row(index) * row_bytes..][..row_bytes]
    }

    /// Where the `index`-th row of the block starts.
    ///
    /// # Safety
    /// `index < self.len()`. Then `dim` elements may be read from the pointer, unaligned, while `'a` lasts.
    #[inline(always)]
    pub(super) unsafe fn row_pointer(&self, index: usize) -> *const u8 {
        let row = match &self.rows {
            Rows::Range(range) => range.start + index,
            // SAFETY: the caller's duty.
            Rows::Listed(list) => unsafe { *list.get_unchecked(index) as usize },
        };
        // SAFETY: `new` checked that every row of the block lies in `vectors`.
        unsafe { self.vectors.as_ptr().add(row * self.dim * size_of::<f32>()) }
    }

    /// Where the `index`-th row of the block starts, for prefetching only: behind the block's last row the column goes on,
    /// or it is the last of a list again.
    #[inline(always)]
    pub(super) fn row_address(&self, index: usize) -> *const u8 {
        let row = match &self.rows {
            Rows::Range(range) => range.start + index,
            Rows::Listed(list) => list.get(index).or(list.last()).map_or(0, |row| *row as usize),
        };
        self.vectors.as_ptr().wrapping_add(row * self.dim * size_of::<f32>())
    }
}
