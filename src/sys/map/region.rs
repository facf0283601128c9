//! Mapped bytes of a file: where they begin in memory decides whether huge pages of the file can be used.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr::{NonNull, null_mut};

use nix::libc;

/// Bytes of a huge page; a map that begins at a multiple of it uses those of its file.
const HUGE_PAGE: usize = 2 << 20;

/// A mapped file. Unmapped when dropped.
#[derive(Debug)]
pub(super) struct Region {
    /// Addresses that are ours.
    reserved: NonNull<u8>,
    reserved_len: usize,
    /// Where among them the file begins.
    offset: usize,
    len: usize,
}

// SAFETY: it owns its addresses like a box; whoever reads and writes them through its pointer answers for that himself.
unsafe impl Send for Region {}
// SAFETY: as above.
unsafe impl Sync for Region {}

impl Region {
    /// Maps a whole file.
    ///
    /// # Errors
    /// When it is empty or the kernel refuses.
    pub fn map(file: &File, is_writable: bool) -> io::Result<Region> {
        let len = usize::try_from(file.metadata()?.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        if len == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty file cannot be mapped"));
        }
        let is_large = len >= HUGE_PAGE;
        let mut region = Region::reserve(if is_large { len + HUGE_PAGE } else { len }, len)?;
        region.offset = if is_large { region.reserved.align_offset(HUGE_PAGE) } else { 0 };
        let protection = if is_writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        // SAFETY: the file replaces a part of the reservation, which is ours alone and long enough: an address is less than a
        // huge page away from a multiple of one. Dropping the reservation unmaps whatever lies in it.
        let mapped = unsafe { libc::mmap(region.as_mut_ptr().cast(), len, protection, flags, file.as_raw_fd(), 0) };
        if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(region) }
    }

    /// Addresses that nothing uses. They can be neither read nor written, so that they count as nobody's memory: a limit
    /// on that of a process must not depend on how much it maps of what all share.
    fn reserve(reserved_len: usize, len: usize) -> io::Result<Region> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: the kernel chooses addresses that nothing lies at.
        let reserved = unsafe { libc::mmap(null_mut(), reserved_len, libc::PROT_NONE, flags, -1, 0) };
        match NonNull::new(reserved.cast()) {
            Some(start) if reserved != libc::MAP_FAILED => Ok(Region { reserved: start, reserved_len, offset: 0, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Moves `len` of the file's bytes from `start` on into huge pages, as far as both lie in whole ones.
    pub fn collapse(&self, start: usize, len: usize) -> io::Result<()> {
        let start = start.next_multiple_of(HUGE_PAGE);
        let end = start.saturating_add(len).min(self.len) / HUGE_PAGE * HUGE_PAGE;
        if end <= start {
            return Ok(());
        }
        let first = self.as_mut_ptr().wrapping_add(start);
        // SAFETY: the range lies in this map; its bytes stay what they are.
        match unsafe { libc::madvise(first.cast(), end - start, libc::MADV_COLLAPSE) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.as_mut_ptr()
    }

    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.reserved.as_ptr().wrapping_add(self.offset)
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: the addresses are ours, and nobody has a reference into them any more: those borrow from this.
        let _ = unsafe { libc::munmap(self.reserved.as_ptr().cast(), self.reserved_len) };
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn files_of_any_length_are_mapped_whole_and_large_ones_where_huge_pages_can_begin() {
        for len in [1, 4096, HUGE_PAGE - 1, HUGE_PAGE, HUGE_PAGE + 1, 3 * HUGE_PAGE + 4097] {
            let mut file = tempfile::tempfile().unwrap();
            let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            file.write_all(&bytes).unwrap();
            let region = Region::map(&file, false).unwrap();
            // SAFETY: the map is that long.
            assert_eq!(unsafe { std::slice::from_raw_parts(region.as_ptr(), region.len()) }, bytes);
            assert!(len < HUGE_PAGE || region.as_ptr().align_offset(HUGE_PAGE) == 0);
            // Refused on most disks; whatever comes of it, the bytes are the same.
            let _ = (region.collapse(0, len), region.collapse(HUGE_PAGE, HUGE_PAGE), region.collapse(len, 1));
            // SAFETY: as above.
            assert_eq!(unsafe { std::slice::from_raw_parts(region.as_ptr(), region.len()) }, bytes);
        }
        assert!(Region::map(&tempfile::tempfile().unwrap(), true).is_err());
    }
}
