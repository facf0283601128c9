//! How many queries a second does the quantised graph answer at which recall?
//!
//! One thread, every query once, queries that are not in the index; recall@10 against an exact scan.
//! `cargo bench --bench graph -- data=FILE [metric=cosine] [rows=N] [queries=N] [threads=2] [bits=N] [ef=N] [rounds=N] [trees=N]`
//! `[alpha=X] [rerank=0] [repeats=N] [truth=FILE]`; FILE is .npy (f32, two-dimensional) or IDX (gz); its last rows are the queries,
//! or `query-data=FILE` holds them. `truth=FILE` writes the true rows as raw u32 for other programs to be measured with.
#![allow(missing_docs, reason = "a bench has no readers of its documentation")]

use std::collections::HashMap;
use std::process::Command;
use std::str::FromStr;
use std::time::Instant;

use memmap2::{Advice, MmapMut};
use shoaldb::index::flat::scan;
use shoaldb::index::graph::{BuildParameters, Builder, Graph, Scratch, SearchParameters};
use shoaldb::index::{Queries, TopK, VectorColumn};
use shoaldb::kernel::VectorRows;
use shoaldb::types::Metric;

const TOP_K: usize = 10;
const EFS: [usize; 17] = [10, 12, 14, 16, 20, 24, 28, 32, 40, 50, 60, 80, 100, 140, 200, 300, 400];

type Failure = Box<dyn std::error::Error>;

struct Arguments(HashMap<String, String>);

impl Arguments {
    fn get<T: FromStr>(&self, name: &str, default: T) -> T {
        self.0.get(name).and_then(|value| value.parse().ok()).unwrap_or(default)
    }
}

/// Rows of `dim` values.
struct Vectors {
    dim: usize,
    values: Vec<f32>,
}

fn main() -> Result<(), Failure> {
    let arguments = std::env::args()
        .filter_map(|argument| argument.split_once('=').map(|(name, value)| (name.to_string(), value.to_string())));
    let arguments = Arguments(arguments.collect());
    let mut base = load(&arguments.get("data", String::new()))?;
    let dim = base.dim;
    let query_count = arguments.get("queries", 1000);
    let queries = match arguments.0.get("query-data") {
        Some(file) => load(file)?.values[..query_count * dim].to_vec(),
        None => base.values.split_off(base.values.len() - query_count * dim),
    };
    base.values.truncate(arguments.get("rows", usize::MAX).saturating_mul(dim));
    let metric = match arguments.get("metric", "l2".to_string()).as_str() {
        "cosine" => Metric::Cosine,
        "ip" => Metric::Ip,
        _ => Metric::L2,
    };
    let truth = truth(metric, &base, &queries);
    if let Some(file) = arguments.0.get("truth") {
        std::fs::write(file, truth.iter().flatten().flat_map(|row| row.to_le_bytes()).collect::<Vec<u8>>())?;
    }
    let image = build(&arguments, metric, &base)?;
    let graph = Graph::open(&image)?;
    let mut source = MmapMut::map_anon(base.values.len() * 4)?;
    let _ = source.advise(Advice::HugePage);
    source.copy_from_slice(bytemuck::cast_slice(&base.values));
    drop(base);
    println!("{:>5} {:>8} {:>10} {:>8} {:>8}", "ef", "recall", "QPS", "us", "visited");
    let source = (arguments.get("rerank", 1) != 0).then_some(VectorRows::of_f32(&source, dim));
    for ef in EFS.into_iter().filter(|ef| arguments.get("only", *ef) == *ef) {
        measure(&graph, ef, &queries, source, &truth, arguments.get("repeats", 3))?;
    }
    Ok(())
}

/// The best of `repeats` passes: what the neighbours of this machine leave.
fn measure(
    graph: &Graph<'_>,
    ef: usize,
    queries: &[f32],
    source: Option<VectorRows<'_>>,
    truth: &[Vec<u32>],
    repeats: usize,
) -> Result<(), Failure> {
    let parameters = SearchParameters { k: TOP_K, ef, filter: None, source, file_index: 0 };
    let mut scratch = Scratch::new();
    let (mut best, mut found, mut visited) = (f64::INFINITY, 0, 0);
    for _ in 0..repeats {
        (found, visited) = (0, 0);
        let mut answers = Vec::with_capacity(truth.len());
        let start = Instant::now();
        for query in queries.chunks_exact(graph.dim()) {
            let mut top = TopK::new(TOP_K);
            graph.search(query, parameters, &mut scratch, &mut top)?;
            visited += scratch.visited_count;
            answers.push(top.into_sorted());
        }
        best = best.min(start.elapsed().as_secs_f64());
        for (answer, truth) in answers.iter().zip(truth) {
            found += answer.iter().filter(|hit| truth.contains(&hit.row)).count();
        }
    }
    let count = truth.len() as f64;
    println!(
        "{ef:>5} {:>8.4} {:>10.0} {:>8.1} {:>8.1}",
        found as f64 / (count * TOP_K as f64),
        count / best,
        best / count * 1e6,
        visited as f64 / count
    );
    Ok(())
}

fn build(arguments: &Arguments, metric: Metric, base: &Vectors) -> Result<MmapMut, Failure> {
    let standard = BuildParameters::new(metric, base.dim);
    let parameters = BuildParameters {
        code_bits: arguments.get("bits", standard.code_bits),
        ef_construction: arguments.get("ef", standard.ef_construction),
        rounds: arguments.get("rounds", standard.rounds),
        trees: arguments.get("trees", standard.trees),
        alpha: arguments.get("alpha", standard.alpha),
        threads: arguments.get("threads", 2),
        ..standard
    };
    let start = Instant::now();
    let stage = std::sync::Mutex::new(None);
    let report = |progress: shoaldb::index::graph::Progress| {
        if let Ok(mut stage) = stage.lock()
            && stage.replace(progress.stage) != Some(progress.stage)
        {
            println!("  {:>6.1} s {:?}", start.elapsed().as_secs_f64(), progress.stage);
        }
    };
    let builder = Builder::new(parameters, &base.values, &report)?;
    let mut image = MmapMut::map_anon(builder.image_bytes().ok_or("too large")?)?;
    let _ = image.advise(Advice::HugePage);
    builder.build(&mut image)?;
    let rows = base.values.len() / base.dim;
    println!(
        "{rows} x {}, {}: built in {:.1} s; {} MB, {} bytes a vector",
        base.dim,
        metric.name(),
        start.elapsed().as_secs_f64(),
        image.len() / 1_000_000,
        image.len() / rows
    );
    Ok(image)
}

fn truth(metric: Metric, base: &Vectors, queries: &[f32]) -> Vec<Vec<u32>> {
    let queries = Queries::dense(base.dim, metric, queries.to_vec());
    let mut tops = vec![TopK::new(TOP_K); queries.count()];
    let rows = base.values.len() / base.dim;
    let column = VectorColumn::of_f32(bytemuck::cast_slice(&base.values), base.dim);
    scan(&queries, column, 0..rows, None, None, 0, &mut tops);
    tops.into_iter().map(|top| top.into_sorted().iter().map(|hit| hit.row).collect()).collect()
}

fn load(file: &str) -> Result<Vectors, Failure> {
    let bytes = if file.ends_with(".gz") {
        Command::new("gzip").args(["-dc", file]).output()?.stdout
    } else {
        std::fs::read(file)?
    };
    if bytes.starts_with(b"\x93NUMPY") { from_npy(&bytes) } else { from_idx(&bytes) }
}

fn from_npy(bytes: &[u8]) -> Result<Vectors, Failure> {
    let header_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let header = std::str::from_utf8(&bytes[10..10 + header_len])?;
    if !header.contains("'<f4'") {
        return Err("only little-endian f32".into());
    }
    let shape = header.split_once("'shape': (").and_then(|(_, rest)| rest.split_once(')')).ok_or("no shape")?.0;
    let dim = shape.split(',').nth(1).ok_or("not two-dimensional")?.trim().parse()?;
    let stored = bytes[10 + header_len..].as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
    let mut values: Vec<f32> = stored.collect();
    if header.contains("'fortran_order': True") {
        let rows = values.len() / dim;
        values = (0..rows * dim).map(|at| values[at % dim * rows + at / dim]).collect();
    }
    Ok(Vectors { dim, values })
}

fn from_idx(bytes: &[u8]) -> Result<Vectors, Failure> {
    let lengths: Vec<usize> = bytes
        .get(4..4 + 4 * usize::from(*bytes.get(3).ok_or("empty")?))
        .ok_or("too short")?
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| u32::from_be_bytes(*bytes) as usize)
        .collect();
    let values = bytes[4 + 4 * lengths.len()..].iter().map(|byte| f32::from(*byte)).collect();
    Ok(Vectors { dim: lengths[1..].iter().product(), values })
}
