//! What the writer's threads share: the lower layers, the state, the budgets and the signals between threads.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use super::buffer::Buffer;
use super::clock::{Clock, Sequence};
use super::compactions::Compactions;
use super::flush::FlushWaiters;
use super::indexing::BuilderLine;
use super::lock;
use super::state::{Collection, Garbage, State};
use crate::config::limits::PARTITIONS_MAX;
use crate::config::{Durability, Instance, ServerConfig};
use crate::ipc::progress::{Gauge, ProgressCell};
use crate::shm::manifest::Manifest;
use crate::shm::publish::Publisher;
use crate::storage::log::Log;
use crate::storage::meta::Meta;
use crate::storage::tables::TableStore;
use crate::sys::{failpoint, space};
use crate::types::{Error, ErrorKind, Lsn, Result};

/// A wake-up that is not lost when nobody waits.
#[derive(Debug, Default)]
pub struct Signal {
    is_raised: Mutex<bool>,
    raised: Condvar,
}

impl Signal {
    /// Wakes the waiter, now or at its next wait.
    pub fn raise(&self) {
        *lock(&self.is_raised) = true;
        self.raised.notify_all();
    }

    /// Waits for the signal or the end of the time; returns whether it was raised.
    pub fn wait(&self, timeout: Duration) -> bool {
        let is_raised = lock(&self.is_raised);
        let (mut is_raised, _) = self
            .raised
            .wait_timeout_while(is_raised, timeout, |is_raised| !*is_raised)
            .expect("a panic elsewhere ends the writer");
        std::mem::take(&mut *is_raised)
    }
}

/// Ids that one operation may take: rows go by a partition key to every partition, each starts a file, twice when the buffer
/// was full in between.
const IDS_MIN: i64 = 2 * PARTITIONS_MAX as i64 + 64;

/// The writer's shared parts. See `state.rs` for the order of locks.
pub struct Engine {
    /// Options.
    pub config: ServerConfig,
    /// Paths.
    pub instance: Instance,
    /// Names live files, so that a new writer never meets the files of a dead one.
    pub incarnation: u32,
    /// Shared memory.
    pub publisher: Publisher,
    /// Durable table files.
    pub store: TableStore,
    /// Timestamps.
    pub clock: Clock,
    /// The insert buffer.
    pub buffer: Buffer,
    /// Ids of collections, partitions, files, indexes, databases.
    pub ids: Sequence,
    /// Automatic keys.
    pub row_ids: Sequence,
    /// The lsn after the last appended record; stored under the state lock.
    pub lsn_next: AtomicU64,
    /// SQLite.
    pub meta: Mutex<Meta>,
    /// Everything in memory.
    pub state: Mutex<State>,
    /// Set once recovery has replayed it.
    pub log: OnceLock<Mutex<Log>>,
    /// Immutable files wait.
    pub serialise: Signal,
    /// Table files may be merged.
    pub merge: Signal,
    /// Table files wait to be copied into shared memory.
    pub fill: Signal,
    /// Indexes may have to be built.
    pub index: Signal,
    /// Copies may be moved into huge pages.
    pub huge_pages: Signal,
    /// What is known of the builder process.
    pub builder: BuilderLine,
    /// Flush requests under way.
    pub flushes: FlushWaiters,
    /// Manual compactions.
    pub compactions: Compactions,
    /// Counters and gauges.
    pub cell: Option<ProgressCell>,
    /// No more requests are taken.
    pub is_closing: AtomicBool,
    /// Threads end.
    pub is_stopping: AtomicBool,
}

impl Engine {
    /// The open log.
    ///
    /// # Errors
    /// During recovery, when there is none yet: a bug.
    pub fn log(&self) -> Result<MutexGuard<'_, Log>> {
        self.log.get().map(lock).ok_or_else(|| Error::internal("the log is used before it was replayed"))
    }

    /// Whether threads should end.
    pub fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::Acquire)
    }

    /// Tells threads to end.
    pub fn stop(&self) {
        self.is_stopping.store(true, Ordering::Release);
        self.serialise.raise();
        self.merge.raise();
        self.fill.raise();
        self.index.raise();
        self.huge_pages.raise();
    }

    /// Whether a group is acknowledged only after fdatasync.
    pub fn is_durable(&self) -> bool {
        self.config.durability == Durability::Fsync
    }

    /// Adds to a counter.
    pub fn count(&self, gauge: Gauge, amount: u64) {
        if let Some(cell) = &self.cell {
            cell.add(gauge, amount);
        }
    }

    /// Sets a gauge.
    pub fn gauge(&self, gauge: Gauge, value: u64) {
        if let Some(cell) = &self.cell {
            cell.set(gauge, value);
        }
    }

    /// Reserves ids and clock time for what comes next. Called without the state lock: it may take meta.
    ///
    /// # Errors
    /// Those of meta.
    pub fn prepare_numbers(&self) -> Result<()> {
        if self.ids.is_short_of(IDS_MIN) {
            self.ids.ensure(2 * IDS_MIN, &mut lock(&self.meta))?;
        }
        if self.clock.needs_extension() {
            self.clock.extend(&mut lock(&self.meta))?;
        }
        Ok(())
    }

    /// Publishes a collection's manifest, then removes what it no longer names.
    ///
    /// # Errors
    /// When there is no room: the old manifest stays in force, so what it names stays too, and `is_dirty` stays set.
    pub fn publish(&self, collection: &mut Collection) -> Result<()> {
        self.publish_manifest(collection).map(drop)
    }

    /// As [`Engine::publish`]; gives what was published.
    ///
    /// # Errors
    /// As [`Engine::publish`].
    pub fn publish_manifest(&self, collection: &mut Collection) -> Result<Manifest> {
        collection.is_dirty = true;
        let mut manifest = collection.manifest();
        self.publisher.publish_manifest(collection.record.cell, &mut manifest)?;
        collection.is_dirty = false;
        self.collect_garbage(collection);
        Ok(manifest)
    }

    /// As [`Engine::publish`]; during recovery manifests are published once, at its end, and nothing reads the new live
    /// files yet.
    ///
    /// # Errors
    /// As [`Engine::publish`].
    pub fn publish_unless_recovering(&self, collection: &mut Collection) -> Result<()> {
        if self.log.get().is_some() {
            self.publish(collection)
        } else {
            collection.is_dirty = true;
            self.collect_garbage(collection);
            Ok(())
        }
    }

    /// Removes files that no manifest names any more.
    pub fn collect_garbage(&self, collection: &mut Collection) {
        let id = collection.record.id;
        for garbage in std::mem::take(&mut collection.garbage) {
            failpoint::reach("publish.garbage_named");
            match garbage {
                Garbage::Live { name, place, buffer_bytes } => {
                    self.publisher.remove_live(id, &name, place);
                    self.buffer.release(buffer_bytes);
                }
                Garbage::Published(file) => self.publisher.remove_copy(id, file),
                Garbage::Durable(file) => {
                    self.publisher.remove_copy(id, file);
                    // Meta no longer names it, so the next start sweeps what cannot be removed now.
                    if let Err(error) = self.store.remove(id, file) {
                        tracing::warn!("{file} of collection {id} stays until the next start: {error}");
                    }
                }
            }
        }
    }

    /// Publishes the names.
    ///
    /// # Errors
    /// When there is no room.
    pub fn publish_catalog(&self, state: &State) -> Result<()> {
        self.publisher.publish_catalog(&state.catalog())
    }

    /// Makes the log durable where the acknowledgement did not: before meta names what was built from its records.
    ///
    /// # Errors
    /// Those of the disk.
    pub fn sync_log(&self) -> Result<()> {
        match self.log.get() {
            Some(log) if !self.is_durable() => lock(log).write(true),
            _ => Ok(()),
        }
    }

    /// Cuts the log in front of the first record that is still needed.
    ///
    /// # Errors
    /// Those of meta and of the disk.
    pub fn cut_log(&self) -> Result<()> {
        let mut meta = lock(&self.meta);
        let (keep_from, lsn_next) = {
            let state = lock(&self.state);
            // Under the state lock every appended record is wholly applied, so it shows in `log_needed_from`.
            let lsn_next = Lsn(self.lsn_next.load(Ordering::Relaxed));
            (state.log_needed_from().unwrap_or(lsn_next), lsn_next)
        };
        use crate::storage::meta::MetaEdit::{SetDeletesFlushedLsn, SetLsnNext};
        meta.apply(&[SetDeletesFlushedLsn(keep_from), SetLsnNext(lsn_next)])?;
        drop(meta);
        failpoint::reach("cut.meta_changed");
        self.log()?.cut(keep_from)?;
        failpoint::reach("cut.done");
        Ok(())
    }

    /// Refuses writes while the disk is nearly full: what is in the insert buffer must still fit into table files, and a
    /// refused write is better than a dead writer.
    ///
    /// # Errors
    /// Of kind `DiskFull`.
    pub fn check_disk(&self, request_bytes: u64) -> Result<()> {
        let needed = DISK_RESERVE_BYTES + self.buffer.used().0 + 2 * request_bytes;
        match space::of(&self.instance.data_dir) {
            Ok(space) if space.free_bytes <= needed => Err(Error::new(
                ErrorKind::DiskFull,
                format!(
                    "cannot write: the disk of {} is full ({} MiB free, {} MiB needed); free some space, reads go on",
                    self.instance.data_dir.display(),
                    space.free_bytes >> 20,
                    needed >> 20
                ),
            )),
            // A file system that cannot say how much is free is written to until it fails.
            _ => Ok(()),
        }
    }
}

/// Free bytes below which writes are refused, besides what the insert buffer needs.
const DISK_RESERVE_BYTES: u64 = 64 << 20;
