//! Event counters (`eventfd`) and sleeping on them: how processes wake each other.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// A counter that is read as a whole. Close-on-exec, non-blocking.
///
/// # Errors
/// Those of the kernel (descriptors, memory).
pub fn counter() -> io::Result<OwnedFd> {
    Ok(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?.into())
}

/// A counter of which each read takes one. Close-on-exec, non-blocking.
///
/// # Errors
/// Those of the kernel (descriptors, memory).
pub fn semaphore() -> io::Result<OwnedFd> {
    let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_SEMAPHORE;
    Ok(EventFd::from_flags(flags)?.into())
}

/// Adds to a counter and wakes sleepers. A counter at its maximum stays there: its sleepers are awake anyway.
pub fn add(event: impl AsFd, amount: u64) {
    while amount > 0 && nix::unistd::write(&event, &amount.to_ne_bytes()) == Err(Errno::EINTR) {}
}

/// Takes from a counter: everything, or one of a semaphore. `None` when there is nothing.
pub fn take(event: impl AsFd) -> Option<u64> {
    let mut bytes = [0; 8];
    loop {
        match nix::unistd::read(&event, &mut bytes) {
            Ok(8) => return Some(u64::from_ne_bytes(bytes)),
            Err(Errno::EINTR) => {}
            _ => return None,
        }
    }
}

/// Sleeps until one of its events is readable. For any number of threads; made after the fork, by the process that sleeps.
#[derive(Debug)]
pub struct Sleeper {
    epoll: Epoll,
}

impl Sleeper {
    /// Watches `shared`, of whose sleepers in all processes about one is woken per event, and `own`, which wakes every thread.
    ///
    /// # Errors
    /// Those of the kernel (descriptors, memory).
    pub fn new(shared: impl AsFd, own: impl AsFd) -> io::Result<Sleeper> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        // A plain poll or read of an eventfd wakes the sleepers of all processes for one request; only an exclusive epoll
        // entry does not.
        epoll.add(shared, EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLEXCLUSIVE, 0))?;
        epoll.add(own, EpollEvent::new(EpollFlags::EPOLLIN, 1))?;
        Ok(Sleeper { epoll })
    }

    /// Sleeps until an event is readable, a signal came or the time is over. Reads nothing.
    pub fn sleep(&self, timeout: Option<Duration>) {
        // Rounded up: a caller that waits for a moment must not wake just before it, again and again.
        let timeout = timeout.map_or(EpollTimeout::NONE, |time| {
            let milliseconds = time.as_nanos().div_ceil(1_000_000);
            i32::try_from(milliseconds).ok().and_then(|ms| EpollTimeout::try_from(ms).ok()).unwrap_or(EpollTimeout::MAX)
        });
        let mut events = [EpollEvent::empty(); 2];
        // An interrupted sleep is a short one: the caller looks again in any case.
        let _ = self.epoll.wait(&mut events, timeout);
    }
}
