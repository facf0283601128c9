//! Measuring one setting of the search parameter: every query once, then what came back is compared with the truth.

use std::ops::Range;
use std::time::Instant;

use serde::Serialize;

use super::share;
use super::subject::{BUCKET, Subject};
use super::vectors::Table;
use crate::cli::bench::report::percentile;
use crate::types::{Error, Result};

/// What one setting gave.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Point {
    /// The setting of the search parameter.
    pub parameter: usize,
    /// The share of the true nearest rows that was found.
    pub recall: f64,
    /// Queries per second of all threads.
    pub qps: f64,
    /// Half of the queries took no longer, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 queries took no longer, in microseconds.
    pub p99_us: f64,
    /// How many queries it rests on.
    pub queries: usize,
}

/// Searches whose answers are known.
#[derive(Clone, Copy)]
pub(super) struct Searches<'a> {
    /// What is searched.
    pub subject: &'a Subject,
    /// What is searched for.
    pub queries: &'a Table<f32>,
    /// What must be found.
    pub truth: &'a Table<u32>,
    /// Which rows may be found.
    pub filter: Filter<'a>,
}

/// A filter of searches.
#[derive(Clone, Copy)]
pub(super) enum Filter<'a> {
    /// The same text in each search.
    Same(&'a str),
    /// A text of its own in each search: what is kept of filters that came before is of no use.
    New(&'a str),
}

impl Filter<'_> {
    /// The text in the search of a query.
    fn text(self, query: usize) -> String {
        match self {
            Filter::Same(text) => text.to_owned(),
            // No bucket is negative: the same rows pass.
            Filter::New(text) => format!("{text} and {BUCKET} > -{}", query + 1),
        }
    }
}

/// What a thread brings back: nanoseconds of each of its queries, and how many true rows were found.
struct Share {
    times_ns: Vec<u64>,
    found: usize,
}

impl Searches<'_> {
    /// Measures settings of the search parameter.
    pub fn sweep(&self, settings: &[usize], threads: usize) -> Result<Vec<Point>> {
        let point = |(index, setting): (usize, &usize)| {
            self.measure(*setting, share(self.queries.rows(), settings.len(), index), threads)
        };
        settings.iter().enumerate().map(point).collect()
    }

    /// Searches each query of a range once.
    pub fn measure(&self, parameter: usize, queries: Range<usize>, threads: usize) -> Result<Point> {
        let count = queries.len();
        let started = Instant::now();
        let shares = std::thread::scope(|scope| {
            let work = |thread: usize| {
                let queries = queries.clone().skip(thread).step_by(threads);
                move || self.search_all(parameter, queries)
            };
            let others: Vec<_> = (1..threads).map(|thread| scope.spawn(work(thread))).collect();
            // The first share is this thread's: one thread measures itself, not its being started.
            let mut shares = vec![work(0)()];
            for other in others {
                shares.push(other.join().unwrap_or_else(|_| Err(Error::internal("a thread of searches died"))));
            }
            shares.into_iter().collect::<Result<Vec<Share>>>()
        })?;
        let seconds = started.elapsed().as_secs_f64();
        let found: usize = shares.iter().map(|share| share.found).sum();
        let mut times: Vec<u64> = shares.into_iter().flat_map(|share| share.times_ns).collect();
        // With one thread what lies between the searches is not theirs.
        let seconds = if threads == 1 { times.iter().sum::<u64>() as f64 / 1e9 } else { seconds };
        times.sort_unstable();
        let microseconds = |share: f64| percentile(&times, share) as f64 / 1e3;
        Ok(Point {
            parameter,
            recall: found as f64 / (count * self.truth.dim) as f64,
            qps: count as f64 / seconds,
            p50_us: microseconds(0.5),
            p99_us: microseconds(0.99),
            queries: count,
        })
    }

    fn search_all(&self, parameter: usize, queries: impl Iterator<Item = usize>) -> Result<Share> {
        let mut share = Share { times_ns: Vec::new(), found: 0 };
        for query in queries {
            let request =
                Subject::request(self.queries.row(query), self.truth.dim, parameter, &self.filter.text(query));
            let started = Instant::now();
            let keys = self.subject.search(&request)?;
            share.times_ns.push(started.elapsed().as_nanos() as u64);
            let truth = self.truth.row(query);
            share.found += keys.iter().filter(|key| truth.iter().any(|row| i64::from(*row) == **key)).count();
        }
        Ok(share)
    }
}

/// Queries per second at a recall, interpolated between the points around it; `None` when it was not reached.
pub(super) fn qps_at(points: &[Point], recall: f64) -> Option<f64> {
    let mut sorted: Vec<&Point> = points.iter().collect();
    sorted.sort_by(|left, right| left.recall.total_cmp(&right.recall));
    let above = sorted.iter().position(|point| point.recall >= recall)?;
    let high = sorted[above];
    let Some(low) = above.checked_sub(1).map(|below| sorted[below]) else { return Some(high.qps) };
    let share = (recall - low.recall) / (high.recall - low.recall);
    Some(low.qps + (high.qps - low.qps) * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_interpolated_between_recalls() {
        let point = |recall, qps| Point { parameter: 1, recall, qps, p50_us: 0.0, p99_us: 0.0, queries: 1 };
        let points = [point(0.98, 100.0), point(0.9, 200.0)];
        assert_eq!(qps_at(&points, 0.94).map(f64::round), Some(150.0));
        assert_eq!((qps_at(&points, 0.8), qps_at(&points, 0.99)), (Some(200.0), None));
    }
}
