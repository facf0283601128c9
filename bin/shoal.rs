//! The command line of ShoalDB.

use std::process::ExitCode;

fn main() -> ExitCode {
    shoaldb::cli::run()
}
