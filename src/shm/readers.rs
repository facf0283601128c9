//! Reader slots: who is attached, which epoch it pins. They bound memory and feed `shoal status`; nothing waits for them.
//!
//! A block made with `shared_memory` (one 64-byte slot per reader) and a lock file beside the instance's files: a reader
//! holds a byte-range lock (OFD) on its slot's byte, which the kernel releases when it dies.

use crate::config::Instance;
use crate::types::{Epoch, Result};

/// A reader's slot; freed when dropped or when the process dies.
#[derive(Debug)]
pub struct ReaderSlot {}

/// A living reader, as status shows it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ReaderInfo {
    /// Its process.
    pub pid: u32,
    /// The oldest catalog epoch it may still use.
    pub pinned_epoch: u64,
    /// Requests it answered.
    pub requests: u64,
}

/// Makes the block and the lock file (the supervisor, before any fork of a role).
///
/// # Errors
/// When there is no room.
pub fn create_block(instance: &Instance) -> Result<()> {
    let _ = instance;
    todo!()
}

/// Unlinks the block (the supervisor, at the end, and whoever sweeps a dead instance).
pub fn remove_block(instance: &Instance) {
    let _ = instance;
    todo!()
}

impl ReaderSlot {
    /// Takes a free slot.
    ///
    /// # Errors
    /// When all are taken.
    pub fn take(instance: &Instance) -> Result<ReaderSlot> {
        let _ = instance;
        todo!()
    }

    /// Stores the epoch this reader uses and counts a request.
    pub fn touch(&self, epoch: Epoch) {
        let _ = epoch;
        todo!()
    }
}

/// The living readers.
///
/// # Errors
/// When the block is missing or foreign.
pub fn list(instance: &Instance) -> Result<Vec<ReaderInfo>> {
    let _ = instance;
    todo!()
}
