//! Everything that changes definitions, executed on the commit thread between groups: meta first, then memory, then what
//! is published. Also the requests that only the writer can answer.

use prost::Message;

use super::engine::Engine;
use super::operation::{database_of, undecodable};
use super::state::State;
use super::{ddl_aliases, ddl_collections, ddl_databases, ddl_indexes, ddl_load, ddl_partitions, flush, lock};
use crate::ipc::method::Method;
use crate::proto::{common, milvus, status};
use crate::storage::meta::{Meta, MetaEdit};
use crate::sys::failpoint;
use crate::types::{CollectionId, CollectionRecord, Error, ErrorKind, Result};

/// Executes a request. The answer is the method's encoded reply.
///
/// # Errors
/// What the caller is told.
pub fn execute(engine: &Engine, method: Method, database: &str, body: &[u8]) -> Result<Vec<u8>> {
    engine.prepare_numbers()?;
    match method {
        Method::GetFlushState => return flush::flush_state(engine, database, body),
        Method::GetFlushAllState => return flush::flush_all_state(engine, body),
        Method::ManualCompaction => return manual_compaction(engine, database, body),
        Method::GetCompactionState => return compaction_state(engine, body),
        Method::TruncateCollection => {
            ddl_collections::truncate(engine, database, &decode(body)?)?;
            return Ok(milvus::TruncateCollectionResponse { status: Some(status::success()) }.encode_to_vec());
        }
        method => change(engine, method, database, body)?,
    }
    failpoint::reach("ddl.done");
    Ok(status::success().encode_to_vec())
}

/// The requests that are answered with a bare status.
fn change(engine: &Engine, method: Method, database: &str, body: &[u8]) -> Result<()> {
    match method {
        Method::CreateCollection => ddl_collections::create(engine, database, decode(body)?),
        Method::DropCollection => ddl_collections::drop(engine, database, &decode(body)?),
        Method::RenameCollection => ddl_collections::rename(engine, database, &decode(body)?),
        Method::AlterCollection => ddl_collections::alter(engine, database, decode(body)?),
        Method::LoadCollection => ddl_load::load_collection(engine, database, &decode(body)?),
        Method::ReleaseCollection => ddl_load::release_collection(engine, database, &decode(body)?),
        Method::LoadPartitions => ddl_load::load_partitions(engine, database, &decode(body)?),
        Method::ReleasePartitions => ddl_load::release_partitions(engine, database, &decode(body)?),
        Method::CreatePartition => ddl_partitions::create(engine, database, &decode(body)?),
        Method::DropPartition => ddl_partitions::drop(engine, database, &decode(body)?),
        Method::CreateAlias => ddl_aliases::create(engine, database, &decode(body)?),
        Method::DropAlias => ddl_aliases::drop(engine, database, &decode(body)?),
        Method::AlterAlias => ddl_aliases::alter(engine, database, &decode(body)?),
        Method::CreateIndex => ddl_indexes::create(engine, database, decode(body)?),
        Method::DropIndex => ddl_indexes::drop(engine, database, &decode(body)?),
        Method::AlterIndex => ddl_indexes::alter(engine, database, decode(body)?),
        Method::CreateDatabase => ddl_databases::create(engine, decode(body)?),
        Method::DropDatabase => ddl_databases::drop(engine, &decode(body)?),
        Method::AlterDatabase => ddl_databases::alter(engine, decode(body)?),
        method => Err(Error::unimplemented(method.name())),
    }
}

/// Changes meta: afterwards the definition is changed, whatever happens to this process.
///
/// # Errors
/// Those of meta; nothing is changed then.
pub fn change_meta(meta: &mut Meta, edits: &[MetaEdit]) -> Result<()> {
    meta.apply(edits)?;
    failpoint::reach("ddl.meta_changed");
    Ok(())
}

/// Decodes a request.
///
/// # Errors
/// When the bytes are no such message.
pub fn decode<T: Message + Default>(body: &[u8]) -> Result<T> {
    T::decode(body).map_err(undecodable)
}

/// Changes a collection's record in meta and in memory, then publishes it. Nothing happens when `change` changes nothing.
///
/// # Errors
/// Those of `change`, of meta, and of publishing (the change is durable then and published with the next one).
pub fn update(
    engine: &Engine,
    database: &str,
    name: &str,
    change: impl FnOnce(&State, &mut CollectionRecord) -> Result<()>,
) -> Result<CollectionId> {
    let mut meta = lock(&engine.meta);
    let (id, before, record) = {
        let state = lock(&engine.state);
        let id = state.resolve(database, name)?;
        let before = state.collections.get(&id).map(|collection| collection.record.clone());
        let before = before.ok_or_else(|| Error::internal("a name without a collection"))?;
        let mut record = before.clone();
        change(&state, &mut record)?;
        (id, before, record)
    };
    if record == before {
        return Ok(id);
    }
    change_meta(&mut meta, &[MetaEdit::PutCollection(record.clone())])?;
    let mut state = lock(&engine.state);
    let collection = state.collection(id)?;
    collection.schema = record.schema.clone().into();
    collection.record = record;
    engine.publish(collection)?;
    Ok(id)
}

/// Puts new values into a list of properties and takes keys out.
pub fn merge_properties(
    properties: &mut Vec<(String, String)>,
    set: Vec<common::KeyValuePair>,
    delete_keys: &[String],
) {
    for (key, value) in status::pairs_from_wire(set) {
        match properties.iter_mut().find(|(known, _)| *known == key) {
            Some(entry) => entry.1 = value,
            None => properties.push((key, value)),
        }
    }
    properties.retain(|(key, _)| !delete_keys.contains(key));
}

fn manual_compaction(engine: &Engine, database: &str, body: &[u8]) -> Result<Vec<u8>> {
    let request: milvus::ManualCompactionRequest = decode(body)?;
    let collection = {
        let state = lock(&engine.state);
        match request.collection_name.as_str() {
            "" => Some(CollectionId(request.collection_id)).filter(|id| state.collections.contains_key(id)),
            name => Some(state.resolve(database_of(&request.db_name, database), name)?),
        }
    };
    let Some(collection) = collection else {
        let message = format!("collection not found[collection={}]", request.collection_id);
        return Err(Error::new(ErrorKind::CollectionNotFound, message));
    };
    let id = engine.ids.take(1)?;
    engine.compactions.request(id, collection);
    engine.merge.raise();
    let reply = milvus::ManualCompactionResponse {
        status: Some(status::success()),
        compaction_id: id,
        compaction_plan_count: 1,
    };
    Ok(reply.encode_to_vec())
}

fn compaction_state(engine: &Engine, body: &[u8]) -> Result<Vec<u8>> {
    let request: milvus::GetCompactionStateRequest = decode(body)?;
    // One of an earlier writer is over: its merge ended with that writer, one way or the other.
    let is_done = engine.compactions.is_done(request.compaction_id).unwrap_or(true);
    let state = match is_done {
        true => common::CompactionState::Completed,
        false => common::CompactionState::Executing,
    };
    let reply = milvus::GetCompactionStateResponse {
        status: Some(status::success()),
        state: state.into(),
        executing_plan_no: i64::from(!is_done),
        completed_plan_no: i64::from(is_done),
        ..Default::default()
    };
    Ok(reply.encode_to_vec())
}
