//! The role: opens and recovers, starts the threads, follows the supervisor's orders, ends clean or says why not.

use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use super::commit::Committer;
use super::engine::Engine;
use super::operation::{self, Operation};
use super::{deletes, fill, flush, huge_pages, indexing, lock, maintain, merge, recover, serialise};
use crate::config::exit;
use crate::ipc::control::{Notice, Notices, Order, RoleContext};
use crate::ipc::pool::PoolServer;
use crate::types::{Error, Result, Timestamp};

/// Threads that decode requests: the commit thread copies rows faster than one of them decodes.
const DECODERS: usize = 2;
/// Decoded operations that wait for the commit thread. Bounded: each holds its rows in memory.
const QUEUE_OPERATIONS_MAX: usize = 64;
/// How long a decoder sleeps when nothing wakes it.
const IDLE: Duration = Duration::from_millis(500);

/// What ends the writer.
#[derive(Debug)]
enum Event {
    /// The supervisor says so.
    Drain,
    /// The supervisor is gone.
    Orphaned,
    /// A thread cannot go on.
    Failed(Error),
}

/// Does the role's work until the supervisor says drain or is gone.
pub fn run(context: RoleContext) -> ExitCode {
    let RoleContext { config, instance, incarnation, orders, notices, writes, cell, .. } = context;
    let started = recover::open(config, instance, incarnation, Some(cell)).and_then(|engine| {
        let writes = writes.ok_or_else(|| Error::internal("the writer was started without the pool of writes"))?;
        let server = PoolServer::open(&writes, incarnation)
            .map_err(|error| Error::io("map the pool of write requests", &error))?;
        Ok((engine, server))
    });
    let (engine, server) = match started {
        Ok(started) => started,
        Err(error) => return failed(&notices, &error),
    };
    // Claims are handed from thread to thread and borrow the server, which lives as long as the process.
    let server: &'static PoolServer = Box::leak(Box::new(server));
    let (events, happened) = channel();
    let order_events = events.clone();
    // This thread never ends; the engine does, so that a clean stop closes the catalog.
    let order_engine = Arc::downgrade(&engine);
    std::thread::spawn(move || forward_orders(&order_engine, &orders, &order_events));
    let index_notices = match notices.try_clone() {
        Ok(notices) => notices,
        Err(error) => return failed(&notices, &Error::io("duplicate the line to the supervisor", &error)),
    };
    let threads = Threads::start(&engine, server, &events, index_notices);
    notices.send(Notice::Ready { addresses: Vec::new() });
    match happened.recv() {
        Ok(Event::Drain) => match threads.drain(&engine, server, &happened) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&notices, &error),
        },
        Ok(Event::Failed(error)) => failed(&notices, &error),
        // Nobody is left to hear anything. What is acknowledged is in the log.
        Ok(Event::Orphaned) | Err(_) => ExitCode::from(exit::BUG),
    }
}

fn failed(notices: &Notices, error: &Error) -> ExitCode {
    tracing::error!("the writer ends: {error}");
    notices.send(Notice::Failed { message: error.to_string() });
    ExitCode::from(exit::code(error))
}

fn forward_orders(engine: &Weak<Engine>, orders: &ipc_channel::ipc::IpcReceiver<Order>, events: &Sender<Event>) {
    loop {
        let event = match orders.recv() {
            Ok(Order::Drain) => Event::Drain,
            Ok(order) => {
                if let Some(engine) = engine.upgrade() {
                    engine.builder.hear(order);
                    engine.index.raise();
                }
                continue;
            }
            Err(_) => Event::Orphaned,
        };
        let is_last = !matches!(event, Event::Drain);
        if events.send(event).is_err() || is_last {
            return;
        }
    }
}

struct Threads {
    decoders: Vec<JoinHandle<()>>,
    committer: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

impl Threads {
    fn start(engine: &Arc<Engine>, server: &'static PoolServer, events: &Sender<Event>, notices: Notices) -> Threads {
        let (queue, operations) = sync_channel(QUEUE_OPERATIONS_MAX);
        let decoders = (0..DECODERS)
            .map(|_| {
                let queue = queue.clone();
                spawn("decode", engine, events, move |engine| decode_requests(engine, server, &queue))
            })
            .collect();
        let committer =
            spawn("commit", engine, events, move |engine| Committer::new(Arc::clone(engine)).run(&operations));
        let others = vec![
            spawn("serialise", engine, events, |engine| serialise::run(engine)),
            spawn("merge", engine, events, |engine| merge::run(engine)),
            spawn("fill", engine, events, |engine| fill::run(engine)),
            spawn("index", engine, events, move |engine| indexing::run(engine, &notices)),
            spawn("huge pages", engine, events, |engine| huge_pages::run(engine)),
            spawn("tick", engine, events, |engine| maintain::run(engine)),
        ];
        Threads { decoders, committer, others }
    }

    /// Finishes what was claimed, then makes everything durable: the next start replays nothing.
    fn drain(self, engine: &Engine, server: &PoolServer, happened: &Receiver<Event>) -> Result<()> {
        engine.is_closing.store(true, Ordering::Release);
        server.wake_all();
        // The decoders hold the queue's senders: when they are gone, the committer ends after the last operation. The
        // serialise thread works until then: the committer may wait for room in the buffer.
        join(self.decoders);
        join([self.committer]);
        engine.stop();
        join(self.others);
        while let Ok(event) = happened.try_recv() {
            if let Event::Failed(error) = event {
                return Err(error);
            }
        }
        settle(engine)
    }
}

/// Everything into table files and checkpoints, the log cut, the clock's window given back.
///
/// # Errors
/// Those of the disk: nothing is lost, the next start replays the log.
pub fn settle(engine: &Engine) -> Result<()> {
    flush::rotate_all(&mut lock(&engine.state));
    serialise::serialise_all(engine, Timestamp::MAX).map_err(|failure| failure.error)?;
    deletes::checkpoint(engine)?;
    engine.cut_log()?;
    engine.clock.settle(&mut lock(&engine.meta))
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        thread.thread().unpark();
        // A panic was reported as an event by the thread itself.
        let _ = thread.join();
    }
}

/// Starts a thread whose error or panic ends the writer: half a writer is worse than none.
fn spawn(
    name: &'static str,
    engine: &Arc<Engine>,
    events: &Sender<Event>,
    body: impl FnOnce(&Arc<Engine>) -> Result<()> + Send + 'static,
) -> JoinHandle<()> {
    let engine = Arc::clone(engine);
    let events = events.clone();
    std::thread::spawn(move || {
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(&engine)));
        let error = match outcome {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(_) => Error::internal(format!("the writer's {name} thread panicked")),
        };
        // When nobody listens any more, the process is ending anyway.
        let _ = events.send(Event::Failed(error));
    })
}

fn decode_requests(engine: &Engine, server: &'static PoolServer, queue: &SyncSender<Operation>) -> Result<()> {
    while !engine.is_closing.load(Ordering::Acquire) {
        match server.claim() {
            Some(claim) => {
                let Some(operation) = operation::decode(engine, Box::new(claim)) else { continue };
                if queue.send(operation).is_err() {
                    // The committer has ended, and said why.
                    return Ok(());
                }
            }
            None => server.wait(Some(IDLE)),
        }
    }
    Ok(())
}
