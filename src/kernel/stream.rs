//! One query with many rows: rows are read once and one after the other, so memory is the limit.

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
pub(super) unsafe fn stream<L: Lanes, M: Measure, const NORMS: bool>(
    query: *const u8,
    rows: &RowBlock<'_>,
    out: &mut [f32],
    norms: &mut [f32],
) {
    let (dim, row_count) = (rows.dim(), rows.len());
    let tiled = row_count - row_count % STRIP_ROWS;
    let ahead = PREFETCH_BYTES.div_ceil(dim * 4);
    for first in (0..tiled).step_by(STRIP_ROWS) {
        // SAFETY: rows `first..first + STRIP_ROWS` exist; the rest is the caller's duty.
        let (sums, squares) = unsafe { strip::<L, M, NORMS, STRIP_ROWS>(query, rows, first, ahead) };
        out[first..][..STRIP_ROWS].copy_from_slice(&sums);
        if NORMS {
            norms[first..][..STRIP_ROWS].copy_from_slice(&squares);
        }
    }
    for first in tiled..row_count {
        // SAFETY: row `first` exists; the rest is the caller's duty.
        let ([sum], [square]) = unsafe { strip::<L, M, NORMS, 1>(query, rows, first, ahead) };
        out[first] = sum;
        if NORMS {
            norms[first] = square;
        }
    }
}

/// `R` rows, one after the other; the sums, and with `NORMS` the squares.
#[inline(always)]
unsafe fn strip<L: Lanes, M: Measure, const NORMS: bool, const R: usize>(
    query: *const u8,
    rows: &RowBlock<'_>,
    first: usize,
    ahead: usize,
) -> ([f32; R], [f32; R]) {
    let dim = rows.dim();
    let whole = dim - dim % LANES;
    // SAFETY: rows `first..first + R` exist and are valid for `dim` elements: the caller's duty.
    unsafe {
        let (mut sums, mut squares) = ([L::zero(); R], [L::zero(); R]);
        for index in 0..R {
            let row = rows.row_pointer(first + index);
            let row_ahead = rows.row_address(first + index + ahead);
            let (mut sum, mut square) = (L::zero(), L::zero());
            for element in (0..whole).step_by(LANES) {
                L::prefetch(row_ahead.wrapping_add(element * 4));
                let lanes = L::load(row.add(element * 4));
                sum = M::add(L::load(query.add(element * 4)), lanes, sum);
                if NORMS {
                    square = lanes.multiply_add(lanes, square);
                }
            }
            if whole < dim {
                L::prefetch(row_ahead.wrapping_add(whole * 4));
                let lanes = L::load_head(row.add(whole * 4), dim - whole);
                sum = M::add(L::load_head(query.add(whole * 4), dim - whole), lanes, sum);
                if NORMS {
                    square = lanes.multiply_add(lanes, square);
                }
            }
            sums[index] = sum;
            squares[index] = square;
        }
        (reduce(&sums), if NORMS { reduce(&squares) } else { [0.0; R] })
    }
}
