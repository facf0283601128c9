//! Where everything is in a pool's memory, and access to it.
//!
//! Page 0 is the header (magic, version, slots, sizes; the count of submissions on a cache line of its own), then all state
//! words in one dense array (16 cache lines for 128 slots: that is what servers scan), then 512 bytes of words per slot,
//! then per slot the request area and the reply area.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::PoolOptions;
use super::word::Word;
use crate::config::limits::NAME_BYTES_MAX;
use crate::sys::map::SharedMap;

const MAGIC: u64 = u64::from_le_bytes(*b"SHOALSLT");
const VERSION: u64 = 1;
/// Areas start at pages, so that they can be given back to the kernel. 64 KiB is the largest page of the machines we build
/// for.
const PAGE_BYTES: usize = 64 << 10;
/// Most slots: bounds the scan.
const SLOTS_MAX: usize = 4096;
const SUBMITTED_OFFSET: usize = 64;
const STATES_OFFSET: usize = 4096;
const SLOT_BYTES: usize = 512;
const DATABASE_OFFSET: usize = 256;

/// A word of a slot. 3, 4, 9..=15 and 16..=31 are spare: a request split over several servers will need a parent and a part.
#[derive(Clone, Copy, Debug)]
#[repr(usize)]
pub(super) enum SlotWord {
    /// Method in the low half, length of the database's name in the high half.
    Method = 0,
    /// CLOCK_MONOTONIC nanoseconds.
    Deadline = 1,
    /// How many servers died on it.
    Attempts = 2,
    /// Bytes of the request.
    RequestBytes = 5,
    /// Bytes of the reply; on a cache line of its own, which the server writes.
    ReplyBytes = 8,
}

const _: () = assert!(SLOT_BYTES - DATABASE_OFFSET > NAME_BYTES_MAX && (SlotWord::ReplyBytes as usize) * 8 == 64);

/// Sizes and offsets that follow from a pool's options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    slot_count: usize,
    request_bytes_max: usize,
    reply_bytes_max: usize,
    slots_offset: usize,
    areas_offset: usize,
    area_stride: usize,
    len: usize,
}

impl Layout {
    /// # Errors
    /// When the pool would have no slot, too many, or not fit into an address space.
    pub(super) fn new(options: PoolOptions) -> io::Result<Layout> {
        let refuse = || io::Error::new(io::ErrorKind::InvalidInput, format!("no slot pool can have {options:?}"));
        let slot_count = options.slot_count as usize;
        if slot_count == 0 || slot_count > SLOTS_MAX {
            return Err(refuse());
        }
        let slots_offset = (STATES_OFFSET + slot_count * 8).next_multiple_of(64);
        let areas_offset = (slots_offset + slot_count * SLOT_BYTES).next_multiple_of(PAGE_BYTES);
        let page = |bytes: usize| bytes.checked_next_multiple_of(PAGE_BYTES);
        let lengths = page(options.request_bytes_max).zip(page(options.reply_bytes_max));
        let area_stride = lengths.and_then(|(request, reply)| request.checked_add(reply)).ok_or_else(refuse)?;
        let areas_bytes = area_stride.checked_mul(slot_count).ok_or_else(refuse)?;
        let len = areas_offset.checked_add(areas_bytes).filter(|len| i64::try_from(*len).is_ok()).ok_or_else(refuse)?;
        Ok(Layout {
            slot_count,
            request_bytes_max: options.request_bytes_max,
            reply_bytes_max: options.reply_bytes_max,
            slots_offset,
            areas_offset,
            area_stride,
            len,
        })
    }

    /// Length of the memory.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    fn header(&self) -> [u64; 6] {
        let sizes = [self.slot_count, self.request_bytes_max, self.reply_bytes_max, self.len];
        let [slots, request, reply, len] = sizes.map(|size| size as u64);
        [MAGIC, VERSION, slots, request, reply, len]
    }

    /// Writes the header into fresh memory, without mapping it.
    pub(super) fn write_header(&self, memory: &File) -> io::Result<()> {
        memory.write_all_at(bytemuck::bytes_of(&self.header()), 0)
    }
}

/// A mapped pool. Every access is bounds-checked against the layout that was checked when it was opened.
#[derive(Debug)]
pub(super) struct Memory {
    map: SharedMap,
    layout: Layout,
}

impl Memory {
    /// Maps a pool and checks its header against the options.
    pub(super) fn open(file: &File, options: PoolOptions) -> io::Result<Memory> {
        let layout = Layout::new(options)?;
        let foreign =
            || io::Error::new(io::ErrorKind::InvalidData, format!("the memory is no slot pool of {options:?}"));
        if file.metadata()?.len() != layout.len as u64 {
            return Err(foreign());
        }
        let map = SharedMap::read_write(file)?;
        if map.slice::<u64>(0, 6) != Some(&layout.header()[..]) {
            return Err(foreign());
        }
        Ok(Memory { map, layout })
    }

    pub(super) fn slot_count(&self) -> usize {
        self.layout.slot_count
    }

    pub(super) fn request_bytes_max(&self) -> usize {
        self.layout.request_bytes_max
    }

    pub(super) fn reply_bytes_max(&self) -> usize {
        self.layout.reply_bytes_max
    }

    /// Counts submissions: a server that scanned in vain looks whether one came meanwhile.
    pub(super) fn submitted(&self) -> &AtomicU64 {
        self.map.atomic_u64(SUBMITTED_OFFSET)
    }

    /// All state words.
    pub(super) fn states(&self) -> &[AtomicU64] {
        self.map.atomics_u64(STATES_OFFSET, self.layout.slot_count).unwrap_or_default()
    }

    /// A slot's state word now (acquire).
    pub(super) fn load(&self, slot: usize) -> Word {
        Word(self.states()[slot].load(Ordering::Acquire))
    }

    /// Moves a slot's state word on, if it is still `from`; else returns what it is.
    pub(super) fn swap(&self, slot: usize, from: Word, to: Word) -> Result<(), Word> {
        let state = &self.states()[slot];
        state.compare_exchange(from.0, to.0, Ordering::AcqRel, Ordering::Acquire).map(|_| ()).map_err(Word)
    }

    /// Stores a slot's state word (release), for moves that no one else can make at the same time.
    pub(super) fn store(&self, slot: usize, word: Word) {
        self.states()[slot].store(word.0, Ordering::Release);
    }

    fn slot_offset(&self, slot: usize) -> usize {
        assert!(slot < self.layout.slot_count, "slot {slot} of {}", self.layout.slot_count);
        self.layout.slots_offset + slot * SLOT_BYTES
    }

    /// A word of a slot. Relaxed: the state word orders it.
    pub(super) fn get(&self, slot: usize, word: SlotWord) -> u64 {
        self.map.atomic_u64(self.slot_offset(slot) + word as usize * 8).load(Ordering::Relaxed)
    }

    /// Sets a word of a slot.
    pub(super) fn set(&self, slot: usize, word: SlotWord, value: u64) {
        self.map.atomic_u64(self.slot_offset(slot) + word as usize * 8).store(value, Ordering::Relaxed);
    }

    /// A length word, when it is within `max`: another process wrote it.
    pub(super) fn length(&self, slot: usize, word: SlotWord, max: usize) -> Option<usize> {
        usize::try_from(self.get(slot, word)).ok().filter(|len| *len <= max)
    }

    /// Writes the database's name; at most 255 bytes.
    pub(super) fn write_database(&self, slot: usize, name: &[u8]) {
        self.map.write(self.slot_offset(slot) + DATABASE_OFFSET, &name[..name.len().min(NAME_BYTES_MAX)]);
    }

    /// The first `len` bytes of the database's name.
    pub(super) fn database(&self, slot: usize, len: usize) -> Option<&[u8]> {
        let start = self.slot_offset(slot) + DATABASE_OFFSET;
        if len <= NAME_BYTES_MAX { self.map.get(start..start + len) } else { None }
    }

    fn request_offset(&self, slot: usize) -> usize {
        assert!(slot < self.layout.slot_count, "slot {slot} of {}", self.layout.slot_count);
        self.layout.areas_offset + slot * self.layout.area_stride
    }

    fn reply_offset(&self, slot: usize) -> usize {
        self.request_offset(slot) + self.layout.request_bytes_max.next_multiple_of(PAGE_BYTES)
    }

    /// Writes a request; it fits.
    pub(super) fn write_request(&self, slot: usize, body: &[u8]) {
        assert!(body.len() <= self.layout.request_bytes_max);
        self.map.write(self.request_offset(slot), body);
    }

    /// The first `len` bytes of a request; it fits.
    pub(super) fn request(&self, slot: usize, len: usize) -> &[u8] {
        let start = self.request_offset(slot);
        self.map.get(start..start + len.min(self.layout.request_bytes_max)).unwrap_or_default()
    }

    /// Writes a reply; it fits.
    pub(super) fn write_reply(&self, slot: usize, body: &[u8]) {
        assert!(body.len() <= self.layout.reply_bytes_max);
        self.map.write(self.reply_offset(slot), body);
    }

    /// The first `len` bytes of a reply; it fits.
    pub(super) fn reply(&self, slot: usize, len: usize) -> &[u8] {
        let start = self.reply_offset(slot);
        self.map.get(start..start + len.min(self.layout.reply_bytes_max)).unwrap_or_default()
    }

    /// The parts of a slot's areas beyond the first `keep` bytes of each, as ranges of the file.
    pub(super) fn trimmable(&self, slot: usize, keep: usize) -> [Range<u64>; 2] {
        let keep = keep.next_multiple_of(PAGE_BYTES);
        let [request, reply] = [self.request_offset(slot), self.reply_offset(slot)];
        let end = request + self.layout.area_stride;
        [(request + keep).min(reply) as u64..reply as u64, (reply + keep).min(end) as u64..end as u64]
    }
}
