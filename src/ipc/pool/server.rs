//! The servers' end of a pool: claim, answer, sleep.
//!
//! A request comes with one token in the `work` semaphore, written after the slot became READY. A server takes a token
//! BEFORE it scans, and a scan in vain is repeated when a submission came meanwhile. So a server never falls asleep with a
//! token of a request that is still READY, and no request waits while a server sleeps. Only a server that dies between the
//! two takes a token with it: `server_died` writes new ones.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::layout::{Memory, SlotWord};
use super::word::{ABANDONED, DIED, REPLIED, TOO_LARGE, Word};
use super::{PoolFiles, RequestHeader};
use crate::ipc::method::Method;
use crate::sys::eventfd::{self, Sleeper};

/// A server's end: a searcher, or a thread of the writer. Several threads of a process may share one.
#[derive(Debug)]
pub struct PoolServer {
    memory: Memory,
    claimant: u32,
    work: OwnedFd,
    done: OwnedFd,
    /// Readable for good once the process stops.
    stop: OwnedFd,
    sleeper: Sleeper,
    /// Where the next scan starts: behind the last claim, so that no READY slot is passed over for ever.
    scan_from: AtomicUsize,
}

impl PoolServer {
    /// Maps the pool. `claimant` is unique among all servers ever started on it (the role's incarnation).
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn open(files: &PoolFiles, claimant: u32) -> io::Result<PoolServer> {
        let memory = Memory::open(&files.memory, files.options)?;
        let work = files.work.try_clone()?;
        let done = files.done.try_clone()?;
        let stop = eventfd::counter()?;
        let sleeper = Sleeper::new(&work, &stop)?;
        Ok(PoolServer { memory, claimant, work, done, stop, sleeper, scan_from: AtomicUsize::new(0) })
    }

    /// Claims the next READY slot, if there is one. Slots whose deadline passed are still handed out: look at the header.
    pub fn claim(&self) -> Option<Claim<'_>> {
        let _token = eventfd::take(&self.work);
        loop {
            let submitted = self.memory.submitted().load(Ordering::Acquire);
            if let Some(claim) = self.scan() {
                // For tests that kill a server with a request in its hands; an error there means nothing.
                crate::sys::failpoint::reach("pool.claimed");
                return Some(claim);
            }
            if self.memory.submitted().load(Ordering::Acquire) == submitted {
                return None;
            }
        }
    }

    /// Looks at every slot once and claims the first READY one.
    fn scan(&self) -> Option<Claim<'_>> {
        let slot_count = self.memory.slot_count();
        let first = self.scan_from.load(Ordering::Relaxed) % slot_count;
        for slot in (first..slot_count).chain(0..first) {
            let word = self.memory.load(slot);
            let Some(claimed) = word.claimed(self.claimant) else { continue };
            if self.memory.swap(slot, word, claimed).is_ok() {
                self.scan_from.store(slot + 1, Ordering::Relaxed);
                return Some(Claim { server: self, slot, word: claimed, is_answered: false });
            }
        }
        None
    }

    /// Sleeps until there may be work or the time is over. After [`PoolServer::wake_all`] it does not sleep any more.
    pub fn wait(&self, timeout: Option<Duration>) {
        self.sleeper.sleep(timeout);
    }

    /// Whether a request waits for a server.
    pub fn has_ready(&self) -> bool {
        (0..self.memory.slot_count()).any(|slot| self.memory.load(slot).claimed(self.claimant).is_some())
    }

    /// Wakes some servers that sleep, for other work than requests. A token too many costs a scan in vain.
    pub fn wake_others(&self, count: usize) {
        // One by one: each write wakes one exclusive sleeper.
        (0..count).for_each(|_| eventfd::add(&self.work, 1));
    }

    /// Wakes every sleeper of this process, for a stop.
    pub fn wake_all(&self) {
        eventfd::add(&self.stop, 1);
    }
}

impl Drop for PoolServer {
    fn drop(&mut self) {
        // The kernel may have woken this process alone for a request that it does not claim any more. Writing the token
        // again wakes another one.
        if let Some(tokens) = eventfd::take(&self.work) {
            eventfd::add(&self.work, tokens);
        }
    }
}

/// A claimed request. Dropped without a reply, it fails as [`super::Outcome::ServerDied`].
#[derive(Debug)]
pub struct Claim<'a> {
    server: &'a PoolServer,
    slot: usize,
    /// The slot's state word while it is ours.
    word: Word,
    is_answered: bool,
}

impl Claim<'_> {
    /// Method, database, deadline; `None` when the words in the slot make no sense.
    pub fn header(&self) -> Option<RequestHeader> {
        let memory = &self.server.memory;
        let method_and_length = memory.get(self.slot, SlotWord::Method);
        let method = Method::from_number(method_and_length as u32)?;
        let database = memory.database(self.slot, (method_and_length >> 32) as usize)?;
        let database = std::str::from_utf8(database).ok()?.to_owned();
        memory.length(self.slot, SlotWord::RequestBytes, memory.request_bytes_max())?;
        Some(RequestHeader { method, database, deadline_ns: memory.get(self.slot, SlotWord::Deadline) })
    }

    /// The body, in shared memory: stable until the reply.
    pub fn body(&self) -> &[u8] {
        let memory = &self.server.memory;
        let len = memory.length(self.slot, SlotWord::RequestBytes, memory.request_bytes_max());
        memory.request(self.slot, len.unwrap_or(0))
    }

    /// Writes the reply, marks the slot DONE and signals the client. `false` when nobody waits any more.
    pub fn reply(mut self, body: &[u8]) -> bool {
        let memory = &self.server.memory;
        if body.len() > memory.reply_bytes_max() {
            return self.finish(TOO_LARGE);
        }
        if memory.load(self.slot) == self.word {
            // The length is there before the bytes: a server that dies on the way leaves word of how much it touched.
            memory.set(self.slot, SlotWord::ReplyBytes, body.len() as u64);
            memory.write_reply(self.slot, body);
        }
        self.finish(REPLIED)
    }

    /// Ends the claim; `false` when the client gave the request up, whose slot is freed then.
    fn finish(&mut self, state: u8) -> bool {
        self.is_answered = true;
        let memory = &self.server.memory;
        let ended = memory.swap(self.slot, self.word, self.word.with_state(state));
        if let Err(now) = ended {
            // Not ours any more (the client took us for dead): hands off.
            if now != self.word.with_state(ABANDONED) || memory.swap(self.slot, now, now.free()).is_err() {
                return false;
            }
        }
        eventfd::add(&self.server.done, 1);
        ended.is_ok()
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.finish(DIED);
        }
    }
}
