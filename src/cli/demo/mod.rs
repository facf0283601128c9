//! `shoal demo`: a real server on a temporary directory, a real data set, and a tour of what it does.
//! Start at `tour.rs`. A client of the server like any other: it starts the binary and speaks gRPC.

pub(super) mod data;
mod tour;

use std::process::ExitCode;

use crate::types::{Error, Result};

/// Searcher processes of the demo's server.
const SEARCHERS: usize = 4;

/// Runs the tour; afterwards the server stays until Ctrl-C, unless `exits` is set.
///
/// # Errors
/// When the server does not start or answers otherwise than it must.
pub(super) fn run(exits: bool) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::io("start the client's runtime", &error))?;
    runtime.block_on(tour::run(exits))?;
    Ok(ExitCode::SUCCESS)
}
