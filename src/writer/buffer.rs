//! The insert buffer's budget: every chunk's bytes are reserved before the chunk is made, so the cap is never passed.

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use super::lock;

/// Bytes of growing and immutable MemTableFiles.
#[derive(Debug)]
pub struct Buffer {
    cap: u64,
    state: Mutex<BufferState>,
    freed: Condvar,
}

#[derive(Debug, Default)]
struct BufferState {
    used: u64,
    used_max: u64,
}

impl Buffer {
    /// An empty buffer of this many bytes.
    pub fn new(cap: u64) -> Buffer {
        Buffer { cap, state: Mutex::default(), freed: Condvar::new() }
    }

    /// The cap.
    pub fn cap(&self) -> u64 {
        self.cap
    }

    /// Bytes in use, and the most that ever were.
    pub fn used(&self) -> (u64, u64) {
        let state = lock(&self.state);
        (state.used, state.used_max)
    }

    /// Reserves bytes when they fit under the cap.
    pub fn reserve(&self, bytes: u64) -> bool {
        let mut state = lock(&self.state);
        match state.used.checked_add(bytes) {
            Some(used) if used <= self.cap => {
                state.used = used;
                state.used_max = state.used_max.max(used);
                true
            }
            _ => false,
        }
    }

    /// Gives bytes back.
    pub fn release(&self, bytes: u64) {
        let mut state = lock(&self.state);
        state.used = state.used.saturating_sub(bytes);
        drop(state);
        self.freed.notify_all();
    }

    /// Waits until `bytes` would fit; `false` when the deadline came first. Reserves nothing.
    pub fn wait_for(&self, bytes: u64, deadline: Instant) -> bool {
        let mut state = lock(&self.state);
        loop {
            if state.used + bytes <= self.cap {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                return false;
            }
            state = self.freed.wait_timeout(state, left).expect("a panic elsewhere ends the writer").0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_stop_at_the_cap_and_come_back() {
        let buffer = Buffer::new(100);
        assert!(buffer.reserve(60) && buffer.reserve(40));
        assert!(!buffer.reserve(1));
        buffer.release(40);
        assert!(buffer.wait_for(40, Instant::now()) && !buffer.wait_for(41, Instant::now()));
        assert_eq!(buffer.used(), (60, 100));
    }
}
