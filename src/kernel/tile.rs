//! The loops: small tiles of queries times rows whose sums stay in registers, for any SIMD level.

use super::element::{BF16, Element, F16, F32, I8, VectorElement};
use super::lanes::{LANES, Lanes};
use super::rows::RowBlock;
use super::stream::stream;

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
    /// The rows as `f32`: `out` has `rows.dim()` places per row.
    Widen { rows: &'a RowBlock<'a>, out: &'a mut [f32] },
}

impl<'a> Task<'a> {
    /// The rows it is about.
    pub(super) fn rows(&self) -> &'a RowBlock<'a> {
        match self {
            Task::SquaredDistances { rows, .. }
            | Task::InnerProducts { rows, .. }
            | Task::InnerProductsAndNorms { rows, .. }
            | Task::Norms { rows, .. }
            | Task::Widen { rows, .. } => rows,
        }
    }
}

/// How a pair of elements adds to the sum.
pub(super) trait Measure {
    /// Whether it looks at the query.
    const READS_QUERY: bool = true;

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

/// The row's own squares.
struct Square;

impl Measure for Square {
    const READS_QUERY: bool = false;

    #[inline(always)]
    unsafe fn add<L: Lanes>(_query: L, row: L, sum: L) -> L {
        // SAFETY: the caller's duty.
        unsafe { row.multiply_add(row, sum) }
    }
}

/// Runs a task in tiles of `Q` queries and `R` rows; a query without a tile passes alone.
///
/// # Safety
/// The CPU has the level's instructions, and the task's lengths are as its type says.
#[inline(always)]
pub(super) unsafe fn run<L: Lanes, const Q: usize, const R: usize>(task: Task<'_>) {
    // SAFETY: the caller's duty.
    unsafe {
        match task.rows().element() {
            VectorElement::F32 => run_on::<L, F32, Q, R>(task),
            VectorElement::F16 => run_on::<L, F16, Q, R>(task),
            VectorElement::BF16 => run_on::<L, BF16, Q, R>(task),
            VectorElement::I8 => run_on::<L, I8, Q, R>(task),
        }
    }
}

/// [`run`] on rows of one element type.
#[inline(always)]
unsafe fn run_on<L: Lanes, E: Element, const Q: usize, const R: usize>(task: Task<'_>) {
    // SAFETY: the caller's duty.
    unsafe {
        match task {
            Task::SquaredDistances { queries, rows, out } => all::<L, E, SquaredDifference, Q, R>(queries, rows, out),
            Task::InnerProducts { queries, rows, out } => all::<L, E, Product, Q, R>(queries, rows, out),
            Task::InnerProductsAndNorms { query, rows, out, norms } => {
                stream::<L, E, Product, true>(query.as_ptr().cast(), rows, out, norms)
            }
            Task::Norms { rows, norms } => stream::<L, E, Square, false>(std::ptr::null(), rows, norms, &mut []),
            Task::Widen { rows, out } => widen::<L, E>(rows, out),
        }
    }
}

/// Every row as `f32`.
#[inline(always)]
unsafe fn widen<L: Lanes, E: Element>(rows: &RowBlock<'_>, out: &mut [f32]) {
    let dim = rows.dim();
    let whole = dim - dim % LANES;
    for (index, out) in out.chunks_exact_mut(dim).enumerate() {
        // SAFETY: there are as many rows as `out` has places for, each of `dim` elements; the rest is the caller's duty.
        unsafe {
            let row = rows.row_pointer(index);
            for element in (0..whole).step_by(LANES) {
                E::load::<L>(row.add(element * E::BYTES)).store_head(out.as_mut_ptr().add(element), LANES);
            }
            if whole < dim {
                let lanes = E::load_head::<L>(row.add(whole * E::BYTES), dim - whole);
                lanes.store_head(out.as_mut_ptr().add(whole), dim - whole);
            }
        }
    }
}

/// Every query with every row: whole tiles, then smaller ones, then one alone.
#[inline(always)]
unsafe fn all<L: Lanes, E: Element, M: Measure, const Q: usize, const R: usize>(
    queries: &[f32],
    rows: &RowBlock<'_>,
    out: &mut [f32],
) {
    let (dim, row_count) = (rows.dim(), rows.len());
    let query_count = queries.len() / dim;
    let mut first = 0;
    while first < query_count {
        let left = query_count - first;
        let from = &queries[first * dim..];
        let out = &mut out[first * row_count..];
        // SAFETY: `from` holds `left` queries, no fewer than each call takes; the rest is the caller's duty.
        first += unsafe {
            if left >= Q {
                pass::<L, E, M, Q, R>(from, rows, out)
            } else if Q > 4 && left >= 4 {
                pass::<L, E, M, 4, R>(from, rows, out)
            } else if Q > 2 && left >= 2 {
                pass::<L, E, M, 2, R>(from, rows, out)
            } else {
                stream::<L, E, M, false>(from.as_ptr().cast(), rows, &mut out[..row_count], &mut []);
                1
            }
        };
    }
}

/// `Q` queries with every row, `R` rows at a time, the rest one at a time. Gives `Q`.
#[inline(always)]
unsafe fn pass<L: Lanes, E: Element, M: Measure, const Q: usize, const R: usize>(
    queries: &[f32],
    rows: &RowBlock<'_>,
    out: &mut [f32],
) -> usize {
    let (dim, row_count) = (rows.dim(), rows.len());
    let mut pointers_of_queries = [std::ptr::null(); Q];
    for (query, pointer) in pointers_of_queries.iter_mut().enumerate() {
        *pointer = queries[query * dim..].as_ptr().cast();
    }
    let queries = pointers_of_queries;
    let tiled = row_count - row_count % R;
    for first in (0..tiled).step_by(R) {
        // SAFETY: rows `first..first + R` exist; the queries are the caller's duty.
        let distances = unsafe { tile::<L, E, M, Q, R>(queries, pointers(rows, first), dim) };
        for (query, distances) in distances.iter().enumerate() {
            out[query * row_count + first..][..R].copy_from_slice(distances);
        }
    }
    for first in tiled..row_count {
        // SAFETY: row `first` exists; the queries are the caller's duty.
        let distances = unsafe { tile::<L, E, M, Q, 1>(queries, pointers(rows, first), dim) };
        for (query, [distance]) in distances.iter().enumerate() {
            out[query * row_count + first] = *distance;
        }
    }
    Q
}

#[inline(always)]
unsafe fn pointers<const R: usize>(rows: &RowBlock<'_>, first: usize) -> [*const u8; R] {
    let mut pointers = [std::ptr::null(); R];
    for (index, pointer) in pointers.iter_mut().enumerate() {
        // SAFETY: rows `first..first + R` exist: the caller's duty.
        *pointer = unsafe { rows.row_pointer(first + index) };
    }
    pointers
}

/// The sums of `Q` queries with `R` rows.
#[inline(always)]
unsafe fn tile<L: Lanes, E: Element, M: Measure, const Q: usize, const R: usize>(
    queries: [*const u8; Q],
    rows: [*const u8; R],
    dim: usize,
) -> [[f32; R]; Q] {
    let whole = dim - dim % LANES;
    // SAFETY: every pointer is valid for `dim` elements and the CPU has the level: the caller's duty.
    unsafe {
        let mut sums = [[L::zero(); R]; Q];
        for element in (0..whole).step_by(LANES) {
            let rows = load::<L, E, R>(&rows, element);
            add::<L, M, Q, R>(&mut sums, load::<L, F32, Q>(&queries, element), rows);
        }
        if whole < dim {
            let rows = load_head::<L, E, R>(&rows, whole, dim - whole);
            let queries = load_head::<L, F32, Q>(&queries, whole, dim - whole);
            add::<L, M, Q, R>(&mut sums, queries, rows);
        }
        let mut distances = [[0.0; R]; Q];
        for query in 0..Q {
            distances[query] = reduce(&sums[query]);
        }
        distances
    }
}

// Loops, not `map` or `from_fn`: the standard library's helpers are functions of their own without the level's features,
// so whatever is called through them is not inlined (measured: a third of a scan of 50 dimensions).

#[inline(always)]
unsafe fn load<L: Lanes, E: Element, const N: usize>(vectors: &[*const u8; N], element: usize) -> [L; N] {
    // SAFETY: every pointer is valid for sixteen elements from `element` on: the caller's duty.
    unsafe {
        let mut lanes = [L::zero(); N];
        for index in 0..N {
            lanes[index] = E::load::<L>(vectors[index].add(element * E::BYTES));
        }
        lanes
    }
}

#[inline(always)]
unsafe fn load_head<L: Lanes, E: Element, const N: usize>(
    vectors: &[*const u8; N],
    element: usize,
    count: usize,
) -> [L; N] {
    // SAFETY: every pointer is valid for `count` elements from `element` on: the caller's duty.
    unsafe {
        let mut lanes = [L::zero(); N];
        for index in 0..N {
            lanes[index] = E::load_head::<L>(vectors[index].add(element * E::BYTES), count);
        }
        lanes
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

/// Sums the lanes of each, four at a time where there are four.
#[inline(always)]
pub(super) unsafe fn reduce<L: Lanes, const R: usize>(sums: &[L; R]) -> [f32; R] {
    let mut out = [0.0; R];
    for first in (0..R).step_by(4) {
        // SAFETY: the caller's duty.
        unsafe {
            let mut four = [L::zero(); 4];
            let count = if R - first < 4 { R - first } else { 4 };
            four[..count].copy_from_slice(&sums[first..first + count]);
            let four = L::sums_of_four(four);
            out[first..first + count].copy_from_slice(&four[..count]);
        }
    }
    out
}
