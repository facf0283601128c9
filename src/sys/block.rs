//! Named read-write blocks of shared memory (`shm_open`): reader slots and progress cells.
//!
//! A block has a name and no owner: a killed process must not take it from the others, so only [`SharedBlock::remove`]
//! unlinks it. Its bytes are reached as atomic words only, because any process may change them at any time.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;

use shared_memory::{Shmem, ShmemConf, ShmemError};

/// Where the kernel shows the objects of `shm_open`.
pub const BLOCK_DIR: &str = "/dev/shm";

/// A mapped block. Unmapped when dropped; the name stays.
pub struct SharedBlock {
    memory: Shmem,
}

// SAFETY: the map is reached through atomic words only, is never remapped, and is unmapped by its one owner's drop.
unsafe impl Send for SharedBlock {}
// SAFETY: as above: shared access is atomic.
unsafe impl Sync for SharedBlock {}

impl SharedBlock {
    /// Makes a zeroed block with mode 0600 whose bytes are all allocated: touching it can never raise SIGBUS.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken; `ENOSPC` when there is no room (nothing is left behind then).
    pub fn create(name: &str, bytes: usize) -> io::Result<SharedBlock> {
        let mut memory = ShmemConf::new().os_id(name).size(bytes).create().map_err(from_shmem)?;
        memory.set_owner(false);
        allocate(name, bytes).inspect_err(|_| {
            let _ = SharedBlock::remove(name);
        })?;
        Ok(SharedBlock { memory })
    }

    /// Where the kernel shows a block.
    pub fn path(name: &str) -> PathBuf {
        PathBuf::from(BLOCK_DIR).join(name)
    }

    /// Maps an existing block for reading and writing.
    ///
    /// # Errors
    /// `NotFound` when there is none; `UnexpectedEof` when it is empty (its maker has not got further yet).
    pub fn open(name: &str) -> io::Result<SharedBlock> {
        let length = std::fs::metadata(SharedBlock::path(name))?.len();
        if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut memory = ShmemConf::new().os_id(name).open().map_err(from_shmem)?;
        memory.set_owner(false);
        Ok(SharedBlock { memory })
    }

    /// Unlinks a block by name; whoever maps it keeps it. Returns whether there was one.
    ///
    /// # Errors
    /// Those of the kernel, a missing block excepted.
    pub fn remove(name: &str) -> io::Result<bool> {
        match nix::sys::mman::shm_unlink(name) {
            Ok(()) => Ok(true),
            Err(nix::Error::ENOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Whether it is empty; a block never is.
    pub fn is_empty(&self) -> bool {
        self.memory.len() == 0
    }

    /// An atomic word.
    ///
    /// # Panics
    /// When it is out of bounds or not 8-byte aligned: lengths are checked when a block is opened.
    pub fn atomic_u64(&self, offset_bytes: usize) -> &AtomicU64 {
        assert!(
            offset_bytes.is_multiple_of(8) && offset_bytes.checked_add(8).is_some_and(|end| end <= self.memory.len()),
            "word {offset_bytes} of a block of {} bytes",
            self.memory.len()
        );
        // SAFETY: in bounds and aligned (maps start at a page); every bit pattern is a u64; the map lives as `self` does.
        unsafe { &*self.memory.as_ptr().add(offset_bytes).cast::<AtomicU64>() }
    }
}

impl std::fmt::Debug for SharedBlock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SharedBlock({}, {} bytes)", self.memory.get_os_id(), self.memory.len())
    }
}

/// `shared_memory` only truncates to length: the pages of a full /dev/shm would be found missing at the first touch.
fn allocate(name: &str, bytes: usize) -> io::Result<()> {
    let file = File::options().read(true).write(true).open(SharedBlock::path(name))?;
    let len = i64::try_from(bytes).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    Ok(nix::fcntl::posix_fallocate(&file, 0, len)?)
}

fn from_shmem(error: ShmemError) -> io::Error {
    match error {
        ShmemError::MappingIdExists => io::ErrorKind::AlreadyExists.into(),
        ShmemError::MapCreateFailed(errno) | ShmemError::MapOpenFailed(errno) | ShmemError::UnknownOsError(errno) => {
            i32::try_from(errno).map_or_else(|_| io::Error::other(error.to_string()), io::Error::from_raw_os_error)
        }
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::*;

    struct Removed(String);

    impl Drop for Removed {
        fn drop(&mut self) {
            let _ = SharedBlock::remove(&self.0);
        }
    }

    fn unique(name: &str) -> Removed {
        Removed(format!("shoal-test-{name}-{}", std::process::id()))
    }

    #[test]
    fn a_block_is_shared_by_name_and_outlives_its_maker() {
        let name = unique("shared");
        let made = SharedBlock::create(&name.0, 4096).unwrap();
        made.atomic_u64(8).store(7, Ordering::Release);
        drop(made);
        let opened = SharedBlock::open(&name.0).unwrap();
        assert_eq!((opened.len(), opened.atomic_u64(8).load(Ordering::Acquire)), (4096, 7));
    }

    #[test]
    fn a_taken_name_is_refused_and_a_removed_one_is_gone() {
        let name = unique("taken");
        let _made = SharedBlock::create(&name.0, 64).unwrap();
        assert_eq!(SharedBlock::create(&name.0, 64).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert!(SharedBlock::remove(&name.0).unwrap());
        assert!(!SharedBlock::remove(&name.0).unwrap());
        assert_eq!(SharedBlock::open(&name.0).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_block_without_room_leaves_nothing_behind() {
        let name = unique("huge");
        assert!(SharedBlock::create(&name.0, 1 << 46).is_err());
        assert_eq!(SharedBlock::open(&name.0).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    #[should_panic(expected = "word 64")]
    fn a_word_past_the_end_panics() {
        let name = unique("bounds");
        let _ = SharedBlock::create(&name.0, 64).unwrap().atomic_u64(64);
    }
}
