//! The serialise thread: immutable MemTableFiles become table files, oldest first in each partition.
//!
//! Every step can be redone after a kill: the file is durable before meta names it; one meta transaction (the file, and
//! the partition's `flushed_lsn`) is the commit point; before it the log has the rows, after it the file has them.

use std::sync::Arc;
use std::time::Duration;

use super::engine::Engine;
use super::lock;
use super::output::{Output, OutputPlan, OutputSteps};
use super::state::{Collection, State};
use crate::format::RowSource;
use crate::format::growing::{GrowingFile, GrowingRows};
use crate::format::table::sort_rows;
use crate::ipc::progress::Gauge;
use crate::storage::meta::MetaEdit;
use crate::sys::failpoint::{self, Steps};
use crate::types::{CollectionId, CollectionSchema, DurableFile, FileId, Lsn, PartitionId, Result, Timestamp};

/// How long the thread sleeps when nothing wakes it, and after an error.
const IDLE: Duration = Duration::from_secs(1);

const STEPS: OutputSteps = OutputSteps { table: Steps("serialise.table"), deletes: Steps("serialise.deletes") };

/// One file to serialise.
struct Job {
    collection: CollectionId,
    partition: PartitionId,
    file: FileId,
    schema: Arc<CollectionSchema>,
    chunks: Vec<GrowingFile>,
    lsn_last: Lsn,
    is_published: bool,
}

/// Serialises until the writer stops.
///
/// # Errors
/// When meta says a file is sealed and memory cannot be brought in line with it: only a new writer can.
pub fn run(engine: &Engine) -> Result<()> {
    while !engine.is_stopping() {
        engine.serialise.wait(IDLE);
        let visible = engine.publisher.control().visible();
        if let Err(Failure { file, error, is_fatal }) = serialise_all(engine, visible) {
            if is_fatal {
                return Err(error);
            }
            tracing::error!("MemTableFile {file} cannot be written and will be tried again: {error}");
            engine.flushes.fail(file, &error);
            // Not the signal: it may be raised again at once, and a full disk is not emptied that fast.
            std::thread::park_timeout(IDLE);
        }
    }
    Ok(())
}

/// A file that could not be serialised.
#[derive(Debug)]
pub struct Failure {
    /// Which.
    pub file: FileId,
    /// Why.
    pub error: crate::types::Error,
    /// Meta and memory differ.
    pub is_fatal: bool,
}

/// Serialises every immutable file whose rows are all visible by now.
///
/// # Errors
/// With the first file that cannot be written.
pub fn serialise_all(engine: &Engine, visible: Timestamp) -> Result<(), Failure> {
    loop {
        // A statement of its own: the lock is let go before the file is written.
        let job = next_job(&lock(&engine.state), visible);
        let Some(job) = job else { return Ok(()) };
        let file = job.file;
        serialise(engine, &job).map_err(|(error, is_fatal)| Failure { file, error, is_fatal })?;
        engine.count(Gauge::Flushes, 1);
        engine.flushes.complete(&[file]);
        engine.merge.raise();
    }
}

/// The file whose rows have been in the log longest. Files with rows beyond the visible timestamp wait: their log group
/// may yet fail, and must not survive in a table file then.
fn next_job(state: &State, visible: Timestamp) -> Option<Job> {
    let mut oldest: Option<(Lsn, &Collection, PartitionId)> = None;
    for collection in state.collections.values() {
        for (partition, table) in &collection.memtables {
            let Some(file) = table.immutable.front().filter(|file| file.timestamps.1 <= visible) else { continue };
            if oldest.is_none_or(|(lsn, _, _)| file.lsns.0 < lsn) {
                oldest = Some((file.lsns.0, collection, *partition));
            }
        }
    }
    let (_, collection, partition) = oldest?;
    let file = collection.memtables.get(&partition)?.immutable.front()?;
    Some(Job {
        collection: collection.record.id,
        partition,
        file: file.id,
        schema: collection.schema.clone(),
        chunks: file.files(),
        lsn_last: file.lsns.1,
        is_published: collection.is_published(partition),
    })
}

fn serialise(engine: &Engine, job: &Job) -> Result<(), (crate::types::Error, bool)> {
    let rows: Vec<GrowingRows<'_>> = job.chunks.iter().map(|chunk| chunk.rows(chunk.rows_published())).collect();
    let sources: Vec<&dyn RowSource> = rows.iter().map(|rows| rows as &dyn RowSource).collect();
    let cells: Vec<_> = job.chunks.iter().map(|chunk| Some(chunk.deleted_at())).collect();
    // Deleted rows are written too: readers of older snapshots may still want them. A merge drops them later.
    let order = sort_rows(&job.schema, &sources, &|_| true);
    let plan = OutputPlan {
        collection: job.collection,
        partition: job.partition,
        file: job.file,
        schema: &job.schema,
        sources: &sources,
        cells: &cells,
        order: &order,
        is_published: job.is_published,
        steps: STEPS,
        may_be_cancelled: false,
    };
    // Read before the sync: what the checkpoint holds must not be ahead of the durable log.
    let covered = engine.publisher.control().visible();
    engine.sync_log().map_err(|error| (error, false))?;
    let output = plan.write(engine, covered).map_err(|error| (error, false))?;
    failpoint::reach("serialise.written");
    commit(engine, job, &plan, output)
}

/// Meta first, then memory; meta is locked over both, so that no truncate or drop comes between.
fn commit(
    engine: &Engine,
    job: &Job,
    plan: &OutputPlan<'_>,
    mut output: Output,
) -> Result<(), (crate::types::Error, bool)> {
    let mut meta = lock(&engine.meta);
    let Some(record) = flushed_record(&lock(&engine.state), job) else {
        // Truncated or dropped meanwhile.
        plan.discard(engine);
        return Ok(());
    };
    let edits = [MetaEdit::PutFile(output.record.clone()), MetaEdit::PutCollection(record.clone())];
    if let Err(error) = meta.apply(&edits) {
        plan.discard(engine);
        return Err((error, false));
    }
    failpoint::reach("serialise.meta_changed");
    let mut state = lock(&engine.state);
    let collection = state.collection(job.collection).map_err(|error| (error, true))?;
    plan.carry_over(engine, &mut output).map_err(|error| (error, true))?;
    collection.record = record;
    let table = collection.memtables.entry(job.partition).or_default();
    if let Some(file) = table.immutable.pop_front() {
        // The checkpoint may hold every delete up to `dirty_lsn` and more; taking them as missing is always right.
        let marked_last = if file.dirty_lsn.is_some() { engine.clock.last() } else { Timestamp(0) };
        if !collection.is_published(job.partition) && output.place == crate::shm::manifest::Place::Shm {
            engine.publisher.remove_copy(job.collection, DurableFile::Table(job.file));
            output.place = crate::shm::manifest::Place::Disk;
        }
        let dirty_lsn = file.dirty_lsn;
        collection.sealed.push(output.into_sealed(dirty_lsn, marked_last));
        collection.discard(file);
    }
    if let Err(error) = engine.publish_unless_recovering(collection) {
        // The old manifest names the chunks, which stay; the next operation on the collection publishes first.
        tracing::warn!("the manifest of collection {} cannot be published yet: {error}", job.collection);
    }
    failpoint::reach("serialise.published");
    Ok(())
}

/// The collection's record with the file's last lsn as flushed; `None` when the file is no longer wanted.
fn flushed_record(state: &State, job: &Job) -> Option<crate::types::CollectionRecord> {
    let collection = state.collections.get(&job.collection)?;
    let front = collection.memtables.get(&job.partition)?.immutable.front()?;
    let mut record = collection.record.clone();
    let partition = record.partitions.iter_mut().find(|partition| partition.id == job.partition)?;
    partition.flushed_lsn = partition.flushed_lsn.max(job.lsn_last);
    (front.id == job.file).then_some(record)
}
