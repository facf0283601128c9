//! Locks on single bytes of a file (`F_OFD_SETLK`): they belong to an open file, and the kernel releases them when its last
//! descriptor is closed, so also when its process dies. A forked child shares its parent's.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

fn one_byte(kind: i32, offset: u32) -> libc::flock {
    libc::flock { l_type: kind as i16, l_whence: libc::SEEK_SET as i16, l_start: i64::from(offset), l_len: 1, l_pid: 0 }
}

/// Locks a byte, if nobody holds it; the file was opened for writing.
///
/// # Errors
/// Those of the kernel, a held lock excepted.
pub fn try_lock(file: &File, offset: u32) -> io::Result<bool> {
    match fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&one_byte(libc::F_WRLCK, offset))) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Unlocks a byte, also for the children that share the open file.
///
/// # Errors
/// Those of the kernel.
pub fn unlock(file: &File, offset: u32) -> io::Result<()> {
    fcntl(file.as_fd(), FcntlArg::F_OFD_SETLK(&one_byte(libc::F_UNLCK, offset)))?;
    Ok(())
}

/// Whether another open file holds a lock on a byte.
///
/// # Errors
/// Those of the kernel.
pub fn is_locked(file: &File, offset: u32) -> io::Result<bool> {
    let mut lock = one_byte(libc::F_WRLCK, offset);
    fcntl(file.as_fd(), FcntlArg::F_OFD_GETLK(&mut lock))?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}
