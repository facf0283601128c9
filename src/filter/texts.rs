//! Tests of strings, 64 rows at a time: the first (or last) 16 bytes of a row as one number decide nearly every row without
//! a call or a branch that depends on the data.

use std::ops::{Bound, Range};

use super::condition::Condition;
use super::kernels::pack;
use super::pattern::Pattern;

/// Bytes that are held against a constant at once.
const HEAD_BYTES: usize = 16;
/// Words with fewer candidates are asked row by row.
const DENSE_MIN: u32 = 12;

/// The text column of a file.
#[derive(Clone, Copy)]
pub(super) struct Texts<'a> {
    pub(super) offsets: &'a [i32],
    pub(super) bytes: &'a [u8],
}

/// A constant.
struct Constant<'a> {
    text: &'a [u8],
    head: u128,
}

impl<'a> Constant<'a> {
    fn new(text: &'a [u8]) -> Constant<'a> {
        let mut padded = [0; HEAD_BYTES];
        let count = text.len().min(HEAD_BYTES);
        padded[..count].copy_from_slice(&text[..count]);
        Constant { text, head: u128::from_be_bytes(padded) }
    }
}

/// Whether a range has this end, and its head.
fn end_of(bound: &Bound<Box<str>>) -> (bool, u128) {
    match bound {
        Bound::Included(text) | Bound::Excluded(text) => (true, Constant::new(text.as_bytes()).head),
        Bound::Unbounded => (false, 0),
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
        Condition::TextEqual(text) => {
            let constant = Constant::new(text.as_bytes());
            let is_equal = |start: usize, end: usize| {
                (end - start == constant.text.len()) & (texts.head(start, end) == constant.head)
                    && (end - start <= HEAD_BYTES || texts.row(start, end) == constant.text)
            };
            texts.narrow(rows, mask, negate, 0, is_equal, |row| row == text.as_bytes());
        }
        Condition::TextRange { low, high } => {
            let (has_low, low) = end_of(low);
            let (has_high, high) = end_of(high);
            let is_inside = |start: usize, end: usize| {
                let head = texts.head(start, end);
                // Only a row that begins as an end does needs more than its head: one rare branch instead of a common one.
                if (has_low & (head == low)) | (has_high & (head == high)) {
                    return test.text(texts.row(start, end));
                }
                (!has_low | (head > low)) & (!has_high | (head < high))
            };
            texts.narrow(rows, mask, negate, 0, is_inside, |row| test.text(row));
        }
        Condition::Pattern(Pattern::Prefix(prefix)) if (1..=HEAD_BYTES).contains(&prefix.len()) => {
            let constant = Constant::new(prefix);
            let shift = 8 * (HEAD_BYTES - prefix.len()) as u32;
            let begins = |start: usize, end: usize| {
                (end - start >= constant.text.len()) & ((texts.head(start, end) ^ constant.head) >> shift == 0)
            };
            texts.narrow(rows, mask, negate, 0, begins, |row| row.starts_with(prefix));
        }
        Condition::Pattern(Pattern::Suffix(suffix)) if (1..=HEAD_BYTES).contains(&suffix.len()) => {
            let shift = 8 * (HEAD_BYTES - suffix.len()) as u32;
            let wanted = Constant::new(suffix).head;
            let ends = |start: usize, end: usize| (end - start >= suffix.len()) & (texts.tail(end) << shift == wanted);
            texts.narrow(rows, mask, negate, HEAD_BYTES, ends, |row| row.ends_with(suffix));
        }
        _ => return false,
    }
    true
}

impl<'a> Texts<'a> {
    #[inline]
    fn row(&self, start: usize, end: usize) -> &'a [u8] {
        self.bytes.get(start..end).unwrap_or_default()
    }

    /// The first bytes of a row, zeros behind a shorter one.
    #[inline]
    fn head(&self, start: usize, end: usize) -> u128 {
        let bytes = self.bytes.get(start..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        let behind = u128::MAX.checked_shr(8 * (end - start) as u32).unwrap_or(0);
        u128::from_be_bytes(bytes) & !behind
    }

    /// The last bytes before an end.
    #[inline]
    fn tail(&self, end: usize) -> u128 {
        let bytes = self.bytes.get(..end).and_then(|rest| rest.last_chunk()).copied().unwrap_or_default();
        u128::from_be_bytes(bytes)
    }

    /// `fast` is asked of rows that have at least `before` bytes in front of their end and 16 behind their start, `slow` of the
    /// others and of those whose offsets are damaged.
    #[inline]
    fn narrow(
        &self,
        rows: Range<usize>,
        mask: &mut [u64],
        negate: u64,
        before: usize,
        fast: impl Fn(usize, usize) -> bool,
        slow: impl Fn(&[u8]) -> bool,
    ) {
        for (index, word) in mask.iter_mut().enumerate().filter(|(_, word)| **word != 0) {
            let first = rows.start + index * 64;
            let Some(offsets) = self.offsets.get(first..=rows.end.min(first + 64)) else {
                *word = 0;
                continue;
            };
            if word.count_ones() >= DENSE_MIN && self.is_plain(offsets, before) {
                let mut passes = [0u8; 64];
                for (pass, ends) in passes.iter_mut().zip(offsets.windows(2)) {
                    *pass = u8::from(fast(ends[0] as usize, ends[1] as usize));
                }
                *word &= pack(&passes) ^ negate;
                continue;
            }
            let mut rest = *word;
            let mut passes = 0;
            while rest != 0 {
                let bit = rest.trailing_zeros();
                let ends = offsets.get(bit as usize..bit as usize + 2).unwrap_or(&[0, 0]);
                passes |= u64::from(slow(self.row(ends[0] as usize, ends[1] as usize))) << bit;
                rest &= rest - 1;
            }
            *word &= passes ^ negate;
        }
    }

    /// Whether offsets ascend within the text, with room for loads of 16 bytes.
    #[inline]
    fn is_plain(&self, offsets: &[i32], before: usize) -> bool {
        let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
        let ascend = offsets.windows(2).fold(true, |ascend, pair| ascend & (pair[0] <= pair[1]));
        let is_inside = |last: usize| last + HEAD_BYTES <= self.bytes.len();
        ascend
            && usize::try_from(first).is_ok_and(|first| first >= before)
            && usize::try_from(last).is_ok_and(is_inside)
    }
}

/// Keeps the rows whose length in bytes is within a range.
pub(super) fn narrow_lengths(
    offsets: &[i32],
    rows: Range<usize>,
    (low, high): (i64, i64),
    mask: &mut [u64],
    negate: u64,
) {
    for (index, word) in mask.iter_mut().enumerate() {
        let first = rows.start + index * 64;
        let offsets = offsets.get(first..=rows.end.min(first + 64)).unwrap_or_default();
        let mut passes = [0u8; 64];
        for (pass, ends) in passes.iter_mut().zip(offsets.windows(2)) {
            let length = (i64::from(ends[1]) - i64::from(ends[0])).max(0);
            *pass = u8::from((length >= low) & (length <= high));
        }
        *word &= pack(&passes) ^ negate;
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
        }
        for test in &tests {
            for (start, candidates, negate) in
                [(0, u64::MAX, 0), (7, u64::MAX, u64::MAX), (1, 0x8000_0100_0000_0401, 0)]
            {
                let rows = start..strings.len();
                let mut mask = vec![candidates; rows.len().div_ceil(64)];
                if !narrow_texts(test, texts, rows.clone(), &mut mask, negate) {
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
