//! The loops: small tiles of queries times rows whose sums stay in registers, for any SIMD level.

use super::lanes::{LANES, Lanes};
use super::rows::RowBlock;

/// Work for one level. Lengths were checked: `queries` holds whole queries of `rows.dim()` elements, `out` has one value
/// per query and row, query by query, `norms` one per row.
pub(super) enum Task<'a> {
    /// Sums of squared differences.
    SquaredDistances { queries: &'a [f32], rows: &'a RowBlock<'a>, out: &'a mut [f32] },
    /// Sums of products.
    InnerProducts { queries: &'a [f32], rows: &'a RowBlock<'a>, out: &'a mut [f32] },
    /// Sums of products with one query, and of the rows' squares, in one pass.
    InnerProductsAndNorms { query: &'a [f32], rows: &'a RowBlock<'a>, out: &'a mut [f32], norms: &'a mut [f32] },
    /// Sums of the rows' squares.
    Norms { rows: &'a RowBlock<'a>, norms: &'a mut [f32] },
}

/// How a pair of elements adds to the sum.
trait Measure {
    /// # Safety
    /// See [`Lanes`].
    unsafe fn add<L: Lanes>(query: L, row: L, sum: L) -> L;
}

struct SquaredDifference;

impl Measure for SquaredDifference {
    #[inline(always)]
    unsafe fn add<L: Lanes>(query: L, row: L, sum: L) -> L {
        // SAFETY: the caller's duty.
        unsafe {
            let difference = query.subtract(row);
            difference.multiply_add(difference, sum)
        }
    }
}

struct Product;

impl Measure for Product {
    #[inline(always)]
    unsafe fn add<L: Lanes>(query: L, row: L, sum: L) -> L {
        // SAFETY: the caller's duty.
        unsafe { query.multiply_add(row, sum) }
    }
}

/// Runs a task in tiles of `Q` queries and `R` rows; one query goes with four rows.
///
/// # Safety
/// The CPU has the level's instructions, and the task's lengths are as its type says.
#[inline(always)]
pub(super) unsafe fn run<L: Lanes, const Q: usize, const R: usize>(task: Task<'_>) {
    // SAFETY: the caller's duty.
    unsafe {
        match task {
            Task::SquaredDistances { queries, rows, out } => all::<L, SquaredDifference, Q, R>(queries, rows, out),
            Task::InnerProducts { queries, rows, out } => all::<L, Product, Q, R>(queries, rows, out),
            Task::InnerProductsAndNorms { query, rows, out, norms } => with_norms::<L>(query, rows, out, norms),
            Task::Norms { rows, norms } => only_norms::<L>(rows, norms),
        }
    }
}

/// Every query with every row.
#[inline(always)]
unsafe fn all<L: Lanes, M: Measure, const Q: usize, const R: usize>(
    queries: &[f32],
    rows: &RowBlock<'_>,
    out: &mut [f32],
) {
    let (dim, row_count) = (rows.dim(), rows.len());
    let query_count = queries.len() / dim;
    let tiled = query_count - query_count % Q;
    for first in (0..tiled).step_by(Q) {
        // SAFETY: queries `first..first + Q` exist, and their outputs.
        unsafe {
            let these = std::array::from_fn(|index| queries.as_ptr().add((first + index) * dim).cast());
            pass::<L, M, Q, R>(these, rows, &mut out[first * row_count..(first + Q) * row_count]);
        }
    }
    for index in tiled..query_count {
        // SAFETY: query `index` exists, and its outputs.
        unsafe {
            let query = queries.as_ptr().add(index * dim).cast();
            pass::<L, M, 1, 4>([query], rows, &mut out[index * row_count..(index + 1) * row_count]);
        }
    }
}

/// `Q` queries with every row, `R` rows at a time, the rest one at a time.
#[inline(always)]
unsafe fn pass<L: Lanes, M: Measure, const Q: usize, const R: usize>(
    queries: [*const u8; Q],
    rows: &RowBlock<'_>,
    out: &mut [f32],
) {
    let (dim, row_count) = (rows.dim(), rows.len());
    let tiled = row_count - row_count % R;
    for first in (0..tiled).step_by(R) {
        // SAFETY: rows `first..first + R` exist; the queries are the caller's duty.
        let distances = unsafe { tile::<L, M, Q, R>(queries, pointers(rows, first), dim) };
        for (query, distances) in distances.iter().enumerate() {
            out[query * row_count + first..][..R].copy_from_slice(distances);
        }
    }
    for first in tiled..row_count {
        // SAFETY: row `first` exists; the queries are the caller's duty.
        let distances = unsafe { tile::<L, M, Q, 1>(queries, pointers(rows, first), dim) };
        for (query, [distance]) in distances.iter().enumerate() {
            out[query * row_count + first] = *distance;
        }
    }
}

/// One query with every row, and the rows' squares.
#[inline(always)]
unsafe fn with_norms<L: Lanes>(query: &[f32], rows: &RowBlock<'_>, out: &mut [f32], norms: &mut [f32]) {
    let row_count = rows.len();
    let tiled = row_count - row_count % 4;
    for first in (0..tiled).step_by(4) {
        // SAFETY: rows `first..first + 4` exist, and the query has `dim` elements.
        let (products, squares) =
            unsafe { tile_with_norms::<L, 4>(query.as_ptr().cast(), pointers(rows, first), rows.dim()) };
        out[first..][..4].copy_from_slice(&products);
        norms[first..][..4].copy_from_slice(&squares);
    }
    for first in tiled..row_count {
        // SAFETY: row `first` exists, and the query has `dim` elements.
        let ([product], [square]) =
            unsafe { tile_with_norms::<L, 1>(query.as_ptr().cast(), pointers(rows, first), rows.dim()) };
        out[first] = product;
        norms[first] = square;
    }
}

/// The rows' squares.
#[inline(always)]
unsafe fn only_norms<L: Lanes>(rows: &RowBlock<'_>, norms: &mut [f32]) {
    let (dim, row_count) = (rows.dim(), rows.len());
    let tiled = row_count - row_count % 4;
    for first in (0..tiled).step_by(4) {
        // SAFETY: rows `first..first + 4` exist.
        let squares = unsafe { squares::<L, 4>(pointers(rows, first), dim) };
        norms[first..][..4].copy_from_slice(&squares);
    }
    for (first, norm) in norms.iter_mut().enumerate().skip(tiled) {
        // SAFETY: `norms` has one place per row, so row `first` exists.
        [*norm] = unsafe { squares::<L, 1>(pointers(rows, first), dim) };
    }
}

#[inline(always)]
unsafe fn pointers<const R: usize>(rows: &RowBlock<'_>, first: usize) -> [*const u8; R] {
    // SAFETY: rows `first..first + R` exist: the caller's duty.
    std::array::from_fn(|index| unsafe { rows.row_pointer(first + index) })
}

/// The sums of `Q` queries with `R` rows.
#[inline(always)]
unsafe fn tile<L: Lanes, M: Measure, const Q: usize, const R: usize>(
    queries: [*const u8; Q],
    rows: [*const u8; R],
    dim: usize,
) -> [[f32; R]; Q] {
    let whole = dim - dim % LANES;
    // SAFETY: every pointer is valid for `dim` elements and the CPU has the level: the caller's duty.
    unsafe {
        let mut sums = [[L::zero(); R]; Q];
        for element in (0..whole).step_by(LANES) {
            let rows = rows.map(|row| L::load(row.add(element * 4)));
            add::<L, M, Q, R>(&mut sums, queries.map(|query| L::load(query.add(element * 4))), rows);
        }
        if whole < dim {
            let rows = rows.map(|row| L::load_head(row.add(whole * 4), dim - whole));
            let queries = queries.map(|query| L::load_head(query.add(whole * 4), dim - whole));
            add::<L, M, Q, R>(&mut sums, queries, rows);
        }
        sums.map(|sums| reduce::<L, R>(sums))
    }
}

#[inline(always)]
unsafe fn add<L: Lanes, M: Measure, const Q: usize, const R: usize>(
    sums: &mut [[L; R]; Q],
    queries: [L; Q],
    rows: [L; R],
) {
    for query in 0..Q {
        for row in 0..R {
            // SAFETY: the caller's duty.
            sums[query][row] = unsafe { M::add(queries[query], rows[row], sums[query][row]) };
        }
    }
}

/// The products of one query with `R` rows, and the squares of the rows.
#[inline(always)]
unsafe fn tile_with_norms<L: Lanes, const R: usize>(
    query: *const u8,
    rows: [*const u8; R],
    dim: usize,
) -> ([f32; R], [f32; R]) {
    let whole = dim - dim % LANES;
    // SAFETY: every pointer is valid for `dim` elements and the CPU has the level: the caller's duty.
    unsafe {
        let mut products = [[L::zero(); R]];
        let mut squares = [L::zero(); R];
        for element in (0..whole).step_by(LANES) {
            let rows = rows.map(|row| L::load(row.add(element * 4)));
            add::<L, Product, 1, R>(&mut products, [L::load(query.add(element * 4))], rows);
            add_squares(&mut squares, rows);
        }
        if whole < dim {
            let rows = rows.map(|row| L::load_head(row.add(whole * 4), dim - whole));
            add::<L, Product, 1, R>(&mut products, [L::load_head(query.add(whole * 4), dim - whole)], rows);
            add_squares(&mut squares, rows);
        }
        let [products] = products;
        (reduce(products), reduce(squares))
    }
}

/// The squares of `R` rows.
#[inline(always)]
unsafe fn squares<L: Lanes, const R: usize>(rows: [*const u8; R], dim: usize) -> [f32; R] {
    let whole = dim - dim % LANES;
    // SAFETY: every pointer is valid for `dim` elements and the CPU has the level: the caller's duty.
    unsafe {
        let mut squares = [L::zero(); R];
        for element in (0..whole).step_by(LANES) {
            add_squares(&mut squares, rows.map(|row| L::load(row.add(element * 4))));
        }
        if whole < dim {
            add_squares(&mut squares, rows.map(|row| L::load_head(row.add(whole * 4), dim - whole)));
        }
        reduce(squares)
    }
}

#[inline(always)]
unsafe fn add_squares<L: Lanes, const R: usize>(squares: &mut [L; R], rows: [L; R]) {
    for row in 0..R {
        // SAFETY: the caller's duty.
        squares[row] = unsafe { rows[row].multiply_add(rows[row], squares[row]) };
    }
}

/// Sums the lanes of each, four at a time where there are four.
#[inline(always)]
unsafe fn reduce<L: Lanes, const R: usize>(sums: [L; R]) -> [f32; R] {
    let mut out = [0.0; R];
    for first in (0..R).step_by(4) {
        // SAFETY: the caller's duty.
        let four = unsafe {
            L::sums_of_four(std::array::from_fn(
                |index| {
                    if first + index < R { sums[first + index] } else { L::zero() }
                },
            ))
        };
        let count = (R - first).min(4);
        out[first..first + count].copy_from_slice(&four[..count]);
    }
    out
}
