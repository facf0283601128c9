//! What share of the machine's read bandwidth does a flat scan reach?
//!
//! One thread reads one buffer that is larger than the L3 cache: first with plain sums, which is what the machine can do,
//! then with scans of one query, then with scans of many. All take turns, so that a noisy machine is noisy to all; medians
//! and their ratios are printed. `cargo bench --bench flat_scan -- [MiB] [rounds]`
#![allow(missing_docs, reason = "a bench has no readers of its documentation")]

mod timing;

use std::hint::black_box;

use shoaldb::index::flat::scan;
use shoaldb::index::{Queries, TopK, VectorColumn};
use shoaldb::kernel::Kernels;
use shoaldb::types::{Bitmap, Metric};
use timing::{median, sum, time};

const DIMS: [usize; 5] = [50, 128, 384, 784, 1536];
const METRICS: [Metric; 3] = [Metric::L2, Metric::Ip, Metric::Cosine];
const TOP_K: usize = 10;

/// One line of the table: a scan and what it took in each round.
struct Case {
    queries: Queries<'static>,
    query_count: usize,
    /// Per cent of the rows that a filter leaves.
    filter: Option<(u64, Bitmap)>,
    seconds: Vec<f64>,
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|argument| argument.parse().ok()).collect();
    let bytes = numbers.first().copied().unwrap_or(256) << 20;
    let rounds = numbers.get(1).copied().unwrap_or(7);
    let values = fill(bytes / 4);
    let mut cases = cases(bytes);
    let mut sums = Vec::new();
    for _ in 0..rounds {
        for case in &mut cases {
            // A sum beside every case: the bandwidth that neighbours leave changes within seconds.
            sums.push(time(|| _ = black_box(sum(bytemuck::cast_slice(&values)))));
            let vectors = bytemuck::cast_slice(&values);
            case.seconds.push(time(|| run(case_of(case), vectors)));
        }
    }
    let read = bytes as f64 / median(&mut sums) / 1e9;
    println!("{} MiB, {} rounds, {} kernels; plain sum {read:.1} GB/s\n", bytes >> 20, rounds, Kernels::get().name());
    println!(
        "{:>5} {:>7} {:>4} {:>6} {:>8} {:>8} {:>9} {:>8}",
        "dim", "metric", "nq", "rows", "GB/s", "of sum", "QPS", "GFMA/s"
    );
    cases.iter_mut().for_each(|case| print(case, bytes, read));
}

fn cases(bytes: usize) -> Vec<Case> {
    let mut cases = Vec::new();
    for dim in DIMS {
        let mut add = |metric, query_count, per_cent: Option<u64>| {
            let filter = per_cent.map(|per_cent| (per_cent, filter(bytes / (dim * 4), per_cent)));
            let queries = Queries::dense(dim, metric, fill(dim * query_count));
            cases.push(Case { queries, query_count, filter, seconds: Vec::new() });
        };
        METRICS.into_iter().for_each(|metric| add(metric, 1, None));
        [90, 50, 10, 1].into_iter().for_each(|per_cent| add(Metric::L2, 1, Some(per_cent)));
        for query_count in [16, 64] {
            METRICS.into_iter().for_each(|metric| add(metric, query_count, None));
        }
    }
    cases
}

type ScanOf<'a> = (&'a Queries<'static>, usize, Option<&'a Bitmap>);

fn case_of(case: &Case) -> ScanOf<'_> {
    (&case.queries, case.query_count, case.filter.as_ref().map(|(_, filter)| filter))
}

fn run((queries, query_count, filter): ScanOf<'_>, vectors: &[u8]) {
    let mut tops = vec![TopK::new(TOP_K); query_count];
    let column = VectorColumn::of_f32(vectors, queries.dim);
    scan(queries, column, 0..vectors.len() / (queries.dim * 4), filter, None, 0, &mut tops);
    black_box(tops.into_iter().map(TopK::into_sorted).collect::<Vec<_>>());
}

fn print(case: &mut Case, bytes: usize, read: f64) {
    let seconds = median(&mut case.seconds);
    let per_cent = case.filter.as_ref().map_or(100, |(per_cent, _)| *per_cent);
    let share = per_cent as f64 / 100.0;
    let gigabytes = bytes as f64 * share / seconds / 1e9;
    println!(
        "{:>5} {:>7} {:>4} {:>5}% {:>8.1} {:>8.2} {:>9.1} {:>8.1}",
        case.queries.dim,
        case.queries.metric.name(),
        case.query_count,
        per_cent,
        gigabytes,
        gigabytes / read,
        case.query_count as f64 / seconds,
        gigabytes / 4.0 * case.query_count as f64,
    );
}

/// xorshift: the same numbers in every run.
fn fill(count: usize) -> Vec<f32> {
    let mut seed = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn filter(row_count: usize, per_cent: u64) -> Bitmap {
    let mut filter = Bitmap::zeros(row_count);
    for row in 0..row_count {
        filter.set(row, ((row as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % 100 < per_cent);
    }
    filter
}
