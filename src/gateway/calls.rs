//! A slot pool for async callers: submit, wait, take the reply; give up when the caller does.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::config::limits::{QUEUED_CALLS_MAX, REPLY_BYTES_MAX};
use crate::ipc::pool::{OnDeath, Outcome, PoolClient, PoolFiles, RequestHeader, SubmitError, Ticket};
use crate::sys::eventfd;
use crate::types::{Error, ErrorKind, Result};

/// How long a call waits for a slot when its client set no deadline.
const QUEUED_WAIT_MAX: Duration = Duration::from_secs(10);
/// A slot that was used for a large request comes back from another thread, which tells nobody: look again after this.
const QUEUED_LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The client's end of one pool.
#[derive(Debug)]
pub(super) struct Calls {
    pool: PoolClient,
    on_death: OnDeath,
    under_way: Mutex<Vec<Waiter>>,
    /// Calls that wait for a slot; the one that holds `turn` gets the next.
    queued: AtomicUsize,
    turn: tokio::sync::Mutex<()>,
    freed: Notify,
}

#[derive(Debug)]
struct Waiter {
    ticket: Ticket,
    outcome: oneshot::Sender<Outcome>,
}

impl Calls {
    /// Opens a pool as its one client.
    ///
    /// # Errors
    /// Those of the kernel.
    pub(super) fn open(files: &PoolFiles, on_death: OnDeath) -> io::Result<Arc<Calls>> {
        Ok(Arc::new(Calls {
            pool: PoolClient::open(files, on_death)?,
            on_death,
            under_way: Mutex::default(),
            queued: AtomicUsize::new(0),
            turn: tokio::sync::Mutex::new(()),
            freed: Notify::new(),
        }))
    }

    /// Hands outcomes to their callers, as long as the runtime lives.
    ///
    /// # Errors
    /// When the eventfd cannot be watched.
    pub(super) async fn watch(self: Arc<Calls>) -> io::Result<()> {
        let done = self.pool.done_fd().try_clone_to_owned()?;
        #[allow(deprecated, reason = "its successor is `unsafe` for descriptors that change; an OwnedFd does not")]
        let done = AsyncFd::with_interest(done, Interest::READABLE)?;
        loop {
            let mut ready = done.readable().await?;
            // The counter is emptied before the slots are looked at: a reply after the look signals again.
            eventfd::take(done.get_ref());
            ready.clear_ready();
            self.complete();
        }
    }

    /// Calls under way or queued.
    pub(super) fn waiting_count(&self) -> usize {
        self.under_way().len() + self.queued.load(Ordering::Relaxed)
    }

    /// A server of this pool died.
    pub(super) fn server_died(&self, claimant: u32) {
        self.pool.server_died(claimant);
    }

    /// Submits a request and waits for its reply. Dropped before that, it gives the request up. The body is dropped once
    /// it is in a slot.
    ///
    /// # Errors
    /// When the deadline passes, the server dies, or there is no room.
    pub(super) async fn call(
        self: &Arc<Calls>,
        header: &RequestHeader,
        body: impl AsRef<[u8]>,
        deadline: Option<Instant>,
    ) -> Result<Vec<u8>> {
        // Who comes while others wait gets in line behind them.
        let submitted = match self.queued.load(Ordering::Relaxed) {
            0 => self.submit(header, body.as_ref())?,
            _ => None,
        };
        let mut call = match submitted {
            Some(call) => call,
            None => self.submit_in_turn(header, body.as_ref(), deadline).await?,
        };
        drop(body);
        let outcome = match deadline {
            None => (&mut call.outcome).await,
            Some(deadline) => {
                timeout_at(deadline, &mut call.outcome).await.map_err(|_| timed_out("the answer was there"))?
            }
        };
        match outcome {
            Ok(Outcome::Replied) => Ok(call.take_reply()),
            Ok(Outcome::ReplyTooLarge) => Err(Error::invalid(format_args!(
                "the result is larger than {REPLY_BYTES_MAX} bytes; ask for fewer rows or fewer output fields"
            ))),
            Ok(Outcome::ServerDied) => Err(self.server_died_error()),
            Err(_) => Err(Error::internal("a call under way was forgotten")),
        }
    }

    fn under_way(&self) -> MutexGuard<'_, Vec<Waiter>> {
        // A list of tickets: whatever a panicking thread left of it is still right.
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complete(&self) {
        let mut under_way = self.under_way();
        let mut index = 0;
        while index < under_way.len() {
            match self.pool.poll(under_way[index].ticket) {
                None => index += 1,
                Some(outcome) => {
                    // The caller may have given up at this moment; its drop frees the slot.
                    let _ = under_way.swap_remove(index).outcome.send(outcome);
                }
            }
        }
        drop(under_way);
        // Slots that were given up while a server was at them may be free now.
        self.freed.notify_one();
    }

    /// `None` when every slot is in use.
    fn submit(self: &Arc<Calls>, header: &RequestHeader, body: &[u8]) -> Result<Option<UnderWay>> {
        match self.pool.submit(header, body) {
            Ok(ticket) => {
                let (sender, outcome) = oneshot::channel();
                self.under_way().push(Waiter { ticket, outcome: sender });
                Ok(Some(UnderWay { calls: Arc::clone(self), ticket, outcome }))
            }
            Err(SubmitError::Full) => Ok(None),
            Err(error @ SubmitError::TooLarge { .. }) => Err(Error::invalid(error)),
        }
    }

    /// Waits in line for a slot.
    async fn submit_in_turn(
        self: &Arc<Calls>,
        header: &RequestHeader,
        body: &[u8],
        deadline: Option<Instant>,
    ) -> Result<UnderWay> {
        let _place = Place::take(self)?;
        let give_up = deadline.unwrap_or_else(|| Instant::now() + QUEUED_WAIT_MAX);
        let _turn = timeout_at(give_up, self.turn.lock()).await.map_err(|_| no_slot(deadline))?;
        loop {
            // Made before the attempt, so that a slot that is freed in between is not missed.
            let freed = self.freed.notified();
            if let Some(call) = self.submit(header, body)? {
                return Ok(call);
            }
            let look_again = Instant::now() + QUEUED_LOOK_AGAIN;
            if timeout_at(look_again.min(give_up), freed).await.is_err() && Instant::now() >= give_up {
                return Err(no_slot(deadline));
            }
        }
    }

    fn server_died_error(&self) -> Error {
        let message = match self.on_death {
            OnDeath::Retry => "two searchers died while they answered this request; it is not tried again",
            OnDeath::Fail => {
                "the writer died while it worked on this request, which may or may not have taken effect; look before \
                 sending it again"
            }
        };
        Error::new(ErrorKind::Unavailable, message)
    }
}

fn timed_out(what: &str) -> Error {
    Error::new(ErrorKind::Timeout, format!("the deadline passed before {what}"))
}

fn no_slot(deadline: Option<Instant>) -> Error {
    match deadline {
        Some(_) => timed_out("one of the requests under way was done"),
        None => too_many(),
    }
}

fn too_many() -> Error {
    Error::new(ErrorKind::RateLimited, "too many requests are under way; try again")
}

/// A place in the queue.
struct Place<'a>(&'a Calls);

impl<'a> Place<'a> {
    fn take(calls: &'a Calls) -> Result<Place<'a>> {
        let place = Place(calls);
        match calls.queued.fetch_add(1, Ordering::Relaxed) < QUEUED_CALLS_MAX {
            true => Ok(place),
            // Dropping the place counts it out again.
            false => Err(too_many()),
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.queued.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request in a slot; dropped, it frees the slot.
struct UnderWay {
    calls: Arc<Calls>,
    ticket: Ticket,
    outcome: oneshot::Receiver<Outcome>,
}

impl UnderWay {
    fn take_reply(self) -> Vec<u8> {
        self.calls.pool.take_reply(self.ticket)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        // After a taken reply both do nothing: the waiter is gone, and the ticket is one of a past use.
        self.calls.under_way().retain(|waiter| waiter.ticket != self.ticket);
        self.calls.pool.abandon(self.ticket);
        self.calls.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ipc::method::Method;
    use crate::ipc::pool::{PoolOptions, PoolServer};

    const PATIENCE: Duration = Duration::from_secs(600);

    fn pool(slot_count: u32) -> (PoolFiles, Arc<Calls>) {
        let options = PoolOptions { slot_count, request_bytes_max: 1 << 16, reply_bytes_max: 1 << 16 };
        let files = PoolFiles::create("calls", options).expect("a pool");
        let calls = Calls::open(&files, OnDeath::Retry).expect("a client");
        (files, calls)
    }

    fn header() -> RequestHeader {
        RequestHeader { method: Method::Search, database: String::new(), deadline_ns: 0 }
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async { timeout_at(Instant::now() + PATIENCE, future).await.expect("in time") })
    }

    /// A call that nobody answers, polled until it is in its slot or in the queue.
    async fn start(calls: &Arc<Calls>, deadline: Option<Instant>) -> tokio::task::JoinHandle<Result<Vec<u8>>> {
        let waiting = calls.waiting_count();
        let started = Arc::clone(calls);
        let call = tokio::spawn(async move { started.call(&header(), b"x", deadline).await });
        while calls.waiting_count() == waiting {
            tokio::task::yield_now().await;
        }
        call
    }

    #[test]
    fn a_deadline_ends_a_call_and_frees_its_slot() {
        let (_files, calls) = pool(1);
        run(async {
            let error = calls.call(&header(), b"x", Some(Instant::now())).await.expect_err("no answer");
            assert_eq!(error.kind, ErrorKind::Timeout);
            assert_eq!((calls.pool.in_use(), calls.waiting_count()), (0, 0));
        });
    }

    #[test]
    fn a_dropped_call_frees_its_slot() {
        let (_files, calls) = pool(1);
        run(async {
            let call = start(&calls, None).await;
            assert_eq!(calls.pool.in_use(), 1);
            call.abort();
            assert!(call.await.expect_err("aborted").is_cancelled());
            assert_eq!((calls.pool.in_use(), calls.waiting_count()), (0, 0));
        });
    }

    #[test]
    fn a_full_pool_serves_calls_in_turn() {
        let (files, calls) = pool(1);
        let server = PoolServer::open(&files, 1).expect("a server");
        run(async {
            tokio::spawn(Arc::clone(&calls).watch());
            let mut queued = Vec::new();
            for _ in 0..5 {
                queued.push(start(&calls, None).await);
            }
            for call in queued {
                let claim = loop {
                    match server.claim() {
                        Some(claim) => break claim,
                        None => tokio::task::yield_now().await,
                    }
                };
                assert!(!call.is_finished());
                assert!(claim.reply(b"y"));
                // Each reply belongs to the call that came next.
                assert_eq!(call.await.expect("no panic").expect("a reply"), b"y");
            }
            assert_eq!((calls.pool.in_use(), calls.waiting_count()), (0, 0));
        });
    }

    #[test]
    fn a_queued_call_keeps_its_deadline() {
        let (_files, calls) = pool(1);
        run(async {
            let _first = start(&calls, None).await;
            let error = calls.call(&header(), b"x", Some(Instant::now())).await.expect_err("no slot");
            assert_eq!((error.kind, calls.waiting_count()), (ErrorKind::Timeout, 1));
        });
    }

    #[test]
    fn a_full_queue_refuses_calls_to_be_tried_again() {
        let (_files, calls) = pool(1);
        run(async {
            let mut queued = Vec::new();
            for _ in 0..=QUEUED_CALLS_MAX {
                queued.push(start(&calls, None).await);
            }
            let error = calls.call(&header(), b"x", None).await.expect_err("no place");
            assert!(error.kind == ErrorKind::RateLimited && error.is_retriable());
            queued.iter().for_each(tokio::task::JoinHandle::abort);
        });
    }

    #[test]
    fn a_body_larger_than_a_slot_is_refused() {
        let (_files, calls) = pool(1);
        run(async {
            let error = calls.call(&header(), [0; (1 << 16) + 1], None).await.expect_err("too large");
            assert_eq!(error.kind, ErrorKind::InvalidParameter);
            assert_eq!(calls.pool.in_use(), 0);
        });
    }
}
