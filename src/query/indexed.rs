//! Searching a file by its index: when that is less work than a scan, and how large a pool a filter asks for.

use std::cell::RefCell;

use super::snapshot::{FileRows, Snapshot};
use crate::index::flat::DistanceRange;
use crate::index::spec::{IndexKind, SearchSettings};
use crate::index::{IndexError, IndexFile, IndexRequest, IndexScratch, Queries, SearchIndex, TopK};
use crate::kernel::VectorRows;
use crate::types::{Bitmap, FieldId};

thread_local! {
    /// Grows to what the largest index takes and stays: searches allocate nothing.
    static SCRATCH: RefCell<IndexScratch> = RefCell::default();
}

/// The index of a file that a search can use.
pub(super) fn index_of<'a>(
    snapshot: &Snapshot,
    rows: &FileRows<'a>,
    field: FieldId,
    queries: &Queries,
) -> Option<&'a IndexFile> {
    let FileRows::Sealed(file) = rows else { return None };
    let index = snapshot.view.manifest.indexes.iter().find(|index| index.field == field)?;
    let file = file.index(index.id)?;
    let spec = &file.header().spec;
    (spec.metric == queries.metric && spec.dim == queries.dim).then_some(file)
}

/// One search of one file.
#[derive(Clone, Copy, Debug)]
pub(super) struct IndexSearch<'a> {
    /// The index.
    pub index: &'a IndexFile,
    /// The vectors it was built from.
    pub source: VectorRows<'a>,
    /// Query vectors.
    pub queries: &'a Queries,
    /// Hits per query.
    pub fetch: usize,
    /// As the request has it.
    pub settings: &'a SearchSettings,
    /// Rows that may be hits; `None` = all.
    pub filter: Option<&'a Bitmap>,
    /// How many those are.
    pub matching: usize,
    /// Which distances are wanted.
    pub range: Option<DistanceRange>,
    /// Goes into the hits.
    pub file_index: u32,
}

impl IndexSearch<'_> {
    /// Offers the nearest rows of each query to `tops`; those of queries that are to be scanned for get nothing.
    ///
    /// # Errors
    /// When the index is damaged.
    pub fn run(&self, tops: &mut [TopK]) -> Result<Outcome, IndexError> {
        let Some(settings) = self.worthwhile() else { return Ok(Outcome::Scan) };
        let index = self.index.index()?;
        let request = IndexRequest {
            k: self.fetch,
            settings: &settings,
            filter: self.filter,
            range: self.range,
            source: Some(self.source),
            file_index: self.file_index,
        };
        let mut short = Vec::new();
        SCRATCH.with_borrow_mut(|scratch| {
            let queries = self.queries.dense_values().chunks_exact(self.queries.dim);
            for (place, (query, top)) in queries.zip(tops).enumerate() {
                if self.filter.is_none() || self.range.is_some() {
                    index.search(query, &request, scratch, top)?;
                    continue;
                }
                // The rows that match may lie far from the query, beyond what was visited.
                let mut found = TopK::new(self.fetch);
                index.search(query, &request, scratch, &mut found)?;
                let found = found.into_sorted();
                if found.len() < self.fetch.min(self.matching) {
                    short.push(place);
                } else {
                    found.into_iter().for_each(|hit| top.push(hit));
                }
            }
            Ok::<(), IndexError>(())
        })?;
        Ok(if short.is_empty() { Outcome::Done } else { Outcome::Short(short) })
    }

    /// The settings to search with; `None` when a scan of the matching rows is less work.
    fn worthwhile(&self) -> Option<SearchSettings> {
        match self.index.header().spec.kind {
            IndexKind::Flat => None,
            // Lists are short scans, and cost less than one of everything unless few rows match.
            IndexKind::IvfFlat | IndexKind::IvfSq8 => {
                (self.matching * LIST_SHARE >= self.source.len()).then(|| self.settings.clone())
            }
            IndexKind::RabitqGraph | IndexKind::Hnsw | IndexKind::HnswSq => {
                let ef = graph_pool(self.source.len(), self.matching, self.settings.graph_ef(self.fetch))?;
                Some(SearchSettings { ef: Some(ef), ..self.settings.clone() })
            }
        }
    }
}

/// What became of a search by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every query has its hits.
    Done,
    /// Nothing was searched: a scan is less work.
    Scan,
    /// These queries found fewer rows than match: a scan must.
    Short(Vec<usize>),
}

/// When fewer than one in so many rows match, they are scanned instead of lists: first guess.
const LIST_SHARE: usize = 20;
/// To visit a vertex costs about as much as to scan so many rows that a filter lists: first guess.
const VISIT_ROWS: usize = 2;
/// A pool of this size costs as much to keep in order as to fill.
const POOL_SORTED: usize = 1024;

/// The pool of a graph search under a filter: rows that do not match are only passed through, so the pool grows by as much as
/// the filter leaves out. `None` when to scan the matching rows is less work.
fn graph_pool(row_count: usize, matching: usize, ef: usize) -> Option<usize> {
    let pool = ef.saturating_mul(row_count).div_ceil(matching.max(1));
    let visits = pool.saturating_mul(1 + pool / POOL_SORTED);
    (visits.saturating_mul(VISIT_ROWS) < matching).then_some(pool)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_matching_rows_and_large_fetches_are_scanned() {
        assert_eq!(graph_pool(100_000, 100_000, 96), Some(96));
        assert_eq!(graph_pool(100_000, 50_000, 96), Some(192));
        assert_eq!(graph_pool(100_000, 1_000, 96), None);
        assert_eq!(graph_pool(100_000, 0, 96), None);
        assert_eq!(graph_pool(100_000, 100_000, 30_000), None);
        assert_eq!(graph_pool(4_096, 4_096, 96), Some(96));
    }
}
