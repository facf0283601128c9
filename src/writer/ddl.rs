//! Everything that changes definitions, executed on the commit thread between groups: meta first, then memory, then what
//! is published. Also the requests that only the writer can answer.

use prost::Message;

use super::engine::Engine;
use super::operation::undecodable;
use super::state::State;
use super::{
    compactions, ddl_aliases, ddl_collections, ddl_databases, ddl_fields, ddl_indexes, ddl_load, ddl_partitions, flush,
    lock,
};
use crate::ipc::method::Method;
use crate::proto::{common, milvus, status};
use crate::storage::meta::{Meta, MetaEdit};
use crate::sys::failpoint;
use crate::types::{CollectionId, CollectionRecord, Error, Result};

/// Executes a request. The answer is the method's encoded reply.
///
/// # Errors
/// What the caller is told.
pub fn execute(engine: &Engine, method: Method, database: &str, body: &[u8]) -> Result<Vec<u8>> {
    engine.prepare_numbers()?;
    match method {
        Method::GetFlushState => return flush::flush_state(engine, database, body),
        Method::GetFlushAllState => return flush::flush_all_state(engine, body),
        Method::ManualCompaction => return compactions::request(engine, database, &decode(body)?),
        Method::GetCompactionState => return compactions::state(engine, &decode(body)?),
        Method::GetCompactionStateWithPlans => return compactions::plans(engine, database, &decode(body)?),
        Method::TruncateCollection => {
            ddl_collections::truncate(engine, database, &decode(body)?)?;
            return Ok(milvus::TruncateCollectionResponse { status: Some(status::success()) }.encode_to_vec());
        }
        Method::AlterCollectionSchema => {
            ddl_fields::alter_schema(engine, database, decode(body)?)?;
            return Ok(milvus::AlterCollectionSchemaResponse { alter_status: Some(status::success()) }.encode_to_vec());
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
        Method::AddCollectionField => ddl_fields::add(engine, database, &decode(body)?),
        Method::AlterCollectionField => ddl_fields::alter(engine, database, decode(body)?),
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
    let has_new_schema = collection.record.schema.version != record.schema.version;
    collection.schema = record.schema.clone().into();
    collection.record = record;
    if has_new_schema {
        collection.start_fresh_files();
        engine.serialise.raise();
    }
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
