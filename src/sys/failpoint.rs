//! Fail points: named places where a test makes a process die, wait or fail. They work across processes because an
//! environment variable drives them, and cost one atomic load where it is unset.
//!
//! `SHOAL_FAILPOINTS="name=kill;other=delay(50);third=error:after 3;fourth=error(28);fifth=hold(/a/file)"`: a point lets its first N hits
//! of this process pass (`after N`), then acts at every hit. A delay shows what a gap between two steps would do; who wants something to
//! happen inside a gap holds the process there, and needs no luck on a slow machine. A name is `<pipeline>.<what was just done>`; all of them are in [`POINTS`], and
//! tests/kill_points.rs kills a server at each.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The environment variable.
pub const VARIABLE: &str = "SHOAL_FAILPOINTS";

/// Pause between two looks at whether a process is still held.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Every point there is. One that is passed and not listed fails, so that no test can miss it.
pub const POINTS: &[&str] = &[
    // An operation: room made and named; its record buffered; in place, beyond the visible timestamp.
    "commit.prepared",
    "commit.logged",
    "commit.applied",
    // A delete by filter: its keys found, its place in the order not yet given.
    "delete.scanned",
    // Its group: the log written, about to be synced (an error here is the disk's), synced; visible; answered.
    "log.written",
    "log.syncing",
    "log.synced",
    "commit.durable",
    "commit.visible",
    "commit.answered",
    "log.segment_started",
    "log.segment_unlinked",
    // Memory to table file.
    "serialise.table_filled",
    "serialise.table_synced",
    "serialise.table_renamed",
    "serialise.table_durable",
    "serialise.deletes_filled",
    "serialise.deletes_synced",
    "serialise.deletes_renamed",
    "serialise.deletes_durable",
    "serialise.written",
    "serialise.meta_changed",
    "serialise.published",
    // Many table files to one.
    "merge.table_filled",
    "merge.table_synced",
    "merge.table_renamed",
    "merge.table_durable",
    "merge.deletes_filled",
    "merge.deletes_synced",
    "merge.deletes_renamed",
    "merge.deletes_durable",
    "merge.written",
    "merge.meta_changed",
    "merge.published",
    // Delete checkpoints, and the log's cut.
    "checkpoint.deletes_filled",
    "checkpoint.deletes_synced",
    "checkpoint.deletes_renamed",
    "checkpoint.deletes_durable",
    "checkpoint.meta_changed",
    "cut.meta_changed",
    "cut.done",
    // What readers see.
    "publish.catalog_written",
    "publish.catalog_stored",
    "publish.manifest_written",
    "publish.manifest_stored",
    "publish.table_copying",
    "publish.table_copied",
    "publish.table_renamed",
    "publish.garbage_named",
    // Definitions.
    "ddl.meta_changed",
    "ddl.done",
    "ddl.catalog_published",
    // A start.
    "recover.swept",
    // An error: as if the files that are checked before the first answer had been checked already.
    "recover.checking",
    "recover.loaded",
    "recover.replayed",
    "recover.manifests_published",
    "recover.visible",
    // An index: begun and finished by the builder; taken over by the writer.
    "builder.started",
    "builder.built",
    "index.file_synced",
    "index.file_renamed",
    "index.file_durable",
    "index.meta_changed",
    "index.published",
    // A piece of a published copy, moved into huge pages.
    "index.moved",
    // Slots of a pool and of the help board.
    "pool.claimed",
    "board.taken",
];

/// What a point does.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Action {
    /// SIGKILL to this process: nothing is flushed, nothing unwinds.
    Kill,
    /// Waits.
    Delay(Duration),
    /// Waits while this file is there, and says so in the log when it begins.
    Hold(PathBuf),
    /// The caller gets an I/O error, with this number of the kernel's if there is one.
    Error(Option<i32>),
}

#[derive(Debug)]
struct Point {
    name: String,
    action: Action,
    after: u64,
    hits: AtomicU64,
}

static SET: OnceLock<Vec<Point>> = OnceLock::new();

/// Passes a place by name: `fail_point!("log.written")?`. The error is an [`io::Error`].
#[macro_export]
macro_rules! fail_point {
    ($name:literal) => {
        $crate::sys::failpoint::hit($name)
    };
}

fn points() -> &'static [Point] {
    SET.get_or_init(|| std::env::var(VARIABLE).map(|text| read(&text)).unwrap_or_default())
}

/// Passes the place `name`. See [`fail_point!`](crate::fail_point).
///
/// # Errors
/// When the variable says so.
pub fn hit(name: &str) -> io::Result<()> {
    let points = points();
    if points.is_empty() {
        return Ok(());
    }
    if !POINTS.contains(&name) {
        tracing::error!("fail point {name} is not listed");
        return Err(io::Error::other(format!("fail point {name} is not listed")));
    }
    act(points, name)
}

/// Passes a place behind which nothing may fail any more: only a kill or a delay happens here.
pub fn reach(name: &str) {
    let _ = hit(name);
}

/// The points of a step that several pipelines take: `<prefix>_<what was just done>`.
#[derive(Clone, Copy, Debug)]
pub struct Steps(pub &'static str);

impl Steps {
    /// Passes the place `<prefix>_<step>`.
    ///
    /// # Errors
    /// When the variable says so.
    pub fn pass(self, step: &str) -> io::Result<()> {
        if points().is_empty() { Ok(()) } else { hit(&format!("{}_{step}", self.0)) }
    }
}

#[cold]
fn act(points: &[Point], name: &str) -> io::Result<()> {
    let Some(point) = points.iter().find(|point| point.name == name) else { return Ok(()) };
    if point.hits.fetch_add(1, Ordering::Relaxed) < point.after {
        return Ok(());
    }
    match &point.action {
        Action::Kill => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            Err(io::Error::other(format!("fail point {name}: the kill did not arrive")))
        }
        Action::Delay(time) => {
            std::thread::sleep(*time);
            Ok(())
        }
        Action::Hold(file) => {
            hold(name, file);
            Ok(())
        }
        Action::Error(None) => Err(io::Error::other(format!("fail point {name}"))),
        Action::Error(Some(number)) => Err(io::Error::from_raw_os_error(*number)),
    }
}

/// A sandboxed process may ask whether a file is there, wherever that is.
fn hold(name: &str, file: &Path) {
    if !file.exists() {
        return;
    }
    tracing::info!("held at fail point {name}");
    while file.exists() {
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Entries that make no sense are said on stderr and left out: the variable is for tests, a typing error must be seen.
fn read(text: &str) -> Vec<Point> {
    let mut points = Vec::new();
    for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
        match read_point(entry) {
            Some(point) if POINTS.contains(&point.name.as_str()) => points.push(point),
            Some(point) => tracing::error!("{VARIABLE}: there is no point `{}`", point.name),
            None => tracing::error!(
                "{VARIABLE}: cannot read `{entry}`; write name=kill|delay(ms)|hold(file)|error|error(errno)[:after N]"
            ),
        }
    }
    points
}

fn read_point(entry: &str) -> Option<Point> {
    let (name, rest) = entry.split_once('=')?;
    let (action, after) = match rest.split_once(':') {
        Some((action, after)) => (action.trim(), after.trim().strip_prefix("after")?.trim().parse().ok()?),
        None => (rest.trim(), 0),
    };
    let action = match action {
        "kill" => Action::Kill,
        "error" => Action::Error(None),
        other => {
            let (verb, argument) = other.strip_suffix(')')?.split_once('(')?;
            let argument = argument.trim();
            match verb {
                "error" => Action::Error(Some(argument.parse().ok()?)),
                "delay" => Action::Delay(Duration::from_millis(argument.parse().ok()?)),
                "hold" => Action::Hold(PathBuf::from(argument)),
                _ => return None,
            }
        }
    };
    Some(Point { name: name.trim().to_owned(), action, after, hits: AtomicU64::new(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_lets_its_first_hits_pass() {
        let points = read("log.written=error:after 2; log.synced=delay(1); unknown=kill");
        let outcomes: Vec<bool> = (0..4).map(|_| act(&points, "log.written").is_ok()).collect();
        assert_eq!(outcomes, [true, true, false, false]);
        assert!(act(&points, "log.synced").is_ok() && act(&points, "unknown").is_ok());
    }

    #[test]
    fn a_process_is_held_while_the_file_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("hold");
        let points = read(&format!("log.synced=hold({})", file.display()));
        assert!(act(&points, "log.synced").is_ok(), "nothing holds it");
        std::fs::write(&file, b"").unwrap();
        std::thread::scope(|scope| {
            let held = scope.spawn(|| act(&points, "log.synced").is_ok());
            for _ in 0..100 {
                assert!(!held.is_finished());
                std::thread::yield_now();
            }
            std::fs::remove_file(&file).unwrap();
            assert!(held.join().unwrap());
        });
    }

    #[test]
    fn entries_are_read_or_refused() {
        assert_eq!(read_point("x=kill").map(|point| point.action), Some(Action::Kill));
        assert_eq!(read_point("x=delay( 7 )").map(|point| point.action), Some(Action::Delay(Duration::from_millis(7))));
        assert_eq!(read_point("x=hold(/a/b)").map(|point| point.action), Some(Action::Hold(PathBuf::from("/a/b"))));
        assert_eq!(read_point("x=error(28)").map(|point| point.action), Some(Action::Error(Some(28))));
        for wrong in ["x", "x=die", "x=delay(a)", "x=kill:soon", "x=kill:after many"] {
            assert!(read_point(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn an_unset_variable_means_no_points() {
        assert!(hit("anything").is_ok() && Steps("serialise.table").pass("filled").is_ok());
    }
}
