//! Manual compactions: which were asked for, how far they are, and what they merged. Kept in memory: a compaction of an
//! earlier writer is over, its merge ended with that writer, one way or the other.

use std::collections::BTreeMap;
use std::sync::Mutex;

use prost::Message;

use super::engine::Engine;
use super::lock;
use super::operation::database_of;
use crate::proto::{common, milvus, status};
use crate::types::{CollectionId, Error, ErrorKind, FileId, PartitionId, Result};

/// Compactions that are remembered.
const REMEMBERED_MAX: usize = 1_000;
/// Merges that are remembered of one compaction.
const MERGES_REMEMBERED_MAX: usize = 1_000;

/// The compactions asked for since the start.
#[derive(Debug, Default)]
pub struct Compactions {
    by_id: Mutex<BTreeMap<i64, Compaction>>,
}

/// One that was asked for.
#[derive(Clone, Debug)]
pub struct Compaction {
    /// Of which collection.
    pub collection: CollectionId,
    /// Files of this size are not merged further; `None` = `index_file_size`.
    pub target_bytes: Option<u64>,
    is_done: bool,
    merges: Vec<Merge>,
}

/// Table files that became one.
#[derive(Clone, Debug)]
pub struct Merge {
    /// The partition they are in.
    pub partition: PartitionId,
    /// What was merged.
    pub sources: Vec<FileId>,
    /// Into what.
    pub target: FileId,
}

impl Compactions {
    fn add(&self, id: i64, collection: CollectionId, target_bytes: Option<u64>) {
        let mut by_id = lock(&self.by_id);
        by_id.insert(id, Compaction { collection, target_bytes, is_done: false, merges: Vec::new() });
        while by_id.len() > REMEMBERED_MAX {
            by_id.pop_first();
        }
    }

    /// Those that are not done, with their ids.
    pub fn pending(&self) -> Vec<(i64, Compaction)> {
        let by_id = lock(&self.by_id);
        by_id.iter().filter(|(_, entry)| !entry.is_done).map(|(id, entry)| (*id, entry.clone())).collect()
    }

    /// A merge was done for a compaction.
    pub fn note(&self, id: i64, merge: Merge) {
        if let Some(entry) = lock(&self.by_id).get_mut(&id)
            && entry.merges.len() < MERGES_REMEMBERED_MAX
        {
            entry.merges.push(merge);
        }
    }

    /// A compaction is over.
    pub fn complete(&self, id: i64) {
        if let Some(entry) = lock(&self.by_id).get_mut(&id) {
            entry.is_done = true;
        }
    }

    fn get(&self, id: i64) -> Option<Compaction> {
        lock(&self.by_id).get(&id).cloned()
    }

    fn of_collection(&self, collection: CollectionId) -> Vec<(i64, Compaction)> {
        let by_id = lock(&self.by_id);
        by_id
            .iter()
            .filter(|(_, entry)| entry.collection == collection)
            .map(|(id, entry)| (*id, entry.clone()))
            .collect()
    }
}

/// Answers ManualCompaction.
///
/// # Errors
/// When there is no such collection, or a kind of compaction is asked for that this server does not do.
pub fn request(engine: &Engine, database: &str, request: &milvus::ManualCompactionRequest) -> Result<Vec<u8>> {
    if request.major_compaction {
        return Err(Error::unimplemented("clustering compaction"));
    }
    if request.partition_id != 0 || !request.segment_ids.is_empty() || !request.channel.is_empty() {
        return Err(Error::unimplemented("compaction of single partitions, segments or channels"));
    }
    let target_bytes = match request.target_size {
        0 => None,
        size => {
            let megabytes = u64::try_from(size)
                .map_err(|_| Error::invalid(format_args!("invalid target_size of a compaction: {size} MB")))?;
            // Clients send the largest number for "as large as can be".
            Some(megabytes.saturating_mul(1 << 20).min(engine.config.index_file_size))
        }
    };
    let collection =
        find(engine, database_of(&request.db_name, database), &request.collection_name, request.collection_id)?;
    let id = engine.ids.take(1)?;
    engine.compactions.add(id, collection, target_bytes);
    engine.merge.raise();
    let reply = milvus::ManualCompactionResponse {
        status: Some(status::success()),
        compaction_id: id,
        compaction_plan_count: 1,
    };
    Ok(reply.encode_to_vec())
}

fn find(engine: &Engine, database: &str, name: &str, id: i64) -> Result<CollectionId> {
    let state = lock(&engine.state);
    if !name.is_empty() {
        return state.resolve(database, name);
    }
    Some(CollectionId(id))
        .filter(|id| state.collections.contains_key(id))
        .ok_or_else(|| Error::new(ErrorKind::CollectionNotFound, format!("collection not found[collection={id}]")))
}

/// Answers GetCompactionState.
///
/// # Errors
/// None so far.
pub fn state(engine: &Engine, request: &milvus::GetCompactionStateRequest) -> Result<Vec<u8>> {
    let is_done = engine.compactions.get(request.compaction_id).is_none_or(|entry| entry.is_done);
    let reply = milvus::GetCompactionStateResponse {
        status: Some(status::success()),
        state: state_of(is_done).into(),
        executing_plan_no: i64::from(!is_done),
        completed_plan_no: i64::from(is_done),
        ..Default::default()
    };
    Ok(reply.encode_to_vec())
}

/// Answers GetCompactionStateWithPlans: of one compaction, or of all of a collection.
///
/// # Errors
/// When there is no such collection.
pub fn plans(engine: &Engine, database: &str, request: &milvus::GetCompactionPlansRequest) -> Result<Vec<u8>> {
    let found = match request.compaction_id {
        0 => {
            let database = database_of(&request.db_name, database);
            let collection = find(engine, database, &request.collection_name, request.collection_id)?;
            engine.compactions.of_collection(collection)
        }
        id => engine.compactions.get(id).map(|entry| (id, entry)).into_iter().collect(),
    };
    let is_done = found.iter().all(|(_, entry)| entry.is_done);
    let infos = found.iter().flat_map(|(id, entry)| entry.merges.iter().map(|merge| merge_info(*id, entry, merge)));
    let reply = milvus::GetCompactionPlansResponse {
        status: Some(status::success()),
        state: state_of(is_done).into(),
        merge_infos: infos.collect(),
    };
    Ok(reply.encode_to_vec())
}

fn state_of(is_done: bool) -> common::CompactionState {
    match is_done {
        true => common::CompactionState::Completed,
        false => common::CompactionState::Executing,
    }
}

fn merge_info(id: i64, entry: &Compaction, merge: &Merge) -> milvus::CompactionMergeInfo {
    milvus::CompactionMergeInfo {
        sources: merge.sources.iter().map(|file| file.0).collect(),
        target: merge.target.0,
        targets: vec![merge.target.0],
        plan_id: merge.target.0,
        trigger_id: id,
        collection_id: entry.collection.0,
        partition_id: merge.partition.0,
        channel: format!("shoal_{}_v0", entry.collection),
        r#type: common::CompactionType::CompactionTypeMix.into(),
        state: common::CompactionTaskState::CompactionTaskStateCompleted.into(),
        failure_reason: String::new(),
    }
}
