//! AVX-512 over codes: a chunk of 16 dimensions of 32 neighbours per register.

use std::arch::x86_64::*;

use super::bytes::ROWS_AT_ONCE;
use super::codes::{CHUNK_BYTES, Estimate, ask, chunks_per_flush, in_order};

/// # Safety
/// The CPU has AVX-512 F, BW, DQ, VL; every row is valid for as many bytes as the query has elements, a multiple of 32.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn products<const R: usize>(rows: [*const u8; R], query: &[i16], ahead: &[u8]) -> [i32; R] {
    let mut sums = [_mm512_setzero_si512(); R];
    for at in (0..query.len()).step_by(32) {
        ask(ahead, at * 2);
        // SAFETY: 32 elements from `at` lie in each.
        unsafe {
            let query = _mm512_loadu_si512(query.as_ptr().add(at).cast());
            for row in 0..R {
                let code = _mm512_cvtepi8_epi16(_mm256_loadu_si256(rows[row].add(at).cast()));
                sums[row] = _mm512_add_epi32(sums[row], _mm512_madd_epi16(code, query));
            }
        }
    }
    sums_of_lanes(sums)
}

/// Products of rows that follow each other.
///
/// # Safety
/// The CPU has AVX-512 F, BW, DQ, VL; there are as many rows as places in `out`, `stride` bytes apart, each as in [`products`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn products_in_order(first: *const u8, stride: usize, query: &[i16], out: &mut [i32]) {
    // SAFETY: the caller's duty; only rows are asked for.
    let four = |rows| unsafe { products::<ROWS_AT_ONCE>(rows, query, &[]) };
    // SAFETY: as above.
    let one = |row| unsafe { products::<1>([row], query, &[]) };
    // SAFETY: the caller's duty.
    unsafe { in_order(first, stride, query.len(), out, four, one) }
}

/// The sums of the lanes of each, four at a time where there are four.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn sums_of_lanes<const R: usize>(sums: [__m512i; R]) -> [i32; R] {
    let mut out = [0; R];
    for first in (0..R).step_by(4) {
        let mut four = [_mm512_setzero_si512(); 4];
        let count = if R - first < 4 { R - first } else { 4 };
        four[..count].copy_from_slice(&sums[first..first + count]);
        let pair =
            |left, right| _mm512_add_epi32(_mm512_unpacklo_epi32(left, right), _mm512_unpackhi_epi32(left, right));
        let (left, right) = (pair(four[0], four[1]), pair(four[2], four[3]));
        let all = _mm512_add_epi32(_mm512_unpacklo_epi64(left, right), _mm512_unpackhi_epi64(left, right));
        let half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64::<1>(all));
        let quarter = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half));
        let mut four = [0i32; 4];
        // SAFETY: four integers are one register.
        unsafe { _mm_storeu_si128(four.as_mut_ptr().cast(), quarter) };
        out[first..first + count].copy_from_slice(&four[..count]);
    }
    out
}

/// # Safety
/// The CPU has AVX-512 F, BW, DQ, VL; entries are whole chunks, codes are `planes` times as long.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) unsafe fn estimate(estimate: &Estimate<'_>, out: &mut [f32; 32]) -> u32 {
    let neighbours = &estimate.neighbours;
    let nibble = _mm512_set1_epi8(15);
    let mut low_sums = _mm512_setzero_si512();
    let mut high_sums = _mm512_setzero_si512();
    let plane_bytes = estimate.entries.len();
    let flush_bytes = chunks_per_flush(estimate.planes) * CHUNK_BYTES;
    for first in (0..plane_bytes).step_by(flush_bytes) {
        let mut sums = [_mm512_setzero_si512(); 4];
        for plane in 0..estimate.planes {
            // What a plane weighs more than the next; odd and even bytes stay apart, modulo 2^16.
            for sum in &mut sums {
                *sum = _mm512_add_epi16(*sum, *sum);
            }
            for at in (first..plane_bytes.min(first + flush_bytes)).step_by(CHUNK_BYTES) {
                ask(estimate.ahead, plane * plane_bytes + at);
                // SAFETY: a whole chunk from `at` lies in the entries and in each plane.
                let (codes, entries) = unsafe {
                    (
                        _mm512_loadu_si512(neighbours.codes.as_ptr().add(plane * plane_bytes + at).cast()),
                        _mm512_loadu_si512(estimate.entries.as_ptr().add(at).cast()),
                    )
                };
                let low = _mm512_shuffle_epi8(entries, _mm512_and_si512(codes, nibble));
                let high = _mm512_shuffle_epi8(entries, _mm512_and_si512(_mm512_srli_epi16::<4>(codes), nibble));
                // The first of each pair sums even bytes with the odd ones above them, which are subtracted in the end.
                sums[0] = _mm512_add_epi16(sums[0], low);
                sums[1] = _mm512_add_epi16(sums[1], _mm512_srli_epi16::<8>(low));
                sums[2] = _mm512_add_epi16(sums[2], high);
                sums[3] = _mm512_add_epi16(sums[3], _mm512_srli_epi16::<8>(high));
            }
        }
        low_sums = _mm512_add_epi32(low_sums, widened(sums[0], sums[1]));
        high_sums = _mm512_add_epi32(high_sums, widened(sums[2], sums[3]));
    }
    let mut below = 0;
    for (half, sums) in [low_sums, high_sums].into_iter().enumerate() {
        // SAFETY: 16 addends of 32 and 16 factors of 32 from `half * 16` lie in each.
        let (addends, factors) = unsafe {
            (
                _mm256_loadu_si256(neighbours.addends.as_ptr().add(half * 32).cast()),
                _mm_loadu_si128(neighbours.factors.as_ptr().add(half * 16).cast()),
            )
        };
        let steps = |integers: __m512i, step: f32| _mm512_mul_ps(_mm512_set1_ps(step), _mm512_cvtepi32_ps(integers));
        let addends = steps(_mm512_cvtepu16_epi32(addends), neighbours.addend_step);
        let factors = steps(_mm512_cvtepu8_epi32(factors), neighbours.factor_step);
        let product =
            _mm512_mul_ps(factors, _mm512_add_ps(steps(sums, estimate.scale), _mm512_set1_ps(estimate.offset)));
        let distances = _mm512_sub_ps(_mm512_add_ps(_mm512_set1_ps(estimate.base), addends), product);
        below |= u32::from(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(distances, _mm512_set1_ps(estimate.bound))) << (half * 16);
        // SAFETY: 16 floats of 32 from `half * 16` lie in it.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr().add(half * 16), distances) };
    }
    below
}

/// Sums over the four 128-bit lanes of sixteen neighbours, in order, from sums of even (with odd above) and odd bytes.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn widened(mixed: __m512i, odd: __m512i) -> __m512i {
    let even = _mm512_sub_epi16(mixed, _mm512_slli_epi16::<8>(odd));
    // Interleaving puts neighbours 0-7 and 8-15 of every lane in order.
    let first = _mm512_unpacklo_epi16(even, odd);
    let second = _mm512_unpackhi_epi16(even, odd);
    let of_eight = |lanes: __m512i| {
        let add = |left, right| _mm256_add_epi32(left, right);
        let quarter = |part: __m128i| _mm256_cvtepu16_epi32(part);
        add(
            add(quarter(_mm512_extracti32x4_epi32::<0>(lanes)), quarter(_mm512_extracti32x4_epi32::<1>(lanes))),
            add(quarter(_mm512_extracti32x4_epi32::<2>(lanes)), quarter(_mm512_extracti32x4_epi32::<3>(lanes))),
        )
    };
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(of_eight(first)), of_eight(second))
}
