//! Why a filter cannot be used, in Milvus' words.

use crate::types::{Error, ErrorKind};

/// Where in Milvus' pipeline a filter fails; it decides what stands around the detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterErrorKind {
    /// The text or its types: `cannot parse expression: <text>, error: <detail>`.
    Expression,
    /// The whole is no predicate, or a template value is missing or of the wrong type: the detail stands alone.
    Plan,
    /// The filter is right, but this server cannot evaluate it yet.
    Unimplemented,
}

/// Why a filter cannot be used; the text is Milvus' detail, without the `failed to create query plan: ` around it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct FilterError {
    /// What Milvus' callers match on.
    pub message: String,
    /// Which frame the message gets.
    pub kind: FilterErrorKind,
}

impl FilterError {
    /// An error in the text or its types.
    pub(super) fn expression(message: impl Into<String>) -> FilterError {
        FilterError { message: message.into(), kind: FilterErrorKind::Expression }
    }

    /// An error of the plan as a whole.
    pub(super) fn plan(message: impl Into<String>) -> FilterError {
        FilterError { message: message.into(), kind: FilterErrorKind::Plan }
    }

    /// Something of the language that cannot be evaluated yet.
    pub(super) fn unimplemented(what: impl std::fmt::Display) -> FilterError {
        FilterError { message: format!("{what} is not supported yet by ShoalDB"), kind: FilterErrorKind::Unimplemented }
    }

    /// The whole message as Milvus sends it for this filter text, from `failed to create query plan: ` to
    /// `: invalid parameter`.
    pub fn query_plan_message(&self, text: &str) -> String {
        // A filter may be megabytes of keys; its beginning says which one it was.
        let shown = shorten(text);
        let detail = &self.message;
        match self.kind {
            FilterErrorKind::Expression | FilterErrorKind::Unimplemented => {
                format!(
                    "failed to create query plan: cannot parse expression: {shown}, error: {detail}: invalid parameter"
                )
            }
            FilterErrorKind::Plan => format!("failed to create query plan: {detail}: invalid parameter"),
        }
    }

    /// The error a request is answered with: kind and [`FilterError::query_plan_message`].
    pub fn to_error(&self, text: &str) -> Error {
        Error::new(ErrorKind::InvalidParameter, self.query_plan_message(text))
    }
}

/// At most this many bytes of a filter are repeated in an error.
const SHOWN_BYTES_MAX: usize = 4_096;

/// The text up to a byte, or to the end of the character before it.
pub(super) fn up_to(text: &str, mut end: usize) -> &str {
    loop {
        match text.get(..end) {
            Some(part) => return part,
            None if end > text.len() => end = text.len(),
            None => end -= 1,
        }
    }
}

/// The beginning of a text, on a character's boundary.
pub(super) fn shorten(text: &str) -> &str {
    up_to(text, SHOWN_BYTES_MAX)
}
