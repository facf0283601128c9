//! What is around a search: CPU time of the gateway per request, and the way through the slots.

use std::time::Instant;

use super::Bench;
use super::data::Set;
use super::load::{cells, server_with};
use super::pool::{self, ServedPool};
use super::report::{Report, median, microseconds, percentile};
use super::requests;
use super::worker::{self, Options, QUERY_RANGE, Way, Worker};
use crate::cli::temporary_server::TemporaryServer;
use crate::config::ServerConfig;
use crate::ipc::control::Role;
use crate::ipc::method::Method;
use crate::reader::Reader;
use crate::searcher;
use crate::sys::procfs;
use crate::types::{Error, Result};

const SET: Set = Set::Small;
const CONNECTIONS: [usize; 3] = [1, 4, 16];
const SECONDS: f64 = 2.0;
/// Round trips of one measurement of the slots.
const TRIPS: u64 = 20_000;

/// Measures the gateway, then the slots.
pub(super) fn run(bench: &Bench, report: &mut Report) -> Result<()> {
    let server = server_with(bench, SET, 2)?;
    gateway(bench, &server, report)?;
    slots(bench, &server, report)
}

fn gateway(bench: &Bench, server: &TemporaryServer, report: &mut Report) -> Result<()> {
    let pid = cells(server)?.iter().find(|cell| cell.role == Role::Gateway).map(|cell| cell.pid);
    let pid = pid.ok_or_else(|| Error::internal("the server has no gateway"))?;
    let mut measured: [Vec<(f64, f64, f64)>; 3] = Default::default();
    let mut first_query = 0;
    for _ in 0..bench.repeats {
        for (connections, measured) in CONNECTIONS.into_iter().zip(&mut measured) {
            let mut client = Worker::start(&Options {
                way: Way::Grpc,
                target: server.address.clone(),
                set: SET,
                readers: connections,
                first_query,
                seconds: SECONDS,
            })?;
            first_query += connections as u64 * QUERY_RANGE;
            let before = procfs::run_time_ns(pid).map_err(|error| Error::io("read the gateway's CPU time", &error))?;
            client.go()?;
            let outcome = client.outcome()?;
            let after = procfs::run_time_ns(pid).map_err(|error| Error::io("read the gateway's CPU time", &error))?;
            let (count, mut times) = (outcome.times_ns.len() as f64, outcome.times_ns);
            times.sort_unstable();
            let cpu = after.saturating_sub(before) as f64 / count.max(1.0);
            measured.push((cpu, count / outcome.seconds, percentile(&times, 0.5) as f64));
        }
    }
    let rows = CONNECTIONS.into_iter().zip(measured).map(|(connections, measured)| {
        let middle = |number: fn(&(f64, f64, f64)) -> f64| median(measured.iter().map(number).collect());
        vec![
            connections.to_string(),
            microseconds(middle(|run| run.0) as u64),
            format!("{:.0}", middle(|run| run.1)),
            microseconds(middle(|run| run.2) as u64),
        ]
    });
    let title = format!("CPU time of the gateway per search ({}, aim 60 us)", SET.name());
    report.add(&title, &["connections", "gateway us/request", "searches/s", "p50 us"], rows.collect());
    Ok(())
}

/// Medians of one round, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Round {
    attached: f64,
    handled: f64,
    pooled: f64,
    /// CPU time per request, in this process and of a server that is kept busy.
    handled_cpu: f64,
    busy_cpu: f64,
    bare: f64,
}

/// The same searches in this process, as a searcher handles them, and through the slots to another process.
fn slots(bench: &Bench, server: &TemporaryServer, report: &mut Report) -> Result<()> {
    let data_dir = server.data_dir.display().to_string();
    let served = ServedPool::start(&data_dir, 1)?;
    let reader = Reader::attach(&data_dir)?;
    let mut rounds = Vec::new();
    // The first round warms up.
    for round in 0..=bench.repeats as u64 {
        rounds.push(measure_slots(&reader, &served, (1 << 32) + round * TRIPS)?);
    }
    let middle = |number: fn(&Round) -> f64| median(rounds[1..].iter().map(number).collect());
    let row = |name: &str, ns: f64| vec![name.to_owned(), format!("{:.1}", ns / 1e3)];
    let rows = vec![
        row("search in this process (attach)", middle(|round| round.attached)),
        row("request decoded, searched, reply encoded, in this process", middle(|round| round.handled)),
        row("the same by another process, one at a time, both sleep meanwhile", middle(|round| round.pooled)),
        row("two bare processes that wake each other", middle(|round| round.bare)),
        row("slots alone, one at a time: beyond these wake-ups (aim 10 us)", middle(|r| r.pooled - r.handled - r.bare)),
        row("CPU time of such a request in this process", middle(|round| round.handled_cpu)),
        row("CPU time of such a request in a server, 32 under way", middle(|round| round.busy_cpu)),
        row("slots alone, busy: CPU time of the server (aim 10 us)", middle(|r| r.busy_cpu - r.handled_cpu)),
    ];
    report.add(&format!("a search through the slots ({}), p50", SET.name()), &["way", "us"], rows);
    Ok(())
}

fn measure_slots(reader: &Reader, served: &ServedPool, first_query: u64) -> Result<Round> {
    let config = ServerConfig::default();
    let mut times: [Vec<u64>; 3] = Default::default();
    let mut bodies = Vec::new();
    for query in first_query..first_query + TRIPS {
        let body = requests::search(SET, query);
        let mut lap = Instant::now();
        let mut note = |place: usize| {
            times[place].push(lap.elapsed().as_nanos() as u64);
            lap = Instant::now();
        };
        worker::search_attached(reader, SET, query)?;
        note(0);
        std::hint::black_box(searcher::answer(reader, &config, "default", Method::Search, &body));
        note(1);
        std::hint::black_box(served.call(&body)?);
        note(2);
        bodies.push(body);
    }
    let [attached, handled, pooled] = times.map(|mut times| {
        times.sort_unstable();
        percentile(&times, 0.5) as f64
    });
    let own_time = || procfs::run_time_ns(std::process::id()).map_err(|error| Error::io("read our CPU time", &error));
    let own_before = own_time()?;
    for body in &bodies {
        std::hint::black_box(searcher::answer(reader, &config, "default", Method::Search, body));
    }
    let handled_cpu = (own_time()? - own_before) as f64 / bodies.len() as f64;
    let busy_cpu = pool::busy_trip(served, &bodies)?;
    Ok(Round { attached, handled, pooled, handled_cpu, busy_cpu, bare: pool::bare_trip(TRIPS)? as f64 })
}
