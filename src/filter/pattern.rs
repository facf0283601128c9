//! `like` patterns and regular expressions.

use regex::bytes::{Regex, RegexBuilder};

use super::error::FilterError;
use crate::config::limits::{FILTER_REGEX_BYTES_MAX, REGEX_BYTES_MAX};

/// A compiled pattern; matching takes time linear in the string.
#[derive(Clone, Debug)]
pub(super) enum Pattern {
    Equal(Box<[u8]>),
    Prefix(Box<[u8]>),
    Suffix(Box<[u8]>),
    Regex(Regex),
}

/// What the regular expressions of one filter may still take once they are compiled: a filter may name a million of them.
#[derive(Debug)]
pub(super) struct RegexBudget {
    bytes_left: usize,
}

impl Default for RegexBudget {
    fn default() -> RegexBudget {
        RegexBudget { bytes_left: FILTER_REGEX_BYTES_MAX }
    }
}

/// A compiled expression does not tell its size: it is the first of these it fits into.
const REGEX_SIZES: [usize; 3] = [64 << 10, 1 << 20, REGEX_BYTES_MAX];

enum Part {
    Literal(String),
    AnyRun,
    AnyCharacter,
}

impl Pattern {
    /// A `like` pattern: `%` is any run of characters, `_` one character, a backslash makes the next one plain.
    pub(super) fn like(pattern: &str, budget: &mut RegexBudget) -> Result<Pattern, FilterError> {
        let parts = parts(pattern);
        Ok(match parts.as_slice() {
            [] => Pattern::Equal(Box::default()),
            [Part::Literal(text)] => Pattern::Equal(text.as_bytes().into()),
            [Part::AnyRun] => Pattern::Prefix(Box::default()),
            [Part::Literal(text), Part::AnyRun] => Pattern::Prefix(text.as_bytes().into()),
            [Part::AnyRun, Part::Literal(text)] => Pattern::Suffix(text.as_bytes().into()),
            parts => compile(&regex_of(parts), pattern, budget)?.into(),
        })
    }

    /// A regular expression, matched anywhere in the string.
    pub(super) fn regex(pattern: &str, budget: &mut RegexBudget) -> Result<Pattern, FilterError> {
        compile(pattern, pattern, budget).map(Pattern::from)
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

fn compile(regex: &str, pattern: &str, budget: &mut RegexBudget) -> Result<Regex, FilterError> {
    let mut reason = format!("expression too large (limit {REGEX_BYTES_MAX} bytes)");
    for size in REGEX_SIZES {
        let Some(left) = budget.bytes_left.checked_sub(size) else {
            reason = format!("the filter's expressions are too large together (limit {FILTER_REGEX_BYTES_MAX} bytes)");
            break;
        };
        match RegexBuilder::new(regex).size_limit(size).build() {
            Ok(regex) => {
                budget.bytes_left = left;
                return Ok(regex);
            }
            Err(regex::Error::CompiledTooBig(_)) => {}
            Err(error) => {
                reason = syntax_reason(&error);
                break;
            }
        }
    }
    let shown = super::error::shorten(pattern);
    Err(FilterError::expression(format!("invalid regex pattern: error parsing regexp: {reason}: `{shown}`")))
}

/// In the words of Go's parser, which Milvus' callers know.
fn syntax_reason(error: &regex::Error) -> String {
    let text = error.to_string();
    if text.contains("unclosed group") {
        "missing closing )".into()
    } else if text.contains("unclosed character class") {
        "missing closing ]".into()
    } else {
        text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_string()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn like(pattern: &str, text: &str) -> bool {
        Pattern::like(pattern, &mut RegexBudget::default()).unwrap().matches(text.as_bytes())
    }

    fn regex(pattern: &str) -> Result<Pattern, FilterError> {
        Pattern::regex(pattern, &mut RegexBudget::default())
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
        assert!(regex("b.d").unwrap().matches(b"abcde"));
        assert!(!regex("^b").unwrap().matches(b"abc"));
        let error = regex("[a-").unwrap_err().message;
        assert!(error.contains("invalid regex pattern") && error.contains("missing closing ]"), "{error}");
        assert!(regex("(a").unwrap_err().message.contains("missing closing )"));
        assert!(regex("((((((a{99}){99}){99}){99}){99}){99})").unwrap_err().message.contains("too large"));
    }

    #[test]
    fn the_expressions_of_a_filter_are_limited_together() {
        let mut budget = RegexBudget::default();
        let compiled = (0..10_000).take_while(|_| Pattern::regex("a{99}{50}", &mut budget).is_ok()).count();
        assert!((6..=FILTER_REGEX_BYTES_MAX / REGEX_SIZES[0]).contains(&compiled), "{compiled}");
        assert!(Pattern::regex("a{99}{50}", &mut budget).unwrap_err().message.contains("too large together"));
        // What needs no expression needs no budget.
        assert!(Pattern::like("a%", &mut budget).unwrap().matches(b"ab"));
    }
}
