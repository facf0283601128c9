//! Reader processes: this program again, searching on its own until told to stop. Both sides are here.
//!
//! A worker prepares itself, says `ready`, waits for a line, measures, prints its outcome as one line of JSON, and stays
//! until its input is closed: so that its memory can be looked at.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::data::Set;
use super::requests::{self, COLLECTION, TOP_K};
use super::{load, pool};
use crate::reader::{QueryRequest, Reader, SearchRequest};
use crate::sys::clock;
use crate::types::{Error, ErrorKind, Keys, Result};

/// Queries whose hits are handed back, to be checked against a naive scan; they warm the way up, too.
pub(super) const CHECKED: u64 = 20;
/// Each reader of a worker takes its queries from a range of this length.
pub(super) const QUERY_RANGE: u64 = 1 << 24;
/// A watcher that saw nothing for so long gives up.
const WATCH_MAX: Duration = Duration::from_secs(30);

/// How often a watcher looks. One that never sleeps uses up its share of a busy machine's time, and is then itself kept
/// waiting for milliseconds: that would be measured instead.
const LOOK_AGAIN: Duration = Duration::from_micros(20);

/// What a worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Way {
    /// Attaches and searches in this process: one reader.
    Attach,
    /// Sends searches through a slot pool to processes it forks: as many as readers.
    Pool,
    /// Calls the server: as many connections as readers.
    Grpc,
    /// Attaches and notes when keys 0, 1, 2 ... appear.
    Watch,
}

/// The command line of a worker.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Options {
    #[arg(long, value_enum)]
    pub way: Way,
    /// Data directory, or address for `grpc`.
    #[arg(long)]
    pub target: String,
    #[arg(long, value_enum)]
    pub set: Set,
    #[arg(long)]
    pub readers: usize,
    #[arg(long)]
    pub first_query: u64,
    /// How long to measure; keys to watch for.
    #[arg(long)]
    pub seconds: f64,
}

/// What a worker found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    /// Nanoseconds of each search; for a watcher: when each key was seen, by the monotonic clock.
    pub times_ns: Vec<u64>,
    /// How long it measured.
    pub seconds: f64,
    /// The hits of the first queries.
    pub checked: Vec<Vec<i64>>,
}

/// The worker's side.
pub(super) fn run(options: &Options) -> Result<()> {
    match options.way {
        Way::Attach => attach(options),
        Way::Pool => pool::run(options),
        Way::Grpc => grpc(options),
        Way::Watch => watch(options),
    }
}

/// Says that all is prepared and waits for the start.
pub(super) fn wait_for_start() -> Result<()> {
    println!("ready");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).map(drop).map_err(|error| Error::io("wait for the start", &error))
}

/// Hands the outcome over and waits for the end.
pub(super) fn hand_over(outcome: &Outcome) -> Result<()> {
    let text = serde_json::to_string(outcome).map_err(|error| Error::internal(error.to_string()))?;
    println!("{text}");
    std::io::stdin().read_line(&mut String::new()).map(drop).map_err(|error| Error::io("wait for the end", &error))
}

/// One search in this process.
pub(super) fn search_attached(reader: &Reader, set: Set, query: u64) -> Result<Vec<i64>> {
    let hits = reader.search("default", COLLECTION, &SearchRequest::new(set.query(query), TOP_K))?;
    match hits.into_iter().next().map(|hits| hits.keys) {
        Some(Keys::Int(keys)) => Ok(keys),
        _ => Err(Error::internal("a search has no integer keys")),
    }
}

fn attach(options: &Options) -> Result<()> {
    let reader = Reader::attach(&options.target)?;
    let (set, mut query) = (options.set, options.first_query);
    let mut outcome = Outcome::default();
    for number in query..query + CHECKED {
        outcome.checked.push(search_attached(&reader, set, number)?);
    }
    query += CHECKED;
    wait_for_start()?;
    let started = Instant::now();
    while started.elapsed().as_secs_f64() < options.seconds {
        let before = Instant::now();
        search_attached(&reader, set, query)?;
        outcome.times_ns.push(before.elapsed().as_nanos() as u64);
        query += 1;
    }
    outcome.seconds = started.elapsed().as_secs_f64();
    hand_over(&outcome)
}

fn grpc(options: &Options) -> Result<()> {
    let runtime = load::runtime()?;
    let mut outcome = Outcome::default();
    let clients = runtime.block_on(async {
        let mut clients = Vec::new();
        for _ in 0..options.readers {
            clients.push(requests::connect(&options.target).await?);
        }
        for number in options.first_query..options.first_query + CHECKED {
            for client in &mut clients {
                let reply = requests::send(client, "Search", requests::search(options.set, number)).await?;
                outcome.checked.push(requests::found_keys(&reply)?);
            }
        }
        Ok::<_, Error>(clients)
    })?;
    // Every connection was tried; one answer to each query is enough.
    outcome.checked = outcome.checked.into_iter().step_by(options.readers).collect();
    wait_for_start()?;
    let started = Instant::now();
    let (set, seconds) = (options.set, options.seconds);
    outcome.times_ns = runtime.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for (place, mut client) in clients.into_iter().enumerate() {
            let mut query = options.first_query + CHECKED + place as u64 * QUERY_RANGE;
            tasks.spawn(async move {
                let mut times = Vec::new();
                while started.elapsed().as_secs_f64() < seconds {
                    let before = Instant::now();
                    let reply = requests::send(&mut client, "Search", requests::search(set, query)).await?;
                    requests::found_keys(&reply)?;
                    times.push(before.elapsed().as_nanos() as u64);
                    query += 1;
                }
                Ok::<_, Error>(times)
            });
        }
        let mut times = Vec::new();
        while let Some(task) = tasks.join_next().await {
            times.extend(task.map_err(|error| Error::internal(error.to_string()))??);
        }
        Ok::<_, Error>(times)
    })?;
    outcome.seconds = started.elapsed().as_secs_f64();
    hand_over(&outcome)
}

fn watch(options: &Options) -> Result<()> {
    let reader = Reader::attach(&options.target)?;
    let key_count = options.seconds as usize;
    let mut outcome = Outcome::default();
    wait_for_start()?;
    let (mut seen, mut progress) = (reader.visible()?, Instant::now());
    while outcome.times_ns.len() < key_count && progress.elapsed() < WATCH_MAX {
        let visible = reader.visible()?;
        if visible == seen {
            std::thread::sleep(LOOK_AGAIN);
            continue;
        }
        seen = visible;
        // More than one may have become visible at once.
        while outcome.times_ns.len() < key_count {
            let filter = format!("id == {}", outcome.times_ns.len());
            let request = QueryRequest { filter, limit: Some(1), ..QueryRequest::default() };
            if reader.query("default", COLLECTION, &request)?.keys.is_empty() {
                break;
            }
            outcome.times_ns.push(clock::monotonic_ns());
            progress = Instant::now();
        }
    }
    hand_over(&outcome)
}

/// The bench's side: a running worker, ended when this is dropped.
pub(super) struct Worker {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Worker {
    /// Starts one and waits until it is prepared.
    pub fn start(options: &Options) -> Result<Worker> {
        let program = std::env::current_exe().map_err(|error| Error::io("find this program", &error))?;
        let name = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
        let mut child = Command::new(program)
            .args(["worker", "--way", &name(&options.way), "--target", &options.target, "--set", &name(&options.set)])
            .args(["--readers", &options.readers.to_string(), "--first-query", &options.first_query.to_string()])
            .args(["--seconds", &options.seconds.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Error::io("start a worker", &error))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::internal("a worker has no pipes"));
        };
        let mut worker = Worker { child, stdin: Some(stdin), stdout: BufReader::new(stdout) };
        match worker.line()?.trim() {
            "ready" => Ok(worker),
            _ => Err(Error::new(ErrorKind::Unavailable, "a worker did not start; its message is above")),
        }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Starts the measurement.
    pub fn go(&mut self) -> Result<()> {
        match &mut self.stdin {
            Some(stdin) => stdin.write_all(b"go\n").map_err(|error| Error::io("tell a worker to start", &error)),
            None => Ok(()),
        }
    }

    /// Waits for its outcome; it stays.
    pub fn outcome(&mut self) -> Result<Outcome> {
        let line = self.line()?;
        serde_json::from_str(&line)
            .map_err(|_| Error::new(ErrorKind::Unexpected, "a worker ended without an outcome; its message is above"))
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.stdout.read_line(&mut line).map_err(|error| Error::io("read from a worker", &error))?;
        Ok(line)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It ends when its input does; a worker that still measures is not waited for.
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
