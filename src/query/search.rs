//! Search: the k nearest rows of each query vector, over all files of a snapshot.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::columns::FileColumns;
use super::group::{Grouping, Groups};
use super::indexed::{IndexSearch, Outcome, index_of};
use super::key::Key;
use super::parts::{Part, Parts, Span};
use super::snapshot::{FileRows, MatchingRows, RowAddress, Selection, Snapshot, slice_column};
use crate::config::limits::TOP_K_MAX;
use crate::index::flat::{self, DistanceRange};
use crate::index::spec::SearchSettings;
use crate::index::{Hit, IndexFile, Queries, TopK, VectorColumn};
use crate::types::{Bitmap, Error, ErrorKind, FieldId, FieldSchema, Metric, Result, Validity, Values};

/// So many keys are compared one with another sooner than they are hashed.
const FEW_KEYS: usize = 32;
/// How many hits are looked at for one query, at most, to find `top_k` different keys among rows that share keys.
const FETCH_MAX: usize = 8 * TOP_K_MAX;
/// How many hits are collected at once, over all queries, when a search fetches again: 48 MB.
const REFETCH_MAX: usize = 4 << 20;
/// Memory for so many hits, over all queries, is kept from one search of a thread to the next: 200 KB.
const KEPT_HITS_MAX: usize = 8 << 10;

thread_local! {
    /// Grows to what small searches take and stays: they allocate what they hand out, and no more.
    static TOPS: RefCell<Vec<TopK>> = const { RefCell::new(Vec::new()) };
}

/// One search.
#[derive(Clone, Debug)]
pub struct SearchOptions<'q> {
    /// The vector field.
    pub field: FieldId,
    /// Query vectors and metric.
    pub queries: Queries<'q>,
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

impl SearchOptions<'_> {
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
pub fn search(snapshot: &Snapshot, options: &SearchOptions<'_>) -> Result<Vec<SearchHits>> {
    let search = Search::new(snapshot, options)?;
    let nearest = search.nearest()?;
    search.finish(nearest)
}

/// A search that was checked: the nearest rows are found, in one go or in [`Parts`] by several processes, then finished.
#[derive(Debug)]
pub struct Search<'a> {
    snapshot: &'a Snapshot,
    field: &'a FieldSchema,
    /// Bytes of a vector.
    row_bytes: usize,
    options: &'a SearchOptions<'a>,
}

impl<'a> Search<'a> {
    /// Checks a search.
    ///
    /// # Errors
    /// Those of [`search`].
    pub fn new(snapshot: &'a Snapshot, options: &'a SearchOptions<'a>) -> Result<Search<'a>> {
        snapshot.check()?;
        let schema = &snapshot.view.manifest.schema;
        let field = schema.field_by_id(options.field).filter(|field| field.data_type.is_vector());
        // The dimension lies in a text: it is read once.
        let dim = field.map_or(0, FieldSchema::dim);
        let row_bytes = field.and_then(|field| field.data_type.row_bytes(dim));
        let (field, row_bytes) = field
            .zip(row_bytes)
            .ok_or_else(|| Error::unimplemented("searching a field that holds no dense or binary vectors"))?;
        let Queries { dim: of_queries, metric, values } = &options.queries;
        if dim == 0 || *of_queries != dim || !values.count(dim).1 {
            return Err(Error::invalid(format_args!(
                "query vectors have {of_queries} dimensions, the field has {dim}"
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
        Ok(Search { snapshot, field, row_bytes, options })
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
            let is_whole = self.index_of(&rows).is_some();
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
    pub fn finish(&self, mut nearest: Vec<TopK>) -> Result<Vec<SearchHits>> {
        let mut results = vec![SearchHits::default(); self.query_count()];
        let mut fetch = self.options.fetch();
        let fetch_max = self.fetch_max();
        let mut open = self.distinct(&mut nearest, 0..self.query_count(), fetch, &mut results)?;
        give_back(nearest, fetch);
        // Rows that share keys, or groups that are full, took places of others. Only such queries are searched again, for
        // more rows.
        while !open.is_empty() && fetch < fetch_max {
            fetch = (fetch.max(16) * 4).min(fetch_max);
            let mut still_open = Vec::new();
            for places in open.chunks((REFETCH_MAX / fetch).max(1)) {
                let places = places.iter().copied();
                let mut tops = self.scan(&self.options.queries.subset(places.clone()), fetch)?;
                still_open.extend(self.distinct(&mut tops, places, fetch, &mut results)?);
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
    fn scan(&self, queries: &Queries<'_>, fetch: usize) -> Result<Vec<TopK>> {
        let mut tops = no_hits(queries.count(), fetch);
        for file in 0..self.snapshot.file_count() {
            let Some(rows) = self.snapshot.file_rows(file) else { continue };
            let Some(candidates) = self.snapshot.searched_count(&rows, &self.options.selection) else { continue };
            self.search_window(file, 0..candidates, queries, fetch, &mut tops)?;
        }
        Ok(tops)
    }

    /// Puts the different keys among the `fetch` nearest rows of some queries into `results[place]`, and returns the places
    /// that may be missing some because rows shared keys.
    fn distinct(
        &self,
        tops: &mut [TopK],
        places: impl Iterator<Item = usize>,
        fetch: usize,
        results: &mut [SearchHits],
    ) -> Result<Vec<usize>> {
        let mut columns = FileColumns::new(self.snapshot, self.snapshot.view.manifest.schema.primary());
        let (mut few, mut many) = ([Key::Int(0); FEW_KEYS], Vec::new());
        // An index may return fewer rows than there are; what it is asked for in the end makes it a scan.
        let may_miss = self.options.grouping.is_some() && self.has_index();
        let mut open = Vec::new();
        for (top, place) in tops.iter_mut().zip(places) {
            let hits = top.sort();
            let keys = match few.get_mut(..hits.len()) {
                Some(keys) => keys,
                None => {
                    many.resize(hits.len(), Key::Int(0));
                    &mut many[..]
                }
            };
            self.read_keys(&mut columns, hits, keys)?;
            let (found, is_complete) = match &self.options.grouping {
                Some(grouping) => self.grouped(hits, keys, grouping)?,
                None => self.unique(hits, keys),
            };
            results[place] = found;
            if (hits.len() == fetch || may_miss) && !is_complete {
                open.push(place);
            }
        }
        Ok(open)
    }

    /// Whether a file has an index that the search can use.
    fn has_index(&self) -> bool {
        let mut files = (0..self.snapshot.file_count()).filter_map(|file| self.snapshot.file_rows(file));
        files.any(|rows| self.index_of(&rows).is_some())
    }

    /// The index that a file is searched by, if that is less work than a scan.
    fn index_of<'f>(&self, rows: &FileRows<'f>) -> Option<&'f IndexFile> {
        let index = index_of(self.snapshot, rows, self.field.id, &self.options.queries)?;
        let is_of_use = !self.options.settings.is_exhaustive || !index.header().spec.is_refined();
        is_of_use.then_some(index)
    }

    /// Offers the matching rows of a window of one file; hits count rows from the window's start. One strategy per file:
    /// what index a file has decides here how it is searched.
    fn search_window(
        &self,
        file: usize,
        window: Range<usize>,
        queries: &Queries<'_>,
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
        if row_bytes != self.row_bytes {
            return Err(self.contradiction());
        }
        let column = VectorColumn::of_type(self.field.data_type, queries.dim, bytes);
        let column = column.ok_or_else(|| self.contradiction())?;
        let Some(matching) = snapshot.matching_window(&rows, selection, window) else { return Ok(()) };
        let candidates = matching.row_count;
        let Some(matching) = with_values(matching, validity) else { return Ok(()) };
        let file_index = u32::try_from(file).map_err(|_| Error::internal("more than 2^32 files in one snapshot"))?;
        let filter = matching.filter.as_deref();
        let range = self.options.range;
        let scan = |queries: &Queries<'_>, tops: &mut [TopK]| {
            flat::scan(queries, column, 0..candidates, filter, range, file_index, tops);
        };
        let index = self.index_of(&rows).filter(|index| {
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
    fn unique(&self, hits: &[Hit], keys: &[Key<'_>]) -> (SearchHits, bool) {
        if hits.len() <= self.options.top_k && are_other_integers(keys) {
            let rows = hits.iter().map(|hit| RowAddress { file: hit.file_index, row: hit.row }).collect();
            let scores = hits.iter().map(|hit| hit.score(self.options.queries.metric)).collect();
            return (SearchHits { rows, scores, groups: Vec::new() }, hits.len() == self.options.top_k);
        }
        let mut seen = HashSet::new();
        let count = hits.len().min(self.options.top_k);
        let mut found =
            SearchHits { rows: Vec::with_capacity(count), scores: Vec::with_capacity(count), ..Default::default() };
        for (place, hit) in hits.iter().enumerate() {
            if found.rows.len() == self.options.top_k {
                break;
            }
            let is_new =
                if keys.len() <= FEW_KEYS { !keys[..place].contains(&keys[place]) } else { seen.insert(keys[place]) };
            if is_new {
                self.add(&mut found, *hit);
            }
        }
        let is_complete = found.rows.len() == self.options.top_k;
        (found, is_complete)
    }

    /// The nearest hits of the first `top_k` groups, one per key, and whether those are all there.
    fn grouped(&self, hits: &[Hit], keys: &[Key<'_>], grouping: &Grouping) -> Result<(SearchHits, bool)> {
        let sources: Vec<FileRows<'_>> =
            (0..self.snapshot.file_count()).filter_map(|file| self.snapshot.file_rows(file)).collect();
        let mut seen: HashSet<Key<'_>> = HashSet::new();
        let mut groups = Groups::new(self.options.top_k, grouping);
        for (hit, key) in hits.iter().zip(keys) {
            if groups.is_complete() {
                break;
            }
            if seen.insert(*key) {
                groups.push(grouping.key(&sources[hit.file_index as usize], hit.row as usize)?, *hit);
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

    /// Reads the keys of hits, all of them before one is looked at: they lie on different pages, whose fetches overlap then.
    fn read_keys<'c>(&self, columns: &mut FileColumns<'c>, hits: &[Hit], keys: &mut [Key<'c>]) -> Result<()> {
        columns.look_up(hits.iter().map(|hit| hit.file_index));
        for (hit, key) in hits.iter().zip(keys) {
            let column = columns.get(hit.file_index);
            let found = column.and_then(|column| Key::at(column, hit.row as usize));
            *key = found.ok_or_else(|| self.contradiction())?;
        }
        Ok(())
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

/// Whether keys are few integers, each another, as those of most searches are.
fn are_other_integers(keys: &[Key<'_>]) -> bool {
    let mut integers = [0; FEW_KEYS];
    keys.iter().enumerate().all(|(place, key)| match (key, integers.get_mut(..=place)) {
        (Key::Int(key), Some([before @ .., last])) => {
            *last = *key;
            !before.contains(key)
        }
        _ => false,
    })
}

/// No hits yet of some queries, in memory of a search before.
fn no_hits(query_count: usize, fetch: usize) -> Vec<TopK> {
    let mut tops = TOPS.take();
    tops.resize_with(query_count, TopK::default);
    tops.iter_mut().for_each(|top| top.begin(fetch));
    tops
}

/// Keeps memory for the next search, unless it is much.
fn give_back(tops: Vec<TopK>, fetch: usize) {
    if tops.len().saturating_mul(fetch.max(FEW_KEYS)) <= KEPT_HITS_MAX {
        TOPS.set(tops);
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
