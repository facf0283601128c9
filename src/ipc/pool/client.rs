//! The client's end of a pool: submit, poll, take the reply, give up, react to deaths.
//!
//! The client alone frees and fills slots, so its list of free ones is private memory. A slot is used again only when no
//! server can still write into it: it was never claimed, its server let go of it, or its server is known to be dead.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::layout::{Memory, SlotWord};
use super::word::{ABANDONED, FREE, READY, REPLIED, Word};
use super::{OnDeath, Outcome, PoolFiles, RequestHeader, SubmitError, Ticket};
use crate::config::limits::NAME_BYTES_MAX;
use crate::sys::{eventfd, memfd};

/// What a slot's areas may keep between requests. Below it the punch and the new page faults cost more than the memory is
/// worth: free slots are taken last in, first out, so only as many keep memory as were ever busy at once.
const KEPT_BYTES: usize = 1 << 20;

/// How often one request is given to another server after a death: a request that kills two is taken for the cause.
const RETRIES_MAX: u64 = 1;

/// The client's end: the one process that submits (the gateway). Not to be used from two processes at once.
#[derive(Debug)]
pub struct PoolClient {
    pool: Arc<Pool>,
    on_death: OnDeath,
    work: OwnedFd,
    /// The thread that gives memory of large requests back; started by the first one.
    trimmer: OnceLock<Option<Sender<usize>>>,
}

/// What the client shares with its trimming thread.
#[derive(Debug)]
struct Pool {
    memory: Memory,
    file: File,
    done: OwnedFd,
    slots: Mutex<Slots>,
}

/// Slots that are not under way.
#[derive(Debug, Default)]
struct Slots {
    free: Vec<usize>,
    /// Given up while a server was at them.
    abandoned: Vec<usize>,
}

impl Pool {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        // Two lists of numbers: whatever a panicking thread left of them is still right.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn trim(&self, slot: usize) {
        for range in self.memory.trimmable(slot, KEPT_BYTES) {
            // Memory that the kernel does not take back is used by the slot's next request.
            let _ = memfd::punch_hole(&self.file, range);
        }
    }
}

impl PoolClient {
    /// Maps the pool and frees every slot (a former client may have died): generations move on, so late replies are dropped.
    /// A slot that a server is still at is freed when that server is done or reported dead; so deaths that happened while
    /// there was no client must be reported to the new one.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn open(files: &PoolFiles, on_death: OnDeath) -> io::Result<PoolClient> {
        let memory = Memory::open(&files.memory, files.options)?;
        let (work, done) = (files.work.try_clone()?, files.done.try_clone()?);
        let pool = Pool { memory, file: files.memory.try_clone()?, done, slots: Mutex::default() };
        for slot in (0..pool.memory.slot_count()).rev() {
            let word = give_up(&pool.memory, slot, None);
            if word.state() == ABANDONED {
                pool.slots().abandoned.push(slot);
            } else {
                pool.trim(slot);
                pool.slots().free.push(slot);
            }
        }
        Ok(PoolClient { pool: Arc::new(pool), on_death, work, trimmer: OnceLock::new() })
    }

    /// Puts a request into a free slot and wakes a server.
    ///
    /// # Errors
    /// When no slot is free or the body (or the database's name) is too large.
    pub fn submit(&self, header: &RequestHeader, body: &[u8]) -> Result<Ticket, SubmitError> {
        let memory = &self.pool.memory;
        for (len, max) in [(body.len(), memory.request_bytes_max()), (header.database.len(), NAME_BYTES_MAX)] {
            if len > max {
                return Err(SubmitError::TooLarge { len, max });
            }
        }
        let slot = self.free_slot().ok_or(SubmitError::Full)?;
        let word = memory.load(slot).filling();
        memory.store(slot, word);
        let method = header.method as u64 | (header.database.len() as u64) << 32;
        memory.set(slot, SlotWord::Method, method);
        memory.set(slot, SlotWord::Deadline, header.deadline_ns);
        memory.set(slot, SlotWord::Attempts, 0);
        memory.set(slot, SlotWord::RequestBytes, body.len() as u64);
        memory.set(slot, SlotWord::ReplyBytes, 0);
        memory.write_database(slot, header.database.as_bytes());
        memory.write_request(slot, body);
        memory.store(slot, word.ready());
        memory.submitted().fetch_add(1, Ordering::AcqRel);
        eventfd::add(&self.work, 1);
        Ok(Ticket { slot: slot as u32, generation: word.generation() })
    }

    /// Whether the request ended. Cheap: one atomic load. One that did not end as [`Outcome::Replied`] is then given to
    /// [`PoolClient::abandon`].
    pub fn poll(&self, ticket: Ticket) -> Option<Outcome> {
        let Some((slot, word)) = self.word_of(ticket) else { return Some(Outcome::ServerDied) };
        let memory = &self.pool.memory;
        match word.outcome() {
            Some(Outcome::Replied) if memory.length(slot, SlotWord::ReplyBytes, memory.reply_bytes_max()).is_none() => {
                Some(Outcome::ReplyTooLarge)
            }
            outcome => outcome,
        }
    }

    /// The reply of a request that ended as [`Outcome::Replied`]; then frees the slot. Of any other request: nothing, and it
    /// is given up.
    pub fn take_reply(&self, ticket: Ticket) -> Vec<u8> {
        let Some((slot, word)) = self.word_of(ticket) else { return Vec::new() };
        let memory = &self.pool.memory;
        let len = memory.length(slot, SlotWord::ReplyBytes, memory.reply_bytes_max());
        let reply = match len {
            Some(len) if word.state() == REPLIED => memory.reply(slot, len).to_vec(),
            _ => Vec::new(),
        };
        self.abandon(ticket);
        reply
    }

    /// Gives a request up (deadline, client gone): the slot is freed, now or when its server is done with it.
    pub fn abandon(&self, ticket: Ticket) {
        let Some((slot, word)) = self.word_of(ticket) else { return };
        // A ticket used twice: its slot is in a list already.
        if matches!(word.state(), FREE | ABANDONED) {
            return;
        }
        let word = give_up(&self.pool.memory, slot, Some(ticket.generation));
        if word.state() == ABANDONED {
            self.pool.slots().abandoned.push(slot);
        } else {
            self.put_back(slot);
        }
    }

    /// A server died: its CLAIMED slots become READY again or fail, and every server is woken. May be reported more than once.
    pub fn server_died(&self, claimant: u32) {
        let memory = &self.pool.memory;
        let mut ready_count = 0;
        // Keeps slots that other threads give up now from being used again before their attempts are counted.
        let _slots = self.pool.slots();
        for slot in 0..memory.slot_count() {
            let attempts = memory.get(slot, SlotWord::Attempts);
            let may_retry = self.on_death == OnDeath::Retry && attempts < RETRIES_MAX;
            let word = memory.load(slot);
            if let Some(next) = word.after_death(claimant, may_retry) {
                memory.set(slot, SlotWord::Attempts, attempts + 1);
                // It fails when the request was given up or taken back at this moment, by another thread of the client: the
                // slot is then looked at again when the abandoned ones are.
                if memory.swap(slot, word, next).is_err() {
                    self.free_after_death(slot, claimant);
                }
            }
            ready_count += u64::from(memory.load(slot).state() == READY);
        }
        memory.submitted().fetch_add(1, Ordering::AcqRel);
        // The dead server may have taken tokens of requests that it never claimed.
        eventfd::add(&self.work, ready_count);
        eventfd::add(&self.pool.done, 1);
    }

    /// Frees a slot that was abandoned while its server was found dead.
    fn free_after_death(&self, slot: usize, claimant: u32) {
        let word = self.pool.memory.load(slot);
        if let Some(next) = word.after_death(claimant, false) {
            // Nobody else moves a word of a dead server that the client gave up.
            let _ = self.pool.memory.swap(slot, word, next);
        }
    }

    /// Readable when replies may be there; read it (8 bytes) before polling tickets.
    pub fn done_fd(&self) -> BorrowedFd<'_> {
        self.pool.done.as_fd()
    }

    /// Slots in use.
    pub fn in_use(&self) -> usize {
        self.reclaim_abandoned();
        self.pool.memory.slot_count() - self.pool.slots().free.len()
    }

    /// The slot of a ticket and its word, when this is still the ticket's use of it.
    fn word_of(&self, ticket: Ticket) -> Option<(usize, Word)> {
        let slot = ticket.slot as usize;
        if slot >= self.pool.memory.slot_count() {
            return None;
        }
        let word = self.pool.memory.load(slot);
        (word.generation() == ticket.generation).then_some((slot, word))
    }

    fn free_slot(&self) -> Option<usize> {
        if let Some(slot) = self.pool.slots().free.pop() {
            return Some(slot);
        }
        self.reclaim_abandoned();
        self.pool.slots().free.pop()
    }

    /// Takes back abandoned slots whose servers let go of them.
    fn reclaim_abandoned(&self) {
        let memory = &self.pool.memory;
        let mut released = Vec::new();
        self.pool.slots().abandoned.retain(|slot| {
            let is_held = memory.load(*slot).state() == ABANDONED;
            if !is_held {
                released.push(*slot);
            }
            is_held
        });
        released.into_iter().for_each(|slot| self.put_back(slot));
    }

    /// Lists a free slot, after its memory was given back when it is much.
    fn put_back(&self, slot: usize) {
        let memory = &self.pool.memory;
        let touched = memory.get(slot, SlotWord::RequestBytes).max(memory.get(slot, SlotWord::ReplyBytes));
        if touched > KEPT_BYTES as u64 {
            let trimmer = self.trimmer.get_or_init(|| start_trimmer(&self.pool));
            if trimmer.as_ref().is_some_and(|trimmer| trimmer.send(slot).is_ok()) {
                return;
            }
            self.pool.trim(slot);
        }
        self.pool.slots().free.push(slot);
    }
}

/// Ends a slot's present use, if it is still of `generation`; returns the word it has then.
fn give_up(memory: &Memory, slot: usize, generation: Option<u32>) -> Word {
    let mut word = memory.load(slot);
    loop {
        if generation.is_some_and(|generation| generation != word.generation()) {
            return word;
        }
        let next = word.given_up();
        match memory.swap(slot, word, next) {
            Ok(()) => return next,
            Err(now) => word = now,
        }
    }
}

/// Starts the thread that punches holes: for 100 MB that takes milliseconds, which the caller's thread does not have.
fn start_trimmer(pool: &Arc<Pool>) -> Option<Sender<usize>> {
    let (sender, receiver): (Sender<usize>, Receiver<usize>) = channel();
    let pool = Arc::clone(pool);
    let run = move || {
        for slot in receiver {
            pool.trim(slot);
            pool.slots().free.push(slot);
            // Whoever waits for a free slot waits for this signal.
            eventfd::add(&pool.done, 1);
        }
    };
    std::thread::Builder::new().name("slot trimmer".to_owned()).spawn(run).ok().map(|_| sender)
}
