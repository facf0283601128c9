//! AVX2, FMA and F16C: sixteen lanes in two registers. The floor on x86-64.

use std::arch::x86_64::*;

use super::lanes::{LANES, Lanes};
use super::tile::{self, Task};

/// Proof that this CPU has AVX2, FMA and F16C.
#[derive(Clone, Copy, Debug)]
pub(super) struct Avx2(());

impl Avx2 {
    /// The proof, if it can be had.
    pub(super) fn detect() -> Option<Avx2> {
        let is_there =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        is_there.then_some(Avx2(()))
    }

    /// Runs a task.
    pub(super) fn run(self, task: Task<'_>) {
        // SAFETY: `self` proves that the CPU has what `run_task` enables.
        unsafe { run_task(task) }
    }
}

/// # Safety
/// The CPU has the features.
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn run_task(task: Task<'_>) {
    // Two by two pairs take eight of the sixteen registers for sums and leave room for what is loaded.
    // SAFETY: the caller's duty is that of `Lanes`.
    unsafe { tile::run::<Avx2Lanes, 2, 2>(task) }
}

#[derive(Clone, Copy)]
struct Avx2Lanes {
    low: __m256,
    high: __m256,
}

/// Masks of `_mm256_maskload_ps`: eight lanes from `HEAD_MASKS[8 - count]` load the first `count`.
static HEAD_MASKS: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];

#[inline(always)]
unsafe fn head_mask(count: usize) -> __m256i {
    // SAFETY: `count <= 8`, so eight masks lie in the array.
    unsafe { _mm256_loadu_si256(HEAD_MASKS.as_ptr().add(8 - count).cast()) }
}

#[inline(always)]
unsafe fn load_head_of_eight(from: *const f32, count: usize) -> __m256 {
    // SAFETY: `count <= 8`; masked-off lanes are not read.
    unsafe { _mm256_maskload_ps(from, head_mask(count)) }
}

// SAFETY: loads touch only what the caller vouches for.
unsafe impl Lanes for Avx2Lanes {
    #[inline(always)]
    unsafe fn zero() -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe { Avx2Lanes { low: _mm256_setzero_ps(), high: _mm256_setzero_ps() } }
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        let from = from.cast::<f32>();
        // SAFETY: the caller vouches for the CPU and for 16 elements.
        unsafe { Avx2Lanes { low: _mm256_loadu_ps(from), high: _mm256_loadu_ps(from.add(LANES / 2)) } }
    }

    #[inline(always)]
    unsafe fn load_head(from: *const u8, count: usize) -> Self {
        let from = from.cast::<f32>();
        // SAFETY: the caller vouches for the CPU and for `count` elements; the address of an empty half is not read.
        unsafe {
            Avx2Lanes {
                low: load_head_of_eight(from, count.min(8)),
                high: load_head_of_eight(from.wrapping_add(8), count.saturating_sub(8)),
            }
        }
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self {
        // SAFETY: the caller vouches for the CPU and for 16 elements of two bytes.
        unsafe {
            Avx2Lanes {
                low: _mm256_cvtph_ps(_mm_loadu_si128(from.cast())),
                high: _mm256_cvtph_ps(_mm_loadu_si128(from.add(LANES).cast())),
            }
        }
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self {
        // SAFETY: the caller vouches for the CPU and for 16 elements of two bytes.
        unsafe {
            let low = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            let high = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.add(LANES).cast()));
            Avx2Lanes {
                low: _mm256_castsi256_ps(_mm256_slli_epi32::<16>(low)),
                high: _mm256_castsi256_ps(_mm256_slli_epi32::<16>(high)),
            }
        }
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self {
        // SAFETY: the caller vouches for the CPU and for 16 elements of one byte.
        unsafe {
            let low = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()));
            let high = _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.add(LANES / 2).cast()));
            Avx2Lanes { low: _mm256_cvtepi32_ps(low), high: _mm256_cvtepi32_ps(high) }
        }
    }

    #[inline(always)]
    unsafe fn store_head(self, to: *mut f32, count: usize) {
        // SAFETY: the caller vouches for the CPU and for `count` elements; the address of an empty half is not written.
        unsafe {
            if count == LANES {
                _mm256_storeu_ps(to, self.low);
                _mm256_storeu_ps(to.add(LANES / 2), self.high);
            } else {
                _mm256_maskstore_ps(to, head_mask(count.min(8)), self.low);
                _mm256_maskstore_ps(to.wrapping_add(8), head_mask(count.saturating_sub(8)), self.high);
            }
        }
    }

    #[inline(always)]
    unsafe fn subtract(self, other: Self) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe { Avx2Lanes { low: _mm256_sub_ps(self.low, other.low), high: _mm256_sub_ps(self.high, other.high) } }
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: Self, sum: Self) -> Self {
        // SAFETY: the caller vouches for the CPU.
        unsafe {
            Avx2Lanes {
                low: _mm256_fmadd_ps(self.low, other.low, sum.low),
                high: _mm256_fmadd_ps(self.high, other.high, sum.high),
            }
        }
    }

    #[inline(always)]
    unsafe fn sums_of_four(four: [Self; 4]) -> [f32; 4] {
        // SAFETY: the caller vouches for the CPU.
        unsafe {
            // A loop: `map` would not be inlined with the level's features.
            let mut quarters = [_mm_setzero_ps(); 4];
            for index in 0..4 {
                let eight = _mm256_add_ps(four[index].low, four[index].high);
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

/// The sum of the four lanes of each of four: lanes 0 and 2, lanes 1 and 3, then both.
///
/// # Safety
/// None beyond SSE, which is part of x86-64.
#[inline(always)]
pub(super) unsafe fn sums_of_quarters(quarters: [__m128; 4]) -> [f32; 4] {
    let [mut a, mut b, mut c, mut d] = quarters;
    // SAFETY: SSE is part of x86-64, and four floats are sixteen bytes.
    unsafe {
        _MM_TRANSPOSE4_PS(&mut a, &mut b, &mut c, &mut d);
        let sums = _mm_add_ps(_mm_add_ps(a, c), _mm_add_ps(b, d));
        std::mem::transmute::<__m128, [f32; 4]>(sums)
    }
}
