//! A lock that is tried and never waited for: a process that was forked while a thread held it finds it held for ever.
//!
//! It guards what only saves time. Whoever does not get it does the work once more.

use std::sync::{Mutex, MutexGuard, TryLockError};

/// How often it is tried: for longer than a holder that runs needs, some ten microseconds in all.
const ATTEMPTS: usize = 500;

/// A value that one thread at a time looks at, for about a microsecond.
#[derive(Debug, Default)]
pub struct TriedLock<T>(Mutex<T>);

impl<T> TriedLock<T> {
    /// Not held by anybody.
    pub const fn new(value: T) -> TriedLock<T> {
        TriedLock(Mutex::new(value))
    }

    /// The value; `None` when it stays held. A holder that panicked leaves the value as it is.
    pub fn lock(&self) -> Option<MutexGuard<'_, T>> {
        (0..ATTEMPTS).find_map(|_| match self.0.try_lock() {
            Ok(guard) => Some(guard),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {
                std::hint::spin_loop();
                None
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_held_for_ever_is_not_waited_for() {
        let lock = TriedLock::new(7);
        let held = lock.lock().unwrap();
        assert!(lock.lock().is_none());
        drop(held);
        assert_eq!(*lock.lock().unwrap(), 7);
    }

    #[test]
    fn a_holder_that_panicked_leaves_it_usable() {
        let lock = TriedLock::new(7);
        let panicked = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    *lock.lock().unwrap() = 8;
                    let _held = lock.lock().unwrap();
                    std::panic::resume_unwind(Box::new(()));
                })
                .join()
        });
        assert!(panicked.is_err());
        assert_eq!(*lock.lock().unwrap(), 8);
    }
}
