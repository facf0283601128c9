//! Listening sockets. The supervisor binds and keeps them, so that a gateway that dies loses no connection attempt.

use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::types::{Error, ErrorKind, Result};

/// What marks an address as a socket file.
const UNIX_PREFIX: &str = "unix:";

/// Bound sockets, and the socket files to remove at the end.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// Each with its address, real port included.
    pub(super) sockets: Vec<(String, OwnedFd)>,
    /// Socket files.
    pub(super) paths: Vec<PathBuf>,
}

impl Listeners {
    /// Binds every address.
    ///
    /// # Errors
    /// When one cannot be bound; what was bound before is removed.
    pub(super) fn bind(addresses: &[String]) -> Result<Listeners> {
        let mut listeners = Listeners::default();
        for address in addresses {
            let bound = match address.strip_prefix(UNIX_PREFIX) {
                Some(path) => listeners.bind_unix(Path::new(path)),
                None => listeners.bind_tcp(address),
            };
            if let Err(error) = bound {
                listeners.remove_paths();
                return Err(error);
            }
        }
        Ok(listeners)
    }

    fn bind_tcp(&mut self, address: &str) -> Result<()> {
        let unusable = |why: String| Error::new(ErrorKind::InvalidParameter, why);
        let resolved: Vec<SocketAddr> = address
            .to_socket_addrs()
            .map_err(|error| unusable(format!("cannot listen on {address}: {error}; write host:port or unix:<path>")))?
            .collect();
        let listener = TcpListener::bind(resolved.as_slice()).map_err(|error| {
            Error::io(format_args!("listen on {address} (is another server there? port 0 picks a free one)"), &error)
        })?;
        let local = listener.local_addr().map_err(|error| Error::io("read the bound address", &error))?;
        listener.set_nonblocking(true).map_err(|error| Error::io("make a listener non-blocking", &error))?;
        self.sockets.push((local.to_string(), listener.into()));
        Ok(())
    }

    fn bind_unix(&mut self, path: &Path) -> Result<()> {
        let path = std::path::absolute(path)
            .map_err(|error| Error::io(format_args!("listen on {UNIX_PREFIX}{}", path.display()), &error))?;
        remove_stale_socket(&path)?;
        let failed = |error| Error::io(format_args!("listen on {UNIX_PREFIX}{}", path.display()), &error);
        let listener = UnixListener::bind(&path).map_err(failed)?;
        self.paths.push(path.clone());
        listener.set_nonblocking(true).map_err(failed)?;
        self.sockets.push((format!("{UNIX_PREFIX}{}", path.display()), listener.into()));
        Ok(())
    }

    /// Unlinks the socket files.
    pub(super) fn remove_paths(&mut self) {
        for path in self.paths.drain(..) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A socket file that nobody listens on is what a killed server left.
fn remove_stale_socket(path: &Path) -> Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let shown = path.display();
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(Error::new(
            ErrorKind::InvalidParameter,
            format!("cannot listen on {UNIX_PREFIX}{shown}: a file of that name exists and is no socket"),
        ));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(Error::new(
            ErrorKind::InvalidParameter,
            format!("cannot listen on {UNIX_PREFIX}{shown}: another process listens there"),
        )),
        Err(_) => {
            std::fs::remove_file(path).map_err(|error| Error::io(format_args!("remove stale socket {shown}"), &error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_0_becomes_the_real_port() {
        let listeners = Listeners::bind(&["127.0.0.1:0".to_owned()]).unwrap();
        let (address, _) = &listeners.sockets[0];
        assert!(address.starts_with("127.0.0.1:") && !address.ends_with(":0"), "{address}");
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let address = format!("unix:{}", dir.path().join("s").display());
        let mut first = Listeners::bind(std::slice::from_ref(&address)).unwrap();
        let error = Listeners::bind(std::slice::from_ref(&address)).unwrap_err();
        assert!(error.message.contains("another process listens"), "{error}");
        first.sockets.clear();
        let mut second = Listeners::bind(&[address]).unwrap();
        second.remove_paths();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_ordinary_file_is_never_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("precious");
        std::fs::write(&path, b"x").unwrap();
        assert!(Listeners::bind(&[format!("unix:{}", path.display())]).is_err());
        assert!(path.exists());
    }

    #[test]
    fn an_address_without_a_port_is_refused_by_name() {
        let error = Listeners::bind(&["localhost".to_owned()]).unwrap_err();
        assert_eq!(error.kind, ErrorKind::InvalidParameter);
        assert!(error.message.contains("localhost"), "{error}");
    }
}
