//! `shoal-bench ann`: how many queries a second at which recall, on vectors of a file, through an attached reader?
//! Start at `run`. Queries are not in the index, and a setting of the search parameter gets queries that no other got while there
//! are enough: repeated ones find their way warm in the caches.

mod clusters;
mod filtered;
mod inputs;
mod outcome;
mod plot;
mod processes;
mod subject;
mod sweep;
mod truth;
mod vectors;
mod while_building;

use std::io::BufRead;
use std::ops::Range;
use std::path::{Path, PathBuf};

use self::inputs::Inputs;
use self::outcome::Outcome;
use self::subject::{IndexName, Subject};
use self::sweep::{Filter, Searches};
use super::Bench;
use crate::types::{DataType, Error, Metric, Result};

/// Recalls that indexes are compared at.
const COMPARED_RECALLS: [f64; 3] = [0.9, 0.95, 0.99];
/// Searches beside others are made at the first setting that reaches it.
const USUAL_RECALL: f64 = 0.95;
/// Fewer queries than this say too little about a recall: settings share queries then.
const POINT_QUERIES_MIN: usize = 200;
/// Settings of the search parameter when none are given.
const SWEEP: [usize; 14] = [10, 14, 20, 28, 40, 56, 80, 112, 160, 224, 320, 448, 640, 896];

/// What to measure.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Vectors to search: .npy (f32, f16), .fvecs, .bvecs or IDX, also packed with gzip; HDF5 of ann-benchmarks in a build with the
    /// feature hdf5; or clusters:ROWSxDIM, which are made
    #[arg(long, value_name = "FILE", required_unless_present = "attach")]
    base: Option<PathBuf>,
    /// Vectors to search for, in a file like the base; without it, the last ones of the base, which are then not in the index
    #[arg(long, value_name = "FILE")]
    queries: Option<PathBuf>,
    /// How many queries at most
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    query_count: usize,
    /// How many rows of the base at most
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// The true nearest rows of each query (.ivecs, .npy, HDF5); without it they are computed
    #[arg(long, value_name = "FILE")]
    truth: Option<PathBuf>,
    /// l2, ip or cosine; HDF5 that names another one is refused
    #[arg(long, default_value = "l2", value_parser = metric)]
    metric: Metric,
    /// The index to build (RABITQ_GRAPH, HNSW, HNSW_SQ, IVF_FLAT, IVF_SQ8, FLAT, AUTOINDEX), with its parameters
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
    /// Settings of the search parameter: ef, or nprobe of inverted lists
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_values_t = SWEEP)]
    sweep: Vec<usize>,
    /// Also let this many attached processes search at once
    #[arg(long, value_name = "N")]
    processes: Option<usize>,
    /// Also search with filters that these shares of the rows pass
    #[arg(long, value_name = "SHARE,...", value_delimiter = ',')]
    filter_share: Vec<f64>,
    /// Also search while the builder builds another index over the same vectors
    #[arg(long)]
    while_building: bool,
    /// Draw recall against queries per second into this file (SVG)
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Build, then measure what lines of input ask for ("parameter first-query query-count"); one line of JSON each
    #[arg(long, hide = true)]
    interactive: bool,
    /// Search the server of this data directory, which `ann` made
    #[arg(long, hide = true, requires = "interactive")]
    attach: Option<PathBuf>,
}

fn metric(name: &str) -> std::result::Result<Metric, String> {
    Metric::from_name(name)
        .filter(|metric| Metric::of_type(DataType::FloatVector).contains(metric))
        .ok_or_else(|| "expected l2, ip or cosine".to_owned())
}

/// Measures, prints, writes.
pub(super) fn run(bench: &Bench, options: &Options, json: Option<&Path>) -> Result<()> {
    let counts = [options.processes, options.rows, options.build_threads].into_iter().flatten();
    let counts = counts.chain([options.k, options.threads, options.query_count]);
    if counts.chain(options.sweep.iter().copied()).any(|count| count == 0) {
        return Err(Error::invalid("counts and the values of --sweep must be at least 1"));
    }
    [json, options.plot.as_deref()].into_iter().flatten().try_for_each(check_can_be_written)?;
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let build_threads = options.build_threads.unwrap_or(cores);
    let (inputs, subject) = match &options.attach {
        Some(data_dir) => {
            let inputs = Inputs::of_searcher(options)?;
            let subject = Subject::attach(data_dir, &options.index, options.metric, inputs.queries.dim)?;
            (inputs, subject)
        }
        None => {
            let inputs = Inputs::load(options)?;
            let subject = Subject::build(bench, &options.index, options.metric, &inputs.base, build_threads)?;
            (inputs, subject)
        }
    };
    let mut outcome = Outcome {
        index: options.index.name.clone(),
        parameters: options.index.parameters.clone(),
        metric: options.metric.name(),
        rows: inputs.base.rows(),
        dim: inputs.base.dim,
        k: options.k,
        threads: options.threads,
        build_threads,
        built: subject.built.clone(),
        search_parameter: subject.search_parameter,
        points: Vec::new(),
        qps_at_recall: Vec::new(),
        filtered: Vec::new(),
        together: None,
        while_building: None,
    };
    let searches =
        Searches { subject: &subject, queries: &inputs.queries, truth: &inputs.truth, filter: Filter::Same("") };
    if options.interactive {
        return answer_lines(&searches, &outcome, options.threads);
    }
    measure(options, &searches, &inputs, &mut outcome)?;
    outcome.print();
    outcome.write(json, options.plot.as_deref())
}

/// An index may take minutes to build: what cannot be written is said before.
fn check_can_be_written(path: &Path) -> Result<()> {
    match path.parent().filter(|dir| !dir.as_os_str().is_empty() && !dir.is_dir()) {
        Some(dir) => Err(Error::invalid(format!("cannot write {}: {} is no directory", path.display(), dir.display()))),
        None => Ok(()),
    }
}

fn measure(options: &Options, searches: &Searches<'_>, inputs: &Inputs, outcome: &mut Outcome) -> Result<()> {
    let subject = searches.subject;
    let settings = if subject.search_parameter.is_some() { &options.sweep[..] } else { &[1] };
    outcome.points = searches.sweep(settings, options.threads)?;
    outcome.qps_at_recall =
        COMPARED_RECALLS.into_iter().map(|recall| (recall, sweep::qps_at(&outcome.points, recall))).collect();
    let enough = outcome.points.iter().find(|point| point.recall >= USUAL_RECALL).or(outcome.points.last());
    let parameter = enough.map_or(1, |point| point.parameter);
    for share in &options.filter_share {
        outcome.filtered.push(filtered::measure(options, subject, inputs, *share, &outcome.points)?);
    }
    if options.processes.is_some() {
        outcome.together = Some(processes::measure(options, subject, inputs, parameter)?);
    }
    if options.while_building {
        outcome.while_building = Some(while_building::measure(options, searches, inputs, parameter)?);
    }
    Ok(())
}

/// For a program that measures others in turn with this one.
fn answer_lines(searches: &Searches<'_>, outcome: &Outcome, threads: usize) -> Result<()> {
    let json = |text: serde_json::Result<String>| text.map_err(|error| Error::internal(error.to_string()));
    println!("{}", json(serde_json::to_string(outcome))?);
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Error::io("read a line of input", &error))?;
        let words: Vec<usize> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [parameter, first, count] = words[..] else {
            return Err(Error::invalid(format!("expected \"parameter first-query query-count\", not {line:?}")));
        };
        let end = first.saturating_add(count);
        if count == 0 || end > searches.queries.rows() {
            return Err(Error::invalid(format!("there are {} queries, not {end}", searches.queries.rows())));
        }
        println!("{}", json(serde_json::to_string(&searches.measure(parameter, first..end, threads)?))?);
    }
    Ok(())
}

/// Each setting has queries of its own when there are enough.
fn share(query_count: usize, settings: usize, index: usize) -> Range<usize> {
    let each = query_count / settings;
    if each < POINT_QUERIES_MIN { 0..query_count } else { index * each..(index + 1) * each }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_have_queries_of_their_own_when_there_are_enough() {
        assert_eq!([share(1000, 4, 0), share(1000, 4, 3)], [0..250, 750..1000]);
        assert_eq!(share(100, 4, 2), 0..100);
    }
}
