//! The slot pool: requests and replies in shared memory between the gateway and the processes that answer.
//!
//! One memfd of a fixed number of slots and two eventfds, made by the supervisor before it forks and inherited: nothing has
//! a name, so nothing can be left behind, and the size of /dev/shm does not matter. Each slot is a header of atomic words
//! and two sparse byte areas (request, reply) of the largest size; what a large one touched is given back (hole punched).
//!
//! A slot's state word holds state, generation and claimant in one u64 and moves by compare-and-swap only:
//! FREE -> FILLING -> READY -> CLAIMED(claimant) -> DONE -> FREE. Any idle server claims the next READY slot. A late reply
//! of an old generation fails its CAS and is dropped. What happens to the CLAIMED slots of a server that died is the
//! client's choice ([`OnDeath`]); the second death on one slot fails that request (poison).

use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use super::method::Method;

/// Size of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolOptions {
    /// Requests under way at once.
    pub slot_count: u32,
    /// Largest request body.
    pub request_bytes_max: usize,
    /// Largest reply body.
    pub reply_bytes_max: usize,
}

/// The kernel objects of a pool; what the supervisor holds and children inherit. Maps nothing.
#[derive(Debug)]
pub struct PoolFiles {
    /// The slots.
    pub memory: File,
    /// Counts requests (EFD_SEMAPHORE): one server wakes per request.
    pub work: OwnedFd,
    /// Signals that replies are there; the client waits for it.
    pub done: OwnedFd,
    /// Size.
    pub options: PoolOptions,
}

impl PoolFiles {
    /// Makes the kernel objects, close-on-exec, non-blocking `done`.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn create(name: &str, options: PoolOptions) -> io::Result<PoolFiles> {
        let _ = (name, options);
        todo!()
    }
}

/// What a request carries besides its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Which method.
    pub method: Method,
    /// The database named by the call's metadata; empty = `default`. At most 255 bytes.
    pub database: String,
    /// CLOCK_MONOTONIC nanoseconds after which nobody waits for the answer; 0 = no deadline.
    pub deadline_ns: u64,
}

/// What becomes of CLAIMED requests when their server dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDeath {
    /// They become READY again, once: reads.
    Retry,
    /// They fail: a write may or may not have taken effect.
    Fail,
}

/// Why a request was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Every slot is in use.
    #[error("every slot is in use")]
    Full,
    /// The body is larger than the pool's largest request.
    #[error("the request has {len} bytes, at most {max} are taken")]
    TooLarge {
        /// Its length.
        len: usize,
        /// The limit.
        max: usize,
    },
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The reply is there.
    Replied,
    /// The server died ([`OnDeath::Fail`]), or a second one died on it.
    ServerDied,
    /// The reply would be larger than the pool's largest.
    ReplyTooLarge,
}

/// A request under way, as the client knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Which slot.
    pub slot: u32,
    /// Which use of it.
    pub generation: u32,
}

/// The client's end: the one process that submits (the gateway). Not to be used from two processes at once.
#[derive(Debug)]
pub struct PoolClient {}

impl PoolClient {
    /// Maps the pool and frees every slot (a former client may have died): generations move on, so late replies are dropped.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn open(files: &PoolFiles, on_death: OnDeath) -> io::Result<PoolClient> {
        let _ = (files, on_death);
        todo!()
    }

    /// Puts a request into a free slot and wakes a server.
    ///
    /// # Errors
    /// When no slot is free or the body is too large.
    pub fn submit(&self, header: &RequestHeader, body: &[u8]) -> Result<Ticket, SubmitError> {
        let _ = (header, body);
        todo!()
    }

    /// Whether the request ended. Cheap: one atomic load.
    pub fn poll(&self, ticket: Ticket) -> Option<Outcome> {
        let _ = ticket;
        todo!()
    }

    /// The reply of a request that ended as [`Outcome::Replied`]; then frees the slot.
    pub fn take_reply(&self, ticket: Ticket) -> Vec<u8> {
        let _ = ticket;
        todo!()
    }

    /// Gives a request up (deadline, client gone): the slot is freed, now or when its server is done with it.
    pub fn abandon(&self, ticket: Ticket) {
        let _ = ticket;
        todo!()
    }

    /// A server died: its CLAIMED slots become READY again or fail, and every server is woken.
    pub fn server_died(&self, claimant: u32) {
        let _ = claimant;
        todo!()
    }

    /// Readable when replies may be there; read it (8 bytes) before polling tickets.
    pub fn done_fd(&self) -> BorrowedFd<'_> {
        todo!()
    }

    /// Slots in use.
    pub fn in_use(&self) -> usize {
        todo!()
    }
}

/// A server's end: a searcher, or a thread of the writer. Several threads of a process may share one.
#[derive(Debug)]
pub struct PoolServer {}

impl PoolServer {
    /// Maps the pool. `claimant` is unique among all servers ever started on it (the role's incarnation).
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn open(files: &PoolFiles, claimant: u32) -> io::Result<PoolServer> {
        let _ = (files, claimant);
        todo!()
    }

    /// Claims the next READY slot, if there is one. Slots whose deadline passed are still handed out: look at the header.
    pub fn claim(&self) -> Option<Claim<'_>> {
        todo!()
    }

    /// Sleeps until there may be work or the time is over.
    pub fn wait(&self, timeout: Option<Duration>) {
        let _ = timeout;
        todo!()
    }

    /// Wakes every sleeper of this process, for a stop.
    pub fn wake_all(&self) {
        todo!()
    }
}

/// A claimed request. Dropped without a reply, it fails as [`Outcome::ServerDied`].
#[derive(Debug)]
pub struct Claim<'a> {
    server: &'a PoolServer,
}

impl Claim<'_> {
    /// Method, database, deadline; `None` when the words in the slot make no sense.
    pub fn header(&self) -> Option<RequestHeader> {
        let _ = self.server;
        todo!()
    }

    /// The body, in shared memory: stable until the reply.
    pub fn body(&self) -> &[u8] {
        todo!()
    }

    /// Writes the reply, marks the slot DONE and signals the client. `false` when nobody waits any more.
    pub fn reply(self, body: &[u8]) -> bool {
        let _ = body;
        todo!()
    }
}
