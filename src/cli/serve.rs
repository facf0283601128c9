//! `shoal serve`.

use std::path::Path;
use std::process::ExitCode;

use crate::config::{Options, ServerConfig};
use crate::supervisor::{self, Roles};
use crate::sys::process;
use crate::types::Result;
use crate::{builder, gateway, observe, searcher, shm, writer};

/// Serves until a signal; also returns in every forked child, with its exit code.
pub(super) fn run(data_dir: &Path, file: Option<&Path>, flags: &Options) -> Result<ExitCode> {
    process::close_inherited();
    let load = || -> Result<ServerConfig> {
        let from_file = file.map(Options::read).transpose()?.unwrap_or_default();
        flags.clone().or(from_file).resolve()
    };
    let config = load()?;
    observe::init(config.log_format, "supervisor");
    let roles = Roles {
        writer: writer::run,
        builder: builder::run,
        searcher: searcher::run,
        gateway: gateway::run,
        create_blocks: shm::readers::create_block,
        remove_blocks: shm::readers::remove_block,
    };
    supervisor::run(data_dir, config, roles, &load)
}
