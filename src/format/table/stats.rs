//! What a table file says about its columns: ranges and null counts, as JSON in the metadata of Arrow's footer.

use std::collections::BTreeMap;

use crate::types::{Statistics, Value, ValueRange};

/// Of all columns: field id to statistics. JSON's keys are strings.
pub(super) type FileStats = BTreeMap<String, Statistics>;

/// Ends of strings are cut to this: all statistics are read when a file is opened.
const TEXT_BYTES_MAX: usize = 64;

/// A number of a column.
pub(super) trait Number: bytemuck::Pod + PartialOrd {
    /// Made of a field's default value; 0 when there is none.
    fn from_default(value: Option<&Value>) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    fn range(min: Self, max: Self) -> ValueRange;
}

macro_rules! number {
    ($kind:ident, $is_finite:expr; $($native:ty),*) => {$(
        impl Number for $native {
            fn from_default(value: Option<&Value>) -> $native {
                match value {
                    Some(Value::Int(value)) => *value as $native,
                    Some(Value::Float(value)) => *value as $native,
                    _ => 0 as $native,
                }
            }

            fn is_finite(self) -> bool {
                $is_finite(self as f64)
            }

            fn range(min: $native, max: $native) -> ValueRange {
                ValueRange::$kind { min: min.into(), max: max.into() }
            }
        }
    )*};
}
number!(Integers, |_| true; i8, i16, i32, i64);
number!(Floats, f64::is_finite; f32, f64);

/// Smallest and largest of the values seen.
pub(super) struct RangeBuilder<T> {
    range: Option<(T, T)>,
    is_finite: bool,
}

impl<T> Default for RangeBuilder<T> {
    fn default() -> RangeBuilder<T> {
        RangeBuilder { range: None, is_finite: true }
    }
}

impl<T: Number> RangeBuilder<T> {
    /// Sees the values for which `is_valid(index)`.
    pub fn see(&mut self, values: &[T], is_valid: impl Fn(usize) -> bool) {
        for (index, value) in values.iter().copied().enumerate() {
            if !is_valid(index) {
                continue;
            }
            self.is_finite &= value.is_finite();
            let (min, max) = self.range.unwrap_or((value, value));
            self.range = Some((if value < min { value } else { min }, if value > max { value } else { max }));
        }
    }

    pub fn finish(self) -> Option<ValueRange> {
        self.range.filter(|_| self.is_finite).map(|(min, max)| T::range(min, max))
    }
}

/// Smallest and largest of the strings seen, by their bytes.
#[derive(Default)]
pub(super) struct TextRangeBuilder<'a> {
    range: Option<(&'a [u8], &'a [u8])>,
}

impl<'a> TextRangeBuilder<'a> {
    pub fn see(&mut self, text: &'a [u8]) {
        self.range = Some(match self.range {
            None => (text, text),
            Some((min, max)) if text < min => (text, max),
            Some((min, max)) if text > max => (min, text),
            range => return self.range = range,
        });
    }

    /// `None` also when the largest string, once it is cut, has no successor.
    pub fn finish(self) -> Option<ValueRange> {
        let (min, max) = self.range?;
        let (min, max) = (std::str::from_utf8(min).ok()?, std::str::from_utf8(max).ok()?);
        Some(ValueRange::Texts { min: cut(min).to_owned(), max: upper_end(max)? })
    }
}

fn cut(text: &str) -> &str {
    let ends = text.char_indices().map(|(at, character)| at + character.len_utf8());
    let end = ends.take_while(|end| *end <= TEXT_BYTES_MAX).last().unwrap_or(0);
    &text[..end]
}

/// A string that nothing beginning with the cut text is above.
fn upper_end(text: &str) -> Option<String> {
    let mut end = cut(text).to_owned();
    if end.len() == text.len() {
        return Some(end);
    }
    while let Some(last) = end.pop() {
        // Surrogates are no characters: behind U+D7FF comes U+E000.
        let next = if last == '\u{d7ff}' { Some('\u{e000}') } else { char::from_u32(last as u32 + 1) };
        if let Some(next) = next {
            end.push(next);
            return Some(end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_strings_are_cut_outwards() {
        let range = |texts: &[&str]| {
            let mut builder = TextRangeBuilder::default();
            texts.iter().for_each(|text| builder.see(text.as_bytes()));
            builder.finish()
        };
        let texts = |min: &str, max: &str| Some(ValueRange::Texts { min: min.to_owned(), max: max.to_owned() });
        assert_eq!(range(&[]), None);
        assert_eq!(range(&["b", "", "ab"]), texts("", "b"));
        let long = "x".repeat(100);
        assert_eq!(range(&[&long]), texts(&"x".repeat(64), &format!("{}y", "x".repeat(63))));
        let wide = "\u{d7ff}".repeat(30);
        assert_eq!(range(&["a", &wide]), texts("a", &format!("{}\u{e000}", "\u{d7ff}".repeat(20))));
        assert_eq!(range(&[&"\u{10ffff}".repeat(17)]), None);
    }
}
