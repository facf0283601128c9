//! AVX2 over bytes: they are widened to 16 bits before they are multiplied.

use std::arch::x86_64::*;

use super::differences::{Coded, Difference, Placement};
use super::integers::{self, ByteLanes};
use super::lanes::{LANES, padded};
use super::tile::Task;

/// # Safety
/// As [`integers::run`].
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run(task: Task<'_>, others: impl Fn(Task<'_>)) {
    // SAFETY: the caller's duty.
    unsafe { integers::run::<Avx2Bytes>(task, others) }
}

/// Eight sums.
#[derive(Clone, Copy)]
struct Avx2Bytes(__m256i);

// SAFETY: loads touch only what the caller vouches for.
unsafe impl ByteLanes for Avx2Bytes {
    const STEP: usize = 16;
    /// Widened to 16 bits.
    type Bytes = __m256i;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe { Avx2Bytes(_mm256_setzero_si256()) }
    }

    #[inline(always)]
    unsafe fn load(from: *const i8) -> __m256i {
        // SAFETY: the caller vouches for the CPU and for 16 bytes.
        unsafe { _mm256_cvtepi8_epi16(_mm_loadu_si128(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_head(from: *const i8, count: usize) -> __m256i {
        // SAFETY: the caller vouches for the CPU and for `count` bytes.
        unsafe { Self::load(padded::<16>(from.cast(), count).as_ptr().cast()) }
    }

    #[inline(always)]
    unsafe fn raise(bytes: __m256i) -> __m256i {
        bytes
    }

    #[inline(always)]
    unsafe fn add(self, raised: __m256i, bytes: __m256i) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe { Avx2Bytes(_mm256_add_epi32(self.0, _mm256_madd_epi16(raised, bytes))) }
    }

    #[inline(always)]
    unsafe fn add_raise(self, _bytes: __m256i) -> Self {
        self
    }

    #[inline(always)]
    unsafe fn sums_less<const R: usize>(sums: [Self; R], less: [Self; R]) -> [i32; R] {
        let mut out = [0; R];
        for row in 0..R {
            // SAFETY: the caller vouches for the CPU.
            out[row] = unsafe { reduce(_mm256_sub_epi32(sums[row].0, less[row].0)) };
        }
        out
    }

    #[inline(always)]
    unsafe fn narrow(values: &[f32; LANES], to: *mut i8) -> bool {
        // SAFETY: the caller vouches for the CPU and for sixteen bytes.
        unsafe {
            let low = _mm256_loadu_ps(values.as_ptr());
            let high = _mm256_loadu_ps(values.as_ptr().add(8));
            let words = _mm256_packs_epi32(_mm256_cvtps_epi32(low), _mm256_cvtps_epi32(high));
            let words = _mm256_permute4x64_epi64::<0b1101_1000>(words);
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            _mm_storeu_si128(to.cast(), bytes);
            let differs =
                |values, bytes| _mm256_cmp_ps::<_CMP_NEQ_UQ>(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), values);
            let differ = _mm256_or_ps(differs(low, bytes), differs(high, _mm_srli_si128::<8>(bytes)));
            _mm256_movemask_ps(differ) == 0
        }
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        // SAFETY: a prefetch of any address is harmless, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
}

/// # Safety
/// The CPU has AVX2; every row is valid for as many bytes as `left`.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn products<const R: usize>(left: &[i8], rows: [*const u8; R]) -> [i32; R] {
    let whole = left.len() - left.len() % 16;
    let mut sums = [_mm256_setzero_si256(); R];
    for at in (0..whole).step_by(16) {
        // SAFETY: 16 bytes from `at` lie in each.
        unsafe {
            let of_left = _mm256_cvtepi8_epi16(_mm_loadu_si128(left.as_ptr().add(at).cast()));
            for row in 0..R {
                let of_row = _mm256_cvtepi8_epi16(_mm_loadu_si128(rows[row].add(at).cast()));
                sums[row] = _mm256_add_epi32(sums[row], _mm256_madd_epi16(of_left, of_row));
            }
        }
    }
    let mut out = [0; R];
    for row in 0..R {
        out[row] = reduce(sums[row]);
        for (at, value) in left.iter().enumerate().skip(whole) {
            // SAFETY: the row is as long as `left`.
            out[row] += i32::from(*value) * i32::from(unsafe { *rows[row].add(at) } as i8);
        }
    }
    out
}

#[inline]
#[target_feature(enable = "avx2")]
fn reduce(sum: __m256i) -> i32 {
    let half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let quarter = _mm_add_epi32(half, _mm_shuffle_epi32::<0b0100_1110>(half));
    _mm_cvtsi128_si32(_mm_add_epi32(quarter, _mm_shuffle_epi32::<0b1011_0001>(quarter)))
}

/// # Safety
/// The CPU has AVX2 and FMA; both have the same length, a multiple of 16, and the placement has room for it.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn encode(vertex: Coded<'_>, neighbour: Coded<'_>, placement: &mut Placement<'_>) -> Difference {
    let zero = _mm256_setzero_ps();
    let (mut products, mut squares, mut of_vertex) = ([zero; 2], [zero; 2], [zero; 2]);
    let sign = _mm256_set1_ps(-0.0);
    let top = _mm256_set1_ps(placement.magnitude_max());
    let inverse = _mm256_set1_ps(placement.inverse_step);
    for chunk in 0..vertex.codes.len() / 16 {
        let mut positives = 0u16;
        let mut magnitudes = [_mm256_setzero_si256(); 2];
        for half in 0..2 {
            // SAFETY: eight bytes of the half lie in both.
            let load = |coded: &Coded<'_>| unsafe {
                let bytes = _mm_loadl_epi64(coded.codes.as_ptr().add(chunk * 16 + half * 8).cast());
                _mm256_mul_ps(_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes)), _mm256_set1_ps(coded.scale))
            };
            let from = load(&vertex);
            let difference = _mm256_sub_ps(load(&neighbour), from);
            let positive = _mm256_cmp_ps::<_CMP_GT_OQ>(difference, zero);
            // What is no number becomes the greatest.
            let magnitude = _mm256_min_ps(_mm256_mul_ps(_mm256_andnot_ps(sign, difference), inverse), top);
            let magnitude = _mm256_round_ps::<{ _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC }>(magnitude);
            let odd = _mm256_fmadd_ps(_mm256_set1_ps(2.0), magnitude, _mm256_set1_ps(1.0));
            let odd = _mm256_xor_ps(odd, _mm256_andnot_ps(positive, sign));
            products[half] = _mm256_fmadd_ps(odd, difference, products[half]);
            squares[half] = _mm256_fmadd_ps(difference, difference, squares[half]);
            of_vertex[half] = _mm256_fmadd_ps(odd, from, of_vertex[half]);
            positives |= (_mm256_movemask_ps(positive) as u16) << (half * 8);
            magnitudes[half] = _mm256_cvttps_epi32(magnitude);
        }
        placement.put(chunk, positives, |bit| {
            let shift = _mm_cvtsi32_si128(31 - bit as i32);
            let mask = |half: __m256i| _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_sll_epi32(half, shift))) as u16;
            mask(magnitudes[0]) | mask(magnitudes[1]) << 8
        });
    }
    let sum = |lanes: [__m256; 2]| {
        let eight = _mm256_add_ps(lanes[0], lanes[1]);
        let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    };
    Difference { product: sum(products), square: sum(squares), of_vertex: sum(of_vertex) }
}
