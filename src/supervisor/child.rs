//! One child over its restarts: up or down, ready or not, when it may start again.

use std::time::{Duration, Instant};

use ipc_channel::ipc::{IpcReceiver, IpcSender};

use crate::ipc::control::{Notice, Order, Role};
use crate::sys::process::ChildProcess;

/// The wait before the first restart; each further one doubles it.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// After this long in good health a death counts as the first one again.
const HEALTHY_AFTER: Duration = Duration::from_secs(30);

/// Cells of roles of which there is one process.
pub(super) const SINGLE_CELLS: usize = 3;

/// A place for a child process.
#[derive(Debug)]
pub(super) struct Child {
    /// What it does.
    pub(super) role: Role,
    /// Its number among those of its role.
    pub(super) index: usize,
    /// False once fewer searchers are configured: it is drained and not started again.
    pub(super) is_wanted: bool,
    /// The process, if there is one.
    pub(super) state: State,
    wait: Duration,
}

/// Whether a process is there.
#[derive(Debug)]
pub(super) enum State {
    /// No process; it is started at that time (`None`: it stays down).
    Down(Option<Instant>),
    /// A process.
    Up(Up),
}

/// A running child.
#[derive(Debug)]
pub(super) struct Up {
    /// The process.
    pub(super) process: ChildProcess,
    /// Unique among all children of this supervisor.
    pub(super) incarnation: u32,
    /// To it.
    pub(super) orders: IpcSender<Order>,
    /// From it.
    pub(super) notices: IpcReceiver<Notice>,
    /// It said so.
    pub(super) is_ready: bool,
    /// When it was forked.
    pub(super) since: Instant,
    /// It was told to drain, and is killed then.
    pub(super) drain_deadline: Option<Instant>,
}

impl Child {
    /// A child to be started at once.
    pub(super) fn new(role: Role, index: usize) -> Child {
        Child { role, index, is_wanted: true, state: State::Down(Some(Instant::now())), wait: WAIT_MIN }
    }

    /// `writer`, `searcher 3`.
    pub(super) fn name(&self) -> String {
        match self.role {
            Role::Searcher => format!("{} {}", self.role.name(), self.index),
            role => role.name().to_owned(),
        }
    }

    /// Its progress cell: the writer's, the gateway's, the builder's, then the searchers'.
    pub(super) fn cell(&self) -> usize {
        match self.role {
            Role::Writer => 0,
            Role::Gateway => 1,
            Role::Builder => 2,
            Role::Searcher => SINGLE_CELLS + self.index,
        }
    }

    /// The process, if there is one.
    pub(super) fn up(&self) -> Option<&Up> {
        match &self.state {
            State::Up(up) => Some(up),
            State::Down(_) => None,
        }
    }

    /// The process, if there is one.
    pub(super) fn up_mut(&mut self) -> Option<&mut Up> {
        match &mut self.state {
            State::Up(up) => Some(up),
            State::Down(_) => None,
        }
    }

    /// Whether it runs and said that it is ready.
    pub(super) fn is_ready(&self) -> bool {
        self.up().is_some_and(|up| up.is_ready)
    }

    /// When something is due: its start, or its end by force.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.state {
            State::Down(restart) => *restart,
            State::Up(up) => up.drain_deadline,
        }
    }

    /// Sends an order. A child that is down or dying misses it: its next incarnation is told what it must know.
    pub(super) fn order(&self, order: Order) {
        if let Some(up) = self.up() {
            let _ = up.orders.send(order);
        }
    }

    /// Tells it to end by itself, once, and when it will be ended by force.
    pub(super) fn drain(&mut self, patience: Duration) {
        if let Some(up) = self.up_mut()
            && up.drain_deadline.is_none()
        {
            up.drain_deadline = Some(Instant::now() + patience);
            let _ = up.orders.send(Order::Drain);
        }
    }

    /// Notes a death and returns the wait before the restart: 0.1 s, doubling up to 5 s.
    pub(super) fn schedule_restart(&mut self, now: Instant) -> Duration {
        if self.up().is_some_and(|up| now.duration_since(up.since) >= HEALTHY_AFTER) {
            self.wait = WAIT_MIN;
        }
        let wait = self.wait;
        self.wait = (wait * 2).min(WAIT_MAX);
        self.state = State::Down(Some(now + wait));
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_back_off_from_a_tenth_of_a_second_to_five() {
        let mut child = Child::new(Role::Searcher, 3);
        let now = Instant::now();
        let waits: Vec<u128> = (0..8).map(|_| child.schedule_restart(now).as_millis()).collect();
        assert_eq!(waits, [100, 200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(child.due(), Some(now + WAIT_MAX));
    }

    #[test]
    fn every_child_has_a_name_and_a_cell_of_its_own() {
        let roles = [Role::Writer, Role::Gateway, Role::Builder, Role::Searcher];
        let children = roles.map(|role| Child::new(role, 0));
        assert_eq!(children.each_ref().map(Child::cell), [0, 1, 2, 3]);
        assert_eq!(children.each_ref().map(Child::name), ["writer", "gateway", "builder", "searcher 0"]);
    }
}
