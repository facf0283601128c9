//! Searches per second and their times, by way and number of readers; the readers' memory.

use super::Bench;
use super::data::{Set, naive_distances, recall};
use super::load::server_with;
use super::memory::{self, Memory};
use super::report::{Report, median, microseconds, percentile};
use super::requests::TOP_K;
use super::worker::{CHECKED, Options, QUERY_RANGE, Way, Worker};
use crate::cli::temporary_server::TemporaryServer;
use crate::types::{Error, Result};

const SETS: [Set; 2] = [Set::Glove, Set::Clusters];
const READERS: [usize; 4] = [1, 2, 4, 8];
const WAYS: [Way; 3] = [Way::Attach, Way::Pool, Way::Grpc];

/// One measurement.
struct Run {
    per_second: f64,
    p50: u64,
    p99: u64,
    memory: Option<Memory>,
}

/// Gives every worker queries that no other has.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self, readers: usize) -> u64 {
        let first = self.0;
        self.0 += readers as u64 * QUERY_RANGE;
        first
    }
}

/// Measures every data set, way and number of readers.
pub(super) fn run(bench: &Bench, seconds: f64, report: &mut Report) -> Result<()> {
    let mut numbers = Numbers(0);
    for set in SETS {
        let vectors = set.vectors(0, set.rows());
        let (mut rows, mut memory_rows) = (Vec::new(), Vec::new());
        for readers in READERS {
            let server = server_with(bench, set, readers)?;
            let mut runs: [Vec<Run>; 3] = Default::default();
            for _ in 0..bench.repeats {
                for (way, runs) in WAYS.into_iter().zip(&mut runs) {
                    runs.push(measure(&server, set, &vectors, way, readers, seconds, &mut numbers)?);
                }
            }
            let attached = runs[0].iter().rev().find_map(|run| run.memory);
            memory_rows.extend(attached.map(|memory| memory::row(set, readers, memory)));
            rows.extend(WAYS.into_iter().zip(runs).map(|(way, runs)| row(set, way, readers, &runs)));
        }
        add_ratios(&mut rows);
        let title = format!("searches of {} (k = {TOP_K}, exact, recall 1.0 in every run)", set.name());
        report.add(&title, &["way", "readers", "searches/s", "of attach", "p50 us", "p99 us", "GB/s"], rows);
        report.add(
            &format!("memory of attached readers, {}", set.name()),
            &["readers", "data MiB", "sum of RSS MiB", "sum of PSS MiB", "sum of private MiB", "allowed PSS MiB"],
            memory_rows,
        );
    }
    Ok(())
}

fn row(set: Set, way: Way, readers: usize, runs: &[Run]) -> Vec<String> {
    let middle = |number: fn(&Run) -> f64| median(runs.iter().map(number).collect());
    let per_second = middle(|run| run.per_second);
    let scanned = per_second * (set.rows() * set.dim() * size_of::<f32>()) as f64 / 1e9;
    vec![
        format!("{way:?}").to_lowercase(),
        readers.to_string(),
        format!("{per_second:.0}"),
        String::new(),
        microseconds(middle(|run| run.p50 as f64) as u64),
        microseconds(middle(|run| run.p99 as f64) as u64),
        format!("{scanned:.1}"),
    ]
}

/// Each rate as a share of that of attached readers, which are the first of their number.
fn add_ratios(rows: &mut [Vec<String>]) {
    for group in rows.chunks_mut(WAYS.len()) {
        let rate = |row: &[String]| row[2].parse::<f64>().unwrap_or(0.0);
        let attached = rate(&group[0]);
        group.iter_mut().for_each(|row| row[3] = format!("{:.2}", rate(row) / attached.max(1.0)));
    }
}

fn measure(
    server: &TemporaryServer,
    set: Set,
    vectors: &[f32],
    way: Way,
    readers: usize,
    seconds: f64,
    numbers: &mut Numbers,
) -> Result<Run> {
    let target = match way {
        Way::Grpc => server.address.clone(),
        _ => server.data_dir.display().to_string(),
    };
    // Attached readers are processes of their own; the other ways have one client that keeps all of them busy.
    let (processes, per_process) = if way == Way::Attach { (readers, 1) } else { (1, readers) };
    let mut workers = Vec::new();
    for _ in 0..processes {
        let first_query = numbers.next(per_process);
        let options = Options { way, target: target.clone(), set, readers: per_process, first_query, seconds };
        workers.push((Worker::start(&options)?, first_query));
    }
    for (worker, _) in &mut workers {
        worker.go()?;
    }
    let (mut times, mut per_second) = (Vec::new(), 0.0);
    for (worker, first_query) in &mut workers {
        let outcome = worker.outcome()?;
        check(set, vectors, *first_query, &outcome.checked)?;
        per_second += outcome.times_ns.len() as f64 / outcome.seconds;
        times.extend(outcome.times_ns);
    }
    let pids = workers.iter().map(|(worker, _)| worker.pid());
    let memory = (way == Way::Attach).then(|| memory::of(pids));
    times.sort_unstable();
    Ok(Run { per_second, p50: percentile(&times, 0.5), p99: percentile(&times, 0.99), memory })
}

/// Recall must be 1.0.
fn check(set: Set, vectors: &[f32], first_query: u64, found: &[Vec<i64>]) -> Result<()> {
    if found.len() as u64 != CHECKED {
        return Err(Error::internal(format!("{} of {CHECKED} queries were checked", found.len())));
    }
    for (query, found) in (first_query..).zip(found) {
        let recall = recall(&naive_distances(set, vectors, &set.query(query)), found, TOP_K);
        if recall < 1.0 {
            return Err(Error::internal(format!("recall of query {query} of {} is {recall}: {found:?}", set.name())));
        }
    }
    Ok(())
}
