//! Moves published indexes, and the tables whose rows they rank, into huge pages: after publication, a part of one core's time.
//!
//! Any process that maps a file can do it for all: the kernel replaces the pages of the file itself, and whoever maps them
//! finds the new ones at the next access.

use std::collections::HashSet;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::lock;
use super::state::State;
use crate::shm::manifest::Place;
use crate::sys::failpoint;
use crate::types::{CollectionId, DurableFile, Result};

/// How long the thread sleeps between two looks at what was published.
const TICK: Duration = Duration::from_secs(1);
/// For each time of work so many of rest: searches that want a core, or a page under way, get it.
const REST: u32 = 2;

type Copy = (CollectionId, DurableFile);

/// Moves until the writer stops.
///
/// # Errors
/// Never: what cannot be moved stays in small pages, and is searched there.
pub fn run(engine: &Engine) -> Result<()> {
    let mut done: HashSet<Copy> = HashSet::new();
    let mut is_told = false;
    while !engine.is_stopping() {
        let copies = copies(&lock(&engine.state));
        let present: HashSet<Copy> = copies.iter().copied().collect();
        done.retain(|copy| present.contains(copy));
        for (collection, file) in copies {
            if engine.is_stopping() || !done.insert((collection, file)) {
                continue;
            }
            let mut begun = Instant::now();
            let mut rest = || {
                failpoint::reach("index.moved");
                engine.huge_pages.wait(begun.elapsed() * REST);
                begun = Instant::now();
                !engine.is_stopping()
            };
            let moved = engine.publisher.use_huge_pages(collection, file, &mut rest);
            let failure = moved.err().filter(|error| error.kind() != ErrorKind::NotFound && !is_told);
            if let Some(error) = failure {
                is_told = true;
                tracing::debug!("{file} of collection {collection} stays in small pages, maybe others: {error}");
            }
        }
        if !engine.is_stopping() {
            engine.huge_pages.wait(TICK);
        }
    }
    Ok(())
}

/// Indexes in shared memory, and their tables: searches take the exact distances from those.
fn copies(state: &State) -> Vec<Copy> {
    let files = state.collections.values().flat_map(|collection| &collection.sealed);
    let of_file = files.filter(|file| !file.indexes.is_empty()).flat_map(|file| {
        let collection = file.record.collection;
        let indexes = file.indexes.iter().filter(|index| index.place == Place::Shm);
        let table = (file.place == Place::Shm).then_some(DurableFile::Table(file.record.id));
        indexes.map(|index| index.record.name()).chain(table).map(move |file| (collection, file))
    });
    of_file.collect()
}
