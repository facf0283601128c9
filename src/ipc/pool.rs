//! The slot pool: requests and replies in shared memory between the gateway and the processes that answer.
//!
//! One memfd of a fixed number of slots and two eventfds, made by the supervisor before it forks and inherited: nothing has
//! a name, so nothing can be left behind, and the size of /dev/shm does not matter. Each slot is a header of atomic words
//! and two sparse byte areas (request, reply) of the largest size; what a large one touched is given back (hole punched).
//!
//! A slot's state word holds state, generation and claimant in one u64 and moves by compare-and-swap only:
//! FREE -> FILLING -> READY -> CLAIMED(claimant) -> DONE (replied, died, too large) -> FREE; what the client gives up while
//! a server is at it is ABANDONED until that server lets go, because it may still write a reply. Any idle server claims the
//! next READY slot. A late reply of an old generation fails its CAS and is dropped. What happens to the CLAIMED slots of a server that died is the
//! client's choice ([`OnDeath`]); the second death on one slot fails that request (poison).

mod client;
mod layout;
mod server;
mod word;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

pub use self::client::PoolClient;
pub use self::server::{Claim, PoolServer};

use self::layout::Layout;
use super::method::Method;
use crate::sys::{eventfd, memfd};

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
        let layout = Layout::new(options)?;
        let memory = memfd::sealed(name, layout.len() as u64)?;
        layout.write_header(&memory)?;
        Ok(PoolFiles { memory, work: eventfd::semaphore()?, done: eventfd::counter()?, options })
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

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
