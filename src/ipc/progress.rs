//! Progress cells: what each process of a server is doing, in shared memory, one writer per cell.
//!
//! A block made with `shared_memory`, named after the instance: 256-byte cells of atomic words. The supervisor writes
//! role, index, pid, start and restarts of each cell; the child its counters; the writer also the gauges of the engine.

use crate::config::Instance;
use crate::types::Result;

use super::control::Role;

/// The supervisor's map of all cells.
pub struct ProgressBlock {}

/// One process's cell; `Send`, shared by its threads.
#[derive(Clone)]
pub struct ProgressCell {}

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
        let _ = (instance, cell_count);
        todo!()
    }

    /// Opens the block of a running server for reading.
    ///
    /// # Errors
    /// When there is none.
    pub fn read(instance: &Instance) -> Result<Vec<ProgressInfo>> {
        let _ = instance;
        todo!()
    }

    /// Unlinks the block.
    pub fn remove(instance: &Instance) {
        let _ = instance;
        todo!()
    }

    /// Notes a start (or restart) of a child in its cell and returns the cell for it.
    pub fn start_cell(&self, cell: usize, role: Role, index: usize, pid: u32) -> ProgressCell {
        let _ = (cell, role, index, pid);
        todo!()
    }
}

impl ProgressCell {
    /// Adds to a counter.
    pub fn add(&self, gauge: Gauge, amount: u64) {
        let _ = (gauge, amount);
        todo!()
    }

    /// Sets a gauge.
    pub fn set(&self, gauge: Gauge, value: u64) {
        let _ = (gauge, value);
        todo!()
    }

    /// Notes the own process id (the child, right after the fork).
    pub fn set_pid(&self, pid: u32) {
        let _ = pid;
        todo!()
    }
}
