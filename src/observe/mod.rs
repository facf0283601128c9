//! Logs: lines on stderr that carry the role of the process that wrote them. Start at `init`. Uses `config`.

mod lines;

use std::io::IsTerminal;
use std::sync::{PoisonError, RwLock};

use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;
use lines::Lines;

/// The environment variable that filters log lines, in `tracing`'s directives (`debug`, `shoaldb::writer=trace`).
pub const FILTER_VARIABLE: &str = "SHOAL_LOG";

/// Who writes: a name, and a number when there are several of it. A forked child changes its own copy.
static ROLE: RwLock<String> = RwLock::new(String::new());

/// Starts logging to stderr; later calls change nothing. The default is `info`.
pub fn init(format: LogFormat, role: &str) {
    set_role(role);
    let filter = EnvFilter::try_from_env(FILTER_VARIABLE).unwrap_or_else(|_| EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .event_format(Lines { format })
        .try_init();
}

/// Names this process in its log lines from now on: `writer`, `searcher 3`.
pub fn set_role(role: &str) {
    role.clone_into(&mut ROLE.write().unwrap_or_else(PoisonError::into_inner));
}

/// The name of this process in its log lines.
fn with_role<T>(use_it: impl FnOnce(&str) -> T) -> T {
    use_it(&ROLE.read().unwrap_or_else(PoisonError::into_inner))
}
