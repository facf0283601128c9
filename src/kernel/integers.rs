//! Rows of int8 and queries that are whole numbers, too: their sums are integers, exact at any dimension and rounded once.
//!
//! Queries come as `f32`. One that is not whole, or not of eight bits, is none of ours: `tile.rs` widens the rows for it. That depends on
//! the query alone, so a pair still has one distance.

use std::cell::Cell;
use std::ops::Range;

use super::element::VectorElement;
use super::lanes::LANES;
use super::rows::RowBlock;
use super::tile::Task;

/// Queries that pass over the rows together, and rows that are read together: 12 pairs take 20 of the 32 registers for sums.
const QUERIES_AT_ONCE: usize = 3;
const ROWS_AT_ONCE: usize = 4;
/// Most elements of rows: no sum of squared differences, each of 255 at most, leaves 32 bits.
const DIM_MAX: usize = i32::MAX as usize / (255 * 255);
/// As in `stream.rs`.
const PREFETCH_BYTES: usize = 4096;

/// What the loops need of a SIMD level: lanes of 32-bit sums of products of bytes.
///
/// # Safety
/// Every function may use the instructions of the level, so the CPU must have them. Loads read from addresses that must be valid for
/// as many bytes as are loaded.
pub(super) unsafe trait ByteLanes: Copy {
    /// Signed bytes that are multiplied at once: a part of a [`Line`].
    const STEP: usize;
    /// So many bytes, as the level multiplies them.
    type Bytes: Copy;

    /// No sums.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn zero() -> Self;

    /// [`ByteLanes::STEP`] bytes.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn load(from: *const i8) -> Self::Bytes;

    /// The first `count` bytes, then zeros.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn load_head(from: *const i8, count: usize) -> Self::Bytes;

    /// Makes of bytes the left side of products, where that must be unsigned: they are raised by 128. And back.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn raise(bytes: Self::Bytes) -> Self::Bytes;

    /// Adds products.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn add(self, raised: Self::Bytes, bytes: Self::Bytes) -> Self;

    /// Adds what raising adds to products with these.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn add_raise(self, bytes: Self::Bytes) -> Self;

    /// The sum of the lanes of each, less those of a second.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn sums_less<const R: usize>(sums: [Self; R], less: [Self; R]) -> [i32; R];

    /// Makes sixteen left bytes of `f32`, and tells whether these were whole numbers of eight bits.
    ///
    /// # Safety
    /// See the trait; `to` is valid for sixteen bytes.
    unsafe fn narrow(values: &[f32; LANES], to: *mut i8) -> bool;

    /// Asks for the cache line at an address, which need not be valid.
    fn prefetch(address: *const u8);
}

/// Bytes of a query, which begins with one and ends with zeros: loads of 64 bytes touch one cache line each.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line([i8; LINE_BYTES]);

const LINE_BYTES: usize = 64;

/// Queries as left sides of products.
#[derive(Default)]
struct Lefts {
    lines: Vec<Line>,
    lines_each: usize,
}

thread_local! {
    static LEFTS: Cell<Lefts> = Cell::default();
}

impl Lefts {
    /// Takes queries; `false` when one has an element that is no whole number of eight bits.
    #[inline(always)]
    unsafe fn take<L: ByteLanes>(&mut self, queries: &[f32], dim: usize) -> bool {
        self.lines_each = dim.div_ceil(LINE_BYTES);
        self.lines.resize(queries.len() / dim * self.lines_each, Line([0; LINE_BYTES]));
        let mut are_whole = true;
        for (query, lines) in queries.chunks_exact(dim).zip(self.lines.chunks_exact_mut(self.lines_each)) {
            for (values, line) in query.chunks(LINE_BYTES).zip(lines) {
                let mut padded = [0.0; LINE_BYTES];
                let values = match values.try_into() {
                    Ok(values) => values,
                    Err(_) => {
                        padded[..values.len()].copy_from_slice(values);
                        &padded
                    }
                };
                for (part, values) in values.as_chunks().0.iter().enumerate() {
                    // SAFETY: the caller vouches for the CPU; sixteen bytes of the line are the part's.
                    are_whole &= unsafe { L::narrow(values, line.0.as_mut_ptr().add(part * LANES)) };
                }
            }
        }
        are_whole
    }

    /// Where the bytes of a query begin: whole lines.
    #[inline(always)]
    fn pointer(&self, query: usize) -> *const i8 {
        self.lines[query * self.lines_each..].as_ptr().cast()
    }

    /// The sum of the squares of a query.
    #[inline(always)]
    unsafe fn square<L: ByteLanes>(&self, query: usize) -> i32 {
        let pointer = self.pointer(query);
        // SAFETY: the caller vouches for the CPU; the query's lines are whole.
        unsafe {
            let (mut square, mut raise) = (L::zero(), L::zero());
            for at in (0..self.lines_each * LINE_BYTES).step_by(L::STEP) {
                let left = L::load(pointer.add(at));
                let bytes = L::raise(left);
                (square, raise) = (square.add(left, bytes), raise.add_raise(bytes));
            }
            L::sums_less([square], [raise])[0]
        }
    }
}

/// Whether a task may have something for [`run`].
pub(super) fn are_for(task: &Task<'_>) -> bool {
    let rows = task.rows();
    rows.element() == VectorElement::I8 && rows.dim() <= DIM_MAX
}

/// Does a task, but for queries that are none of ours, which are left to `others`.
///
/// # Safety
/// The CPU has the level's instructions, the task is one for it, and the task's lengths are as its type says.
#[inline(always)]
pub(super) unsafe fn run<L: ByteLanes>(task: Task<'_>, others: impl Fn(Task<'_>)) {
    let mut lefts = LEFTS.take();
    // SAFETY: the caller's duty.
    unsafe {
        match task {
            Task::SquaredDistances { queries, rows, out } => {
                let rest = |queries: &[f32], out: &mut [f32]| others(Task::SquaredDistances { queries, rows, out });
                all::<L, true>(queries, rows, out, &mut lefts, rest);
            }
            Task::InnerProducts { queries, rows, out } => {
                let rest = |queries: &[f32], out: &mut [f32]| others(Task::InnerProducts { queries, rows, out });
                all::<L, false>(queries, rows, out, &mut lefts, rest);
            }
            Task::InnerProductsAndNorms { query, rows, out, norms } => {
                if !lefts.take::<L>(query, rows.dim()) {
                    others(Task::InnerProductsAndNorms { query, rows, out, norms });
                } else {
                    pass::<L, 1, true>([lefts.pointer(0)], rows, |first, products, squares| {
                        put(&mut out[first..], products[0]);
                        put(&mut norms[first..], squares);
                    });
                }
            }
            Task::Norms { rows, norms } => {
                pass::<L, 0, true>([], rows, |first, _, squares| put(&mut norms[first..], squares));
            }
            Task::Widen { .. } => others(task),
        }
    }
    LEFTS.set(lefts);
}

/// Every query with every row: squared distances, or products.
#[inline(always)]
unsafe fn all<L: ByteLanes, const DISTANCES: bool>(
    queries: &[f32],
    rows: &RowBlock<'_>,
    out: &mut [f32],
    lefts: &mut Lefts,
    others: impl Fn(&[f32], &mut [f32]),
) {
    let (dim, row_count) = (rows.dim(), rows.len());
    let query_count = queries.len() / dim;
    let mut first = 0;
    while first < query_count {
        let left = query_count - first;
        let at_once = [QUERIES_AT_ONCE, 2, 1].into_iter().find(|count| *count <= left).unwrap_or(1);
        let of = |query: Range<usize>| &queries[query.start * dim..query.end * dim];
        let done = {
            let out = &mut out[first * row_count..(first + at_once) * row_count];
            let queries = of(first..first + at_once);
            // SAFETY: the caller's duty.
            unsafe {
                match at_once {
                    QUERIES_AT_ONCE => some::<L, QUERIES_AT_ONCE, DISTANCES>(queries, rows, out, lefts),
                    2 => some::<L, 2, DISTANCES>(queries, rows, out, lefts),
                    _ => some::<L, 1, DISTANCES>(queries, rows, out, lefts),
                }
            }
        };
        first += match done {
            true => at_once,
            false => {
                // One of them is none of ours, whichever it is: each for itself then.
                let out = &mut out[first * row_count..][..row_count];
                // SAFETY: the caller's duty.
                if !unsafe { some::<L, 1, DISTANCES>(of(first..first + 1), rows, out, lefts) } {
                    others(of(first..first + 1), out);
                }
                1
            }
        };
    }
}

/// `Q` queries with every row; `false`, and nothing done, when one of them is none of ours.
#[inline(always)]
unsafe fn some<L: ByteLanes, const Q: usize, const DISTANCES: bool>(
    queries: &[f32],
    rows: &RowBlock<'_>,
    out: &mut [f32],
    lefts: &mut Lefts,
) -> bool {
    let row_count = rows.len();
    // SAFETY: the caller's duty; every pointer is one of a query like the rows.
    unsafe {
        if !lefts.take::<L>(queries, rows.dim()) {
            return false;
        }
        let (mut pointers, mut squares) = ([std::ptr::null(); Q], [0; Q]);
        for query in 0..Q {
            pointers[query] = lefts.pointer(query);
            squares[query] = if DISTANCES { lefts.square::<L>(query) } else { 0 };
        }
        pass::<L, Q, DISTANCES>(pointers, rows, |first, products, of_rows| {
            for query in 0..Q {
                let out = &mut out[query * row_count + first..][..of_rows.len()];
                if DISTANCES {
                    for ((out, product), square) in out.iter_mut().zip(products[query]).zip(of_rows) {
                        *out = (squares[query] + square - 2 * product) as f32;
                    }
                } else {
                    put(out, products[query]);
                }
            }
        });
    }
    true
}

/// Writes sums as `f32`.
#[inline(always)]
fn put(out: &mut [f32], sums: &[i32]) {
    for (out, sum) in out.iter_mut().zip(sums) {
        *out = *sum as f32;
    }
}

/// `Q` queries with every row: `take` gets the number of the first of some rows, their products query by query and, with `SQUARES`,
/// the sums of their squares.
#[inline(always)]
unsafe fn pass<L: ByteLanes, const Q: usize, const SQUARES: bool>(
    queries: [*const i8; Q],
    rows: &RowBlock<'_>,
    mut take: impl FnMut(usize, [&[i32]; Q], &[i32]),
) {
    let row_count = rows.len();
    let tiled = row_count - row_count % ROWS_AT_ONCE;
    // Rows that are read side by side must be asked for before the first of them is read.
    let ahead = PREFETCH_BYTES.div_ceil(rows.dim()).max(ROWS_AT_ONCE);
    for first in (0..tiled).step_by(ROWS_AT_ONCE) {
        // SAFETY: rows `first..first + ROWS_AT_ONCE` exist; the rest is the caller's duty.
        let (products, squares) = unsafe { tile::<L, Q, ROWS_AT_ONCE, SQUARES>(queries, rows, first, ahead) };
        take(first, products.each_ref().map(|of_query| &of_query[..]), &squares);
    }
    for first in tiled..row_count {
        // SAFETY: row `first` exists; the rest is the caller's duty.
        let (products, squares) = unsafe { tile::<L, Q, 1, SQUARES>(queries, rows, first, ahead) };
        take(first, products.each_ref().map(|of_query| &of_query[..]), &squares);
    }
}

/// The products of `Q` queries with `R` rows, query by query, and with `SQUARES` the sums of the rows' squares.
#[inline(always)]
unsafe fn tile<L: ByteLanes, const Q: usize, const R: usize, const SQUARES: bool>(
    queries: [*const i8; Q],
    rows: &RowBlock<'_>,
    first: usize,
    ahead: usize,
) -> ([[i32; R]; Q], [i32; R]) {
    let dim = rows.dim();
    let whole = dim - dim % L::STEP;
    // SAFETY: rows and queries are valid for `dim` bytes and the CPU has the level: the caller's duty.
    unsafe {
        let mut sums =
            Sums::<L, Q, R> { products: [[L::zero(); R]; Q], squares: [L::zero(); R], raise: [L::zero(); R] };
        let (mut starts, mut starts_ahead) = ([std::ptr::null::<i8>(); R], [std::ptr::null(); R]);
        for row in 0..R {
            starts[row] = rows.row_pointer(first + row).cast();
            starts_ahead[row] = rows.row_address(first + row + ahead);
        }
        for at in (0..whole).step_by(L::STEP) {
            let mut lefts = [L::load(starts[0].add(at)); Q];
            for query in 0..Q {
                lefts[query] = L::load(queries[query].add(at));
            }
            for row in 0..R {
                if at.is_multiple_of(LINE_BYTES) {
                    L::prefetch(starts_ahead[row].wrapping_add(at));
                }
                sums.add::<SQUARES>(row, lefts, L::load(starts[row].add(at)));
            }
        }
        if whole < dim {
            let count = dim - whole;
            let mut lefts = [L::load_head(starts[0].add(whole), count); Q];
            for query in 0..Q {
                lefts[query] = L::load(queries[query].add(whole));
            }
            for row in 0..R {
                L::prefetch(starts_ahead[row].wrapping_add(whole));
                sums.add::<SQUARES>(row, lefts, L::load_head(starts[row].add(whole), count));
            }
        }
        let mut products = [[0; R]; Q];
        for (products, of_query) in products.iter_mut().zip(sums.products) {
            *products = L::sums_less(of_query, sums.raise);
        }
        (products, if SQUARES { L::sums_less(sums.squares, sums.raise) } else { [0; R] })
    }
}

/// Sums of `R` rows.
struct Sums<L, const Q: usize, const R: usize> {
    products: [[L; R]; Q],
    squares: [L; R],
    /// What raised left sides added to each of them.
    raise: [L; R],
}

impl<L: ByteLanes, const Q: usize, const R: usize> Sums<L, Q, R> {
    #[inline(always)]
    unsafe fn add<const SQUARES: bool>(&mut self, row: usize, raised: [L::Bytes; Q], bytes: L::Bytes) {
        // SAFETY: the caller's duty.
        unsafe {
            self.raise[row] = self.raise[row].add_raise(bytes);
            if SQUARES {
                self.squares[row] = self.squares[row].add(L::raise(bytes), bytes);
            }
            for (products, raised) in self.products.iter_mut().zip(raised) {
                products[row] = products[row].add(raised, bytes);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::bytes::tests::bytes;
    use super::super::{Kernels, Rows, VectorRows};
    use super::*;

    /// Distances, products and norms as sums of whole numbers say.
    fn truth(query: &[f32], row: &[u8]) -> [f32; 3] {
        let pairs = || query.iter().zip(row).map(|(left, right)| (*left as i64, i64::from(*right as i8)));
        let sum = |of: fn((i64, i64)) -> i64| pairs().map(of).sum::<i64>() as f32;
        [sum(|(left, right)| (left - right).pow(2)), sum(|(left, right)| left * right), sum(|(_, right)| right * right)]
    }

    /// What a level says, of each query with each row.
    fn found(level: Kernels, queries: &[f32], rows: &VectorRows<'_>, list: &[u32]) -> Vec<[f32; 3]> {
        let block = rows.block(Rows::Listed(list)).unwrap();
        let pairs = queries.len() / rows.dim * list.len();
        let (mut distances, mut products, mut norms) = (vec![0.0; pairs], vec![0.0; pairs], vec![0.0; list.len()]);
        level.squared_distances(queries, &block, &mut distances);
        level.inner_products(queries, &block, &mut products);
        level.squared_norms(&block, &mut norms);
        let (mut again, mut norms_again) = (norms.clone(), norms.clone());
        level.inner_products_and_norms(&queries[..rows.dim], &block, &mut again, &mut norms_again);
        assert_eq!((&again[..], &norms_again), (&products[..list.len()], &norms), "dim {}", rows.dim);
        let all = distances.into_iter().zip(products).zip(norms.into_iter().cycle());
        all.map(|((distance, product), norm)| [distance, product, norm]).collect()
    }

    #[test]
    fn sums_of_whole_numbers_are_exact_at_every_level_and_length() {
        let list = [5, 0, 3, 3, 1, 4, 2];
        for dim in (1..=70).chain([127, 128, 784, 1111, 32_768, DIM_MAX]) {
            let whole = |seed: u32| bytes(8 * dim, seed).into_iter().map(|byte| f32::from(byte as i8)).collect();
            // The greatest sums, too, next to what they would become if they wrapped.
            for (column, queries) in [(bytes(6 * dim, 7), whole(8)), (vec![0x80; 6 * dim], vec![127.0; 8 * dim])] {
                let rows = VectorRows { bytes: &column, dim, element: VectorElement::I8 };
                let pairs = queries.chunks(dim).flat_map(|query| list.map(|row| truth(query, rows.row(row as usize))));
                let expected: Vec<_> = pairs.collect();
                for level in Kernels::every() {
                    assert_eq!(found(level, &queries, &rows, &list), expected, "{} at dim {dim}", level.name());
                }
            }
        }
    }

    #[test]
    fn queries_that_are_not_whole_or_too_long_are_widened_and_change_nothing_for_others() {
        for dim in [3, 50, 100, DIM_MAX + 1] {
            let column = bytes(5 * dim, 3);
            let rows = VectorRows { bytes: &column, dim, element: VectorElement::I8 };
            for strange in [0.5, 128.0, -129.0, 1e9, -1e-9] {
                let mut queries: Vec<f32> = bytes(7 * dim, 4).into_iter().map(|byte| f32::from(byte as i8)).collect();
                queries[4 * dim + 2] = strange;
                let level = Kernels::get();
                let together = found(level, &queries, &rows, &[0, 1, 2, 3, 4]);
                for (index, (query, together)) in queries.chunks(dim).zip(together.chunks(5)).enumerate() {
                    assert_eq!(found(level, query, &rows, &[0, 1, 2, 3, 4]), together, "query {index}, dim {dim}");
                }
                let (query, row) = (&queries[4 * dim..5 * dim], rows.row(0));
                let pairs = || query.iter().zip(row).map(|(left, right)| (f64::from(*left), f64::from(*right as i8)));
                let distance = pairs().map(|(left, right)| (left - right).powi(2)).sum::<f64>();
                assert!((f64::from(together[20][0]) / distance - 1.0).abs() < 1e-4, "{strange} at dim {dim}");
                let product = pairs().map(|(left, right)| left * right).sum::<f64>();
                let magnitude = pairs().map(|(left, right)| (left * right).abs()).sum::<f64>();
                assert!((f64::from(together[20][1]) - product).abs() <= 1e-4 * magnitude, "{strange} at dim {dim}");
            }
        }
    }
}
