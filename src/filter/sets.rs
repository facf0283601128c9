//! Sets of constants for `in`: built in linear time, asked once per row.

use std::hash::{BuildHasher, RandomState};

/// Up to this many integers are compared one after the other: that loop vectorises, a hash table does not.
/// Measured with benches/filter.rs: 16 comparisons cost about as much as one probe.
pub(super) const FEW_MAX: usize = 16;

/// A bitmap is used when it needs at most this many bits per member.
const BITS_PER_MEMBER_MAX: u64 = 128;

/// A set of integers.
#[derive(Clone, Debug)]
pub(super) struct IntSet {
    /// Ascending, each once.
    members: Box<[i64]>,
    form: IntForm,
}

#[derive(Clone, Debug)]
enum IntForm {
    Few,
    /// One bit per integer between the smallest and the largest member.
    Bits(Box<[u64]>),
    /// Open addressing, linear probing; slots hold the place in `members` + 1, 0 = free.
    Table {
        slots: Box<[u32]>,
        mask: u64,
        factor: u64,
    },
}

impl IntSet {
    /// The set of these integers, in any order, repetitions allowed.
    pub(super) fn new(mut members: Vec<i64>) -> IntSet {
        members.sort_unstable();
        members.dedup();
        let members = members.into_boxed_slice();
        let form = match members.as_ref() {
            few if few.len() <= FEW_MAX => IntForm::Few,
            [first, .., last] if last.abs_diff(*first) / BITS_PER_MEMBER_MAX < members.len() as u64 => {
                let mut bits = vec![0; (last.abs_diff(*first) / 64 + 1) as usize];
                for member in &members {
                    let bit = member.abs_diff(*first);
                    bits[(bit / 64) as usize] |= 1 << (bit % 64);
                }
                IntForm::Bits(bits.into())
            }
            many => int_table(many),
        };
        IntSet { members, form }
    }

    /// Ascending, each once.
    pub(super) fn members(&self) -> &[i64] {
        &self.members
    }

    /// The members, when they are so few that a row is better compared with each of them.
    pub(super) fn few(&self) -> Option<&[i64]> {
        matches!(self.form, IntForm::Few).then_some(&*self.members)
    }

    /// Whether the value is a member.
    #[inline]
    pub(super) fn contains(&self, value: i64) -> bool {
        match &self.form {
            IntForm::Few => self.members.contains(&value),
            IntForm::Bits(bits) => {
                let bit = value.wrapping_sub(self.members[0]) as u64;
                bits.get((bit / 64) as usize).is_some_and(|word| word >> (bit % 64) & 1 == 1)
            }
            IntForm::Table { slots, mask, factor } => {
                let mut slot = int_slot(value, *factor, *mask);
                loop {
                    match slots[slot as usize] {
                        0 => return false,
                        place if self.members[place as usize - 1] == value => return true,
                        _ => slot = (slot + 1) & mask,
                    }
                }
            }
        }
    }
}

fn int_table(members: &[i64]) -> IntForm {
    // At most half full, so that a probe for an absent value ends soon. The factor is random: nobody can choose keys
    // that all fall into one run.
    let mask = (members.len() * 2).next_power_of_two() as u64 - 1;
    let factor = RandomState::new().hash_one(members.len()) | 1;
    let mut slots = vec![0u32; mask as usize + 1];
    for (place, member) in members.iter().enumerate() {
        let mut slot = int_slot(*member, factor, mask);
        while slots[slot as usize] != 0 {
            slot = (slot + 1) & mask;
        }
        slots[slot as usize] = place as u32 + 1;
    }
    IntForm::Table { slots: slots.into(), mask, factor }
}

#[inline]
fn int_slot(value: i64, factor: u64, mask: u64) -> u64 {
    let product = u128::from((value as u64) ^ factor) * u128::from(factor | 0x9E37_79B9_0000_0001);
    ((product >> 64) as u64 ^ product as u64) & mask
}

/// A set of floating-point numbers; NaN is never a member, both zeros are one.
#[derive(Clone, Debug)]
pub(super) struct FloatSet {
    bits: IntSet,
}

impl FloatSet {
    /// The set of these numbers.
    pub(super) fn new(members: impl IntoIterator<Item = f64>) -> FloatSet {
        let bits = members.into_iter().filter(|member| !member.is_nan()).map(float_bits).collect();
        FloatSet { bits: IntSet::new(bits) }
    }

    /// Whether the value is a member.
    #[inline]
    pub(super) fn contains(&self, value: f64) -> bool {
        self.bits.contains(float_bits(value))
    }

    /// Number of members.
    pub(super) fn len(&self) -> usize {
        self.bits.members.len()
    }

    /// The value's place among the members.
    pub(super) fn position(&self, value: f64) -> Option<usize> {
        self.bits.members.binary_search(&float_bits(value)).ok()
    }
}

#[inline]
fn float_bits(value: f64) -> i64 {
    // Adding zero makes -0.0 a 0.0.
    (value + 0.0).to_bits() as i64
}

/// A set of strings.
#[derive(Clone, Debug)]
pub(super) struct TextSet {
    /// Ascending, each once.
    members: Box<[Box<str>]>,
    slots: Box<[u32]>,
    mask: u64,
    seed: u64,
    /// Bit `length % 64` is set when a member has such a length: most rows stop here.
    lengths: u64,
}

impl TextSet {
    /// The set of these strings.
    pub(super) fn new(mut members: Vec<Box<str>>) -> TextSet {
        members.sort_unstable();
        members.dedup();
        let mask = (members.len() * 2 + 1).next_power_of_two() as u64 - 1;
        let seed = RandomState::new().hash_one(members.len());
        let mut slots = vec![0u32; mask as usize + 1];
        let mut lengths = 0;
        for (place, member) in members.iter().enumerate() {
            lengths |= 1 << (member.len() % 64);
            let mut slot = text_hash(member.as_bytes(), seed) & mask;
            while slots[slot as usize] != 0 {
                slot = (slot + 1) & mask;
            }
            slots[slot as usize] = place as u32 + 1;
        }
        TextSet { members: members.into(), slots: slots.into(), mask, seed, lengths }
    }

    /// Ascending, each once.
    pub(super) fn members(&self) -> &[Box<str>] {
        &self.members
    }

    /// Whether the value is a member.
    #[inline]
    pub(super) fn contains(&self, value: &[u8]) -> bool {
        if self.lengths >> (value.len() % 64) & 1 == 0 {
            return false;
        }
        let mut slot = text_hash(value, self.seed) & self.mask;
        loop {
            match self.slots[slot as usize] {
                0 => return false,
                place if self.members[place as usize - 1].as_bytes() == value => return true,
                _ => slot = (slot + 1) & self.mask,
            }
        }
    }
}

/// A seeded multiply-and-fold hash, 8 bytes at a step.
#[inline]
fn text_hash(bytes: &[u8], seed: u64) -> u64 {
    let fold = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word) * u128::from(seed | 0x9E37_79B9_0000_0001);
        (product >> 64) as u64 ^ product as u64
    };
    let mut hash = seed ^ bytes.len() as u64;
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = fold(hash, u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    fold(hash, u64::from_le_bytes(last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_an_integer_set_holds_its_members_and_no_others() {
        let few = vec![5, -3, i64::MAX, i64::MIN, 5];
        let dense: Vec<i64> = (-500..500).map(|value| value * 3).collect();
        let sparse: Vec<i64> = (0..1000i64).map(|value| value.wrapping_mul(0x9E37_79B9_7F4A_7C15u64 as i64)).collect();
        for members in [vec![], few, dense, sparse] {
            let set = IntSet::new(members.clone());
            assert!(members.iter().all(|member| set.contains(*member)));
            for other in [1, -2, 7_000, i64::MIN + 1, i64::MAX - 1] {
                assert_eq!(set.contains(other), members.contains(&other));
            }
        }
    }

    #[test]
    fn text_sets_tell_strings_of_one_length_apart() {
        let members: Vec<Box<str>> = (0..1000).map(|number| format!("key-{number:05}").into()).collect();
        let set = TextSet::new(members.clone());
        assert!(members.iter().all(|member| set.contains(member.as_bytes())));
        assert!(!set.contains(b"key-01000") && !set.contains(b"") && !set.contains(b"key-0001"));
        assert!(!TextSet::new(Vec::new()).contains(b""));
    }

    #[test]
    fn float_sets_hold_both_zeros_and_no_nan() {
        let set = FloatSet::new([0.0, 1.5, f64::NAN]);
        assert!(set.contains(-0.0) && set.contains(1.5) && !set.contains(f64::NAN));
    }
}
