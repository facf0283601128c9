//! Latencies of searches while the builder works on another collection, and before.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::inputs::Inputs;
use super::subject::{Collection, Subject};
use super::{Options, sweep::Searches};
use crate::cli::bench::report::{Report, microseconds, percentile};
use crate::types::Result;

/// How long latencies are taken before.
const BEFORE: Duration = Duration::from_secs(3);
/// And at most while it builds.
const WHILE_MAX: Duration = Duration::from_secs(120);
/// Searches between two looks at the builder.
const BETWEEN_LOOKS: usize = 100;
const OTHER: &str = "other";

/// Percentiles of one time, in nanoseconds.
#[derive(Debug, Serialize)]
pub(super) struct Latencies {
    /// How many searches.
    pub searches: usize,
    /// 50, 99 and 99.9 of 100 took no longer; the longest.
    pub p50_p99_p999_max_ns: [u64; 4],
}

/// Before, and while.
#[derive(Debug, Serialize)]
pub(super) struct WhileBuilding {
    /// Of the search parameter.
    pub parameter: usize,
    /// The builder was idle.
    pub before: Latencies,
    /// The builder was busy.
    pub during: Latencies,
}

/// Searches before the same rows get an index in another collection, and while they do.
pub(super) fn measure(
    options: &Options,
    searches: &Searches<'_>,
    inputs: &Inputs,
    parameter: usize,
) -> Result<WhileBuilding> {
    let subject = searches.subject;
    subject.insert(OTHER, &inputs.base)?;
    let done_before = subject.builder()?.0;
    let started = Instant::now();
    let before = latencies(searches, parameter, || Ok(started.elapsed() < BEFORE))?;
    let other = Collection { name: OTHER, metric: options.metric, index: &options.index };
    let builds = subject.create_index(&other)?;
    // The builder takes a file when it has settled: its first rows say that it has.
    while builds > 0 && subject.builder()?.1 == 0 {
        std::thread::sleep(Duration::from_millis(10));
    }
    let started = Instant::now();
    let is_building = || Ok(subject.builder()?.0 < done_before + builds && started.elapsed() < WHILE_MAX);
    let during = latencies(searches, parameter, is_building)?;
    Ok(WhileBuilding { parameter, before, during })
}

fn latencies(searches: &Searches<'_>, parameter: usize, goes_on: impl Fn() -> Result<bool>) -> Result<Latencies> {
    let mut times = Vec::new();
    let mut query = 0;
    while goes_on()? {
        for _ in 0..BETWEEN_LOOKS {
            query = (query + 1) % searches.queries.rows();
            let request = Subject::request(searches.queries.row(query), searches.truth.dim, parameter, "");
            let started = Instant::now();
            searches.subject.search(&request)?;
            times.push(started.elapsed().as_nanos() as u64);
        }
    }
    times.sort_unstable();
    Ok(Latencies {
        searches: times.len(),
        p50_p99_p999_max_ns: [0.5, 0.99, 0.999, 1.0].map(|part| percentile(&times, part)),
    })
}

impl WhileBuilding {
    /// Prints a table.
    pub fn print(&self) {
        let row = |name: &str, latencies: &Latencies| {
            let mut row = vec![name.to_owned(), latencies.searches.to_string()];
            row.extend(latencies.p50_p99_p999_max_ns.map(microseconds));
            row
        };
        let rows = vec![row("idle", &self.before), row("builds", &self.during)];
        let title = format!("searches while the builder works on other rows, search parameter {}", self.parameter);
        let header = ["builder", "searches", "p50 us", "p99 us", "p99.9 us", "max us"];
        Report::default().add(&title, &header, rows);
    }
}
