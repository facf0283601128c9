//! The fill thread: copies table and index files that are published from disk into shared memory, in the background, and checks
//! the bytes that the start did not.

use std::collections::HashSet;
use std::time::Duration;

use super::engine::Engine;
use super::state::{Collection, SealedTable, State};
use super::{indexing, lock};
use crate::shm::manifest::Place;
use crate::types::{CollectionId, DurableFile, ErrorKind, Result};

/// How long the thread sleeps when nothing wakes it.
const IDLE: Duration = Duration::from_secs(60);
/// A manifest is published after so many bytes were copied: each one costs time proportional to the number of files.
const PUBLISH_BYTES: u64 = 64 << 20;

struct Job {
    collection: CollectionId,
    file: DurableFile,
    bytes: u64,
    checksum: u64,
    /// No reader is told of it before its checksum is found right.
    is_unchecked: bool,
}

/// Copies until the writer stops.
///
/// # Errors
/// Never: a file that cannot be copied stays on disk.
pub fn run(engine: &Engine) -> Result<()> {
    let mut checked = HashSet::new();
    while !engine.is_stopping() {
        fill(engine, &mut checked);
        engine.fill.wait(IDLE);
    }
    Ok(())
}

/// The files to copy, the most used first. Nothing counts uses yet; the youngest files and the smallest collections come
/// first, since many searches of one moment touch them.
fn jobs(state: &State) -> Vec<Job> {
    let mut collections: Vec<_> = state.collections.values().filter(|collection| collection.record.is_loaded).collect();
    collections.sort_by_key(|collection| collection.sealed.iter().map(|file| file.record.file_bytes).sum::<u64>());
    collections.into_iter().flat_map(jobs_of).collect()
}

/// The indexes of a file before the file: a search reads them first. Before all, indexes that are not searched yet.
fn jobs_of(collection: &Collection) -> Vec<Job> {
    let mut jobs = Vec::new();
    for file in collection.sealed.iter().rev().filter(|file| collection.is_published(file.record.partition)) {
        let collection = file.record.collection;
        jobs.extend(file.indexes.iter().filter(|index| index.place == Place::Disk).map(|index| Job {
            collection,
            file: index.record.name(),
            bytes: index.record.file_bytes,
            checksum: index.record.checksum,
            is_unchecked: !index.is_checked,
        }));
        if file.place == Place::Disk {
            let (bytes, checksum) = (file.record.file_bytes, file.record.checksum);
            let file = DurableFile::Table(file.record.id);
            jobs.push(Job { collection, file, bytes, checksum, is_unchecked: false });
        }
    }
    jobs.sort_by_key(|job| !job.is_unchecked);
    jobs
}

/// `checked` are files whose bytes were read once already: where they do not fit, they are not read again.
fn fill(engine: &Engine, checked: &mut HashSet<(CollectionId, DurableFile)>) {
    let mut jobs = jobs(&lock(&engine.state));
    let present: HashSet<_> = jobs.iter().map(|job| (job.collection, job.file)).collect();
    checked.retain(|file| present.contains(file));
    jobs.retain(|job| !checked.contains(&(job.collection, job.file)) || engine.publisher.has_room(job.bytes));
    let mut copied_bytes = 0;
    for (index, job) in jobs.iter().enumerate() {
        if engine.is_stopping() {
            return;
        }
        let path = engine.store.path(job.collection, job.file);
        let outcome = engine.publisher.place(job.collection, job.file, &path, job.checksum, true);
        match outcome {
            Ok(place) => {
                copied_bytes += job.bytes;
                note_place(engine, job, place);
                // There is no room: the next files may be smaller.
                if place == Place::Disk {
                    checked.insert((job.collection, job.file));
                }
            }
            Err(error) if error.kind == ErrorKind::Corrupt => note_damage(engine, job, &error.message),
            // Merged away or dropped meanwhile, or the disk fails: readers go on with what they map.
            Err(error) => tracing::debug!("{} stays on disk: {error}", job.file),
        }
        let is_last = jobs.get(index + 1).is_none_or(|next| next.collection != job.collection);
        if is_last || copied_bytes >= PUBLISH_BYTES {
            publish(engine, job.collection);
            copied_bytes = 0;
        }
    }
}

fn note_place(engine: &Engine, job: &Job, place: Place) {
    let mut state = lock(&engine.state);
    let mut is_wanted = false;
    if let Some(collection) = state.collections.get_mut(&job.collection)
        && let Some(position) = collection.sealed.iter().position(|file| file.record.id == job.file.table())
        && collection.is_published(collection.sealed[position].record.partition)
        && let Some(is_news) = put_place(&mut collection.sealed[position], job.file, place)
    {
        collection.is_dirty |= is_news;
        is_wanted = true;
    }
    drop(state);
    if !is_wanted && place == Place::Shm {
        engine.publisher.remove_copy(job.collection, job.file);
    }
}

/// Notes where a file, now checked, is read from; whether readers do not know that yet. `None` for an index that is gone.
fn put_place(table: &mut SealedTable, file: DurableFile, place: Place) -> Option<bool> {
    match file {
        DurableFile::Table(_) => Some(std::mem::replace(&mut table.place, place) != place),
        DurableFile::Index(..) => {
            let index = table.indexes.iter_mut().find(|index| index.record.name() == file)?;
            let was_checked = std::mem::replace(&mut index.is_checked, true);
            Some(std::mem::replace(&mut index.place, place) != place || !was_checked)
        }
    }
}

/// A damaged table file is lost data, a damaged index only lost time.
fn note_damage(engine: &Engine, job: &Job, message: &str) {
    if let DurableFile::Index(file, index) = job.file {
        return indexing::discard(engine, job.collection, file, index, message);
    }
    let mut state = lock(&engine.state);
    if let Some(collection) = state.collections.get_mut(&job.collection)
        && collection.sealed.iter().any(|file| file.record.id == job.file.table())
    {
        let path = engine.store.path(job.collection, job.file);
        collection.damage = Some(super::recover::damage_text(&path, message));
        collection.is_dirty = true;
    }
}

fn publish(engine: &Engine, id: CollectionId) {
    let mut state = lock(&engine.state);
    if let Some(collection) = state.collections.get_mut(&id).filter(|collection| collection.is_dirty)
        && let Err(error) = engine.publish(collection)
    {
        tracing::warn!("the manifest of collection {id} cannot be published yet: {error}");
    }
}
