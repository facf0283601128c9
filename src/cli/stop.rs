//! `shoal stop`: SIGTERM to the holder of the lock, then wait until the kernel has released it.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::no_server;
use crate::sys::{lock, process};
use crate::types::{Error, ErrorKind, Result};

/// How often the lock is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Stops the server of a data directory.
pub(super) fn run(data_dir: &Path, timeout: Duration) -> Result<ExitCode> {
    let path = data_dir.join("LOCK");
    let holder = || lock::holder(&path).map_err(|error| Error::io(format_args!("read {}", path.display()), &error));
    let owner = holder()?.ok_or_else(|| no_server(data_dir))?;
    let owner = owner.ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, format!("{} is held, but does not say by whom; try again", path.display()))
    })?;
    process::tell(owner.pid, process::Command::Terminate)
        .map_err(|error| Error::io(format_args!("stop the server, pid {}", owner.pid), &error))?;
    let begun = Instant::now();
    let mut shown = 0;
    while holder()?.is_some() {
        if begun.elapsed() >= timeout {
            return Err(Error::new(
                ErrorKind::Timeout,
                format!("pid {} still drains after {:?}; wait, or `kill -9 {}`", owner.pid, timeout, owner.pid),
            ));
        }
        let seconds = begun.elapsed().as_secs();
        if seconds > shown && std::io::stderr().is_terminal() {
            shown = seconds;
            eprint!("\rshoal: pid {} drains, {seconds} s", owner.pid);
            let _ = std::io::stderr().flush();
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    if shown > 0 {
        eprintln!();
    }
    println!("shoal: stopped pid {} after {} ms", owner.pid, begun.elapsed().as_millis());
    Ok(ExitCode::SUCCESS)
}
