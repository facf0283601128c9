//! The supervisor: makes what an instance needs, forks the roles, watches and restarts them, drains and cleans up.
//! Start at `watch.rs` (the loop); `ground.rs` has the files, `child.rs` one role's life, `stop.rs` the way out.
//! One thread, always: it forks. It maps no data and parses nothing that comes from clients.
//! Invariant: whatever it made in shared memory and in the run directory, it (or the next start) removes.

mod child;
mod ground;
mod listen;
mod spawn;
mod stop;
mod watch;

use std::path::Path;
use std::process::ExitCode;

use crate::config::{Instance, ServerConfig};
use crate::ipc::control::RoleContext;
use crate::sys::signals::Signals;
use crate::types::{Error, Result};

pub use ground::{OWNER_FILE, ShmOwner, remove_shared};
pub use watch::Supervisor;

/// What the children do, and who makes the blocks of shared memory that the supervisor itself never maps.
#[derive(Clone, Copy)]
pub struct Roles {
    /// Entry of the writer.
    pub writer: fn(RoleContext) -> ExitCode,
    /// Entry of the builder.
    pub builder: fn(RoleContext) -> ExitCode,
    /// Entry of a searcher.
    pub searcher: fn(RoleContext) -> ExitCode,
    /// Entry of the gateway.
    pub gateway: fn(RoleContext) -> ExitCode,
    /// Makes the blocks of the instance (reader slots), before the first fork.
    pub create_blocks: fn(&Instance) -> Result<()>,
    /// Unlinks them; missing ones are fine.
    pub remove_blocks: fn(&Instance),
}

/// Why the supervisor's code is left before the server has stopped.
#[derive(Debug)]
enum Leave {
    /// This is a forked child: its role is all that may follow.
    Child(Box<spawn::ChildStart>),
    /// The server cannot go on.
    Failed(Error),
}

impl From<Error> for Leave {
    fn from(error: Error) -> Leave {
        Leave::Failed(error)
    }
}

/// Serves a data directory until a signal stops the server; also returns in every forked child, once its role is done.
/// Must be called from a process with one thread. `reload` reads the configuration again, for SIGHUP.
///
/// # Errors
/// When the server cannot start: the directory is in use, an address is taken, there is no room.
pub fn run(
    data_dir: &Path,
    config: ServerConfig,
    roles: Roles,
    reload: &dyn Fn() -> Result<ServerConfig>,
) -> Result<ExitCode> {
    // First of all: a signal that ended the process from here on would leave files behind.
    let signals = Signals::install().map_err(|error| Error::io("install signal handlers", &error))?;
    let ground = ground::Ground::take(data_dir, &config, &roles)?;
    let mut supervisor = match Supervisor::new(ground, config, roles, signals) {
        Ok(supervisor) => supervisor,
        Err(failure) => {
            let (ground, error) = *failure;
            ground.clear(&roles);
            return Err(error);
        }
    };
    match supervisor.watch(reload) {
        Ok(code) => {
            supervisor.clear();
            Ok(ExitCode::from(code))
        }
        Err(Leave::Child(start)) => Ok(supervisor.become_role(*start)),
        Err(Leave::Failed(error)) => {
            supervisor.kill_all();
            supervisor.clear();
            Err(error)
        }
    }
}
