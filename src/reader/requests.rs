//! Search, query and count by names, with native options: what a program that attaches uses.

use super::Reader;
use crate::filter::{Plan, Templates};
use crate::index::flat::DistanceRange;
use crate::index::spec::SearchSettings;
use crate::index::{Queries, QueryValues};
use crate::query::{self, OutputRows, RetrieveOptions, RowAddress, SearchOptions, Selection, Snapshot};
use crate::types::{CollectionSchema, Column, Error, ErrorKind, FieldSchema, Keys, Metric, PartitionId, Result};

/// A search by names. Make it with [`SearchRequest::new`] and set what differs.
#[derive(Clone, Debug, Default)]
pub struct SearchRequest {
    /// The vector field; may be empty when the collection has only one.
    pub field: String,
    /// Query vectors end to end: a value per dimension of float and int8 vectors, a byte per eight of binary ones.
    pub vectors: QueryValues,
    /// Hits per query vector.
    pub top_k: usize,
    /// Which rows, in the filter language; empty = all.
    pub filter: String,
    /// Only these partitions; empty = all.
    pub partitions: Vec<String>,
    /// Fields to return with each hit.
    pub output_fields: Vec<String>,
    /// The metric; the one of the field's index when `None`.
    pub metric: Option<Metric>,
    /// Only hits of these distances.
    pub range: Option<DistanceRange>,
    /// How thoroughly indexes are searched.
    pub settings: SearchSettings,
}

impl SearchRequest {
    /// The `top_k` nearest rows of each vector.
    pub fn new(vectors: impl Into<QueryValues>, top_k: usize) -> SearchRequest {
        SearchRequest { vectors: vectors.into(), top_k, ..SearchRequest::default() }
    }
}

/// A query by names.
#[derive(Clone, Debug, Default)]
pub struct QueryRequest {
    /// Which rows, in the filter language; empty = all.
    pub filter: String,
    /// Only these partitions; empty = all.
    pub partitions: Vec<String>,
    /// Fields to return.
    pub output_fields: Vec<String>,
    /// Rows to skip.
    pub offset: usize,
    /// Most rows to return; `None` = all.
    pub limit: Option<usize>,
}

/// The hits of one query vector, nearest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Hits {
    /// Primary keys.
    pub keys: Keys,
    /// Squared L2 distance, inner product, cosine, Hamming or Jaccard distance.
    pub scores: Vec<f32>,
    /// One per output field, in the order asked.
    pub columns: Vec<Column>,
}

/// Found rows, ascending by primary key.
#[derive(Clone, Debug, PartialEq)]
pub struct Rows {
    /// Primary keys.
    pub keys: Keys,
    /// One per output field, in the order asked.
    pub columns: Vec<Column>,
}

impl Reader {
    /// Searches a collection; one [`Hits`] per query vector.
    ///
    /// # Errors
    /// When the collection does not exist or is not loaded; when a name, the filter or a dimension is wrong.
    pub fn search(&self, database: &str, collection: &str, request: &SearchRequest) -> Result<Vec<Hits>> {
        let snapshot = self.loaded(database, collection)?;
        let schema = &snapshot.view.manifest.schema;
        let field = vector_field(schema, &request.field)?;
        let of_type = || Metric::of_type(field.data_type).first().copied();
        let dim = field.dim();
        let metric = request.metric.or_else(|| snapshot.metric(field.id)).or_else(of_type).unwrap_or(Metric::Cosine);
        let options = SearchOptions {
            field: field.id,
            queries: Queries::borrowed(dim, metric, &request.vectors),
            top_k: request.top_k,
            grouping: None,
            range: request.range,
            settings: request.settings.clone(),
            selection: selection(&snapshot, &request.filter, &request.partitions)?,
        };
        if !request.vectors.count(dim).1 {
            let counts = (request.vectors.byte_len(), dim);
            return Err(Error::invalid(format_args!("{} bytes are no vectors of dimension {}", counts.0, counts.1)));
        }
        let found = query::search(&snapshot, &options)?;
        let fields = output_fields(schema, &request.output_fields)?;
        let hits = found.into_iter().map(|hits| {
            let rows = gather(&snapshot, &hits.rows, &fields)?;
            Ok(Hits { keys: rows.keys, scores: hits.scores, columns: rows.columns })
        });
        hits.collect()
    }

    /// Finds rows by a filter.
    ///
    /// # Errors
    /// As [`Reader::search`].
    pub fn query(&self, database: &str, collection: &str, request: &QueryRequest) -> Result<Rows> {
        let snapshot = self.loaded(database, collection)?;
        let selection = selection(&snapshot, &request.filter, &request.partitions)?;
        let options = RetrieveOptions { selection, offset: request.offset, limit: request.limit };
        let found = query::retrieve(&snapshot, &options)?;
        let fields = output_fields(&snapshot.view.manifest.schema, &request.output_fields)?;
        gather(&snapshot, &found.rows, &fields)
    }

    /// Counts rows that match a filter.
    ///
    /// # Errors
    /// As [`Reader::search`].
    pub fn count(&self, database: &str, collection: &str, filter: &str) -> Result<u64> {
        let snapshot = self.loaded(database, collection)?;
        query::count(&snapshot, &selection(&snapshot, filter, &[])?)
    }

    fn loaded(&self, database: &str, collection: &str) -> Result<Snapshot> {
        let snapshot = self.snapshot(database, collection)?;
        if !snapshot.view.manifest.is_loaded {
            let message = format!("collection not loaded[collection={collection}]");
            return Err(Error::new(ErrorKind::CollectionNotLoaded, message));
        }
        Ok(snapshot)
    }
}

fn vector_field<'a>(schema: &'a CollectionSchema, name: &str) -> Result<&'a FieldSchema> {
    let mut fields = schema.vector_fields().filter(|field| name.is_empty() || field.name == name);
    match (fields.next(), fields.next()) {
        (Some(field), None) => Ok(field),
        (Some(_), Some(_)) => Err(Error::invalid("the collection has several vector fields: name one")),
        (None, _) => Err(Error::new(ErrorKind::FieldNotFound, format!("field not found[field={name}]"))),
    }
}

fn selection(snapshot: &Snapshot, filter: &str, partitions: &[String]) -> Result<Selection> {
    let plan = Plan::new(filter, &snapshot.view.manifest.schema, &Templates::default())
        .map_err(|error| error.to_error(filter))?;
    let partitions: Result<Vec<PartitionId>> = partitions
        .iter()
        .map(|name| {
            let message = || format!("partition not found[partition={name}]");
            snapshot.view.partition(name).ok_or_else(|| Error::new(ErrorKind::PartitionNotFound, message()))
        })
        .collect();
    Ok(Selection { plan, partitions: partitions?, ignore_growing: false })
}

fn output_fields<'a>(schema: &'a CollectionSchema, names: &[String]) -> Result<Vec<&'a FieldSchema>> {
    let field = |name: &String| {
        let message = || format!("field not found[field={name}]");
        schema.field(name).ok_or_else(|| Error::new(ErrorKind::FieldNotFound, message()))
    };
    names.iter().map(field).collect()
}

fn gather(snapshot: &Snapshot, rows: &[RowAddress], fields: &[&FieldSchema]) -> Result<Rows> {
    let output = OutputRows { snapshot, rows };
    Ok(Rows { keys: output.keys()?, columns: output.columns(fields)? })
}
