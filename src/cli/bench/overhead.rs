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
use crate::sys::{cores, procfs};
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

/// Where the two processes of a trip sit. Left to the kernel, one run has both on one core and the next does not, and waking a
/// process on another core takes eight times as long.
#[derive(Clone, Copy, Debug)]
struct Placement {
    name: &'static str,
    client: usize,
    server: usize,
}

/// Medians of one round with one placement, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Trips {
    attached: f64,
    handled: f64,
    pooled: f64,
    bare: f64,
}

/// CPU time per request in nanoseconds: in this process, and of a server that is kept busy.
#[derive(Clone, Copy, Debug)]
struct CpuTimes {
    handled: f64,
    busy: f64,
}

/// The same searches in this process, as a searcher handles them, and through the slots to another process.
fn slots(bench: &Bench, server: &TemporaryServer, report: &mut Report) -> Result<()> {
    let data_dir = server.data_dir.display().to_string();
    let served = ServedPool::start(&data_dir, 1)?;
    let reader = Reader::attach(&data_dir)?;
    let cores = cores::allowed().map_err(|error| Error::io("read the cores of this process", &error))?;
    let placements = [("on one core", 0), ("on two cores", 1)].map(|(name, server)| Placement {
        name,
        client: cores[0],
        server: *cores.get(server).unwrap_or(&cores[0]),
    });
    let (mut trips, mut cpu_times) = ([const { Vec::new() }; 2], Vec::new());
    let mut first_query = 1 << 32;
    // The first round warms up.
    for _ in 0..=bench.repeats {
        for (placement, trips) in placements.iter().zip(&mut trips) {
            trips.push(measure_trips(&reader, &served, *placement, first_query)?);
            first_query += TRIPS;
        }
        pool::pin(0, &cores)?;
        served.pin(&cores)?;
        cpu_times.push(measure_cpu(&reader, &served, first_query)?);
        first_query += TRIPS;
    }
    let row = |name: &str, times: Vec<f64>| {
        let times = times.into_iter().map(|ns| format!("{:.1}", ns / 1e3));
        std::iter::once(name.to_owned()).chain(times).collect::<Vec<_>>()
    };
    let waits = |number: fn(&Trips) -> f64| trips.iter().map(|trips| middle(trips, number)).collect();
    let rows = vec![
        row("search in this process (attach)", waits(|trip| trip.attached)),
        row("request decoded, searched, reply encoded, in this process", waits(|trip| trip.handled)),
        row("the same by another process, one at a time, both sleep meanwhile", waits(|trip| trip.pooled)),
        row("two bare processes that wake each other", waits(|trip| trip.bare)),
        row("slots alone, beyond these wake-ups (aim 10 us)", waits(|trip| trip.pooled - trip.handled - trip.bare)),
    ];
    let header: Vec<&str> = std::iter::once("way").chain(placements.iter().map(|placement| placement.name)).collect();
    report.add(&format!("a search through the slots ({}), p50 in us", SET.name()), &header, rows);
    let cpu = |number: fn(&CpuTimes) -> f64| vec![middle(&cpu_times, number)];
    let rows = vec![
        row("in this process", cpu(|time| time.handled)),
        row("in a server, 32 under way", cpu(|time| time.busy)),
        row("slots alone, busy (aim 10 us)", cpu(|time| time.busy - time.handled)),
    ];
    report.add("CPU time of such a request", &["where", "us"], rows);
    Ok(())
}

/// The median of what was measured after the first round.
fn middle<T>(rounds: &[T], number: fn(&T) -> f64) -> f64 {
    median(rounds[1..].iter().map(number).collect())
}

fn measure_trips(reader: &Reader, served: &ServedPool, placement: Placement, first_query: u64) -> Result<Trips> {
    pool::pin(0, &[placement.client])?;
    served.pin(&[placement.server])?;
    let config = ServerConfig::default();
    let mut times: [Vec<u64>; 3] = Default::default();
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
    }
    let [attached, handled, pooled] = times.map(|mut times| {
        times.sort_unstable();
        percentile(&times, 0.5) as f64
    });
    Ok(Trips { attached, handled, pooled, bare: pool::bare_trip(TRIPS, placement.server)? as f64 })
}

fn measure_cpu(reader: &Reader, served: &ServedPool, first_query: u64) -> Result<CpuTimes> {
    let config = ServerConfig::default();
    let bodies: Vec<_> = (first_query..first_query + TRIPS).map(|query| requests::search(SET, query)).collect();
    let own_time = || procfs::run_time_ns(std::process::id()).map_err(|error| Error::io("read our CPU time", &error));
    let own_before = own_time()?;
    for body in &bodies {
        std::hint::black_box(searcher::answer(reader, &config, "default", Method::Search, body));
    }
    let handled = (own_time()? - own_before) as f64 / bodies.len() as f64;
    Ok(CpuTimes { handled, busy: pool::busy_trip(served, &bodies)? })
}
