//! Distances between binary vectors: bits are counted eight bytes at a time.
//!
//! Written so that a compiler makes the level's counting instructions of it; counts are integers, so every level gives the
//! same bits.

use std::sync::OnceLock;

use super::rows::RowBlock;

/// How far ahead of the row being counted its successors are asked for, in bytes.
const PREFETCH_BYTES: usize = 4096;

/// The kernels over binary vectors that this CPU can run.
#[derive(Clone, Copy, Debug)]
pub struct BitKernels {
    level: Level,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Level {
    Scalar,
    /// A counting instruction for 64 bits.
    #[cfg(target_arch = "x86_64")]
    Popcnt,
    /// One for eight times 64.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl BitKernels {
    /// The best this CPU has.
    pub fn get() -> BitKernels {
        static BEST: OnceLock<BitKernels> = OnceLock::new();
        *BEST.get_or_init(|| BitKernels { level: *available().last().unwrap_or(&Level::Scalar) })
    }

    /// Differing bits of one query and every row. A row's "elements" are its bytes, of eight dimensions each
    /// ([`super::VectorElement::I8`]).
    ///
    /// # Panics
    /// When `query` has not `rows.dim()` bytes or `out` has not one place per row.
    pub fn hamming_distances(self, query: &[u8], rows: &RowBlock<'_>, out: &mut [f32]) {
        self.run::<Hamming>(query, rows, out);
    }

    /// 1 - (common bits) / (bits that are set in either) of one query and every row; 1 when no bit is set.
    ///
    /// # Panics
    /// As [`BitKernels::hamming_distances`].
    pub fn jaccard_distances(self, query: &[u8], rows: &RowBlock<'_>, out: &mut [f32]) {
        self.run::<Jaccard>(query, rows, out);
    }

    fn run<C: Count>(self, query: &[u8], rows: &RowBlock<'_>, out: &mut [f32]) {
        assert!(query.len() == rows.dim() && out.len() == rows.len());
        match self.level {
            Level::Scalar => distances::<C>(query, rows, out),
            // SAFETY: the level is there only when the CPU has the instruction.
            #[cfg(target_arch = "x86_64")]
            Level::Popcnt => unsafe { distances_popcnt::<C>(query, rows, out) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { distances_avx512::<C>(query, rows, out) },
        }
    }
}

/// From the plainest to the best.
fn available() -> Vec<Level> {
    #[cfg_attr(not(target_arch = "x86_64"), allow(unused_mut, reason = "other levels are x86-64's"))]
    let mut levels = vec![Level::Scalar];
    #[cfg(target_arch = "x86_64")]
    {
        if is_x86_feature_detected!("popcnt") {
            levels.push(Level::Popcnt);
        }
        if super::avx512::Avx512::detect().is_some()
            && is_x86_feature_detected!("avx512vpopcntdq")
            && is_x86_feature_detected!("popcnt")
        {
            levels.push(Level::Avx512);
        }
    }
    levels
}

/// What is counted in a pair of words, and the distance that it comes to.
trait Count {
    type Counts: Default;
    fn add(counts: &mut Self::Counts, query: u64, row: u64);
    fn distance(counts: &Self::Counts) -> f32;
}

struct Hamming;

impl Count for Hamming {
    type Counts = u64;

    #[inline(always)]
    fn add(counts: &mut u64, query: u64, row: u64) {
        *counts += u64::from((query ^ row).count_ones());
    }

    #[inline(always)]
    fn distance(counts: &u64) -> f32 {
        *counts as f32
    }
}

struct Jaccard;

impl Count for Jaccard {
    /// Bits set in both, and in either.
    type Counts = (u64, u64);

    #[inline(always)]
    fn add(counts: &mut (u64, u64), query: u64, row: u64) {
        counts.0 += u64::from((query & row).count_ones());
        counts.1 += u64::from((query | row).count_ones());
    }

    #[inline(always)]
    fn distance(&(both, either): &(u64, u64)) -> f32 {
        if either == 0 { 1.0 } else { (either - both) as f32 / either as f32 }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn distances_popcnt<C: Count>(query: &[u8], rows: &RowBlock<'_>, out: &mut [f32]) {
    distances::<C>(query, rows, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vpopcntdq,popcnt")]
fn distances_avx512<C: Count>(query: &[u8], rows: &RowBlock<'_>, out: &mut [f32]) {
    distances::<C>(query, rows, out);
}

/// A loop of its own for each usual width: a count of known length is unrolled, which makes short rows twice as fast
/// (`benches/elements.rs`, 128 dimensions).
#[inline(always)]
fn distances<C: Count>(query: &[u8], rows: &RowBlock<'_>, out: &mut [f32]) {
    match query.len() {
        8 => distances_of::<C>(&query[..8], rows, out),
        16 => distances_of::<C>(&query[..16], rows, out),
        32 => distances_of::<C>(&query[..32], rows, out),
        64 => distances_of::<C>(&query[..64], rows, out),
        96 => distances_of::<C>(&query[..96], rows, out),
        128 => distances_of::<C>(&query[..128], rows, out),
        _ => distances_of::<C>(query, rows, out),
    }
}

#[inline(always)]
fn distances_of<C: Count>(query: &[u8], rows: &RowBlock<'_>, out: &mut [f32]) {
    let (query_words, query_rest) = query.as_chunks::<8>();
    let ahead = PREFETCH_BYTES.div_ceil(query.len());
    for (index, out) in out.iter_mut().enumerate() {
        prefetch(rows.row_address(index + ahead), query.len());
        // SAFETY: there are as many rows as `out` has places, each as long as the query: `run` checked both.
        let row = unsafe { std::slice::from_raw_parts(rows.row_pointer(index), query.len()) };
        let (words, rest) = row.as_chunks::<8>();
        let mut counts = C::Counts::default();
        for (query, row) in query_words.iter().zip(words) {
            C::add(&mut counts, u64::from_ne_bytes(*query), u64::from_ne_bytes(*row));
        }
        if !rest.is_empty() {
            C::add(&mut counts, padded(query_rest), padded(rest));
        }
        *out = C::distance(&counts);
    }
}

#[inline(always)]
fn prefetch(address: *const u8, bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch of any address is harmless, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.wrapping_add(line).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (address, bytes);
}

/// Fewer than eight bytes as a word.
#[inline(always)]
fn padded(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::super::{Rows, VectorElement, VectorRows};
    use super::*;

    fn bytes(count: usize, mut seed: u64) -> Vec<u8> {
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 40) as u8
        };
        (0..count).map(|_| next()).collect()
    }

    /// Bit by bit.
    fn naive(query: &[u8], row: &[u8]) -> (f32, f32) {
        let bits = |bytes: &[u8]| -> Vec<bool> {
            bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)).collect()
        };
        let pairs: Vec<(bool, bool)> = bits(query).into_iter().zip(bits(row)).collect();
        let count = |wanted: fn(&(bool, bool)) -> bool| pairs.iter().filter(|pair| wanted(pair)).count() as f32;
        let either = count(|pair| pair.0 || pair.1);
        let jaccard = if either == 0.0 { 1.0 } else { count(|pair| pair.0 != pair.1) / either };
        (count(|pair| pair.0 != pair.1), jaccard)
    }

    #[test]
    fn every_level_counts_what_a_naive_count_finds() {
        for row_bytes in (1..=70).chain([127, 128, 129, 1000, 4096]) {
            let mut column = vec![1];
            column.extend(bytes(row_bytes * 9, 5));
            column[1..=row_bytes].fill(0);
            let rows = VectorRows { bytes: &column[1..], dim: row_bytes, element: VectorElement::I8 };
            let list = [8, 0, 3, 3];
            for wanted in [Rows::Range(0..9), Rows::Range(4..7), Rows::Listed(&list)] {
                let block = rows.block(wanted).unwrap();
                for query in [bytes(row_bytes, 9), vec![0; row_bytes], vec![255; row_bytes]] {
                    for level in available() {
                        let kernels = BitKernels { level };
                        let (mut hamming, mut jaccard) = (vec![9.0; block.len()], vec![9.0; block.len()]);
                        kernels.hamming_distances(&query, &block, &mut hamming);
                        kernels.jaccard_distances(&query, &block, &mut jaccard);
                        for index in 0..block.len() {
                            let expected = naive(&query, block.row_bytes(index));
                            assert_eq!((hamming[index], jaccard[index]), expected, "{level:?}, {row_bytes} bytes");
                        }
                    }
                }
            }
        }
    }
}
