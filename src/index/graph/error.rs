//! What can be wrong with a graph image or with what shall become one.

/// Why a graph cannot be built, opened or searched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// The bytes are no image of this version, or are damaged.
    #[error("graph index cannot be opened: {0}; drop the index and create it again")]
    Damaged(&'static str),
    /// The image holds something else than is asked for.
    #[error("graph index does not fit: {0}")]
    Mismatch(&'static str),
    /// The vectors or parameters cannot be indexed.
    #[error("graph index cannot be built: {0}")]
    Build(&'static str),
}
