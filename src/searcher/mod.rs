//! A searcher: claims reads from the pool, answers them over mapped files. Cannot write.
//! Start at `requests.rs`. Uses `reader`, `query`, `proto`, `ipc`.

mod aliases;
mod collections;
mod databases;
mod group_by;
mod indexes;
mod output_fields;
mod pages;
mod partitions;
mod placeholder;
mod postponed;
mod query;
mod reply;
mod requests;
mod resource_groups;
mod search;
mod search_params;
mod segments;
mod session;
mod team;

use std::fs::File;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Instance, ServerConfig, exit};
use crate::ipc::board::Board;
use crate::ipc::control::{Notice, Order, RoleContext};
use crate::ipc::method::Method;
use crate::ipc::pool::{Claim, PoolFiles, PoolServer};
use crate::ipc::progress::{Gauge, ProgressCell};
use crate::reader::Reader;
use crate::shm::readers;
use crate::sys::clock;
use crate::sys::sandbox::{self, Reach};
use crate::types::{Error, Result};
use postponed::{Postponed, Wait};
use session::Session;
use team::Team;

/// How long an idle searcher sleeps before it looks again whether it should stop, and lets go of replaced files.
const IDLE_WAIT: Duration = Duration::from_secs(1);
/// How often a searcher that found nothing to attach to looks again, besides being told.
const ATTACH_RETRY: Duration = Duration::from_millis(50);
/// The control thread only receives small messages.
const CONTROL_STACK_BYTES: usize = 256 << 10;

/// Does the role's work until the supervisor says drain or is gone.
pub fn run(context: RoleContext) -> ExitCode {
    let RoleContext { index, incarnation, config, instance, orders, notices, reads, board, cell, .. } = context;
    confine(&instance);
    let (server, board) = match shared(reads, board, incarnation, index) {
        Ok(shared) => shared,
        Err(error) => {
            notices.send(Notice::Failed { message: format!("searcher {index} cannot start: {error}") });
            return ExitCode::from(exit::code(&error));
        }
    };
    let is_stopping = Arc::new(AtomicBool::new(false));
    let (published_sender, published) = mpsc::sync_channel(1);
    let control = Control { server: Arc::clone(&server), is_stopping: Arc::clone(&is_stopping), published_sender };
    let spawned = thread::Builder::new().name("control".to_owned()).stack_size(CONTROL_STACK_BYTES).spawn(move || {
        control.follow(|| orders.recv().ok());
    });
    if let Err(error) = spawned {
        notices.send(Notice::Failed { message: format!("searcher {index} cannot start its control thread: {error}") });
        return ExitCode::FAILURE;
    }
    let Some(reader) = attach(&is_stopping, &published, || Reader::open(instance.clone())) else {
        return ExitCode::SUCCESS;
    };
    notices.send(Notice::Ready { addresses: Vec::new() });
    tracing::info!(searcher = index, "ready");
    let team = Team::new(board, &server);
    let (progress, team_of) = (Some(&cell), Some(&team));
    let session =
        Session { reader: &reader, config: &config, database: "", body: &[], progress, team: team_of, wait: None };
    serve(&team, &session, &cell, &is_stopping);
    tracing::info!(searcher = index, "stopped");
    ExitCode::SUCCESS
}

/// Maps what the searchers share: the pool of reads and the help board.
fn shared(
    reads: Option<PoolFiles>,
    board: Option<File>,
    incarnation: u32,
    index: usize,
) -> Result<(Arc<PoolServer>, Board)> {
    let (Some(reads), Some(board)) = (reads, board) else {
        return Err(Error::internal("a searcher was started without its pool or board"));
    };
    let server = PoolServer::open(&reads, incarnation).map_err(|error| Error::io("map the request pool", &error))?;
    let board = Board::open(&board, index).map_err(|error| Error::io("map the help board", &error))?;
    Ok((Arc::new(server), board))
}

/// It reads what is published and writes into its own reader slot; whoever breaks into it reaches nothing else, the log and the
/// catalog included.
fn confine(instance: &Instance) {
    let read = vec!["/proc".into(), instance.shm_dir.clone(), instance.data_dir.join("tables"), instance.run_dir()];
    match sandbox::confine(&Reach { read, write: readers::paths(instance), ..Reach::default() }) {
        Ok(confinement) => tracing::debug!(?confinement, "confined"),
        Err(error) => tracing::warn!("this searcher is not confined: {error}"),
    }
}

/// Answers one encoded request over an attached database: what a searcher does between a claim and its reply. For benches.
pub fn answer(reader: &Reader, config: &ServerConfig, database: &str, method: Method, body: &[u8]) -> Vec<u8> {
    requests::answer(&Session { reader, config, database, body, progress: None, team: None, wait: None }, method, body)
        .body
}

/// The thread that follows the supervisor's orders.
struct Control {
    server: Arc<PoolServer>,
    is_stopping: Arc<AtomicBool>,
    published_sender: SyncSender<()>,
}

impl Control {
    /// Follows orders until it is told to stop or nobody is left to give any.
    fn follow(&self, mut next_order: impl FnMut() -> Option<Order>) {
        loop {
            match next_order() {
                Some(Order::Published) => {
                    // Full means that the main thread was told already.
                    let _ = self.published_sender.try_send(());
                }
                Some(Order::Drain) | None => break,
                Some(_) => {}
            }
        }
        self.is_stopping.store(true, Ordering::Release);
        self.server.wake_all();
        let _ = self.published_sender.try_send(());
    }
}

/// Attaches as soon as the writer has published; `None` when told to stop before.
fn attach(is_stopping: &AtomicBool, published: &Receiver<()>, open: impl Fn() -> Result<Reader>) -> Option<Reader> {
    let mut said = false;
    while !is_stopping.load(Ordering::Acquire) {
        match open() {
            Ok(reader) => return Some(reader),
            Err(error) if !said => {
                tracing::debug!(%error, "nothing to attach to yet");
                said = true;
            }
            Err(_) => {}
        }
        let _ = published.recv_timeout(ATTACH_RETRY);
    }
    None
}

/// Answers requests until told to stop; the one under way and those put off are finished.
fn serve(team: &Team<'_>, session: &Session<'_>, cell: &ProgressCell, is_stopping: &AtomicBool) {
    let mut followed = Instant::now();
    let mut postponed = Postponed::new(session.config.searchers);
    while !is_stopping.load(Ordering::Acquire) {
        let Some(claim) = postponed.take_due().or_else(|| team.server.claim()) else {
            let started = Instant::now();
            if team.help(session) {
                cell.add(Gauge::BusyNs, nanoseconds_since(started));
                continue;
            }
            team.board.set_idle(true);
            team.server.wait(Some(postponed.pause().map_or(IDLE_WAIT, |pause| pause.min(IDLE_WAIT))));
            team.board.set_idle(false);
            // Not at each wake-up: it would be on the way of the request that ended the sleep.
            if followed.elapsed() >= IDLE_WAIT {
                session.reader.follow();
                followed = Instant::now();
            }
            continue;
        };
        let wait = postponed.wait();
        if let Some((until, claim)) = serve_one(claim, &Session { wait: Some(&wait), ..*session }, cell) {
            postponed.put(until, claim);
        }
    }
    for claim in postponed.into_claims() {
        serve_one(claim, session, cell);
    }
}

/// Answers one request, or gives it back with the time until which it has to wait.
fn serve_one<'c>(claim: Claim<'c>, session: &Session<'_>, cell: &ProgressCell) -> Option<(Instant, Claim<'c>)> {
    // A header that makes no sense: the dropped claim fails the request.
    let header = claim.header()?;
    if header.deadline_ns != 0 && clock::monotonic_ns() > header.deadline_ns {
        // Nobody waits for it any more.
        cell.add(Gauge::RequestErrors, 1);
        return None;
    }
    let started = Instant::now();
    let session = Session { database: &header.database, body: claim.body(), ..*session };
    let answer = requests::answer(&session, header.method, session.body);
    if let Some(until) = session.wait.and_then(Wait::until) {
        return Some((until, claim));
    }
    claim.reply(&answer.body);
    cell.add(Gauge::Requests, 1);
    cell.add(Gauge::RequestErrors, u64::from(answer.is_error));
    cell.add(Gauge::BusyNs, nanoseconds_since(started));
    None
}

fn nanoseconds_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
