//! `like` patterns and regular expressions.

use regex::bytes::{Regex, RegexBuilder};

use super::error::FilterError;
use crate::config::limits::REGEX_BYTES_MAX;

/// A compiled pattern; matching takes time linear in the string.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Equal(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Regex(Regex),
}

enum Part {
    Literal(String),
    AnyRun,
    AnyCharacter,
}

impl Pattern {
    /// A `like` pattern: `%` is any run of characters, `_` one character, a backslash makes the next one plain.
    pub(super) fn like(pattern: &str) -> Result<Pattern, FilterError> {
        let parts = parts(pattern);
        Ok(match parts.as_slice() {
            [] => Pattern::Equal(Box::default()),
            [Part::Literal(text)] => Pattern::Equal(text.as_bytes().into()),
            [Part::AnyRun] => Pattern::Prefix(Box::default()),
            [Part::Literal(text), Part::AnyRun] => Pattern::Prefix(text.as_bytes().into()),
            [Part::AnyRun, Part::Literal(text)] => Pattern::Suffix(text.as_bytes().into()),
            parts => compile(&regex_of(parts), pattern)?.into(),
        })
    }

    /// A regular expression, matched anywhere in the string.
    pub(super) fn regex(pattern: &str) -> Result<Pattern, FilterError> {
        compile(pattern, pattern).map(Pattern::from)
    }

    /// Whether the string matches.
    #[inline]
    pub(super) fn matches(&self, text: &[u8]) -> bool {
        match self {
            Pattern::Equal(whole) => **whole == *text,
            Pattern::Prefix(prefix) => text.starts_with(prefix),
            Pattern::Suffix(suffix) => text.ends_with(suffix),
            Pattern::Regex(regex) => regex.is_match(text),
        }
    }
}

impl From<Regex> for Pattern {
    fn from(regex: Regex) -> Pattern {
        Pattern::Regex(regex)
    }
}

fn parts(pattern: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        let literal = match character {
            '%' => {
                if !matches!(parts.last(), Some(Part::AnyRun)) {
                    parts.push(Part::AnyRun);
                }
                continue;
            }
            '_' => {
                parts.push(Part::AnyCharacter);
                continue;
            }
            '\\' => characters.next().unwrap_or('\\'),
            other => other,
        };
        match parts.last_mut() {
            Some(Part::Literal(text)) => text.push(literal),
            _ => parts.push(Part::Literal(literal.to_string())),
        }
    }
    parts
}

fn regex_of(parts: &[Part]) -> String {
    let mut regex = String::from("(?s)");
    let last = parts.len() - 1;
    for (index, part) in parts.iter().enumerate() {
        // A run at an end says only that nothing is anchored there.
        if index == 0 && !matches!(part, Part::AnyRun) {
            regex.push_str(r"\A");
        }
        match part {
            Part::Literal(text) => regex.push_str(&regex::escape(text)),
            Part::AnyCharacter => regex.push('.'),
            Part::AnyRun if index == 0 || index == last => {}
            Part::AnyRun => regex.push_str(".*"),
        }
        if index == last && !matches!(part, Part::AnyRun) {
            regex.push_str(r"\z");
        }
    }
    regex
}

fn compile(regex: &str, pattern: &str) -> Result<Regex, FilterError> {
    RegexBuilder::new(regex).size_limit(REGEX_BYTES_MAX).build().map_err(|error| {
        let shown = super::error::shorten(pattern);
        let reason = match &error {
            regex::Error::CompiledTooBig(_) => format!("expression too large (limit {REGEX_BYTES_MAX} bytes)"),
            other => {
                // The words of Go's parser, which Milvus' callers know.
                let text = other.to_string();
                if text.contains("unclosed group") {
                    "missing closing )".into()
                } else if text.contains("unclosed character class") {
                    "missing closing ]".into()
                } else {
                    text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string()
                }
            }
        };
        FilterError::expression(format!("invalid regex pattern: error parsing regexp: {reason}: `{shown}`"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn like(pattern: &str, text: &str) -> bool {
        Pattern::like(pattern).unwrap().matches(text.as_bytes())
    }

    #[test]
    fn wildcards_match_runs_and_single_characters() {
        for (pattern, text, matches) in [
            ("abc", "abc", true),
            ("abc", "abcd", false),
            ("ab%", "ab", true),
            ("%bc", "abc", true),
            ("%b%", "abc", true),
            ("a%c%e", "abcde", true),
            ("a_c", "aäc", true),
            ("a_c", "ac", false),
            ("_", "", false),
            ("%", "", true),
            ("", "", true),
            ("a%%b", "a\nb", true),
            ("%_%", "", false),
            (r"10\%", "10%", true),
            (r"10\%", "100", false),
            (r"a\_%", "a_b", true),
            ("a.c%d", "abcd", false),
        ] {
            assert_eq!(like(pattern, text), matches, "{pattern} on {text}");
        }
    }

    #[test]
    fn regular_expressions_match_anywhere_and_say_what_is_wrong() {
        assert!(Pattern::regex("b.d").unwrap().matches(b"abcde"));
        assert!(!Pattern::regex("^b").unwrap().matches(b"abc"));
        let error = Pattern::regex("[a-").unwrap_err().message;
        assert!(error.contains("invalid regex pattern") && error.contains("missing closing ]"), "{error}");
        assert!(Pattern::regex("(a").unwrap_err().message.contains("missing closing )"));
        assert!(Pattern::regex("((((((a{99}){99}){99}){99}){99}){99})").unwrap_err().message.contains("too large"));
    }
}
