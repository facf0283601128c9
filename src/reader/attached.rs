//! What a `Reader` holds in each process that uses it: one attachment and one reader slot, made again after a fork and
//! after a new start of the server.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use super::served_instance;
use crate::config::Instance;
use crate::shm::attach::Attachment;
use crate::shm::readers::ReaderSlot;
use crate::sys::{clock, process_id};
use crate::types::{Error, ErrorKind, Result};

/// How long a process waits for another of its threads to attach again. Only a lock that was held while the process was
/// forked is never given back; a handle with such a lock says so instead of hanging.
const ATTACH_WAIT_MAX: Duration = Duration::from_secs(2);

/// How often a reader looks at a file of /dev/shm to see that its server is still the present one. That costs more than a
/// microsecond, a tenth of a short search. A new server removes the file long before it acknowledges its first write (it
/// starts its processes in between), so this is not long enough to miss one.
const LOOK_AGAIN_NS: u64 = 1_000_000;

/// Where to attach to.
#[derive(Clone, Debug)]
pub(super) enum Target {
    /// Whatever server serves this data directory; a new one is followed.
    DataDir(PathBuf),
    /// This server only: a searcher lives no longer than it.
    Server(Instance),
}

impl Target {
    fn attach(&self) -> Result<Arc<ProcessAttachment>> {
        let instance = match self {
            Target::DataDir(data_dir) => served_instance(data_dir)?,
            Target::Server(instance) => instance.clone(),
        };
        let attachment = Attachment::open(&instance)?;
        let slot = ReaderSlot::take(&instance)?;
        Ok(Arc::new(ProcessAttachment { attachment, slot, looked_at_ns: AtomicU64::new(0) }))
    }
}

/// An attachment and its slot.
#[derive(Debug)]
pub(super) struct ProcessAttachment {
    pub attachment: Attachment,
    slot: ReaderSlot,
    /// When it was last seen to be that of the present server; 0 = never.
    looked_at_ns: AtomicU64,
}

impl ProcessAttachment {
    /// Whether its server has neither stopped nor been started again, as of [`LOOK_AGAIN_NS`] ago.
    fn is_current(&self) -> bool {
        let now = clock::monotonic_ns();
        let looked_at = self.looked_at_ns.load(Ordering::Relaxed);
        if looked_at != 0 && now.saturating_sub(looked_at) < LOOK_AGAIN_NS {
            return true;
        }
        let is_current = self.attachment.is_current();
        self.looked_at_ns.store(if is_current { now } else { 0 }, Ordering::Relaxed);
        is_current
    }

    /// Notes the use in the reader's slot.
    pub fn touch(&self) {
        self.slot.touch(self.attachment.control().catalog_epoch());
    }
}

/// One process's attachment, and, in its children, theirs.
///
/// A child inherits the parent's memory, but the slot is the parent's, and any lock may have been held by a thread that does
/// not exist in the child. So a child locks and frees nothing of the parent's: it makes its own and chains it here. Maps that
/// the parent's views hold stay valid in the child.
#[derive(Debug)]
pub(super) struct Attached {
    pid: u32,
    /// Locked for a clone or a replacement, by threads of process `pid` only. `None` only while this is being dropped.
    current: Mutex<Option<Arc<ProcessAttachment>>>,
    /// Held while `child` is set, so that a fork in that moment cannot leave `child` half set and waited for.
    child_lock: Mutex<()>,
    child: OnceLock<Box<Attached>>,
}

impl Attached {
    /// Attaches this process.
    pub fn new(target: &Target) -> Result<Attached> {
        let current = Mutex::new(Some(target.attach()?));
        Ok(Attached { pid: process_id::present(), current, child_lock: Mutex::new(()), child: OnceLock::new() })
    }

    /// This process's attachment.
    ///
    /// # Errors
    /// When it has to be made again (after a fork, or because the server was started again) and that fails.
    pub fn get(&self, target: &Target) -> Result<Arc<ProcessAttachment>> {
        let pid = process_id::present();
        let mut attached = self;
        while attached.pid != pid {
            attached = match attached.child.get() {
                Some(child) => child,
                None => attached.attach_child(target)?,
            };
        }
        attached.current_or_new(target)
    }

    /// The attachment, replaced when the server it was made for has stopped: a reader would go on showing what the old server
    /// left.
    fn current_or_new(&self, target: &Target) -> Result<Arc<ProcessAttachment>> {
        let current = self.lock_current().clone();
        let is_current = |current: &Arc<ProcessAttachment>| matches!(target, Target::Server(_)) || current.is_current();
        if let Some(current) = current.filter(is_current) {
            return Ok(current);
        }
        let fresh = target.attach()?;
        *self.lock_current() = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    fn lock_current(&self) -> MutexGuard<'_, Option<Arc<ProcessAttachment>>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub fn lock_current_for_test(&self) -> impl Drop + '_ {
        self.lock_current()
    }

    fn attach_child(&self, target: &Target) -> Result<&Attached> {
        let deadline = Instant::now() + ATTACH_WAIT_MAX;
        let _guard = loop {
            match self.child_lock.try_lock() {
                Ok(guard) => break guard,
                Err(TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::yield_now(),
                Err(TryLockError::WouldBlock) => {
                    let message = "cannot use this reader after fork: another thread was attaching it in that moment; \
                                   make a new one with Reader::attach";
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
            }
        };
        if self.child.get().is_none() {
            let own = Box::new(Attached::new(target)?);
            // Not set by anyone else: the lock is held.
            let _ = self.child.set(own);
        }
        self.child.get().map(|child| &**child).ok_or_else(|| Error::internal("a re-attached reader was lost"))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // In a child this is the parent's: another thread may have been changing it at the fork, so it is not even looked at.
        if self.pid != process_id::present() {
            let current = self.current.get_mut().unwrap_or_else(PoisonError::into_inner);
            std::mem::forget(current.take());
        }
    }
}
