//! Reader slots: who is attached, which epoch it pins. They bound memory and feed `shoal status`; nothing waits for them.
//!
//! A block made with `shared_memory` (one 64-byte slot per reader) and a lock file beside the instance's files: a reader
//! holds a byte-range lock (OFD) on its slot's byte, which the kernel releases when it dies.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use super::paths;
use crate::config::Instance;
use crate::config::limits::READERS_MAX;
use crate::sys::block::SharedBlock;
use crate::sys::files::make_private_dir;
use crate::sys::{process_id, range_lock};
use crate::types::{Epoch, Error, ErrorKind, Result};

const MAGIC: u64 = u64::from_le_bytes(*b"SHOALRDR");
const VERSION: u64 = 1;
const VERSION_OFFSET: usize = 8;
const SLOT_COUNT_OFFSET: usize = 16;
/// Slots start behind the header, which takes as much as one of them.
const SLOT_BYTES: usize = 64;
const BLOCK_BYTES: usize = SLOT_BYTES * (1 + READERS_MAX);
const PID_OFFSET: usize = 0;
const EPOCH_OFFSET: usize = 8;
const REQUESTS_OFFSET: usize = 16;

/// A reader's slot; freed when dropped or when the process dies. A forked child has no part in its parent's: it takes its own.
#[derive(Debug)]
pub struct ReaderSlot {
    block: SharedBlock,
    lock_file: File,
    slot: u32,
    pid: u32,
}

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

fn block_name(instance: &Instance) -> String {
    format!("shoal-{}-readers", instance.name)
}

fn lock_path(instance: &Instance) -> PathBuf {
    instance.shm_dir.join("readers.lock")
}

/// Makes the block and the lock file (the supervisor, before any fork of a role). A block that a dead server left is
/// replaced.
///
/// # Errors
/// When there is no room.
pub fn create_block(instance: &Instance) -> Result<()> {
    let name = block_name(instance);
    let create = || -> io::Result<()> {
        make_private_dir(&instance.shm_dir)?;
        paths::unlink(&lock_path(instance))?;
        File::options().write(true).create_new(true).mode(0o600).open(lock_path(instance))?;
        SharedBlock::remove(&name)?;
        let block = SharedBlock::create(&name, BLOCK_BYTES)?;
        block.atomic_u64(VERSION_OFFSET).store(VERSION, Ordering::Relaxed);
        block.atomic_u64(SLOT_COUNT_OFFSET).store(READERS_MAX as u64, Ordering::Relaxed);
        // Last: a block with the magic number is whole.
        block.atomic_u64(0).store(MAGIC, Ordering::Release);
        Ok(())
    };
    create().map_err(|error| Error::io(format_args!("make the block of reader slots {name}"), &error))
}

/// Unlinks the block (the supervisor, at the end, and whoever sweeps a dead instance).
pub fn remove_block(instance: &Instance) {
    let removed = SharedBlock::remove(&block_name(instance)).and_then(|_| paths::unlink(&lock_path(instance)));
    if let Err(error) = removed {
        tracing::warn!("cannot remove the block of reader slots {}: {error}", block_name(instance));
    }
}

/// The files a reader writes into: the block and the lock file.
pub fn paths(instance: &Instance) -> Vec<PathBuf> {
    vec![SharedBlock::path(&block_name(instance)), lock_path(instance)]
}

/// Opens the block and the lock file.
fn open(instance: &Instance) -> Result<(SharedBlock, File)> {
    let name = block_name(instance);
    let cannot_open = |error: io::Error| Error::io(format_args!("open the block of reader slots {name}"), &error);
    let block = SharedBlock::open(&name).map_err(cannot_open)?;
    let is_ours = block.len() >= BLOCK_BYTES
        && block.atomic_u64(0).load(Ordering::Acquire) == MAGIC
        && block.atomic_u64(VERSION_OFFSET).load(Ordering::Relaxed) == VERSION
        && block.atomic_u64(SLOT_COUNT_OFFSET).load(Ordering::Relaxed) == READERS_MAX as u64;
    if !is_ours {
        let message = format!("cannot use the block of reader slots {name}: another version of ShoalDB made it");
        return Err(Error::new(ErrorKind::Corrupt, message));
    }
    let lock_file = File::options().write(true).open(lock_path(instance)).map_err(cannot_open)?;
    Ok((block, lock_file))
}

fn word_offset(slot: u32, offset: usize) -> usize {
    SLOT_BYTES * (1 + slot as usize) + offset
}

impl ReaderSlot {
    /// Takes a free slot.
    ///
    /// # Errors
    /// When all are taken.
    pub fn take(instance: &Instance) -> Result<ReaderSlot> {
        let (block, lock_file) = open(instance)?;
        for slot in 0..READERS_MAX as u32 {
            let is_taken = range_lock::try_lock(&lock_file, slot)
                .map_err(|error| Error::io(format_args!("lock {}", lock_path(instance).display()), &error))?;
            if !is_taken {
                continue;
            }
            let pid = std::process::id();
            block.atomic_u64(word_offset(slot, EPOCH_OFFSET)).store(0, Ordering::Relaxed);
            block.atomic_u64(word_offset(slot, REQUESTS_OFFSET)).store(0, Ordering::Relaxed);
            block.atomic_u64(word_offset(slot, PID_OFFSET)).store(u64::from(pid), Ordering::Release);
            return Ok(ReaderSlot { block, lock_file, slot, pid });
        }
        let message = format!("cannot attach to {}: {READERS_MAX} readers are attached already", instance.name);
        Err(Error::new(ErrorKind::RateLimited, message))
    }

    /// Stores the epoch this reader uses and counts a request.
    pub fn touch(&self, epoch: Epoch) {
        if self.is_own() {
            self.block.atomic_u64(word_offset(self.slot, EPOCH_OFFSET)).store(epoch.0, Ordering::Relaxed);
            self.block.atomic_u64(word_offset(self.slot, REQUESTS_OFFSET)).fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether this process took the slot; a forked child did not.
    pub fn is_own(&self) -> bool {
        self.pid == process_id::present()
    }
}

impl Drop for ReaderSlot {
    fn drop(&mut self) {
        // A child's drop closes its descriptor and no more: unlocking would free the parent's slot.
        if self.is_own() {
            self.block.atomic_u64(word_offset(self.slot, PID_OFFSET)).store(0, Ordering::Release);
            // Children share the open file: closing alone would leave the slot taken as long as they live.
            if let Err(error) = range_lock::unlock(&self.lock_file, self.slot) {
                tracing::warn!("cannot unlock reader slot {}: {error}", self.slot);
            }
        }
    }
}

/// The living readers.
///
/// # Errors
/// When the block is missing or foreign.
pub fn list(instance: &Instance) -> Result<Vec<ReaderInfo>> {
    let (block, lock_file) = open(instance)?;
    let mut readers = Vec::new();
    for slot in 0..READERS_MAX as u32 {
        let load = |offset| block.atomic_u64(word_offset(slot, offset)).load(Ordering::Acquire);
        let Ok(pid @ 1..) = u32::try_from(load(PID_OFFSET)) else { continue };
        let is_locked = range_lock::is_locked(&lock_file, slot)
            .map_err(|error| Error::io(format_args!("look at {}", lock_path(instance).display()), &error))?;
        // A dead reader's children keep its lock: they are not that reader.
        if is_locked && is_alive(pid) {
            readers.push(ReaderInfo { pid, pinned_epoch: load(EPOCH_OFFSET), requests: load(REQUESTS_OFFSET) });
        }
    }
    Ok(readers)
}

fn is_alive(pid: u32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::test_child::Child;

    /// An instance with a name of its own in /dev/shm, which is removed at the end.
    struct Block {
        instance: Instance,
        _dir: tempfile::TempDir,
    }

    impl Block {
        fn create() -> Block {
            let dir = tempfile::tempdir().unwrap();
            let instance = Instance::new(dir.path(), dir.path()).unwrap();
            create_block(&instance).unwrap();
            Block { instance, _dir: dir }
        }

        fn pids(&self) -> Vec<u32> {
            list(&self.instance).unwrap().iter().map(|reader| reader.pid).collect()
        }
    }

    impl Drop for Block {
        fn drop(&mut self) {
            remove_block(&self.instance);
        }
    }

    #[test]
    fn a_reader_is_listed_while_it_holds_its_slot() {
        let block = Block::create();
        let first = ReaderSlot::take(&block.instance).unwrap();
        let second = ReaderSlot::take(&block.instance).unwrap();
        second.touch(Epoch(7));
        second.touch(Epoch(8));
        let expected = [(0, 0), (8, 2)].map(|(pinned_epoch, requests)| ReaderInfo {
            pid: std::process::id(),
            pinned_epoch,
            requests,
        });
        assert_eq!(list(&block.instance).unwrap(), expected);
        drop(first);
        assert_eq!(list(&block.instance).unwrap(), expected[1..]);
    }

    #[test]
    fn a_killed_readers_slot_is_free_again() {
        let block = Block::create();
        let (ready, ready_child) = std::io::pipe().unwrap();
        let child = Child::fork(|| {
            let _slot = ReaderSlot::take(&block.instance);
            let _ = std::io::Write::write_all(&mut &ready_child, b"x");
            loop {
                std::thread::park();
            }
        });
        std::io::Read::read_exact(&mut &ready, &mut [0]).unwrap();
        assert_eq!(block.pids().len(), 1);
        child.kill();
        assert!(block.pids().is_empty());
        let own = ReaderSlot::take(&block.instance).unwrap();
        assert_eq!(own.slot, 0);
    }

    #[test]
    fn a_forked_child_neither_uses_nor_frees_its_parents_slot() {
        let block = Block::create();
        let slot = ReaderSlot::take(&block.instance).unwrap();
        slot.touch(Epoch(1));
        let before = list(&block.instance).unwrap();
        let child = Child::fork(|| {
            slot.touch(Epoch(99));
            let is_own = slot.is_own();
            let pid_offset = word_offset(slot.slot, PID_OFFSET);
            // What dropping the inherited value does; the closure only borrows it.
            drop(ReaderSlot {
                block: SharedBlock::open(&block_name(&block.instance)).unwrap(),
                lock_file: slot.lock_file.try_clone().unwrap(),
                slot: slot.slot,
                pid: slot.pid,
            });
            i32::from(is_own || slot.block.atomic_u64(pid_offset).load(Ordering::Acquire) == 0)
        });
        assert_eq!(child.wait(), Some(0));
        assert_eq!(list(&block.instance).unwrap(), before);
        let other = ReaderSlot::take(&block.instance).unwrap();
        assert_ne!(other.slot, slot.slot);
    }

    #[test]
    fn without_a_server_the_error_names_the_block() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::new(dir.path(), dir.path()).unwrap();
        assert!(ReaderSlot::take(&instance).unwrap_err().message.contains("reader slots shoal-"));
    }
}
