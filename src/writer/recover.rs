//! The start: meta, table files, delete checkpoints, then the log; afterwards everything acknowledged is in place again.
//!
//! Live files are always fresh: what a dead writer left growing may hold half of an operation that was never
//! acknowledged. Readers go on with its manifests until the new ones are published, all of them before `visible_ts` moves.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use super::buffer::Buffer;
use super::clock::{Clock, Sequence};
use super::commit::{Stamp, place, prepare};
use super::deletes;
use super::engine::{Engine, Signal};
use super::mem_manager::Refusal;
use super::output::open_table;
use super::rows_operation::{DecodedRows, Destination};
use super::state::{Collection, SealedTable, State};
use super::{flush, indexing, lock, serialise};
use crate::config::{Instance, ServerConfig};
use crate::format::RowSource;
use crate::format::deletes::decode_checkpoint;
use crate::format::log_record::{LogRecord, RecordKind};
use crate::format::table;
use crate::ipc::progress::ProgressCell;
use crate::proto::{rows, schema};
use crate::shm::manifest::{Manifest, Place};
use crate::shm::publish::Publisher;
use crate::storage::log::{Log, LogRecovery};
use crate::storage::meta::{Meta, MetaEdit, MetaState};
use crate::storage::tables::TableStore;
use crate::sys::clock::unix_ms;
use crate::sys::failpoint;
use crate::types::{DurableFile, Error, ErrorKind, FileRecord, FileState, Lsn, PartitionId, Result, Timestamp};

/// Bytes of table and index files whose checksum is checked before the first answer; the rest is checked when it is copied
/// into shared memory. An index is not searched before, a table file is.
const CHECKED_BYTES_MAX: u64 = 1 << 30;

/// Opens everything, recovers and publishes. Afterwards readers see every acknowledged operation.
///
/// # Errors
/// When the disk, meta or the log cannot be read. A damaged table file is no error: its collection says so.
pub fn open(
    config: ServerConfig,
    instance: Instance,
    incarnation: u32,
    cell: Option<ProgressCell>,
) -> Result<Arc<Engine>> {
    let meta = Meta::open(&instance.meta_path())?;
    let known = meta.load()?;
    let engine = engine(config, instance, incarnation, cell, meta, &known)?;
    sweep_tables(&engine, &known)?;
    failpoint::reach("recover.swept");
    let mut newest = known.timestamp_high.max(engine.publisher.control().visible());
    load_state(&engine, &known, &mut newest)?;
    failpoint::reach("recover.loaded");
    engine.clock.advance(newest);
    engine.prepare_numbers()?;
    replay_log(&engine, &known, &mut newest)?;
    failpoint::reach("recover.replayed");
    engine.clock.advance(newest);
    engine.prepare_numbers()?;
    publish_all(&engine)?;
    Ok(engine)
}

fn engine(
    config: ServerConfig,
    instance: Instance,
    incarnation: u32,
    cell: Option<ProgressCell>,
    meta: Meta,
    known: &MetaState,
) -> Result<Arc<Engine>> {
    let publisher = Publisher::open(&instance, &config)?;
    Ok(Arc::new(Engine {
        store: TableStore::new(instance.clone()),
        publisher,
        incarnation,
        clock: Clock::new(Timestamp(0)),
        buffer: Buffer::new(config.insert_buffer_size),
        ids: Sequence::new(known.id_next, 1024, MetaEdit::SetIdNext),
        row_ids: Sequence::new(known.row_id_next, 1 << 20, MetaEdit::SetRowIdNext),
        lsn_next: AtomicU64::new(0),
        meta: Mutex::new(meta),
        state: Mutex::default(),
        log: OnceLock::new(),
        serialise: Signal::default(),
        merge: Signal::default(),
        fill: Signal::default(),
        index: Signal::default(),
        huge_pages: Signal::default(),
        builder: super::indexing::BuilderLine::default(),
        flushes: flush::FlushWaiters::default(),
        compactions: super::compactions::Compactions::default(),
        cell,
        is_closing: AtomicBool::new(false),
        is_stopping: AtomicBool::new(false),
        config,
        instance,
    }))
}

fn sweep_tables(engine: &Engine, known: &MetaState) -> Result<()> {
    let removed = engine.store.sweep(&|collection, file| match file {
        Some(DurableFile::Table(file)) => {
            known.files.iter().any(|record| record.collection == collection && record.id == file)
        }
        Some(file) => known.index_files.iter().any(|record| record.collection == collection && record.name() == file),
        None => known.collections.iter().any(|record| record.id == collection),
    })?;
    if removed > 0 {
        tracing::info!("removed {removed} files that a killed writer left half-made");
    }
    Ok(())
}

fn load_state(engine: &Engine, known: &MetaState, newest: &mut Timestamp) -> Result<()> {
    let mut state = State { databases: known.databases.clone(), ..State::default() };
    for (database, alias, collection) in &known.aliases {
        state.aliases.insert((database.clone(), alias.clone()), *collection);
    }
    let mut unchecked_bytes = if crate::fail_point!("recover.checking").is_ok() { CHECKED_BYTES_MAX } else { 0 };
    for record in &known.collections {
        let mut collection = Collection::new(record.clone());
        let files = known.files.iter().filter(|file| file.collection == record.id && is_readable(file.state));
        for file in files {
            *newest = (*newest).max(Timestamp(file.timestamps.1));
            load_file(engine, &mut collection, file, &mut unchecked_bytes, newest)?;
        }
        let index_files = known.index_files.iter().filter(|index| index.collection == record.id);
        index_files.for_each(|index| indexing::load(engine, &mut collection, index, &mut unchecked_bytes));
        indexing::remember_attempts(engine, &mut collection, &known.builds);
        // Merges of earlier writers dropped no row that was deleted within the retention.
        let retention = u64::try_from(engine.config.snapshot_retention.as_millis()).unwrap_or(u64::MAX);
        collection.horizon = Timestamp::from_unix_ms(unix_ms().saturating_sub(retention));
        // Nor one deleted after what was visible: readers that are attached go on with that until all is published.
        let visible = engine.publisher.control().visible();
        if visible > Timestamp(0) {
            collection.horizon = collection.horizon.min(visible);
        }
        state.add(collection);
    }
    *lock(&engine.state) = state;
    Ok(())
}

fn is_readable(state: FileState) -> bool {
    matches!(state, FileState::Raw | FileState::ToIndex | FileState::Index | FileState::Backup)
}

/// Maps a table file. A damaged one is noted, not fatal: everything else goes on.
fn load_file(
    engine: &Engine,
    collection: &mut Collection,
    record: &FileRecord,
    unchecked_bytes: &mut u64,
    newest: &mut Timestamp,
) -> Result<()> {
    match open_checked(engine, record, unchecked_bytes) {
        Ok((mut sealed, marks)) => {
            if collection.is_published(record.partition) {
                // A copy that a dead writer left in shared memory is used again; anything else is published from disk at
                // once and copied later.
                let path = engine.store.table_path(record.collection, record.id);
                let placed = engine.publisher.place(
                    record.collection,
                    DurableFile::Table(record.id),
                    &path,
                    record.checksum,
                    false,
                );
                sealed.place = placed.unwrap_or(Place::Disk);
            }
            collection.sealed.push(sealed);
            let index = collection.sealed.len() - 1;
            if !marks.is_empty() {
                deletes::ensure_live_deletes(engine, collection, index)?;
                let file = &mut collection.sealed[index];
                for (row, at) in marks {
                    file.marked_last = file.marked_last.max(Timestamp(at));
                    if let Some(deletes) = &file.deletes {
                        deletes.cells.mark(row as usize, at);
                    }
                }
                *newest = (*newest).max(file.marked_last);
            }
        }
        Err(error) => {
            let path = engine.store.table_path(record.collection, record.id);
            let text = damage_text(&path, &error.message);
            tracing::error!("collection {}: {text}", collection.record.name);
            collection.damage = Some(text);
            collection.unreadable.push(record.clone());
        }
    }
    Ok(())
}

/// What every request on a damaged collection is told.
pub fn damage_text(path: &Path, detail: &str) -> String {
    format!(
        "table file {} is damaged: {detail}; run `shoal doctor` on the data directory, or restore the file from a backup",
        path.display()
    )
}

fn open_checked(
    engine: &Engine,
    record: &FileRecord,
    unchecked_bytes: &mut u64,
) -> Result<(SealedTable, Vec<(u32, u64)>)> {
    let corrupt = |detail: String| Error::new(ErrorKind::Corrupt, detail);
    let opened = open_table(engine, record.collection, record.id)?;
    let found = (opened.bytes().len() as u64, opened.row_count() as u64);
    if found != (record.file_bytes, record.row_count) {
        return Err(corrupt(format!("it has {} bytes and {} rows, not those it was written with", found.0, found.1)));
    }
    if record.file_bytes <= *unchecked_bytes {
        *unchecked_bytes -= record.file_bytes;
        if table::checksum(opened.bytes()) != record.checksum {
            return Err(corrupt("its checksum does not match".to_owned()));
        }
    }
    let marks = match record.deleted_count {
        0 => Vec::new(),
        _ => {
            let path = engine.store.deletes_path(record.collection, record.id);
            let damaged = |error: &dyn std::fmt::Display| {
                corrupt(format!("its delete checkpoint {} cannot be used: {error}", path.display()))
            };
            let bytes = std::fs::read(&path).map_err(|error| damaged(&error))?;
            decode_checkpoint(&bytes, opened.row_count()).map_err(|error| damaged(&error))?
        }
    };
    Ok((SealedTable::new(record.clone(), opened), marks))
}

fn replay_log(engine: &Engine, known: &MetaState, newest: &mut Timestamp) -> Result<()> {
    let flushed = known.collections.iter().flat_map(|collection| {
        let partitions = collection.partitions.iter().map(|partition| partition.flushed_lsn.0 + 1);
        partitions.chain([collection.start_lsn.0])
    });
    let first_lsn_min = flushed.chain([known.lsn_next.0, known.deletes_flushed_lsn.0, 1]).max().unwrap_or(1);
    let (log, LogRecovery { record_count, torn_bytes, first }) =
        Log::open(&engine.instance.log_dir(), Lsn(first_lsn_min), &mut |record| {
            *newest = (*newest).max(record.timestamp);
            engine.clock.advance(record.timestamp);
            // Everything below was made durable elsewhere before the log was cut there.
            if record.lsn < known.deletes_flushed_lsn {
                return Ok(());
            }
            replay(engine, record)
        })?;
    if record_count > 0 || torn_bytes > 0 {
        tracing::info!("replayed {record_count} log records, cut {torn_bytes} bytes of a torn one");
    }
    check_log_begins(engine, known, first, log.next_lsn())?;
    engine.lsn_next.store(log.next_lsn().0, Ordering::Relaxed);
    engine.log.set(Mutex::new(log)).map_err(|_| Error::internal("the log was opened twice"))
}

/// The catalog says up to where the log was cut. One that begins later has lost segments, or the catalog its last changes.
fn check_log_begins(engine: &Engine, known: &MetaState, first: Option<Lsn>, next: Lsn) -> Result<()> {
    match first {
        Some(first) if first > known.deletes_flushed_lsn.max(Lsn(1)) => Err(Error::new(
            ErrorKind::Corrupt,
            format!(
                "the log {} begins at record {first}, but the catalog needs it from record {} on: a log segment is missing, \
                 or the catalog's last changes; restore the data directory from a backup",
                engine.instance.log_dir().display(),
                known.deletes_flushed_lsn
            ),
        )),
        Some(_) => Ok(()),
        // The directory is new, or the operator moved a damaged log away: it begins here.
        None => lock(&engine.meta).apply(&[MetaEdit::SetDeletesFlushedLsn(next)]),
    }
}

fn replay(engine: &Engine, record: &LogRecord<'_>) -> Result<()> {
    loop {
        engine.prepare_numbers()?;
        match try_replay(engine, record) {
            Ok(()) => return Ok(()),
            Err(Refusal::Failed(error)) => return Err(error),
            Err(Refusal::NeedRoom(bytes)) => {
                // The buffer is smaller than it was, or fuller packed: what was replayed so far is in the log, so it
                // may become table files.
                flush::rotate_all(&mut lock(&engine.state));
                serialise::serialise_all(engine, Timestamp::MAX).map_err(|failure| failure.error)?;
                if engine.buffer.used().0 + bytes > engine.buffer.cap() {
                    return Err(Error::internal(format!(
                        "log record {} does not fit into the insert buffer",
                        record.lsn
                    )));
                }
            }
        }
    }
}

/// Replays one record. Idempotent: rows that are in table files are left out, rows that are marked stay as they are.
fn try_replay(engine: &Engine, record: &LogRecord<'_>) -> Result<(), Refusal> {
    let mut state = lock(&engine.state);
    // Dropped since.
    let Ok(collection) = state.collection(record.collection) else { return Ok(()) };
    if record.lsn < collection.record.start_lsn {
        return Ok(());
    }
    let stamp = Stamp { lsn: record.lsn, timestamp: record.timestamp };
    if record.kind == RecordKind::Delete {
        return Ok(replay_delete(engine, collection, record, stamp)?);
    }
    let Some(destination) = Destination::of_record(collection, record.partition) else { return Ok(()) };
    let flushed: Vec<PartitionId> = collection
        .record
        .partitions
        .iter()
        .filter(|partition| record.lsn <= partition.flushed_lsn)
        .map(|partition| partition.id)
        .collect();
    let is_flushed = match &destination {
        Destination::Partition(partition) => flushed.contains(partition),
        Destination::ByKey(partitions) => flushed.len() == partitions.len(),
    };
    if is_flushed && record.kind == RecordKind::Insert {
        return Ok(());
    }
    let schema = collection.schema.clone();
    let decoded = DecodedRows::of_record(&schema, record.kind, record.payload, record.first_id);
    let rows = decoded.and_then(|rows| rows.into_operation(record.collection, destination, &schema, record.first_id));
    let mut rows = rows.map_err(|error| {
        Error::new(ErrorKind::Corrupt, format!("log record {} cannot be replayed: {error}", record.lsn))
    })?;
    rows.parts.retain(|part| !flushed.contains(&part.partition));
    let prepared = prepare(engine, collection, &rows, record.timestamp)?;
    place(engine, collection, &rows, prepared, stamp);
    Ok(())
}

fn replay_delete(engine: &Engine, collection: &mut Collection, record: &LogRecord<'_>, stamp: Stamp) -> Result<()> {
    let corrupt = |detail: String| {
        Error::new(ErrorKind::Corrupt, format!("log record {} cannot be replayed: {detail}", record.lsn))
    };
    let ids = <schema::IDs as prost::Message>::decode(record.payload).map_err(|error| corrupt(error.to_string()))?;
    let keys = rows::keys_from_wire(ids).ok_or_else(|| corrupt("it names no keys".to_owned()))?;
    let partition = (record.partition != PartitionId(0)).then_some(record.partition);
    let found = deletes::find(engine, collection, partition, &keys, stamp.timestamp)?;
    deletes::mark(collection, &found, stamp.lsn, stamp.timestamp);
    Ok(())
}

/// Publishes everything, then lets readers see it, then removes what the dead writer left.
fn publish_all(engine: &Engine) -> Result<()> {
    let mut state = lock(&engine.state);
    let manifests: Result<Vec<Manifest>> =
        state.collections.values_mut().map(|collection| engine.publish_manifest(collection)).collect();
    let manifests = manifests?;
    failpoint::reach("recover.manifests_published");
    engine.publish_catalog(&state)?;
    // Fresh: rows and deletes of every replayed operation are below it, and no horizon is above it.
    engine.publisher.control().set_visible(engine.clock.next());
    failpoint::reach("recover.visible");
    engine.publisher.control().beat(unix_ms());
    let named: Vec<&Manifest> = manifests.iter().collect();
    match engine.publisher.sweep(&named) {
        Ok(removed) if removed > 0 => tracing::info!("removed {removed} files of an earlier writer"),
        Ok(_) => {}
        Err(error) => tracing::warn!("files of an earlier writer stay: {error}"),
    }
    Ok(())
}
