//! The lock of a data directory: `flock` on a file, so that the kernel releases it when the last holder is dead.
//!
//! Open, lock, then compare what was locked with what the name says now: the file may have been unlinked by a holder that
//! stopped cleanly in between. So it can be removed, and two processes never hold two files of one name.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

/// `shoal status` and `gc` hold a lock for microseconds to see whether it is free: a start waits that out.
const PROBE_WAIT_MAX: Duration = Duration::from_millis(200);
/// Longest description that is read.
const OWNER_BYTES_MAX: u64 = 64 << 10;

/// Who holds a lock; the file's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockOwner {
    /// The supervisor.
    pub pid: u32,
    /// When it started.
    pub started_unix_ms: u64,
    /// Its command line.
    pub command: String,
}

impl LockOwner {
    /// This process, as of now.
    pub fn this_process() -> LockOwner {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        LockOwner {
            pid: std::process::id(),
            started_unix_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            command: std::env::args().collect::<Vec<_>>().join(" "),
        }
    }
}

/// Why a lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Somebody holds it; who, as far as the file says.
    #[error("it is in use")]
    Held(Option<LockOwner>),
    /// The file cannot be opened or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// A held lock. It is released when every process that inherited it has closed it or died; dropping unlinks nothing.
#[derive(Debug)]
pub struct DirLock {
    file: File,
    path: PathBuf,
}

impl DirLock {
    /// Takes the lock and writes who holds it.
    ///
    /// # Errors
    /// [`LockError::Held`] when somebody else does.
    pub fn take(path: &Path, owner: &LockOwner) -> Result<DirLock, LockError> {
        let deadline = Instant::now() + PROBE_WAIT_MAX;
        loop {
            // Before the try: a process that stood still for that time tries once more.
            let is_last = Instant::now() >= deadline;
            let file = open(path, true)?;
            if try_lock(&file, FlockOperation::NonBlockingLockExclusive)? {
                if is_named(&file, path)? {
                    let text = serde_json::to_string(owner).map_err(io::Error::other)?;
                    file.set_len(0)?;
                    file.write_all_at(text.as_bytes(), 0)?;
                    return Ok(DirLock { file, path: path.to_owned() });
                }
            } else if is_last {
                return Err(LockError::Held(read_owner(&file)));
            } else {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Removes the file, then releases the lock. Whoever waits for it finds the name gone and makes a new file.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn release_and_remove(self) -> io::Result<()> {
        std::fs::remove_file(&self.path)?;
        drop(self.file);
        Ok(())
    }
}

/// Who holds the lock of `path` now: `None` = nobody, `Some(None)` = somebody who has not said who.
///
/// # Errors
/// When the file exists and cannot be read.
pub fn holder(path: &Path) -> io::Result<Option<Option<LockOwner>>> {
    let file = match open(path, false) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if try_lock(&file, FlockOperation::NonBlockingLockShared)? {
        return Ok(None);
    }
    Ok(Some(read_owner(&file)))
}

fn open(path: &Path, may_create: bool) -> io::Result<File> {
    File::options().read(true).write(may_create).create(may_create).truncate(false).mode(0o600).open(path)
}

fn try_lock(file: &File, operation: FlockOperation) -> io::Result<bool> {
    match rustix::fs::flock(file, operation) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Whether the locked file is still the one the name stands for.
fn is_named(file: &File, path: &Path) -> io::Result<bool> {
    let locked = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (locked.dev(), locked.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn read_owner(file: &File) -> Option<LockOwner> {
    let mut text = String::new();
    file.take(OWNER_BYTES_MAX).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(pid: u32) -> LockOwner {
        LockOwner { pid, started_unix_ms: 5, command: "shoal serve".to_owned() }
    }

    #[test]
    fn a_held_lock_is_refused_and_names_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = DirLock::take(&path, &owner(7)).unwrap();
        assert_eq!(holder(&path).unwrap(), Some(Some(owner(7))));
        match DirLock::take(&path, &owner(8)) {
            Err(LockError::Held(Some(found))) => assert_eq!(found, owner(7)),
            other => panic!("{other:?}"),
        }
        drop(held);
        assert_eq!(holder(&path).unwrap(), None);
    }

    #[test]
    fn a_lock_whose_holder_died_is_taken_over_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        std::fs::write(&path, r#"{"pid":1,"started_unix_ms":1,"command":"a dead and much longer command line"}"#)
            .unwrap();
        let _held = DirLock::take(&path, &owner(9)).unwrap();
        assert_eq!(holder(&path).unwrap(), Some(Some(owner(9))));
    }

    #[test]
    fn a_removed_lock_file_is_not_mistaken_for_the_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let first = DirLock::take(&path, &owner(1)).unwrap();
        let stale = open(&path, true).unwrap();
        first.release_and_remove().unwrap();
        assert!(try_lock(&stale, FlockOperation::NonBlockingLockExclusive).unwrap());
        assert!(!is_named(&stale, &path).unwrap());
        let _second = DirLock::take(&path, &owner(2)).unwrap();
        assert_eq!(holder(&path).unwrap(), Some(Some(owner(2))));
    }

    #[test]
    fn a_missing_lock_is_held_by_nobody() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(holder(&dir.path().join("LOCK")).unwrap(), None);
    }

    #[test]
    fn an_inherited_descriptor_keeps_the_lock() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("LOCK");
        let held = DirLock::take(&path, &owner(3)).unwrap();
        let inherited = held.file.try_clone().unwrap();
        drop(held);
        assert!(holder(&path).unwrap().is_some());
        drop(inherited);
        assert!(holder(&path).unwrap().is_none());
    }
}
