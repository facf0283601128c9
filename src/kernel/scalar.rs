//! The level without intrinsics: the twin that the others are tested against, and what other architectures run.

use super::integers::ByteLanes;
use super::lanes::{LANES, Lanes};
use super::tile::{self, Task};

/// Sixteen plain floats; compilers vectorise most of it.
#[derive(Clone, Copy)]
struct ScalarLanes([f32; LANES]);

// SAFETY: uses no instruction that a target may lack.
unsafe impl Lanes for ScalarLanes {
    #[inline(always)]
    unsafe fn zero() -> Self {
        ScalarLanes([0.0; LANES])
    }

    #[inline(always)]
    unsafe fn load(from: *const u8) -> Self {
        // SAFETY: the caller vouches for 16 elements; every bit pattern is a float.
        ScalarLanes(unsafe { from.cast::<[f32; LANES]>().read_unaligned() })
    }

    #[inline(always)]
    unsafe fn load_head(from: *const u8, count: usize) -> Self {
        let mut lanes = [0.0; LANES];
        for (index, lane) in lanes.iter_mut().enumerate().take(count) {
            // SAFETY: the caller vouches for `count` elements.
            *lane = unsafe { from.cast::<f32>().add(index).read_unaligned() };
        }
        ScalarLanes(lanes)
    }

    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> Self {
        // SAFETY: the caller vouches for 16 elements.
        let elements = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        ScalarLanes(elements.map(|bits| half::f16::from_bits(bits).to_f32_const()))
    }

    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> Self {
        // SAFETY: the caller vouches for 16 elements.
        let elements = unsafe { from.cast::<[u16; LANES]>().read_unaligned() };
        ScalarLanes(elements.map(|bits| f32::from_bits(u32::from(bits) << 16)))
    }

    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self {
        // SAFETY: the caller vouches for 16 elements.
        ScalarLanes(unsafe { from.cast::<[i8; LANES]>().read_unaligned() }.map(f32::from))
    }

    #[inline(always)]
    unsafe fn store_head(self, to: *mut f32, count: usize) {
        // SAFETY: the caller vouches for `count` elements.
        unsafe { std::ptr::copy_nonoverlapping(self.0.as_ptr(), to, count) }
    }

    #[inline(always)]
    unsafe fn subtract(self, other: Self) -> Self {
        ScalarLanes(std::array::from_fn(|lane| self.0[lane] - other.0[lane]))
    }

    #[inline(always)]
    unsafe fn multiply_add(self, other: Self, sum: Self) -> Self {
        ScalarLanes(std::array::from_fn(|lane| self.0[lane].mul_add(other.0[lane], sum.0[lane])))
    }

    #[inline(always)]
    unsafe fn sums_of_four(four: [Self; 4]) -> [f32; 4] {
        four.map(|mut lanes| {
            for half in [8, 4, 2, 1] {
                for lane in 0..half {
                    lanes.0[lane] += lanes.0[lane + half];
                }
            }
            lanes.0[0]
        })
    }

    #[inline(always)]
    fn prefetch(_address: *const u8) {}
}

/// One sum of products of bytes.
#[derive(Clone, Copy)]
pub(super) struct ScalarBytes(i32);

// SAFETY: uses no instruction that a target may lack.
unsafe impl ByteLanes for ScalarBytes {
    const STEP: usize = 1;
    type Bytes = i8;

    #[inline(always)]
    unsafe fn zero() -> Self {
        ScalarBytes(0)
    }

    #[inline(always)]
    unsafe fn load(from: *const i8) -> i8 {
        // SAFETY: the caller vouches for a byte.
        unsafe { *from }
    }

    #[inline(always)]
    unsafe fn load_head(_from: *const i8, _count: usize) -> i8 {
        0
    }

    #[inline(always)]
    unsafe fn raise(bytes: i8) -> i8 {
        bytes
    }

    #[inline(always)]
    unsafe fn add(self, raised: i8, bytes: i8) -> Self {
        ScalarBytes(self.0 + i32::from(raised) * i32::from(bytes))
    }

    #[inline(always)]
    unsafe fn add_raise(self, _bytes: i8) -> Self {
        self
    }

    #[inline(always)]
    unsafe fn sums_less<const R: usize>(sums: [Self; R], less: [Self; R]) -> [i32; R] {
        std::array::from_fn(|row| sums[row].0 - less[row].0)
    }

    #[inline(always)]
    unsafe fn narrow(values: &[f32; LANES], to: *mut i8) -> bool {
        // What is no number becomes 0, which it does not equal.
        let bytes = values.map(|value| value as i8);
        // SAFETY: the caller vouches for sixteen bytes.
        unsafe { to.copy_from_nonoverlapping(bytes.as_ptr(), LANES) };
        bytes.iter().zip(values).all(|(byte, value)| f32::from(*byte) == *value)
    }

    #[inline(always)]
    fn prefetch(_address: *const u8) {}
}

/// Runs a task.
pub(super) fn run(task: Task<'_>) {
    // SAFETY: the level needs nothing of the CPU.
    unsafe { tile::run::<ScalarLanes, 2, 2>(task) }
}
