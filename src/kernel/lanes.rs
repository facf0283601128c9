//! What the loops need of a SIMD level: sixteen `f32` lanes.

/// Lanes of every level, however wide its registers: the same sixteen partial sums make the same bits everywhere.
pub(super) const LANES: usize = 16;

/// Sixteen `f32`, in one register or several.
///
/// # Safety
/// Every function may use the instructions of the level, so the CPU must have them. Loads read unaligned little-endian
/// elements (`f32` where the name says nothing else) from `from`, which must be valid for as many as are loaded; stores write
/// `f32` to `to`, which must be valid for as many as are stored.
pub(super) unsafe trait Lanes: Copy {
    /// Sixteen zeros.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn zero() -> Self;

    /// Sixteen elements.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn load(from: *const u8) -> Self;

    /// The first `count` (below 16) elements, then zeros; reads nothing behind them.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn load_head(from: *const u8, count: usize) -> Self;

    /// Sixteen IEEE halves.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn load_f16(from: *const u8) -> Self;

    /// Sixteen upper halves of `f32`.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn load_bf16(from: *const u8) -> Self;

    /// Sixteen signed bytes.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn load_i8(from: *const u8) -> Self;

    /// As [`Lanes::load_head`].
    ///
    /// # Safety
    /// See the trait.
    #[inline(always)]
    unsafe fn load_f16_head(from: *const u8, count: usize) -> Self {
        // SAFETY: the caller's duty; the copy holds sixteen elements.
        unsafe { Self::load_f16(padded::<{ LANES * 2 }>(from, count * 2).as_ptr()) }
    }

    /// As [`Lanes::load_head`].
    ///
    /// # Safety
    /// See the trait.
    #[inline(always)]
    unsafe fn load_bf16_head(from: *const u8, count: usize) -> Self {
        // SAFETY: the caller's duty; the copy holds sixteen elements.
        unsafe { Self::load_bf16(padded::<{ LANES * 2 }>(from, count * 2).as_ptr()) }
    }

    /// As [`Lanes::load_head`].
    ///
    /// # Safety
    /// See the trait.
    #[inline(always)]
    unsafe fn load_i8_head(from: *const u8, count: usize) -> Self {
        // SAFETY: the caller's duty; the copy holds sixteen elements.
        unsafe { Self::load_i8(padded::<LANES>(from, count).as_ptr()) }
    }

    /// Writes the first `count` (up to 16) lanes.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn store_head(self, to: *mut f32, count: usize);

    /// `self - other`.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn subtract(self, other: Self) -> Self;

    /// `self * other + sum`, rounded once.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn multiply_add(self, other: Self, sum: Self) -> Self;

    /// The sum of the lanes of each of four: lane `i` plus lane `i + 8`, then `i + 4`, `i + 2`, `i + 1`.
    ///
    /// # Safety
    /// See the trait.
    unsafe fn sums_of_four(four: [Self; 4]) -> [f32; 4];

    /// Asks for the cache line at an address, which need not be valid.
    fn prefetch(address: *const u8);
}

/// The first `count` bytes, then zeros.
///
/// # Safety
/// `from` is valid for `count <= N` bytes, and `N` is a multiple of 8.
#[inline(always)]
pub(super) unsafe fn padded<const N: usize>(from: *const u8, count: usize) -> [u8; N] {
    let mut bytes = [0; N];
    // Words, not a copy of unknown length: that would be a call (with AVX2, three quarters of a scan of 50 dimensions).
    for (index, word) in bytes.as_chunks_mut().0.iter_mut().enumerate() {
        let left = count.saturating_sub(index * 8);
        if left > 0 {
            // SAFETY: so many bytes are left from there on.
            *word = unsafe { head_of_word(from.add(index * 8), left.min(8)) }.to_le_bytes();
        }
    }
    bytes
}

/// The first `count` bytes, from the lowest on.
///
/// # Safety
/// `from` is valid for `count` bytes, 1 to 8.
#[inline(always)]
unsafe fn head_of_word(from: *const u8, count: usize) -> u64 {
    // Two parts that overlap in what is the same.
    // SAFETY: both parts lie within `count`.
    unsafe {
        if count >= 4 {
            let part = |at: usize| u64::from(u32::from_le_bytes(from.add(at).cast::<[u8; 4]>().read()));
            part(0) | part(count - 4) << (8 * (count - 4))
        } else if count >= 2 {
            let part = |at: usize| u64::from(u16::from_le_bytes(from.add(at).cast::<[u8; 2]>().read()));
            part(0) | part(count - 2) << (8 * (count - 2))
        } else {
            u64::from(*from)
        }
    }
}
