//! From the acknowledgement of a row to the moment another process sees it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Bench;
use super::data::Set;
use super::load::{runtime, writer_gauge};
use super::report::{Report, microseconds, percentile};
use super::requests;
use super::worker::{Options, Way, Worker};
use crate::cli::temporary_server::TemporaryServer;
use crate::ipc::progress::Gauge;
use crate::sys::clock;
use crate::types::{Error, Metric, Result};

const SET: Set = Set::Small;
/// Rows of a batch of the client that gives the server something to merge, and the first of its keys.
const LOAD_ROWS: usize = 500;
/// Batches come this far apart: 20,000 rows/s, which leaves the machine room to answer others.
const LOAD_PACE: Duration = Duration::from_millis(25);
const LOAD_KEYS_FROM: i64 = 1 << 40;

/// What goes on besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Load {
    /// Nothing.
    Quiet,
    /// Another client inserts at a steady pace; files are flushed and merged all the time.
    Merging,
    /// Another client inserts as fast as it can.
    Flooded,
}

/// Measures on a quiet server, on one that merges all the time, and on one that is given more than it can do.
pub(super) fn run(bench: &Bench, row_count: usize, report: &mut Report) -> Result<()> {
    let mut rows = Vec::new();
    for _ in 0..bench.repeats {
        for load in [Load::Quiet, Load::Merging, Load::Flooded] {
            rows.push(measure(bench, load, row_count)?);
        }
    }
    rows.sort_by(|a, b| b[0].cmp(&a[0]));
    let header = [
        "server",
        "rows",
        "flushes",
        "merges",
        "seen before ack",
        "p50 us",
        "p99 us",
        "max us",
        "insert p50 us",
        "insert p99 us",
    ];
    report.add("acknowledgement to visible in another process (0 = before the acknowledgement)", &header, rows);
    Ok(())
}

fn measure(bench: &Bench, load: Load, row_count: usize) -> Result<Vec<String>> {
    let interval = if load == Load::Quiet { "1s" } else { "50ms" };
    let server = bench.server(&["--searchers", "1", "--auto-flush-interval", interval])?;
    let runtime = runtime()?;
    let mut client = runtime.block_on(requests::connect(&server.address))?;
    runtime.block_on(requests::create(&mut client, SET.dim(), Metric::L2))?;
    let mut watcher = Worker::start(&Options {
        way: Way::Watch,
        target: server.data_dir.display().to_string(),
        set: SET,
        readers: 1,
        first_query: 0,
        seconds: row_count as f64,
    })?;
    watcher.go()?;
    let is_over = AtomicBool::new(false);
    let calls = std::thread::scope(|scope| {
        let other = (load != Load::Quiet).then(|| scope.spawn(|| keep_inserting(&server, load, &is_over)));
        let calls = runtime.block_on(insert_rows(&mut client, row_count));
        is_over.store(true, Ordering::Release);
        other
            .map_or(Ok(Ok(())), std::thread::ScopedJoinHandle::join)
            .map_err(|_| Error::internal("the client that loads the server panicked"))??;
        calls
    })?;
    let seen = watcher.outcome()?.times_ns;
    if seen.len() != row_count {
        return Err(Error::internal(format!("{} of {row_count} rows became visible", seen.len())));
    }
    let early = calls.iter().zip(&seen).filter(|((_, acknowledged), seen)| seen < &acknowledged).count();
    let mut lags: Vec<u64> = calls.iter().zip(&seen).map(|((_, ack), seen)| seen.saturating_sub(*ack)).collect();
    let mut times: Vec<u64> = calls.iter().map(|(sent, acknowledged)| acknowledged - sent).collect();
    lags.sort_unstable();
    times.sort_unstable();
    Ok(vec![
        format!("{load:?}").to_lowercase(),
        row_count.to_string(),
        writer_gauge(&server, Gauge::Flushes)?.to_string(),
        writer_gauge(&server, Gauge::Merges)?.to_string(),
        format!("{:.1} %", early as f64 * 100.0 / row_count as f64),
        microseconds(percentile(&lags, 0.5)),
        microseconds(percentile(&lags, 0.99)),
        microseconds(percentile(&lags, 1.0)),
        microseconds(percentile(&times, 0.5)),
        microseconds(percentile(&times, 0.99)),
    ])
}

/// Inserts keys 0, 1, 2 ... one by one; when each was sent and acknowledged.
async fn insert_rows(client: &mut crate::gateway::client::Client, row_count: usize) -> Result<Vec<(u64, u64)>> {
    let mut calls = Vec::with_capacity(row_count);
    for key in 0..row_count {
        let body = requests::insert(key as i64, SET.vectors(key % SET.rows(), key % SET.rows() + 1), SET.dim());
        let sent = clock::monotonic_ns();
        let reply = requests::send(client, "Insert", body).await?;
        calls.push((sent, clock::monotonic_ns()));
        requests::check_inserted(&reply)?;
    }
    Ok(calls)
}

/// Inserts batches until told to stop.
fn keep_inserting(server: &TemporaryServer, load: Load, is_over: &AtomicBool) -> Result<()> {
    let vectors = SET.vectors(0, LOAD_ROWS);
    let runtime = runtime()?;
    runtime.block_on(async {
        let mut client = requests::connect(&server.address).await?;
        let mut key = LOAD_KEYS_FROM;
        while !is_over.load(Ordering::Acquire) {
            let body = requests::insert(key, vectors.clone(), SET.dim());
            requests::check_inserted(&requests::send(&mut client, "Insert", body).await?)?;
            key += LOAD_ROWS as i64;
            if load == Load::Merging {
                tokio::time::sleep(LOAD_PACE).await;
            }
        }
        Ok(())
    })
}
