//! Why an index cannot be built, opened or searched.

use crate::types::{Error, ErrorKind};

/// What is wrong with an index.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// The bytes are no index of this version, or are damaged.
    #[error("the index is damaged: {0}; drop it and create it again")]
    Damaged(&'static str),
    /// The index holds something else than is asked for.
    #[error("the index does not fit: {0}")]
    Mismatch(&'static str),
    /// The vectors or parameters cannot be indexed.
    #[error("the index cannot be built: {0}")]
    Build(&'static str),
}

impl From<IndexError> for Error {
    fn from(error: IndexError) -> Error {
        let kind = match error {
            IndexError::Damaged(_) => ErrorKind::Corrupt,
            IndexError::Mismatch(_) => ErrorKind::Internal,
            IndexError::Build(_) => ErrorKind::InvalidParameter,
        };
        Error::new(kind, error.to_string())
    }
}
