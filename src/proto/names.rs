//! Names of collections, aliases, partitions, databases, fields and indexes: what Milvus takes, in its words.

use crate::config::limits::NAME_BYTES_MAX;
use crate::types::{Error, ErrorKind, Result};

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants say it")]
pub enum NameOf {
    Collection,
    Alias,
    Partition,
    Database,
    Field,
    Index,
}

/// Words of the filter language, which no field may be called. Each is a keyword in lower and in upper case; `null` and the
/// two booleans in every case.
const KEYWORDS: [&str; 22] = [
    "like",
    "exists",
    "and",
    "or",
    "not",
    "in",
    "is",
    "json_contains",
    "json_contains_all",
    "json_contains_any",
    "array_contains",
    "array_contains_all",
    "array_contains_any",
    "array_length",
    "text_match",
    "text_match_fuzzy",
    "phrase_match",
    "random_sample",
    "element_filter",
    "match_all",
    "match_any",
    "interval",
];

/// Checks a collection, alias, partition, database, field or index name.
///
/// # Errors
/// With Milvus' texts.
pub fn check_name(what: NameOf, name: &str) -> Result<()> {
    match fault(what, name) {
        None => Ok(()),
        Some(Fault::Keyword) => {
            Err(field_error(name, format_args!("Invalid field name: {name}. {name} is keyword in milvus.")))
        }
        Some(fault) => Err(name_error(what, name, fault)),
    }
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Empty,
    TooLong,
    FirstCharacter,
    Character,
    Keyword,
}

fn fault(what: NameOf, name: &str) -> Option<Fault> {
    let Some(first) = name.bytes().next() else { return Some(Fault::Empty) };
    if name.len() > NAME_BYTES_MAX {
        return Some(Fault::TooLong);
    }
    let is_partition = what == NameOf::Partition;
    if !(first == b'_' || first.is_ascii_alphabetic() || is_partition && first.is_ascii_digit()) {
        return Some(Fault::FirstCharacter);
    }
    if !name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric() || is_partition && byte == b'-') {
        return Some(Fault::Character);
    }
    (what == NameOf::Field && is_keyword(name)).then_some(Fault::Keyword)
}

fn is_keyword(name: &str) -> bool {
    ["null", "true", "false"].iter().any(|word| word.eq_ignore_ascii_case(name))
        || KEYWORDS.iter().any(|word| {
            word.eq_ignore_ascii_case(name)
                && (name.bytes().all(|byte| !byte.is_ascii_uppercase())
                    || name.bytes().all(|byte| !byte.is_ascii_lowercase()))
        })
}

fn plain_error([thing, a_thing, the_thing]: [&str; 3], name: &str, fault: Fault) -> Error {
    let text = match fault {
        Fault::Empty => format!("{the_thing} name should not be empty."),
        Fault::TooLong => format!("The length of {a_thing} name must be less than {NAME_BYTES_MAX} characters."),
        Fault::FirstCharacter => format!("The first character of {a_thing} name must be an underscore or letter."),
        _ => format!("{the_thing} name can only contain numbers, letters and underscores."),
    };
    Error::new(ErrorKind::Unexpected, format!("Invalid {thing} name: {name}. {text}"))
}

fn name_error(what: NameOf, name: &str, fault: Fault) -> Error {
    match what {
        NameOf::Collection => collection_error("name", name, fault),
        NameOf::Alias => collection_error("alias", name, fault),
        NameOf::Partition => plain_error(["partition", "a partition", "Partition"], name, fault),
        NameOf::Index => plain_error(["index", "an index", "Index"], name, fault),
        NameOf::Database => {
            let text = match fault {
                Fault::Empty => "database name couldn't be empty".to_owned(),
                Fault::TooLong => {
                    format!("the length of a database name must be less than {NAME_BYTES_MAX} characters")
                }
                Fault::FirstCharacter => {
                    "the first character of a database name must be an underscore or letter".to_owned()
                }
                _ => "database name can only contain numbers, letters and underscores".to_owned(),
            };
            Error::new(ErrorKind::DatabaseInvalidName, format!("{text}: invalid database name[database={name}]"))
        }
        NameOf::Field => {
            let text = match fault {
                Fault::Empty => return field_error(name, format_args!("field name should not be empty")),
                Fault::TooLong => format!("The length of a field name must be less than {NAME_BYTES_MAX} characters."),
                Fault::FirstCharacter => {
                    "The first character of a field name must be an underscore or letter.".to_owned()
                }
                _ => "Field name can only contain numbers, letters, and underscores.".to_owned(),
            };
            field_error(name, format_args!("Invalid field name: {name}. {text}"))
        }
    }
}

/// `what` is `name` or `alias`: Milvus words both alike.
fn collection_error(what: &str, name: &str, fault: Fault) -> Error {
    let text = match fault {
        Fault::Empty => return Error::invalid(format_args!("collection {what} should not be empty")),
        Fault::TooLong => format!("the length of a collection {what} must be less than {NAME_BYTES_MAX} characters"),
        Fault::FirstCharacter => {
            format!("the first character of a collection {what} must be an underscore or letter")
        }
        _ => format!("collection {what} can only contain numbers, letters and underscores"),
    };
    Error::invalid(format_args!("Invalid collection {what}: {name}. {text}"))
}

fn field_error(name: &str, text: std::fmt::Arguments<'_>) -> Error {
    Error::new(ErrorKind::FieldInvalidName, format!("{text}: field name invalid[field={name}]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(what: NameOf, name: &str) -> String {
        check_name(what, name).expect_err("a wrong name").message
    }

    #[test]
    fn plain_names_are_taken() {
        for what in
            [NameOf::Collection, NameOf::Alias, NameOf::Partition, NameOf::Database, NameOf::Field, NameOf::Index]
        {
            for name in ["a", "_a1", "A_b", &"x".repeat(NAME_BYTES_MAX)] {
                check_name(what, name).expect("a good name");
            }
        }
        check_name(NameOf::Partition, "2024-11").expect("partitions may begin with a digit");
        check_name(NameOf::Field, "likes").expect("only the whole word is a keyword");
        check_name(NameOf::Field, "Like").expect("keywords are all lower or all upper case");
    }

    #[test]
    fn wrong_names_get_the_texts_of_milvus() {
        assert_eq!(
            message(NameOf::Index, "1 x"),
            "Invalid index name: 1 x. The first character of an index name must be an underscore or letter."
        );
        assert_eq!(
            message(NameOf::Index, "a/b"),
            "Invalid index name: a/b. Index name can only contain numbers, letters and underscores."
        );
        assert_eq!(
            message(NameOf::Collection, "1a"),
            "Invalid collection name: 1a. the first character of a collection name must be an underscore or letter: \
             invalid parameter"
        );
        assert_eq!(
            message(NameOf::Alias, &"x".repeat(256)),
            format!(
                "Invalid collection alias: {}. the length of a collection alias must be less than 255 characters: \
                 invalid parameter",
                "x".repeat(256)
            )
        );
        assert_eq!(
            message(NameOf::Database, "1"),
            "the first character of a database name must be an underscore or letter: invalid database name[database=1]"
        );
        assert_eq!(message(NameOf::Partition, ""), "Invalid partition name: . Partition name should not be empty.");
        assert_eq!(
            message(NameOf::Field, "español"),
            "Invalid field name: español. Field name can only contain numbers, letters, and underscores.: field name \
             invalid[field=español]"
        );
    }

    #[test]
    fn no_field_is_called_like_a_keyword() {
        for name in ["like", "EXISTS", "nUll", "True", "$meta", "JSON_CONTAINS"] {
            let error = check_name(NameOf::Field, name).expect_err("a keyword");
            assert_eq!(error.kind, ErrorKind::FieldInvalidName);
            assert!(error.message.starts_with(&format!("Invalid field name: {name}")), "{}", error.message);
        }
        check_name(NameOf::Collection, "like").expect("collections may");
    }
}
