//! Our errors as Milvus statuses: code, legacy code, text, retry flag.

use super::common::{KeyValuePair, Status};
use crate::types::Error;

/// Success.
pub fn success() -> Status {
    Status::default()
}

/// The status of an error: both code and legacy code are set, `is_input_error` when the caller is to blame.
pub fn failure(error: &Error) -> Status {
    let _ = error;
    todo!()
}

/// Pairs as the protocol has them.
pub fn pairs_to_wire(pairs: &[(String, String)]) -> Vec<KeyValuePair> {
    pairs.iter().map(|(key, value)| KeyValuePair { key: key.clone(), value: value.clone() }).collect()
}

/// Pairs as we keep them.
pub fn pairs_from_wire(pairs: Vec<KeyValuePair>) -> Vec<(String, String)> {
    pairs.into_iter().map(|pair| (pair.key, pair.value)).collect()
}
