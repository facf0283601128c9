//! The way out: the builder stops where it is, the gateway finishes its requests, then the searchers go, then the writer makes everything durable.

use std::time::Duration;

use super::child::Child;
use super::watch::Supervisor;
use crate::config::exit;
use crate::ipc::control::Role;
use crate::sys::notify;
use crate::sys::process::Exit;

/// Who is drained in which order, and how long each may take before it is killed. The log is durable: a killed writer costs
/// the next start a replay, nothing else.
const STAGES: [(Role, Duration); 4] = [
    (Role::Builder, Duration::from_secs(5)),
    (Role::Gateway, Duration::from_secs(30)),
    (Role::Searcher, Duration::from_secs(10)),
    (Role::Writer, Duration::from_secs(60)),
];

/// A stop under way.
#[derive(Debug)]
pub(super) struct Stop {
    /// What the server exits with.
    code: u8,
}

impl Supervisor {
    /// A signal asks to stop: the first drains, the second kills.
    pub(super) fn request_stop(&mut self) {
        if self.stop.is_some() {
            tracing::warn!("second signal: every child is killed; acknowledged writes are in the log");
            for up in self.children.iter().filter_map(Child::up) {
                up.process.kill();
            }
        } else {
            tracing::info!("draining");
            self.begin_stop(0);
        }
    }

    /// From here on nothing is started; the first reason gives the exit code.
    pub(super) fn begin_stop(&mut self, code: u8) {
        if self.stop.is_none() {
            notify::stopping();
            self.stop = Some(Stop { code });
        }
    }

    /// A child that ended while the server stops: one that could not do so in an orderly way gives the server its code.
    pub(super) fn note_end(&mut self, ended: Exit) {
        if let (Some(stop), Exit::Code(code)) = (&mut self.stop, ended)
            && stop.code == 0
        {
            stop.code = u8::try_from(code).unwrap_or(exit::FAILED);
        }
    }

    /// Drains the first role that still has a process; the exit code once none has.
    pub(super) fn advance_stop(&mut self) -> Option<u8> {
        let code = self.stop.as_ref()?.code;
        for (role, patience) in STAGES {
            let mut is_running = false;
            for child in self.children.iter_mut().filter(|child| child.role == role && child.up().is_some()) {
                child.drain(patience);
                is_running = true;
            }
            if is_running {
                return None;
            }
        }
        Some(code)
    }

    /// Kills every child and waits for their end: they hold files that are about to be removed.
    pub(super) fn kill_all(&mut self) {
        for up in self.children.iter().filter_map(Child::up) {
            up.process.kill();
            up.process.wait();
        }
        self.children.clear();
    }

    /// Removes every file of the instance but the durable ones. Only when no child is left.
    pub(super) fn clear(mut self) {
        self.listeners.remove_paths();
        self.ground.clear(&self.roles);
        tracing::info!("stopped");
    }
}
