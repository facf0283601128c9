//! Nameless files in memory (`memfd`), and giving parts of them back.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;

use nix::fcntl::{FallocateFlags, FcntlArg, SealFlag, fallocate, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};

/// A sparse file in memory of a fixed length: it takes memory page by page, as it is written. Close-on-exec; sealed, so that
/// nobody can truncate it under a map.
///
/// # Errors
/// Those of the kernel; a name with a NUL byte.
pub fn sealed(name: &str, len: u64) -> io::Result<File> {
    let name = CString::new(name)?;
    let file = File::from(memfd_create(name.as_c_str(), MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?);
    file.set_len(len)?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(file.as_fd(), FcntlArg::F_ADD_SEALS(seals))?;
    Ok(file)
}

/// Gives the memory of a range back: it reads as zeros from then on. The file keeps its length.
///
/// # Errors
/// Those of the kernel.
pub fn punch_hole(file: &File, range: Range<u64>) -> io::Result<()> {
    let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let too_large = |_| io::Error::from(io::ErrorKind::FileTooLarge);
    let offset = i64::try_from(range.start).map_err(too_large)?;
    let len = i64::try_from(range.end.saturating_sub(range.start)).map_err(too_large)?;
    if len > 0 {
        fallocate(file.as_fd(), flags, offset, len)?;
    }
    Ok(())
}
