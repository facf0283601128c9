//! The merge thread: makes few large table files of many small ones and drops rows deleted long ago. Never delays a flush.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::compactions::{Compaction, Merge};
use super::engine::Engine;
use super::lock;
use super::merge_policy::{self, Candidate, Eagerness};
use super::output::{Output, OutputPlan, OutputSteps};
use super::state::{Collection, SealedTable};
use crate::format::deletes::DeletedAt;
use crate::format::table::{TableFile, sort_rows};
use crate::format::{RowRef, RowSource};
use crate::ipc::progress::Gauge;
use crate::shm::manifest::Place;
use crate::storage::meta::MetaEdit;
use crate::sys::clock::unix_ms;
use crate::sys::failpoint::{self, Steps};
use crate::types::{
    CollectionId, CollectionSchema, DurableFile, FileId, PartitionId, Result, Timestamp, expired_until,
};

const STEPS: OutputSteps = OutputSteps { table: Steps("merge.table"), deletes: Steps("merge.deletes") };

/// How long the thread sleeps when nothing wakes it.
const IDLE: Duration = Duration::from_secs(1);
/// So many sleeps without a new table file before small ones are collected.
const IDLE_TICKS: u32 = 5;

/// Merges until the writer stops.
///
/// # Errors
/// When meta and memory differ: only a new writer can bring them in line.
pub fn run(engine: &Engine) -> Result<()> {
    let mut idle_ticks = 0;
    while !engine.is_stopping() {
        idle_ticks = if engine.merge.wait(IDLE) { 0 } else { idle_ticks + 1 };
        run_manual(engine)?;
        let eagerness = if idle_ticks >= IDLE_TICKS { Eagerness::Idle } else { Eagerness::Layers };
        merge_all(engine, eagerness, None)?;
    }
    Ok(())
}

fn run_manual(engine: &Engine) -> Result<()> {
    for (id, compaction) in engine.compactions.pending() {
        merge_all(engine, Eagerness::Manual, Some((id, &compaction)))?;
        engine.compactions.complete(id);
    }
    Ok(())
}

/// Merges until there is nothing worth it, in all collections or in that of a manual compaction.
///
/// # Errors
/// When meta and memory differ.
pub fn merge_all(engine: &Engine, eagerness: Eagerness, manual: Option<(i64, &Compaction)>) -> Result<()> {
    while !engine.is_stopping() {
        let Some(job) = next_job(engine, eagerness, manual.map(|(_, compaction)| compaction))? else { return Ok(()) };
        let outcome = merge(engine, &job);
        release_inputs(engine, &job);
        match outcome {
            Ok(()) => {
                engine.count(Gauge::Merges, 1);
                if let Some((id, _)) = manual {
                    let sources = job.inputs.iter().map(|input| input.file).collect();
                    engine.compactions.note(id, Merge { partition: job.partition, sources, target: job.output });
                }
                engine.index.raise();
            }
            Err(Failure { error, is_fatal: true }) => return Err(error),
            Err(Failure { error, .. }) => {
                // A collection that was dropped meanwhile took its files with it.
                let is_dropped = lock(&engine.state).collection(job.collection).is_err();
                if !engine.is_stopping() && !is_dropped {
                    tracing::warn!("merge in collection {} will be tried again: {error}", job.collection);
                }
                return Ok(());
            }
        }
    }
    Ok(())
}

struct Failure {
    error: crate::types::Error,
    is_fatal: bool,
}

fn harmless(error: crate::types::Error) -> Failure {
    Failure { error, is_fatal: false }
}

struct Input {
    file: FileId,
    table: Arc<TableFile>,
    cells: Option<DeletedAt>,
    /// First and last insert.
    timestamps: (u64, u64),
}

struct Job {
    collection: CollectionId,
    partition: PartitionId,
    output: FileId,
    schema: Arc<CollectionSchema>,
    inputs: Vec<Input>,
    is_published: bool,
    drops: Drops,
}

/// Which rows a merge leaves out.
#[derive(Clone, Copy)]
struct Drops {
    /// Those deleted up to here. Not beyond the visible timestamp: a delete whose log group fails never happened.
    deleted_until: Timestamp,
    /// Those inserted up to here: they have expired. Nobody sees them any more, at whatever snapshot.
    expired_until: Timestamp,
}

impl Drops {
    fn new(engine: &Engine, properties: &[(String, String)]) -> Drops {
        let now = unix_ms();
        let retention = u64::try_from(engine.config.snapshot_retention.as_millis()).unwrap_or(u64::MAX);
        let old = match retention {
            0 => Timestamp::MAX,
            retention => Timestamp::from_unix_ms(now.saturating_sub(retention)),
        };
        Drops {
            deleted_until: old.min(engine.publisher.control().visible()),
            expired_until: expired_until(properties, || now),
        }
    }

    fn is_deleted(self, deleted_at: u64) -> bool {
        deleted_at != 0 && deleted_at <= self.deleted_until.0
    }

    fn is_expired(self, inserted_at: u64) -> bool {
        inserted_at <= self.expired_until.0
    }
}

fn next_job(engine: &Engine, eagerness: Eagerness, manual: Option<&Compaction>) -> Result<Option<Job>> {
    let only = manual.map(|compaction| compaction.collection);
    let final_bytes = manual.and_then(|compaction| compaction.target_bytes).unwrap_or(engine.config.index_file_size);
    let partitions: Vec<(CollectionId, PartitionId, Drops)> = {
        let state = lock(&engine.state);
        let wanted = state.collections.values().filter(|collection| only.is_none_or(|id| id == collection.record.id));
        let several = wanted.filter(|collection| !collection.sealed.is_empty());
        several
            .flat_map(|collection| {
                let drops = Drops::new(engine, &collection.record.properties);
                collection.record.partitions.iter().map(move |partition| (collection.record.id, partition.id, drops))
            })
            .collect()
    };
    for (collection, partition, drops) in partitions {
        let inputs = candidates(engine, collection, partition);
        let measured: Vec<Candidate> = inputs.iter().map(|input| measure(input, eagerness, drops)).collect();
        if let Some(chosen) = merge_policy::plan(&measured, final_bytes, eagerness) {
            let chosen: Vec<FileId> = chosen.into_iter().map(|index| inputs[index].file).collect();
            let output = FileId(engine.ids.take_reserving(1, &engine.meta)?);
            if let Some(job) = claim_inputs(engine, collection, partition, &chosen, output, drops) {
                return Ok(Some(job));
            }
        }
    }
    Ok(None)
}

fn is_mergeable(file: &SealedTable, partition: PartitionId) -> bool {
    // Indexed files too: their indexes go with them, and the result gets one of its own.
    file.record.partition == partition && !file.is_merging && !file.is_indexing
}

fn input(file: &SealedTable) -> Input {
    Input {
        file: file.record.id,
        table: Arc::clone(&file.table),
        cells: file.deletes.as_ref().map(|deletes| deletes.cells.clone()),
        timestamps: file.record.timestamps,
    }
}

fn candidates(engine: &Engine, collection: CollectionId, partition: PartitionId) -> Vec<Input> {
    let state = lock(&engine.state);
    let Some(collection) = state.collections.get(&collection) else { return Vec::new() };
    collection.sealed.iter().filter(|file| is_mergeable(file, partition)).map(input).collect()
}

/// Counts droppable rows only where they could matter: that reads every cell of the file.
fn measure(input: &Input, eagerness: Eagerness, drops: Drops) -> Candidate {
    let row_count = input.table.row_count() as u64;
    let is_counted = |cells: &DeletedAt| eagerness == Eagerness::Manual || cells.marked_count() * 5 > row_count;
    let deleted_count = match input.cells.as_ref().filter(|cells| is_counted(cells)) {
        Some(cells) => {
            let is_deleted = |cell: &&AtomicU64| drops.is_deleted(cell.load(Ordering::Relaxed));
            cells.cells().iter().filter(is_deleted).count() as u64
        }
        None => 0,
    };
    let droppable_count = (deleted_count + expired_count(input, eagerness, drops)).min(row_count);
    Candidate { bytes: input.table.bytes().len() as u64, row_count, droppable_count }
}

/// Rows come at about the same pace, so the time that has expired says whether counting is worth it.
fn expired_count(input: &Input, eagerness: Eagerness, drops: Drops) -> u64 {
    let (first, last) = input.timestamps;
    let expired = drops.expired_until.0;
    if expired < first {
        return 0;
    }
    if last <= expired {
        return input.table.row_count() as u64;
    }
    if eagerness != Eagerness::Manual && (expired - first) < (last - first) / 5 {
        return 0;
    }
    input.table.insert_timestamps().iter().filter(|inserted_at| drops.is_expired(**inserted_at)).count() as u64
}

fn claim_inputs(
    engine: &Engine,
    id: CollectionId,
    partition: PartitionId,
    chosen: &[FileId],
    output: FileId,
    drops: Drops,
) -> Option<Job> {
    let mut state = lock(&engine.state);
    let collection = state.collections.get_mut(&id)?;
    let mut inputs = Vec::new();
    for file in collection.sealed.iter_mut() {
        if chosen.contains(&file.record.id) && is_mergeable(file, partition) {
            file.is_merging = true;
            inputs.push(input(file));
        }
    }
    let is_published = collection.is_published(partition);
    let schema = collection.schema.clone();
    (!inputs.is_empty()).then_some(Job { collection: id, partition, output, schema, inputs, is_published, drops })
}

fn release_inputs(engine: &Engine, job: &Job) {
    let mut state = lock(&engine.state);
    if let Some(collection) = state.collections.get_mut(&job.collection) {
        let is_input = |id: FileId| job.inputs.iter().any(|input| input.file == id);
        let inputs = collection.sealed.iter_mut().filter(|file| is_input(file.record.id));
        inputs.for_each(|file| file.is_merging = false);
    }
}

fn merge(engine: &Engine, job: &Job) -> Result<(), Failure> {
    let sources: Vec<&dyn RowSource> = job.inputs.iter().map(|input| &*input.table as &dyn RowSource).collect();
    let cells: Vec<Option<&[AtomicU64]>> =
        job.inputs.iter().map(|input| input.cells.as_ref().map(DeletedAt::cells)).collect();
    let deleted_at = |row: RowRef| match cells[row.source as usize] {
        Some(cells) => cells[row.row as usize].load(Ordering::Relaxed),
        None => 0,
    };
    let inserted: Vec<&[u64]> = job.inputs.iter().map(|input| input.table.insert_timestamps()).collect();
    let inserted_at = |row: RowRef| inserted[row.source as usize][row.row as usize];
    // Deletes that come while this runs are later than those that are dropped: the choice of rows does not change under way.
    let order = sort_rows(&job.schema, &sources, &|row| {
        !job.drops.is_deleted(deleted_at(row)) && !job.drops.is_expired(inserted_at(row))
    });
    let plan = OutputPlan {
        collection: job.collection,
        partition: job.partition,
        file: job.output,
        schema: &job.schema,
        sources: &sources,
        cells: &cells,
        order: &order,
        is_published: job.is_published,
        steps: STEPS,
        may_be_cancelled: true,
    };
    let covered = engine.publisher.control().visible();
    engine.sync_log().map_err(harmless)?;
    let output = match order.is_empty() {
        true => None,
        false => Some(plan.write(engine, covered).map_err(harmless)?),
    };
    failpoint::reach("merge.written");
    commit(engine, job, plan, output)
}

/// The latest delete of a dropped row: snapshots before it could still see that row.
fn dropped_until(job: &Job) -> Timestamp {
    let cells = job.inputs.iter().filter_map(|input| input.cells.as_ref()).flat_map(|cells| cells.cells());
    let dropped = cells.map(|cell| cell.load(Ordering::Relaxed)).filter(|at| job.drops.is_deleted(*at));
    Timestamp(dropped.max().unwrap_or(0))
}

/// In and out in one meta transaction; then memory; meta is locked over both.
fn commit(engine: &Engine, job: &Job, plan: OutputPlan<'_>, mut output: Option<Output>) -> Result<(), Failure> {
    let horizon = dropped_until(job);
    let mut meta = lock(&engine.meta);
    if !are_inputs_there(engine, job) {
        // Truncated or dropped meanwhile.
        plan.discard(engine);
        return Ok(());
    }
    let edits = job.inputs.iter().map(|input| MetaEdit::DropFile(input.file));
    let edits: Vec<MetaEdit> =
        output.iter().map(|output| MetaEdit::PutFile(output.record.clone())).chain(edits).collect();
    if let Err(error) = meta.apply(&edits) {
        plan.discard(engine);
        return Err(harmless(error));
    }
    failpoint::reach("merge.meta_changed");
    let fatal = |error| Failure { error, is_fatal: true };
    let mut state = lock(&engine.state);
    let collection = state.collection(job.collection).map_err(fatal)?;
    let inputs = take_inputs(collection, job);
    if let Some(output) = &mut output {
        // Inputs may have got their first delete while they were merged.
        let live: Vec<Option<&[AtomicU64]>> = job
            .inputs
            .iter()
            .map(|input| inputs.iter().find(|file| file.record.id == input.file))
            .map(|file| file?.deletes.as_ref().map(|deletes| deletes.cells.cells()))
            .collect();
        OutputPlan { cells: &live, ..plan }.carry_over(engine, output).map_err(fatal)?;
    }
    if let Some(mut output) = output {
        if !collection.is_published(job.partition) && output.place == Place::Shm {
            engine.publisher.remove_copy(job.collection, DurableFile::Table(job.output));
            output.place = Place::Disk;
        }
        let dirty_lsn = inputs.iter().filter_map(|file| file.dirty_lsn).min();
        let marked_last = inputs.iter().map(|file| file.marked_last).max().unwrap_or_default();
        collection.sealed.push(output.into_sealed(dirty_lsn, marked_last));
    }
    inputs.into_iter().for_each(|file| collection.discard_sealed(file));
    collection.horizon = collection.horizon.max(horizon);
    if let Err(error) = engine.publish(collection) {
        tracing::warn!("the manifest of collection {} cannot be published yet: {error}", job.collection);
    }
    failpoint::reach("merge.published");
    Ok(())
}

fn are_inputs_there(engine: &Engine, job: &Job) -> bool {
    let state = lock(&engine.state);
    let Some(collection) = state.collections.get(&job.collection) else { return false };
    let is_there = |input: &Input| collection.sealed.iter().any(|file| file.record.id == input.file);
    job.inputs.iter().all(is_there)
}

fn take_inputs(collection: &mut Collection, job: &Job) -> Vec<SealedTable> {
    let is_input = |file: &mut SealedTable| job.inputs.iter().any(|input| input.file == file.record.id);
    collection.sealed.extract_if(.., is_input).collect()
}
