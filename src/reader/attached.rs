//! What a `Reader` holds in each process that uses it: one attachment and one reader slot, made again after a fork.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use crate::config::Instance;
use crate::shm::attach::Attachment;
use crate::shm::readers::ReaderSlot;
use crate::types::{Error, ErrorKind, Result};

/// How long a process waits for another of its threads to attach again. Only a lock that was held while the process was
/// forked is never given back; a handle with such a lock says so instead of hanging.
const ATTACH_WAIT_MAX: Duration = Duration::from_secs(2);

/// One process's attachment, and, in its children, theirs.
///
/// A child inherits the parent's attachment, but the slot is the parent's, and a lock inside the attachment may have been
/// held by a thread that does not exist in the child. So it makes its own and chains it here; nothing of the parent's is
/// locked or freed. Maps that the parent's views hold stay valid in the child.
#[derive(Debug)]
pub(super) struct Attached {
    pid: u32,
    /// `None` only while this is being dropped.
    own: Option<ProcessAttachment>,
    /// Held while `child` is set, so that a fork in that moment cannot leave `child` half set and waited for.
    child_lock: Mutex<()>,
    child: OnceLock<Box<Attached>>,
}

/// An attachment and its slot.
#[derive(Debug)]
pub(super) struct ProcessAttachment {
    pub attachment: Attachment,
    slot: ReaderSlot,
}

impl ProcessAttachment {
    /// Notes the use in the reader's slot.
    pub fn touch(&self) {
        self.slot.touch(self.attachment.control().catalog_epoch());
    }
}

impl Attached {
    /// Attaches this process.
    pub fn new(instance: &Instance) -> Result<Attached> {
        let attachment = Attachment::open(instance)?;
        let slot = ReaderSlot::take(instance)?;
        let own = Some(ProcessAttachment { attachment, slot });
        Ok(Attached { pid: std::process::id(), own, child_lock: Mutex::new(()), child: OnceLock::new() })
    }

    /// This process's attachment.
    ///
    /// # Errors
    /// When this is a child of the process that attached, and attaching again fails.
    pub fn get(&self, instance: &Instance) -> Result<&ProcessAttachment> {
        let pid = std::process::id();
        let mut attached = self;
        while attached.pid != pid {
            attached = match attached.child.get() {
                Some(child) => child,
                None => attached.attach_child(instance)?,
            };
        }
        attached.own.as_ref().ok_or_else(|| Error::internal("a reader was used while it was dropped"))
    }

    fn attach_child(&self, instance: &Instance) -> Result<&Attached> {
        let deadline = Instant::now() + ATTACH_WAIT_MAX;
        let _guard = loop {
            match self.child_lock.try_lock() {
                Ok(guard) => break guard,
                Err(std::sync::TryLockError::Poisoned(poisoned)) => break poisoned.into_inner(),
                Err(std::sync::TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::yield_now(),
                Err(std::sync::TryLockError::WouldBlock) => {
                    let message = "cannot use this reader after fork: another thread was attaching it in that moment; \
                                   make a new one with Reader::attach";
                    return Err(Error::new(ErrorKind::Unavailable, message));
                }
            }
        };
        if self.child.get().is_none() {
            let own = Box::new(Attached::new(instance)?);
            // Not set by anyone else: the lock is held.
            let _ = self.child.set(own);
        }
        self.child.get().map(|child| &**child).ok_or_else(|| Error::internal("a re-attached reader was lost"))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // In a child, the slot is the parent's: freeing it would take it from a living process.
        if self.pid != std::process::id()
            && let Some(own) = self.own.take()
        {
            let _ = std::mem::ManuallyDrop::new(own.slot);
        }
    }
}
