//! AVX2 over codes: half a chunk per register.

use std::arch::x86_64::*;

use super::bytes::ROWS_AT_ONCE;
use super::codes::{CHUNK_BYTES, Estimate, ask, chunks_per_flush, in_order};

/// # Safety
/// The CPU has AVX2; every row is valid for as many bytes as the query has elements, a multiple of 32.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn products<const R: usize>(rows: [*const u8; R], query: &[i16], ahead: &[u8]) -> [i32; R] {
    let mut sums = [_mm256_setzero_si256(); R];
    for at in (0..query.len()).step_by(16) {
        ask(ahead, at * 2);
        // SAFETY: 16 elements from `at` lie in each.
        unsafe {
            let query = _mm256_loadu_si256(query.as_ptr().add(at).cast());
            for row in 0..R {
                let code = _mm256_cvtepi8_epi16(_mm_loadu_si128(rows[row].add(at).cast()));
                sums[row] = _mm256_add_epi32(sums[row], _mm256_madd_epi16(code, query));
            }
        }
    }
    let mut out = [0; R];
    for row in 0..R {
        out[row] = reduce(sums[row]);
    }
    out
}

/// Products of rows that follow each other.
///
/// # Safety
/// The CPU has AVX2; there are as many rows as places in `out`, `stride` bytes apart, each as in [`products`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn products_in_order(first: *const u8, stride: usize, query: &[i16], out: &mut [i32]) {
    // SAFETY: the caller's duty; only rows are asked for.
    let four = |rows| unsafe { products::<ROWS_AT_ONCE>(rows, query, &[]) };
    // SAFETY: as above.
    let one = |row| unsafe { products::<1>([row], query, &[]) };
    // SAFETY: the caller's duty.
    unsafe { in_order(first, stride, query.len(), out, four, one) }
}

#[target_feature(enable = "avx2")]
fn reduce(sum: __m256i) -> i32 {
    let half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let quarter = _mm_add_epi32(half, _mm_shuffle_epi32::<0b0100_1110>(half));
    _mm_cvtsi128_si32(_mm_add_epi32(quarter, _mm_shuffle_epi32::<0b1011_0001>(quarter)))
}

/// # Safety
/// The CPU has AVX2; entries are whole chunks, codes are `planes` times as long.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn estimate(estimate: &Estimate<'_>, out: &mut [f32; 32]) -> u32 {
    let neighbours = &estimate.neighbours;
    let nibble = _mm256_set1_epi8(15);
    let mut totals = [_mm256_setzero_si256(); 4];
    let plane_bytes = estimate.entries.len();
    let flush_bytes = chunks_per_flush(estimate.planes) * CHUNK_BYTES;
    for first in (0..plane_bytes).step_by(flush_bytes) {
        let mut sums = [_mm256_setzero_si256(); 4];
        for plane in 0..estimate.planes {
            // What a plane weighs more than the next; odd and even bytes stay apart, modulo 2^16.
            for sum in &mut sums {
                *sum = _mm256_add_epi16(*sum, *sum);
            }
            for at in (first..plane_bytes.min(first + flush_bytes)).step_by(CHUNK_BYTES / 2) {
                ask(estimate.ahead, plane * plane_bytes + at);
                // SAFETY: half a chunk from `at` lies in the entries and in each plane.
                let (codes, entries) = unsafe {
                    (
                        _mm256_loadu_si256(neighbours.codes.as_ptr().add(plane * plane_bytes + at).cast()),
                        _mm256_loadu_si256(estimate.entries.as_ptr().add(at).cast()),
                    )
                };
                let low = _mm256_shuffle_epi8(entries, _mm256_and_si256(codes, nibble));
                let high = _mm256_shuffle_epi8(entries, _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble));
                // The first of each pair sums even bytes with the odd ones above them, which are subtracted in the end.
                sums[0] = _mm256_add_epi16(sums[0], low);
                sums[1] = _mm256_add_epi16(sums[1], _mm256_srli_epi16::<8>(low));
                sums[2] = _mm256_add_epi16(sums[2], high);
                sums[3] = _mm256_add_epi16(sums[3], _mm256_srli_epi16::<8>(high));
            }
        }
        let (low, high) = (widened(sums[0], sums[1]), widened(sums[2], sums[3]));
        for (total, sums) in totals.iter_mut().zip([low[0], low[1], high[0], high[1]]) {
            *total = _mm256_add_epi32(*total, sums);
        }
    }
    let mut below = 0;
    for (quarter, sums) in totals.into_iter().enumerate() {
        // SAFETY: 8 addends of 32 and 8 factors of 32 from `quarter * 8` lie in each.
        let (addends, factors) = unsafe {
            (
                _mm_loadu_si128(neighbours.addends.as_ptr().add(quarter * 16).cast()),
                _mm_loadl_epi64(neighbours.factors.as_ptr().add(quarter * 8).cast()),
            )
        };
        let steps = |integers: __m256i, step: f32| _mm256_mul_ps(_mm256_set1_ps(step), _mm256_cvtepi32_ps(integers));
        let addends = steps(_mm256_cvtepu16_epi32(addends), neighbours.addend_step);
        let factors = steps(_mm256_cvtepu8_epi32(factors), neighbours.factor_step);
        let product =
            _mm256_mul_ps(factors, _mm256_add_ps(steps(sums, estimate.scale), _mm256_set1_ps(estimate.offset)));
        let distances = _mm256_sub_ps(_mm256_add_ps(_mm256_set1_ps(estimate.base), addends), product);
        let mask = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(distances, _mm256_set1_ps(estimate.bound)));
        below |= (mask as u32) << (quarter * 8);
        // SAFETY: 8 floats of 32 from `quarter * 8` lie in it.
        unsafe { _mm256_storeu_ps(out.as_mut_ptr().add(quarter * 8), distances) };
    }
    below
}

/// Sums over both 128-bit lanes of neighbours 0-7 and 8-15, in order, from sums of even (with odd above) and odd bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn widened(mixed: __m256i, odd: __m256i) -> [__m256i; 2] {
    let even = _mm256_sub_epi16(mixed, _mm256_slli_epi16::<8>(odd));
    [_mm256_unpacklo_epi16(even, odd), _mm256_unpackhi_epi16(even, odd)].map(|lanes| {
        _mm256_add_epi32(
            _mm256_cvtepu16_epi32(_mm256_castsi256_si128(lanes)),
            _mm256_cvtepu16_epi32(_mm256_extracti128_si256::<1>(lanes)),
        )
    })
}
