//! JSON of rows: valid, not too large, not too deep; rows of `$meta` are objects without doubled keys.

use std::collections::HashSet;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::schemas::DYNAMIC_FIELD;
use crate::config::limits::{JSON_BYTES_MAX, JSON_DEPTH_MAX};
use crate::types::{Error, ErrorKind, Result};

use super::rows::invalid_expected;

/// Checks a JSON document of row `row` of a field.
///
/// # Errors
/// When it is too large, too deep or no JSON.
pub(super) fn check_document(field_name: &str, row: usize, document: &[u8]) -> Result<()> {
    check_shape(field_name, row, document)?;
    serde_json::from_slice::<IgnoredAny>(document).map(|_| ()).map_err(|error| invalid_json(field_name, row, &error))
}

/// Checks the `$meta` document of row `row`: an object whose keys are unique and not in `taken`, the names of the fields
/// that the same request fills.
///
/// # Errors
/// With Milvus' texts.
pub(super) fn check_dynamic(row: usize, document: &[u8], taken: &HashSet<&str>) -> Result<()> {
    // Most dynamic rows of a collection with dynamic fields are empty.
    if document == b"{}" {
        return Ok(());
    }
    check_shape(DYNAMIC_FIELD, row, document)?;
    let keys: Keys = serde_json::from_slice(document).map_err(|error| invalid_json(DYNAMIC_FIELD, row, &error))?;
    for (index, key) in keys.0.iter().enumerate() {
        if key == DYNAMIC_FIELD {
            return Err(Error::new(ErrorKind::Unexpected, "cannot set key to $meta"));
        }
        if taken.contains(key.as_str()) {
            return Err(Error::new(
                ErrorKind::Unexpected,
                format!("dynamic field name include the static field name: {key}"),
            ));
        }
        if keys.0[..index].contains(key) {
            return Err(Error::invalid(format_args!("duplicated key {key} in the dynamic fields of row {row}")));
        }
    }
    Ok(())
}

fn check_shape(field_name: &str, row: usize, document: &[u8]) -> Result<()> {
    if document.len() > JSON_BYTES_MAX && field_name == DYNAMIC_FIELD {
        return Err(invalid_expected(
            format_args!("the length ({}) of dynamic field exceeds max length ({JSON_BYTES_MAX})", document.len()),
            "valid length dynamic field",
            "length exceeds max length",
        ));
    }
    if document.len() > JSON_BYTES_MAX {
        return Err(invalid_expected(
            format_args!(
                "the length ({}) of json field ({field_name}) exceeds max length ({JSON_BYTES_MAX}), row number: {row}",
                document.len()
            ),
            "valid length json string",
            "length exceeds max length",
        ));
    }
    if is_deeper_than(document, JSON_DEPTH_MAX) {
        return Err(Error::invalid(format_args!(
            "the json of field {field_name} is nested deeper than {JSON_DEPTH_MAX}, row number: {row}"
        )));
    }
    Ok(())
}

fn invalid_json(field_name: &str, row: usize, error: &serde_json::Error) -> Error {
    Error::invalid(format_args!("field {field_name} holds no valid json, row number: {row}: {error}"))
}

/// Whether brackets nest deeper than `depth_max`. Wrong documents get any answer: the parser refuses them.
fn is_deeper_than(document: &[u8], depth_max: usize) -> bool {
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    for byte in document {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The keys of an object, in order, doubled ones included.
struct Keys(Vec<String>);

impl<'de> Deserialize<'de> for Keys {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Keys, D::Error> {
        struct KeysOfMap;
        impl<'de> Visitor<'de> for KeysOfMap {
            type Value = Keys;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Keys, A::Error> {
                let mut keys = Vec::new();
                while let Some((key, IgnoredAny)) = map.next_entry::<String, IgnoredAny>()? {
                    keys.push(key);
                }
                Ok(Keys(keys))
            }
        }
        deserializer.deserialize_map(KeysOfMap)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_checked() {
        for good in ["1", "null", "\"x\"", "[1,{\"a\":[]}]", " {\"a\": 1} "] {
            check_document("j", 0, good.as_bytes()).expect(good);
        }
        for bad in ["", "{", "{'a':1}", "nan", "[1]x"] {
            let error = check_document("j", 3, bad.as_bytes()).expect_err(bad);
            assert!(error.message.contains("row number: 3"), "{}", error.message);
        }
        let large = format!("\"{}\"", "x".repeat(JSON_BYTES_MAX));
        assert!(check_document("j", 0, large.as_bytes()).expect_err("large").message.contains("exceeds max length"));
    }

    #[test]
    fn deep_documents_are_refused_and_brackets_in_strings_do_not_count() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        check_document("j", 0, nested(JSON_DEPTH_MAX).as_bytes()).expect("as deep as allowed");
        check_document("j", 0, nested(JSON_DEPTH_MAX + 1).as_bytes()).expect_err("too deep");
        let text = format!("\"\\\"{}\"", "[".repeat(JSON_DEPTH_MAX + 1));
        check_document("j", 0, text.as_bytes()).expect("a string");
    }

    #[test]
    fn dynamic_rows_are_objects_with_unique_new_keys() {
        let taken = HashSet::from(["id"]);
        check_dynamic(0, br#"{"a":1,"b":{"a":1,"a":2}}"#, &taken).expect("an object");
        for bad in ["[]", "1", r#"{"a":1,"a":2}"#, r#"{"$meta":1}"#, r#"{"id":1}"#] {
            check_dynamic(0, bad.as_bytes(), &taken).expect_err(bad);
        }
    }
}
