//! The help board: large searches, cut into parts that idle searchers take over.
//!
//! One sparse memfd, made by the supervisor before it forks and inherited. A searcher posts a request in its own entry and
//! takes parts of it itself; whoever is idle takes parts, too, and leaves their results in areas of its own. Nobody waits for
//! anybody without a bound: a part that was taken and does not come back is simply done again by the one who posted it. So
//! there is no lock and no notice of death here; a helper that is killed or stopped costs the time of one part.
//!
//! Every byte has one writer, the searcher of that index, except two kinds of words that move by compare-and-swap and carry
//! the post's generation: the claim word (generation, next part) and the part words (generation, who did it). Requests and
//! results are copied, then checked by their generation (a seqlock), then used.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::config::limits::SEARCHERS_MAX;
use crate::sys::map::SharedMap;
use crate::sys::memfd;

/// Parts of a post: enough that two or four searchers end at about the same time, and that a lost part is little.
pub const PART_COUNT: usize = 16;
/// Longest posted request in bytes; longer ones are not shared.
pub const POST_BYTES_MAX: usize = 4 << 20;
/// Longest result of a part in bytes; what gives longer ones is done by the one who posted it.
pub const PART_BYTES_MAX: usize = 256 << 10;

/// Words of an entry besides its claim word.
const ENTRY_WORDS: usize = 64;
const TIMESTAMP_WORD: usize = 0;
const COLLECTION_WORD: usize = 1;
const EPOCH_WORD: usize = 2;
const DATABASE_BYTES_WORD: usize = 3;
const BODY_BYTES_WORD: usize = 4;
/// Who did each part of this searcher's post.
const PART_WORDS: usize = 16;
/// Which part of whose post each result area of this searcher holds, and its length.
const RESULT_WORDS: usize = PART_WORDS + PART_COUNT;

/// Dense arrays, which every idle searcher reads: claim words, then words that say who is idle.
const CLAIMS_OFFSET: usize = 0;
const IDLE_OFFSET: usize = CLAIMS_OFFSET + SEARCHERS_MAX * 8;
const ENTRIES_OFFSET: usize = IDLE_OFFSET + SEARCHERS_MAX * 8;
const AREAS_OFFSET: usize = ENTRIES_OFFSET + SEARCHERS_MAX * ENTRY_WORDS * 8;
const AREA_STRIDE: usize = POST_BYTES_MAX + PART_COUNT * PART_BYTES_MAX;
const BOARD_BYTES: usize = AREAS_OFFSET + SEARCHERS_MAX * AREA_STRIDE;

const _: () = assert!(RESULT_WORDS + PART_COUNT <= ENTRY_WORDS);
// A result word holds the post's generation (32 bits), its entry (12) and the result's words (20).
const _: () = assert!(SEARCHERS_MAX <= 1 << 12 && PART_BYTES_MAX / 8 < 1 << 20);

/// Makes the board's memory: it takes room as it is used.
///
/// # Errors
/// Those of the kernel.
pub fn create_board() -> io::Result<File> {
    memfd::sealed("shoal-board", BOARD_BYTES as u64)
}

/// One searcher's end of the board.
#[derive(Debug)]
pub struct Board {
    map: SharedMap,
    index: usize,
}

/// What a searcher asks help for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Post {
    /// The snapshot's timestamp.
    pub timestamp: u64,
    /// The collection's id.
    pub collection: u64,
    /// The manifest's epoch.
    pub epoch: u64,
    /// The database named by the call's metadata.
    pub database: Vec<u8>,
    /// The request, encoded.
    pub body: Vec<u8>,
}

/// A post that is on the board: whose entry, which use of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Posted {
    entry: usize,
    generation: u32,
}

impl Posted {
    /// Whose post it is.
    pub fn entry(self) -> usize {
        self.entry
    }
}

impl Board {
    /// Maps the board as searcher `index`; another process of that index is dead.
    ///
    /// # Errors
    /// Those of the kernel; a file that is no board; an index beyond the largest number of searchers.
    pub fn open(file: &File, index: usize) -> io::Result<Board> {
        if index >= SEARCHERS_MAX || file.metadata()?.len() != BOARD_BYTES as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("no help board for searcher {index}")));
        }
        let board = Board { map: SharedMap::read_write(file)?, index };
        board.set_idle(false);
        Ok(board)
    }

    /// Says whether this searcher has nothing to do. A dead or stopped one may seem idle: that costs a wake-up in vain.
    pub fn set_idle(&self, is_idle: bool) {
        self.map.atomic_u64(IDLE_OFFSET + self.index * 8).store(u64::from(is_idle), Ordering::Relaxed);
    }

    /// How many other searchers are idle.
    pub fn idle_count(&self) -> usize {
        let words = self.map.atomics_u64(IDLE_OFFSET, SEARCHERS_MAX).unwrap_or_default();
        let is_idle = |(index, word): (usize, &AtomicU64)| index != self.index && word.load(Ordering::Relaxed) == 1;
        words.iter().enumerate().filter(|word| is_idle(*word)).count()
    }

    /// Posts a request; `None` when it is too long. Everything of this searcher's former post is void.
    pub fn post(&self, post: &Post) -> Option<Posted> {
        let room = post.database.len().checked_next_multiple_of(8)?.checked_add(post.body.len())?;
        if room > POST_BYTES_MAX {
            return None;
        }
        let claim = self.claim_word(self.index);
        let generation = ((claim.load(Ordering::Relaxed) >> 32) as u32).wrapping_add(1);
        // Closed before a byte of it changes, opened when all of it is there.
        claim.store(claim_of(generation, PART_COUNT), Ordering::Relaxed);
        fence(Ordering::Release);
        let lengths = [post.database.len() as u64, post.body.len() as u64];
        let [database_bytes, body_bytes] = lengths;
        for (word, value) in [
            (TIMESTAMP_WORD, post.timestamp),
            (COLLECTION_WORD, post.collection),
            (EPOCH_WORD, post.epoch),
            (DATABASE_BYTES_WORD, database_bytes),
            (BODY_BYTES_WORD, body_bytes),
        ] {
            self.word(self.index, word).store(value, Ordering::Relaxed);
        }
        let area = area_offset(self.index);
        self.write(area, &post.database);
        self.write(area + post.database.len().next_multiple_of(8), &post.body);
        for part in 0..PART_COUNT {
            self.word(self.index, PART_WORDS + part).store(part_of(generation, 0), Ordering::Relaxed);
        }
        claim.store(claim_of(generation, 0), Ordering::Release);
        Some(Posted { entry: self.index, generation })
    }

    /// A post of another searcher with parts that nobody took, besides those that `is_known`.
    pub fn find(&self, is_known: impl Fn(Posted) -> bool) -> Option<(Posted, Post)> {
        (0..SEARCHERS_MAX).filter(|entry| *entry != self.index).find_map(|entry| {
            let claim = self.claim_word(entry).load(Ordering::Acquire);
            let posted = Posted { entry, generation: (claim >> 32) as u32 };
            if claim == 0 || claim as u32 as usize >= PART_COUNT || is_known(posted) {
                return None;
            }
            Some((posted, self.read_post(posted)?))
        })
    }

    fn read_post(&self, posted: Posted) -> Option<Post> {
        let word = |word| self.word(posted.entry, word).load(Ordering::Relaxed);
        let length = |at| usize::try_from(word(at)).ok().filter(|len| *len <= POST_BYTES_MAX);
        let (database_bytes, body_bytes) = (length(DATABASE_BYTES_WORD)?, length(BODY_BYTES_WORD)?);
        let body_offset = database_bytes.next_multiple_of(8);
        if body_offset + body_bytes > POST_BYTES_MAX {
            return None;
        }
        let area = area_offset(posted.entry);
        let post = Post {
            timestamp: word(TIMESTAMP_WORD),
            collection: word(COLLECTION_WORD),
            epoch: word(EPOCH_WORD),
            database: self.read(area, database_bytes),
            body: self.read(area + body_offset, body_bytes),
        };
        fence(Ordering::Acquire);
        let now = self.claim_word(posted.entry).load(Ordering::Relaxed);
        ((now >> 32) as u32 == posted.generation).then_some(post)
    }

    /// Takes the next part of a post; each is taken once. `None` when there is none left, or the post is void.
    pub fn take(&self, posted: Posted) -> Option<usize> {
        let claim = self.claim_word(posted.entry);
        let next = |now: u64| {
            let part = now as u32 as usize;
            ((now >> 32) as u32 == posted.generation && part < PART_COUNT)
                .then(|| claim_of(posted.generation, part + 1))
        };
        claim.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).ok().map(|before| before as u32 as usize)
    }

    /// Leaves the result of a part that was taken; one that is too long is left to the one who posted it.
    pub fn give(&self, posted: Posted, part: usize, result: &[u8]) {
        if part >= PART_COUNT || result.len() > PART_BYTES_MAX {
            return;
        }
        let holds = self.word(self.index, RESULT_WORDS + part);
        // 0 is no result of any post: generations begin at 1.
        holds.store(0, Ordering::Relaxed);
        fence(Ordering::Release);
        self.write(result_offset(self.index, part), result);
        holds.store(result_of(posted, result.len().div_ceil(8)), Ordering::Release);
        let done = part_of(posted.generation, self.index + 1);
        let word = self.word(posted.entry, PART_WORDS + part);
        // Refused when the post is void.
        let _ = word.compare_exchange(part_of(posted.generation, 0), done, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The result of a part of this searcher's post (up to 7 bytes longer than given), when a helper has left it.
    pub fn gather(&self, posted: Posted, part: usize) -> Option<Vec<u8>> {
        let word = self.word(posted.entry, PART_WORDS + part).load(Ordering::Acquire);
        let helper = (word as u32 as usize).checked_sub(1).filter(|helper| *helper < SEARCHERS_MAX)?;
        if (word >> 32) as u32 != posted.generation {
            return None;
        }
        let holds = self.word(helper, RESULT_WORDS + part);
        let before = holds.load(Ordering::Acquire);
        let word_count = (before & 0xf_ffff) as usize;
        if before != result_of(posted, word_count) || word_count > PART_BYTES_MAX / 8 {
            return None;
        }
        let result = self.read(result_offset(helper, part), word_count * 8);
        fence(Ordering::Acquire);
        (holds.load(Ordering::Relaxed) == before).then_some(result)
    }

    fn claim_word(&self, entry: usize) -> &AtomicU64 {
        self.map.atomic_u64(CLAIMS_OFFSET + entry * 8)
    }

    fn word(&self, entry: usize, word: usize) -> &AtomicU64 {
        self.map.atomic_u64(ENTRIES_OFFSET + (entry * ENTRY_WORDS + word) * 8)
    }

    /// Writes bytes as atomic words: others may be reading what was there.
    fn write(&self, offset: usize, bytes: &[u8]) {
        let words = self.map.atomics_u64(offset, bytes.len().div_ceil(8)).unwrap_or_default();
        for (word, chunk) in words.iter().zip(bytes.chunks(8)) {
            let mut padded = [0; 8];
            padded[..chunk.len()].copy_from_slice(chunk);
            word.store(u64::from_ne_bytes(padded), Ordering::Relaxed);
        }
    }

    fn read(&self, offset: usize, len: usize) -> Vec<u8> {
        let words = self.map.atomics_u64(offset, len.div_ceil(8)).unwrap_or_default();
        let mut bytes: Vec<u8> = Vec::with_capacity(words.len() * 8);
        for word in words {
            bytes.extend_from_slice(&word.load(Ordering::Relaxed).to_ne_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

fn claim_of(generation: u32, next_part: usize) -> u64 {
    u64::from(generation) << 32 | next_part as u64
}

fn part_of(generation: u32, done_by: usize) -> u64 {
    u64::from(generation) << 32 | done_by as u64
}

fn result_of(posted: Posted, word_count: usize) -> u64 {
    u64::from(posted.generation) << 32 | (posted.entry as u64) << 20 | word_count as u64
}

fn area_offset(index: usize) -> usize {
    AREAS_OFFSET + index * AREA_STRIDE
}

fn result_offset(index: usize, part: usize) -> usize {
    area_offset(index) + POST_BYTES_MAX + part * PART_BYTES_MAX
}

#[cfg(test)]
mod tests;
