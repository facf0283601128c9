//! Room for a file's bytes, before anybody maps or writes them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::fcntl::{FallocateFlags, fallocate};

/// Allocates the first `len` bytes of a file (zeros where there was nothing): writing them cannot fail for want of room.
///
/// # Errors
/// `ENOSPC` when there is no room; nothing is allocated then.
pub fn allocate(file: &File, len: u64) -> io::Result<()> {
    let len = i64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
    // The kernel refuses to allocate nothing.
    if len > 0 {
        fallocate(file.as_fd(), FallocateFlags::empty(), 0, len)?;
    }
    Ok(())
}
