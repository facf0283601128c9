//! Measures ShoalDB: real servers, real reader processes, one question per command.

use std::process::ExitCode;

fn main() -> ExitCode {
    shoaldb::cli::bench::run()
}
