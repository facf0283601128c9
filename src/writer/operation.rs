//! Requests as the commit thread takes them: decoded and checked in parallel by the decode workers.

use prost::Message;

use super::engine::Engine;
use super::lock;
use super::resolve::{self, FoundKeys};
use super::state::Collection;
use crate::config::limits::{ARRAY_CAPACITY_MAX, VARCHAR_BYTES_MAX};
use crate::filter::{Plan, Templates};
use crate::format::log_record::RecordKind;
use crate::ipc::method::Method;
use crate::ipc::pool::{Claim, RequestHeader};
use crate::proto::instants::resolve;
use crate::proto::rows::{self, RowOptions};
use crate::proto::{milvus, schema, status};
use crate::types::{Batch, CollectionId, CollectionSchema, Error, ErrorKind, Keys, PartitionId, Result, Zone};

/// Whoever waits for an answer.
pub trait Caller: Send {
    /// Method and database; `None` when the request makes no sense.
    fn header(&self) -> Option<RequestHeader>;
    /// The request's bytes; they stay until the answer.
    fn body(&self) -> &[u8];
    /// Answers.
    fn reply(self: Box<Self>, reply: &[u8]);
}

impl Caller for Claim<'static> {
    fn header(&self) -> Option<RequestHeader> {
        Claim::header(self)
    }

    fn body(&self) -> &[u8] {
        Claim::body(self)
    }

    fn reply(self: Box<Self>, reply: &[u8]) {
        // A client that gave up is no error: the operation is done all the same.
        Claim::reply(*self, reply);
    }
}

/// Rows to insert or to put in the place of others.
#[derive(Debug)]
pub struct RowsOperation {
    /// Insert or upsert.
    pub kind: RecordKind,
    /// Where to.
    pub collection: CollectionId,
    /// Where to.
    pub partition: PartitionId,
    /// The schema the batch was made for.
    pub schema_version: u32,
    /// The rows.
    pub batch: Batch,
    /// The rows' keys.
    pub keys: Keys,
    /// Keys whose rows die first (upsert), in `partition`: without a partition key, Milvus replaces within the partition
    /// that is named, and a key may live in several.
    pub replaced: Option<Keys>,
    /// The first automatic id; 0 when keys are the client's.
    pub first_id: i64,
    /// What the log gets instead of the request's own bytes, when those mean the same only together with something that
    /// may change.
    pub payload: Option<Vec<u8>>,
}

/// Rows to delete.
#[derive(Debug)]
pub struct DeleteOperation {
    /// Where.
    pub collection: CollectionId,
    /// Where; `None` = every partition.
    pub partition: Option<PartitionId>,
    /// Which.
    pub plan: Plan,
    /// What the plan matched when a decode worker looked; `None` when the plan itself names the keys.
    pub found: Option<FoundKeys>,
}

/// What to do.
#[derive(Debug)]
pub enum Action {
    /// Insert, upsert.
    Rows(RowsOperation),
    /// Delete.
    Delete(DeleteOperation),
    /// Everything else: executed between groups.
    Other,
}

/// A request and whoever waits for its answer.
pub struct Operation {
    /// Who waits.
    pub caller: Box<dyn Caller>,
    /// The method.
    pub method: Method,
    /// The database it is for, unless the request itself names one.
    pub database: String,
    /// What to do.
    pub action: Action,
}

/// Decodes a request; a wrong one is answered at once.
pub fn decode(engine: &Engine, caller: Box<dyn Caller>) -> Option<Operation> {
    let Some(header) = caller.header() else {
        // The slot's words make no sense: dropping the claim fails the request.
        return None;
    };
    let database = if header.database.is_empty() { "default".to_owned() } else { header.database };
    let action = match header.method {
        Method::Insert => decode_insert(engine, &database, caller.body()).map(Action::Rows),
        Method::Upsert => decode_upsert(engine, &database, caller.body()).map(Action::Rows),
        Method::Delete => decode_delete(engine, &database, caller.body()).map(Action::Delete),
        _ => Ok(Action::Other),
    };
    match action {
        Ok(action) => Some(Operation { caller, method: header.method, database, action }),
        Err(error) => {
            engine.count(crate::ipc::progress::Gauge::RequestErrors, 1);
            caller.reply(&error_reply(header.method, &error));
            None
        }
    }
}

/// The database of a request: its own field before the call's metadata.
pub fn database_of<'a>(in_request: &'a str, of_call: &'a str) -> &'a str {
    if in_request.is_empty() { of_call } else { in_request }
}

/// A body that is no such message.
pub fn undecodable(error: prost::DecodeError) -> Error {
    Error::invalid(format_args!("the request cannot be decoded: {error}"))
}

/// Where rows go, as resolved under the state lock.
struct Target {
    collection: CollectionId,
    partition: PartitionId,
    schema: std::sync::Arc<CollectionSchema>,
    /// Of timestamps without an offset.
    zone: Zone,
    /// Keys may be given although ids are automatic.
    takes_keys: bool,
}

fn target(engine: &Engine, database: &str, name: &str, partition: &str, schema_timestamp: u64) -> Result<Target> {
    let mut state = lock(&engine.state);
    let id = state.resolve(database, name)?;
    let collection = state.collection(id)?;
    check_schema_timestamp(collection, schema_timestamp)?;
    let partition = collection.partition(partition)?.id;
    let zone = collection.record.zone();
    let takes_keys =
        collection.record.property("allow_insert_auto_id").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    Ok(Target { collection: id, partition, schema: collection.schema.clone(), zone, takes_keys })
}

fn check_schema_timestamp(collection: &Collection, schema_timestamp: u64) -> Result<()> {
    let updated = collection.record.updated.0;
    if schema_timestamp == 0 || schema_timestamp == updated {
        return Ok(());
    }
    let name = &collection.record.name;
    let message =
        format!("collection schema mismatch[collection={name}][expected={updated}][actual={schema_timestamp}]");
    Err(Error::new(ErrorKind::SchemaMismatch, message))
}

impl Target {
    /// The first of as many automatic ids as there are rows; 0 when the client's keys are taken.
    fn first_id(&self, engine: &Engine, fields: &[schema::FieldData], row_count: u32) -> Result<i64> {
        let primary = self.schema.primary();
        let is_given = || fields.iter().any(|field| field.field_name == primary.name);
        if !primary.auto_id || self.takes_keys && is_given() {
            return Ok(0);
        }
        engine.row_ids.take_reserving(i64::from(row_count), &engine.meta)
    }

    /// Replaces what the log must not depend on; returns whether there was anything of that kind.
    fn resolve(&self, fields: &mut [schema::FieldData]) -> Result<bool> {
        if self.zone == Zone::UTC { Ok(false) } else { resolve(&self.schema, fields, &self.zone) }
    }
}

fn decode_insert(engine: &Engine, database: &str, body: &[u8]) -> Result<RowsOperation> {
    let mut request = milvus::InsertRequest::decode(body).map_err(undecodable)?;
    let database = database_of(&request.db_name, database);
    let target = target(engine, database, &request.collection_name, &request.partition_name, request.schema_timestamp)?;
    let payload = target.resolve(&mut request.fields_data)?.then(|| request.encode_to_vec());
    let first_id = target.first_id(engine, &request.fields_data, request.num_rows)?;
    let rows = insert_rows(&target.schema, request, first_id)?;
    let rows = rows.at(target.collection, target.partition, target.schema.version, first_id);
    Ok(RowsOperation { payload, ..rows })
}

fn decode_upsert(engine: &Engine, database: &str, body: &[u8]) -> Result<RowsOperation> {
    let mut request = milvus::UpsertRequest::decode(body).map_err(undecodable)?;
    if request.partial_update {
        return Err(Error::unimplemented("upsert with partial_update"));
    }
    let database = database_of(&request.db_name, database);
    let target = target(engine, database, &request.collection_name, &request.partition_name, request.schema_timestamp)?;
    let payload = target.resolve(&mut request.fields_data)?.then(|| request.encode_to_vec());
    let first_id = target.first_id(engine, &request.fields_data, request.num_rows)?;
    let rows = upsert_rows(&target.schema, request, first_id)?;
    let rows = rows.at(target.collection, target.partition, target.schema.version, first_id);
    Ok(RowsOperation { payload, ..rows })
}

/// The rows of a request or of a log record, without where they go.
#[derive(Debug)]
pub struct DecodedRows {
    /// Insert or upsert.
    pub kind: RecordKind,
    /// The rows.
    pub batch: Batch,
    /// The rows' keys.
    pub keys: Keys,
    /// Keys whose rows die first (upsert).
    pub replaced: Option<Keys>,
}

impl DecodedRows {
    /// An operation of these rows.
    pub fn at(
        self,
        collection: CollectionId,
        partition: PartitionId,
        schema_version: u32,
        first_id: i64,
    ) -> RowsOperation {
        let DecodedRows { kind, batch, keys, replaced } = self;
        RowsOperation { kind, collection, partition, schema_version, batch, keys, replaced, first_id, payload: None }
    }
}

/// How rows are taken. Without a first id the keys are the client's: also when the log is replayed, after
/// `allow_insert_auto_id` may have been changed.
fn row_options(is_upsert: bool, first_id: i64) -> RowOptions {
    RowOptions { is_upsert, takes_keys: first_id == 0, first_id }
}

fn insert_rows(schema: &CollectionSchema, request: milvus::InsertRequest, first_id: i64) -> Result<DecodedRows> {
    let options = row_options(false, first_id);
    let batch = rows::batch_from_wire(schema, request.fields_data, request.num_rows, options)?;
    let keys = rows::batch_keys(schema, &batch);
    Ok(DecodedRows { kind: RecordKind::Insert, batch, keys, replaced: None })
}

fn upsert_rows(schema: &CollectionSchema, request: milvus::UpsertRequest, first_id: i64) -> Result<DecodedRows> {
    let options = row_options(true, first_id);
    // With automatic ids the given keys name the rows to replace, and the new rows get new ids.
    let given = schema.primary().auto_id.then(|| given_keys(schema, &request.fields_data)).flatten();
    let batch = rows::batch_from_wire(schema, request.fields_data, request.num_rows, options)?;
    let keys = rows::batch_keys(schema, &batch);
    let replaced = given.unwrap_or_else(|| keys.clone());
    Ok(DecodedRows { kind: RecordKind::Upsert, batch, keys, replaced: Some(replaced) })
}

/// The values a request carries for the primary field.
fn given_keys(schema: &CollectionSchema, fields: &[schema::FieldData]) -> Option<Keys> {
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

/// The rows of a log record, exactly as they were made when it was written.
///
/// # Errors
/// When the payload is not what its kind says.
pub fn replay_rows(kind: RecordKind, payload: &[u8], schema: &CollectionSchema, first_id: i64) -> Result<DecodedRows> {
    let schema = &without_size_limits(schema);
    match kind {
        RecordKind::Upsert => {
            let request = milvus::UpsertRequest::decode(payload).map_err(undecodable)?;
            upsert_rows(schema, request, first_id)
        }
        _ => insert_rows(schema, milvus::InsertRequest::decode(payload).map_err(undecodable)?, first_id),
    }
}

fn decode_delete(engine: &Engine, database: &str, body: &[u8]) -> Result<DeleteOperation> {
    let request = milvus::DeleteRequest::decode(body).map_err(undecodable)?;
    let database = database_of(&request.db_name, database);
    let (collection, partition, schema, zone) = {
        let mut state = lock(&engine.state);
        let id = state.resolve(database, &request.collection_name)?;
        let collection = state.collection(id)?;
        let partition = match request.partition_name.as_str() {
            "" => None,
            name => Some(collection.partition(name)?.id),
        };
        (id, partition, collection.schema.clone(), collection.record.zone())
    };
    let templates = Templates { zone, ..rows::templates_from_wire(request.expr_template_values)? };
    let plan = Plan::new(&request.expr, &schema, &templates).map_err(|error| {
        Error::invalid(format_args!(
            "failed to create delete plan: cannot parse expression: {}, error: {error}",
            request.expr
        ))
    })?;
    if plan.is_match_all() {
        let message = format!("delete plan can't be empty or always true : {}", request.expr);
        return Err(Error::invalid(message));
    }
    let found = match plan.primary_keys() {
        Some(_) => None,
        None => Some(resolve::find_keys(engine, collection, partition, &plan)?),
    };
    Ok(DeleteOperation { collection, partition, plan, found })
}

/// The answer of a failed request: the method's own message with the error in its status.
pub fn error_reply(method: Method, error: &Error) -> Vec<u8> {
    let failed = Some(status::failure(error));
    match method {
        Method::Insert | Method::Upsert | Method::Delete => {
            milvus::MutationResult { status: failed, ..Default::default() }.encode_to_vec()
        }
        Method::Flush => milvus::FlushResponse { status: failed, ..Default::default() }.encode_to_vec(),
        Method::FlushAll => milvus::FlushAllResponse { status: failed, ..Default::default() }.encode_to_vec(),
        Method::GetFlushState => milvus::GetFlushStateResponse { status: failed, ..Default::default() }.encode_to_vec(),
        Method::GetFlushAllState => {
            milvus::GetFlushAllStateResponse { status: failed, ..Default::default() }.encode_to_vec()
        }
        Method::TruncateCollection => milvus::TruncateCollectionResponse { status: failed }.encode_to_vec(),
        Method::ManualCompaction => {
            milvus::ManualCompactionResponse { status: failed, ..Default::default() }.encode_to_vec()
        }
        Method::GetCompactionStateWithPlans => {
            milvus::GetCompactionPlansResponse { status: failed, ..Default::default() }.encode_to_vec()
        }
        Method::AlterCollectionSchema => milvus::AlterCollectionSchemaResponse { alter_status: failed }.encode_to_vec(),
        Method::GetCompactionState => {
            milvus::GetCompactionStateResponse { status: failed, ..Default::default() }.encode_to_vec()
        }
        _ => status::failure(error).encode_to_vec(),
    }
}
