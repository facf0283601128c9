//! The keys of the rows that a filter matches, for deletes: a query on the writer's own snapshot.

use std::sync::Arc;

use super::engine::Engine;
use super::lock;
use super::operation::DeleteOperation;
use super::state::Collection;
use crate::query::{OutputRows, RetrieveOptions, Selection, Snapshot, keys_of_column, retrieve};
use crate::shm::attach::{CollectionView, GrowingChunk, SealedFile};
use crate::types::{Error, ErrorKind, Keys, Result};

/// Finds the keys. The snapshot is at the last timestamp handed out, visible or not: a delete sees what was put in place
/// before it, also in its own group.
///
/// # Errors
/// When the collection is not loaded, or those of the query.
pub fn keys_of_filter(engine: &Engine, delete: &DeleteOperation) -> Result<Keys> {
    let snapshot = {
        let mut state = lock(&engine.state);
        let collection = state.collection(delete.collection)?;
        if !collection.record.is_loaded {
            let message = format!("collection not loaded[collection={}]", collection.record.name);
            return Err(Error::new(ErrorKind::CollectionNotLoaded, message));
        }
        Snapshot { timestamp: engine.clock.last(), view: Arc::new(view(collection)) }
    };
    let partitions = delete.partition.into_iter().collect();
    let selection = Selection { plan: delete.plan.clone(), partitions, ignore_growing: false };
    let found = retrieve(&snapshot, &RetrieveOptions { selection, offset: 0, limit: None })?;
    let primary = snapshot.view.manifest.schema.primary();
    let column = OutputRows { snapshot: &snapshot, rows: &found.rows }.column(primary);
    keys_of_column(column)
}

/// The writer's own view of a collection, over the handles it holds anyway.
fn view(collection: &Collection) -> CollectionView {
    let manifest = collection.manifest();
    let sealed = collection.sealed.iter().filter(|file| collection.is_published(file.record.partition));
    let sealed: Vec<Arc<SealedFile>> = sealed
        .zip(&manifest.files)
        .map(|(file, entry)| {
            Arc::new(SealedFile {
                entry: entry.clone(),
                table: Arc::clone(&file.table),
                deletes: file.deletes.as_ref().map(|deletes| deletes.cells.clone()),
            })
        })
        .collect();
    let tables = collection.memtables.iter().filter(|(partition, _)| collection.is_published(**partition));
    let growing: Vec<Arc<GrowingChunk>> = tables
        .flat_map(|(_, table)| table.files())
        .flat_map(|file| &file.chunks)
        .zip(&manifest.chunks)
        .map(|(chunk, entry)| Arc::new(GrowingChunk { entry: entry.clone(), file: chunk.writer.file().clone() }))
        .collect();
    CollectionView { manifest, sealed, growing }
}
