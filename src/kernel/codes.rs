//! Kernels over quantised vectors: dot products of 8-bit codes, and FastScan estimates of 32 neighbours at once.
//!
//! All sums are integers, and the few float operations behind them are done lane by lane in one order, so every SIMD
//! level gives the same bits. FastScan codes (Andre et al., VLDB 2015; used on RaBitQ codes as in SymphonyQG, SIGMOD 2025) are
//! laid out in chunks of 16 dimensions, 64 bytes each: four groups of four dimensions, 16 bytes per group, byte `j` of a group
//! holding the four bits of neighbour `j` (low) and of neighbour `j + 16` (high).

use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::{avx2::Avx2, avx512::Avx512, codes_avx2, codes_avx512};

/// Neighbours whose distances are estimated at once.
pub const NEIGHBOURS: usize = 32;
/// Dimensions of codes come in multiples of it: whole registers on every level.
pub const CODE_DIM_STEP: usize = 32;
/// Bytes of one chunk, of codes and of look-up tables alike.
pub(super) const CHUNK_BYTES: usize = 64;
/// Chunks whose sums cannot overflow 16 bits: two groups of at most 255 per chunk and lane.
pub(super) const CHUNKS_PER_FLUSH: usize = 128;

/// The kernels over codes that this CPU can run.
#[derive(Clone, Copy, Debug)]
pub struct CodeKernels {
    level: Level,
}

#[derive(Clone, Copy, Debug)]
enum Level {
    #[cfg_attr(target_arch = "x86_64", allow(dead_code, reason = "only without AVX2"))]
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
}

/// The codes and factors of the 32 neighbours of one vertex, as they lie in memory; no alignment is asked for.
#[derive(Clone, Copy, Debug)]
pub struct NeighbourCodes<'a> {
    /// `code_dim * 4` bytes in FastScan layout.
    pub codes: &'a [u8],
    /// 32 little-endian `f32`: what is added.
    pub addends: &'a [u8; NEIGHBOURS * 4],
    /// 32 little-endian `f32`: what the estimated product is multiplied with.
    pub factors: &'a [u8; NEIGHBOURS * 4],
}

/// What a query brings to an estimate: `base + addend - factor * (scale * sum + offset)`, `sum` over the table entries.
#[derive(Clone, Copy, Debug)]
pub struct QueryTable<'a> {
    /// `code_dim * 4` bytes: 16 entries per group of four dimensions.
    pub entries: &'a [u8],
    /// Of the sum of entries.
    pub scale: f32,
    /// Of the sum of entries.
    pub offset: f32,
    /// Squared distance of query and vertex.
    pub base: f32,
}

impl CodeKernels {
    /// The best this CPU has.
    pub fn get() -> CodeKernels {
        static BEST: OnceLock<CodeKernels> = OnceLock::new();
        *BEST.get_or_init(|| CodeKernels { level: *available().last().unwrap_or(&Level::Scalar) })
    }

    /// The dot product of two 8-bit codes.
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of [`CODE_DIM_STEP`].
    #[inline]
    pub fn dot(self, left: &[i8], right: &[i8]) -> i32 {
        assert!(left.len() == right.len() && left.len().is_multiple_of(CODE_DIM_STEP));
        match self.level {
            Level::Scalar => left.iter().zip(right).map(|(left, right)| i32::from(*left) * i32::from(*right)).sum(),
            // SAFETY: the token proves the CPU's features; the lengths were checked.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => unsafe { codes_avx2::dot(left, right) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => unsafe { codes_avx512::dot(left, right) },
        }
    }

    /// The dot product of an 8-bit code with a 16-bit query; sums wrap.
    ///
    /// # Panics
    /// When the lengths differ or are no multiple of [`CODE_DIM_STEP`].
    #[inline]
    pub fn dot_query(self, code: &[u8], query: &[i16]) -> i32 {
        assert!(code.len() == query.len() && code.len().is_multiple_of(CODE_DIM_STEP));
        match self.level {
            Level::Scalar => code
                .iter()
                .zip(query)
                .fold(0i32, |sum, (code, query)| sum.wrapping_add(i32::from(*code as i8) * i32::from(*query))),
            // SAFETY: the token proves the CPU's features; the lengths were checked.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => unsafe { codes_avx2::dot_query(code, query) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => unsafe { codes_avx512::dot_query(code, query) },
        }
    }

    /// Estimates the squared distances of a query to 32 neighbours; the bits of the result tell which are below `bound`.
    ///
    /// # Panics
    /// When codes and table differ in length or are no whole chunks.
    #[inline]
    pub fn estimate(
        self,
        neighbours: NeighbourCodes<'_>,
        table: QueryTable<'_>,
        bound: f32,
        out: &mut [f32; 32],
    ) -> u32 {
        let is_whole = neighbours.codes.len().is_multiple_of(CHUNK_BYTES);
        assert!(is_whole && neighbours.codes.len() == table.entries.len());
        match self.level {
            Level::Scalar => estimate_scalar(neighbours, table, bound, out),
            // SAFETY: the token proves the CPU's features; the lengths were checked.
            #[cfg(target_arch = "x86_64")]
            Level::Avx2(_) => unsafe { codes_avx2::estimate(neighbours, table, bound, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512(_) => unsafe { codes_avx512::estimate(neighbours, table, bound, out) },
        }
    }

    /// Asks for the cache lines of `bytes`.
    #[inline]
    pub fn prefetch(self, bytes: &[u8]) {
        #[cfg(target_arch = "x86_64")]
        for line in bytes.chunks(64) {
            // SAFETY: a prefetch is harmless, and SSE is part of x86-64.
            unsafe { std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(line.as_ptr().cast()) }
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = bytes;
    }

    /// Every level this CPU has, to compare them.
    #[cfg(test)]
    pub(crate) fn every() -> Vec<CodeKernels> {
        available().into_iter().map(|level| CodeKernels { level }).collect()
    }
}

fn available() -> Vec<Level> {
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut, reason = "other levels are x86-64's"))]
    let mut levels = vec![Level::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        levels.extend(Avx2::detect().map(Level::Avx2));
        levels.extend(Avx512::detect().map(Level::Avx512));
    }
    levels
}

fn estimate_scalar(neighbours: NeighbourCodes<'_>, table: QueryTable<'_>, bound: f32, out: &mut [f32; 32]) -> u32 {
    let mut sums = [0u32; NEIGHBOURS];
    for (codes, entries) in neighbours.codes.chunks_exact(16).zip(table.entries.chunks_exact(16)) {
        for (index, code) in codes.iter().enumerate() {
            sums[index] += u32::from(entries[usize::from(code & 15)]);
            sums[index + 16] += u32::from(entries[usize::from(code >> 4)]);
        }
    }
    let mut below = 0;
    for (index, out) in out.iter_mut().enumerate() {
        let addend = float_at(neighbours.addends, index);
        let factor = float_at(neighbours.factors, index);
        *out = (table.base + addend) - factor * (table.scale * sums[index] as f32 + table.offset);
        below |= u32::from(*out < bound) << index;
    }
    below
}

fn float_at(bytes: &[u8; NEIGHBOURS * 4], index: usize) -> f32 {
    bytes.as_chunks::<4>().0.get(index).map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
}

#[cfg(test)]
#[path = "codes_tests.rs"]
mod tests;
