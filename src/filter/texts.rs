//! Tests of strings, 64 rows at a time: their lengths, then 16 bytes of each as numbers, decide nearly every row without a
//! call or a branch that depends on the data.

use std::ops::{Bound, Range};

use super::condition::Condition;
use super::kernels::pack;
use super::pattern::Pattern;
use super::sets::{TextEnds, TextSet};

/// Bytes that are held against a constant at once.
const HEAD_BYTES: usize = 16;
/// Words with fewer candidates are asked row by row.
const DENSE_MIN: u32 = 12;
/// The longest row a column can hold: its offsets have no sign to lose.
const LENGTH_MAX: u32 = i32::MAX as u32;
/// The first so many bytes of a number that was read from big-endian bytes.
const FIRST_BYTES: [u128; HEAD_BYTES + 1] = {
    let mut masks = [0; HEAD_BYTES + 1];
    let mut count = 1;
    while count <= HEAD_BYTES {
        masks[count] = u128::MAX << (8 * (HEAD_BYTES - count));
        count += 1;
    }
    masks
};

/// The text column of a file.
#[derive(Clone, Copy)]
pub(super) struct Texts<'a> {
    pub(super) offsets: &'a [i32],
    pub(super) bytes: &'a [u8],
}

/// What a look at a few bytes of a row says.
#[derive(Clone, Copy)]
struct Verdict {
    passes: bool,
    /// The whole row has to be looked at.
    is_open: bool,
}

/// What rows are asked.
struct Question<Fast, Slow> {
    /// Rows of other lengths, in bytes, do not pass.
    lengths: (u32, u32),
    /// Bytes in front of a row's end that `fast` may read.
    before: usize,
    /// Asked of a row's start and end, which has [`HEAD_BYTES`] behind its start.
    fast: Fast,
    /// Asked of rows that `fast` left open or was not asked of.
    slow: Slow,
}

/// Bytes that rows begin or end with.
struct Constant<'a> {
    text: &'a [u8],
    /// As much of it as is held against a row at once.
    head: u128,
    /// Which bytes of a row count.
    mask: u128,
}

impl<'a> Constant<'a> {
    /// Of the first bytes of rows.
    fn first(text: &'a [u8]) -> Constant<'a> {
        let count = text.len().min(HEAD_BYTES);
        Constant { text, head: padded(text), mask: FIRST_BYTES[count] }
    }

    /// Of the last bytes.
    fn last(text: &'a [u8]) -> Constant<'a> {
        let count = text.len().min(HEAD_BYTES);
        let shift = 8 * (HEAD_BYTES - count) as u32;
        let head = padded(&text[text.len() - count..]).checked_shr(shift).unwrap_or(0);
        Constant { text, head, mask: u128::MAX.checked_shr(shift).unwrap_or(0) }
    }

    /// Of rows that end (or begin) so; longer constants than a head need a second look.
    #[inline]
    fn holds(&self, bytes: u128) -> Verdict {
        let is_same = (bytes ^ self.head) & self.mask == 0;
        let is_long = self.text.len() > HEAD_BYTES;
        Verdict { passes: is_same & !is_long, is_open: is_same & is_long }
    }

    fn length(&self) -> u32 {
        u32::try_from(self.text.len()).unwrap_or(u32::MAX)
    }
}

/// The first bytes of a text, zeros behind a shorter one.
fn padded(text: &[u8]) -> u128 {
    let mut padded = [0; HEAD_BYTES];
    let count = text.len().min(HEAD_BYTES);
    padded[..count].copy_from_slice(&text[..count]);
    u128::from_be_bytes(padded)
}

/// The head of a range's end, when there is one.
fn end_of(bound: &Bound<Box<str>>) -> Option<u128> {
    match bound {
        Bound::Included(text) | Bound::Excluded(text) => Some(padded(text.as_bytes())),
        Bound::Unbounded => None,
    }
}

/// Keeps the rows that pass; `false` when there is no fast way for this test.
pub(super) fn narrow_texts(
    test: &Condition,
    texts: Texts<'_>,
    rows: Range<usize>,
    mask: &mut [u64],
    negate: u64,
) -> bool {
    match test {
        Condition::TextEqual(text) => texts.narrow_equal(text.as_bytes(), rows, mask, negate),
        Condition::Pattern(Pattern::Equal(text)) => texts.narrow_equal(text, rows, mask, negate),
        Condition::Pattern(Pattern::Prefix(prefix)) => {
            let constant = Constant::first(prefix);
            let question = Question {
                lengths: (constant.length(), LENGTH_MAX),
                before: 0,
                fast: |start, _| constant.holds(texts.head(start)),
                slow: |row: &[u8]| row.starts_with(prefix),
            };
            texts.narrow(rows, mask, negate, question);
        }
        Condition::Pattern(Pattern::Suffix(suffix)) => {
            let constant = Constant::last(suffix);
            let question = Question {
                lengths: (constant.length(), LENGTH_MAX),
                before: HEAD_BYTES,
                fast: |_, end: usize| constant.holds(texts.head(end.wrapping_sub(HEAD_BYTES))),
                slow: |row: &[u8]| row.ends_with(suffix),
            };
            texts.narrow(rows, mask, negate, question);
        }
        Condition::TextRange { low, high } => {
            // Only a row that begins as an end does needs more than its head.
            let slow = |row: &[u8]| test.text(row);
            match (end_of(low), end_of(high)) {
                (None, None) => return false,
                (Some(low), None) => texts.narrow_heads(rows, mask, negate, slow, |head| Verdict {
                    passes: head > low,
                    is_open: head == low,
                }),
                (None, Some(high)) => texts.narrow_heads(rows, mask, negate, slow, |head| Verdict {
                    passes: head < high,
                    is_open: head == high,
                }),
                (Some(low), Some(high)) => texts.narrow_heads(rows, mask, negate, slow, |head| Verdict {
                    passes: (head > low) & (head < high),
                    is_open: (head == low) | (head == high),
                }),
            }
        }
        Condition::TextIn(set) => texts.narrow_members(set, rows, mask, negate),
        _ => return false,
    }
    true
}

impl<'a> Texts<'a> {
    fn narrow_equal(&self, text: &[u8], rows: Range<usize>, mask: &mut [u64], negate: u64) {
        let constant = Constant::first(text);
        let question = Question {
            lengths: (constant.length(), constant.length()),
            before: 0,
            fast: |start, _| constant.holds(self.head(start)),
            slow: |row: &[u8]| row == text,
        };
        self.narrow(rows, mask, negate, question);
    }

    /// `verdict` is asked of a row's first bytes, zeros behind a shorter one.
    #[inline]
    fn narrow_heads(
        &self,
        rows: Range<usize>,
        mask: &mut [u64],
        negate: u64,
        slow: impl Fn(&[u8]) -> bool,
        verdict: impl Fn(u128) -> Verdict,
    ) {
        let fast =
            |start: usize, end: usize| verdict(self.head(start) & FIRST_BYTES[end.wrapping_sub(start).min(HEAD_BYTES)]);
        self.narrow(rows, mask, negate, Question { lengths: (0, LENGTH_MAX), before: 0, fast, slow });
    }

    fn narrow_members(&self, set: &TextSet, rows: Range<usize>, mask: &mut [u64], negate: u64) {
        let ends = |start: usize, end: usize| {
            TextEnds::new(self.word(start), self.word(end.wrapping_sub(8)), end.wrapping_sub(start))
        };
        let look_twice = |start, end| Verdict { passes: false, is_open: set.may_contain(ends(start, end)) };
        let look_once = |start, end| {
            let ends = ends(start, end);
            let passes = set.holds_at_home(ends);
            Verdict { passes, is_open: !passes & set.may_contain(ends) }
        };
        let (lengths, slow) = (set.lengths(), |row: &[u8]| set.contains(row));
        if set.is_few() {
            self.narrow(rows, mask, negate, Question { lengths, before: 0, fast: look_once, slow });
        } else {
            self.narrow(rows, mask, negate, Question { lengths, before: 0, fast: look_twice, slow });
        }
    }

    #[inline]
    fn row(&self, start: usize, end: usize) -> &'a [u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// The bytes from a place on.
    #[inline]
    fn head(&self, at: usize) -> u128 {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        u128::from_be_bytes(bytes)
    }

    /// Eight bytes from a place on.
    #[inline]
    fn word(&self, at: usize) -> u64 {
        let bytes = self.bytes.get(at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        u64::from_le_bytes(bytes)
    }

    #[inline]
    fn narrow<Fast, Slow>(&self, rows: Range<usize>, mask: &mut [u64], negate: u64, question: Question<Fast, Slow>)
    where
        Fast: Fn(usize, usize) -> Verdict,
        Slow: Fn(&[u8]) -> bool,
    {
        for (index, word) in mask.iter_mut().enumerate().filter(|(_, word)| **word != 0) {
            let first = rows.start + index * 64;
            let Some(offsets) = self.offsets.get(first..=rows.end.min(first + 64)) else {
                *word = 0;
                continue;
            };
            let open = *word & with_length(offsets, question.lengths);
            let passes = match offsets.first_chunk::<65>() {
                Some(offsets) if open.count_ones() >= DENSE_MIN && self.has_room(offsets, question.before) => {
                    let (passes, left) = look(offsets, &question.fast);
                    passes & open | self.ask(offsets, left & open, &question.slow)
                }
                _ => self.ask(offsets, open, &question.slow),
            };
            *word &= passes ^ negate;
        }
    }

    /// Which of these rows pass, each looked at as a whole.
    #[inline]
    fn ask(&self, offsets: &[i32], mut open: u64, slow: &impl Fn(&[u8]) -> bool) -> u64 {
        let mut passes = 0;
        while open != 0 {
            let bit = open.trailing_zeros();
            let ends = offsets.get(bit as usize..bit as usize + 2).unwrap_or(&[0, 0]);
            passes |= u64::from(slow(self.row(ends[0] as usize, ends[1] as usize))) << bit;
            open &= open - 1;
        }
        passes
    }

    /// Whether so many bytes lie before the first row's end, and [`HEAD_BYTES`] behind the last one. Of damaged rows between
    /// them nothing is known but that a read beyond the text gives zeros.
    #[inline]
    fn has_room(&self, offsets: &[i32; 65], before: usize) -> bool {
        let [first, .., last] = *offsets;
        let is_inside = |last: usize| last + HEAD_BYTES <= self.bytes.len();
        usize::try_from(first).is_ok_and(|first| first >= before) && usize::try_from(last).is_ok_and(is_inside)
    }
}

/// Which of 64 rows pass, and of which that is not decided.
#[inline]
fn look(offsets: &[i32; 65], fast: &impl Fn(usize, usize) -> Verdict) -> (u64, u64) {
    let (mut passes, mut open) = ([0u8; 64], [0u8; 64]);
    let mut is_any_open = 0;
    for (row, ends) in offsets.windows(2).enumerate() {
        let verdict = fast(ends[0] as usize, ends[1] as usize);
        passes[row] = u8::from(verdict.passes);
        open[row] = u8::from(verdict.is_open);
        is_any_open |= open[row];
    }
    (pack(&passes), if is_any_open == 0 { 0 } else { pack(&open) })
}

/// Which rows have a length within these, both included; damaged offsets make lengths beyond [`LENGTH_MAX`].
#[inline]
fn with_length(offsets: &[i32], lengths: (u32, u32)) -> u64 {
    // Of a known number of rows the loop is one of vectors.
    match offsets.first_chunk::<65>() {
        Some(offsets) => pack_lengths(offsets, lengths),
        None => pack_lengths(offsets, lengths),
    }
}

#[inline(always)]
fn pack_lengths(offsets: &[i32], (low, high): (u32, u32)) -> u64 {
    let high = high.min(LENGTH_MAX);
    let mut passes = [0u8; 64];
    for (pass, ends) in passes.iter_mut().zip(offsets.windows(2)) {
        let length = ends[1].wrapping_sub(ends[0]) as u32;
        *pass = u8::from((length >= low) & (length <= high));
    }
    pack(&passes)
}

/// Keeps the rows whose length in bytes is within a range.
pub(super) fn narrow_lengths(
    offsets: &[i32],
    rows: Range<usize>,
    (low, high): (i64, i64),
    mask: &mut [u64],
    negate: u64,
) {
    // No row is as long as a bound that does not fit, or of a length below 0.
    let lengths = match (u32::try_from(low.max(0)), u32::try_from(high)) {
        (Ok(low), Ok(high)) => (low, high),
        (Ok(low), Err(_)) if high > 0 => (low, LENGTH_MAX),
        _ => (1, 0),
    };
    for (index, word) in mask.iter_mut().enumerate() {
        let first = rows.start + index * 64;
        let offsets = offsets.get(first..=rows.end.min(first + 64)).unwrap_or_default();
        *word &= with_length(offsets, lengths) ^ negate;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Strings around the 16 bytes that are looked at, with bytes that padding could be taken for.
    fn strings() -> Vec<String> {
        let mut strings = vec![String::new()];
        for text in [
            "a",
            "ab",
            "b",
            "\0",
            "a\0",
            "a\0\0",
            "ä",
            "category-007",
            "category-00",
            "exactly-16-bytes",
            "exactly-16-bytes+",
        ] {
            strings.push(text.to_owned());
        }
        strings.extend((0..40).map(|length| "exactly-16-bytes, and more of them".repeat(2)[..length].to_owned()));
        (0..4).flat_map(|_| strings.clone()).collect()
    }

    #[test]
    fn every_test_of_strings_keeps_what_a_row_at_a_time_keeps() {
        let strings = strings();
        let (mut offsets, mut bytes) = (vec![0], Vec::new());
        for text in &strings {
            bytes.extend_from_slice(text.as_bytes());
            offsets.push(bytes.len() as i32);
        }
        let texts = Texts { offsets: &offsets, bytes: &bytes };
        let mut tests = vec![Condition::TextRange { low: Bound::Unbounded, high: Bound::Unbounded }];
        for constant in strings.iter().take(52) {
            let text = || constant.as_str().into();
            tests.push(Condition::TextEqual(text()));
            tests.push(Condition::TextRange { low: Bound::Excluded(text()), high: Bound::Unbounded });
            tests.push(Condition::TextRange { low: Bound::Included("a".into()), high: Bound::Included(text()) });
            tests.push(Condition::TextRange { low: Bound::Unbounded, high: Bound::Excluded(text()) });
            tests.push(Condition::Pattern(Pattern::Prefix(constant.as_bytes().into())));
            tests.push(Condition::Pattern(Pattern::Suffix(constant.as_bytes().into())));
            tests.push(Condition::Pattern(Pattern::Equal(constant.as_bytes().into())));
            let others = || strings.iter().filter(|other| other.len() >= constant.len()).map(|other| (**other).into());
            tests.push(Condition::TextIn(Box::new(TextSet::new(others().step_by(5).collect()))));
            tests.push(Condition::TextIn(Box::new(TextSet::new(vec![text(), "a".into()]))));
        }
        tests.push(Condition::TextIn(Box::new(TextSet::new(Vec::new()))));
        for test in &tests {
            for (start, candidates, negate) in
                [(0, u64::MAX, 0), (7, u64::MAX, u64::MAX), (1, 0x8000_0100_0000_0401, 0)]
            {
                let rows = start..strings.len();
                let mut mask = vec![candidates; rows.len().div_ceil(64)];
                let is_fast = narrow_texts(test, texts, rows.clone(), &mut mask, negate);
                assert!(is_fast || matches!(test, Condition::TextRange { low: Bound::Unbounded, .. }), "{test:?}");
                if !is_fast {
                    continue;
                }
                for row in 0..rows.len() {
                    let is_candidate = candidates >> (row % 64) & 1 == 1;
                    let passes = test.text(strings[start + row].as_bytes()) ^ (negate != 0);
                    assert_eq!(
                        mask[row / 64] >> (row % 64) & 1 == 1,
                        is_candidate && passes,
                        "{test:?} of {:?}",
                        strings[start + row]
                    );
                }
            }
        }
    }

    #[test]
    fn damaged_offsets_are_no_rows() {
        let offsets: Vec<i32> = (0..65).map(|row| if row == 40 { 9_000 } else { row - 3 }).collect();
        let texts = Texts { offsets: &offsets, bytes: b"abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyz" };
        for rows in [0..64, 0..640] {
            let mut mask = vec![u64::MAX; rows.len() / 64];
            assert!(narrow_texts(&Condition::TextEqual("a".into()), texts, rows.clone(), &mut mask, 0));
            narrow_lengths(&offsets, rows, (0, 1), &mut mask, 0);
        }
    }
}
