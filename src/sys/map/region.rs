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
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: a map belongs to the process, not to a thread; who reads and writes its bytes is the business of `SharedMap`.
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
        let protection = if is_writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        if len < HUGE_PAGE {
            return Region::new(null_mut(), len, protection, libc::MAP_SHARED, file.as_raw_fd());
        }
        // Room for the file from the first multiple of a huge page on; what lies around it is given back.
        let room = Region::new(null_mut(), len + HUGE_PAGE, libc::PROT_NONE, ANONYMOUS, -1)?;
        let start = room.start.as_ptr();
        let aligned = start.wrapping_add(start.align_offset(HUGE_PAGE));
        let region = Region::new(aligned, len, protection, libc::MAP_SHARED | libc::MAP_FIXED, file.as_raw_fd())?;
        let room_end = start as usize + room.len;
        std::mem::forget(room);
        unmap(start, aligned as usize - start as usize);
        let end = (aligned as usize + len).next_multiple_of(page_bytes());
        unmap(end as *mut u8, room_end.next_multiple_of(page_bytes()) - end);
        Ok(region)
    }

    /// `start` is null, or lies in a reservation of this module that is long enough.
    fn new(start: *mut u8, len: usize, protection: i32, flags: i32, file: i32) -> io::Result<Region> {
        // SAFETY: without MAP_FIXED the kernel chooses memory that nothing uses; with it, `map` passes its own reservation.
        let mapped = unsafe { libc::mmap(start.cast(), len, protection, flags, file, 0) };
        match NonNull::new(mapped.cast()) {
            Some(start) if mapped != libc::MAP_FAILED => Ok(Region { start, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Moves the file's bytes into huge pages.
    pub fn collapse(&self) -> io::Result<()> {
        let whole = self.len / HUGE_PAGE * HUGE_PAGE;
        if whole == 0 {
            return Ok(());
        }
        // SAFETY: the range lies in this map; its bytes stay what they are.
        match unsafe { libc::madvise(self.start.as_ptr().cast(), whole, libc::MADV_COLLAPSE) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.start.as_ptr()
    }

    pub fn as_mut_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        unmap(self.start.as_ptr(), self.len);
    }
}

const ANONYMOUS: i32 = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;

fn page_bytes() -> usize {
    // SAFETY: a question without arguments that can be wrong.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

fn unmap(start: *mut u8, len: usize) {
    if len > 0 {
        // SAFETY: callers pass what they mapped and nobody else knows, or does any more.
        unsafe { libc::munmap(start.cast(), len) };
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
            let _ = region.collapse();
            // SAFETY: as above.
            assert_eq!(unsafe { std::slice::from_raw_parts(region.as_ptr(), region.len()) }, bytes);
        }
        assert!(Region::map(&tempfile::tempfile().unwrap(), true).is_err());
    }
}
