//! A slot pool without a gateway: forked processes answer as searchers do, this process is the client.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::data::Set;
use super::report::percentile;
use super::requests;
use super::worker::{CHECKED, Options, Outcome, hand_over, wait_for_start};
use crate::config::ServerConfig;
use crate::config::limits::{REPLY_BYTES_MAX, REQUEST_BYTES_MAX};
use crate::ipc::method::Method;
use crate::ipc::pool::{self, OnDeath, PoolClient, PoolFiles, PoolOptions, PoolServer, RequestHeader, Ticket};
use crate::reader::Reader;
use crate::searcher;
use crate::sys::process::{self, ChildProcess, Forked};
use crate::sys::{cores, eventfd, procfs};
use crate::types::{Error, Result};

/// Requests under way at once when the server shall never sleep.
const UNDER_WAY: usize = 32;

/// A pool with its servers; they end when this is dropped.
pub(super) struct ServedPool {
    client: PoolClient,
    header: RequestHeader,
    servers: Vec<ChildProcess>,
}

impl ServedPool {
    /// Forks the servers, from a process with one thread.
    pub fn start(data_dir: &str, servers: usize) -> Result<ServedPool> {
        let options =
            PoolOptions { slot_count: 128, request_bytes_max: REQUEST_BYTES_MAX, reply_bytes_max: REPLY_BYTES_MAX };
        let files = PoolFiles::create("bench", options).map_err(|error| Error::io("make a slot pool", &error))?;
        let mut children = Vec::new();
        for claimant in 1..=servers {
            match process::fork("shoal-bench: pool").map_err(|error| Error::io("fork", &error))? {
                Forked::Child => {
                    let error = serve(&files, claimant as u32, data_dir);
                    eprintln!("shoal-bench: a server of the pool ends: {error:?}");
                    std::process::exit(1);
                }
                Forked::Parent(child) => children.push(child),
            }
        }
        let client =
            PoolClient::open(&files, OnDeath::Retry).map_err(|error| Error::io("map the slot pool", &error))?;
        let header = RequestHeader { method: Method::Search, database: "default".to_owned(), deadline_ns: 0 };
        Ok(ServedPool { client, header, servers: children })
    }

    /// Keeps the servers on these cores.
    pub fn pin(&self, cores: &[usize]) -> Result<()> {
        self.servers.iter().try_for_each(|server| pin(server.pid(), cores))
    }

    /// Sends a request.
    pub fn submit(&self, body: &[u8]) -> Result<Ticket> {
        self.client.submit(&self.header, body).map_err(|error| Error::internal(error.to_string()))
    }

    /// The reply, if the request ended.
    pub fn poll(&self, ticket: Ticket) -> Result<Option<Vec<u8>>> {
        match self.client.poll(ticket) {
            None => Ok(None),
            Some(pool::Outcome::Replied) => Ok(Some(self.client.take_reply(ticket))),
            Some(other) => Err(Error::internal(format!("a request of the pool ended as {other:?}"))),
        }
    }

    /// Sleeps until a request may have ended.
    pub fn wait(&self) {
        let mut fds = [PollFd::new(self.client.done_fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::NONE);
        eventfd::take(self.client.done_fd());
    }

    /// Sends a request and waits for its reply.
    pub fn call(&self, body: &[u8]) -> Result<Vec<u8>> {
        let ticket = self.submit(body)?;
        loop {
            if let Some(reply) = self.poll(ticket)? {
                return Ok(reply);
            }
            self.wait();
        }
    }
}

impl Drop for ServedPool {
    fn drop(&mut self) {
        for server in &self.servers {
            server.kill();
            server.wait();
        }
    }
}

/// Keeps a process on these cores; 0 is this thread.
pub(super) fn pin(pid: u32, on: &[usize]) -> Result<()> {
    cores::pin(pid, on).map_err(|error| Error::io(format_args!("keep process {pid} on cores {on:?}"), &error))
}

fn serve(files: &PoolFiles, claimant: u32, data_dir: &str) -> Result<()> {
    let server = PoolServer::open(files, claimant).map_err(|error| Error::io("map the slot pool", &error))?;
    let reader = Reader::attach(data_dir)?;
    let config = ServerConfig::default();
    loop {
        let Some(claim) = server.claim() else {
            server.wait(None);
            continue;
        };
        let Some(header) = claim.header() else { continue };
        let reply = searcher::answer(&reader, &config, &header.database, header.method, claim.body());
        claim.reply(&reply);
    }
}

/// This process and one on `core` that do nothing but wake each other, as client and server of a pool do: the least a trip can
/// take here. Nanoseconds of the median trip.
pub(super) fn bare_trip(trips: u64, core: usize) -> Result<u64> {
    let kernel = |error| Error::io("make an event counter", &error);
    let (work, done) = (eventfd::semaphore().map_err(kernel)?, eventfd::counter().map_err(kernel)?);
    let child = match process::fork("shoal-bench: echo").map_err(|error| Error::io("fork", &error))? {
        Forked::Child => echo(&work, &done),
        Forked::Parent(child) => child,
    };
    pin(child.pid(), &[core]).inspect_err(|_| child.kill())?;
    let mut times = Vec::new();
    for _ in 0..trips {
        let before = Instant::now();
        eventfd::add(&work, 1);
        while eventfd::take(&done).is_none() {
            let _ = poll(&mut [PollFd::new(done.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        }
        times.push(before.elapsed().as_nanos() as u64);
    }
    child.kill();
    child.wait();
    times.sort_unstable();
    Ok(percentile(&times, 0.5))
}

fn echo(work: &OwnedFd, done: &OwnedFd) -> ! {
    let Some(sleeper) = eventfd::counter().ok().and_then(|own| eventfd::Sleeper::new(work, &own).ok()) else {
        std::process::exit(1)
    };
    loop {
        while eventfd::take(work).is_none() {
            sleeper.sleep(None);
        }
        eventfd::add(done, 1);
    }
}

/// Sends `bodies` with many under way, so that the server rarely sleeps; the server's CPU time per request in nanoseconds.
pub(super) fn busy_trip(served: &ServedPool, bodies: &[Vec<u8>]) -> Result<f64> {
    let run_time = || -> Result<u64> {
        let times = served.servers.iter().map(|server| procfs::run_time_ns(server.pid()));
        times.sum::<std::io::Result<u64>>().map_err(|error| Error::io("read a server's CPU time", &error))
    };
    let run_before = run_time()?;
    let mut under_way: Vec<Ticket> = Vec::new();
    let mut bodies_left = bodies.iter();
    loop {
        while under_way.len() < UNDER_WAY
            && let Some(body) = bodies_left.next()
        {
            under_way.push(served.submit(body)?);
        }
        if under_way.is_empty() {
            return Ok((run_time()? - run_before) as f64 / bodies.len() as f64);
        }
        let before = under_way.len();
        let mut waiting = Vec::with_capacity(before);
        for ticket in under_way {
            if served.poll(ticket)?.is_none() {
                waiting.push(ticket);
            }
        }
        under_way = waiting;
        if under_way.len() == before {
            served.wait();
        }
    }
}

/// Keeps as many searches under way as there are servers.
pub(super) fn run(options: &Options) -> Result<()> {
    let served = ServedPool::start(&options.target, options.readers)?;
    let mut outcome = Outcome::default();
    let mut query = options.first_query;
    for number in query..query + CHECKED {
        let reply = served.call(&requests::search(options.set, number))?;
        outcome.checked.push(requests::found_keys(&reply)?);
    }
    query += CHECKED;
    wait_for_start()?;
    let started = Instant::now();
    let mut under_way = Vec::new();
    loop {
        let is_over = started.elapsed().as_secs_f64() >= options.seconds;
        while !is_over && under_way.len() < options.readers {
            under_way.push(submit_search(&served, options.set, query)?);
            query += 1;
        }
        let before = under_way.len();
        let mut waiting = Vec::with_capacity(before);
        for (ticket, submitted) in under_way {
            match served.poll(ticket)? {
                Some(reply) => {
                    requests::found_keys(&reply)?;
                    outcome.times_ns.push(submitted.elapsed().as_nanos() as u64);
                }
                None => waiting.push((ticket, submitted)),
            }
        }
        under_way = waiting;
        if is_over && under_way.is_empty() {
            break;
        }
        if under_way.len() == before {
            served.wait();
        }
    }
    outcome.seconds = started.elapsed().as_secs_f64();
    hand_over(&outcome)
}

fn submit_search(served: &ServedPool, set: Set, query: u64) -> Result<(Ticket, Instant)> {
    let before = Instant::now();
    Ok((served.submit(&requests::search(set, query))?, before))
}
