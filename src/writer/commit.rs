//! The commit thread: gives operations their order, makes them durable in groups, makes them visible, acknowledges them.
//!
//! One operation: (1) under the state lock, everything that can fail: rows to delete are found, chunks and `deleted_at`
//! files made, the manifest that names them published; (2) timestamp and log record; (3) marks and rows are put in place,
//! beyond the visible timestamp. One group: (4) the log is written and synced once; (5) `visible_ts` moves to the
//! group's last timestamp; (6) everyone is answered. A failure in (1) touches only its own operation. A failure in (4)
//! ends the writer without (5): the next one builds fresh live files from table files and log, so what the failed group
//! did vanishes whole.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::Instant;

use prost::Message;

use super::deletes::{self, FoundRows};
use super::engine::Engine;
use super::mem_manager::{Refusal, batch_bytes, prepare_rows};
use super::mem_table::Part;
use super::operation::{Action, Caller, DeleteOperation, Operation, error_reply};
use super::partial::PartialOperation;
use super::rows_operation::RowsOperation;
use super::state::Collection;
use super::{ddl, flush, lock};
use crate::format::log_record::{LogRecord, RecordKind};
use crate::ipc::method::Method;
use crate::ipc::progress::Gauge;
use crate::proto::{milvus, rows, status};
use crate::sys::failpoint;
use crate::types::{CollectionId, Error, ErrorKind, Lsn, PartitionId, Result, Timestamp};

/// Operations of one group.
const GROUP_OPERATIONS_MAX: usize = 256;
/// Log bytes of one group.
const GROUP_BYTES_MAX: usize = 64 << 20;

/// The commit thread's state.
pub struct Committer {
    engine: Arc<Engine>,
    group: Vec<Applied>,
    group_bytes: usize,
    /// The timestamp the group makes visible.
    last: Option<Timestamp>,
}

/// An operation that is in place and waits for its group.
struct Applied {
    caller: Box<dyn Caller>,
    method: Method,
    reply: Vec<u8>,
}

/// An operation's place in the order of all.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// Its log record.
    pub lsn: Lsn,
    /// Its timestamp.
    pub timestamp: Timestamp,
}

impl Committer {
    /// A committer without a group.
    pub fn new(engine: Arc<Engine>) -> Committer {
        Committer { engine, group: Vec::new(), group_bytes: 0, last: None }
    }

    /// Commits until every sender is gone.
    ///
    /// # Errors
    /// When the log cannot be written: nothing more can be acknowledged.
    pub fn run(mut self, queue: &Receiver<Operation>) -> Result<()> {
        while let Ok(operation) = queue.recv() {
            self.accept(operation)?;
            while self.group.len() < GROUP_OPERATIONS_MAX
                && self.group_bytes < GROUP_BYTES_MAX
                && let Ok(operation) = queue.try_recv()
            {
                self.accept(operation)?;
            }
            self.finish_group()?;
        }
        Ok(())
    }

    fn accept(&mut self, operation: Operation) -> Result<()> {
        let Operation { caller, method, database, action } = operation;
        self.engine.count(Gauge::Requests, 1);
        let outcome = self.engine.prepare_numbers().map_err(Refusal::Failed).and_then(|()| match &action {
            Action::Rows(rows) => {
                let payload = rows.payload.as_deref().unwrap_or(caller.body());
                self.take_rows(rows, payload).map(Some)
            }
            Action::Partial(partial) => self.take_partial(partial).map(Some),
            Action::Delete(delete) => self.take_delete(delete).map(Some),
            Action::Other => Ok(None),
        });
        match outcome {
            Ok(Some(reply)) => self.group.push(Applied { caller, method, reply }),
            Ok(None) => {
                self.finish_group()?;
                self.execute_other(method, &database, caller);
            }
            Err(Refusal::NeedRoom(bytes)) => {
                self.finish_group()?;
                self.refuse(caller, method, &buffer_full(bytes));
            }
            Err(Refusal::Failed(error)) => self.refuse(caller, method, &error),
        }
        Ok(())
    }

    fn refuse(&self, caller: Box<dyn Caller>, method: Method, error: &Error) {
        self.engine.count(Gauge::RequestErrors, 1);
        caller.reply(&error_reply(method, error));
    }

    fn execute_other(&self, method: Method, database: &str, caller: Box<dyn Caller>) {
        if matches!(method, Method::Flush | Method::FlushAll) {
            if let Some((caller, error)) = flush::flush(&self.engine, method, database, caller) {
                self.refuse(caller, method, &error);
            }
            return;
        }
        match ddl::execute(&self.engine, method, database, caller.body()) {
            Ok(reply) => caller.reply(&reply),
            Err(error) => self.refuse(caller, method, &error),
        }
    }

    /// Puts rows in place, waiting for room in the insert buffer.
    fn take_rows(&mut self, rows: &RowsOperation, payload: &[u8]) -> Result<Vec<u8>, Refusal> {
        let row_bytes: usize = rows.parts.iter().map(|part| batch_bytes(&part.batch)).sum();
        self.engine.check_disk(payload.len() as u64 + row_bytes as u64)?;
        let deadline = Instant::now() + self.engine.config.buffer_wait_max;
        loop {
            match self.try_rows(rows, payload) {
                Err(Refusal::NeedRoom(bytes)) => {
                    // Rows of this group become serialisable only when the group is durable, so it ends here; then
                    // everything that grows is handed to the serialise thread.
                    self.finish_group()?;
                    flush::rotate_all(&mut lock(&self.engine.state));
                    self.engine.serialise.raise();
                    if !self.engine.buffer.wait_for(bytes, deadline) {
                        return Err(Refusal::NeedRoom(bytes));
                    }
                }
                outcome => return outcome,
            }
        }
    }

    /// Completes rows from those they replace, then puts them in place. Nothing can change in between: this thread makes
    /// every change.
    fn take_partial(&mut self, partial: &PartialOperation) -> Result<Vec<u8>, Refusal> {
        let rows = partial.complete(&self.engine)?;
        self.take_rows(&rows, rows.payload.as_deref().unwrap_or_default())
    }

    fn try_rows(&mut self, rows: &RowsOperation, payload: &[u8]) -> Result<Vec<u8>, Refusal> {
        let engine = Arc::clone(&self.engine);
        let mut state = lock(&engine.state);
        let collection = state.collection(rows.collection)?;
        check_target(collection, rows)?;
        let prepared = prepare(&engine, collection, rows, Timestamp::MAX)?;
        failpoint::reach("commit.prepared");
        let stamp =
            self.append_record(rows.kind, rows.collection, rows.destination.in_record(), rows.first_id, payload)?;
        let deleted = prepared.found.len();
        place(&engine, collection, rows, prepared, stamp);
        failpoint::reach("commit.applied");
        drop(state);
        engine.count(Gauge::InsertedRows, rows.row_count() as u64);
        engine.count(Gauge::DeletedRows, deleted as u64);
        Ok(rows_reply(rows, stamp.timestamp))
    }

    fn take_delete(&mut self, delete: &DeleteOperation) -> Result<Vec<u8>, Refusal> {
        let engine = Arc::clone(&self.engine);
        let (keys, count) = match delete.plan.primary_keys() {
            Some(keys) => (keys.clone(), keys.len()),
            None => {
                let keys = super::resolve::keys_now(&engine, delete)?;
                let count = keys.len();
                (keys, count)
            }
        };
        let mut state = lock(&engine.state);
        let collection = state.collection(delete.collection)?;
        let found = deletes::find(&engine, collection, delete.partition, &keys, Timestamp::MAX)?;
        // A delete that finds nothing changes nothing, now and in every replay: it needs no record. What it tells the client to
        // read at is what is visible when the client hears it: after a start the clock itself may be seconds ahead of that.
        let mut timestamp = self.last.unwrap_or_else(|| engine.publisher.control().visible());
        if found.len() > 0 {
            publish_if_dirty(&engine, collection)?;
            let payload = rows::keys_to_wire(&keys).encode_to_vec();
            let partition = delete.partition.unwrap_or(PartitionId(0));
            let stamp = self.append_record(RecordKind::Delete, delete.collection, partition, 0, &payload)?;
            deletes::mark(collection, &found, stamp.lsn, stamp.timestamp);
            timestamp = stamp.timestamp;
            engine.count(Gauge::DeletedRows, found.len() as u64);
        }
        let reply = milvus::MutationResult {
            status: Some(status::success()),
            acknowledged: true,
            delete_cnt: count as i64,
            timestamp: timestamp.0,
            ..Default::default()
        };
        Ok(reply.encode_to_vec())
    }

    /// Gives an operation its place in the order and buffers its log record. The state lock is held, so records are
    /// appended in the order in which operations are put in place.
    fn append_record(
        &mut self,
        kind: RecordKind,
        collection: CollectionId,
        partition: PartitionId,
        first_id: i64,
        payload: &[u8],
    ) -> Result<Stamp> {
        let mut log = self.engine.log()?;
        let stamp = Stamp { lsn: log.next_lsn(), timestamp: self.engine.clock.next() };
        let Stamp { lsn, timestamp } = stamp;
        log.append(&LogRecord { lsn, kind, collection, partition, timestamp, first_id, payload });
        self.engine.lsn_next.store(lsn.0 + 1, Ordering::Relaxed);
        self.last = Some(timestamp);
        self.group_bytes += payload.len();
        failpoint::reach("commit.logged");
        Ok(stamp)
    }

    /// Makes the group durable, then visible, then answers.
    fn finish_group(&mut self) -> Result<()> {
        let group = std::mem::take(&mut self.group);
        self.group_bytes = 0;
        if let Some(last) = self.last.take() {
            if let Err(error) = self.write_log() {
                group.into_iter().for_each(|applied| self.refuse(applied.caller, applied.method, &error));
                return Err(error);
            }
            failpoint::reach("commit.durable");
            self.engine.publisher.control().set_visible(last);
            failpoint::reach("commit.visible");
            // Immutable files with rows of this group wait for exactly this.
            self.engine.serialise.raise();
        }
        let is_empty = group.is_empty();
        group.into_iter().for_each(|applied| applied.caller.reply(&applied.reply));
        if !is_empty {
            failpoint::reach("commit.answered");
        }
        Ok(())
    }

    fn write_log(&self) -> Result<()> {
        let mut log = self.engine.log()?;
        log.write(self.engine.is_durable())?;
        if self.engine.is_durable() {
            self.engine.count(Gauge::LogSyncs, 1);
        }
        log.rotate()
    }
}

/// What an operation on rows takes, ready to be put in place without failing.
#[derive(Debug)]
pub struct Prepared {
    found: FoundRows,
    /// For each part of the operation, where its rows go.
    parts: Vec<Vec<Part>>,
}

/// Does everything of an operation on rows that can fail. Rows inserted at or after `before` are not replaced.
///
/// # Errors
/// When there is no room.
pub fn prepare(
    engine: &Engine,
    collection: &mut Collection,
    rows: &RowsOperation,
    before: Timestamp,
) -> Result<Prepared, Refusal> {
    let found = match &rows.replaced {
        Some(keys) => deletes::find(engine, collection, rows.destination.partition(), keys, before)?,
        None => FoundRows::default(),
    };
    let parts = rows.parts.iter().map(|part| prepare_rows(engine, collection, part.partition, &part.batch));
    let parts = parts.collect::<Result<_, Refusal>>()?;
    publish_if_dirty(engine, collection)?;
    Ok(Prepared { found, parts })
}

/// Puts an operation in place: first the marks, then the rows, both beyond the visible timestamp.
pub fn place(engine: &Engine, collection: &mut Collection, rows: &RowsOperation, prepared: Prepared, stamp: Stamp) {
    deletes::mark(collection, &prepared.found, stamp.lsn, stamp.timestamp);
    for (part, places) in rows.parts.iter().zip(&prepared.parts) {
        let Some(table) = collection.memtables.get_mut(&part.partition) else { continue };
        let Some(file) = table.mutable.as_mut() else { continue };
        file.append(&part.batch, &part.keys, places, stamp.lsn, stamp.timestamp);
        let is_full = file.row_count as u64 >= engine.config.table_file_rows_max
            || file.bytes >= engine.config.table_file_bytes_max
            || file.row_count >= ROWS_MAX;
        if is_full {
            table.rotate();
        }
    }
}

/// Row numbers of a MemTableFile are 32 bits wide.
const ROWS_MAX: usize = 1 << 30;

/// Publishes the manifest when it is behind: no operation may become visible in files that readers do not know.
fn publish_if_dirty(engine: &Engine, collection: &mut Collection) -> Result<()> {
    // During recovery there is no log yet, and manifests are published once, at its end.
    if collection.is_dirty && engine.log.get().is_some() {
        engine.publish(collection)?;
    }
    Ok(())
}

/// The collection and the partition may have changed since the rows were decoded.
fn check_target(collection: &Collection, rows: &RowsOperation) -> Result<()> {
    if collection.schema.version != rows.schema_version {
        let message = format!("collection schema mismatch[collection={}]", collection.record.name);
        return Err(Error::new(ErrorKind::SchemaMismatch, message));
    }
    match rows.parts.iter().find(|part| collection.partition_by_id(part.partition).is_none()) {
        None => Ok(()),
        Some(part) => {
            let message = format!("partition not found[partition={}]", part.partition);
            Err(Error::new(ErrorKind::PartitionNotFound, message))
        }
    }
}

fn rows_reply(rows: &RowsOperation, timestamp: Timestamp) -> Vec<u8> {
    let count = rows.row_count() as i64;
    let is_upsert = rows.kind == RecordKind::Upsert;
    let reply = milvus::MutationResult {
        status: Some(status::success()),
        i_ds: rows.all_keys().map(rows::keys_to_wire),
        succ_index: (0..count as u32).collect(),
        acknowledged: true,
        insert_cnt: if is_upsert { 0 } else { count },
        upsert_cnt: if is_upsert { count } else { 0 },
        timestamp: timestamp.0,
        ..Default::default()
    };
    reply.encode_to_vec()
}

fn buffer_full(bytes: u64) -> Error {
    Error::new(
        ErrorKind::RateLimited,
        format!(
            "the insert buffer has no room for {bytes} bytes yet; try again, or start the server with a larger one"
        ),
    )
}
