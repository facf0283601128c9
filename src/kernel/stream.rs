//! One query with many rows: rows are read once and one after the other, so memory is the limit.

use super::element::{Element, F32};
use super::lanes::{LANES, Lanes};
use super::rows::RowBlock;
use super::tile::{Measure, reduce};

/// Rows whose sums are reduced together.
const STRIP_ROWS: usize = 4;
/// How far ahead of the row being read its successors are asked for, in bytes: hardware prefetchers stop at pages of 4 KiB
/// and know nothing of lists (`benches/flat_scan.rs`: a quarter of the speed, at 50 dimensions half).
const PREFETCH_BYTES: usize = 4096;

/// The sums of one query with every row, into `out`; with `NORMS` also those of the rows' squares, into `norms`.
///
/// # Safety
/// The CPU has the level's instructions, `query` is valid for `rows.dim()` elements (or unused by the measure), `out` has
/// one place per row, and with `NORMS` so has `norms`.
#[inline(always)]
pub(super) unsafe fn stream<L: Lanes, E: Element, M: Measure, const NORMS: bool>(
    query: *const u8,
    rows: &RowBlock<'_>,
    out: &mut [f32],
    norms: &mut [f32],
) {
    let (dim, row_count) = (rows.dim(), rows.len());
    let tiled = row_count - row_count % STRIP_ROWS;
    // Rows that are read side by side must be asked for before the first of them is read.
    let rows_ahead_min = if E::BYTES == F32::BYTES { 1 } else { STRIP_ROWS };
    let ahead = PREFETCH_BYTES.div_ceil(dim * E::BYTES).max(rows_ahead_min);
    for first in (0..tiled).step_by(STRIP_ROWS) {
        // SAFETY: rows `first..first + STRIP_ROWS` exist; the rest is the caller's duty.
        let (sums, squares) = unsafe { strip::<L, E, M, NORMS, STRIP_ROWS>(query, rows, first, ahead) };
        out[first..][..STRIP_ROWS].copy_from_slice(&sums);
        if NORMS {
            norms[first..][..STRIP_ROWS].copy_from_slice(&squares);
        }
    }
    for first in tiled..row_count {
        // SAFETY: row `first` exists; the rest is the caller's duty.
        let ([sum], [square]) = unsafe { strip::<L, E, M, NORMS, 1>(query, rows, first, ahead) };
        out[first] = sum;
        if NORMS {
            norms[first] = square;
        }
    }
}

/// `R` rows; the sums, and with `NORMS` the squares.
#[inline(always)]
unsafe fn strip<L: Lanes, E: Element, M: Measure, const NORMS: bool, const R: usize>(
    query: *const u8,
    rows: &RowBlock<'_>,
    first: usize,
    ahead: usize,
) -> ([f32; R], [f32; R]) {
    let dim = rows.dim();
    let whole = dim - dim % LANES;
    // SAFETY: rows `first..first + R` exist and are valid for `dim` elements: the caller's duty.
    unsafe {
        let mut strip = Strip::<L, R> { sums: [L::zero(); R], squares: [L::zero(); R] };
        let (mut starts, mut starts_ahead) = ([std::ptr::null(); R], [std::ptr::null(); R]);
        for index in 0..R {
            starts[index] = rows.row_pointer(first + index);
            starts_ahead[index] = rows.row_address(first + index + ahead);
        }
        if E::BYTES == F32::BYTES {
            // One row after the other, as they lie in memory.
            for index in 0..R {
                for element in (0..whole).step_by(LANES) {
                    L::prefetch(starts_ahead[index].wrapping_add(element * E::BYTES));
                    let lanes = E::load::<L>(starts[index].add(element * E::BYTES));
                    strip.add::<M, NORMS>(index, load_query::<L, M>(query, element), lanes);
                }
            }
        } else {
            // Side by side: the additions of one row wait for each other, and with small elements not for memory.
            for element in (0..whole).step_by(LANES) {
                let query = load_query::<L, M>(query, element);
                for index in 0..R {
                    // Once per cache line.
                    if (element * E::BYTES).is_multiple_of(64) {
                        L::prefetch(starts_ahead[index].wrapping_add(element * E::BYTES));
                    }
                    let lanes = E::load::<L>(starts[index].add(element * E::BYTES));
                    strip.add::<M, NORMS>(index, query, lanes);
                }
            }
        }
        if whole < dim {
            let count = dim - whole;
            let query = if M::READS_QUERY { L::load_head(query.add(whole * 4), count) } else { L::zero() };
            for index in 0..R {
                L::prefetch(starts_ahead[index].wrapping_add(whole * E::BYTES));
                let lanes = E::load_head::<L>(starts[index].add(whole * E::BYTES), count);
                strip.add::<M, NORMS>(index, query, lanes);
            }
        }
        (reduce(&strip.sums), if NORMS { reduce(&strip.squares) } else { [0.0; R] })
    }
}

/// Sixteen elements of the query, if the measure looks at it.
#[inline(always)]
unsafe fn load_query<L: Lanes, M: Measure>(query: *const u8, element: usize) -> L {
    // SAFETY: the query is valid for `element + 16` elements if the measure reads it: the caller's duty.
    unsafe { if M::READS_QUERY { L::load(query.add(element * F32::BYTES)) } else { L::zero() } }
}

/// The partial sums of `R` rows.
struct Strip<L, const R: usize> {
    sums: [L; R],
    squares: [L; R],
}

impl<L: Lanes, const R: usize> Strip<L, R> {
    #[inline(always)]
    unsafe fn add<M: Measure, const NORMS: bool>(&mut self, index: usize, query: L, row: L) {
        // SAFETY: the caller's duty.
        unsafe {
            self.sums[index] = M::add(query, row, self.sums[index]);
            if NORMS {
                self.squares[index] = row.multiply_add(row, self.squares[index]);
            }
        }
    }
}
