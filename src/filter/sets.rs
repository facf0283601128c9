//! Sets of constants for `in`: built in linear time, asked once per row.

use std::hash::{BuildHasher, RandomState};

/// Up to this many integers are compared one after the other: that loop vectorises, a hash table does not.
/// Measured with benches/filter.rs: 32 comparisons cost about as much as one probe.
pub(super) const FEW_MAX: usize = 32;

/// Up to this many strings get a table that a first-level or second-level cache holds although it has room to spare.
const FEW_TEXTS_MAX: usize = 4096;

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
    /// Open addressing with linear probing, at most half full; of few members at most a quarter full.
    slots: Box<[TextSlot]>,
    seed: u64,
    /// The shortest and the longest member's length in bytes; ordered the other way when there is none.
    lengths: (u32, u32),
    filter: EndFilter,
}

/// A member's ends and its place + 1, 0 = free: strings of up to 16 bytes are found without being looked at.
#[derive(Clone, Copy, Debug)]
struct TextSlot {
    first: u64,
    last: u64,
    length: u32,
    place: u32,
}

impl TextSlot {
    #[inline]
    fn is_of(&self, ends: TextEnds) -> bool {
        (self.first == ends.first) & (self.last == ends.last) & (self.length as usize == ends.length)
    }
}

/// Strings of up to this many bytes are wholly in their [`TextEnds`].
const WHOLE_MAX: usize = 16;

/// Eight bytes at each end of a string, little-endian, and its length.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct TextEnds {
    /// All of a shorter string, zeros behind it.
    first: u64,
    /// 0 of a shorter string.
    last: u64,
    length: usize,
}

/// Says no to most strings by their ends, without a branch.
#[derive(Clone, Debug)]
struct EndFilter {
    /// Sixteen bits per member; the bit of every member's ends is set.
    bits: Box<[u64]>,
    /// Random and odd: nobody can choose strings that all share a bit with a member.
    factors: [u64; 2],
}

impl TextEnds {
    /// Of the eight bytes from a string's start on and those before its end; what lies outside of it does not matter.
    #[inline]
    pub(super) fn new(first: u64, last: u64, length: usize) -> TextEnds {
        // The first bytes of a number that was read little-endian are its low ones.
        const FIRST_BYTES: [u64; 9] =
            [0, 0xff, 0xffff, 0xff_ffff, 0xffff_ffff, 0xff_ffff_ffff, 0xffff_ffff_ffff, u64::MAX >> 8, u64::MAX];
        TextEnds { first: first & FIRST_BYTES[length.min(8)], last: if length < 8 { 0 } else { last }, length }
    }

    #[inline]
    fn hash(self, seed: u64) -> u64 {
        fold(self.first ^ seed, self.last ^ seed.rotate_left(32) ^ self.length as u64)
    }

    fn of(text: &[u8]) -> TextEnds {
        if let (Some(first), Some(last)) = (text.first_chunk(), text.last_chunk()) {
            return TextEnds { first: u64::from_le_bytes(*first), last: u64::from_le_bytes(*last), length: text.len() };
        }
        let first = text.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        TextEnds { first, last: 0, length: text.len() }
    }
}

impl TextSet {
    /// The set of these strings.
    pub(super) fn new(mut members: Vec<Box<str>>) -> TextSet {
        members.sort_unstable();
        members.dedup();
        let free = TextSlot { first: 0, last: 0, length: 0, place: 0 };
        let slots_per_member = if members.len() <= FEW_TEXTS_MAX { 4 } else { 2 };
        let slots = vec![free; (members.len() * slots_per_member + 1).next_power_of_two()];
        let mut set = TextSet {
            slots: slots.into(),
            seed: RandomState::new().hash_one(members.len()),
            lengths: (u32::MAX, 0),
            filter: EndFilter::new(members.len()),
            members: members.into(),
        };
        for (place, member) in set.members.iter().enumerate() {
            let ends = TextEnds::of(member.as_bytes());
            let length = ends.length as u32;
            set.lengths = (length.min(set.lengths.0), length.max(set.lengths.1));
            let (word, bit) = set.filter.bit(ends);
            set.filter.bits[word] |= 1 << bit;
            let mut slot = text_hash(ends, member.as_bytes(), set.seed) as usize & (set.slots.len() - 1);
            while set.slots[slot].place != 0 {
                slot = (slot + 1) & (set.slots.len() - 1);
            }
            set.slots[slot] = TextSlot { first: ends.first, last: ends.last, length, place: place as u32 + 1 };
        }
        set
    }

    /// Ascending, each once.
    pub(super) fn members(&self) -> &[Box<str>] {
        &self.members
    }

    /// The shortest and the longest member's length in bytes; ordered the other way when there is none.
    pub(super) fn lengths(&self) -> (u32, u32) {
        self.lengths
    }

    /// `false` only of strings that are no members.
    #[inline]
    pub(super) fn may_contain(&self, ends: TextEnds) -> bool {
        let (word, bit) = self.filter.bit(ends);
        self.filter.bits[word] >> bit & 1 == 1
    }

    /// Whether one look at a slot is worth its time for every row: the table is small.
    pub(super) fn is_few(&self) -> bool {
        self.members.len() <= FEW_TEXTS_MAX
    }

    /// `true` only of members, and of nearly all of 16 bytes or less, without a branch: those that lie where they belong.
    #[inline]
    pub(super) fn holds_at_home(&self, ends: TextEnds) -> bool {
        let home = &self.slots[ends.hash(self.seed) as usize & (self.slots.len() - 1)];
        (home.place != 0) & home.is_of(ends) & (ends.length <= WHOLE_MAX)
    }

    /// Whether the value is a member.
    #[inline]
    pub(super) fn contains(&self, value: &[u8]) -> bool {
        if value.len() < self.lengths.0 as usize || value.len() > self.lengths.1 as usize {
            return false;
        }
        let ends = TextEnds::of(value);
        let mut slot = text_hash(ends, value, self.seed) as usize & (self.slots.len() - 1);
        loop {
            let found = &self.slots[slot];
            if found.place == 0 {
                return false;
            }
            let is_alike =
                (found.first == ends.first) & (found.last == ends.last) & (found.length as usize == ends.length);
            if is_alike && (ends.length <= 16 || self.members[found.place as usize - 1].as_bytes() == value) {
                return true;
            }
            slot = (slot + 1) & (self.slots.len() - 1);
        }
    }
}

impl EndFilter {
    fn new(member_count: usize) -> EndFilter {
        let random = RandomState::new();
        // 4,096 bits are no burden to the first-level cache, and 16 per member say no to 15 of 16 others.
        let bits = vec![0; (member_count / 4).next_power_of_two().max(64)].into();
        EndFilter { bits, factors: [random.hash_one(0) | 1, random.hash_one(1) | 1] }
    }

    #[inline]
    fn bit(&self, ends: TextEnds) -> (usize, u32) {
        let hash = ends.first.wrapping_mul(self.factors[0]).wrapping_add(ends.last.wrapping_mul(self.factors[1]));
        // The high bits of a product depend on all bits of its factors.
        ((hash >> 32) as usize & (self.bits.len() - 1), (hash >> 58) as u32)
    }
}

/// A seeded multiply-and-fold hash, 8 bytes at a step. What lies between the ends of a long string is taken in words that
/// overlap them: bytes one by one would cost more than the hash.
#[inline]
fn text_hash(ends: TextEnds, text: &[u8], seed: u64) -> u64 {
    let hash = ends.hash(seed);
    if ends.length <= WHOLE_MAX {
        return hash;
    }
    let before_last = &text[..ends.length - 8];
    let last = before_last.last_chunk().map_or(0, |last| u64::from_le_bytes(*last));
    let (words, _) = before_last[8..].as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word)).chain([last]);
    words.fold(hash, |hash, word| fold(hash ^ word, seed | 0x9E37_79B9_0000_0001))
}

#[inline]
fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    (product >> 64) as u64 ^ product as u64
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
    fn text_sets_tell_strings_apart_that_differ_in_one_byte() {
        for length in 0..40usize {
            let text = "m".repeat(length);
            let set = TextSet::new(vec![text.clone().into(), "n".repeat(60).into()]);
            let ends = TextEnds::of(text.as_bytes());
            assert!(set.contains(text.as_bytes()) && set.may_contain(ends));
            for place in 0..length {
                let mut other = text.clone().into_bytes();
                other[place] = b'\0';
                assert!(!set.contains(&other), "{length} bytes, other at {place}");
            }
        }
    }

    #[test]
    fn the_ends_of_a_string_do_not_depend_on_what_lies_around_it() {
        let bytes = b"________around it________";
        for length in 0..10 {
            let text = &bytes[8..8 + length];
            let first = u64::from_le_bytes(*bytes[8..].first_chunk().unwrap());
            let last = u64::from_le_bytes(*bytes[..8 + length].last_chunk().unwrap());
            assert_eq!(TextEnds::new(first, last, length), TextEnds::of(text));
        }
    }

    #[test]
    fn float_sets_hold_both_zeros_and_no_nan() {
        let set = FloatSet::new([0.0, 1.5, f64::NAN]);
        assert!(set.contains(-0.0) && set.contains(1.5) && !set.contains(f64::NAN));
    }
}
