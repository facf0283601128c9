//! Flush: a request waits, without holding up the commit thread, until the files it rotated out are table files.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;

use prost::Message;

use super::engine::Engine;
use super::lock;
use super::operation::{Caller, error_reply};
use super::state::{Collection, State};
use crate::ipc::method::Method;
use crate::proto::milvus::flush_response::SegmentsEntry;
use crate::proto::{milvus, schema, status};
use crate::types::{CollectionId, Error, FileId, Result, Timestamp};

/// Flush requests under way.
#[derive(Default)]
pub struct FlushWaiters {
    waiting: Mutex<Vec<Waiter>>,
}

struct Waiter {
    files: BTreeSet<FileId>,
    method: Method,
    reply: Vec<u8>,
    caller: Box<dyn Caller>,
}

impl FlushWaiters {
    /// Files became table files, or vanished with their collection.
    pub fn complete(&self, files: &[FileId]) {
        let mut waiting = lock(&self.waiting);
        for waiter in waiting.iter_mut() {
            files.iter().for_each(|file| {
                waiter.files.remove(file);
            });
        }
        let done: Vec<Waiter> = waiting.extract_if(.., |waiter| waiter.files.is_empty()).collect();
        drop(waiting);
        for waiter in done {
            waiter.caller.reply(&waiter.reply);
        }
    }

    /// A file could not be written: whoever waits for it hears why. It will be tried again.
    pub fn fail(&self, file: FileId, error: &Error) {
        let failed: Vec<Waiter> = lock(&self.waiting).extract_if(.., |waiter| waiter.files.contains(&file)).collect();
        for waiter in failed {
            waiter.caller.reply(&error_reply(waiter.method, error));
        }
    }

    fn wait(&self, waiter: Waiter) {
        lock(&self.waiting).push(waiter);
    }
}

/// Makes the mutable files of a collection immutable. Returns every file of it that is not a table file yet.
fn rotate(collection: &mut Collection) -> Vec<FileId> {
    collection.memtables.values_mut().for_each(|table| {
        table.rotate();
    });
    collection.memtables.values().flat_map(|table| table.immutable.iter().map(|file| file.id)).collect()
}

/// Makes every mutable file with rows immutable.
pub fn rotate_all(state: &mut State) {
    state.collections.values_mut().for_each(|collection| {
        rotate(collection);
    });
}

/// Answers Flush, FlushAll once the files are durable.
///
/// # Errors
/// When a collection does not exist; the caller is given back to hear it.
pub fn flush(
    engine: &Engine,
    method: Method,
    database: &str,
    caller: Box<dyn Caller>,
) -> Option<(Box<dyn Caller>, Error)> {
    let mut files = BTreeSet::new();
    let reply = match method {
        Method::Flush => flush_collections(engine, database, caller.body(), &mut files),
        _ => flush_all(engine, caller.body(), &mut files),
    };
    match reply {
        Err(error) => Some((caller, error)),
        Ok(reply) => {
            // Registered before the serialise thread is woken for these files; it may have finished some already, which
            // is why they are looked up again.
            engine.flushes.wait(Waiter { files: files.clone(), method, reply, caller });
            let done = files.into_iter().filter(|file| !is_pending(&lock(&engine.state), *file)).collect::<Vec<_>>();
            engine.flushes.complete(&done);
            engine.serialise.raise();
            None
        }
    }
}

fn is_pending(state: &State, file: FileId) -> bool {
    state.collections.values().any(|collection| collection.memtable_files().any(|pending| pending.id == file))
}

fn flush_collections(engine: &Engine, database: &str, body: &[u8], files: &mut BTreeSet<FileId>) -> Result<Vec<u8>> {
    let request = milvus::FlushRequest::decode(body).map_err(super::operation::undecodable)?;
    let mut reply =
        milvus::FlushResponse { status: Some(status::success()), db_name: database.to_owned(), ..Default::default() };
    let flush_timestamp = engine.clock.last();
    let mut state = lock(&engine.state);
    let ids: Result<BTreeMap<String, CollectionId>> =
        request.collection_names.into_iter().map(|name| state.resolve(database, &name).map(|id| (name, id))).collect();
    for (name, id) in ids? {
        let collection = state.collection(id)?;
        let pending = rotate(collection);
        let sealed = collection.sealed.iter().map(|file| file.record.id.0).collect();
        let segments = pending.iter().map(|file| file.0).collect();
        let entry = |data| SegmentsEntry { key: name.clone(), value: Some(schema::LongArray { data }) };
        reply.coll_seg_i_ds.push(entry(segments));
        reply.flush_coll_seg_i_ds.push(entry(sealed));
        reply.coll_seal_times.insert(name.clone(), (flush_timestamp.unix_ms() / 1000) as i64);
        reply.coll_flush_ts.insert(name, flush_timestamp.0);
        files.extend(pending);
    }
    Ok(reply.encode_to_vec())
}

fn flush_all(engine: &Engine, body: &[u8], files: &mut BTreeSet<FileId>) -> Result<Vec<u8>> {
    let request = milvus::FlushAllRequest::decode(body).map_err(super::operation::undecodable)?;
    let mut state = lock(&engine.state);
    let wanted = flush_all_targets(&state, &request.db_name, &request.flush_targets)?;
    for id in wanted {
        files.extend(rotate(state.collection(id)?));
    }
    let reply = milvus::FlushAllResponse {
        status: Some(status::success()),
        flush_all_ts: engine.clock.last().0,
        ..Default::default()
    };
    Ok(reply.encode_to_vec())
}

/// The collections of a FlushAll: everything, one database, or those that targets name.
fn flush_all_targets(state: &State, database: &str, targets: &[milvus::FlushAllTarget]) -> Result<Vec<CollectionId>> {
    let of_database = |database: &str| -> Result<Vec<CollectionId>> {
        state.database(database)?;
        let records = state.collections.values().map(|collection| &collection.record);
        Ok(records.filter(|record| record.database == database).map(|record| record.id).collect())
    };
    if targets.is_empty() {
        return if database.is_empty() {
            Ok(state.collections.keys().copied().collect())
        } else {
            of_database(database)
        };
    }
    let mut wanted = Vec::new();
    for target in targets {
        let database = if target.db_name.is_empty() { "default" } else { &target.db_name };
        if target.collection_names.is_empty() {
            wanted.extend(of_database(database)?);
        }
        for name in &target.collection_names {
            wanted.push(state.resolve(database, name)?);
        }
    }
    Ok(wanted)
}

/// Answers GetFlushState: whether every row up to the flush timestamp is in a table file.
///
/// # Errors
/// When the collection does not exist.
pub fn flush_state(engine: &Engine, database: &str, body: &[u8]) -> Result<Vec<u8>> {
    let request = milvus::GetFlushStateRequest::decode(body).map_err(super::operation::undecodable)?;
    let state = lock(&engine.state);
    let until = match request.flush_ts {
        0 => Timestamp::MAX,
        until => Timestamp(until),
    };
    let segments = request.segment_i_ds;
    let is_pending = |collection: &Collection| {
        collection.memtable_files().any(|file| {
            let is_asked = request.flush_ts != 0 || segments.contains(&file.id.0);
            is_asked && file.row_count > 0 && file.timestamps.0 <= until
        })
    };
    let flushed = if request.collection_name.is_empty() {
        !state.collections.values().any(is_pending)
    } else {
        let id = state.resolve(database, &request.collection_name)?;
        !state.collections.get(&id).is_some_and(is_pending)
    };
    Ok(milvus::GetFlushStateResponse { status: Some(status::success()), flushed }.encode_to_vec())
}

/// Answers GetFlushAllState.
///
/// # Errors
/// When there is no such database or collection.
pub fn flush_all_state(engine: &Engine, body: &[u8]) -> Result<Vec<u8>> {
    let request = milvus::GetFlushAllStateRequest::decode(body).map_err(super::operation::undecodable)?;
    let state = lock(&engine.state);
    let until = match request.flush_all_ts {
        // What the client knows is a timestamp for each channel; there is one channel.
        0 => request.flush_all_tss.values().copied().max().map_or(Timestamp::MAX, Timestamp),
        until => Timestamp(until),
    };
    let wanted = flush_all_targets(&state, &request.db_name, &request.flush_targets)?;
    let mut states: BTreeMap<String, HashMap<String, bool>> = BTreeMap::new();
    for collection in wanted.iter().filter_map(|id| state.collections.get(id)) {
        let flushed = !collection.memtable_files().any(|file| file.row_count > 0 && file.timestamps.0 <= until);
        let record = &collection.record;
        states.entry(record.database.clone()).or_default().insert(record.name.clone(), flushed);
    }
    let flushed = states.values().flat_map(HashMap::values).all(|flushed| *flushed);
    let flush_states = states
        .into_iter()
        .map(|(db_name, collection_flush_states)| milvus::FlushAllState { db_name, collection_flush_states })
        .collect();
    let reply = milvus::GetFlushAllStateResponse { status: Some(status::success()), flushed, flush_states };
    Ok(reply.encode_to_vec())
}
