//! Codes of 4 or 6 bits per element, and the 8-bit codes they stand for.
//!
//! A code `u` of `b` bits stands for the odd number `2 u - 2^b + 1`: equal steps, none of them lost to a zero, and whoever
//! unpacks them has what the kernels for 8-bit codes multiply. Elements that lie in one byte are a part of the row apart, so
//! that unpacking is a few shifts of eight elements at once, or of more: of whole registers, which compilers find.

use super::graph::space::dot;

/// Bits of an element of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CodeBits {
    Four,
    Six,
    Eight,
}

/// Memory in which rows are packed.
#[derive(Debug, Default)]
pub(super) struct PackScratch {
    /// A row in the space of the codes.
    pub placed: Vec<f32>,
    trial: Vec<f32>,
    levels: Vec<f32>,
}

/// Parts of the greatest element at which codes end: the few elements beyond are cut off, for finer steps of all others.
const CUTS: [f32; 8] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65];

impl CodeBits {
    /// Bytes of a code; elements are a multiple of 32.
    pub fn bytes(self, elements: usize) -> usize {
        match self {
            CodeBits::Four => elements / 2,
            CodeBits::Six => elements / 4 * 3,
            CodeBits::Eight => elements,
        }
    }

    /// Values that an element of a packed code can have.
    fn level_count(self) -> f32 {
        match self {
            CodeBits::Four => 16.0,
            CodeBits::Six => 64.0,
            CodeBits::Eight => 256.0,
        }
    }

    /// Packs `scratch.placed`, and gives the scale of the codes: with it their product with the row is the row's squared norm.
    pub fn pack(self, squared_norm: f32, scratch: &mut PackScratch, packed: &mut [u8]) -> f32 {
        let PackScratch { placed, trial, levels } = scratch;
        let most = placed.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        trial.resize(placed.len(), 0.0);
        let mut best = (f32::NEG_INFINITY, 0.0);
        for cut in CUTS {
            self.round(placed, most * cut, trial);
            let product = dot(placed, trial);
            let likeness = product * product / dot(trial, trial);
            if likeness > best.0 || levels.len() != trial.len() {
                best = (likeness, product);
                levels.clone_from(trial);
            }
        }
        let half = (self.level_count() - 1.0) * 0.5;
        self.write(packed, levels.len(), |element| (levels[element] * 0.5 + half) as u8);
        levels.clear();
        let scale = squared_norm / best.1;
        if scale.is_finite() { scale } else { 0.0 }
    }

    /// The nearest of the odd numbers that codes stand for, when they reach to `limit`.
    fn round(self, values: &[f32], limit: f32, out: &mut [f32]) {
        let count = self.level_count();
        let inverse = if limit > 0.0 && limit.is_finite() { count * 0.5 / limit } else { 0.0 };
        for (out, value) in out.iter_mut().zip(values) {
            *out = 2.0 * (value * inverse + count * 0.5).floor().clamp(0.0, count - 1.0) - (count - 1.0);
        }
    }

    fn write(self, packed: &mut [u8], elements: usize, code: impl Fn(usize) -> u8) {
        packed.fill(0);
        for element in 0..elements {
            let code = code(element);
            match self {
                CodeBits::Eight => packed[element] = code,
                CodeBits::Four | CodeBits::Six => {
                    let half = elements / 2;
                    packed[element % half] |= (code & 15) << (4 * (element / half));
                    if self == CodeBits::Six {
                        let quarter = elements / 4;
                        packed[half + element % quarter] |= (code >> 4) << (2 * (element / quarter));
                    }
                }
            }
        }
    }

    /// The 8-bit codes that a packed one stands for; `packed` has the bytes of as many elements as `out`.
    pub fn unpack(self, packed: &[u8], out: &mut [u8]) {
        let half = out.len() / 2;
        match self {
            CodeBits::Eight => out.iter_mut().zip(packed).for_each(|(out, byte)| *out = *byte),
            CodeBits::Four => {
                let (low, high) = out.split_at_mut(half);
                for ((low, high), codes) in eights_mut(low).zip(eights_mut(high)).zip(eights(packed)) {
                    *low = odd(codes & NIBBLES, 15);
                    *high = odd(codes >> 4 & NIBBLES, 15);
                }
            }
            CodeBits::Six => {
                let (nibbles, pairs) = packed.split_at(half.min(packed.len()));
                let (first, second) = nibbles.split_at(nibbles.len() / 2);
                let (low, high) = out.split_at_mut(half);
                let ((out0, out1), (out2, out3)) = (low.split_at_mut(half / 2), high.split_at_mut(half / 2));
                let words = eights(first).zip(eights(second)).zip(eights(pairs));
                let low = eights_mut(out0).zip(eights_mut(out1));
                let high = eights_mut(out2).zip(eights_mut(out3));
                // All four parts in one loop: short rows would spend more on entering loops than in them.
                for (((first, second), pairs), ((out0, out1), (out2, out3))) in words.zip(low.zip(high)) {
                    *out0 = join(first, pairs);
                    *out1 = join(second, pairs >> 2);
                    *out2 = join(first >> 4, pairs >> 4);
                    *out3 = join(second >> 4, pairs >> 6);
                }
            }
        }
    }
}

/// The lower four bits of each byte of a word.
const NIBBLES: u64 = u64::from_le_bytes([15; 8]);
/// The lower two.
const PAIRS: u64 = u64::from_le_bytes([3; 8]);
/// The highest.
const SIGNS: u64 = u64::from_le_bytes([0x80; 8]);

/// Eight bytes at a time, as words.
#[inline(always)]
fn eights(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word))
}

#[inline(always)]
fn eights_mut(bytes: &mut [u8]) -> impl Iterator<Item = &mut [u8; 8]> {
    bytes.as_chunks_mut().0.iter_mut()
}

/// `2 u - most` of each byte `u` of a word. No byte takes from the next: 128 is added to each, and taken by its sign.
#[inline(always)]
fn odd(codes: u64, most: u8) -> [u8; 8] {
    ((2 * codes + u64::from_le_bytes([128 - most; 8])) ^ SIGNS).to_le_bytes()
}

/// What codes stand for whose lower four bits are in one word and the upper two in another.
#[inline(always)]
fn join(nibbles: u64, pairs: u64) -> [u8; 8] {
    odd(nibbles & NIBBLES | (pairs & PAIRS) << 4, 63)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::samples::Random;

    /// The code of an element, taken from its bits one element at a time.
    fn code_at(bits: CodeBits, packed: &[u8], elements: usize, element: usize) -> u8 {
        let (half, quarter) = (elements / 2, elements / 4);
        let nibble = packed[element % half] >> (4 * (element / half)) & 15;
        match bits {
            CodeBits::Six => nibble | (packed[half + element % quarter] >> (2 * (element / quarter)) & 3) << 4,
            _ => nibble,
        }
    }

    #[test]
    fn unpacking_whole_registers_agrees_with_element_by_element() {
        let mut random = Random(3);
        for elements in [32, 64, 96, 416, 800, 1056] {
            for (bits, most) in [(CodeBits::Four, 15), (CodeBits::Six, 63)] {
                let packed: Vec<u8> = (0..bits.bytes(elements)).map(|_| random.below(256) as u8).collect();
                let mut out = vec![0; elements];
                bits.unpack(&packed, &mut out);
                let truth: Vec<u8> = (0..elements)
                    .map(|element| (i32::from(code_at(bits, &packed, elements, element)) * 2 - most) as i8 as u8)
                    .collect();
                assert_eq!(out, truth, "{bits:?}, {elements} elements");
            }
        }
    }

    #[test]
    fn what_is_packed_comes_back_within_a_step_and_keeps_the_squared_norm() {
        let mut random = Random(5);
        for (bits, error_max) in [(CodeBits::Four, 0.02), (CodeBits::Six, 0.002)] {
            let mut scratch = PackScratch::default();
            for _ in 0..20 {
                // Sums of four: like a normal distribution, as rotated rows are.
                let value = |random: &mut Random| (0..4).map(|_| random.below(2001) as f32 / 1000.0 - 1.0).sum();
                scratch.placed = (0..128).map(|_| value(&mut random)).collect();
                let placed = scratch.placed.clone();
                let squared_norm = dot(&placed, &placed);
                let mut packed = vec![0; bits.bytes(128)];
                let scale = bits.pack(squared_norm, &mut scratch, &mut packed);
                let mut out = vec![0; 128];
                bits.unpack(&packed, &mut out);
                let back: Vec<f32> = out.iter().map(|level| f32::from(*level as i8) * scale).collect();
                let error: f32 = back.iter().zip(&placed).map(|(left, right)| (left - right).powi(2)).sum();
                assert!(error <= error_max * squared_norm, "{bits:?}: {error} of {squared_norm}");
                assert!((dot(&back, &placed) - squared_norm).abs() <= 1e-4 * squared_norm, "{bits:?}");
            }
        }
    }

    #[test]
    fn a_row_is_packed_the_same_whatever_was_packed_before() {
        for bits in [CodeBits::Four, CodeBits::Six] {
            let mut packed = [vec![0; bits.bytes(32)], vec![0; bits.bytes(32)]];
            let mut used =
                PackScratch { placed: (0..32).map(|value| value as f32).collect(), ..PackScratch::default() };
            bits.pack(1.0, &mut used, &mut packed[0]);
            used.placed.fill(0.0);
            let mut fresh = PackScratch { placed: vec![0.0; 32], ..PackScratch::default() };
            bits.pack(0.0, &mut used, &mut packed[0]);
            bits.pack(0.0, &mut fresh, &mut packed[1]);
            assert_eq!(packed[0], packed[1], "{bits:?}");
        }
    }

    #[test]
    fn rows_without_direction_have_no_scale() {
        for bits in [CodeBits::Four, CodeBits::Six] {
            for value in [0.0, f32::INFINITY, f32::NAN] {
                let mut scratch = PackScratch { placed: vec![value; 32], ..PackScratch::default() };
                let mut packed = vec![0; bits.bytes(32)];
                assert_eq!(bits.pack(value * value * 32.0, &mut scratch, &mut packed), 0.0, "{bits:?}, {value}");
            }
        }
    }
}
