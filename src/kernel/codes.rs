//! Kernels over quantised vectors: dot products of 8-bit codes, and FastScan estimates of 32 neighbours at once.
//!
//! All sums are integers, and the few float operations behind them are done lane by lane in one order, so every SIMD
//! level gives the same bits. FastScan codes (Andre et al., VLDB 2015; used on RaBitQ codes as in SymphonyQG, SIGMOD 2025) are
//! laid out in chunks of 16 dimensions, 64 bytes each: four groups of four dimensions, 16 bytes per group, byte `j` of a group
//! holding the four bits of neighbour `j` (low) and of neighbour `j + 16` (high).

use std::sync::OnceLock;

use super::bytes::{ByteRows, ROWS_AT_ONCE};
use super::dispatch::Level;
use super::rows::Rows;
#[cfg(target_arch = "x86_64")]
use super::{codes_avx2, codes_avx512};

/// Neighbours whose distances are estimated at once.
pub const NEIGHBOURS: usize = 32;
/// Dimensions of codes come in multiples of it: whole registers on every level.
pub const CODE_DIM_STEP: usize = 32;
/// Bytes of one chunk, of codes and of look-up tables alike.
pub(super) const CHUNK_BYTES: usize = 64;
/// Rows of more elements are read one after the other when they follow each other: four streams at once are slower.
#[cfg(target_arch = "x86_64")]
const LONG_DIM: usize = 128;
/// Bytes that the CPU fetches at once.
const LINE_BYTES: usize = 64;
/// Most bits per dimension of a neighbour's code.
pub const CODE_PLANES_MAX: usize = 4;

/// Chunks whose sums cannot overflow 16 bits: two groups of at most 255 per chunk and lane, weighed by the planes.
#[cfg(target_arch = "x86_64")]
pub(super) fn chunks_per_flush(planes: usize) -> usize {
    128 / ((1 << planes) - 1)
}

/// The kernels over codes that this CPU can run.
#[derive(Clone, Copy, Debug)]
pub struct CodeKernels {
    level: Level,
}

/// The codes and factors of the 32 neighbours of one vertex, as they lie in memory; no alignment is asked for.
#[derive(Clone, Copy, Debug)]
pub struct NeighbourCodes<'a> {
    /// 1 to [`CODE_PLANES_MAX`] planes of bits, the weightiest first; each `code_dim * 4` bytes in FastScan layout.
    pub codes: &'a [u8],
    /// 32 little-endian `u16`: what is added, in steps from `addend_low`.
    pub addends: &'a [u8; NEIGHBOURS * 2],
    /// What the estimated product is multiplied with, in steps.
    pub factors: &'a [u8; NEIGHBOURS],
    /// The least addend.
    pub addend_low: f32,
    /// One step of the addends.
    pub addend_step: f32,
    /// One step of the factors.
    pub factor_step: f32,
}

/// What a query brings to an estimate: `base + addend - factor * (scale * sum + offset * (2^planes - 1))`, `sum` over the table
/// entries of every plane, each plane weighing twice the next.
#[derive(Clone, Copy, Debug)]
pub struct QueryTable<'a> {
    /// `code_dim * 4` bytes: 16 entries per group of four dimensions.
    pub entries: &'a [u8],
    /// Of the sum of entries.
    pub scale: f32,
    /// Of the sum of entries of one plane.
    pub offset: f32,
    /// Squared distance of query and vertex.
    pub base: f32,
    /// What is read next: its cache lines are asked for, one for each of the codes.
    pub ahead: &'a [u8],
}

/// An estimate as the kernels take it, checked: whole chunks and as many planes as there may be.
#[derive(Clone, Copy)]
pub(super) struct Estimate<'a> {
    pub neighbours: NeighbourCodes<'a>,
    pub entries: &'a [u8],
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "the scalar path takes codes apart by itself"))]
    pub planes: usize,
    pub scale: f32,
    pub offset: f32,
    pub base: f32,
    pub bound: f32,
    pub ahead: &'a [u8],
}

impl CodeKernels {
    /// The best this CPU has.
    pub fn get() -> CodeKernels {
        static BEST: OnceLock<CodeKernels> = OnceLock::new();
        *BEST.get_or_init(|| CodeKernels { level: *Level::available().last().unwrap_or(&Level::Scalar) })
    }

    /// The dot product of an 8-bit code with a 16-bit query; sums wrap. Meanwhile the cache lines of `ahead` are asked for, one for
    /// every 32 elements: many at once would hold up what is read next.
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of [`CODE_DIM_STEP`].
    #[inline]
    pub fn dot_query(self, code: &[u8], query: &[i16], ahead: &[u8]) -> i32 {
        assert!(code.len() == query.len() && code.len().is_multiple_of(CODE_DIM_STEP));
        // SAFETY: the lengths were checked.
        unsafe { self.products([code.as_ptr()], query, ahead)[0] }
    }

    /// The dot products of the 8-bit codes of some rows with a 16-bit query, several at a time; sums wrap. `false`, and
    /// nothing written, when one of them is no row.
    ///
    /// # Panics
    /// When the query is not as long as the rows, its length is no multiple of [`CODE_DIM_STEP`], or `out` has not one place
    /// per row.
    pub fn dots_query(self, rows: &ByteRows<'_>, which: &Rows<'_>, query: &[i16], out: &mut [i32]) -> bool {
        assert!(query.len() == rows.dim() && query.len().is_multiple_of(CODE_DIM_STEP));
        match which {
            Rows::Listed(list) => {
                assert_eq!(out.len(), list.len());
                let is_inside = rows.has_all(list);
                if is_inside {
                    // SAFETY: all of the list are rows, as long as the query, whose length was checked.
                    unsafe { self.dots_listed(rows, list, query, out) };
                }
                is_inside
            }
            Rows::Range(range) => {
                assert_eq!(out.len(), range.len());
                let is_inside = rows.has_range(range);
                if is_inside && !range.is_empty() {
                    // SAFETY: as above.
                    unsafe { self.dots_in_order(rows.pointer(range.start as u32), rows.stride(), query, out) };
                }
                is_inside
            }
        }
    }

    /// # Safety
    /// All of the list are rows, which are as long as the query, a multiple of [`CODE_DIM_STEP`]; there is a place for each.
    #[inline(always)]
    unsafe fn dots_listed(self, rows: &ByteRows<'_>, list: &[u32], query: &[i16], out: &mut [i32]) {
        let (fours, rest) = list.as_chunks::<ROWS_AT_ONCE>();
        let (of_fours, of_rest) = out.as_chunks_mut::<ROWS_AT_ONCE>();
        for (four, out) in fours.iter().zip(of_fours) {
            let mut pointers = [std::ptr::null(); ROWS_AT_ONCE];
            for (pointer, row) in pointers.iter_mut().zip(four) {
                // SAFETY: all of the list are rows.
                *pointer = unsafe { rows.pointer(*row) };
            }
            // SAFETY: the caller's duty.
            *out = unsafe { self.products(pointers, query, &[]) };
        }
        for (row, out) in rest.iter().zip(of_rest) {
            // SAFETY: as above.
            *out = unsafe { self.products([rows.pointer(*row)], query, &[])[0] };
        }
    }

    /// # Safety
    /// There are as many rows as places in `out`, `stride` bytes apart, each valid for as many bytes as the query has elements, a
    /// multiple of [`CODE_DIM_STEP`].
    #[inline(always)]
    unsafe fn dots_in_order(self, first: *const u8, stride: usize, query: &[i16], out: &mut [i32]) {
        // SAFETY: the tokens prove the CPU's features; the rest is the caller's duty.
        unsafe {
            match self.level {
                Level::Scalar => {
                    for (index, out) in out.iter_mut().enumerate() {
                        *out = scalar(std::slice::from_raw_parts(first.add(index * stride), query.len()), query);
                    }
                }
                #[cfg(target_arch = "x86_64")]
                Level::Avx2(_) => codes_avx2::products_in_order(first, stride, query, out),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512(_) => codes_avx512::products_in_order(first, stride, query, out),
            }
        }
    }

    /// # Safety
    /// Every row is valid for as many bytes as the query has elements, a multiple of [`CODE_DIM_STEP`].
    #[inline(always)]
    unsafe fn products<const R: usize>(self, rows: [*const u8; R], query: &[i16], ahead: &[u8]) -> [i32; R] {
        // SAFETY: the tokens prove the CPU's features; the rest is the caller's duty.
        unsafe {
            match self.level {
                Level::Scalar => {
                    self.prefetch(ahead);
                    rows.map(|row| scalar(std::slice::from_raw_parts(row, query.len()), query))
                }
                #[cfg(target_arch = "x86_64")]
                Level::Avx2(_) => codes_avx2::products(rows, query, ahead),
                #[cfg(target_arch = "x86_64")]
                Level::Avx512(_) => codes_avx512::products(rows, query, ahead),
            }
        }
    }

    /// Estimates the squared distances of a query to 32 neighbours; the bits of the result tell which are below `bound`.
    ///
    /// # Panics
    /// When the table is no whole chunks, or the codes are not 1 to [`CODE_PLANES_MAX`] times as long.
    #[inline]
    pub fn estimate(
        self,
        neighbours: NeighbourCodes<'_>,
        table: QueryTable<'_>,
        bound: f32,
        out: &mut [f32; 32],
    ) -> u32 {
        let plane_bytes = table.entries.len();
        assert!(plane_bytes > 0 && plane_bytes.is_multiple_of(CHUNK_BYTES));
        let planes = neighbours.codes.len() / plane_bytes;
        assert!((1..=CODE_PLANES_MAX).contains(&planes) && neighbours.codes.len() == planes * plane_bytes);
        let estimate = Estimate {
            neighbours,
            entries: table.entries,
            planes,
            scale: table.scale,
            offset: table.offset * ((1 << planes) - 1) as f32,
            base: table.base + neighbours.addend_low,
            bound,
            ahead: table.ahead,
        };
        match self.level {
            Level::Scalar => estimate_scalar(&estimate, out),
            // SAFETY: the token proves the CPU's features; the lengths were checked.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => unsafe { codes_avx2::estimate(&estimate, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => unsafe { codes_avx512::estimate(&estimate, out) },
        }
    }

    /// Asks for the cache lines of `bytes`.
    #[inline]
    pub fn prefetch(self, bytes: &[u8]) {
        // Four at once: the loop would cost more than what it does.
        let (fours, rest) = bytes.as_chunks::<{ LINE_BYTES * 4 }>();
        for four in fours {
            (0..4).for_each(|line| ask(four, line * LINE_BYTES));
        }
        (0..rest.len()).step_by(LINE_BYTES).for_each(|at| ask(rest, at));
    }

    /// Asks for the cache lines of single bytes.
    #[inline(always)]
    pub fn prefetch_at(self, bytes: &[u8], places: &[[u8; 4]; NEIGHBOURS]) {
        places.iter().for_each(|place| ask(bytes, u32::from_le_bytes(*place) as usize));
    }

    /// Every level this CPU has, to compare them.
    #[cfg(test)]
    pub(crate) fn every() -> Vec<CodeKernels> {
        Level::available().into_iter().map(|level| CodeKernels { level }).collect()
    }
}

/// Calls `four` with rows that follow each other, and `one` with the rest; long rows are read one after the other.
///
/// # Safety
/// There are as many rows as places in `out`, `stride` bytes apart.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) unsafe fn in_order(
    first: *const u8,
    stride: usize,
    dim: usize,
    out: &mut [i32],
    four: impl Fn([*const u8; ROWS_AT_ONCE]) -> [i32; ROWS_AT_ONCE],
    one: impl Fn(*const u8) -> [i32; 1],
) {
    let tiled = if dim > LONG_DIM { 0 } else { out.len() - out.len() % ROWS_AT_ONCE };
    for (index, out) in out[..tiled].as_chunks_mut::<ROWS_AT_ONCE>().0.iter_mut().enumerate() {
        let mut rows = [std::ptr::null(); ROWS_AT_ONCE];
        for (row, pointer) in rows.iter_mut().enumerate() {
            // SAFETY: so many rows are there.
            *pointer = unsafe { first.add((index * ROWS_AT_ONCE + row) * stride) };
        }
        *out = four(rows);
    }
    for (index, out) in out.iter_mut().enumerate().skip(tiled) {
        // SAFETY: so many rows are there.
        *out = one(unsafe { first.add(index * stride) })[0];
    }
}

/// Asks for the cache line at `at`, if there is one.
#[inline(always)]
pub(super) fn ask(bytes: &[u8], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if at < bytes.len() {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch is harmless, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(bytes.as_ptr().wrapping_add(at).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, at);
}

fn scalar(code: &[u8], query: &[i16]) -> i32 {
    let products = code.iter().zip(query).map(|(code, query)| i32::from(*code as i8) * i32::from(*query));
    products.fold(0, i32::wrapping_add)
}

fn estimate_scalar(estimate: &Estimate<'_>, out: &mut [f32; 32]) -> u32 {
    CodeKernels { level: Level::Scalar }.prefetch(estimate.ahead);
    let neighbours = &estimate.neighbours;
    let mut sums = [0u32; NEIGHBOURS];
    for plane in neighbours.codes.chunks_exact(estimate.entries.len()) {
        sums.iter_mut().for_each(|sum| *sum *= 2);
        for (codes, entries) in plane.chunks_exact(16).zip(estimate.entries.chunks_exact(16)) {
            for (index, code) in codes.iter().enumerate() {
                sums[index] += u32::from(entries[usize::from(code & 15)]);
                sums[index + 16] += u32::from(entries[usize::from(code >> 4)]);
            }
        }
    }
    let addends = neighbours.addends.as_chunks::<2>().0;
    let mut below = 0;
    for (index, out) in out.iter_mut().enumerate() {
        let addend = neighbours.addend_step * f32::from(u16::from_le_bytes(addends[index]));
        let factor = neighbours.factor_step * f32::from(neighbours.factors[index]);
        *out = (estimate.base + addend) - factor * (estimate.scale * sums[index] as f32 + estimate.offset);
        below |= u32::from(*out < estimate.bound) << index;
    }
    below
}

#[cfg(test)]
mod tests;
