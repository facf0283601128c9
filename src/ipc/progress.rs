//! Progress cells: what each process of a server is doing, in shared memory, one writer per cell.
//!
//! A block made with `shared_memory`, named after the instance: 256-byte cells of atomic words. A child writes its own: who it
//! is, and its counters; the writer also the gauges of the engine. The supervisor takes the pid out of a dead child's cell.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::control::Role;
use crate::config::Instance;
use crate::sys::block::SharedBlock;
use crate::types::{Error, ErrorKind, Result};

/// "shoalpgr".
const MAGIC: u64 = u64::from_le_bytes(*b"shoalpgr");
const VERSION: u64 = 2;
/// The header, and each cell: four cache lines, so that no two processes write into one.
const CELL_BYTES: usize = 256;
/// Words of a cell before its gauges.
const GAUGES_AT: usize = 8;
/// Number of gauges.
const GAUGE_COUNT: usize = Gauge::IndexBuilds as usize + 1;

const _: () = assert!((GAUGES_AT + GAUGE_COUNT) * 8 <= CELL_BYTES);

/// Words of the header.
const HEADER_MAGIC: usize = 0;
const HEADER_VERSION: usize = 1;
const HEADER_CELLS: usize = 2;

/// Words of a cell. The role's word is its number plus one: 0 = never used.
const ROLE: usize = 0;
const INDEX: usize = 1;
const PID: usize = 2;
const STARTED: usize = 3;
const RESTARTS: usize = 4;

/// The supervisor's map of all cells.
#[derive(Debug)]
pub struct ProgressBlock {
    block: Arc<SharedBlock>,
    cell_count: usize,
}

/// One process's cell; `Send`, shared by its threads.
#[derive(Clone, Debug)]
pub struct ProgressCell {
    block: Arc<SharedBlock>,
    offset_bytes: usize,
}

/// A counter or gauge of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs, reason = "the names say it; units last")]
pub enum Gauge {
    Requests = 0,
    RequestErrors = 1,
    BusyNs = 2,
    InsertedRows = 3,
    DeletedRows = 4,
    BufferBytes = 5,
    BufferBytesMax = 6,
    LogBytes = 7,
    ShmTableBytes = 8,
    ShmLiveBytes = 9,
    Flushes = 10,
    Merges = 11,
    LogSyncs = 12,
    RequestsWaiting = 13,
    /// The table file, plus one, that the builder works on or, when all its rows are done, made an index of last; 0 = none.
    BuildFile = 14,
    BuildIndex = 15,
    BuildRowsDone = 16,
    BuildRowsTotal = 17,
    IndexBuilds = 18,
}

/// A cell as status shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct ProgressInfo {
    /// Its role.
    pub role: Role,
    /// Its number among those of its role.
    pub index: usize,
    /// The process; 0 when it is down.
    pub pid: u32,
    /// When this process was started.
    pub started_unix_ms: u64,
    /// How often it was started again.
    pub restarts: u64,
    /// By [`Gauge`] number.
    pub gauges: Vec<u64>,
}

impl ProgressBlock {
    /// Makes the block.
    ///
    /// # Errors
    /// When there is no room.
    pub fn create(instance: &Instance, cell_count: usize) -> Result<ProgressBlock> {
        let name = block_name(instance);
        let bytes = CELL_BYTES * (cell_count + 1);
        let block = SharedBlock::create(&name, bytes)
            .map_err(|error| Error::io(format_args!("make the shared block {name} of {bytes} bytes"), &error))?;
        block.atomic_u64(8 * HEADER_VERSION).store(VERSION, Ordering::Relaxed);
        block.atomic_u64(8 * HEADER_CELLS).store(cell_count as u64, Ordering::Relaxed);
        block.atomic_u64(8 * HEADER_MAGIC).store(MAGIC, Ordering::Release);
        Ok(ProgressBlock { block: Arc::new(block), cell_count })
    }

    /// Opens the block of a running server for reading.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(instance: &Instance) -> Result<Vec<ProgressInfo>> {
        let name = block_name(instance);
        let block = SharedBlock::open(&name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::new(
                ErrorKind::Unavailable,
                format!("no server runs on {}: start one with `shoal serve`", instance.data_dir.display()),
            ),
            _ => Error::io(format_args!("open the shared block {name}"), &error),
        })?;
        let foreign = || Error::new(ErrorKind::Corrupt, format!("the shared block {name} is not of this version"));
        let block = Arc::new(block);
        let cell_count = cell_count(&block).ok_or_else(foreign)?;
        Ok((0..cell_count).filter_map(|cell| ProgressCell::new(&block, cell).info()).collect())
    }

    /// Unlinks the block.
    pub fn remove(instance: &Instance) {
        let _ = SharedBlock::remove(&block_name(instance));
    }

    /// Notes a start (or restart) of a child in its cell and returns the cell for it. The counters of a cell are those of
    /// the present process: they begin at 0.
    pub fn start_cell(&self, cell: usize, role: Role, index: usize, pid: u32) -> ProgressCell {
        debug_assert!(cell < self.cell_count);
        let cell = ProgressCell::new(&self.block, cell);
        if cell.word(ROLE).load(Ordering::Relaxed) != 0 {
            cell.word(RESTARTS).fetch_add(1, Ordering::Relaxed);
        }
        for gauge in 0..GAUGE_COUNT {
            cell.word(GAUGES_AT + gauge).store(0, Ordering::Relaxed);
        }
        cell.word(INDEX).store(index as u64, Ordering::Relaxed);
        cell.word(STARTED).store(unix_ms_now(), Ordering::Relaxed);
        cell.set_pid(pid);
        cell.word(ROLE).store(role_number(role), Ordering::Release);
        cell
    }

    /// Notes that a child is down.
    pub fn stop_cell(&self, cell: usize) {
        ProgressCell::new(&self.block, cell).set_pid(0);
    }

    /// Forgets a child that is not wanted any more.
    pub fn clear_cell(&self, cell: usize) {
        let cell = ProgressCell::new(&self.block, cell);
        cell.word(ROLE).store(0, Ordering::Release);
        cell.word(RESTARTS).store(0, Ordering::Relaxed);
    }
}

/// Number of cells of a block; `None` when it is not of this version.
fn cell_count(block: &SharedBlock) -> Option<usize> {
    let word = |index: usize| block.atomic_u64(8 * index).load(Ordering::Acquire);
    if block.len() < CELL_BYTES || word(HEADER_MAGIC) != MAGIC || word(HEADER_VERSION) != VERSION {
        return None;
    }
    let cell_count = usize::try_from(word(HEADER_CELLS)).ok()?;
    let bytes = cell_count.checked_add(1)?.checked_mul(CELL_BYTES)?;
    (bytes <= block.len()).then_some(cell_count)
}

impl ProgressCell {
    /// Every cell of the block that this one is of.
    pub fn all(&self) -> Vec<ProgressInfo> {
        let cell_count = cell_count(&self.block).unwrap_or(0);
        (0..cell_count).filter_map(|cell| ProgressCell::new(&self.block, cell).info()).collect()
    }

    fn new(block: &Arc<SharedBlock>, cell: usize) -> ProgressCell {
        ProgressCell { block: Arc::clone(block), offset_bytes: CELL_BYTES * (cell + 1) }
    }

    fn word(&self, index: usize) -> &AtomicU64 {
        self.block.atomic_u64(self.offset_bytes + 8 * index)
    }

    /// Adds to a counter.
    pub fn add(&self, gauge: Gauge, amount: u64) {
        self.word(GAUGES_AT + gauge as usize).fetch_add(amount, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, gauge: Gauge, value: u64) {
        self.word(GAUGES_AT + gauge as usize).store(value, Ordering::Relaxed);
    }

    /// Notes the own process id (the child, right after the fork).
    pub fn set_pid(&self, pid: u32) {
        self.word(PID).store(u64::from(pid), Ordering::Relaxed);
    }

    /// What the cell says; `None` when it was never used (or says nothing that makes sense).
    fn info(&self) -> Option<ProgressInfo> {
        let role = role_of(self.word(ROLE).load(Ordering::Acquire))?;
        let word = |index: usize| self.word(index).load(Ordering::Relaxed);
        Some(ProgressInfo {
            role,
            index: usize::try_from(word(INDEX)).ok()?,
            pid: u32::try_from(word(PID)).ok()?,
            started_unix_ms: word(STARTED),
            restarts: word(RESTARTS),
            gauges: (0..GAUGE_COUNT).map(|gauge| word(GAUGES_AT + gauge)).collect(),
        })
    }
}

impl ProgressInfo {
    /// One counter or gauge.
    pub fn gauge(&self, gauge: Gauge) -> u64 {
        self.gauges.get(gauge as usize).copied().unwrap_or(0)
    }
}

/// The name under /dev/shm, where all names of `shm_open` lie side by side.
fn block_name(instance: &Instance) -> String {
    format!("shoal-{}-progress", instance.name)
}

fn role_number(role: Role) -> u64 {
    match role {
        Role::Writer => 1,
        Role::Searcher => 2,
        Role::Gateway => 3,
        Role::Builder => 4,
    }
}

fn role_of(number: u64) -> Option<Role> {
    [Role::Writer, Role::Builder, Role::Searcher, Role::Gateway].into_iter().find(|role| role_number(*role) == number)
}

fn unix_ms_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Made(Instance);

    impl Drop for Made {
        fn drop(&mut self) {
            ProgressBlock::remove(&self.0);
        }
    }

    #[test]
    fn cells_show_starts_restarts_and_counters_and_are_gone_when_removed() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Made(Instance::new(dir.path(), dir.path()).unwrap());
        let block = ProgressBlock::create(&instance.0, 3).unwrap();
        block.start_cell(0, Role::Writer, 0, 10).add(Gauge::Requests, 5);
        block.start_cell(2, Role::Searcher, 1, 11).add(Gauge::Requests, 1);
        let cell = block.start_cell(2, Role::Searcher, 1, 12);
        cell.add(Gauge::Requests, 2);
        cell.set(Gauge::RequestsWaiting, 9);
        let cells = ProgressBlock::read(&instance.0).unwrap();
        assert_eq!(cells.len(), 2);
        assert_eq!((cells[0].role, cells[0].pid, cells[0].gauge(Gauge::Requests)), (Role::Writer, 10, 5));
        assert_eq!((cells[1].index, cells[1].pid, cells[1].restarts), (1, 12, 1));
        assert_eq!((cells[1].gauge(Gauge::Requests), cells[1].gauge(Gauge::RequestsWaiting)), (2, 9));
        block.clear_cell(2);
        block.stop_cell(0);
        let cells = ProgressBlock::read(&instance.0).unwrap();
        assert_eq!((cells.len(), cells[0].pid), (1, 0));
        ProgressBlock::remove(&instance.0);
        assert_eq!(ProgressBlock::read(&instance.0).unwrap_err().kind, ErrorKind::Unavailable);
    }
}
