//! The element types of stored vectors, widened to `f32` as they are loaded. Widening is exact, so a row has the same
//! distances as its `f32` copy (but where `integers.rs` rounds less).

use super::lanes::Lanes;

/// What an element of a stored vector is; always little-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VectorElement {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of a single.
    BF16,
    /// A signed byte.
    I8,
}

impl VectorElement {
    /// Every one.
    pub const ALL: [VectorElement; 4] =
        [VectorElement::F32, VectorElement::F16, VectorElement::BF16, VectorElement::I8];

    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            VectorElement::F32 => F32::BYTES,
            VectorElement::F16 => F16::BYTES,
            VectorElement::BF16 => BF16::BYTES,
            VectorElement::I8 => I8::BYTES,
        }
    }

    /// The name in logs and benches.
    pub fn name(self) -> &'static str {
        match self {
            VectorElement::F32 => "f32",
            VectorElement::F16 => "f16",
            VectorElement::BF16 => "bf16",
            VectorElement::I8 => "int8",
        }
    }
}

/// How the loops load an element type.
pub(super) trait Element {
    /// Bytes of one element.
    const BYTES: usize;

    /// Sixteen elements.
    ///
    /// # Safety
    /// See [`Lanes`].
    unsafe fn load<L: Lanes>(from: *const u8) -> L;

    /// The first `count` (below 16) elements, then zeros.
    ///
    /// # Safety
    /// See [`Lanes`].
    unsafe fn load_head<L: Lanes>(from: *const u8, count: usize) -> L;
}

macro_rules! element {
    ($name:ident, $bytes:literal, $load:ident, $load_head:ident) => {
        pub(super) struct $name;

        impl Element for $name {
            const BYTES: usize = $bytes;

            #[inline(always)]
            unsafe fn load<L: Lanes>(from: *const u8) -> L {
                // SAFETY: the caller's duty.
                unsafe { L::$load(from) }
            }

            #[inline(always)]
            unsafe fn load_head<L: Lanes>(from: *const u8, count: usize) -> L {
                // SAFETY: the caller's duty.
                unsafe { L::$load_head(from, count) }
            }
        }
    };
}

element!(F32, 4, load, load_head);
element!(F16, 2, load_f16, load_f16_head);
element!(BF16, 2, load_bf16, load_bf16_head);
element!(I8, 1, load_i8, load_i8_head);
