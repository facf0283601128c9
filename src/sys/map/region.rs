//! Mapped bytes of a file: where they begin in memory decides whether huge pages of the file can be used.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use memmap2::{MmapOptions, MmapRaw};
use nix::libc;

/// Bytes of a huge page; a map that begins at a multiple of it uses those of its file.
const HUGE_PAGE: usize = 2 << 20;

/// A mapped file. Unmapped when dropped.
#[derive(Debug)]
pub(super) struct Region {
    /// The file, or a reservation of addresses with the file mapped into it.
    raw: MmapRaw,
    /// Where the file begins.
    offset: usize,
    len: usize,
}

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
        if len < HUGE_PAGE {
            let raw = match is_writable {
                true => MmapOptions::new().map_raw(file)?,
                false => MmapOptions::new().map_raw_read_only(file)?,
            };
            return Ok(Region { raw, offset: 0, len });
        }
        // Addresses that nothing uses; untouched, they take no memory.
        let raw = MmapRaw::from(MmapOptions::new().len(len + HUGE_PAGE).no_reserve_swap().map_anon()?);
        let offset = raw.as_ptr().align_offset(HUGE_PAGE);
        let protection = if is_writable { libc::PROT_READ | libc::PROT_WRITE } else { libc::PROT_READ };
        let flags = libc::MAP_SHARED | libc::MAP_FIXED;
        let start = raw.as_mut_ptr().wrapping_add(offset);
        // SAFETY: the file replaces a part of the reservation, which is ours alone and long enough: an address is less than a
        // huge page away from a multiple of one. Dropping the reservation unmaps whatever lies in it.
        let mapped = unsafe { libc::mmap(start.cast(), len, protection, flags, file.as_raw_fd(), 0) };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Region { raw, offset, len })
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
        self.raw.as_mut_ptr().wrapping_add(self.offset)
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
