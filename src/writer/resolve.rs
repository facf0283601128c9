//! The writer's own snapshots: the rows that a partial upsert completes, the keys of the rows that a delete's filter matches.
//!
//! A decode worker scans everything there is ([`find_keys`]); the commit thread, which must not be held up, only looks at what
//! came since ([`keys_now`]). Rows never change, so a row of the first scan still matches; it may have been deleted meanwhile
//! though, and its key given to a row that does not match: after any such mark the commit thread scans again.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::engine::Engine;
use super::lock;
use super::operation::DeleteOperation;
use super::state::Collection;
use crate::filter::Plan;
use crate::format::RowSource;
use crate::format::growing::GrowingFile;
use crate::query::{OutputRows, RetrieveOptions, Selection, Snapshot, keys_of_column, partitions_of_keys, retrieve};
use crate::shm::attach::{CollectionView, GrowingChunk, SealedFile};
use crate::sys::failpoint;
use crate::types::{CollectionId, Error, ErrorKind, Keys, PartitionId, Result, Timestamp};

/// What a filter matched at some moment.
#[derive(Clone, Debug)]
pub struct FoundKeys {
    keys: Keys,
    at: Timestamp,
}

/// Finds the keys of a filter. The snapshot is at the last timestamp handed out, visible or not: a delete sees what was put in
/// place before it, also in its own group.
///
/// # Errors
/// When the collection is not loaded, or those of the query.
pub fn find_keys(
    engine: &Engine,
    collection: CollectionId,
    partition: Option<PartitionId>,
    plan: &Plan,
) -> Result<FoundKeys> {
    let snapshot = snapshot(engine, collection)?;
    let keys = matching(&snapshot, partition, plan)?;
    failpoint::reach("delete.scanned");
    Ok(FoundKeys { keys, at: snapshot.timestamp })
}

/// A collection at the last timestamp handed out.
///
/// # Errors
/// When it is gone or not loaded.
pub fn snapshot(engine: &Engine, collection: CollectionId) -> Result<Snapshot> {
    let mut state = lock(&engine.state);
    let collection = state.collection(collection)?;
    check_loaded(collection)?;
    Ok(Snapshot::new(engine.clock.last(), Arc::new(view(collection, None))))
}

/// The keys that a delete's filter matches at this moment, on the commit thread.
///
/// # Errors
/// As [`find_keys`].
pub fn keys_now(engine: &Engine, delete: &DeleteOperation) -> Result<Keys> {
    let recent = {
        let mut state = lock(&engine.state);
        let collection = state.collection(delete.collection)?;
        check_loaded(collection)?;
        delete.found.as_ref().filter(|found| collection.marked_last <= found.at).map(|found| {
            let view = view(collection, Some(found.at));
            (found, Snapshot::new(engine.clock.last(), Arc::new(view)))
        })
    };
    match recent {
        None => Ok(find_keys(engine, delete.collection, delete.partition, &delete.plan)?.keys),
        Some((found, snapshot)) => {
            let recent = matching(&snapshot, delete.partition, &delete.plan)?;
            Ok(union(found.keys.clone(), recent))
        }
    }
}

fn check_loaded(collection: &Collection) -> Result<()> {
    if collection.record.is_loaded {
        return Ok(());
    }
    let message = format!("collection not loaded[collection={}]", collection.record.name);
    Err(Error::new(ErrorKind::CollectionNotLoaded, message))
}

fn matching(snapshot: &Snapshot, partition: Option<PartitionId>, plan: &Plan) -> Result<Keys> {
    let partitions = match partition {
        Some(partition) => vec![partition],
        None => partitions_of_keys(&snapshot.view.manifest, plan),
    };
    let selection = Selection { plan: plan.clone(), partitions, ignore_growing: false };
    let found = retrieve(snapshot, &RetrieveOptions { selection, offset: 0, limit: None })?;
    let primary = snapshot.view.manifest.schema.primary();
    let column = OutputRows { snapshot, rows: &found.rows }.column(primary);
    keys_of_column(column)
}

/// Each key once.
fn union(first: Keys, second: Keys) -> Keys {
    match (first, second) {
        (Keys::Int(first), Keys::Int(second)) => {
            Keys::Int(first.into_iter().chain(second).collect::<BTreeSet<_>>().into_iter().collect())
        }
        (Keys::Text(first), Keys::Text(second)) => {
            Keys::Text(first.into_iter().chain(second).collect::<BTreeSet<_>>().into_iter().collect())
        }
        // A schema has one key type: one of them is empty.
        (first, second) => {
            if first.is_empty() {
                second
            } else {
                first
            }
        }
    }
}

/// The writer's own view of a collection, over the handles it holds anyway; of files with rows after `since` only.
fn view(collection: &Collection, since: Option<Timestamp>) -> CollectionView {
    let is_wanted = |last: Timestamp| since.is_none_or(|since| last > since);
    let mut manifest = collection.manifest();
    let sealed = collection.sealed.iter().filter(|file| collection.is_published(file.record.partition));
    let sealed: Vec<Arc<SealedFile>> = sealed
        .zip(&manifest.files)
        .filter(|(file, _)| is_wanted(Timestamp(file.record.timestamps.1)))
        .map(|(file, entry)| {
            Arc::new(SealedFile {
                entry: entry.clone(),
                table: Arc::clone(&file.table),
                deletes: file.deletes.as_ref().map(|deletes| deletes.cells.clone()),
                // Rows are looked up by key and filter here, never by vector.
                indexes: Vec::new(),
            })
        })
        .collect();
    let tables = collection.memtables.iter().filter(|(partition, _)| collection.is_published(**partition));
    let growing: Vec<Arc<GrowingChunk>> = tables
        .flat_map(|(_, table)| table.files())
        .flat_map(|file| &file.chunks)
        .zip(&manifest.chunks)
        .filter(|(chunk, _)| is_wanted(last_insert(chunk.writer.file())))
        .map(|(chunk, entry)| Arc::new(GrowingChunk { entry: entry.clone(), file: chunk.writer.file().clone() }))
        .collect();
    manifest.files = sealed.iter().map(|file| file.entry.clone()).collect();
    manifest.chunks = growing.iter().map(|chunk| chunk.entry.clone()).collect();
    CollectionView { manifest, sealed, growing }
}

fn last_insert(chunk: &GrowingFile) -> Timestamp {
    let rows = chunk.rows(chunk.rows_published());
    Timestamp(rows.insert_timestamps().last().copied().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_union_has_each_key_once() {
        assert_eq!(union(Keys::Int(vec![3, 1]), Keys::Int(vec![2, 3])), Keys::Int(vec![1, 2, 3]));
        let text = |keys: &[&str]| Keys::Text(keys.iter().map(|key| (*key).to_owned()).collect());
        assert_eq!(union(text(&["b"]), text(&["a", "b"])), text(&["a", "b"]));
        assert_eq!(union(text(&["b"]), Keys::Int(Vec::new())), text(&["b"]));
    }
}
