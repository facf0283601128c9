//! Fail points: named places where a test makes a process die, wait or fail. They work across processes because an
//! environment variable drives them, and cost one atomic load where it is unset.
//!
//! `SHOAL_FAILPOINTS="name=kill;other=delay(50);third=error:after 3"`: a point lets its first N hits of this process pass
//! (`after N`), then acts at every hit.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The environment variable.
pub const VARIABLE: &str = "SHOAL_FAILPOINTS";

/// What a point does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Action {
    /// SIGKILL to this process: nothing is flushed, nothing unwinds.
    Kill,
    /// Waits.
    Delay(Duration),
    /// The caller gets an I/O error.
    Error,
}

#[derive(Debug)]
struct Point {
    name: String,
    action: Action,
    after: u64,
    hits: AtomicU64,
}

static POINTS: OnceLock<Vec<Point>> = OnceLock::new();

/// Passes a place by name: `fail_point!("flush.before_rename")?`. The error is an [`io::Error`].
#[macro_export]
macro_rules! fail_point {
    ($name:literal) => {
        $crate::sys::failpoint::hit($name)
    };
}

/// Passes the place `name`. See [`fail_point!`](crate::fail_point).
///
/// # Errors
/// When the variable says so.
pub fn hit(name: &str) -> io::Result<()> {
    let points = POINTS.get_or_init(|| std::env::var(VARIABLE).map(|text| read(&text)).unwrap_or_default());
    if points.is_empty() {
        return Ok(());
    }
    act(points, name)
}

#[cold]
fn act(points: &[Point], name: &str) -> io::Result<()> {
    let Some(point) = points.iter().find(|point| point.name == name) else { return Ok(()) };
    if point.hits.fetch_add(1, Ordering::Relaxed) < point.after {
        return Ok(());
    }
    match point.action {
        Action::Kill => {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            Err(io::Error::other(format!("fail point {name}: the kill did not arrive")))
        }
        Action::Delay(time) => {
            std::thread::sleep(time);
            Ok(())
        }
        Action::Error => Err(io::Error::other(format!("fail point {name}"))),
    }
}

/// Entries that make no sense are said on stderr and left out: the variable is for tests, a typing error must be seen.
fn read(text: &str) -> Vec<Point> {
    let mut points = Vec::new();
    for entry in text.split(';').map(str::trim).filter(|entry| !entry.is_empty()) {
        match read_point(entry) {
            Some(point) => points.push(point),
            None => tracing::error!("{VARIABLE}: cannot read `{entry}`; write name=kill|delay(ms)|error[:after N]"),
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
        "error" => Action::Error,
        other => {
            let ms = other.strip_prefix("delay(")?.strip_suffix(')')?;
            Action::Delay(Duration::from_millis(ms.trim().parse().ok()?))
        }
    };
    Some(Point { name: name.trim().to_owned(), action, after, hits: AtomicU64::new(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_lets_its_first_hits_pass() {
        let points = read("a=error:after 2; b=delay(1)");
        let outcomes: Vec<bool> = (0..4).map(|_| act(&points, "a").is_ok()).collect();
        assert_eq!(outcomes, [true, true, false, false]);
        assert!(act(&points, "b").is_ok() && act(&points, "unknown").is_ok());
    }

    #[test]
    fn entries_are_read_or_refused() {
        assert_eq!(read_point("x=kill").map(|point| point.action), Some(Action::Kill));
        assert_eq!(read_point("x=delay( 7 )").map(|point| point.action), Some(Action::Delay(Duration::from_millis(7))));
        for wrong in ["x", "x=die", "x=delay(a)", "x=kill:soon", "x=kill:after many"] {
            assert!(read_point(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn an_unset_variable_means_no_points() {
        assert!(hit("anything").is_ok());
    }
}
