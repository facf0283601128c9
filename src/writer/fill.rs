//! The fill thread: copies table files that are published from disk into shared memory, in the background, and checks
//! the bytes that the start did not.

use std::collections::HashSet;
use std::time::Duration;

use super::engine::Engine;
use super::lock;
use super::state::State;
use crate::shm::manifest::Place;
use crate::types::{CollectionId, ErrorKind, FileId, Result};

/// How long the thread sleeps when nothing wakes it.
const IDLE: Duration = Duration::from_secs(60);
/// A manifest is published after so many bytes were copied: each one costs time proportional to the number of files.
const PUBLISH_BYTES: u64 = 64 << 20;

struct Job {
    collection: CollectionId,
    file: FileId,
    bytes: u64,
    checksum: u64,
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
    let files = collections.into_iter().flat_map(|collection| {
        let files = collection.sealed.iter().rev();
        files.filter(|file| file.place == Place::Disk && collection.is_published(file.record.partition))
    });
    files
        .map(|file| Job {
            collection: file.record.collection,
            file: file.record.id,
            bytes: file.record.file_bytes,
            checksum: file.record.checksum,
        })
        .collect()
}

/// `checked` are files whose bytes were read once already: where they do not fit, they are not read again.
fn fill(engine: &Engine, checked: &mut HashSet<(CollectionId, FileId)>) {
    let mut jobs = jobs(&lock(&engine.state));
    let present: HashSet<_> = jobs.iter().map(|job| (job.collection, job.file)).collect();
    checked.retain(|file| present.contains(file));
    jobs.retain(|job| !checked.contains(&(job.collection, job.file)) || engine.publisher.has_room(job.bytes));
    let mut copied_bytes = 0;
    for (index, job) in jobs.iter().enumerate() {
        if engine.is_stopping() {
            return;
        }
        let path = engine.store.table_path(job.collection, job.file);
        let outcome = engine.publisher.place_table(job.collection, job.file, &path, job.checksum, true);
        match outcome {
            Ok(Place::Shm) => {
                copied_bytes += job.bytes;
                note_place(engine, job);
            }
            // There is no room: the next files may be smaller.
            Ok(Place::Disk) => {
                checked.insert((job.collection, job.file));
            }
            Err(error) if error.kind == ErrorKind::Corrupt => note_damage(engine, job, &error.message),
            // Merged away or dropped meanwhile, or the disk fails: readers go on with what they map.
            Err(error) => tracing::debug!("table file {} stays on disk: {error}", job.file),
        }
        let is_last = jobs.get(index + 1).is_none_or(|next| next.collection != job.collection);
        if is_last || copied_bytes >= PUBLISH_BYTES {
            publish(engine, job.collection);
            copied_bytes = 0;
        }
    }
}

fn note_place(engine: &Engine, job: &Job) {
    let mut state = lock(&engine.state);
    let mut is_wanted = false;
    if let Some(collection) = state.collections.get_mut(&job.collection)
        && let Some(index) = collection.sealed.iter().position(|file| file.record.id == job.file)
        && collection.is_published(collection.sealed[index].record.partition)
    {
        collection.sealed[index].place = Place::Shm;
        collection.is_dirty = true;
        is_wanted = true;
    }
    drop(state);
    if !is_wanted {
        engine.publisher.remove_table(job.collection, job.file);
    }
}

fn note_damage(engine: &Engine, job: &Job, message: &str) {
    let mut state = lock(&engine.state);
    if let Some(collection) = state.collections.get_mut(&job.collection)
        && collection.sealed.iter().any(|file| file.record.id == job.file)
    {
        let path = engine.store.table_path(job.collection, job.file);
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
