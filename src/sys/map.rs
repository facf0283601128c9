//! Maps of files that other processes map too.
//!
//! A map is read and written through bounds-checked methods. Bytes that another process may change at the same time are
//! reached through the atomic methods only; plain slices are for bytes that the file's protocol has published for good.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU32, AtomicU64};

use self::region::Region;

mod region;

/// A shared map of a whole file, read-only or read-write. Unmapped when dropped.
#[derive(Debug)]
pub struct SharedMap {
    raw: Region,
    is_writable: bool,
}

impl SharedMap {
    /// Maps a file for reading. The file must never be truncated while it is mapped: ours never are.
    ///
    /// # Errors
    /// When the file is empty or the kernel refuses.
    pub fn read(file: &File) -> io::Result<SharedMap> {
        Ok(SharedMap { raw: Region::map(file, false)?, is_writable: false })
    }

    /// Allocates the file's bytes (`fallocate`) up to `len` and maps it for reading and writing.
    ///
    /// # Errors
    /// `ENOSPC` when there is no room: nothing is mapped then.
    pub fn create(file: &File, len: usize) -> io::Result<SharedMap> {
        let flags = nix::fcntl::FallocateFlags::empty();
        let len_signed = i64::try_from(len).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        nix::fcntl::fallocate(file.as_fd(), flags, 0, len_signed)?;
        SharedMap::read_write(file)
    }

    /// Maps a file for reading and writing at its present length; its bytes must be allocated, or be a memfd's.
    ///
    /// # Errors
    /// When the file is empty or the kernel refuses.
    pub fn read_write(file: &File) -> io::Result<SharedMap> {
        Ok(SharedMap { raw: Region::map(file, true)?, is_writable: true })
    }

    /// Moves some of the file's bytes into huge pages where the kernel can (Linux 6.1 and later, files of a tmpfs): who maps the
    /// file then reaches a row anywhere in it without a walk through page tables that the caches do not hold.
    ///
    /// # Errors
    /// When the kernel refuses: the bytes stay where they are, and nothing is worse than before.
    pub fn collapse(&self, start: usize, len: usize) -> io::Result<()> {
        self.raw.collapse(start, len)
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.raw.len()
    }

    /// Whether it is empty; a map never is.
    pub fn is_empty(&self) -> bool {
        self.raw.len() == 0
    }

    /// All bytes. Only what the file's protocol has published is meaningful.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the map is `len` bytes long and lives as long as `self`; its file is never truncated.
        unsafe { std::slice::from_raw_parts(self.raw.as_ptr(), self.raw.len()) }
    }

    /// Some bytes; `None` when the range is out of bounds.
    pub fn get(&self, range: Range<usize>) -> Option<&[u8]> {
        self.bytes().get(range)
    }

    /// `count` values of a plain type from `offset_bytes` on; `None` when out of bounds or misaligned.
    pub fn slice<T: bytemuck::AnyBitPattern>(&self, offset_bytes: usize, count: usize) -> Option<&[T]> {
        let len_bytes = count.checked_mul(size_of::<T>())?;
        let end = offset_bytes.checked_add(len_bytes)?;
        bytemuck::try_cast_slice(self.bytes().get(offset_bytes..end)?).ok()
    }

    /// Copies bytes into the map. The range must not be published yet.
    ///
    /// # Panics
    /// When the range is out of bounds or the map is read-only: both are bugs of the caller.
    pub fn write(&self, offset_bytes: usize, bytes: &[u8]) {
        let end = offset_bytes.checked_add(bytes.len()).expect("an offset within a map");
        assert!(
            self.is_writable && end <= self.raw.len(),
            "write of {offset_bytes}..{end} into {} bytes",
            self.raw.len()
        );
        // SAFETY: `offset_bytes..end` lies in the map, which is writable; the source is a borrowed slice and cannot
        // overlap bytes that nobody may borrow before they are published.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.raw.as_mut_ptr().add(offset_bytes), bytes.len()) }
    }

    /// All bytes, for writing, of a file that nobody else knows yet.
    ///
    /// # Panics
    /// When the map is read-only: a bug of the caller.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        assert!(self.is_writable, "a map for reading cannot be written");
        // SAFETY: the map is `len` bytes long, writable, and borrowed exclusively; no other process maps an unnamed or
        // temporary file for writing.
        unsafe { std::slice::from_raw_parts_mut(self.raw.as_mut_ptr(), self.raw.len()) }
    }

    /// An atomic word of the map.
    ///
    /// # Panics
    /// When it is out of bounds or not 8-byte aligned: layouts are checked before maps are used.
    pub fn atomic_u64(&self, offset_bytes: usize) -> &AtomicU64 {
        assert!(offset_bytes.is_multiple_of(8) && offset_bytes + 8 <= self.raw.len());
        // SAFETY: in bounds and aligned (maps start at a page), and every bit pattern is a u64.
        unsafe { &*self.raw.as_mut_ptr().add(offset_bytes).cast::<AtomicU64>() }
    }

    /// `count` atomic words from `offset_bytes` on; `None` when out of bounds or misaligned.
    pub fn atomics_u64(&self, offset_bytes: usize, count: usize) -> Option<&[AtomicU64]> {
        let end = offset_bytes.checked_add(count.checked_mul(8)?)?;
        if !offset_bytes.is_multiple_of(8) || end > self.raw.len() {
            return None;
        }
        // SAFETY: checked above: in bounds and aligned; every bit pattern is a u64.
        Some(unsafe { std::slice::from_raw_parts(self.raw.as_mut_ptr().add(offset_bytes).cast::<AtomicU64>(), count) })
    }

    /// An atomic half word of the map (futex words).
    ///
    /// # Panics
    /// When it is out of bounds or not 4-byte aligned.
    pub fn atomic_u32(&self, offset_bytes: usize) -> &AtomicU32 {
        assert!(offset_bytes.is_multiple_of(4) && offset_bytes + 4 <= self.raw.len());
        // SAFETY: in bounds and aligned, and every bit pattern is a u32.
        unsafe { &*self.raw.as_mut_ptr().add(offset_bytes).cast::<AtomicU32>() }
    }

    /// Whether it may be written.
    pub fn is_writable(&self) -> bool {
        self.is_writable
    }
}
