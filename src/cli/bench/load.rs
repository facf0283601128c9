//! A server with a data set in it, at rest.

use std::time::{Duration, Instant};

use super::Bench;
use super::data::Set;
use super::requests;
use crate::cli::temporary_server::TemporaryServer;
use crate::ipc::control::Role;
use crate::ipc::progress::{Gauge, ProgressBlock, ProgressInfo};
use crate::types::{Error, Result};

const BATCH_ROWS: usize = 10_000;
/// A server whose merges stand still for this long is at rest.
const QUIET: Duration = Duration::from_millis(1_500);
const REST_WAIT_MAX: Duration = Duration::from_secs(60);

/// A runtime for the client's calls, on this thread.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Error::io("start the client's runtime", &error))
}

/// Starts a server and loads a data set: flushed, and merged as far as the server merges it.
pub(super) fn server_with(bench: &Bench, set: Set, searchers: usize) -> Result<TemporaryServer> {
    let server = bench.server(&["--searchers", &searchers.to_string()])?;
    runtime()?.block_on(async {
        let mut client = requests::connect(&server.address).await?;
        requests::create(&mut client, set.dim(), set.metric()).await?;
        for from in (0..set.rows()).step_by(BATCH_ROWS) {
            let to = (from + BATCH_ROWS).min(set.rows());
            let body = requests::insert(from as i64, set.vectors(from, to), set.dim());
            requests::check_inserted(&requests::send(&mut client, "Insert", body).await?)?;
        }
        requests::flush(&mut client, requests::COLLECTION).await
    })?;
    wait_for_rest(&server)?;
    Ok(server)
}

fn wait_for_rest(server: &TemporaryServer) -> Result<()> {
    let end = Instant::now() + REST_WAIT_MAX;
    let (mut seen, mut since) = (0, Instant::now());
    while since.elapsed() < QUIET && Instant::now() < end {
        let now = writer_gauge(server, Gauge::Merges)? + writer_gauge(server, Gauge::Flushes)?;
        if now != seen {
            (seen, since) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A counter of the writer.
pub(super) fn writer_gauge(server: &TemporaryServer, gauge: Gauge) -> Result<u64> {
    let cells = cells(server)?;
    Ok(cells.iter().find(|cell| cell.role == Role::Writer).map_or(0, |cell| cell.gauge(gauge)))
}

/// The server's processes.
pub(super) fn cells(server: &TemporaryServer) -> Result<Vec<ProgressInfo>> {
    ProgressBlock::read(&crate::cli::read_instance(&server.data_dir)?)
}
