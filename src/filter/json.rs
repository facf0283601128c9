//! Reading one value out of JSON text without building a document: what lies beside the path is skipped, not parsed.
//!
//! The text was checked when it was inserted; text that is malformed all the same reads as a missing value.

use std::borrow::Cow;

use super::syntax::PathStep;

/// One value, read as far as a filter needs it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum JsonValue<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, [u8]>),
    /// From its bracket to the end of the document.
    Array(&'a [u8]),
    /// From its brace to the end of the document.
    Object(&'a [u8]),
}

/// The text from the value at a path to the end of the document.
pub(super) fn find<'a>(document: &'a [u8], path: &[PathStep]) -> Option<&'a [u8]> {
    let mut cursor = Cursor { bytes: document, at: 0 };
    for step in path {
        match cursor.peek()? {
            b'{' => cursor.enter_key(step.key.as_bytes())?,
            b'[' => cursor.enter_index(step.index?)?,
            _ => return None,
        }
    }
    cursor.peek()?;
    Some(&document[cursor.at..])
}

/// Reads the value a text begins with.
pub(super) fn read(text: &[u8]) -> Option<JsonValue<'_>> {
    let mut cursor = Cursor { bytes: text, at: 0 };
    Some(match cursor.peek()? {
        b'{' => JsonValue::Object(&text[cursor.at..]),
        b'[' => JsonValue::Array(&text[cursor.at..]),
        b'"' => JsonValue::Text(unescaped(cursor.string()?)?),
        b't' => JsonValue::Bool(true),
        b'f' => JsonValue::Bool(false),
        b'n' => JsonValue::Null,
        b'-' | b'0'..=b'9' => {
            let start = cursor.at;
            cursor.skip_scalar();
            number(&text[start..cursor.at])?
        }
        _ => return None,
    })
}

/// The elements of an array, each as the text from it to the end of the document.
pub(super) fn elements(array: &[u8]) -> Elements<'_> {
    Elements { cursor: Cursor { bytes: array, at: 1 }, is_first: true }
}

/// Iterates over [`elements`].
pub(super) struct Elements<'a> {
    cursor: Cursor<'a>,
    is_first: bool,
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if !std::mem::replace(&mut self.is_first, false) {
            self.cursor.skip_value()?;
            if self.cursor.peek()? != b',' {
                return None;
            }
            self.cursor.at += 1;
        }
        match self.cursor.peek()? {
            b']' => None,
            _ => Some(&self.cursor.bytes[self.cursor.at..]),
        }
    }
}

/// Whether a value holds anything: a scalar other than null, here or inside. `{}`, `[]` and `{"a": null}` do not.
pub(super) fn holds_anything(text: &[u8]) -> bool {
    let mut cursor = Cursor { bytes: text, at: 0 };
    let mut depth = 0usize;
    while let Some(byte) = cursor.peek() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                cursor.at += 1;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                cursor.at += 1;
            }
            b',' | b':' => cursor.at += 1,
            b'n' => cursor.skip_scalar(),
            b'"' => {
                let is_key = cursor.string().is_some() && cursor.peek() == Some(b':');
                if !is_key {
                    return true;
                }
                continue;
            }
            _ => return true,
        }
        if depth == 0 {
            return false;
        }
    }
    false
}

#[derive(Clone, Copy)]
struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// The next byte that is no white space, not taken.
    #[inline]
    fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.bytes.get(self.at)? {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// From the brace of an object to the value of a key.
    fn enter_key(&mut self, key: &[u8]) -> Option<()> {
        self.at += 1;
        while self.peek()? == b'"' {
            let written = self.string()?;
            if self.peek()? != b':' {
                return None;
            }
            self.at += 1;
            if written == key || written.contains(&b'\\') && *unescaped(written)? == *key {
                return Some(());
            }
            self.skip_value()?;
            if self.peek()? != b',' {
                return None;
            }
            self.at += 1;
        }
        None
    }

    /// From the bracket of an array to one of its elements.
    fn enter_index(&mut self, index: usize) -> Option<()> {
        self.at += 1;
        if self.peek()? == b']' {
            return None;
        }
        for _ in 0..index {
            self.skip_value()?;
            if self.peek()? != b',' {
                return None;
            }
            self.at += 1;
        }
        Some(())
    }

    /// Takes a string; what stands between its quotes.
    #[inline]
    fn string(&mut self) -> Option<&'a [u8]> {
        let start = self.at + 1;
        let mut at = start;
        loop {
            at += quote_or_backslash(self.bytes.get(at..)?)?;
            if self.bytes[at] == b'"' {
                self.at = at + 1;
                return Some(&self.bytes[start..at]);
            }
            at += 2;
        }
    }

    fn skip_scalar(&mut self) {
        let is_end = |byte: &u8| matches!(byte, b',' | b']' | b'}' | b' ' | b'\n' | b'\t' | b'\r');
        let rest = &self.bytes[self.at..];
        self.at += rest.iter().position(is_end).unwrap_or(rest.len());
    }

    /// Skips a value of any kind; nesting is counted, not followed.
    fn skip_value(&mut self) -> Option<()> {
        match self.peek()? {
            b'"' => return self.string().map(|_| ()),
            b'{' | b'[' => {}
            _ => {
                self.skip_scalar();
                return Some(());
            }
        }
        let mut depth = 0usize;
        loop {
            match *self.bytes.get(self.at)? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}

/// The first quote or backslash, looking at eight bytes at a time.
#[inline]
fn quote_or_backslash(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGHS: u64 = 0x8080_8080_8080_8080;
    // The lowest marked byte of `(x - ones) & !x & highs` is the first zero byte of x.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & HIGHS;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ (ONES * u64::from(b'"'))) | zeros(word ^ (ONES * u64::from(b'\\')));
        if found != 0 {
            return Some(index * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let found = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
    Some(words.len() * 8 + found)
}

fn number(text: &[u8]) -> Option<JsonValue<'static>> {
    if let Some(value) = short_integer(text) {
        return Some(JsonValue::Int(value));
    }
    let text = std::str::from_utf8(text).ok()?;
    if !text.contains(['.', 'e', 'E'])
        && let Ok(value) = text.parse()
    {
        return Some(JsonValue::Int(value));
    }
    text.parse().ok().map(JsonValue::Float)
}

/// An integer of up to 18 digits, which cannot overflow: most numbers are one.
fn short_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    if !(1..=18).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value = digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0'));
    Some(if digits.len() < text.len() { -value } else { value })
}

/// A string without its escapes; `None` when one is malformed.
fn unescaped(written: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !written.contains(&b'\\') {
        return Some(Cow::Borrowed(written));
    }
    let mut out = Vec::with_capacity(written.len());
    let mut rest = written;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'\\' {
            out.push(byte);
            continue;
        }
        let (&escape, after) = rest.split_first()?;
        rest = after;
        match escape {
            b'"' | b'\\' | b'/' => out.push(escape),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => {
                let character = code_point(&mut rest)?;
                out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
            _ => return None,
        }
    }
    Some(Cow::Owned(out))
}

/// Four hexadecimal digits.
fn take_unit(rest: &mut &[u8]) -> Option<u32> {
    let (digits, after) = rest.split_at_checked(4)?;
    *rest = after;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The character of a `\u` escape, whose `\u` was taken; two of them make a character beyond the first plane.
fn code_point(rest: &mut &[u8]) -> Option<char> {
    let first = take_unit(rest)?;
    if !(0xD800..0xDC00).contains(&first) {
        return char::from_u32(first);
    }
    *rest = rest.strip_prefix(b"\\u")?;
    let second = take_unit(rest)?.checked_sub(0xDC00).filter(|low| *low < 0x400)?;
    char::from_u32(0x10000 + ((first - 0xD800) << 10) + second)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn path(keys: &[&str]) -> Vec<PathStep> {
        keys.iter().map(|key| PathStep { key: (*key).into(), index: key.parse().ok(), is_quoted: true }).collect()
    }

    fn at<'a>(document: &'a str, keys: &[&str]) -> Option<JsonValue<'a>> {
        read(find(document.as_bytes(), &path(keys))?)
    }

    #[test]
    fn values_are_found_behind_everything_that_can_stand_before_them() {
        let document =
            r#" { "x" : "a\"}{][,:" , "y":[1,{"z":[[],{}]},-2.5e1 ], "\u0061b":true,"n":null, "k" : { "2" : 7 } } "#;
        assert_eq!(at(document, &["x"]), Some(JsonValue::Text(Cow::Borrowed(b"a\"}{][,:"))));
        assert_eq!(at(document, &["y", "0"]), Some(JsonValue::Int(1)));
        assert_eq!(at(document, &["y", "2"]), Some(JsonValue::Float(-25.0)));
        assert_eq!(at(document, &["ab"]), Some(JsonValue::Bool(true)));
        assert_eq!(at(document, &["n"]), Some(JsonValue::Null));
        assert_eq!(at(document, &["k", "2"]), Some(JsonValue::Int(7)));
        for missing in [["y", "3"], ["y", "a"], ["x", "0"], ["q", "0"], ["k", "3"]] {
            assert_eq!(at(document, &missing), None);
        }
    }

    #[test]
    fn cut_and_broken_documents_read_as_missing() {
        let document = r#"{"a": [1, {"b": "c\n"}], "d": 1.5}"#;
        for end in 0..document.len() {
            let cut = &document[..end];
            assert!(at(cut, &["zz"]).is_none());
            at(cut, &["d"]);
            at(cut, &["a", "1", "b"]);
            holds_anything(cut.as_bytes());
            elements(cut.as_bytes()).count();
        }
    }

    #[test]
    fn emptiness_looks_inside() {
        for empty in ["{}", "[]", "null", r#"{"a":null}"#, r#"[{"a":{}},[],null]"#] {
            assert!(!holds_anything(empty.as_bytes()), "{empty}");
        }
        for held in ["0", "false", r#""""#, r#"{"a":""}"#, "[[[1]]]", r#"{"a":{},"b":true}"#] {
            assert!(holds_anything(held.as_bytes()), "{held}");
        }
    }

    #[test]
    fn strings_are_unescaped_with_surrogates() {
        assert_eq!(at(r#""\u00e4\ud83d\ude00\/""#, &[]), Some(JsonValue::Text("ä😀/".as_bytes().into())));
        assert_eq!(at(r#""\ud83d""#, &[]), None);
    }
}
