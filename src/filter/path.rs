//! Paths into JSON columns outside filters, such as `meta["color"]` of a grouped search.

use std::borrow::Cow;

use super::json::{self, JsonValue};
use super::syntax::PathStep;

/// Keys and indexes from the top of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonPath {
    steps: Box<[PathStep]>,
}

/// What a document holds at a path.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum JsonScalar<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, [u8]>),
}

impl JsonPath {
    /// The path of one key.
    pub fn of_key(key: &str) -> JsonPath {
        JsonPath { steps: Box::new([step(key, true)]) }
    }

    /// Reads `["key"]`, `['key']` and `[3]`, one or more; `None` when the text is something else.
    pub fn parse(text: &str) -> Option<JsonPath> {
        let mut steps = Vec::new();
        let mut rest = text.trim();
        while !rest.is_empty() {
            rest = rest.strip_prefix('[')?.trim_start();
            let quote = rest.chars().next().filter(|first| matches!(first, '"' | '\''));
            let end = match quote {
                Some(quote) => 1 + rest[1..].find(quote)?,
                None => rest.find(']')?,
            };
            let key = if quote.is_some() { &rest[1..end] } else { rest[..end].trim() };
            let is_wrong = key.is_empty() || key.contains('\\') || quote.is_none() && !is_index(key);
            if is_wrong {
                return None;
            }
            steps.push(step(key, quote.is_some()));
            rest = rest[end + usize::from(quote.is_some())..].trim_start().strip_prefix(']')?.trim_start();
        }
        (!steps.is_empty()).then(|| JsonPath { steps: steps.into() })
    }

    /// The scalar at the path; `None` when there is nothing, null, an array or an object.
    pub fn scalar<'a>(&self, document: &'a [u8]) -> Option<JsonScalar<'a>> {
        match json::read(json::find(document, &self.steps)?)? {
            JsonValue::Bool(value) => Some(JsonScalar::Bool(value)),
            JsonValue::Int(value) => Some(JsonScalar::Int(value)),
            JsonValue::Float(value) => Some(JsonScalar::Float(value)),
            JsonValue::Text(value) => Some(JsonScalar::Text(value)),
            JsonValue::Null | JsonValue::Array(_) | JsonValue::Object(_) => None,
        }
    }
}

fn is_index(key: &str) -> bool {
    key.bytes().all(|byte| byte.is_ascii_digit())
}

fn step(key: &str, is_quoted: bool) -> PathStep {
    let index = if is_index(key) { key.parse().ok() } else { None };
    PathStep { key: key.into(), index, is_quoted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_indexes_lead_to_scalars_only() {
        let document = br#"{"a": {"b'c": [1, "x", 2.5, null]}, "t": true}"#;
        let at = |path: &str| JsonPath::parse(path).and_then(|path| path.scalar(document));
        assert_eq!(at(r#"["a"]["b'c"][0]"#), Some(JsonScalar::Int(1)));
        assert_eq!(at(r#"['a'] ["b'c"][1]"#), Some(JsonScalar::Text(Cow::Borrowed(b"x"))));
        assert_eq!(at(r#"["a"]["b'c"][2]"#), Some(JsonScalar::Float(2.5)));
        assert_eq!(at(r#"["t"]"#), Some(JsonScalar::Bool(true)));
        for nothing in [r#"["a"]["b'c"][3]"#, r#"["a"]["b'c"][4]"#, r#"["a"]"#, r#"["z"]"#, r#"["t"]["u"]"#] {
            assert_eq!(at(nothing), None, "{nothing}");
        }
        assert_eq!(JsonPath::of_key("t").scalar(document), Some(JsonScalar::Bool(true)));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["", "a", "[a]", "[\"a]", "[\"a\"", "[]", "[\"\"]", "[1]x", "[-1]", "[\"a\\n\"]"] {
            assert_eq!(JsonPath::parse(text), None, "{text}");
        }
    }
}
