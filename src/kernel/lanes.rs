//! What the loops need of a SIMD level: sixteen `f32` lanes.

/// Lanes of every level, however wide its registers: the same sixteen partial sums make the same bits everywhere.
pub(super) const LANES: usize = 16;

/// Sixteen `f32`, in one register or several.
///
/// # Safety
/// Every function may use the instructions of the level, so the CPU must have them. Loads read unaligned little-endian
/// `f32` from `from`, which must be valid for as many elements as are loaded.
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
