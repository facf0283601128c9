//! Our errors as Milvus statuses: code, legacy code, text, retry flag.

use super::common::{KeyValuePair, Status};
use crate::types::{Blame, Error, ErrorKind};

/// The legacy enum's "unexpected error": what every error without a legacy number of its own says.
const LEGACY_UNEXPECTED: i32 = 1;

/// Success.
pub fn success() -> Status {
    Status::default()
}

/// The status of an error: both code and legacy code are set, `is_input_error` when the caller is to blame.
pub fn failure(error: &Error) -> Status {
    let (code, error_code) = codes(error.kind);
    let mut status = Status {
        error_code,
        reason: error.message.clone(),
        code,
        retriable: error.is_retriable(),
        detail: error.message.clone(),
        extra_info: std::collections::HashMap::new(),
    };
    if error.blame() == Blame::Client {
        status.extra_info.insert("is_input_error".to_owned(), "true".to_owned());
        // pymilvus reads `int(extra_info["report_value"])` of every mutation whose extra_info is not empty.
        status.extra_info.insert("report_value".to_owned(), "0".to_owned());
    }
    status
}

/// The error a status reports; `None` for success. Kinds that share a code come back as the first of them.
pub fn error_of(status: &Status) -> Option<Error> {
    if status.code == 0 && status.error_code == 0 {
        return None;
    }
    let kind = KINDS.into_iter().find(|kind| codes(*kind).0 == status.code).unwrap_or(ErrorKind::Unexpected);
    Some(Error::new(kind, status.reason.clone()))
}

/// Code and legacy code of a kind. Clients look at both: `has_collection` at legacy 4, a stale schema at legacy 62, the
/// retry with backoff at code 8.
fn codes(kind: ErrorKind) -> (i32, i32) {
    match kind {
        ErrorKind::CollectionNotFound => (100, 4),
        ErrorKind::CollectionNotLoaded => (101, LEGACY_UNEXPECTED),
        ErrorKind::CollectionLoaded => (104, LEGACY_UNEXPECTED),
        ErrorKind::CollectionIllegalSchema => (105, LEGACY_UNEXPECTED),
        ErrorKind::PartitionNotFound => (200, LEGACY_UNEXPECTED),
        ErrorKind::PartitionNotLoaded => (201, LEGACY_UNEXPECTED),
        ErrorKind::DatabaseNotFound => (800, LEGACY_UNEXPECTED),
        ErrorKind::DatabaseInvalidName => (802, LEGACY_UNEXPECTED),
        ErrorKind::IndexNotFound => (700, 25),
        ErrorKind::IndexDuplicate => (702, LEGACY_UNEXPECTED),
        ErrorKind::AliasNotFound => (1600, LEGACY_UNEXPECTED),
        ErrorKind::AliasCollectionConflict => (1601, LEGACY_UNEXPECTED),
        ErrorKind::AliasExists => (1602, LEGACY_UNEXPECTED),
        ErrorKind::ResourceGroupNotFound => (300, LEGACY_UNEXPECTED),
        ErrorKind::FieldNotFound => (1700, LEGACY_UNEXPECTED),
        ErrorKind::FieldInvalidName => (1701, LEGACY_UNEXPECTED),
        ErrorKind::InvalidParameter => (1100, 5),
        ErrorKind::MissingParameter => (1101, 5),
        ErrorKind::SchemaMismatch => (109, 62),
        ErrorKind::RateLimited => (8, 49),
        ErrorKind::Unimplemented => (10, LEGACY_UNEXPECTED),
        // "service unavailable". Not 8: a client repeats a call that ended with 8, also a write that took effect.
        ErrorKind::Unavailable => (2, LEGACY_UNEXPECTED),
        ErrorKind::Timeout => (10_001, LEGACY_UNEXPECTED),
        ErrorKind::DiskFull => (7, 54),
        ErrorKind::Io => (1001, LEGACY_UNEXPECTED),
        ErrorKind::Corrupt | ErrorKind::InUse | ErrorKind::Internal => (5, LEGACY_UNEXPECTED),
        ErrorKind::Unexpected => (65_535, LEGACY_UNEXPECTED),
    }
}

/// Every kind that a status can name.
const KINDS: [ErrorKind; 26] = [
    ErrorKind::CollectionNotFound,
    ErrorKind::CollectionNotLoaded,
    ErrorKind::CollectionLoaded,
    ErrorKind::CollectionIllegalSchema,
    ErrorKind::PartitionNotFound,
    ErrorKind::PartitionNotLoaded,
    ErrorKind::DatabaseNotFound,
    ErrorKind::DatabaseInvalidName,
    ErrorKind::IndexNotFound,
    ErrorKind::IndexDuplicate,
    ErrorKind::AliasNotFound,
    ErrorKind::AliasCollectionConflict,
    ErrorKind::AliasExists,
    ErrorKind::ResourceGroupNotFound,
    ErrorKind::FieldNotFound,
    ErrorKind::FieldInvalidName,
    ErrorKind::InvalidParameter,
    ErrorKind::MissingParameter,
    ErrorKind::SchemaMismatch,
    ErrorKind::RateLimited,
    ErrorKind::Unimplemented,
    ErrorKind::Unavailable,
    ErrorKind::Timeout,
    ErrorKind::DiskFull,
    ErrorKind::Io,
    ErrorKind::Internal,
];

/// Pairs as the protocol has them.
pub fn pairs_to_wire(pairs: &[(String, String)]) -> Vec<KeyValuePair> {
    pairs.iter().map(|(key, value)| KeyValuePair { key: key.clone(), value: value.clone() }).collect()
}

/// Pairs as we keep them.
pub fn pairs_from_wire(pairs: Vec<KeyValuePair>) -> Vec<(String, String)> {
    pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_collection_has_both_codes() {
        let status = failure(&Error::new(ErrorKind::CollectionNotFound, "collection not found[collection=x]"));
        assert_eq!((status.code, status.error_code, status.retriable), (100, 4, false));
        assert_eq!(status.reason, "collection not found[collection=x]");
    }

    #[test]
    fn a_filled_extra_info_has_a_report_value() {
        let status = failure(&Error::invalid("x"));
        assert_eq!(status.extra_info["is_input_error"], "true");
        assert_eq!(status.extra_info["report_value"], "0");
        assert!(failure(&Error::internal("x")).extra_info.is_empty());
    }

    #[test]
    fn a_status_tells_its_kind() {
        for kind in KINDS {
            let error = error_of(&failure(&Error::new(kind, "why"))).expect("an error");
            assert_eq!((error.kind, error.message.as_str()), (kind, "why"));
        }
        assert!(error_of(&success()).is_none());
    }
}
