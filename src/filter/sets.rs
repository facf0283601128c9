//! Sets of constants for `in`: built in linear time, asked once per row.

use std::hash::{BuildHasher, RandomState};

/// Up to this many integers are compared one after the other: that loop vectorises, a hash table does not.
/// Measured with benches/filter.rs: 32 comparisons cost about as much as one probe.
pub(super) const FEW_MAX: usize = 32;

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
    Table(IntTable),
}

/// Open addressing with linear probing behind a bitmap that says no to most values without a branch.
#[derive(Clone, Debug)]
struct IntTable {
    /// Sixteen bits per member; the bit of every member's hash is set.
    bits: Box<[u64]>,
    /// Place in the members + 1, 0 = free.
    slots: Box<[u32]>,
    /// Random and odd: nobody can choose keys that all fall into one run.
    factor: u64,
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
            many => IntForm::Table(IntTable::new(many)),
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
            IntForm::Table(table) => table.may_contain(value) && table.contains(value, &self.members),
        }
    }

    /// `false` only of values that are no members; cheap and without branches, where there is such a test.
    #[inline]
    pub(super) fn prefilter(&self) -> Option<impl Fn(i64) -> bool + '_> {
        match &self.form {
            IntForm::Table(table) => Some(|value| table.may_contain(value)),
            _ => None,
        }
    }
}

impl IntTable {
    fn new(members: &[i64]) -> IntTable {
        let factor = RandomState::new().hash_one(members.len()) | 1;
        let bits = vec![0u64; (members.len() / 4).next_power_of_two().max(2)].into();
        // At most half full, so that a probe for an absent value ends soon.
        let slots = vec![0u32; (members.len() * 2).next_power_of_two()].into();
        let mut table = IntTable { bits, slots, factor };
        for (place, member) in members.iter().enumerate() {
            let (word, bit) = table.bit(*member);
            table.bits[word] |= 1 << bit;
            let mut slot = table.slot(*member);
            while table.slots[slot] != 0 {
                slot = (slot + 1) % table.slots.len();
            }
            table.slots[slot] = place as u32 + 1;
        }
        table
    }

    /// The high bits of a product depend on all bits of the value.
    #[inline]
    fn hash(&self, value: i64) -> u64 {
        let mixed = (value as u64 ^ self.factor.rotate_left(32)).wrapping_mul(self.factor);
        (mixed ^ mixed >> 32).wrapping_mul(0x9E37_79B9_7F4A_7C15)
    }

    #[inline]
    fn bit(&self, value: i64) -> (usize, u32) {
        let hash = self.hash(value);
        ((hash >> 40) as usize & (self.bits.len() - 1), (hash >> 34) as u32 & 63)
    }

    #[inline]
    fn slot(&self, value: i64) -> usize {
        (self.hash(value) >> 32) as usize & (self.slots.len() - 1)
    }

    #[inline]
    fn may_contain(&self, value: i64) -> bool {
        let (word, bit) = self.bit(value);
        self.bits[word] >> bit & 1 == 1
    }

    #[inline]
    fn contains(&self, value: i64, members: &[i64]) -> bool {
        let mut slot = self.slot(value);
        loop {
            match self.slots[slot] {
                0 => return false,
                place if members[place as usize - 1] == value => return true,
                _ => slot = (slot + 1) & (self.slots.len() - 1),
            }
        }
    }
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
    /// The high half of a member's hash and its place + 1, 0 = free.
    slots: Box<[(u32, u32)]>,
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
        let mut slots = vec![(0, 0); mask as usize + 1];
        let mut lengths = 0;
        for (place, member) in members.iter().enumerate() {
            lengths |= 1 << (member.len() % 64);
            let hash = text_hash(member.as_bytes(), seed);
            let mut slot = hash & mask;
            while slots[slot as usize].1 != 0 {
                slot = (slot + 1) & mask;
            }
            slots[slot as usize] = ((hash >> 32) as u32, place as u32 + 1);
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
        let hash = text_hash(value, self.seed);
        let tag = (hash >> 32) as u32;
        let mut slot = hash & self.mask;
        loop {
            match self.slots[slot as usize] {
                (_, 0) => return false,
                (other, place) if other == tag && self.members[place as usize - 1].as_bytes() == value => return true,
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
    // The last bytes overlap those before them: copying so few of them one by one would cost more than the hash.
    let last = match (bytes.last_chunk::<8>(), rest.first_chunk::<4>(), rest.last_chunk::<4>(), rest) {
        (Some(last), ..) => u64::from_le_bytes(*last),
        (None, Some(first), Some(last), _) => {
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << 32
        }
        (.., [first, .., last]) => u64::from(*first) | u64::from(rest[rest.len() / 2]) << 8 | u64::from(*last) << 16,
        (.., [only]) => u64::from(*only),
        _ => 0,
    };
    fold(hash, last)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
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
