//! Rows of one column of vectors, checked to be in bounds.

use std::ops::Range;

use super::dispatch::Kernels;
use super::element::VectorElement;

/// Which rows of a column.
#[derive(Clone, Debug)]
pub enum Rows<'a> {
    /// Consecutive rows.
    Range(Range<usize>),
    /// Rows by number, in any order.
    Listed(&'a [u32]),
}

/// A column of dense vectors of one element type, at any alignment.
#[derive(Clone, Copy, Debug)]
pub struct VectorRows<'a> {
    /// The rows end to end; a partial row at the end is no row.
    pub bytes: &'a [u8],
    /// Elements of a row. Nothing has rows when it is 0.
    pub dim: usize,
    /// What an element is.
    pub element: VectorElement,
}

impl<'a> VectorRows<'a> {
    /// Rows of little-endian `f32`.
    pub fn of_f32(bytes: &'a [u8], dim: usize) -> VectorRows<'a> {
        VectorRows { bytes, dim, element: VectorElement::F32 }
    }

    /// Whether every element is a finite number.
    pub fn are_finite(&self) -> bool {
        let halves = |exponent: u16| {
            self.bytes.as_chunks::<2>().0.iter().all(|half| u16::from_le_bytes(*half) & exponent != exponent)
        };
        match self.element {
            VectorElement::F32 => {
                const EXPONENT: u32 = 0x7f80_0000;
                self.bytes.as_chunks::<4>().0.iter().all(|word| u32::from_le_bytes(*word) & EXPONENT != EXPONENT)
            }
            VectorElement::F16 => halves(0x7c00),
            VectorElement::BF16 => halves(0x7f80),
            VectorElement::I8 => true,
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.bytes.len().checked_div(self.row_bytes()).unwrap_or(0)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        self.dim.saturating_mul(self.element.bytes())
    }

    /// The bytes of a row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, row: usize) -> &'a [u8] {
        &self.bytes[row * self.row_bytes()..][..self.row_bytes()]
    }

    /// Some of the rows, for the kernels. `None` when `dim` is 0 or a row is out of bounds.
    pub fn block<'b>(&self, rows: Rows<'b>) -> Option<RowBlock<'b>>
    where
        'a: 'b,
    {
        let row_count = self.len();
        let is_inside = match &rows {
            Rows::Range(range) => range.start <= range.end && range.end <= row_count,
            // A plain maximum is vectorised; an early exit would not be.
            Rows::Listed(list) => list.iter().max().is_none_or(|last| (*last as usize) < row_count),
        };
        let VectorRows { bytes, dim, element } = *self;
        (self.dim > 0 && is_inside).then_some(RowBlock {
            vectors: bytes,
            dim,
            element,
            row_bytes: self.row_bytes(),
            rows,
        })
    }

    /// A row as `f32`.
    ///
    /// # Panics
    /// When there is no such row or `out` has not `dim` places.
    pub fn widen(&self, row: usize, out: &mut [f32]) {
        let block = self.block(Rows::Range(row..row + 1)).expect("the caller's row exists");
        Kernels::get().widen(&block, out);
    }
}

/// Rows of a column, every one of them within the column's bytes: what a kernel may read without further checks.
#[derive(Clone, Debug)]
pub struct RowBlock<'a> {
    vectors: &'a [u8],
    dim: usize,
    element: VectorElement,
    row_bytes: usize,
    rows: Rows<'a>,
}

impl<'a> RowBlock<'a> {
    /// `vectors` holds little-endian `f32`, `dim` per row, at any alignment. `None` when `dim` is 0 or a row is out of bounds.
    pub fn new(vectors: &'a [u8], dim: usize, rows: Rows<'a>) -> Option<RowBlock<'a>> {
        VectorRows::of_f32(vectors, dim).block(rows)
    }

    /// What an element is.
    pub fn element(&self) -> VectorElement {
        self.element
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
        &self.vectors[self.row(index) * self.row_bytes..][..self.row_bytes]
    }

    /// The `index`-th row of the block as `f32`.
    ///
    /// # Panics
    /// When there is no such row or `out` has not `dim` places.
    pub fn widen(&self, index: usize, out: &mut [f32]) {
        let row = self.row(index);
        let one = RowBlock { rows: Rows::Range(row..row + 1), ..*self };
        assert!(index < self.len());
        Kernels::get().widen(&one, out);
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
        // SAFETY: `VectorRows::block` checked that every row of the block lies in `vectors`.
        unsafe { self.vectors.as_ptr().add(row * self.row_bytes) }
    }

    /// Where the `index`-th row of the block starts, for prefetching only: behind the block's last row the column goes on,
    /// or it is the last of a list again.
    #[inline(always)]
    pub(super) fn row_address(&self, index: usize) -> *const u8 {
        let row = match &self.rows {
            Rows::Range(range) => range.start + index,
            Rows::Listed(list) => list.get(index).or(list.last()).map_or(0, |row| *row as usize),
        };
        self.vectors.as_ptr().wrapping_add(row * self.row_bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_is_noticed_in_every_element_type() {
        let is_finite = |element, bytes: &[u8]| VectorRows { bytes, dim: 2, element }.are_finite();
        for (good, bad) in [(f32::MAX, f32::INFINITY), (f32::MIN, f32::NAN), (1e-45, f32::NEG_INFINITY)] {
            let of = |value: f32| [1.0f32.to_le_bytes(), value.to_le_bytes()].concat();
            assert!(is_finite(VectorElement::F32, &of(good)) && !is_finite(VectorElement::F32, &of(bad)));
            let of = |value: f32| [half::f16::ONE, half::f16::from_f32(value)].map(half::f16::to_le_bytes).concat();
            let good_half = good.clamp(-65_504.0, 65_504.0);
            assert!(is_finite(VectorElement::F16, &of(good_half)) && !is_finite(VectorElement::F16, &of(bad)));
            // The greatest numbers round up to infinity.
            let of = |value: f32| [half::bf16::ONE, half::bf16::from_f32(value)].map(half::bf16::to_le_bytes).concat();
            assert!(is_finite(VectorElement::BF16, &of(good * 0.5)) && !is_finite(VectorElement::BF16, &of(bad)));
        }
        assert!(is_finite(VectorElement::I8, &[0x80, 0xff]));
    }
}
