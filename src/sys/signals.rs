//! Signals as something to poll: each writes a byte into a socket of its own.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::SigId;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::low_level;

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// SIGTERM or SIGINT: drain and stop.
    Stop,
    /// SIGHUP: read the configuration again.
    Reload,
}

/// The signals of a supervisor. Dropped, the handlers are gone (a forked child must drop it first of all).
#[derive(Debug)]
pub struct Signals {
    sources: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    request: Request,
    receiver: UnixStream,
    id: SigId,
}

impl Signals {
    /// Installs the handlers.
    ///
    /// # Errors
    /// Those of the kernel.
    pub fn install() -> io::Result<Signals> {
        let mut sources = Vec::with_capacity(3);
        for (signal, request) in [(SIGTERM, Request::Stop), (SIGINT, Request::Stop), (SIGHUP, Request::Reload)] {
            let (receiver, sender) = UnixStream::pair()?;
            receiver.set_nonblocking(true)?;
            let id = low_level::pipe::register(signal, sender)?;
            sources.push(Source { request, receiver, id });
        }
        Ok(Signals { sources })
    }

    /// What to poll for readability.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.sources.iter().map(|source| source.receiver.as_fd())
    }

    /// What came since the last call, one entry per signal.
    pub fn take(&mut self) -> Vec<Request> {
        let mut requests = Vec::new();
        for source in &mut self.sources {
            let mut bytes = [0; 64];
            let count = source.receiver.read(&mut bytes).unwrap_or(0);
            requests.extend(std::iter::repeat_n(source.request, count));
        }
        requests
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for source in &self.sources {
            low_level::unregister(source.id);
        }
    }
}
