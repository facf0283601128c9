//! AVX-512: sixteen lanes in one register.

use std::arch::x86_64::*;

use super::avx2::sums_of_quarters;
use super::lanes::Lanes;
use super::tile::{self, Task};

/// Proof that this CPU has AVX-512 with the extensions that every server CPU with AVX-512 has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx512(());

impl Avx512 {
    /// The proof, if it can be had.
    pub(super) fn detect() -> Option<Avx512> {
        let is_there = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl");
        is_there.then_some(Avx512(()))
    }

    /// Runs a task.
    pub(super) fn run(self, task: Task<'_>) {
        // SAFETY: `self` proves that the CPU has what `run_task` enables.
        unsafe { run_task(task) }
    }
}

/// # Safety
/// The CPU has the features.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn run_task(task: Task<'_>) {
    // Six by four pairs take 24 of the 32 registers for sums: a fifth faster at 784 dimensions than four by four.
    // SAFETY: the caller's duty is that of `Lanes`.
    unsafe { tile::run::<Avx512Lanes, 6, 4>(task) }
}

#[derive(Clone, Copy)]
struct Avx512Lanes(__m512);

/// The first `count` (up to 16) lanes.
#[inline(always)]
fn head_mask(count: usize) -> __mmask16 {
    ((1u32 << count) - 1) as __mmask16
}

/// # Safety
/// The CPU has AVX-512.
#[inline(always)]
unsafe fn from_upper_halves(halves: __m256i) -> Avx512Lanes {
    // SAFETY: the caller vouches for the CPU.
    unsafe { Avx512Lanes(_mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves)))) }
}

// SAFETY: loads touch only what the caller vouches for: masked-off lanes are not read.
unsafe impl Lanes for Avx512Lanes {
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe { Avx512Lanes(_mm512_setzero_ps()) }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller vouches for the CPU and for 16 elements.
        unsafe { Avx512Lanes(_mm512_loadu_ps(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_head(from: *const u8, count: usize) -> Self {
        // SAFETY: the caller vouches for the CPU and for `count` elements.
        unsafe { Avx512Lanes(_mm512_maskz_loadu_ps(head_mask(count), from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self {
        // SAFETY: the caller vouches for the CPU and for 16 elements.
        unsafe { Avx512Lanes(_mm512_cvtph_ps(_mm256_loadu_si256(from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self {
        // SAFETY: the caller vouches for the CPU and for 16 elements.
        unsafe { from_upper_halves(_mm256_loadu_si256(from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self {
        // SAFETY: the caller vouches for the CPU and for 16 elements.
        unsafe { Avx512Lanes(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())))) }
    }

    #[inline(always)]
    unsafe fn load_f16_head(from: *const u8, count: usize) -> Self {
        // SAFETY: the caller vouches for the CPU and for `count` elements.
        unsafe { Avx512Lanes(_mm512_cvtph_ps(_mm256_maskz_loadu_epi16(head_mask(count), from.cast()))) }
    }

    #[inline(always)]
    unsafe fn load_bf16_head(from: *const u8, count: usize) -> Self {
        // SAFETY: the caller vouches for the CPU and for `count` elements.
        unsafe { from_upper_halves(_mm256_maskz_loadu_epi16(head_mask(count), from.cast())) }
    }

    #[inline(always)]
    unsafe fn load_i8_head(from: *const u8, count: usize) -> Self {
        // SAFETY: the caller vouches for the CPU and for `count` elements.
        unsafe {
            let bytes = _mm_maskz_loadu_epi8(head_mask(count), from.cast());
            Avx512Lanes(_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes)))
        }
    }

    #[inline(always)]
    unsafe fn store_head(self, to: *mut f32, count: usize) {
        // SAFETY: the caller vouches for the CPU and for `count` elements.
        unsafe { _mm512_mask_storeu_ps(to, head_mask(count), self.0) }
    }

    #[inline(always)]
    unsafe fn subtract(self, other: Self) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe { Avx512Lanes(_mm512_sub_ps(self.0, other.0)) }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: Self, sum: Self) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe { Avx512Lanes(_mm512_fmadd_ps(self.0, other.0, sum.0)) }
    }

    #[inline(always)]
    unsafe fn sums_of_four(four: [Self; 4]) -> [f32; 4] {
        // SAFETY: the caller vouches for the CPU.
        unsafe {
            // A loop: `map` would not be inlined with the level's features.
            let mut quarters = [_mm_setzero_ps(); 4];
            for index in 0..4 {
                let lanes = four[index].0;
                let eight = _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps::<1>(lanes));
                quarters[index] = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            }
            sums_of_quarters(quarters)
        }
    }

    #[inline(always)]
    fn prefetch(address: *const u8) {
        // SAFETY: a prefetch of any address is harmless, and SSE is part of x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) }
    }
}
