//! Searching a file by its index, when that is less work than a scan.

use std::cell::RefCell;

use super::snapshot::{FileRows, Snapshot};
use crate::index::flat::DistanceRange;
use crate::index::spec::SearchSettings;
use crate::index::{IndexError, IndexFile, IndexRequest, IndexScratch, Queries, SearchIndex, TopK, is_scan_cheaper};
use crate::kernel::VectorRows;
use crate::types::{Bitmap, FieldId};

thread_local! {
    /// Grows to what the largest index takes and stays: searches allocate nothing.
    static SCRATCH: RefCell<(IndexScratch, TopK)> = RefCell::default();
}

/// The index of a file that a search can use.
pub(super) fn index_of<'a>(
    snapshot: &Snapshot,
    rows: &FileRows<'a>,
    field: FieldId,
    queries: &Queries<'_>,
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
    pub queries: &'a Queries<'a>,
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
        let spec = &self.index.header().spec;
        if spec.is_refined() && is_scan_cheaper(spec.kind, self.settings, self.fetch, self.source.len(), self.matching)
        {
            return Ok(Outcome::Scan);
        }
        let index = self.index.index()?;
        let request = IndexRequest {
            k: self.fetch,
            settings: self.settings,
            filter: self.filter,
            range: self.range,
            source: Some(self.source),
            file_index: self.file_index,
        };
        let mut short = Vec::new();
        SCRATCH.with_borrow_mut(|(scratch, found)| {
            let queries = self.queries.dense_values().chunks_exact(self.queries.dim);
            for (place, (query, top)) in queries.zip(tops).enumerate() {
                if self.filter.is_none() || self.range.is_some() {
                    index.search(query, &request, scratch, top)?;
                    continue;
                }
                // The rows that match may lie far from the query, beyond what was visited.
                found.begin(self.fetch);
                index.search(query, &request, scratch, found)?;
                let found = found.sort();
                if found.len() < self.fetch.min(self.matching) {
                    short.push(place);
                } else {
                    found.iter().for_each(|hit| top.push(*hit));
                }
            }
            Ok::<(), IndexError>(())
        })?;
        Ok(if short.is_empty() { Outcome::Done } else { Outcome::Short(short) })
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
