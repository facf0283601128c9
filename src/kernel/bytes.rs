//! Kernels over vectors of signed bytes: their dot products, one with many, and (`differences.rs`) the codes of neighbours.
//!
//! Dot products are integers, so every SIMD level gives the same.

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, bytes_avx2, bytes_vnni, bytes_vnni::Vnni};
use super::{integers, scalar::ScalarBytes, tile::Task};

/// Rows that are multiplied with one vector at a time.
pub(super) const ROWS_AT_ONCE: usize = 4;
/// Longest vectors: no sum of products can leave 32 bits.
pub const BYTE_DIM_MAX: usize = 1 << 16;

/// The kernels over bytes that this CPU can run.
#[derive(Clone, Copy, Debug)]
pub struct ByteKernels {
    pub(super) level: Level,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Level {
    #[cfg_attr(target_arch = "x86_64", allow(dead_code, reason = "only without AVX2"))]
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Vnni(Vnni),
}

/// Vectors of signed bytes, each `stride` bytes after the one before.
#[derive(Clone, Copy, Debug)]
pub struct ByteRows<'a> {
    bytes: &'a [u8],
    stride: usize,
    offset: usize,
    dim: usize,
    count: usize,
}

impl<'a> ByteRows<'a> {
    /// Row `i` is the `dim` bytes from `i * stride + offset` on; what is no whole stride at the end is no row. `None` when rows
    /// do not fit into a stride or are longer than [`BYTE_DIM_MAX`].
    pub fn new(bytes: &'a [u8], stride: usize, offset: usize, dim: usize) -> Option<ByteRows<'a>> {
        let is_possible = dim > 0 && dim <= BYTE_DIM_MAX && offset.checked_add(dim)? <= stride;
        is_possible.then(|| ByteRows { bytes, stride, offset, dim, count: bytes.len() / stride })
    }

    /// A row, or `None` for one that is none.
    #[inline]
    pub fn get(&self, row: u32) -> Option<&'a [i8]> {
        let first = row as usize * self.stride + self.offset;
        self.bytes.get(first..first + self.dim).map(bytemuck::cast_slice)
    }

    /// Elements of a row.
    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    /// Bytes from a row to the next.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Whether all of a list are rows.
    #[inline]
    pub(super) fn has_all(&self, list: &[u32]) -> bool {
        // A plain maximum is vectorised; an early exit would not be.
        list.iter().max().is_none_or(|last| (*last as usize) < self.count)
    }

    /// Whether all of a range are rows.
    #[inline]
    pub(super) fn has_range(&self, range: &std::ops::Range<usize>) -> bool {
        range.start <= range.end && range.end <= self.count && self.count <= u32::MAX as usize
    }

    /// Where a row starts.
    ///
    /// # Safety
    /// There is such a row.
    #[inline(always)]
    pub(super) unsafe fn pointer(&self, row: u32) -> *const u8 {
        // SAFETY: the caller's duty; `new` made sure that whole strides hold rows.
        unsafe { self.bytes.as_ptr().add(row as usize * self.stride + self.offset) }
    }
}

impl ByteKernels {
    /// The best this CPU has.
    pub fn get() -> ByteKernels {
        static BEST: OnceLock<ByteKernels> = OnceLock::new();
        *BEST.get_or_init(|| ByteKernels { level: *available().last().unwrap_or(&Level::Scalar) })
    }

    /// The dot product of two vectors.
    ///
    /// # Panics
    /// When the lengths differ or are greater than [`BYTE_DIM_MAX`].
    #[inline]
    pub fn dot(self, left: &[i8], right: &[i8]) -> i32 {
        assert!(left.len() == right.len() && left.len() <= BYTE_DIM_MAX);
        // SAFETY: both are valid for their length.
        unsafe { self.products(left, [right.as_ptr().cast()])[0] }
    }

    /// The dot products of a vector with listed rows; `out` stays as it is when one of the list is no row.
    ///
    /// # Panics
    /// When `left` is no vector like the rows, or `out` has not one place per entry of the list.
    pub fn dots(self, left: &[i8], rows: &ByteRows<'_>, list: &[u32], out: &mut [i32]) {
        assert!(left.len() == rows.dim && out.len() == list.len());
        if !rows.has_all(list) {
            return;
        }
        let (fours, rest) = list.as_chunks::<ROWS_AT_ONCE>();
        let (of_fours, of_rest) = out.as_chunks_mut::<ROWS_AT_ONCE>();
        for (four, out) in fours.iter().zip(of_fours) {
            let mut pointers = [std::ptr::null(); ROWS_AT_ONCE];
            for (pointer, row) in pointers.iter_mut().zip(four) {
                // SAFETY: all of the list are rows.
                *pointer = unsafe { rows.pointer(*row) };
            }
            // SAFETY: rows are valid for `dim` bytes, and so is `left`.
            *out = unsafe { self.products(left, pointers) };
        }
        for (row, out) in rest.iter().zip(of_rest) {
            // SAFETY: as above.
            *out = unsafe { self.products(left, [rows.pointer(*row)])[0] };
        }
    }

    /// Does a task of int8 rows, but for what is left to `others`.
    ///
    /// # Safety
    /// The task is one that [`integers::are_for`], and its lengths are as its type says.
    pub(super) unsafe fn run(self, task: Task<'_>, others: impl Fn(Task<'_>)) {
        // SAFETY: the tokens prove the CPU's features; the rest is the caller's duty.
        unsafe {
            match self.level {
                Level::Scalar => integers::run::<ScalarBytes>(task, others),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2(_) => bytes_avx2::run(task, others),
                #[cfg(target_arch = "x86_64")]
                Level::Vnni(_) => bytes_vnni::run(task, others),
            }
        }
    }

    /// # Safety
    /// Every row is valid for as many bytes as `left`.
    #[inline(always)]
    unsafe fn products<const R: usize>(self, left: &[i8], rows: [*const u8; R]) -> [i32; R] {
        // SAFETY: the tokens prove the CPU's features; the rest is the caller's duty.
        unsafe {
            match self.level {
                Level::Scalar => rows.map(|row| scalar(left, std::slice::from_raw_parts(row.cast(), left.len()))),
                #[cfg(target_arch = "x86_64")]
                Level::Avx2(_) => bytes_avx2::products(left, rows),
                #[cfg(target_arch = "x86_64")]
                Level::Vnni(_) => bytes_vnni::products(left, rows),
            }
        }
    }

    /// Every level this CPU has, to compare them.
    #[cfg(test)]
    pub(crate) fn every() -> Vec<ByteKernels> {
        available().into_iter().map(|level| ByteKernels { level }).collect()
    }
}

fn scalar(left: &[i8], right: &[i8]) -> i32 {
    left.iter().zip(right).map(|(left, right)| i32::from(*left) * i32::from(*right)).sum()
}

fn available() -> Vec<Level> {
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut, reason = "other levels are x86-64's"))]
    let mut levels = vec![Level::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        levels.extend(Avx2::detect().map(Level::Avx2));
        levels.extend(Vnni::detect().map(Level::Vnni));
    }
    levels
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
pub(super) mod tests {
    use super::*;

    /// Bytes without a pattern.
    pub(in crate::kernel) fn bytes(count: usize, seed: u32) -> Vec<u8> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..count).map(|_| next()).collect()
    }

    #[test]
    fn every_level_gives_the_same_products_for_every_length() {
        for dim in (1..70).chain([127, 128, 800, 1000, BYTE_DIM_MAX]) {
            let (stride, offset) = (dim + 11, 7);
            // The greatest values, too: sums must not overflow.
            for bytes in [bytes(7 * stride, 2), vec![0x80; 7 * stride]] {
                let rows = ByteRows::new(&bytes, stride, offset, dim).unwrap();
                let list = [6u32, 0, 3, 3, 1, 5, 2];
                let expected = list.map(|row| scalar(rows.get(1).unwrap(), rows.get(row).unwrap()));
                for kernels in ByteKernels::every() {
                    let mut out = [0; 7];
                    kernels.dots(rows.get(1).unwrap(), &rows, &list, &mut out);
                    assert_eq!(out, expected, "{dim}, {kernels:?}");
                    assert_eq!(kernels.dot(rows.get(1).unwrap(), rows.get(6).unwrap()), expected[0]);
                }
            }
        }
    }

    #[test]
    fn rows_that_are_none_are_not_read() {
        let bytes = bytes(100, 1);
        assert!(ByteRows::new(&bytes, 10, 5, 6).is_none());
        assert!(ByteRows::new(&bytes, 0, 0, 0).is_none());
        let rows = ByteRows::new(&bytes, 30, 0, 30).unwrap();
        let mut out = [7; 2];
        ByteKernels::get().dots(rows.get(0).unwrap(), &rows, &[0, 3], &mut out);
        assert_eq!(out, [7; 2]);
    }
}
