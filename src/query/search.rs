//! Search: the k nearest rows of each query vector, over all files of a snapshot.

use super::snapshot::{RowAddress, Selection, Snapshot};
use crate::index::flat::{DistanceRange, Queries};
use crate::types::{FieldId, Result};

/// One search.
#[derive(Clone, Debug)]
pub struct SearchOptions {
    /// The vector field.
    pub field: FieldId,
    /// Query vectors and metric.
    pub queries: Queries,
    /// Hits per query, offset included: 1..=16384.
    pub top_k: usize,
    /// Range search.
    pub range: Option<DistanceRange>,
    /// Which rows.
    pub selection: Selection,
}

/// The hits of one query vector, nearest first, one per primary key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchHits {
    /// Where the rows are.
    pub rows: Vec<RowAddress>,
    /// Scores as users see them: squared L2 distance, inner product, cosine.
    pub scores: Vec<f32>,
}

/// Searches; one entry per query vector.
///
/// # Errors
/// When the snapshot is older than the manifest's horizon or the collection is damaged.
pub fn search(snapshot: &Snapshot, options: &SearchOptions) -> Result<Vec<SearchHits>> {
    let _ = (snapshot, options);
    todo!()
}
