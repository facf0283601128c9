//! Search: the k nearest rows of each query vector, over all files of a snapshot.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::group::{Grouping, Groups};
use super::indexed::{IndexSearch, Outcome, index_of};
use super::key::Key;
use super::parts::{Part, Parts, Span};
use super::snapshot::{FileRows, MatchingRows, RowAddress, Selection, Snapshot, slice_column};
use crate::config::limits::TOP_K_MAX;
use crate::index::flat::{self, DistanceRange};
use crate::index::spec::SearchSettings;
use crate::index::{Hit, Queries, TopK, VectorColumn};
use crate::types::{Bitmap, ColumnView, Error, ErrorKind, FieldId, FieldSchema, Metric, Result, Validity, Values};

/// So many keys are compared one with another sooner than they are hashed.
const FEW_KEYS: usize = 32;
/// How many hits are looked at for one query, at most, to find `top_k` different keys among rows that share keys.
const FETCH_MAX: usize = 8 * TOP_K_MAX;
/// How many hits are collected at once, over all queries, when a search fetches again: 48 MB.
const REFETCH_MAX: usize = 4 << 20;

/// One search.
#[derive(Clone, Debug)]
pub struct SearchOptions {
    /// The vector field.
    pub field: FieldId,
    /// Query vectors and metric.
    pub queries: Queries,
    /// Hits (or groups) per query, offset included: 1..=16384.
    pub top_k: usize,
    /// Hits that share a value are a group.
    pub grouping: Option<Grouping>,
    /// Range search.
    pub range: Option<DistanceRange>,
    /// How thoroughly indexes are searched.
    pub settings: SearchSettings,
    /// Which rows.
    pub selection: Selection,
}

impl SearchOptions {
    /// Rows per query that are looked for first.
    pub fn fetch(&self) -> usize {
        let hits = self.top_k.saturating_mul(self.grouping.as_ref().map_or(1, |grouping| grouping.size));
        hits.min(FETCH_MAX)
    }
}

/// The hits of one query vector, nearest first, one per primary key; in a grouped search, group after group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SearchHits {
    /// Where the rows are.
    pub rows: Vec<RowAddress>,
    /// Scores as users see them: squared L2 distance, inner product, cosine, Hamming or Jaccard distance.
    pub scores: Vec<f32>,
    /// Where each group begins; empty unless the search is grouped.
    pub groups: Vec<usize>,
}

/// Searches; one entry per query vector.
///
/// # Errors
/// When the snapshot is older than the manifest's horizon or the collection is damaged; when the queries do not fit the field.
pub fn search(snapshot: &Snapshot, options: &SearchOptions) -> Result<Vec<SearchHits>> {
    let search = Search::new(snapshot, options)?;
    let nearest = search.nearest()?;
    search.finish(nearest)
}

/// A search that was checked: the nearest rows are found, in one go or in [`Parts`] by several processes, then finished.
#[derive(Debug)]
pub struct Search<'a> {
    snapshot: &'a Snapshot,
    field: &'a FieldSchema,
    options: &'a SearchOptions,
}

impl<'a> Search<'a> {
    /// Checks a search.
    ///
    /// # Errors
    /// Those of [`search`].
    pub fn new(snapshot: &'a Snapshot, options: &'a SearchOptions) -> Result<Search<'a>> {
        snapshot.check()?;
        let schema = &snapshot.view.manifest.schema;
        let field = schema.field_by_id(options.field).filter(|field| field.row_bytes().is_some());
        let field = field.filter(|field| field.data_type.is_vector());
        let field =
            field.ok_or_else(|| Error::unimplemented("searching a field that holds no dense or binary vectors"))?;
        let Queries { dim, metric, values } = &options.queries;
        if *dim == 0 || *dim != field.dim() || !values.count(*dim).1 {
            return Err(Error::invalid(format_args!(
                "query vectors have {dim} dimensions, the field has {}",
                field.dim()
            )));
        }
        let is_comparable = Metric::of_type(field.data_type).contains(metric);
        if !values.fit(field.data_type) || !is_comparable {
            return Err(Error::invalid(format_args!(
                "field {} is a {}: it cannot be searched by {} with such query vectors",
                field.name,
                field.data_type.name(),
                metric.name()
            )));
        }
        Ok(Search { snapshot, field, options })
    }

    /// The number of query vectors.
    pub fn query_count(&self) -> usize {
        self.options.queries.count()
    }

    /// No hits yet, of some queries.
    pub fn no_hits(&self, query_count: usize) -> Vec<TopK> {
        vec![TopK::new(self.options.fetch()); query_count]
    }

    /// The nearest rows of each query.
    ///
    /// # Errors
    /// When the collection is damaged.
    pub fn nearest(&self) -> Result<Vec<TopK>> {
        self.scan(&self.options.queries, self.options.fetch())
    }

    /// Cuts the search into about equal parts.
    pub fn parts(&self, part_count: usize) -> Parts {
        let spans = (0..self.snapshot.file_count()).map(|file| {
            let Some(rows) = self.snapshot.file_rows(file) else { return Span::default() };
            let row_count = self.snapshot.searched_count(&rows, &self.options.selection).unwrap_or(0);
            // Whether the index is used depends on the filter; to cut a file that has one would rule it out.
            let is_whole = index_of(self.snapshot, &rows, self.field.id, &self.options.queries).is_some();
            Span { row_count, is_whole }
        });
        let is_filtered = !self.options.selection.plan.is_match_all();
        Parts::new(spans.collect(), self.query_count(), is_filtered, part_count)
    }

    /// Offers the rows of one part to `tops`, one for each of the part's queries. In whatever parts a search is done, by
    /// whichever processes, the hits are the same: a distance depends on its query and its row alone, and an index is
    /// searched whole.
    ///
    /// # Errors
    /// When the collection is damaged.
    pub fn search_part(&self, part: &Part, tops: &mut [TopK]) -> Result<()> {
        let some = (part.queries.len() < self.query_count()).then(|| self.options.queries.subset(part.queries.clone()));
        let queries = some.as_ref().unwrap_or(&self.options.queries);
        let fetch = self.options.fetch();
        let mut found = vec![TopK::new(fetch); tops.len()];
        for (file, window) in &part.rows {
            self.search_window(*file, window.clone(), queries, fetch, &mut found)?;
            for (found, top) in found.iter_mut().zip(tops.iter_mut()) {
                for hit in std::mem::replace(found, TopK::new(fetch)).into_sorted() {
                    // The window is of rows whose numbers are u32.
                    top.push(Hit { row: hit.row + window.start as u32, ..hit });
                }
            }
        }
        Ok(())
    }

    /// From the nearest rows of each query to the nearest of each key.
    ///
    /// # Errors
    /// When the collection is damaged.
    pub fn finish(&self, nearest: Vec<TopK>) -> Result<Vec<SearchHits>> {
        let mut results = vec![SearchHits::default(); self.query_count()];
        let every_query: Vec<usize> = (0..results.len()).collect();
        let mut fetch = self.options.fetch();
        let fetch_max = self.fetch_max();
        let mut open = self.distinct(nearest, &every_query, fetch, &mut results)?;
        // Rows that share keys, or groups that are full, took places of others. Only such queries are searched again, for
        // more rows.
        while !open.is_empty() && fetch < fetch_max {
            fetch = (fetch.max(16) * 4).min(fetch_max);
            let mut still_open = Vec::new();
            for places in open.chunks((REFETCH_MAX / fetch).max(1)) {
                let tops = self.scan(&self.options.queries.subset(places.iter().copied()), fetch)?;
                still_open.extend(self.distinct(tops, places, fetch, &mut results)?);
            }
            open = still_open;
        }
        Ok(results)
    }

    /// One large group can hide every other one: a grouped search looks at all rows before it gives up.
    fn fetch_max(&self) -> usize {
        match self.options.grouping {
            Some(_) => self.parts(1).row_count().max(FETCH_MAX),
            None => FETCH_MAX,
        }
    }

    /// Searches every file for the `fetch` nearest rows of some queries.
    fn scan(&self, queries: &Queries, fetch: usize) -> Result<Vec<TopK>> {
        let mut tops = vec![TopK::new(fetch); queries.count()];
        for file in 0..self.snapshot.file_count() {
            let Some(rows) = self.snapshot.file_rows(file) else { continue };
            let Some(candidates) = self.snapshot.searched_count(&rows, &self.options.selection) else { continue };
            self.search_window(file, 0..candidates, queries, fetch, &mut tops)?;
        }
        Ok(tops)
    }

    /// Puts the different keys among the `fetch` nearest rows of some queries into `results[places[i]]`, and returns the
    /// places that may be missing some because rows shared keys.
    fn distinct(
        &self,
        tops: Vec<TopK>,
        places: &[usize],
        fetch: usize,
        results: &mut [SearchHits],
    ) -> Result<Vec<usize>> {
        let sources: Vec<FileRows<'_>> =
            (0..self.snapshot.file_count()).filter_map(|file| self.snapshot.file_rows(file)).collect();
        // An index may return fewer rows than there are; what it is asked for in the end makes it a scan.
        let may_miss = self.options.grouping.is_some()
            && sources.iter().any(|rows| index_of(self.snapshot, rows, self.field.id, &self.options.queries).is_some());
        let primary = self.snapshot.view.manifest.schema.primary();
        let key_columns: Vec<Option<ColumnView<'_>>> = sources.iter().map(|rows| rows.column(primary)).collect();
        let mut open = Vec::new();
        for (top, &place) in tops.into_iter().zip(places) {
            let hits = top.into_sorted();
            let is_full = hits.len() == fetch;
            let keys = self.keys_of(&key_columns, &hits)?;
            let (found, is_complete) = match &self.options.grouping {
                Some(grouping) => self.grouped(&sources, hits, &keys, grouping)?,
                None => self.unique(hits, &keys),
            };
            results[place] = found;
            if (is_full || may_miss) && !is_complete {
                open.push(place);
            }
        }
        Ok(open)
    }

    /// Offers the matching rows of a window of one file; hits count rows from the window's start. One strategy per file:
    /// what index a file has decides here how it is searched.
    fn search_window(
        &self,
        file: usize,
        window: Range<usize>,
        queries: &Queries,
        fetch: usize,
        tops: &mut [TopK],
    ) -> Result<()> {
        let (snapshot, selection) = (self.snapshot, &self.options.selection);
        let Some(rows) = snapshot.file_rows(file) else { return Ok(()) };
        // A file older than the field has no vectors.
        let Some(column) = rows.column(self.field) else { return Ok(()) };
        let column = slice_column(column, &window);
        let validity = column.validity;
        let Values::Vector { bytes, row_bytes } = column.values else { return Err(self.contradiction()) };
        if Some(row_bytes) != self.field.row_bytes() {
            return Err(self.contradiction());
        }
        let column = VectorColumn::new(self.field, bytes).ok_or_else(|| self.contradiction())?;
        let Some(matching) = snapshot.matching_window(&rows, selection, window) else { return Ok(()) };
        let candidates = matching.row_count;
        let Some(matching) = with_values(matching, validity) else { return Ok(()) };
        let file_index = u32::try_from(file).map_err(|_| Error::internal("more than 2^32 files in one snapshot"))?;
        let filter = matching.filter.as_deref();
        let range = self.options.range;
        let scan = |queries: &Queries, tops: &mut [TopK]| {
            flat::scan(queries, column, 0..candidates, filter, range, file_index, tops);
        };
        let index = index_of(snapshot, &rows, self.field.id, queries).filter(|index| {
            // An index is searched whole.
            index.header().row_count == candidates as u64
        });
        let (Some(index), VectorColumn::Dense(source)) = (index, column) else {
            scan(queries, tops);
            return Ok(());
        };
        let search = IndexSearch {
            index,
            source,
            queries,
            fetch,
            settings: &self.options.settings,
            filter,
            matching: matching.count,
            range,
            file_index,
        };
        match search.run(tops)? {
            Outcome::Done => {}
            Outcome::Scan => scan(queries, tops),
            Outcome::Short(places) => {
                for place in places {
                    scan(&queries.subset([place]), &mut tops[place..=place]);
                }
            }
        }
        Ok(())
    }

    /// The nearest hit of each key, at most `top_k`, and whether those are all there.
    fn unique(&self, hits: Vec<Hit>, keys: &[Key<'_>]) -> (SearchHits, bool) {
        let mut seen = HashSet::new();
        let mut found = SearchHits::default();
        for (place, hit) in hits.into_iter().enumerate() {
            if found.rows.len() == self.options.top_k {
                break;
            }
            let is_new =
                if keys.len() <= FEW_KEYS { !keys[..place].contains(&keys[place]) } else { seen.insert(keys[place]) };
            if is_new {
                self.add(&mut found, hit);
            }
        }
        let is_complete = found.rows.len() == self.options.top_k;
        (found, is_complete)
    }

    /// The nearest hits of the first `top_k` groups, one per key, and whether those are all there.
    fn grouped(
        &self,
        sources: &[FileRows<'_>],
        hits: Vec<Hit>,
        keys: &[Key<'_>],
        grouping: &Grouping,
    ) -> Result<(SearchHits, bool)> {
        let mut seen: HashSet<Key<'_>> = HashSet::new();
        let mut groups = Groups::new(self.options.top_k, grouping);
        for (hit, key) in hits.into_iter().zip(keys) {
            if groups.is_complete() {
                break;
            }
            if seen.insert(*key) {
                groups.push(grouping.key(&sources[hit.file_index as usize], hit.row as usize)?, hit);
            }
        }
        let is_complete = groups.is_complete();
        let mut found = SearchHits::default();
        for group in groups.into_groups() {
            found.groups.push(found.rows.len());
            group.into_iter().for_each(|hit| self.add(&mut found, hit));
        }
        Ok((found, is_complete))
    }

    /// The keys of hits, all of them before one is looked at: they lie on different pages, whose fetches overlap then.
    fn keys_of<'c>(&self, columns: &[Option<ColumnView<'c>>], hits: &[Hit]) -> Result<Vec<Key<'c>>> {
        let key = |hit: &Hit| {
            let column = columns.get(hit.file_index as usize)?.as_ref()?;
            Key::at(column, hit.row as usize)
        };
        let keys: Option<Vec<Key<'c>>> = hits.iter().map(key).collect();
        keys.ok_or_else(|| self.contradiction())
    }

    fn add(&self, found: &mut SearchHits, hit: Hit) {
        found.rows.push(RowAddress { file: hit.file_index, row: hit.row });
        found.scores.push(hit.score(self.options.queries.metric));
    }

    fn contradiction(&self) -> Error {
        let collection = self.snapshot.view.manifest.collection;
        let message = format!("a file of collection {collection} contradicts its schema at field {}", self.field.name);
        Error::new(ErrorKind::Corrupt, message)
    }
}

/// Takes out rows without a value; `None` when nothing is left.
fn with_values(matching: MatchingRows, validity: Validity<'_>) -> Option<MatchingRows> {
    match validity {
        Validity::All => Some(matching),
        Validity::None => None,
        Validity::Bits { .. } | Validity::Bytes(_) => {
            let MatchingRows { row_count, filter, .. } = matching;
            let mut filter = filter.unwrap_or_else(|| Arc::new(Bitmap::ones(row_count)));
            let bits = Arc::make_mut(&mut filter);
            for row in (0..row_count).filter(|row| !validity.is_valid(*row)) {
                bits.set(row, false);
            }
            let count = bits.count_ones();
            Some(MatchingRows { row_count, filter: Some(filter), count })
        }
    }
}
