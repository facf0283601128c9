//! AVX-512 with VNNI over bytes: 64 products per instruction.

use std::arch::x86_64::*;

use super::avx512::Avx512;
use super::codes_avx512::sums_of_lanes;
use super::differences::{Coded, Difference, Placement};
use super::integers::{self, ByteLanes};
use super::lanes::LANES;
use super::tile::Task;

/// Proof that this CPU has AVX-512 with VNNI.
#[derive(Clone, Copy, Debug)]
pub(super) struct Vnni(());

impl Vnni {
    /// The proof, if it can be had.
    pub(super) fn detect() -> Option<Vnni> {
        (Avx512::detect().is_some() && is_x86_feature_detected!("avx512vnni")).then_some(Vnni(()))
    }
}

/// # Safety
/// As [`integers::run`].
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn run(task: Task<'_>, others: impl Fn(Task<'_>)) {
    // SAFETY: the caller's duty.
    unsafe { integers::run::<VnniBytes>(task, others) }
}

/// Sixteen sums.
#[derive(Clone, Copy)]
struct VnniBytes(__m512i);

/// The first `count` (below 64) bytes.
#[inline(always)]
fn head_mask(count: usize) -> __mmask64 {
    (1 << count) - 1
}

// SAFETY: loads touch only what the caller vouches for: masked-off bytes are not read.
unsafe impl ByteLanes for VnniBytes {
    const STEP: usize = 64;
    type Bytes = __m512i;

    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe { VnniBytes(_mm512_setzero_si512()) }
    }

    #[inline(always)]
    unsafe fn load(from: *const i8) -> __m512i {
        // SAFETY: the caller vouches for the CPU and for 64 bytes.
        unsafe { _mm512_loadu_si512(from.cast()) }
    }

    #[inline(always)]
    unsafe fn load_head(from: *const i8, count: usize) -> __m512i {
        // SAFETY: the caller vouches for the CPU and for `count` bytes.
        unsafe { _mm512_maskz_loadu_epi8(head_mask(count), from.cast()) }
    }

    #[inline(always)]
    unsafe fn raise(bytes: __m512i) -> __m512i {
        // SAFETY: the caller vouches for the CPU.
        unsafe { _mm512_xor_si512(bytes, _mm512_set1_epi8(-128)) }
    }

    #[inline(always)]
    unsafe fn add(self, raised: __m512i, bytes: __m512i) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe { VnniBytes(_mm512_dpbusd_epi32(self.0, raised, bytes)) }
    }

    #[inline(always)]
    unsafe fn add_raise(self, bytes: __m512i) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe { VnniBytes(_mm512_dpbusd_epi32(self.0, _mm512_set1_epi8(-128), bytes)) }
    }

    #[inline(always)]
    unsafe fn sums_less<const R: usize>(sums: [Self; R], less: [Self; R]) -> [i32; R] {
        // SAFETY: the caller vouches for the CPU.
        unsafe {
            let mut lanes = [_mm512_setzero_si512(); R];
            for row in 0..R {
                lanes[row] = _mm512_sub_epi32(sums[row].0, less[row].0);
            }
            sums_of_lanes(lanes)
        }
    }

    #[inline(always)]
    unsafe fn narrow(values: &[f32; LANES], to: *mut i8) -> bool {
        // SAFETY: the caller vouches for the CPU and for sixteen bytes.
        unsafe {
            let values = _mm512_loadu_ps(values.as_ptr());
            let bytes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(values));
            _mm_storeu_si128(to.cast(), _mm_xor_si128(bytes, _mm_set1_epi8(-128)));
            _mm512_cmpneq_ps_mask(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)), values) == 0
        }
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        // SAFETY: a prefetch of any address is harmless, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
}

/// # Safety
/// The CPU has the features; every row is valid for as many bytes as `left`.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn products<const R: usize>(left: &[i8], rows: [*const u8; R]) -> [i32; R] {
    // One side must be unsigned: rows are raised by 128, and what that adds is subtracted in the end.
    let raise = _mm512_set1_epi8(-128);
    let mut sums = [_mm512_setzero_si512(); R];
    let mut raised = _mm512_setzero_si512();
    let whole = left.len() - left.len() % 64;
    for at in (0..whole).step_by(64) {
        // SAFETY: 64 bytes from `at` lie in each.
        unsafe {
            let of_left = _mm512_loadu_si512(left.as_ptr().add(at).cast());
            for row in 0..R {
                let of_row = _mm512_xor_si512(_mm512_loadu_si512(rows[row].add(at).cast()), raise);
                sums[row] = _mm512_dpbusd_epi32(sums[row], of_row, of_left);
            }
            raised = _mm512_dpbusd_epi32(raised, raise, of_left);
        }
    }
    if whole < left.len() {
        let mask = (1u64 << (left.len() - whole)) - 1;
        // SAFETY: the bytes of the mask lie in each.
        unsafe {
            let of_left = _mm512_maskz_loadu_epi8(mask, left.as_ptr().add(whole));
            for row in 0..R {
                let of_row = _mm512_maskz_loadu_epi8(mask, rows[row].add(whole).cast());
                sums[row] = _mm512_dpbusd_epi32(sums[row], _mm512_xor_si512(of_row, raise), of_left);
            }
            raised = _mm512_dpbusd_epi32(raised, raise, of_left);
        }
    }
    for sum in &mut sums {
        *sum = _mm512_sub_epi32(*sum, raised);
    }
    sums_of_lanes(sums)
}

/// # Safety
/// The CPU has the features; both have the same length, a multiple of 16, and the placement has room for it.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
pub(super) unsafe fn encode(vertex: Coded<'_>, neighbour: Coded<'_>, placement: &mut Placement<'_>) -> Difference {
    let zero = _mm512_setzero_ps();
    let (mut products, mut squares, mut of_vertex) = (zero, zero, zero);
    let one = _mm512_set1_ps(1.0);
    let top = _mm512_set1_ps(placement.magnitude_max());
    let inverse = _mm512_set1_ps(placement.inverse_step);
    let scales = (_mm512_set1_ps(vertex.scale), _mm512_set1_ps(neighbour.scale));
    for chunk in 0..vertex.codes.len() / 16 {
        // SAFETY: sixteen bytes of the chunk lie in both.
        let load = |coded: &Coded<'_>| unsafe {
            _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(coded.codes.as_ptr().add(chunk * 16).cast())))
        };
        let from = _mm512_mul_ps(load(&vertex), scales.0);
        let difference = _mm512_sub_ps(_mm512_mul_ps(load(&neighbour), scales.1), from);
        let positive = _mm512_cmp_ps_mask::<_CMP_GT_OQ>(difference, zero);
        // What is no number becomes the greatest.
        let magnitude = _mm512_min_ps(_mm512_mul_ps(_mm512_abs_ps(difference), inverse), top);
        let magnitudes = _mm512_cvttps_epi32(magnitude);
        let odd = _mm512_fmadd_ps(_mm512_set1_ps(2.0), _mm512_cvtepi32_ps(magnitudes), one);
        let odd = _mm512_mask_sub_ps(odd, !positive, zero, odd);
        products = _mm512_fmadd_ps(odd, difference, products);
        squares = _mm512_fmadd_ps(difference, difference, squares);
        of_vertex = _mm512_fmadd_ps(odd, from, of_vertex);
        placement.put(chunk, positive, |bit| _mm512_test_epi32_mask(magnitudes, _mm512_set1_epi32(1 << bit)));
    }
    let sum = |lanes: __m512| {
        let eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes));
        let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
    };
    Difference { product: sum(products), square: sum(squares), of_vertex: sum(of_vertex) }
}
