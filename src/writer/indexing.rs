//! Indexes of table files: which are wanted, orders to the builder, and taking over what it made.
//!
//! States of a table file: RAW (scanned), TO_INDEX (the builder shall take it, still scanned), BACKUP (its indexes are
//! searched, it serves fields and exact distances). An index file is in meta exactly when it is finished (INDEX).

use std::collections::VecDeque;
use std::fs::File;
use std::sync::Mutex;
use std::time::Duration;

use super::engine::Engine;
use super::lock;
use super::state::{BuiltIndex, Collection, FailedBuilds, Garbage, SealedIndex, SealedTable, State};
use crate::config::limits::BUILD_ATTEMPTS_MAX;
use crate::format::table::checksum;
use crate::index::IndexFile;
use crate::ipc::control::{BuildOrder, BuildOutcome, Notice, Notices, Order};
use crate::ipc::progress::Gauge;
use crate::shm::manifest::Place;
use crate::storage::meta::MetaEdit;
use crate::sys::failpoint::{self, Steps};
use crate::sys::map::SharedMap;
use crate::types::{
    CollectionId, DurableFile, Error, ErrorKind, FileId, FileRecord, FileState, IndexFileRecord, IndexId, Result,
};

/// How long the thread sleeps when nothing wakes it: files settle while it does.
const TICK: Duration = Duration::from_secs(1);
/// A younger file is likely to be merged soon, which would waste its index ...
const SETTLE_TIME: Duration = Duration::from_secs(2);
/// ... unless it is as large as this: the next merge of its layer is far away.
const SETTLED_BYTES: u64 = 64 << 20;
const STEPS: Steps = Steps("index.file");

/// What the writer knows of the builder: told by the thread that follows the supervisor's orders.
#[derive(Debug, Default)]
pub struct BuilderLine(Mutex<Line>);

#[derive(Debug, Default)]
struct Line {
    is_ready: bool,
    /// What it was told to build last, until it or its death answers.
    current: Option<BuildOrder>,
    outcomes: VecDeque<BuildOutcome>,
}

impl BuilderLine {
    /// Notes an order that is about the builder.
    pub fn hear(&self, order: Order) {
        let mut line = lock(&self.0);
        match order {
            Order::BuilderReady => line.is_ready = true,
            Order::BuilderDied { reason } => {
                line.is_ready = false;
                if let Some(order) = line.current.take() {
                    let result = Err(format!("the builder died: {reason}"));
                    line.outcomes.push_back(BuildOutcome { order, result });
                }
            }
            Order::Built(outcome) => {
                // Of an order of an earlier writer there may be an outcome, too; the present order stays open then.
                if line.current.as_ref() == Some(&outcome.order) {
                    line.current = None;
                }
                line.outcomes.push_back(outcome);
            }
            _ => {}
        }
    }
}

/// Has indexes built until the writer stops.
///
/// # Errors
/// When meta and memory differ: only a new writer can bring them in line.
pub fn run(engine: &Engine, notices: &Notices) -> Result<()> {
    while !engine.is_stopping() {
        engine.index.wait(TICK);
        loop {
            // A statement of its own: the lock is let go before the outcome is dealt with.
            let outcome = lock(&engine.builder.0).outcomes.pop_front();
            let Some(outcome) = outcome else { break };
            settle(engine, outcome)?;
        }
        if let Err(error) = reconcile(engine) {
            tracing::warn!("states of table files will be changed later: {error}");
        }
        order_next(engine, notices);
    }
    // What is given up now failed at nothing.
    forget(engine, MetaEdit::DropBuilds);
    Ok(())
}

/// Forgets attempts. One that stays noted counts as failed after the next start, no more.
fn forget(engine: &Engine, edit: MetaEdit) {
    let forgotten = lock(&engine.meta).apply(&[edit]);
    if let Err(error) = forgotten {
        tracing::warn!("attempts to build indexes stay noted: {error}");
    }
}

/// A change of one table file's indexes.
enum Change {
    State(FileId, FileState),
    Drop(FileId, IndexId),
}

/// Brings states of table files in line with the indexes of their collections, and drops index files of dropped indexes.
///
/// # Errors
/// Those of meta: nothing is changed then.
pub fn reconcile(engine: &Engine) -> Result<()> {
    if lock(&engine.state).collections.values().all(|collection| changes(collection).is_empty()) {
        return Ok(());
    }
    let mut meta = lock(&engine.meta);
    // Meta is held, so nobody else changes records until all is done.
    let (changes, edits) = {
        let state = lock(&engine.state);
        let all: Vec<(CollectionId, Vec<Change>)> =
            state.collections.iter().map(|(id, collection)| (*id, changes(collection))).collect();
        let edits: Vec<MetaEdit> = all
            .iter()
            .filter_map(|(id, changes)| Some((state.collections.get(id)?, changes)))
            .flat_map(|(collection, changes)| changes.iter().filter_map(|change| edit(collection, change)))
            .collect();
        (all, edits)
    };
    meta.apply(&edits)?;
    let mut state = lock(&engine.state);
    for (id, changes) in changes.into_iter().filter(|(_, changes)| !changes.is_empty()) {
        let Some(collection) = state.collections.get_mut(&id) else { continue };
        changes.into_iter().for_each(|change| apply(collection, change));
        publish(engine, collection);
    }
    Ok(())
}

fn changes(collection: &Collection) -> Vec<Change> {
    let built = collection.built_indexes();
    let mut changes = Vec::new();
    for file in &collection.sealed {
        let stale = file.indexes.iter().filter(|index| !built.iter().any(|known| known.id == index.record.index));
        changes.extend(stale.map(|index| Change::Drop(file.record.id, index.record.index)));
        let state = wanted_state(file, &built);
        if state != file.record.state {
            changes.push(Change::State(file.record.id, state));
        }
    }
    changes
}

fn wanted_state(file: &SealedTable, built: &[BuiltIndex]) -> FileState {
    let is_open = file.lacking(built).any(|index| file.given_up(index.id).is_none());
    let has_index = file.indexes.iter().any(|index| built.iter().any(|known| known.id == index.record.index));
    // Once ordered it stays ordered.
    let is_settled = file.record.state == FileState::ToIndex
        || file.record.file_bytes >= SETTLED_BYTES
        || file.since.is_none_or(|since| since.elapsed() >= SETTLE_TIME);
    match (is_open && is_settled, has_index) {
        (true, _) => FileState::ToIndex,
        (false, true) => FileState::Backup,
        (false, false) => FileState::Raw,
    }
}

fn edit(collection: &Collection, change: &Change) -> Option<MetaEdit> {
    match *change {
        Change::Drop(file, index) => Some(MetaEdit::DropIndexFile(file, index)),
        Change::State(id, state) => {
            let file = collection.sealed.iter().find(|file| file.record.id == id)?;
            Some(MetaEdit::PutFile(FileRecord { state, ..file.record.clone() }))
        }
    }
}

fn apply(collection: &mut Collection, change: Change) {
    let (Change::State(id, _) | Change::Drop(id, _)) = change;
    let Some(file) = collection.sealed.iter_mut().find(|file| file.record.id == id) else { return };
    match change {
        Change::State(_, state) => file.record.state = state,
        Change::Drop(_, index) => {
            file.indexes.retain(|known| known.record.index != index);
            collection.garbage.push(Garbage::Durable(DurableFile::Index(id, index)));
        }
    }
}

fn publish(engine: &Engine, collection: &mut Collection) {
    if let Err(error) = engine.publish_unless_recovering(collection) {
        tracing::warn!("the manifest of collection {} cannot be published yet: {error}", collection.record.id);
    }
}

/// Tells an idle builder what to build next.
fn order_next(engine: &Engine, notices: &Notices) {
    let mut line = lock(&engine.builder.0);
    if !line.is_ready || line.current.is_some() || engine.is_stopping() {
        return;
    }
    let Some((order, attempt)) = choose_order(&mut lock(&engine.state)) else { return };
    // First of all it is noted: a build that takes the whole server down must not be tried for ever.
    let note = MetaEdit::PutBuild(order.file, order.index, attempt);
    let noted = lock(&engine.meta).apply(&[note]);
    if let Err(error) = noted {
        tracing::warn!("no index is built yet: {error}");
        if let Some(file) = table_of(&mut lock(&engine.state), order.collection, order.file) {
            file.is_indexing = false;
        }
        return;
    }
    tracing::debug!("index {} over table file {} is ordered", order.index, order.file);
    line.current = Some(order.clone());
    notices.send(Notice::Build(order));
}

/// What to build next, and the how manieth attempt that is; its file is marked.
fn choose_order(state: &mut State) -> Option<(BuildOrder, u32)> {
    let order = next_order(state)?;
    let file = table_of(state, order.collection, order.file)?;
    file.is_indexing = true;
    let failed = file.failed.iter().find(|failed| failed.index == order.index);
    let attempt = failed.map_or(0, |failed| failed.count) + 1;
    Some((order, attempt))
}

/// The largest file that waits, of a loaded collection if there is one: it costs searches the most.
fn next_order(state: &State) -> Option<BuildOrder> {
    let mut best: Option<((bool, u64), BuildOrder)> = None;
    for collection in state.collections.values() {
        let waiting =
            |file: &&SealedTable| file.record.state == FileState::ToIndex && !file.is_merging && !file.is_indexing;
        if !collection.sealed.iter().any(|file| waiting(&file)) {
            continue;
        }
        let built = collection.built_indexes();
        for file in collection.sealed.iter().filter(waiting) {
            let rank = (collection.is_published(file.record.partition), file.record.row_count);
            let index = file.lacking(&built).find(|index| file.given_up(index.id).is_none());
            if let Some(index) = index.filter(|_| best.as_ref().is_none_or(|(other, _)| rank > *other)) {
                best = Some((rank, build_order(file, index)));
            }
        }
    }
    best.map(|(_, order)| order)
}

fn build_order(file: &SealedTable, index: &BuiltIndex) -> BuildOrder {
    BuildOrder {
        collection: file.record.collection,
        file: file.record.id,
        table_checksum: file.record.checksum,
        row_count: file.record.row_count,
        index: index.id,
        field: index.field.clone(),
        spec: index.spec.clone(),
    }
}

fn table_of(state: &mut State, collection: CollectionId, file: FileId) -> Option<&mut SealedTable> {
    let collection = state.collections.get_mut(&collection)?;
    collection.sealed.iter_mut().find(|table| table.record.id == file)
}

/// Deals with what became of an order.
fn settle(engine: &Engine, outcome: BuildOutcome) -> Result<()> {
    let BuildOutcome { order, result } = outcome;
    let adopted = match result {
        Ok(()) => adopt(engine, &order),
        Err(message) => Err(Refused { message, is_fatal: None }),
    };
    if let Some(file) = table_of(&mut lock(&engine.state), order.collection, order.file) {
        file.is_indexing = false;
    }
    forget(engine, MetaEdit::DropBuild(order.file, order.index));
    match adopted {
        Ok(()) => Ok(()),
        Err(Refused { is_fatal: Some(error), .. }) => Err(error),
        Err(Refused { message, .. }) => {
            note_failure(engine, &order, message);
            Ok(())
        }
    }
}

/// Why an index was not taken over.
struct Refused {
    message: String,
    /// Meta and memory differ.
    is_fatal: Option<Error>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Refused {
        Refused { message: error.message, is_fatal: None }
    }
}

fn note_failure(engine: &Engine, order: &BuildOrder, message: String) {
    let mut state = lock(&engine.state);
    let Some(file) = table_of(&mut state, order.collection, order.file) else { return };
    let before = file.failed.iter().find(|failed| failed.index == order.index).map_or(0, |failed| failed.count);
    file.failed.retain(|failed| failed.index != order.index);
    let (count, id) = (before + 1, order.file);
    tracing::warn!("attempt {count} of {BUILD_ATTEMPTS_MAX} to index table file {id} failed: {message}");
    file.failed.push(FailedBuilds { index: order.index, count, message });
}

/// Attempts of servers before that nobody answered: each ended while it built. Only an orderly stop forgets them, so that a
/// build for which the whole server is killed is not tried at every start.
pub fn remember_attempts(engine: &Engine, collection: &mut Collection, builds: &[(FileId, IndexId, u32)]) {
    /// Number of the first writer of a server.
    const FIRST_INCARNATION: u32 = 1;
    for (file, index, attempt) in builds {
        let Some(table) = collection.sealed.iter_mut().find(|table| table.record.id == *file) else { continue };
        // Another writer of this very server ended; the builder goes on.
        let count = if engine.incarnation == FIRST_INCARNATION { *attempt } else { attempt.saturating_sub(1) };
        if count == 0 {
            continue;
        }
        let message = format!(
            "the server was killed while it built this index, in {count} attempts; give it more memory, then stop and start \
             it, or drop and create the index"
        );
        table.failed.push(FailedBuilds { index: *index, count, message });
    }
}

/// Whether the index is still wanted over that very table file.
fn is_wanted(state: &State, order: &BuildOrder) -> bool {
    let Some(collection) = state.collections.get(&order.collection) else { return false };
    let file = collection.sealed.iter().find(|file| file.record.id == order.file);
    let built = collection.built_indexes();
    file.is_some_and(|file| {
        file.record.checksum == order.table_checksum && file.lacking(&built).any(|index| index.id == order.index)
    })
}

/// Checks what the builder made, gives it its name, then swaps in one transaction: the index is there (INDEX) and the
/// table file its BACKUP.
fn adopt(engine: &Engine, order: &BuildOrder) -> Result<(), Refused> {
    let made = order.made_path(&engine.instance);
    let name = DurableFile::Index(order.file, order.index);
    if !is_wanted(&lock(&engine.state), order) {
        // Dropped or merged away meanwhile. What cannot be removed goes with the server's run directory.
        let _ = std::fs::remove_file(&made);
        return Ok(());
    }
    // The builder makes nothing under a name that is taken.
    let record = verified(order, &made).inspect_err(|_| drop(std::fs::remove_file(&made)))?;
    engine.store.adopt(&made, order.collection, name, STEPS)?;
    let is_published = {
        let state = lock(&engine.state);
        let collection = state.collections.get(&order.collection);
        let file = collection.and_then(|it| it.sealed.iter().find(|file| file.record.id == order.file));
        collection.zip(file).is_some_and(|(collection, file)| collection.is_published(file.record.partition))
    };
    let path = engine.store.path(order.collection, name);
    let place = match is_published {
        true => engine.publisher.place(order.collection, name, &path, record.checksum, true)?,
        false => Place::Disk,
    };
    commit(engine, order, SealedIndex { record, place, is_checked: true })
}

/// Reads the whole file: nothing that another process wrote is believed.
fn verified(order: &BuildOrder, made: &std::path::Path) -> Result<IndexFileRecord> {
    let map = File::open(made).and_then(|file| SharedMap::read(&file));
    let map = map.map_err(|error| Error::io(format_args!("read the built index {}", made.display()), &error))?;
    let file = IndexFile::open(map.into())?;
    if *file.header() != order.header() {
        return Err(Error::new(ErrorKind::Corrupt, "the builder built something else than it was told"));
    }
    file.verify()?;
    Ok(IndexFileRecord {
        file: order.file,
        index: order.index,
        collection: order.collection,
        file_bytes: file.bytes().len() as u64,
        checksum: checksum(file.bytes()),
    })
}

fn commit(engine: &Engine, order: &BuildOrder, index: SealedIndex) -> Result<(), Refused> {
    let name = index.record.name();
    let mut meta = lock(&engine.meta);
    let table = {
        let state = lock(&engine.state);
        let file = state.collections.get(&order.collection).filter(|_| is_wanted(&state, order));
        let file = file.and_then(|collection| collection.sealed.iter().find(|file| file.record.id == order.file));
        file.map(|file| file.record.clone())
    };
    let Some(table) = table else {
        remove(engine, order.collection, name);
        return Ok(());
    };
    let table = FileRecord { state: FileState::Backup, ..table };
    let edits = [MetaEdit::PutIndexFile(index.record.clone()), MetaEdit::PutFile(table.clone())];
    if let Err(error) = meta.apply(&edits) {
        remove(engine, order.collection, name);
        return Err(error.into());
    }
    failpoint::reach("index.meta_changed");
    let mut state = lock(&engine.state);
    let fatal = |error: Error| Refused { message: error.message.clone(), is_fatal: Some(error) };
    let collection = state.collection(order.collection).map_err(fatal)?;
    let is_published = collection.is_published(table.partition);
    let file = collection.sealed.iter_mut().find(|file| file.record.id == order.file);
    let file = file.ok_or_else(|| fatal(Error::internal("a table file went while meta was held")))?;
    file.record = table;
    file.failed.retain(|failed| failed.index != order.index);
    let place = if is_published { index.place } else { Place::Disk };
    if place != index.place {
        engine.publisher.remove_copy(order.collection, name);
    }
    file.indexes.push(SealedIndex { place, ..index });
    publish(engine, collection);
    failpoint::reach("index.published");
    engine.count(Gauge::IndexBuilds, 1);
    Ok(())
}

fn remove(engine: &Engine, collection: CollectionId, file: DurableFile) {
    engine.publisher.remove_copy(collection, file);
    if let Err(error) = engine.store.remove(collection, file) {
        tracing::warn!("{file} of collection {collection} stays until the next start: {error}");
    }
}

/// Drops a damaged index: searches scan the table file until it is built anew.
pub fn discard(engine: &Engine, id: CollectionId, file: FileId, index: IndexId, message: &str) {
    tracing::warn!("an index of collection {id} is built again: {message}");
    let mut meta = lock(&engine.meta);
    if let Err(error) = meta.apply(&[MetaEdit::DropIndexFile(file, index)]) {
        tracing::warn!("the damaged index stays named: {error}");
        return;
    }
    let mut state = lock(&engine.state);
    if let Some(collection) = state.collections.get_mut(&id) {
        apply(collection, Change::Drop(file, index));
        publish(engine, collection);
    }
    engine.index.raise();
}

/// Finds an index again at the start. A damaged one is dropped and built anew; one for whose check there is no time now waits
/// for it.
pub fn load(engine: &Engine, collection: &mut Collection, record: &IndexFileRecord, unchecked_bytes: &mut u64) {
    let is_loaded = |partition| collection.is_published(partition);
    let table = collection.sealed.iter().find(|file| file.record.id == record.file);
    let Some(table) = table else { return };
    let is_published = is_loaded(table.record.partition);
    let path = engine.store.path(record.collection, record.name());
    let is_checked = match check(&path, &table.record, record, unchecked_bytes) {
        Ok(is_checked) => is_checked,
        Err(error) => {
            tracing::warn!("index {} is built again: {error}", path.display());
            if let Err(error) = lock(&engine.meta).apply(&[MetaEdit::DropIndexFile(record.file, record.index)]) {
                tracing::warn!("the damaged index stays named: {error}");
            }
            return remove(engine, record.collection, record.name());
        }
    };
    let place = match is_published {
        true => engine.publisher.place(record.collection, record.name(), &path, record.checksum, false),
        false => Ok(Place::Disk),
    };
    let place = place.unwrap_or(Place::Disk);
    // A copy got its name only after its checksum was right.
    let index = SealedIndex { record: record.clone(), place, is_checked: is_checked || place == Place::Shm };
    if let Some(table) = collection.sealed.iter_mut().find(|file| file.record.id == record.file) {
        table.indexes.push(index);
    }
}

/// Whether its checksum was compared, too.
fn check(
    path: &std::path::Path,
    table: &FileRecord,
    record: &IndexFileRecord,
    unchecked_bytes: &mut u64,
) -> Result<bool> {
    let map = File::open(path).and_then(|file| SharedMap::read(&file));
    let map = map.map_err(|error| Error::io(format_args!("read {}", path.display()), &error))?;
    if map.len() as u64 != record.file_bytes {
        return Err(Error::new(ErrorKind::Corrupt, "its length is not that it was written with"));
    }
    let file = IndexFile::open(map.into())?;
    let header = file.header();
    if (header.index, header.table, header.table_checksum) != (record.index, table.id, table.checksum) {
        return Err(Error::new(ErrorKind::Corrupt, "it was built from another table file"));
    }
    if record.file_bytes > *unchecked_bytes {
        return Ok(false);
    }
    *unchecked_bytes -= record.file_bytes;
    if checksum(file.bytes()) != record.checksum {
        return Err(Error::new(ErrorKind::Corrupt, "its checksum does not match"));
    }
    Ok(true)
}
