//! Several attached processes that search at once: this program again, each with queries of its own.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use serde::Serialize;

use super::inputs::Inputs;
use super::subject::Subject;
use super::{Options, vectors};
use crate::cli::bench::report::{Report, median};
use crate::types::{Error, ErrorKind, Result};

/// How often one process and all of them take turns.
const ROUNDS: usize = 5;

/// One process against several.
#[derive(Debug, Serialize)]
pub(super) struct Together {
    /// How many.
    pub processes: usize,
    /// Of the search parameter.
    pub parameter: usize,
    /// Queries per second of one process, searching alone.
    pub qps_alone: f64,
    /// Queries per second of all of them together.
    pub qps_together: f64,
}

/// A process that searches what it is told to.
struct Searcher {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

/// Lets one process and several take turns.
pub(super) fn measure(options: &Options, subject: &Subject, inputs: &Inputs, parameter: usize) -> Result<Together> {
    let processes = options.processes.unwrap_or(1);
    // Of the server's directory, which goes with it.
    let queries = subject.data_dir().with_file_name("queries.fvecs");
    let truth = subject.data_dir().with_file_name("truth.ivecs");
    vectors::store(&queries, &inputs.queries)?;
    vectors::store(&truth, &inputs.truth)?;
    let mut command = Command::new(std::env::current_exe().map_err(|error| Error::io("find this program", &error))?);
    command.args(["ann", "--interactive", "--metric", options.metric.name(), "--k", &options.k.to_string()]);
    command.args(["--index", &options.index.to_string(), "--query-count", &options.query_count.to_string()]);
    command.arg("--attach").arg(subject.data_dir()).arg("--queries").arg(&queries).arg("--truth").arg(&truth);
    let searchers: Result<Vec<Searcher>> = (0..processes).map(|_| Searcher::start(&mut command)).collect();
    let mut searchers = searchers?;
    // Everyone's queries are its own, in every round.
    let each = inputs.queries.rows() / (ROUNDS * (processes + 1));
    if each == 0 {
        return Err(Error::invalid(format!("there are too few queries for {processes} processes")));
    }
    let (mut alone, mut together) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let first = round * (processes + 1) * each;
        alone.push(run(&mut searchers[..1], parameter, first, each)?);
        together.push(run(&mut searchers, parameter, first + each, each)?);
    }
    Ok(Together { processes, parameter, qps_alone: median(alone), qps_together: median(together) })
}

/// Queries per second of some processes that search at once.
fn run(searchers: &mut [Searcher], parameter: usize, first: usize, each: usize) -> Result<f64> {
    let started = Instant::now();
    for (place, searcher) in searchers.iter_mut().enumerate() {
        searcher.ask(&format!("{parameter} {} {each}\n", first + place * each))?;
    }
    for searcher in searchers.iter_mut() {
        searcher.answer()?;
    }
    Ok((searchers.len() * each) as f64 / started.elapsed().as_secs_f64())
}

impl Together {
    /// Prints a table.
    pub fn print(&self) {
        let row = |processes: usize, qps: f64| {
            vec![processes.to_string(), format!("{qps:.0}"), format!("{:.2}", qps / self.qps_alone)]
        };
        let rows = vec![row(1, self.qps_alone), row(self.processes, self.qps_together)];
        let title = format!("attached processes that search at once, search parameter {}", self.parameter);
        Report::default().add(&title, &["processes", "queries/s", "of one"], rows);
    }
}

impl Searcher {
    /// Starts one and waits until it is prepared.
    fn start(command: &mut Command) -> Result<Searcher> {
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| Error::io("start a process that searches", &error))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::internal("a process that searches has no pipes"));
        };
        let mut searcher = Searcher { child, stdin: Some(stdin), stdout: BufReader::new(stdout) };
        searcher.answer()?;
        Ok(searcher)
    }

    fn ask(&mut self, line: &str) -> Result<()> {
        let Some(stdin) = &mut self.stdin else { return Ok(()) };
        stdin.write_all(line.as_bytes()).map_err(|error| Error::io("tell a process to search", &error))
    }

    fn answer(&mut self) -> Result<()> {
        let mut line = String::new();
        match self.stdout.read_line(&mut line) {
            Ok(0) => Err(Error::new(ErrorKind::Unavailable, "a process that searches ended; its message is above")),
            Ok(_) => Ok(()),
            Err(error) => Err(Error::io("read from a process that searches", &error)),
        }
    }
}

impl Drop for Searcher {
    fn drop(&mut self) {
        // It ends when its input does.
        self.stdin = None;
        let _ = self.child.wait();
    }
}
