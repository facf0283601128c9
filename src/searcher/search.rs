//! Search: from the request to the nearest rows and back.

use super::output_fields::OutputFields;
use super::pages::{self, Pages};
use super::placeholder::{check_query_count, query_values, query_vectors, refuse_type};
use super::search_params::{SearchParams, is_page};
use super::session::{Found, Session};
use crate::config::limits::REPLY_BYTES_MAX;
use crate::filter::Templates;
use crate::index::spec::{IndexKind, IndexSpec, SearchSettings};
use crate::index::{Queries, QueryValues, TopK};
use crate::proto::instants::InstantStyle;
use crate::proto::milvus::search_request::SearchInput;
use crate::proto::milvus::{HybridSearchRequest, SearchRequest, SearchResults};
use crate::proto::rows::{column_into_wire, keys_from_wire, keys_to_wire, templates_from_wire};
use crate::proto::schema::{FieldData, IDs, SearchIteratorV2Results, SearchResultData};
use crate::proto::status::success;
use crate::query::{Grouping, OutputRows, RowAddress, Search, SearchHits, SearchOptions, Selection, newest_rows};
use crate::sys::memory;
use crate::types::{ColumnData, DataType, Error, ErrorKind, FieldSchema, Keys, Metric, Result};

/// A key and a score.
const HIT_BYTES: usize = 12;

/// After searches with more hits than this, free heap goes back to the system: an idle searcher is small.
const HITS_TRIM_MIN: usize = 1 << 18;

/// HybridSearch.
pub(super) fn hybrid_search(_session: &Session<'_>, _request: HybridSearchRequest) -> Result<SearchResults> {
    Err(Error::unimplemented("hybrid search"))
}

/// Search.
pub(super) fn search(session: &Session<'_>, request: SearchRequest) -> Result<SearchResults> {
    session.wait_for(request.guarantee_timestamp)?;
    let found = session.find(&request.db_name, &request.collection_name)?;
    answer(found, request, |found, options, search| {
        let shared = match session.team {
            Some(team) => team.nearest(session, &found.snapshot, options, search)?,
            None => None,
        };
        shared.map_or_else(|| search.nearest(), Ok)
    })
}

/// What a search comes to, once it is checked.
pub(super) struct Prepared {
    params: SearchParams,
    /// What is searched for.
    pub options: SearchOptions<'static>,
    query_count: usize,
}

/// Searches a collection alone.
#[cfg(test)]
pub(super) fn search_found(found: Found, request: SearchRequest) -> Result<SearchResults> {
    answer(found, request, |_, _, search| search.nearest())
}

/// Checks a request and finds what it names. Takes the filter's values and the query vectors out of it.
pub(super) fn prepare(found: &mut Found, request: &mut SearchRequest) -> Result<Prepared> {
    check_known(request)?;
    found.check_loaded("search")?;
    let params = SearchParams::new(&request.search_params)?;
    if params.is_iterator || params.iterator.is_some() {
        found.read_at(request.guarantee_timestamp);
    }
    let zone = found.zone(params.timezone.as_deref())?;
    InstantStyle::new(zone.clone(), params.time_fields.as_deref())?;
    let templates = Templates { zone, ..templates_from_wire(std::mem::take(&mut request.expr_template_values))? };
    let plan = found.plan(&request.dsl, &templates)?;
    found.check_isolation(&plan)?;
    let selection = Selection {
        partitions: found.searched_partitions(&request.partition_names, &plan)?,
        plan,
        ignore_growing: params.ignore_growing,
    };
    let schema = &found.view().manifest.schema;
    OutputFields::new(schema, &request.output_fields)?;
    let field = searched_field(found, params.anns_field.as_deref())?;
    refuse_type(field)?;
    let metric = searched_metric(found, field, params.metric_type.as_deref())?;
    let values = match request.search_input.take() {
        Some(SearchInput::PlaceholderGroup(bytes)) => query_vectors(&bytes, field)?,
        Some(SearchInput::Ids(ids)) => vectors_of_keys(found, field, ids, &selection)?,
        None => return Err(Error::invalid("neither vectors nor ids to search for")),
    };
    let queries = Queries::owned(field.dim(), metric, values);
    let query_count = check_counts(request, &queries)?;
    let grouping = params.group_by.as_ref().map(|group_by| group_by.grouping(schema, field)).transpose()?;
    let options = SearchOptions {
        field: field.id,
        queries,
        top_k: params
            .iterator
            .as_ref()
            .map_or(params.limit + params.offset, |page| pages::hits_at_once(page.batch_size)),
        grouping,
        range: params.range(metric)?,
        settings: settings(&params, index_kind(found, field))?,
        selection,
    };
    check_hits(found, query_count, options.fetch())?;
    Ok(Prepared { params, options, query_count })
}

/// How an index is searched. Pages of an iterator go on where the last one ended: rows that a search missed would never come,
/// so every row is compared, whatever the request says about how thorough a search should be.
fn settings(params: &SearchParams, kind: IndexKind) -> Result<SearchSettings> {
    let settings = SearchSettings::parse(kind, &params.of_index, params.limit + params.offset)?;
    Ok(if params.is_iterator { SearchSettings::exhaustive() } else { settings })
}

/// The kind of a field's index; without one its rows are scanned.
fn index_kind(found: &Found, field: &FieldSchema) -> IndexKind {
    let index = found.view().manifest.indexes.iter().find(|index| index.field == field.id);
    let spec = index.and_then(|index| IndexSpec::parse(field, &index.params).ok());
    spec.map_or(IndexKind::Flat, |spec| spec.kind)
}

/// Searches a collection; `nearest` finds the nearest rows.
fn answer(
    mut found: Found,
    mut request: SearchRequest,
    nearest: impl FnOnce(&Found, &SearchOptions<'_>, &Search<'_>) -> Result<Vec<TopK>>,
) -> Result<SearchResults> {
    let in_common = is_page(&request).then(|| pages::in_common(&request));
    let Prepared { params, options, query_count } = prepare(&mut found, &mut request)?;
    let mut output = OutputFields::new(&found.view().manifest.schema, &request.output_fields)?;
    output.style = InstantStyle::new(found.zone(params.timezone.as_deref())?, params.time_fields.as_deref())?;
    let search = Search::new(&found.snapshot, &options)?;
    let nearest = || nearest(&found, &options, &search);
    let hits = match params.iterator.as_ref().zip(in_common) {
        Some((iterator, in_common)) => {
            let pages = Pages { in_common, iterator, snapshot: &found.snapshot, options: &options };
            vec![pages.next(&search, nearest)?]
        }
        None => search.finish(nearest()?)?,
    };
    let reply = Reply { found: &found, params: &params, output: &output, grouping: options.grouping.as_ref() };
    let results = reply.results(query_count, hits)?;
    if query_count * options.fetch() > HITS_TRIM_MIN {
        memory::give_back();
    }
    Ok(SearchResults {
        status: Some(success()),
        results: Some(results),
        collection_name: found.name.clone(),
        session_ts: found.snapshot.timestamp.0,
    })
}

/// Refuses what would change the result if it were ignored.
fn check_known(request: &SearchRequest) -> Result<()> {
    let has_functions = request.function_score.as_ref().is_some_and(|score| !score.functions.is_empty());
    let unknown = [
        (has_functions, "a search with a function score (rerank, boost, decay)"),
        (request.highlighter.is_some(), "a search with a highlighter"),
        (request.search_aggregation.is_some(), "a search with an aggregation"),
        (!request.function_chains.is_empty(), "a search with function chains"),
        (!request.sub_reqs.is_empty(), "a search with sub-requests"),
    ];
    match unknown.into_iter().find(|(is_present, _)| *is_present) {
        Some((_, what)) => Err(Error::unimplemented(what)),
        None => Ok(()),
    }
}

fn check_counts(request: &SearchRequest, queries: &Queries<'_>) -> Result<usize> {
    let count = queries.count();
    check_query_count(count as i64)?;
    // 0: clients that search by id, or that leave the counting to the server.
    if request.nq != 0 && request.nq != count as i64 {
        check_query_count(request.nq)?;
        let message = format!("queries count ({count}) != nq count ({})", request.nq);
        return Err(Error::new(ErrorKind::Unexpected, message));
    }
    Ok(count)
}

/// Refuses, before anything is scanned, what could not be answered: so the memory of a search is bounded, too.
fn check_hits(found: &Found, query_count: usize, top_k: usize) -> Result<()> {
    let sealed: usize = found.view().manifest.files.iter().map(|file| file.row_count as usize).sum();
    let growing: usize = found.view().growing.iter().map(|chunk| chunk.file.rows_published()).sum();
    let hit_bytes = query_count.saturating_mul(top_k.min(sealed + growing)).saturating_mul(HIT_BYTES);
    if hit_bytes <= REPLY_BYTES_MAX {
        return Ok(());
    }
    Err(Error::invalid(format_args!(
        "{query_count} queries with {top_k} hits each may have {hit_bytes} bytes, a reply holds at most {REPLY_BYTES_MAX}; \
         ask for fewer hits or send fewer queries at once"
    )))
}

fn searched_field<'a>(found: &'a Found, name: Option<&str>) -> Result<&'a FieldSchema> {
    let schema = &found.view().manifest.schema;
    let Some(name) = name else {
        let mut fields = schema.vector_fields();
        return match (fields.next(), fields.next()) {
            (Some(field), None) => Ok(field),
            (None, _) => Err(Error::invalid("the collection has no vector field")),
            _ => Err(Error::invalid("multiple anns_fields exist, please specify a anns_field in search_params")),
        };
    };
    let field = schema.field(name).ok_or_else(|| {
        Error::invalid(format_args!(
            "failed to create query plan: failed to get field schema by name: fieldName({name}) not found"
        ))
    })?;
    if !field.data_type.is_vector() {
        return Err(Error::invalid(format_args!(
            "failed to create query plan: field ({name}) to search is not of vector data type"
        )));
    }
    Ok(field)
}

/// The index's metric; a request that names another is refused, because its scores would mean something else.
fn searched_metric(found: &Found, field: &FieldSchema, requested: Option<&str>) -> Result<Metric> {
    let of_index = found.snapshot.metric(field.id);
    let of_type = Metric::of_type(field.data_type).first().copied().unwrap_or(Metric::Cosine);
    let Some(requested) = requested else { return Ok(of_index.unwrap_or(of_type)) };
    let expected = match (of_index, Metric::from_name(requested)) {
        (Some(of_index), Some(metric)) if of_index == metric => return Ok(metric),
        (None, Some(metric)) if Metric::of_type(field.data_type).contains(&metric) => return Ok(metric),
        (of_index, _) => of_index.unwrap_or(of_type),
    };
    let message = format!(
        "metric type not match: invalid parameter[expected={}][actual={}]",
        expected.name(),
        requested.to_ascii_uppercase()
    );
    Err(Error::new(ErrorKind::InvalidParameter, message))
}

/// The vectors of the rows with these keys, in their order.
fn vectors_of_keys(found: &Found, field: &FieldSchema, ids: IDs, selection: &Selection) -> Result<QueryValues> {
    let keys = keys_from_wire(ids).filter(|keys| !keys.is_empty());
    let keys = keys.ok_or_else(|| Error::invalid("`ids` value [] is illegal: there is nothing to search for"))?;
    check_query_count(keys.len() as i64)?;
    let primary = found.view().manifest.schema.primary();
    let type_name = match (&keys, primary.data_type) {
        (Keys::Int(_), DataType::VarChar) => Some("varchar"),
        (Keys::Text(_), DataType::Int64) => Some("int64"),
        _ => None,
    };
    if let Some(type_name) = type_name {
        return Err(Error::invalid(format_args!("primary key is {type_name}, but IDs type mismatch")));
    }
    check_distinct(&keys)?;
    // Where the keys' rows are does not depend on the partitions that are searched.
    let anywhere = Selection { partitions: Vec::new(), ..selection.clone() };
    let rows = newest_rows(&found.snapshot, &keys, &anywhere)?;
    let missing: Vec<usize> = (0..rows.len()).filter(|index| rows[*index].is_none()).collect();
    if !missing.is_empty() {
        let shown: Vec<String> = missing.iter().take(16).map(|index| key_text(&keys, *index)).collect();
        let message = format!("some of the provided primary key IDs do not exist: missing IDs = [{}]", shown.join(" "));
        return Err(Error::new(ErrorKind::InvalidParameter, message));
    }
    let rows: Vec<RowAddress> = rows.into_iter().flatten().collect();
    let output = OutputRows { snapshot: &found.snapshot, rows: &rows };
    let column = output.columns(&[field])?.pop().ok_or_else(|| Error::internal("one field gave no column"))?;
    if column.validity.is_some() {
        return Err(Error::invalid(format_args!("a row of the given ids has no vector in {}", field.name)));
    }
    match column.data {
        ColumnData::FloatVector(values) => Ok(QueryValues::Dense(values)),
        ColumnData::BytesVector(bytes) => query_values(field, bytes),
        _ => Err(Error::internal("a vector field gave another column")),
    }
}

fn check_distinct(keys: &Keys) -> Result<()> {
    let distinct = match keys {
        Keys::Int(keys) => keys.iter().collect::<std::collections::HashSet<_>>().len(),
        Keys::Text(keys) => keys.iter().collect::<std::collections::HashSet<_>>().len(),
    };
    if distinct < keys.len() { Err(Error::invalid("duplicate IDs found in search request")) } else { Ok(()) }
}

fn key_text(keys: &Keys, index: usize) -> String {
    match keys {
        Keys::Int(keys) => keys[index].to_string(),
        Keys::Text(keys) => keys[index].clone(),
    }
}

/// What the answer is made of.
struct Reply<'a> {
    found: &'a Found,
    params: &'a SearchParams,
    output: &'a OutputFields<'a>,
    grouping: Option<&'a Grouping>,
}

impl Reply<'_> {
    /// All hits end to end: the fields' rows, the ids and the scores in one order.
    fn results(&self, query_count: usize, hits: Vec<SearchHits>) -> Result<SearchResultData> {
        let mut rows = Vec::new();
        let mut scores = Vec::new();
        let mut topks = Vec::with_capacity(query_count);
        for hits in hits {
            let kept = self.skipped(&hits)..hits.rows.len();
            topks.push(kept.len() as i64);
            rows.extend_from_slice(&hits.rows[kept.clone()]);
            scores.extend_from_slice(&hits.scores[kept]);
        }
        let iterator_results = self.iterator_results(scores.last().copied());
        let snapshot = &self.found.snapshot;
        let schema = &self.found.view().manifest.schema;
        let output_rows = OutputRows { snapshot, rows: &rows };
        let keys = output_rows.keys()?;
        let (group_by_field_value, group_by_field_values) = self.group_values(&output_rows)?;
        Ok(SearchResultData {
            num_queries: query_count as i64,
            top_k: topks.iter().copied().max().unwrap_or(0),
            fields_data: self.output.gather(snapshot, &rows)?,
            scores: scores.into_iter().map(|score| self.params.round(score)).collect(),
            ids: Some(keys_to_wire(&keys)),
            topks,
            output_fields: self.output.names.clone(),
            search_iterator_v2_results: iterator_results,
            group_by_field_value,
            group_by_field_values,
            primary_field_name: schema.primary().name.clone(),
            ..Default::default()
        })
    }

    /// Hits before the offset, which counts groups when there are groups.
    fn skipped(&self, hits: &SearchHits) -> usize {
        let offset = self.params.offset;
        match self.grouping {
            Some(_) => hits.groups.get(offset).copied().unwrap_or(hits.rows.len()),
            None => offset.min(hits.rows.len()),
        }
    }

    /// The values that make the groups, one per hit: of one field, or of each of several. Those at a path of JSON are left to
    /// the output fields.
    fn group_values(&self, rows: &OutputRows<'_>) -> Result<(Option<FieldData>, Vec<FieldData>)> {
        let by = self.grouping.map_or(&[][..], |grouping| &grouping.by);
        let fields: Vec<&FieldSchema> = by.iter().filter(|by| by.path.is_none()).map(|by| &by.field).collect();
        let columns = rows.columns(&fields)?;
        let wire = |(field, column)| column_into_wire(field, column, &self.output.style);
        let mut values: Vec<FieldData> = fields.into_iter().zip(columns).map(wire).collect();
        Ok(if by.len() > 1 { (None, values) } else { (values.pop(), Vec::new()) })
    }

    fn iterator_results(&self, last_score: Option<f32>) -> Option<SearchIteratorV2Results> {
        let iterator = self.params.iterator.as_ref()?;
        Some(SearchIteratorV2Results {
            token: iterator.token.clone().unwrap_or_else(|| token(self.found.snapshot.timestamp.0)),
            last_bound: last_score.or(iterator.last_bound).unwrap_or(0.0),
        })
    }
}

/// A name for an iterator, of a UUID's shape. Nothing is kept under it.
fn token(timestamp: u64) -> String {
    let (time, pid) = (timestamp.to_be_bytes(), std::process::id());
    let [a, b, c, d, e, f, g, h] = time;
    format!("{a:02x}{b:02x}{c:02x}{d:02x}-{e:02x}{f:02x}-4{:03x}-8{:03x}-{:04x}{pid:08x}", g, h, timestamp as u16)
}
