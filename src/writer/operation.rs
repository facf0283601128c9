//! Requests as the commit thread takes them: decoded and checked in parallel by the decode workers.

use std::sync::Arc;

use prost::Message;

use super::array_operators;
use super::engine::Engine;
use super::lock;
use super::partial::PartialOperation;
use super::resolve::{self, FoundKeys};
use super::rows_operation::{DecodedRows, Destination, RowsOperation, named_with_partition_key};
use super::state::Collection;
use crate::filter::{Plan, Templates};
use crate::ipc::method::Method;
use crate::ipc::pool::{Claim, RequestHeader};
use crate::proto::instants::resolve;
use crate::proto::{milvus, rows, schema, status};
use crate::types::{CollectionId, CollectionSchema, Error, ErrorKind, PartitionId, Result, Zone};

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
    /// Upsert of some fields.
    Partial(PartialOperation),
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
        Method::Insert => decode_insert(engine, &database, caller.body()),
        Method::Upsert => decode_upsert(engine, &database, caller.body()),
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
    destination: Destination,
    schema: Arc<CollectionSchema>,
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
    let destination = Destination::new(collection, partition)?;
    let zone = collection.record.zone();
    let takes_keys =
        collection.record.property("allow_insert_auto_id").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    Ok(Target { collection: id, destination, schema: collection.schema.clone(), zone, takes_keys })
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

fn decode_insert(engine: &Engine, database: &str, body: &[u8]) -> Result<Action> {
    let mut request = milvus::InsertRequest::decode(body).map_err(undecodable)?;
    let database = database_of(&request.db_name, database);
    let target = target(engine, database, &request.collection_name, &request.partition_name, request.schema_timestamp)?;
    let payload = target.resolve(&mut request.fields_data)?.then(|| request.encode_to_vec());
    let first_id = target.first_id(engine, &request.fields_data, request.num_rows)?;
    let rows = DecodedRows::of_insert(&target.schema, request, first_id)?;
    let rows = rows.into_operation(target.collection, target.destination, &target.schema, first_id)?;
    Ok(Action::Rows(RowsOperation { payload, ..rows }))
}

fn decode_upsert(engine: &Engine, database: &str, body: &[u8]) -> Result<Action> {
    let mut request = milvus::UpsertRequest::decode(body).map_err(undecodable)?;
    let database = database_of(&request.db_name, database);
    let target = target(engine, database, &request.collection_name, &request.partition_name, request.schema_timestamp)?;
    let is_resolved = target.resolve(&mut request.fields_data)?;
    let first_id = target.first_id(engine, &request.fields_data, request.num_rows)?;
    let Target { collection, destination, schema, .. } = target;
    array_operators::check(&schema, &request)?;
    if request.partial_update || array_operators::has_operator(&request) {
        return Ok(Action::Partial(PartialOperation { collection, destination, schema, request, first_id }));
    }
    let payload = is_resolved.then(|| request.encode_to_vec());
    let rows = DecodedRows::of_upsert(&schema, request, first_id)?;
    let rows = rows.into_operation(collection, destination, &schema, first_id)?;
    Ok(Action::Rows(RowsOperation { payload, ..rows }))
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
            _ if collection.schema.partition_key().is_some() => return Err(named_with_partition_key()),
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
