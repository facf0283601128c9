//! The command line: what `shoal` understands, and how errors become exit codes. Start at `Command`.
//! Each command has a file of its own. Uses every folder below; `println!` belongs here and nowhere else.

pub mod bench;
mod demo;
mod doctor;
mod gc;
mod requests;
mod serve;
mod status;
mod stop;
mod temporary_server;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config::{Options, exit};
use crate::types::{Error, ErrorKind, Result};

/// A vector database for one machine: one writer, many reader processes, one copy of the data in shared memory. It speaks
/// the Milvus protocol: point pymilvus at it.
#[derive(Debug, Parser)]
#[command(name = "shoal", version, max_term_width = 110, after_help = EXIT_CODES)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done, 1 failed, 2 bad configuration or usage, 3 directory in use, 4 disk full, \
5 corrupt data, 70 bug.\nSHOAL_LOG filters log lines (error, warn, info, debug, shoaldb::writer=trace).";

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a data directory until SIGTERM or SIGINT; it is made when it is missing
    ///
    /// Prints one line with the addresses, the data directory and the process ids once every process is ready; logs go to
    /// stderr. SIGTERM or SIGINT drains: requests end, rows are flushed, shared memory is removed. A second one kills; what
    /// was acknowledged is in the log and is there at the next start. SIGHUP reads --config again.
    Serve {
        /// Where the data is kept
        data_dir: PathBuf,
        /// TOML file with the options below as keys (`shm_dir = "/dev/shm"`); flags win over it
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Show what ShoalDB does: a server on a temporary directory, 20,000 word vectors, a tour
    Demo {
        /// End after the tour instead of waiting for Ctrl-C
        #[arg(long)]
        yes_exit: bool,
    },
    /// Show the processes, collections, log and buffer of a running server
    Status {
        /// The data directory it serves
        data_dir: PathBuf,
        /// As one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Stop the server of a data directory and wait until it has flushed and ended
    Stop {
        /// The data directory it serves
        data_dir: PathBuf,
        /// How long to wait
        #[arg(long, value_name = "TIME", default_value = "120s")]
        timeout: crate::config::units::Span,
    },
    /// Remove what servers that are gone left in shared memory; running servers are not touched
    Gc {
        /// Where servers keep their shared memory (their --shm-dir)
        #[arg(long, value_name = "DIR", default_value = "/dev/shm")]
        shm_dir: PathBuf,
    },
    /// Check every file of a data directory against its checksum and the catalog; exits with 5 when something is damaged
    ///
    /// Reads only. Works on a stopped server's directory and on a running one's; there, files made or merged away meanwhile
    /// are looked at again before they are reported.
    Doctor {
        /// The data directory
        data_dir: PathBuf,
    },
}

/// Runs the program: parses the arguments, does the command, prints one error, and returns the exit code.
pub fn run() -> ExitCode {
    // Usage errors end here, with clap's own code, which is 2 like ours.
    let line = CommandLine::parse();
    let outcome = match line.command {
        Command::Serve { data_dir, config, options } => serve::run(&data_dir, config.as_deref(), &options),
        Command::Demo { yes_exit } => demo::run(yes_exit),
        Command::Status { data_dir, json } => status::run(&data_dir, json),
        Command::Stop { data_dir, timeout } => stop::run(&data_dir, timeout.0),
        Command::Gc { shm_dir } => gc::run(&shm_dir),
        Command::Doctor { data_dir } => doctor::run(&data_dir),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("shoal: {error}");
        ExitCode::from(exit::code(&error))
    })
}

/// What the running server of a data directory wrote about itself.
fn read_instance(data_dir: &std::path::Path) -> Result<crate::config::Instance> {
    let shown = data_dir.display();
    let canonical =
        data_dir.canonicalize().map_err(|error| Error::io(format_args!("open data directory {shown}"), &error))?;
    let path = canonical.join("run").join("instance.json");
    let bytes = std::fs::read(&path).map_err(|_| no_server(data_dir))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| Error::new(ErrorKind::Corrupt, format!("cannot read {}: {error}", path.display())))
}

fn no_server(data_dir: &std::path::Path) -> Error {
    let shown = data_dir.display();
    Error::new(ErrorKind::Unavailable, format!("no server runs on {shown}: start one with `shoal serve {shown}`"))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_flag_of_serve_has_its_key_in_the_file() {
        let command = CommandLine::command();
        let serve = command.find_subcommand("serve").unwrap();
        let flags = serve.get_arguments().filter_map(|argument| argument.get_long()).filter(|flag| *flag != "config");
        let mut flags: Vec<String> = flags.map(|flag| flag.replace('-', "_")).collect();
        let mut keys: Vec<String> = Options::KEYS.iter().map(|key| (*key).to_owned()).collect();
        flags.sort();
        keys.sort();
        assert_eq!(flags, keys);
    }

    #[test]
    fn flags_are_read_as_written() {
        let arguments =
            "shoal serve d --searchers 2 --listen 127.0.0.1:0 --listen unix:s --shm-bytes-max 1g --durability os";
        let line = CommandLine::try_parse_from(arguments.split(' ')).unwrap();
        let Command::Serve { options, .. } = line.command else { panic!("not serve") };
        let config = options.resolve().unwrap();
        assert_eq!((config.searchers, config.shm_bytes_max), (2, Some(1 << 30)));
        assert_eq!(config.listen, ["127.0.0.1:0", "unix:s"]);
        assert!(CommandLine::try_parse_from(["shoal", "serve", "d", "--shm-bytes-max", "much"]).is_err());
    }
}
