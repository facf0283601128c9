//! Searching an index over the bytes it lies in: one trait for every kind, without a box or an allocation per query.

use super::flat::{self, DistanceRange};
use super::graph::{self, Graph};
use super::hnsw::{self, Hnsw, HnswScratch, HnswSearch};
use super::ivf::{self, Ivf, IvfScratch, IvfSearch};
use super::queries::{Queries, VectorColumn};
use super::spec::{IndexKind, SearchSettings};
use super::{Hit, IndexError, TopK};
use crate::kernel::VectorRows;
use crate::types::{Bitmap, Metric};

/// What one query asks of an index.
#[derive(Clone, Copy, Debug)]
pub struct IndexRequest<'a> {
    /// Hits wanted.
    pub k: usize,
    /// How thoroughly to search.
    pub settings: &'a SearchSettings,
    /// Rows that may be hits, one bit per row of the file; `None` for all.
    pub filter: Option<&'a Bitmap>,
    /// Which distances are wanted.
    pub range: Option<DistanceRange>,
    /// The vectors the index was built from: with them distances are exact.
    pub source: Option<VectorRows<'a>>,
    /// Goes into the hits.
    pub file_index: u32,
}

/// An index of one file, opened.
pub trait SearchIndex {
    /// Number of vectors.
    fn row_count(&self) -> usize;

    /// Offers the rows nearest to `query` to `top`.
    ///
    /// # Errors
    /// When query, filter or vectors do not fit the index.
    fn search(
        &self,
        query: &[f32],
        request: &IndexRequest<'_>,
        scratch: &mut IndexScratch,
        top: &mut TopK,
    ) -> Result<(), IndexError>;
}

/// Memory that the searches of one thread reuse.
#[derive(Debug, Default)]
pub struct IndexScratch {
    graph: graph::Scratch,
    ivf: IvfScratch,
    hnsw: HnswScratch,
}

/// Whether comparing the query with all rows that may be hits, `matching` of `row_count`, is less work than a search of an index.
pub fn is_scan_cheaper(
    kind: IndexKind,
    settings: &SearchSettings,
    k: usize,
    row_count: usize,
    matching: usize,
) -> bool {
    /// When fewer than one in so many rows match, they are scanned instead of lists: first guess.
    const LIST_SHARE: usize = 20;
    /// So many rows are compared before a search of a graph has begun.
    const ROWS_MIN: usize = 256;
    /// To visit a vertex costs about as much as to scan so many rows: first guess.
    const VISIT_ROWS: usize = 2;
    match kind {
        IndexKind::Flat => true,
        // Lists are short scans, and cost less than one of everything unless few rows match.
        IndexKind::IvfFlat | IndexKind::IvfSq8 => matching * LIST_SHARE < row_count,
        // What a filter costs a graph is for the graph to weigh: its codes are scanned faster than the vectors.
        IndexKind::RabitqGraph | IndexKind::Hnsw | IndexKind::HnswSq => {
            let pool = settings.graph_ef(k);
            let visits = pool.saturating_mul(1 + pool / graph::POOL_SORTED);
            matching <= ROWS_MIN || visits.saturating_mul(VISIT_ROWS) >= matching
        }
    }
}

/// An image of any kind, searched where it lies.
#[derive(Clone, Copy, Debug)]
pub enum OpenIndex<'a> {
    /// The quantised graph.
    Graph(Graph<'a>),
    /// Inverted lists.
    Ivf(Ivf<'a>),
    /// A hierarchical graph.
    Hnsw(Hnsw<'a>),
}

impl<'a> OpenIndex<'a> {
    /// Looks at the header and the lengths alone, in constant time: the bytes were checked when they were copied.
    ///
    /// # Errors
    /// When this is no image, one of another version, or a damaged or truncated one.
    pub fn open(image: &'a [u8]) -> Result<OpenIndex<'a>, IndexError> {
        match image.first_chunk() {
            Some(ivf::MAGIC) => Ok(OpenIndex::Ivf(Ivf::open(image)?)),
            Some(hnsw::MAGIC) => Ok(OpenIndex::Hnsw(Hnsw::open(image)?)),
            _ => Ok(OpenIndex::Graph(Graph::open(image)?)),
        }
    }

    /// As [`OpenIndex::open`], of an image that was opened before: its header's checksum is not computed again.
    /// Published bytes never change.
    ///
    /// # Errors
    /// As [`OpenIndex::open`].
    pub fn reopen(image: &'a [u8]) -> Result<OpenIndex<'a>, IndexError> {
        match image.first_chunk() {
            Some(ivf::MAGIC) => Ok(OpenIndex::Ivf(Ivf::reopen(image)?)),
            Some(hnsw::MAGIC) => Ok(OpenIndex::Hnsw(Hnsw::reopen(image)?)),
            _ => Ok(OpenIndex::Graph(Graph::reopen(image)?)),
        }
    }

    /// Elements of a vector.
    pub fn dim(&self) -> usize {
        match self {
            OpenIndex::Graph(graph) => graph.dim(),
            OpenIndex::Ivf(ivf) => ivf.dim(),
            OpenIndex::Hnsw(hnsw) => hnsw.dim(),
        }
    }

    /// How vectors are compared.
    pub fn metric(&self) -> Metric {
        match self {
            OpenIndex::Graph(graph) => graph.metric(),
            OpenIndex::Ivf(ivf) => ivf.metric(),
            OpenIndex::Hnsw(hnsw) => hnsw.metric(),
        }
    }
}

impl SearchIndex for OpenIndex<'_> {
    fn row_count(&self) -> usize {
        match self {
            OpenIndex::Graph(graph) => graph.row_count(),
            OpenIndex::Ivf(ivf) => ivf.row_count(),
            OpenIndex::Hnsw(hnsw) => hnsw.row_count(),
        }
    }

    fn search(
        &self,
        query: &[f32],
        request: &IndexRequest<'_>,
        scratch: &mut IndexScratch,
        top: &mut TopK,
    ) -> Result<(), IndexError> {
        match self {
            OpenIndex::Graph(graph) => search_graph(graph, query, request, &mut scratch.graph, top),
            OpenIndex::Ivf(ivf) => ivf.search(query, &ivf_search(request), &mut scratch.ivf, top),
            OpenIndex::Hnsw(hnsw) => hnsw.search(query, &hnsw_search(request), &mut scratch.hnsw, top),
        }
    }
}

fn ivf_search<'a>(request: &IndexRequest<'a>) -> IvfSearch<'a> {
    let IndexRequest { k, settings, filter, range, source, file_index } = *request;
    let refine = settings.refine_k.unwrap_or(1.0);
    let SearchSettings { nprobe: probe_count, empty_lists_max, .. } = *settings;
    IvfSearch { k, probe_count, empty_lists_max, refine, filter, range, source, file_index }
}

fn hnsw_search<'a>(request: &IndexRequest<'a>) -> HnswSearch<'a> {
    let IndexRequest { k, settings, filter, range, source, file_index } = *request;
    HnswSearch { k, ef: pool(request), refine: settings.refine_k.unwrap_or(1.0), filter, range, source, file_index }
}

/// The pool of a search of a graph. That of a range search is wide unless it is named: a row in the range is expected to be found.
fn pool(request: &IndexRequest<'_>) -> usize {
    /// As in Milvus.
    const EF_RANGE: usize = 512;
    let IndexRequest { k, settings, range, .. } = *request;
    let is_wide = range.is_some() && settings.ef.is_none() && settings.level.is_none();
    settings.graph_ef(k).max(if is_wide { EF_RANGE } else { 1 })
}

fn search_graph(
    graph: &Graph<'_>,
    query: &[f32],
    request: &IndexRequest<'_>,
    scratch: &mut graph::Scratch,
    top: &mut TopK,
) -> Result<(), IndexError> {
    let IndexRequest { k, filter, source, file_index, .. } = *request;
    let ef = pool(request).min(graph.row_count());
    let parameters = graph::SearchParameters { k, ef, filter, source, file_index };
    match request.range {
        None => Ok(graph.search(query, parameters, scratch, top)?),
        Some(range) => {
            let mut found = TopK::new(k);
            graph.search(query, parameters, scratch, &mut found)?;
            let found = found.into_sorted();
            let begins_within = found.first().is_none_or(|nearest| range.low <= nearest.distance);
            let ends_beyond = found.last().is_none_or(|farthest| farthest.distance >= range.high);
            if begins_within || ends_beyond || found.len() < k {
                let within = found.into_iter().filter(|hit| range.low <= hit.distance && hit.distance < range.high);
                within.for_each(|hit| top.push(hit));
                return Ok(());
            }
            // The nearest rows are too near: it is a ring.
            search_ring(graph, query, parameters, range, top)
        }
    }
}

/// Takes rows in the order of their distances until `k` lie within the range, or those that come lie beyond it; when that takes
/// as long as a scan, its rows are scanned.
fn search_ring(
    graph: &Graph<'_>,
    query: &[f32],
    parameters: graph::SearchParameters<'_>,
    range: DistanceRange,
    top: &mut TopK,
) -> Result<(), IndexError> {
    /// Rows taken at once, at least: the order of rows is right within what is taken at once.
    const BATCH_ROWS: usize = 64;
    let matching = parameters.filter.map_or(graph.row_count(), Bitmap::count_ones);
    let visits_max = parameters.source.map_or(usize::MAX, |source| graph.visits_of_scan(&source, matching));
    let mut within: Vec<Hit> = Vec::new();
    let mut rows = graph.iterate(query, parameters)?;
    while rows.visited_count().saturating_add(parameters.ef) < visits_max {
        let batch = rows.next_nearest(parameters.k.max(BATCH_ROWS));
        let is_beyond = batch.first().is_none_or(|nearest| nearest.distance >= range.high);
        within.extend(batch.iter().filter(|hit| range.low <= hit.distance && hit.distance < range.high));
        if is_beyond || within.len() >= parameters.k {
            within.into_iter().for_each(|hit| top.push(hit));
            return Ok(());
        }
    }
    if let Some(source) = parameters.source {
        let queries = Queries::dense(graph.dim(), graph.metric(), query.to_vec());
        let rows = 0..graph.row_count();
        let (vectors, tops) = (VectorColumn::Dense(source), std::slice::from_mut(top));
        flat::scan(&queries, vectors, rows, parameters.filter, Some(range), parameters.file_index, tops);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_reach_the_search_of_each_kind() {
        let settings = SearchSettings {
            ef: Some(70),
            nprobe: Some(3),
            empty_lists_max: Some(9),
            level: None,
            refine_k: Some(2.5),
            is_exhaustive: false,
        };
        let request =
            IndexRequest { k: 10, settings: &settings, filter: None, range: None, source: None, file_index: 4 };
        let ivf = ivf_search(&request);
        assert_eq!((ivf.probe_count, ivf.empty_lists_max, ivf.refine), (Some(3), Some(9), 2.5));
        let hnsw = hnsw_search(&request);
        assert_eq!((hnsw.ef, hnsw.refine, hnsw.k, hnsw.file_index), (70, 2.5, 10, 4));
    }

    #[test]
    fn the_pool_of_a_range_search_of_a_graph_is_wide_unless_it_is_named() {
        let range = Some(DistanceRange { low: 0.0, high: 1.0 });
        let ef = |ef, level, range| {
            let settings = SearchSettings { ef, level, ..SearchSettings::default() };
            pool(&IndexRequest { k: 10, settings: &settings, filter: None, range, source: None, file_index: 0 })
        };
        assert_eq!([ef(None, None, range), ef(Some(20), None, range), ef(Some(900), None, range)], [512, 20, 900]);
        assert_eq!([ef(None, Some(3), range), ef(None, Some(3), None)], [48, 48]);
        assert_eq!(ef(None, None, None), SearchSettings::default().graph_ef(10));
    }

    #[test]
    fn few_matching_rows_and_large_fetches_are_scanned() {
        let settings = SearchSettings { ef: Some(96), ..SearchSettings::default() };
        let is_scan = |kind, k, matching| is_scan_cheaper(kind, &settings, k, 100_000, matching);
        assert!(is_scan(IndexKind::Flat, 10, 100_000));
        assert!(is_scan(IndexKind::IvfFlat, 10, 4_000));
        assert!(!is_scan(IndexKind::IvfFlat, 10, 50_000));
        for kind in [IndexKind::RabitqGraph, IndexKind::Hnsw] {
            assert!(is_scan(kind, 10, 0));
            assert!(is_scan(kind, 10, 200));
            assert!(!is_scan(kind, 10, 1_000));
            assert!(!is_scan(kind, 10, 100_000));
            assert!(is_scan(kind, 30_000, 100_000));
        }
    }
}
