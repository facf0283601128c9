//! `shoal-bench ann`: how many queries a second at which recall, on vectors of a file?
//! Start at `run`. Queries are not in the index, and a setting of the search parameter gets queries that no other got while there
//! are enough: repeated ones find their way warm in the caches.

mod plot;
mod subject;
mod sweep;
mod truth;
mod vectors;

use std::io::BufRead;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

use self::plot::Curve;
use self::subject::{IndexName, Subject};
use self::sweep::Point;
use self::vectors::Table;
use super::report::Report;
use crate::types::{DataType, Error, Metric, Result};

/// Recalls that indexes are compared at.
const COMPARED_RECALLS: [f64; 3] = [0.9, 0.95, 0.99];
/// Fewer queries than this say too little about a recall: settings share queries then.
const POINT_QUERIES_MIN: usize = 200;
/// Settings of the search parameter when none are given.
const SWEEP: [usize; 14] = [10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 896];

/// What to measure.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Vectors to search: .npy (f32, f16), .fvecs, .bvecs or IDX, also packed with gzip
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// Vectors to search for; without it, the last ones of the base, which are then not in the index
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// How many queries at most
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    query_count: usize,
    /// How many rows of the base at most
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// The true nearest rows of each query (.ivecs, .npy); without it they are computed
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// l2, ip or cosine
    #[arg(long, default_value = "l2", value_parser = metric)]
    metric: Metric,
    /// The index to build, with its parameters: NAME,parameter=value,...
    #[arg(long, value_name = "NAME[,PARAMETER=VALUE...]", default_value = "RABITQ_GRAPH")]
    index: IndexName,
    /// Hits per query, and of recall
    #[arg(long, default_value_t = 10)]
    k: usize,
    /// Threads that search
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Threads that build; all cores without it
    #[arg(long, value_name = "N")]
    build_threads: Option<usize>,
    /// Settings of the search parameter
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = SWEEP)]
    sweep: Vec<usize>,
    /// Draw recall against queries per second into this file (SVG)
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Build, then measure what lines of input ask for ("parameter first-query query-count"); one line of JSON each
    #[arg(long, hide = true)]
    interactive: bool,
}

/// What searches are compared with.
struct Data {
    queries: Table<f32>,
    truth: Table<u32>,
}

/// What is written as JSON.
#[derive(Debug, Serialize)]
struct Outcome {
    index: String,
    parameters: Vec<(String, String)>,
    metric: &'static str,
    rows: usize,
    dim: usize,
    k: usize,
    threads: usize,
    build_threads: usize,
    build_seconds: f64,
    index_bytes_per_vector: f64,
    search_parameter: Option<&'static str>,
    points: Vec<Point>,
    qps_at_recall: Vec<(f64, Option<f64>)>,
}

fn metric(name: &str) -> std::result::Result<Metric, String> {
    Metric::from_name(name)
        .filter(|metric| Metric::of_type(DataType::FloatVector).contains(metric))
        .ok_or_else(|| "expected l2, ip or cosine".to_owned())
}

/// Measures, prints, writes.
pub(super) fn run(options: &Options, json: Option<&Path>) -> Result<()> {
    if options.k == 0 || options.threads == 0 || options.sweep.contains(&0) {
        return Err(Error::invalid("--k, --threads and --sweep must be at least 1"));
    }
    let (base, data) = load(options)?;
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let build_threads = options.build_threads.unwrap_or(cores);
    let subject = Subject::build(&options.index, options.metric, &base, build_threads)?;
    let mut outcome = Outcome {
        index: options.index.name.clone(),
        parameters: options.index.parameters.clone(),
        metric: options.metric.name(),
        rows: base.rows(),
        dim: base.dim,
        k: options.k,
        threads: options.threads,
        build_threads,
        build_seconds: subject.build_seconds,
        index_bytes_per_vector: subject.index_bytes_per_vector(),
        search_parameter: subject.search_parameter,
        points: Vec::new(),
        qps_at_recall: Vec::new(),
    };
    drop(base);
    if options.interactive {
        return answer_lines(&subject, &data, &outcome, options.threads);
    }
    let settings = if subject.search_parameter.is_some() { &options.sweep[..] } else { &[1] };
    for (index, setting) in settings.iter().enumerate() {
        let queries = share(data.queries.rows(), settings.len(), index);
        outcome.points.push(sweep::measure(&subject, &data, *setting, queries, options.threads)?);
    }
    outcome.qps_at_recall =
        COMPARED_RECALLS.into_iter().map(|recall| (recall, sweep::qps_at(&outcome.points, recall))).collect();
    print(&outcome);
    write(&outcome, json, options.plot.as_deref())
}

/// Each setting has queries of its own when there are enough.
fn share(query_count: usize, settings: usize, index: usize) -> Range<usize> {
    let each = query_count / settings;
    if each < POINT_QUERIES_MIN { 0..query_count } else { index * each..(index + 1) * each }
}

fn load(options: &Options) -> Result<(Table<f32>, Data)> {
    let mut base = vectors::load(&options.base)?;
    let mut queries = match &options.queries {
        Some(path) => vectors::load(path)?,
        None => {
            let held_out = options.query_count.min(base.rows() / 2);
            let values = base.values.split_off((base.rows() - held_out) * base.dim);
            Table { dim: base.dim, values }
        }
    };
    base.values.truncate(options.rows.unwrap_or(base.rows()).saturating_mul(base.dim));
    queries.values.truncate(options.query_count * queries.dim);
    if queries.dim != base.dim || queries.rows() == 0 || base.rows() == 0 {
        let found = format!("{} rows of {} and {} of {}", base.rows(), base.dim, queries.rows(), queries.dim);
        return Err(Error::invalid(format!("base and queries must have rows of one length, not {found}")));
    }
    let truth = match &options.truth {
        Some(path) => truth::read(path, base.rows(), queries.rows(), options.k)?,
        None => truth::compute(options.metric, &base, &queries, options.k)?,
    };
    Ok((base, Data { queries, truth }))
}

/// For a program that measures others in turn with this one.
fn answer_lines(subject: &Subject, data: &Data, outcome: &Outcome, threads: usize) -> Result<()> {
    let json = |text: serde_json::Result<String>| text.map_err(|error| Error::internal(error.to_string()));
    println!("{}", json(serde_json::to_string(outcome))?);
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Error::io("read a line of input", &error))?;
        let words: Vec<usize> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [parameter, first, count] = words[..] else {
            return Err(Error::invalid(format!("expected \"parameter first-query query-count\", not {line:?}")));
        };
        let end = first.saturating_add(count);
        if count == 0 || end > data.queries.rows() {
            return Err(Error::invalid(format!("there are {} queries, not {end}", data.queries.rows())));
        }
        let point = sweep::measure(subject, data, parameter, first..end, threads)?;
        println!("{}", json(serde_json::to_string(&point))?);
    }
    Ok(())
}

fn print(outcome: &Outcome) {
    let rows = outcome.points.iter().map(|point| {
        vec![
            point.parameter.to_string(),
            format!("{:.4}", point.recall),
            format!("{:.0}", point.qps),
            format!("{:.1}", point.p50_us),
            format!("{:.1}", point.p99_us),
            point.queries.to_string(),
        ]
    });
    let title = format!(
        "{} of {} x {}, {}: built in {:.1} s on {} threads, {:.0} bytes per vector beside the vectors; {} thread(s)",
        outcome.index,
        outcome.rows,
        outcome.dim,
        outcome.metric,
        outcome.build_seconds,
        outcome.build_threads,
        outcome.index_bytes_per_vector,
        outcome.threads
    );
    let recall = format!("recall@{}", outcome.k);
    let parameter = outcome.search_parameter.unwrap_or("-");
    let header = [parameter, &recall, "queries/s", "p50 us", "p99 us", "queries"];
    Report::default().add(&title, &header, rows.collect());
    for (recall, qps) in &outcome.qps_at_recall {
        match qps {
            Some(qps) => println!("at recall {recall}: {qps:.0} queries/s"),
            None => println!("at recall {recall}: not reached"),
        }
    }
}

fn write(outcome: &Outcome, json: Option<&Path>, plot: Option<&Path>) -> Result<()> {
    let store = |path: &Path, text: String| {
        std::fs::write(path, text).map_err(|error| Error::io(format_args!("write {}", path.display()), &error))
    };
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(outcome).map_err(|error| Error::internal(error.to_string()))?;
        store(path, text)?;
    }
    if let Some(path) = plot {
        let points = outcome.points.iter().map(|point| (point.recall, point.qps)).collect();
        let title = format!("{} x {}, {}, recall@{}", outcome.rows, outcome.dim, outcome.metric, outcome.k);
        let drawn = plot::draw(&title, &[Curve { name: outcome.index.clone(), points }]);
        store(path, drawn.ok_or_else(|| Error::invalid("there is nothing to plot: every recall is below 0.8"))?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_queries_of_their_own_when_there_are_enough() {
        assert_eq!([share(1000, 4, 0), share(1000, 4, 3)], [0..250, 750..1000]);
        assert_eq!(share(100, 4, 2), 0..100);
    }

    #[test]
    fn an_index_is_built_measured_and_stored() {
        let dir = tempfile::tempdir().unwrap();
        let set = crate::cli::bench::data::Set::Small;
        let mut bytes = Vec::new();
        for row in set.vectors(0, 700).chunks(set.dim()) {
            bytes.extend((row.len() as u32).to_le_bytes());
            bytes.extend_from_slice(bytemuck::cast_slice(row));
        }
        let base = dir.path().join("base.fvecs");
        std::fs::write(&base, bytes).unwrap();
        let (json, plot) = (dir.path().join("out.json"), dir.path().join("out.svg"));
        let options = Options {
            base,
            queries: None,
            query_count: 100,
            rows: None,
            truth: None,
            metric: Metric::Cosine,
            index: "RABITQ_GRAPH,rounds=1".parse().unwrap(),
            k: 5,
            threads: 2,
            build_threads: Some(1),
            sweep: vec![20, 100],
            plot: Some(plot.clone()),
            interactive: false,
        };
        run(&options, Some(&json)).unwrap();
        let outcome: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
        assert_eq!((outcome["rows"].as_u64(), outcome["points"][1]["queries"].as_u64()), (Some(600), Some(100)));
        assert!(outcome["points"][1]["recall"].as_f64().unwrap() > 0.95);
        assert!(std::fs::read_to_string(plot).unwrap().starts_with("<svg"));
    }
}
