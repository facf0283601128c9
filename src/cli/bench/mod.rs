//! `shoal-bench`: measures real servers with real reader processes. Each command answers one question and prints a table.
//! Start at `Command`. Data and seed are fixed, variants take turns, a number is the median of its repeats.

mod ann;
mod data;
mod insert;
mod load;
mod memory;
mod overhead;
mod pool;
mod report;
mod requests;
mod search;
mod visible;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::report::Report;
use super::temporary_server::TemporaryServer;
use crate::types::{Error, Result};

/// Measures ShoalDB on this machine. The `shoal` program must lie next to this one.
#[derive(Debug, Parser)]
#[command(name = "shoal-bench", version, max_term_width = 110)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
    /// Also write the tables as JSON to this file
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the servers' data directories are made, and removed
    #[arg(long, global = true, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// How often each measurement is repeated; its median is shown [default: 3; not of `ann`]
    #[arg(long, global = true, value_name = "N")]
    repeats: Option<usize>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// How many rows per second are inserted, in batches of 1, 100 and 10,000 from 1 and 4 clients?
    Insert {
        /// When the server acknowledges: `fsync` or `os`
        #[arg(long, default_value = "fsync")]
        durability: String,
    },
    /// How many searches per second are answered through attach, slot pool and gRPC, with 1, 2, 4 and 8 readers?
    Search {
        /// How long one measurement takes
        #[arg(long, value_name = "SECONDS", default_value_t = 1.0)]
        seconds: f64,
    },
    /// How long after its acknowledgement is a row visible in another process?
    Visible {
        /// Rows whose way is timed
        #[arg(long, value_name = "N", default_value_t = 5_000)]
        rows: usize,
    },
    /// What do the gateway and the slot pool add to a request?
    Overhead,
    /// How many searches per second at which recall, on vectors of a file?
    Ann(Box<ann::Options>),
    /// What the benches start this program again as
    #[command(hide = true)]
    Worker(worker::Options),
}

/// How often a measurement is repeated.
const REPEATS: usize = 3;

/// What every bench needs.
struct Bench {
    program: PathBuf,
    dir: PathBuf,
    repeats: usize,
}

impl Bench {
    /// Starts a server of its own.
    fn server(&self, options: &[&str]) -> Result<TemporaryServer> {
        TemporaryServer::start(&self.program, &self.dir, "bench", options)
    }
}

/// Runs the program.
pub fn run() -> ExitCode {
    let line = CommandLine::parse();
    let outcome = match &line.command {
        Command::Worker(options) => worker::run(options),
        command => measure(command, &line),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("shoal-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(command: &Command, line: &CommandLine) -> Result<()> {
    let own = std::env::current_exe().map_err(|error| Error::io("find this program", &error))?;
    let program = own.parent().unwrap_or(Path::new(".")).join("shoal");
    let dir = line.dir.clone().unwrap_or_else(std::env::temp_dir);
    let bench = Bench { program, dir, repeats: line.repeats.unwrap_or(REPEATS).max(1) };
    let mut report = Report::default();
    match command {
        Command::Insert { durability } => insert::run(&bench, durability, &mut report)?,
        Command::Search { seconds } => search::run(&bench, *seconds, &mut report)?,
        Command::Visible { rows } => visible::run(&bench, *rows, &mut report)?,
        Command::Overhead => overhead::run(&bench, &mut report)?,
        Command::Ann(_) if line.repeats.is_some() => {
            return Err(Error::invalid("ann sends each query once: --repeats is for the other commands"));
        }
        Command::Ann(options) => return ann::run(&bench, options, line.json.as_deref()),
        Command::Worker(_) => {}
    }
    match &line.json {
        Some(path) => report.write(path),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::CommandLine::command().debug_assert();
    }
}
