//! Searches that may find a share of the rows only, by a filter on an integer field.

use serde::Serialize;

use super::inputs::Inputs;
use super::subject::{BUCKET, BUCKETS, NPROBE, Subject, bucket};
use super::sweep::{Filter, Point, Searches, qps_at};
use super::{Options, outcome, truth};
use crate::types::{Bitmap, Error, Result};

/// The truth of each filter is computed anew: queries of a filter at most.
const QUERIES_MAX: usize = 8_000;
/// Recall that is compared at.
const COMPARED_RECALL: f64 = 0.95;
/// Sizes of a pool: a filter needs no finer steps.
const POOLS: [usize; 8] = [10, 14, 20, 28, 40, 80, 160, 320];
/// Numbers of lists.
const LISTS: [usize; 8] = [1, 2, 4, 8, 16, 32, 64, 128];
/// A scan is measured on so many queries.
const SCANNED_MAX: usize = 100;

/// What was measured with one filter.
#[derive(Debug, Serialize)]
pub(super) struct Filtered {
    /// Of the rows that may be found.
    pub share: f64,
    /// One per setting.
    pub points: Vec<Point>,
    /// Queries per second at the compared recall.
    pub qps: Option<f64>,
    /// As a share of those without a filter.
    pub of_unfiltered: Option<f64>,
    /// Queries per second at the first setting that reaches the compared recall, when no filter comes a second time.
    pub qps_of_new: Option<f64>,
    /// Queries per second when the rows that match are scanned.
    pub qps_of_scan: f64,
}

/// Measures a share.
pub(super) fn measure(
    options: &Options,
    subject: &Subject,
    inputs: &Inputs,
    share: f64,
    unfiltered: &[Point],
) -> Result<Filtered> {
    let buckets = (share * BUCKETS as f64).round() as i64;
    if !(1..=BUCKETS as i64).contains(&buckets) {
        return Err(Error::invalid(format!("--filter-share must be 0.001 to 1, not {share}")));
    }
    let filter = format!("{BUCKET} < {buckets}");
    let mut matching = Bitmap::zeros(inputs.base.rows());
    (0..inputs.base.rows()).filter(|row| bucket(*row) < buckets).for_each(|row| matching.set(row, true));
    let mut queries = inputs.queries.clone();
    queries.values.truncate(QUERIES_MAX * queries.dim);
    let truth = truth::compute(options.metric, &inputs.base, &queries, options.k, Some(&matching))?;
    let searches = Searches { subject, queries: &queries, truth: &truth, filter: Filter::Same(&filter) };
    let settings: Vec<usize> = match subject.search_parameter {
        None => vec![1],
        Some(NPROBE) => LISTS.to_vec(),
        Some(_) => POOLS.into_iter().filter(|setting| *setting >= options.k).collect(),
    };
    let points = searches.sweep(&settings, 1)?;
    let qps_of_new = match points.iter().find(|point| point.recall >= COMPARED_RECALL) {
        None => None,
        Some(point) => {
            let searches = Searches { filter: Filter::New(&filter), ..searches };
            Some(searches.measure(point.parameter, 0..queries.rows(), 1)?.qps)
        }
    };
    // With a pool of all rows there is nothing that an index could save.
    let scan = searches.measure(inputs.base.rows(), 0..queries.rows().min(SCANNED_MAX), 1)?;
    let qps = qps_at(&points, COMPARED_RECALL);
    let of_unfiltered = qps.zip(qps_at(unfiltered, COMPARED_RECALL)).map(|(qps, all)| qps / all);
    Ok(Filtered { share, points, qps, of_unfiltered, qps_of_new, qps_of_scan: scan.qps })
}

impl Filtered {
    /// Prints a table.
    pub fn print(&self, search_parameter: Option<&str>, k: usize) {
        let title = format!("filtered: {} of the rows may be found", self.share);
        outcome::print_points(&title, search_parameter, k, &self.points);
        match (self.qps, self.of_unfiltered, self.qps_of_new) {
            (Some(qps), Some(ratio), Some(of_new)) => println!(
                "at recall {COMPARED_RECALL}: {qps:.0} queries/s, {ratio:.2} of those without a filter; by filters that never \
                 came before: {of_new:.0}; a scan: {:.0}\n",
                self.qps_of_scan
            ),
            _ => println!("recall {COMPARED_RECALL} was not reached; a scan: {:.0} queries/s\n", self.qps_of_scan),
        }
    }
}
