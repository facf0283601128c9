//! A server of the demo and the benches: a child, on a directory that goes when it ends.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::sys::process;
use crate::types::{Error, ErrorKind, Result};

/// A running server; dropping it drains it and removes its directory.
pub(super) struct TemporaryServer {
    child: Child,
    home: PathBuf,
    /// Its data directory.
    pub(super) data_dir: PathBuf,
    /// `host:port`.
    pub(super) address: String,
}

impl TemporaryServer {
    /// Starts it on a new directory below `parent` and waits for its first line.
    ///
    /// # Errors
    /// When it does not start; its own messages are on stderr.
    pub(super) fn start(program: &Path, parent: &Path, name: &str, options: &[&str]) -> Result<TemporaryServer> {
        let home = parent.join(format!("shoal-{name}-{}", std::process::id()));
        let data_dir = home.join(name);
        std::fs::create_dir_all(&home).map_err(|error| Error::io(format_args!("make {}", home.display()), &error))?;
        let mut child = Command::new(program)
            .arg("serve")
            .arg(&data_dir)
            .args(["--listen", "127.0.0.1:0"])
            .args(options)
            .env("SHOAL_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| Error::io(format_args!("start the server {}", program.display()), &error))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(|error| Error::io("read the server's first line", &error))?;
        }
        let mut server = TemporaryServer { child, home, data_dir, address: String::new() };
        server.address = address_of(&line)
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "the server did not start; its messages are above"))?;
        Ok(server)
    }

    /// Whether it is still there.
    pub(super) fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Drains it and waits for its end; whether it ended well.
    pub(super) fn stop(&mut self) -> bool {
        if self.is_running() && process::tell(self.child.id(), process::Command::Terminate).is_err() {
            return false;
        }
        self.child.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for TemporaryServer {
    fn drop(&mut self) {
        self.stop();
        // A directory that cannot be removed is left to the system's cleaning of temporary files.
        let _ = std::fs::remove_dir_all(&self.home);
    }
}

/// The `127.0.0.1:<port>` of the server's first line.
fn address_of(line: &str) -> Option<String> {
    let port: String = line.split("127.0.0.1:").nth(1)?.chars().take_while(char::is_ascii_digit).collect();
    (!port.is_empty()).then(|| format!("127.0.0.1:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_off_the_first_line() {
        assert_eq!(address_of("shoal: serving 127.0.0.1:4242 from /x").as_deref(), Some("127.0.0.1:4242"));
        assert_eq!(address_of(""), None);
    }
}
