//! Operations on rows: which rows, and which partitions they go to.

use std::collections::BTreeMap;

use prost::Message;

use super::operation::undecodable;
use super::state::Collection;
use crate::config::limits::{ARRAY_CAPACITY_MAX, VARCHAR_BYTES_MAX};
use crate::format::log_record::RecordKind;
use crate::proto::rows::{self, RowOptions};
use crate::proto::{milvus, schema};
use crate::types::{
    Batch, CollectionId, CollectionSchema, Error, ErrorKind, Keys, PartitionId, Result, partition_places,
};

/// Where the rows of an operation go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// All to one partition.
    Partition(PartitionId),
    /// Each to one of these, by the value of its partition key.
    ByKey(Vec<PartitionId>),
}

/// What a log record says in place of a partition when rows go by their partition key.
const BY_KEY: PartitionId = PartitionId(0);

impl Destination {
    /// Where rows of a request go. An empty name is the default partition.
    ///
    /// # Errors
    /// When there is no such partition, or rows go by key and the request names a partition.
    pub fn new(collection: &Collection, partition_name: &str) -> Result<Destination> {
        if collection.schema.partition_key().is_none() {
            return Ok(Destination::Partition(collection.partition(partition_name)?.id));
        }
        if partition_name.is_empty() {
            return Ok(Destination::by_key(collection));
        }
        Err(named_with_partition_key())
    }

    /// Where rows of a log record went; `None` when that partition was dropped.
    pub fn of_record(collection: &Collection, partition: PartitionId) -> Option<Destination> {
        match partition {
            BY_KEY => Some(Destination::by_key(collection)),
            _ => collection.partition_by_id(partition).map(|partition| Destination::Partition(partition.id)),
        }
    }

    fn by_key(collection: &Collection) -> Destination {
        Destination::ByKey(collection.record.partitions.iter().map(|partition| partition.id).collect())
    }

    /// The partition to look for rows in; `None` = all of them, since a row's key may be another now.
    pub fn partition(&self) -> Option<PartitionId> {
        match self {
            Destination::Partition(partition) => Some(*partition),
            Destination::ByKey(_) => None,
        }
    }

    /// The partition as log records say it.
    pub fn in_record(&self) -> PartitionId {
        self.partition().unwrap_or(BY_KEY)
    }
}

/// Milvus' error for a partition that is named although rows go by their partition key.
pub fn named_with_partition_key() -> Error {
    Error::new(
        ErrorKind::InvalidParameter,
        "not support manually specifying the partition names if partition key mode is used",
    )
}

/// Rows for one partition.
#[derive(Debug)]
pub struct RowsPart {
    /// Where to.
    pub partition: PartitionId,
    /// The rows.
    pub batch: Batch,
    /// The rows' keys.
    pub keys: Keys,
}

/// Rows to insert or to put in the place of others.
#[derive(Debug)]
pub struct RowsOperation {
    /// Insert or upsert.
    pub kind: RecordKind,
    /// Where to.
    pub collection: CollectionId,
    /// Where to.
    pub destination: Destination,
    /// The schema the rows were made for.
    pub schema_version: u32,
    /// The rows by partition, each partition at most once.
    pub parts: Vec<RowsPart>,
    /// All keys in the order of the request; `None` when the rows are one part.
    pub keys: Option<Keys>,
    /// Keys whose rows die first (upsert).
    pub replaced: Option<Keys>,
    /// The first automatic id; 0 when keys are the client's.
    pub first_id: i64,
    /// What the log gets instead of the request's own bytes, when those mean the same only together with something that
    /// may change.
    pub payload: Option<Vec<u8>>,
}

impl RowsOperation {
    /// All keys in the order of the request, of one part or of several.
    pub fn all_keys(&self) -> Option<&Keys> {
        self.keys.as_ref().or_else(|| self.parts.first().map(|part| &part.keys))
    }

    /// Rows of all parts.
    pub fn row_count(&self) -> usize {
        self.parts.iter().map(|part| part.batch.row_count).sum()
    }
}

/// The rows of a request or of a log record, without where they go.
#[derive(Debug)]
pub struct DecodedRows {
    kind: RecordKind,
    batch: Batch,
    keys: Keys,
    replaced: Option<Keys>,
}

impl DecodedRows {
    /// The rows of an insert.
    ///
    /// # Errors
    /// With Milvus' texts.
    pub fn of_insert(schema: &CollectionSchema, request: milvus::InsertRequest, first_id: i64) -> Result<DecodedRows> {
        let options = row_options(false, first_id);
        let batch = rows::batch_from_wire(schema, request.fields_data, request.num_rows, options)?;
        let keys = rows::batch_keys(schema, &batch);
        Ok(DecodedRows { kind: RecordKind::Insert, batch, keys, replaced: None })
    }

    /// The rows of an upsert of whole rows.
    ///
    /// # Errors
    /// With Milvus' texts.
    pub fn of_upsert(schema: &CollectionSchema, request: milvus::UpsertRequest, first_id: i64) -> Result<DecodedRows> {
        let options = row_options(true, first_id);
        // With automatic ids the given keys name the rows to replace, and the new rows get new ids.
        let given = schema.primary().auto_id.then(|| given_keys(schema, &request.fields_data)).flatten();
        if let Some(given) = &given {
            rows::check_distinct(given)?;
        }
        let batch = rows::batch_from_wire(schema, request.fields_data, request.num_rows, options)?;
        let keys = rows::batch_keys(schema, &batch);
        let replaced = given.unwrap_or_else(|| keys.clone());
        Ok(DecodedRows { kind: RecordKind::Upsert, batch, keys, replaced: Some(replaced) })
    }

    /// The rows of a log record, exactly as they were made when it was written.
    ///
    /// # Errors
    /// When the payload is not what its kind says.
    pub fn of_record(
        schema: &CollectionSchema,
        kind: RecordKind,
        payload: &[u8],
        first_id: i64,
    ) -> Result<DecodedRows> {
        let schema = &without_size_limits(schema);
        match kind {
            RecordKind::Upsert => {
                DecodedRows::of_upsert(schema, milvus::UpsertRequest::decode(payload).map_err(undecodable)?, first_id)
            }
            _ => DecodedRows::of_insert(schema, milvus::InsertRequest::decode(payload).map_err(undecodable)?, first_id),
        }
    }

    /// An operation of these rows.
    ///
    /// # Errors
    /// When rows go by key and there is none: a bug, or a damaged log record.
    pub fn into_operation(
        self,
        collection: CollectionId,
        destination: Destination,
        schema: &CollectionSchema,
        first_id: i64,
    ) -> Result<RowsOperation> {
        let DecodedRows { kind, batch, keys, replaced } = self;
        let (parts, keys) = match &destination {
            Destination::Partition(partition) => (vec![RowsPart { partition: *partition, batch, keys }], None),
            Destination::ByKey(partitions) => (split(schema, &batch, &keys, partitions)?, Some(keys)),
        };
        let schema_version = schema.version;
        let payload = None;
        Ok(RowsOperation { kind, collection, destination, schema_version, parts, keys, replaced, first_id, payload })
    }
}

/// Sizes were checked when the record was written; the limits may have been lowered since.
fn without_size_limits(schema: &CollectionSchema) -> CollectionSchema {
    let mut schema = schema.clone();
    for (key, value) in schema.fields.iter_mut().flat_map(|field| &mut field.type_params) {
        match key.as_str() {
            "max_length" => *value = VARCHAR_BYTES_MAX.to_string(),
            "max_capacity" => *value = ARRAY_CAPACITY_MAX.to_string(),
            _ => {}
        }
    }
    schema
}

/// How rows are taken. Without a first id the keys are the client's: also when the log is replayed, after
/// `allow_insert_auto_id` may have been changed.
fn row_options(is_upsert: bool, first_id: i64) -> RowOptions {
    RowOptions { is_upsert, takes_keys: first_id == 0, first_id }
}

/// Rows by the partition of their partition key, in the order of the request within each.
fn split(schema: &CollectionSchema, batch: &Batch, keys: &Keys, partitions: &[PartitionId]) -> Result<Vec<RowsPart>> {
    let no_key = || Error::internal("rows go by a partition key that the collection does not have");
    let field = schema.partition_key().ok_or_else(no_key)?;
    let partition_keys = rows::batch_keys_of(batch, field.id).ok_or_else(no_key)?;
    let mut by_place: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (row, place) in partition_places(&partition_keys, partitions.len()).into_iter().enumerate() {
        by_place.entry(place).or_default().push(row);
    }
    let part = |(place, rows): (usize, Vec<usize>)| {
        let partition = *partitions.get(place).ok_or_else(no_key)?;
        Ok(RowsPart { partition, batch: batch.select(&rows), keys: keys.select(&rows) })
    };
    by_place.into_iter().map(part).collect()
}

/// The values a request carries for the primary field.
pub fn given_keys(schema: &CollectionSchema, fields: &[schema::FieldData]) -> Option<Keys> {
    use schema::field_data::Field;
    use schema::scalar_field::Data;
    let primary = schema.primary();
    let field = fields.iter().find(|field| field.field_name == primary.name)?;
    let Some(Field::Scalars(scalars)) = &field.field else { return None };
    match scalars.data.as_ref()? {
        Data::LongData(values) => Some(Keys::Int(values.data.clone())),
        Data::StringData(values) => Some(Keys::Text(values.data.clone())),
        _ => None,
    }
}
