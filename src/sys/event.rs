//! eventfd: a counter that wakes a poller, also across processes.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::EventfdFlags;

/// A fresh eventfd: non-blocking, close-on-exec.
///
/// # Errors
/// Those of the kernel.
pub fn create() -> io::Result<OwnedFd> {
    Ok(rustix::event::eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?)
}

/// Adds one, which wakes whoever polls it. A full counter (2^64 - 2 signals unread) is awake already.
pub fn signal(event: impl AsFd) {
    let _ = rustix::io::write(event, &1u64.to_ne_bytes());
}

/// Sets the counter back to 0 and returns what it was.
pub fn take(event: impl AsFd) -> u64 {
    let mut bytes = [0; 8];
    match rustix::io::read(event, &mut bytes) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_add_up_and_are_taken_once() {
        let event = create().unwrap();
        signal(&event);
        signal(&event);
        assert_eq!((take(&event), take(&event)), (2, 0));
    }
}
