//! The inner loops: 64 rows to a word.
//!
//! A test runs over 64 values into 64 bytes, a loop the compiler turns into vector compares for every element width;
//! eight multiplications then pack the bytes into bits. Words without candidates are skipped.

use crate::types::Validity;

/// Words of a block: 4,096 rows of eight bytes fill the first-level cache.
pub(super) const BLOCK_WORDS: usize = 64;

/// Rows `start..end`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) start: usize,
    pub(super) end: usize,
}

/// What the bits of a test are turned over with.
pub(super) fn negation(is_negated: bool) -> u64 {
    if is_negated { u64::MAX } else { 0 }
}

/// Keeps the bits of rows whose value passes; `negate` is all ones to keep those that fail.
#[inline]
pub(super) fn narrow<T: Copy>(values: &[T], mask: &mut [u64], negate: u64, test: impl Fn(T) -> bool) {
    let (blocks, rest) = values.as_chunks::<64>();
    for (word, block) in mask.iter_mut().zip(blocks) {
        if *word != 0 {
            *word &= test_block(block, &test) ^ negate;
        }
    }
    if let Some(word) = mask.get_mut(blocks.len()) {
        let bits = rest.iter().enumerate().fold(0, |bits, (row, value)| bits | u64::from(test(*value)) << row);
        *word &= bits ^ negate;
    }
}

/// Keeps the bits of rows whose value is one of a few.
pub(super) fn narrow_any<T: Copy + PartialEq>(values: &[T], mask: &mut [u64], negate: u64, members: &[T]) {
    let (blocks, rest) = values.as_chunks::<64>();
    for (word, block) in mask.iter_mut().zip(blocks) {
        if *word != 0 {
            let mut passes = [0u8; 64];
            for member in members {
                for (pass, value) in passes.iter_mut().zip(block) {
                    *pass |= u8::from(value == member);
                }
            }
            *word &= pack(&passes) ^ negate;
        }
    }
    if let Some(word) = mask.get_mut(blocks.len()) {
        let bits = |bits, (row, value)| bits | u64::from(members.contains(value)) << row;
        *word &= rest.iter().enumerate().fold(0, bits) ^ negate;
    }
}

/// Keeps the bits of candidate rows that pass a test too dear to be asked of every row.
#[inline]
pub(super) fn narrow_rows(mask: &mut [u64], test: impl Fn(usize) -> bool) {
    for (index, word) in mask.iter_mut().enumerate() {
        let mut rest = *word;
        let mut kept = 0;
        while rest != 0 {
            let bit = rest.trailing_zeros();
            kept |= u64::from(test(index * 64 + bit as usize)) << bit;
            rest &= rest - 1;
        }
        *word = kept;
    }
}

/// Keeps the bits of rows that are valid (or, with `negate` all ones, null); row 0 of the mask is row `start`.
pub(super) fn narrow_valid(validity: Validity<'_>, start: usize, mask: &mut [u64], negate: u64) {
    match validity {
        Validity::All => mask.iter_mut().for_each(|word| *word &= !negate),
        Validity::None => mask.iter_mut().for_each(|word| *word &= negate),
        Validity::Bits { bits, offset } => narrow_bits(bits, offset + start, mask, |word| word ^ negate),
        Validity::Bytes(bytes) => {
            narrow(bytes.get(start..).unwrap_or_default(), mask, negate, |byte| byte != 0);
        }
    }
}

/// Keeps the bits of rows that `keep` leaves of the same rows' bits; row 0 of the mask is bit `first`.
#[inline]
pub(super) fn narrow_bits(bits: &[u8], first: usize, mask: &mut [u64], keep: impl Fn(u64) -> u64) {
    // Words that begin with a byte, as those of files do, are taken as they lie.
    let (words, _) = bits.get(first / 8..).unwrap_or_default().as_chunks::<8>();
    let whole = if first.is_multiple_of(8) { words.len().min(mask.len()) } else { 0 };
    let (head, rest) = mask.split_at_mut(whole);
    for (word, bits) in head.iter_mut().zip(words) {
        *word &= keep(u64::from_le_bytes(*bits));
    }
    for (index, word) in rest.iter_mut().enumerate() {
        *word &= keep(bits_at(bits, first + (whole + index) * 64));
    }
}

/// 64 bits from any bit on; 0 past the end.
#[inline]
fn bits_at(bits: &[u8], first: usize) -> u64 {
    let bytes = bits.get(first / 8..).unwrap_or_default();
    let shift = first % 8;
    let low = match bytes.first_chunk::<8>() {
        Some(word) => u64::from_le_bytes(*word),
        None => {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        }
    };
    if shift == 0 {
        return low;
    }
    let high = bytes.get(8).copied().unwrap_or(0);
    low >> shift | u64::from(high) << (64 - shift)
}

#[inline]
fn test_block<T: Copy>(block: &[T; 64], test: &impl Fn(T) -> bool) -> u64 {
    let mut passes = [0u8; 64];
    for (pass, value) in passes.iter_mut().zip(block) {
        *pass = u8::from(test(*value));
    }
    pack(&passes)
}

/// Keeps the bits of rows whose pair of values passes.
#[inline]
pub(super) fn narrow_pairs<T: Copy>(
    left: &[T],
    right: &[T],
    mask: &mut [u64],
    negate: u64,
    test: impl Fn(T, T) -> bool,
) {
    let ((left, left_rest), (right, right_rest)) = (left.as_chunks::<64>(), right.as_chunks::<64>());
    for (word, (left, right)) in mask.iter_mut().zip(left.iter().zip(right)) {
        if *word != 0 {
            *word &= compare_word(left, right, &test) ^ negate;
        }
    }
    if let Some(word) = mask.get_mut(left.len()) {
        let pairs = left_rest.iter().zip(right_rest).enumerate();
        *word &= pairs.fold(0, |bits, (row, (left, right))| bits | u64::from(test(*left, *right)) << row) ^ negate;
    }
}

/// Which of 64 pairs pass.
#[inline]
fn compare_word<T: Copy>(left: &[T; 64], right: &[T; 64], test: impl Fn(T, T) -> bool) -> u64 {
    let mut passes = [0u8; 64];
    for (pass, (left, right)) in passes.iter_mut().zip(left.iter().zip(right)) {
        *pass = u8::from(test(*left, *right));
    }
    pack(&passes)
}

/// 64 bytes, each 0 or 1, to 64 bits.
#[inline]
pub(super) fn pack(passes: &[u8; 64]) -> u64 {
    // Multiplied so, bit 0 of byte i lands in bit i of the highest byte, and no two meet elsewhere.
    const GATHER: u64 = 0x0102_0408_1020_4080;
    let (groups, _) = passes.as_chunks::<8>();
    let mut word = 0;
    for (index, group) in groups.iter().enumerate() {
        word |= (u64::from_le_bytes(*group).wrapping_mul(GATHER) >> 56) << (index * 8);
    }
    word
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    #[test]
    fn packed_bits_follow_the_rows() {
        for row_count in [1, 63, 64, 65, 130, 200] {
            let values: Vec<i32> = (0..row_count).map(|row| (row * 7919) % 11).collect();
            let mut mask = vec![u64::MAX; values.len().div_ceil(64)];
            narrow(&values, &mut mask, 0, |value| value < 5);
            let mut negated = vec![u64::MAX; mask.len()];
            narrow(&values, &mut negated, u64::MAX, |value| value < 5);
            for (row, value) in values.iter().enumerate() {
                assert_eq!(mask[row / 64] >> (row % 64) & 1 == 1, *value < 5);
                assert_eq!(negated[row / 64] >> (row % 64) & 1 == 1, *value >= 5);
            }
        }
    }

    #[test]
    fn bits_are_read_from_any_offset() {
        let bytes: Vec<u8> = (0..20u8).map(|byte| byte.wrapping_mul(37)).collect();
        for first in 0..170 {
            let expected = (0..64).fold(0, |word, bit| {
                let byte = bytes.get((first + bit) / 8).copied().unwrap_or(0);
                word | u64::from(byte >> ((first + bit) % 8) & 1) << bit
            });
            assert_eq!(bits_at(&bytes, first), expected, "{first}");
        }
    }
}
